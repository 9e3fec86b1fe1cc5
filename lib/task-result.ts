/**
 * TaskResult: what callers get of a record. A snapshot: it never changes by itself, `refresh()` reads it anew into the same
 * object. Reads; never moves a record.
 */
import { randomUUID } from 'node:crypto'
import { LAST_TIME_MS } from './clock.ts'
import {
  reasonOf,
  refuseGone,
  TaskCancelledError,
  TaskNotFoundError,
  TaskRecordDamagedError,
  TaskStateError,
  TaskTimeoutError,
} from './errors.ts'
import { decode } from './json.ts'
import { checkOptions, integer } from './options.ts'
import type { Storage } from './storage/storage.ts'
import { isDamaged } from './storage/stored-record.ts'
import type { StoredRecord } from './storage/stored-record.ts'
import { isFinal } from './task-status.ts'
import type { TaskStatus } from './task-status.ts'

const WAIT_OPTIONS = Object.freeze({
  // At most 2^31 - 1: what a timer can hold.
  timeoutMs: integer({ min: 0, max: 2_147_483_647, default: 30_000, description: 'how long to wait at most, in ms' }),
})

/** One failed attempt. Attempts lost to a crash are counted apart and leave no error, but for the last one. */
export interface TaskAttemptError {
  readonly name: string
  readonly message: string
  readonly stack: string | null
  /** 1-based. */
  readonly attempt: number
  /** When it was recorded; null for an error kept by a backend without a storage. */
  readonly at: Date | null
}

/** Where a result is read from. */
export interface ResultSource {
  readonly alias: string
  readonly storage: Pick<Storage, 'find' | 'awaitFinished' | 'cancel'>
  /** Tells the listeners of a record that a person brought to its end. */
  emit?(event: 'taskFinished', result: TaskResult): void
}

/** A source for a result that nothing changes any more: refresh reads the same record again. */
export function unchanging(alias: string, record: StoredRecord): ResultSource {
  return {
    alias,
    storage: {
      find: () => Promise.resolve([record]),
      awaitFinished: () => Promise.resolve('TIMEOUT'),
      cancel: () => Promise.resolve([isFinal(record.status) ? record.status : 'ABSENT']),
    },
  }
}

const date = (ms: number | null): Date | null => (ms === null ? null : new Date(ms))

/** One line of `errors`. A line that is no JSON object is shown as text: a damaged history must not hide the record. */
export function readError(text: string): TaskAttemptError {
  let line: Partial<Record<'name' | 'message' | 'stack' | 'attempt' | 'at', unknown>> | null
  try {
    line = decode(text, 'errors') as typeof line
  } catch {
    line = { name: 'UnreadableError', message: text.slice(0, 2000) }
  }
  const field = <T>(value: unknown, type: 'string' | 'number', otherwise: T): T =>
    typeof value === type ? (value as T) : otherwise
  const at = field<number | null>(line?.at, 'number', null)
  const attempt = field<number>(line?.attempt, 'number', 0)
  return {
    name: field(line?.name, 'string', 'Error'),
    message: field(line?.message, 'string', ''),
    stack: field<string | null>(line?.stack, 'string', null),
    attempt: Number.isSafeInteger(attempt) && attempt >= 0 ? attempt : 0,
    // Beyond what a Date holds it is no time: somebody else wrote it.
    at: at !== null && Math.abs(at) <= LAST_TIME_MS ? date(at) : null,
  }
}

/** The stored record behind a result; for the record layer, which may say more of it. */
export let storedRecordOf: (result: TaskResult) => StoredRecord

export class TaskResult<Result = unknown, Args extends readonly unknown[] = readonly unknown[]> {
  readonly #source: ResultSource
  readonly #enqueued: StoredRecord
  #record: StoredRecord
  #args: Args | undefined
  #errors: readonly TaskAttemptError[] | undefined

  static {
    storedRecordOf = (result) => result.#record
  }

  constructor(source: ResultSource, record: StoredRecord) {
    this.#source = source
    this.#enqueued = record
    this.#record = record
  }

  get id(): string {
    return this.#record.id
  }

  get name(): string {
    return this.#record.name
  }

  get queueName(): string {
    return this.#record.queueName
  }

  get backendName(): string {
    return this.#source.alias
  }

  /** -100..100, as it was when this result was made. */
  get priority(): number {
    return this.#enqueued.priority
  }

