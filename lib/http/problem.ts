/**
 * Errors as answers: one table from our codes to statuses, and RFC 9457 problem documents.
 * Carries a stable code, a pointer and text of ours; never a stack, an address, a key or a password.
 */
import { randomUUID } from 'node:crypto'
import type { Response } from 'express'
import { TaskArgumentError, TaskError, TaskOptionError } from '../errors.ts'

export interface Problem {
  readonly type: 'about:blank'
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  /** JSON Pointer (RFC 6901) into the body, or `/name` of a query or path field. */
  readonly pointer?: string
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
}

/** Seconds after which a sender may try again while the storage is away. */
const RETRY_AFTER_SECONDS = 5

const UNAVAILABLE =
  'The storage cannot be reached or does not answer; nothing is known to be lost. Try again in a moment.'

const UNFIT = 'The storage answers, but is a replica, too old, or does not permit what tasks need. The log has more.'

const DAMAGED =
  'A key of the storage holds something else than ours. Its log line says what was read; run-redis-tasks --doctor names the key.'

/** Title and status of every code that can reach a caller; `detail` replaces the message where that may say too much. */
const PROBLEMS: Readonly<Record<string, readonly [status: number, title: string, detail?: string]>> = {
  ERR_TASKS_OPTION: [400, 'A field is not what it may be'],
  ERR_TASKS_BODY: [400, 'The body cannot be read'],
  ERR_TASKS_FORBIDDEN: [403, 'Not allowed'],
  ERR_TASKS_CROSS_SITE: [403, 'Request from another origin'],
  ERR_TASKS_NOT_FOUND: [404, 'No such record'],
  ERR_TASKS_NOT_REGISTERED: [404, 'No such task'],
  ERR_TASKS_ROUTE: [404, 'No such page'],
  ERR_TASKS_METHOD: [405, 'Wrong method'],
  ERR_TASKS_STATE: [409, 'The record is in another state'],
  ERR_TASKS_BODY_SIZE: [413, 'The body is too large'],
  ERR_TASKS_BODY_TYPE: [415, 'The body has a type that is not read here'],
  ERR_TASKS_ARGUMENT: [422, 'The arguments are not what the task takes'],
  ERR_TASKS_RESULT_MISMATCH: [422, 'The key was used for something else'],
  ERR_TASKS_QUERY_LIMIT: [422, 'The filter is too wide'],
  ERR_TASKS_RECORD_DAMAGED: [500, 'The stored record is damaged', 'The record cannot be read. Its log line says why.'],
  ERR_TASKS_STORAGE_DAMAGED: [500, 'The index of the storage is damaged', DAMAGED],
  ERR_TASKS_STORAGE_UNAVAILABLE: [503, 'The storage is not available', UNAVAILABLE],
  ERR_TASKS_STORAGE_UNFIT: [503, 'The storage cannot serve', UNFIT],
  ERR_TASKS_STORAGE_FULL: [503, 'The storage is full', 'The storage has no memory left; nothing was stored.'],
}

/** A TaskError that only the HTTP edge makes. */
export class HttpError extends TaskError {
  readonly pointer: string | undefined

  constructor(code: `ERR_TASKS_${string}`, message: string, pointer?: string) {
    super(code, message)
    this.pointer = pointer
  }
}

/** `args[0].when` as `/args/0/when`. */
function pointerOf(path: string): string {
  const steps = path.match(/[^.[\]"]+/g) ?? []
  return steps.map((step) => `/${step.replace(/~/g, '~0').replace(/\//g, '~1')}`).join('')
}

function pointerFrom(error: TaskError): string | undefined {
  if (error instanceof HttpError) return error.pointer
  if (error instanceof TaskArgumentError) return pointerOf(error.path)
  // options.queueName is ours; a caller knows the field of the body, which fields.ts has named already.
  if (error instanceof TaskOptionError && error.field.startsWith('/')) return error.field
  return undefined
}

/** What a caller is told; an error of a kind that nobody expected keeps its secrets and gets an id to be found by. */
export function problemOf(error: unknown): Problem {
  const known = error instanceof TaskError ? PROBLEMS[error.code] : undefined
  if (!(error instanceof TaskError) || !known) {
    const detail = `Something unexpected happened. The log has it under request ${randomUUID()}.`
    return { type: 'about:blank', title: 'Unexpected error', status: 500, detail, code: 'ERR_TASKS_UNEXPECTED' }
  }
  const [status, title, detail = error.message] = known
  const pointer = pointerFrom(error)
  return { type: 'about:blank', title, status, detail, code: error.code, ...(pointer !== undefined && { pointer }) }
}

export function setRetryAfter(res: Response, { status }: Pick<Problem, 'status'>): void {
  if (status === 503) res.set('Retry-After', String(RETRY_AFTER_SECONDS))
}

export function sendProblem(res: Response, problem: Problem): void {
  setRetryAfter(res, problem)
  res.status(problem.status).type('application/problem+json').send(JSON.stringify(problem))
}
