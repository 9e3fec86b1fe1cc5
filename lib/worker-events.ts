/**
 * What a worker tells: its events, each listener by itself, and one log line for each trouble. Decides nothing: a listener
 * that throws, rejects or never returns changes nothing.
 */
import type { EventEmitter } from 'node:events'
import { StorageUnavailableError, TaskError } from './errors.ts'
import type { Logger } from './logger.ts'
import type { Settlement, SettleWord } from './storage/storage.ts'
import type { StoredRecord } from './storage/stored-record.ts'
import type { TaskBackend } from './task-backend.ts'
import { readError } from './task-result.ts'

/** How one attempt ended, as the worker saw it. */
export interface SettledEvent {
  readonly id: string
  readonly name: string
  readonly queueName: string
  readonly attempt: number
  /** READY: it failed and runs again later. */
  readonly outcome: Settlement['outcome']
  /** LOST: another worker had taken it over, nothing was written. */
  readonly word: SettleWord
  readonly durationMs: number
  /** The error as it was stored, for an outcome other than SUCCESSFUL. */
  readonly error: string | null
}

export interface WorkerEvents {
  /** Nothing is due and nothing runs; once, until something runs again. */
  idle: []
  settled: [SettledEvent]
  leaseLost: [{ readonly id: string; readonly name: string }]
  /** A person cancelled it while it was here; its record is FAILED. */
  cancelled: [{ readonly id: string; readonly name: string }]
  /** The storage failed; the worker goes on by itself. */
  error: [unknown]
}

export class WorkerNews {
  readonly #emitter: EventEmitter<WorkerEvents>
  readonly logger: Logger
  /** Writes the lines of tasks; undefined where none are wanted. */
  readonly #taskLog: Pick<TaskBackend, 'logStarted' | 'logFinished'> | undefined
  #troubled = false

  constructor(
    emitter: EventEmitter<WorkerEvents>,
    logger: Logger,
    taskLog?: Pick<TaskBackend, 'logStarted' | 'logFinished'>,
  ) {
    this.#emitter = emitter
    this.logger = logger
    this.#taskLog = taskLog
  }

  started(record: StoredRecord): void {
    this.#taskLog?.logStarted(record, this.logger)
  }

  /** READY: it runs again. `payload`: return value or error, as it is stored. An attempt that was lost or cancelled has its own line. */
  ended(record: StoredRecord, status: Settlement['outcome'], payload?: string): void {
    if (!this.#taskLog) return
    const errors = status === 'SUCCESSFUL' || payload === undefined ? [] : [readError(payload)]
    const { id, name, queueName, attempts } = record
    this.#taskLog.logFinished({ id, name, queueName, attempts, status, errors }, this.logger)
  }

  /** The storage is away: said once, not once a retry. */
  get troubled(): boolean {
    return this.#troubled
  }

  /** The storage answers. */
  recovered(): void {
    this.#troubled = false
  }

  failed(error: unknown): void {
    const outage = error instanceof StorageUnavailableError
    const level = !outage ? 'error' : this.#troubled ? 'debug' : 'warn'
    if (outage) this.#troubled = true
    const code = error instanceof TaskError ? error.code : undefined
    this.logger[level]({ code, error }, 'the worker met an error and goes on')
    this.tell('error', error)
  }

  isHeard(event: keyof WorkerEvents): boolean {
    return this.#emitter.listenerCount(event) > 0
  }

  tell<Event extends keyof WorkerEvents>(event: Event, ...facts: WorkerEvents[Event]): void {
    if (!this.isHeard(event)) return
    for (const listener of this.#emitter.rawListeners(event) as ((...facts: WorkerEvents[Event]) => unknown)[]) {
      try {
        const answer = listener.apply(this.#emitter, facts)
        if (answer !== undefined) Promise.resolve(answer).catch((error: unknown) => this.#listenerFailed(event, error))
      } catch (error) {
        this.#listenerFailed(event, error)
      }
    }
  }

  #listenerFailed(event: keyof WorkerEvents, error: unknown): void {
    this.logger.error({ event, error }, 'a listener of the worker failed')
  }
}