  /** When it was to run at the earliest, as it was when this result was made; null for at once. */
  get runAfter(): Date | null {
    return date(this.#enqueued.runAfter)
  }

  get status(): TaskStatus {
    return this.#record.status
  }

  get enqueuedAt(): Date {
    return new Date(this.#record.enqueuedAt)
  }

  /** The start of the first attempt. */
  get startedAt(): Date | null {
    return date(this.#record.startedAt)
  }

  get lastAttemptedAt(): Date | null {
    return date(this.#record.lastAttemptedAt)
  }

  get finishedAt(): Date | null {
    return date(this.#record.finishedAt)
  }

  /** @throws TaskArgumentError the stored text is no JSON. */
  get args(): Args {
    return (this.#args ??= decode(this.#record.args, 'args') as Args)
  }

  /** Attempts that began, the running one included; equals `workerIds.length`. */
  get attempts(): number {
    return this.#record.attempts
  }

  get workerIds(): readonly string[] {
    return this.#record.workerIds
  }

  get errors(): readonly TaskAttemptError[] {
    return (this.#errors ??= this.#record.errors.map(readError))
  }

  /** True once it is SUCCESSFUL or FAILED. */
  get isFinished(): boolean {
    return isFinal(this.#record.status)
  }

  /**
   * What the function returned; `null` is a value.
   *
   * @throws TaskStateError ERR_TASKS_FAILED the task failed; ERR_TASKS_NOT_FINISHED it has not ended yet.
   */
  get returnValue(): Result {
    const { id, status, returnValue } = this.#record
    if (status === 'FAILED') {
      const last = this.errors.at(-1)
      const cure = last ? `its last error: ${last.name}: ${last.message.slice(0, 200)}` : 'look at errors'
      throw new TaskStateError(id, 'SUCCESSFUL', status, cure, 'ERR_TASKS_FAILED')
    }
    if (status !== 'SUCCESSFUL') {
      throw new TaskStateError(id, 'SUCCESSFUL', status, 'await result.wait() first', 'ERR_TASKS_NOT_FINISHED')
    }
    return decode(returnValue ?? 'null', 'return') as Result
  }

  /**
   * Reads status, times, attempts, errors and value again, into this very object.
   *
   * @throws TaskNotFoundError the record is gone.
   */
  async refresh(): Promise<this> {
    const [found] = await this.#source.storage.find([this.id])
    if (!found) throw new TaskNotFoundError(this.id, `backend "${this.backendName}"`)
    if (isDamaged(found)) throw new TaskRecordDamagedError(this.id, found.damage)
    this.#record = found
    this.#args = undefined
    this.#errors = undefined
    return this
  }

  /**
   * Resolves to this object, read again, once the task is SUCCESSFUL or FAILED. Woken by a message; nothing polls.
   *
   * @param options.timeoutMs how long to wait at most, in milliseconds; 30,000 when left out.
   * @throws TaskOptionError the limit is none: 0 to 2,147,483,647 ms.
   * @throws TaskTimeoutError it did not end in time (the task goes on).
   * @throws TaskNotFoundError the record was deleted.
   */
  async wait(options: { timeoutMs?: number } = {}): Promise<this> {
    const { timeoutMs } = checkOptions('options', WAIT_OPTIONS, options)
    if (!this.isFinished) {
      const word = await this.#source.storage.awaitFinished(this.id, timeoutMs)
      if (word === 'TIMEOUT') {
        throw new TaskTimeoutError(
          `record ${this.id}`,
          timeoutMs,
          'wait longer, or check that a worker serves its queue',
        )
      }
    }
    return await this.refresh()
  }

  /**
   * Ends the task by a person's wish: FAILED, with TaskCancelledError as its last error, and never run again by itself. Where it
   * runs, `context.signal` is aborted with that error within a second, and what it still returns counts for nothing.
   *
   * @throws TaskStateError it has ended already.
   * @throws TaskNotFoundError the record is gone.
   */
  async cancel(): Promise<this> {
    const reason = reasonOf(new TaskCancelledError())
    const [word = 'ABSENT'] = await this.#source.storage.cancel([this.id], randomUUID(), reason)
    refuseGone(this.id, this.backendName, word)
    if (word !== 'CANCELLED') throw new TaskStateError(this.id, 'READY or RUNNING', word, 'it has ended already')
    await this.refresh()
    if (this.isFinished) this.#source.emit?.('taskFinished', new TaskResult(this.#source, this.#record))
    return this
  }

  /** For logs and JSON answers: plain data, the value only when there is one. */
  toJSON(): Record<string, unknown> {
    return {
      id: this.id,
      name: this.name,
      status: this.status,
      enqueuedAt: this.enqueuedAt,
      startedAt: this.startedAt,
      finishedAt: this.finishedAt,
      lastAttemptedAt: this.lastAttemptedAt,
      args: this.args,
      priority: this.priority,
      queueName: this.queueName,
      backendName: this.backendName,
      runAfter: this.runAfter,
      attempts: this.attempts,
      workerIds: this.workerIds,
      errors: this.errors,
      returnValue: this.status === 'SUCCESSFUL' ? this.returnValue : null,
    }
  }
}
