/**
 * Every error that this package makes: one tree, a stable code each, the facts as fields, the cause kept.
 * A message answers three questions: what was expected, what came, and (in brackets) what to do now.
 * Never carries a password: URLs are redacted before they get here.
 */
import { inspect } from 'node:util'

const SHOWN_LENGTH = 200

/** A value as it may stand in a message: one line, never longer than 200 characters, never an exception of its own. */
export function shown(value: unknown): string {
  let text: string
  try {
    // One character more than is shown tells that there was more, whether the text has 300 characters or 50 million.
    text =
      typeof value === 'string'
        ? JSON.stringify(value.slice(0, SHOWN_LENGTH + 1))
        : inspect(value, { depth: 1, breakLength: Infinity })
  } catch {
    // A getter or a Proxy of the caller's threw while it was looked at: the kind is all that can be told.
    text = `(a ${typeof value} that cannot be shown)`
  }
  text = text.replace(/\s+/g, ' ')
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}…` : text
}

/** Text that a message shows as it stands, in place of a value that is too long, secret, or no help to see. */
export function verbatim(text: string): object {
  return { [inspect.custom]: () => text }
}

function sentence(subject: string, shape: string, got: string, cure: string): string {
  return `expected ${subject} to be ${shape}, got: ${got} (${cure})`
}

/** The base of all. `code` never changes between releases; the text may. */
export class TaskError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.name = new.target.name
  }
}

/** An option, a name or a setting is not what it may be. Nothing was stored. */
export class TaskOptionError extends TaskError {
  /** Where the offender stands, e.g. `options.priority`. */
  readonly field: string

  constructor(field: string, shape: string, got: unknown, cure: string, options?: ErrorOptions) {
    super('ERR_TASKS_OPTION', sentence(field, shape, shown(got), cure), options)
    this.field = field
  }
}

/** An argument or a return value is nothing that JSON carries unchanged, or does not fit the task's `argsSchema`. */
export class TaskArgumentError extends TaskError {
  /** The first offender, e.g. `args[0].when` or `return.when`. */
  readonly path: string

  constructor(path: string, shape: string, got: unknown, cure: string, options?: ErrorOptions) {
    super('ERR_TASKS_ARGUMENT', sentence(path, shape, shown(got), cure), options)
    this.path = path
  }
}

/** No task of that name is registered in this process. */
export class TaskNotRegisteredError extends TaskError {
  readonly taskName: string

  constructor(taskName: string, cure: string) {
    super('ERR_TASKS_NOT_REGISTERED', `expected the name of a registered task, got: ${shown(taskName)} (${cure})`)
    this.taskName = taskName
  }
}

/** There is no record of that id: it never was, was deleted, or its retention ended. */
export class TaskNotFoundError extends TaskError {
  readonly id: string

  constructor(id: string, where: string) {
    super(
      'ERR_TASKS_NOT_FOUND',
      `expected the id of a stored record in ${where}, got: ${shown(id)} (it may have been deleted or purged; check the backend and its keyPrefix)`,
    )
    this.id = id
  }
}

/** A record is in a state in which this cannot be done. */
export class TaskStateError extends TaskError {
  readonly id: string
  readonly status: string

  constructor(id: string, wanted: string, status: string, cure: string, code = 'ERR_TASKS_STATE') {
    super(code, sentence(`record ${id}`, wanted, status, cure))
    this.id = id
    this.status = status
  }
}

/** The record of that id belongs to another task. */
export class TaskResultMismatchError extends TaskError {
  readonly id: string

  constructor(id: string, expectedName: string, name: string) {
    super(
      'ERR_TASKS_RESULT_MISMATCH',
      sentence(
        `record ${id}`,
        `one of task ${shown(expectedName)}`,
        shown(name),
        'ask the task that enqueued it, or the backend',
      ),
    )
    this.id = id
  }
}

/** A stored record cannot be read: a key of another type, or fields out of range. It is left as it is. */
export class TaskRecordDamagedError extends TaskError {
  readonly id: string

  constructor(id: string, reason: string) {
    super(
      'ERR_TASKS_RECORD_DAMAGED',
      `expected the stored record ${id} to be readable, got: ${reason} (look at its hash; it is left alone)`,
    )
    this.id = id
  }
}

/**
 * Nothing for a record that is there, by the storage's word for it.
 *
 * @throws TaskNotFoundError it is ABSENT. @throws TaskRecordDamagedError it is BROKEN.
 */
export function refuseGone(id: string, alias: string, word: unknown): void {
  if (word === 'ABSENT') throw new TaskNotFoundError(id, `backend "${alias}"`)
  if (word === 'BROKEN') throw new TaskRecordDamagedError(id, 'a key of another type, or missing fields')
}

/** A task or a wait took longer than its limit. */
export class TaskTimeoutError extends TaskError {
  readonly timeoutMs: number

  constructor(subject: string, timeoutMs: number, cure: string) {
    super('ERR_TASKS_TIMEOUT', `expected ${subject} to end within ${timeoutMs} ms, got: no end (${cure})`)
    this.timeoutMs = timeoutMs
  }
}

/** A filter needs more records looked at than one call may; exact answers come from status, queue, name and enqueued time. */
export class TaskQueryLimitError extends TaskError {
  readonly looked: number

  constructor(looked: number, keys: readonly string[]) {
    super(
      'ERR_TASKS_QUERY_LIMIT',
      `expected the filter to be answered by looking at no more than ${looked} records, got: more (${keys.join(', ')} are compared record by record; narrow by status, queueName, name or enqueuedAfter, or iterate)`,
    )
    this.looked = looked
  }
}

/** The lease of an attempt is no longer this worker's; the reason of an aborted `context.signal`. */
export class TaskLeaseLostError extends TaskError {
  readonly id: string

  constructor(id: string) {
    super(
      'ERR_TASKS_LEASE_LOST',
      `expected the lease of record ${id} to be this worker's, got: taken over or run out (stop writing; the fence of the newer attempt is higher)`,
    )
    this.id = id
  }
}

