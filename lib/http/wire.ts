/** A record as HTTP shows it, once the router's `redact` has seen it: snake_case, times as ISO 8601 in UTC or null. The same names in the commands' JSON lines. */
import { TaskArgumentError, TaskRecordDamagedError } from '../errors.ts'
import type { TaskAttemptError, TaskResult } from '../task-result.ts'
import { HIDDEN } from './admin-redact.ts'
import type { Redactor } from './admin-redact.ts'

export interface WireError {
  readonly name: string
  readonly message: string
  readonly stack: string | null
  readonly attempt: number
  readonly at: string | null
}

export interface WireTask {
  readonly id: string
  readonly name: string
  readonly status: string
  readonly enqueued_at: string
  readonly started_at: string | null
  readonly finished_at: string | null
  readonly last_attempted_at: string | null
  readonly args: readonly unknown[]
  readonly priority: number
  readonly queue_name: string
  readonly backend_name: string
  readonly run_after: string | null
  readonly attempts: number
  readonly worker_ids: readonly string[]
  readonly errors: readonly WireError[]
  /** null unless SUCCESSFUL. */
  readonly return_value: unknown
}

const iso = (date: Date | null): string | null => date?.toISOString() ?? null

function wireError({ name, message, stack, attempt, at }: TaskAttemptError): WireError {
  return { name, message, stack, attempt, at: iso(at) }
}

/** Stored text that is no JSON is no fault of who asks, and what it says may be what `redact` hides. */
function readable<T>(id: string, field: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof TaskArgumentError) throw new TaskRecordDamagedError(id, `${field} is no JSON`)
    throw error
  }
}

/** @throws TaskRecordDamagedError they cannot be read. */
export function argsOf(result: TaskResult): readonly unknown[] {
  return readable(result.id, 'args', () => result.args)
}

/** @throws TaskRecordDamagedError its arguments or its return value cannot be read. */
export function wireTask(result: TaskResult, redactor: Redactor): WireTask {
  const { name: taskName } = result
  // The shape of an answer stays what openapi.json says, whatever the hook makes of it.
  const shown = redactor.value(taskName, 'args', argsOf(result))
  const args: readonly unknown[] = Array.isArray(shown) ? shown : [shown ?? HIDDEN]
  return {
    id: result.id,
    name: result.name,
    status: result.status,
    enqueued_at: result.enqueuedAt.toISOString(),
    started_at: iso(result.startedAt),
    finished_at: iso(result.finishedAt),
    last_attempted_at: iso(result.lastAttemptedAt),
    args,
    priority: result.priority,
    queue_name: result.queueName,
    backend_name: result.backendName,
    run_after: iso(result.runAfter),
    attempts: result.attempts,
    worker_ids: result.workerIds,
    errors: result.errors.map((error) => wireError(redactor.error(taskName, error))),
    return_value: returnValueOf(result, redactor),
  }
}

function returnValueOf(result: TaskResult, redactor: Redactor): unknown {
  if (result.status !== 'SUCCESSFUL') return null
  return redactor.value(
    result.name,
    'returnValue',
    readable(result.id, 'returnValue', () => result.returnValue),
  )
}
