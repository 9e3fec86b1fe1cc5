/**
 * What each route of the API does, by its operationId: a few lines from checked fields to an answer.
 * Access, bodies, fields and errors were or will be dealt with by the router around it.
 */
import type { Request, Response } from 'express'
import { TaskOptionError, TaskStateError, verbatim } from '../errors.ts'
import type { Executor } from '../executor.ts'
import { purgeFinished } from '../maintenance.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import type { FinalStatus } from '../task-status.ts'
import type { Redactor } from './admin-redact.ts'
import { baseOf } from './base-path.ts'
import { isUnchanged } from './etag.ts'
import { idOfKey } from './idempotency.ts'
import { openApiDocument } from './openapi.ts'
import { HttpError } from './problem.ts'
import type { OperationId } from './routes.ts'
import { argsOf, wireTask } from './wire.ts'

const DAY_MS = 86_400_000
/** A worker that was not heard of for so long is not counted as one. */
const WORKER_SEEN_MS = 60_000

/** What a handler is given. */
export interface Call {
  readonly redactor: Redactor
  readonly req: Request
  readonly res: Response
  /** The route's fields, checked, with their defaults. */
  readonly fields: Readonly<Record<string, unknown>>
  readonly params: Readonly<Record<string, string>>
  readonly backend: TaskBackend
  readonly executor: Executor
}

/** The fields of enqueue, as its schema let them through. */
type EnqueueFields = Readonly<
  Partial<Record<'queue_name' | 'run_after', string>> & { args: unknown[]; priority?: number } & Record<string, unknown>
>

type Handler = (call: Call) => Promise<void>

const statusOf = ({ id, status }: { id: string; status: string }): { id: string; status: string } => ({ id, status })

export const API_HANDLERS: Readonly<Record<OperationId, Handler>> = {
  async run({ req, res, fields, backend, executor }) {
    const { queue_name, max_tasks, max_seconds } = fields as {
      queue_name?: string
      max_tasks: number
      max_seconds: number
    }
    if (!(await isQueue(backend, queue_name))) {
      res.json({ processed: 0, tasks: [] })
      return
    }
    const inTime = max_seconds === 0 ? AbortSignal.abort() : AbortSignal.timeout(max_seconds * 1_000)
    const signal = AbortSignal.any([inTime, signalOf(req, res)])
    const results = await executor.processTasks({
      backendName: backend.alias,
      queueName: queue_name,
      maxTasks: max_tasks,
      signal,
    })
    res.json({ processed: results.length, tasks: results.map(statusOf) })
  },

  async runOne({ res, fields, backend, executor }) {
    const { queue_name } = fields as { queue_name?: string }
    const known = await isQueue(backend, queue_name)
    const result = known ? await executor.processOneTask({ backendName: backend.alias, queueName: queue_name }) : null
    if (result) res.json({ processed: true, task: statusOf(result) })
    else res.json({ processed: false, message: 'No tasks available' })
  },

  async execute({ res, fields, params, backend, executor }) {
    const { allow_retry: allowRetry } = fields as { allow_retry: boolean }
    const id = params['id'] ?? ''
    const result = await executor.runTaskById(id, { backendName: backend.alias, allowRetry })
    if (result) {
      res.json({ executed: true, task: statusOf(result) })
      return
    }
    const current = await backend.getResult(id)
    // A sender that repeats itself is done.
    if (current.status === 'SUCCESSFUL') res.json({ executed: false, task: statusOf(current) })
    else throw new TaskStateError(id, allowRetry ? 'READY or FAILED' : 'READY', current.status, cureFor(current.status))
  },

  async status({ res, params, backend, redactor }) {
    const task = wireTask(await backend.getResult(params['id'] ?? ''), redactor)
    const body = JSON.stringify({ task })
    if (!isUnchanged(res, body)) res.type('application/json').send(body)
  },

  async purge({ res, fields, backend }) {
    const { days, statuses, dry_run } = fields as { days: number; statuses?: FinalStatus[]; dry_run: boolean }
    const options = { finishedForMs: days * DAY_MS, ...(statuses && { statuses }), dryRun: dry_run }
    const { matched, deleted } = await purgeFinished(backend.storage, options)
    res.json(dry_run ? { deleted: 0, matched } : { deleted })
  },

  async enqueue({ req, res, fields, params, backend, redactor }) {
    const { args, queue_name, priority, run_after } = fields as EnqueueFields
    const task = taskRegistry.get(params['name'] ?? '')
    const chosen = task.using({ queueName: queue_name, priority, runAfter: timeOf(run_after) })
    const id = idFrom(req, fields['id'], backend.alias, task.name)
    const result = await backend.enqueue(chosen, args, id === undefined ? {} : { id })
    // The key (or id) of another payload: the sender has mixed them up, and must hear of it.
    // Not priority and time: a person may have changed these since.
    const isOther = result.name !== task.name || result.queueName !== chosen.queueName
    if (id !== undefined && (isOther || JSON.stringify(argsOf(result)) !== JSON.stringify(args))) {
      const message = `expected the id or Idempotency-Key to belong to this payload, got: one used for another (choose a new one)`
      throw new HttpError('ERR_TASKS_RESULT_MISMATCH', message)
    }
    res
      .status(202)
      .set('Location', `${baseOf(req)}/status/${result.id}/`)
      .json({ task: wireTask(result, redactor) })
  },

  async health({ res, backend }) {
    const [facts, workers] = await Promise.all([backend.storage.connect(), backend.storage.workers()])
    const alive = workers.filter(({ ageMs }) => ageMs < WORKER_SEEN_MS).length
    const redis = { kind: facts.kind, version: facts.version }
    res.json({ status: 'ok', redis, workers: alive, warnings: facts.warnings })
  },

  openapi({ req, res }) {
    res.json(openApiDocument(baseOf(req) || '/'))
    return Promise.resolve()
  },
}

function cureFor(status: string): string {
  return status === 'RUNNING' ? 'wait until it has settled' : 'allow_retry runs a failed record again'
}

/** False for a queue that never held a record: a take would make its streams, and any caller could make any number of them. */
async function isQueue({ storage }: TaskBackend, name: string | undefined): Promise<boolean> {
  return name === undefined || (await storage.catalog()).queueNames.includes(name)
}

/** Aborts when the caller hangs up: nothing further is started for nobody. */
function signalOf(req: Request, res: Response): AbortSignal {
  const controller = new AbortController()
  if (req.destroyed && !req.complete) controller.abort()
  res.once('close', () => controller.abort())
  return controller.signal
}

function timeOf(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  const time = new Date(text)
  if (!Number.isNaN(time.getTime())) return time
  throw new TaskOptionError('/run_after', 'a time of RFC 3339', text, 'for example 2030-01-31T12:00:00Z')
}

function idFrom(req: Request, given: unknown, backendName: string, taskName: string): string | undefined {
  const header = req.headers['idempotency-key']
  if (header === undefined) return given as string | undefined
  if (given !== undefined) {
    throw new TaskOptionError('/id', 'left out beside an Idempotency-Key', verbatim('both'), 'send one of them')
  }
  return idOfKey(String(header), backendName, taskName)
}
