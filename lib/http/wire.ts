/** A record as HTTP shows it, once the router's `redact` has seen it: snake_case, times as ISO 8601 in UTC or null. The same names in the commands' JSON lines. */
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

export function wireTask(result: TaskResult, redactor: Redactor): WireTask {
  const { name: taskName } = result
  // The shape of an answer stays what openapi.json says, whatever the hook makes of it.
  const shown = redactor.value(taskName, 'args', result.args)
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
    return_value: result.status === 'SUCCESSFUL' ? redactor.value(taskName, 'returnValue', result.returnValue) : null,
  }
}