/** A worker stops and hands this attempt back; the reason of an aborted `context.signal`. */
export class TaskHandedBackError extends TaskError {
  readonly id: string

  constructor(id: string) {
    super(
      'ERR_TASKS_HANDED_BACK',
      `expected record ${id} to end within the drain time, got: still running (it is handed back and runs elsewhere)`,
    )
    this.id = id
  }
}

/** A person cancelled the record: its last error, and the reason of an aborted `context.signal` where it ran. */
export class TaskCancelledError extends TaskError {
  constructor() {
    super(
      'ERR_TASKS_CANCELLED',
      'expected the record to end by itself, got: a request to cancel it (retry it to have it run after all)',
    )
  }
}

/** The workers of a record died once too often: it is FAILED with this, never dropped. */
export class TaskAbandonedError extends TaskError {
  readonly maxCrashes: number

  constructor(maxCrashes: number) {
    super(
      'ERR_TASKS_ABANDONED',
      `expected an attempt to settle, got: ${maxCrashes + 1} leases that ran out (its workers were killed, frozen or cut off; look at what the task does, then retry it)`,
    )
    this.maxCrashes = maxCrashes
  }
}

/** A year: the longest that a retry may be put off. */
export const MAX_RETRY_DELAY_MS = 31_536_000_000

/**
 * For a task to throw: run this record again after `delayMs` (0 to a year, a fraction counts as a whole millisecond),
 * whatever its `retry` options say; the attempt counts and its error is kept. Up to 1000 attempts.
 *
 * @throws TaskOptionError `delayMs` is out of range.
 */
export class RetryLater extends TaskError {
  readonly delayMs: number

  constructor({ delayMs, cause }: { readonly delayMs: number; readonly cause?: unknown }) {
    if (typeof delayMs !== 'number' || !(delayMs >= 0 && delayMs <= MAX_RETRY_DELAY_MS)) {
      throw new TaskOptionError(
        'delayMs',
        `a number from 0 to ${MAX_RETRY_DELAY_MS}`,
        delayMs,
        'give milliseconds: 60000',
      )
    }
    super(
      'ERR_TASKS_RETRY_LATER',
      `the task asked to run again in ${Math.ceil(delayMs)} ms`,
      cause === undefined ? {} : { cause },
    )
    this.delayMs = Math.ceil(delayMs)
  }
}

/** For a task to throw: this record is FAILED for good, whatever its `retry` options say. */
export class DoNotRetry extends TaskError {
  constructor(reason: string, options?: ErrorOptions) {
    super('ERR_TASKS_DO_NOT_RETRY', reason, options)
  }
}

/** The storage cannot be reached, does not answer in time, or refuses to write. The outcome of the call is unknown. */
export class StorageUnavailableError extends TaskError {
  constructor(action: string, reason: string, cure: string, options?: ErrorOptions & { code?: string }) {
    const code = options?.code ?? 'ERR_TASKS_STORAGE_UNAVAILABLE'
    super(code, `expected the storage to ${action}, got: ${reason} (${cure})`, options)
  }
}

/** The backend was closed: nothing was written, and nothing will be by it. */
export class StorageClosedError extends StorageUnavailableError {
  constructor(action: string, options?: ErrorOptions) {
    super(action, 'a closed backend', 'make a new one after close()', options)
  }
}

/** The storage answered, but is full (`maxmemory`): nothing was written. */
export class StorageFullError extends StorageUnavailableError {
  constructor(action: string, options?: ErrorOptions) {
    const cure = 'raise maxmemory, purge finished records, or let the workers catch up'
    super(action, 'no memory left (OOM)', cure, { ...options, code: 'ERR_TASKS_STORAGE_FULL' })
  }
}

/** What a storage that answers lacks. */
export type StorageFault = 'role' | 'version' | 'access'

/** The storage answers, but cannot serve: it is a replica or a sentinel, too old, or does not permit what tasks need. */
export class StorageUnfitError extends StorageUnavailableError {
  readonly fault: StorageFault

  constructor(fault: StorageFault, shape: string, got: string, cure: string) {
    super(shape, got, cure, { code: 'ERR_TASKS_STORAGE_UNFIT' })
    this.fault = fault
  }
}

/** A key of the storage holds another type than ours: the index, or what is known of workers, cannot be read. It is left alone. */
export class StorageDamagedError extends TaskError {
  constructor(action: string, reason: string, options?: ErrorOptions) {
    const cure = 'run-redis-tasks --doctor names the key; what it holds was not written by us'
    super('ERR_TASKS_STORAGE_DAMAGED', `expected the storage to ${action}, got: ${reason} (${cure})`, options)
  }
}

/** No Redis client is installed, or the one given lacks what is needed. */
export class StorageClientError extends TaskError {
  constructor(shape: string, got: string, cure: string, options?: ErrorOptions) {
    super('ERR_TASKS_STORAGE_CLIENT', sentence('the Redis client', shape, got, cure), options)
  }
}

/** A task module or a config file could not be imported. */
export class TaskImportError extends TaskError {
  readonly file: string

  constructor(file: string, reason: string, cure: string, options?: ErrorOptions & { code?: string }) {
    super(options?.code ?? 'ERR_TASKS_IMPORT', sentence(file, 'a module that can be imported', reason, cure), options)
    this.file = file
  }
}

/** An error of ours as the storage keeps it: a JSON object. */
export function reasonOf({ name, message, code }: TaskError): string {
  return JSON.stringify({ name, message, code })
}
