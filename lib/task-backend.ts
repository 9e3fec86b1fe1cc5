/**
 * TaskBackend, base of all backends: checks a task against its own limits, enqueues, reads results, tells listeners.
 * Knows a storage only as the seam; the concrete backends bring one (or none) and run what records ask them to run.
 */
import { batchesOf } from './batches.ts'
import { hinted } from './did-you-mean.ts'
import { TaskOptionError } from './errors.ts'
import { encodeArgs } from './json.ts'
import type { Leases } from './lease-keeper.ts'
import { guardedLogger } from './logger.ts'
import type { Logger } from './logger.ts'
import { anything, checkOptions, oneOf } from './options.ts'
import { normalizeRecordId, RecordIds } from './record-id.ts'
import { checkRetryOptions } from './retry-policy.ts'
import type { RetryOptions } from './retry-policy.ts'
import { offerAsDefault, withdrawBackend } from './task-backends.ts'
import { CALL_LIMITS } from './storage/storage.ts'
import type { Storage } from './storage/storage.ts'
import type { NewRecord, StoredRecord } from './storage/stored-record.ts'
import type { StreamQueue, StreamQueueOptions } from './stream-queue.ts'
import { findStored } from './task-record.ts'
import type { TaskRecords } from './task-record.ts'
import { TaskResult } from './task-result.ts'
import type { ResultSource } from './task-result.ts'
import type { AnyTask } from './task.ts'

/** A queue that is always allowed when none are named. */
export const DEFAULT_QUEUE = 'default'

export interface BackendSettings {
  readonly alias: string
  /** Allowed queue names: left out = only `default`, `[]` = any. */
  readonly queues: readonly string[] | undefined
  readonly logger: Logger
  /** For tasks that leave some of their own out. */
  readonly retry?: RetryOptions | undefined
}

export interface BackendEvents {
  /** Stored. */
  taskEnqueued: TaskResult
  /** An attempt has begun. */
  taskStarted: TaskResult
  /** SUCCESSFUL or FAILED. */
  taskFinished: TaskResult
}

const LISTENER_OPTIONS = Object.freeze({
  event: oneOf(['taskEnqueued', 'taskStarted', 'taskFinished'] satisfies BackendEvent[], {
    description: 'what is listened to',
  }),
  listener: anything({
    shape: 'a function',
    is: (value): value is Listener => typeof value === 'function',
    description: 'what is called',
  }),
})

type BackendEvent = keyof BackendEvents
type Listener = (result: BackendEvents[BackendEvent]) => unknown

/** What a line of the log says of an attempt. */
export type LoggedAttempt = Pick<TaskResult, 'id' | 'name' | 'queueName' | 'attempts'>

export abstract class TaskBackend {
  readonly alias: string
  /** Allowed queue names; empty means any. */
  readonly queues: readonly string[]
  readonly logger: Logger
  /** How failed attempts run again where a task does not say so itself. */
  readonly retry: RetryOptions | undefined
  readonly #listeners = new Map<BackendEvent, Set<Listener>>()

  constructor(settings: BackendSettings) {
    this.alias = settings.alias
    this.queues = Object.freeze([...(settings.queues ?? [DEFAULT_QUEUE])])
    this.logger = guardedLogger(settings.logger)
    if (settings.retry !== undefined) checkRetryOptions(settings.retry)
    this.retry = settings.retry && Object.freeze({ ...settings.retry })
    offerAsDefault(this)
  }

  /** Whether a task may wait for `runAfter` here. */
  abstract readonly supportsRunAfter: boolean

  /** Stores checked records and answers with their results, in order. */
  protected abstract store(task: AnyTask, records: readonly NewRecord[]): Promise<readonly TaskResult[]>

  // What a backend without a storage has not got.

  get storage(): Storage {
    throw this.#lacksStorage()
  }

  get records(): TaskRecords {
    throw this.#lacksStorage()
  }

  get queue(): StreamQueue {
    throw this.#lacksStorage()
  }

  get leases(): Leases {
    throw this.#lacksStorage()
  }

  /** The settings that workers and maintenance read. */
  get limits(): BackendLimits {
    throw this.#lacksStorage()
  }

  /** A queue of its own consumer, for a worker. */
  openQueue(_options: Partial<StreamQueueOptions> = {}): StreamQueue {
    throw this.#lacksStorage()
  }

  /** The keeper of that consumer's leases. */
  openLeases(_queue: StreamQueue): Leases {
    throw this.#lacksStorage()
  }

  /** Runs a record here and now, whatever its place; null when its state does not allow it. */
  runById(_id: string, _options: { allowRetry?: boolean; workerId?: string } = {}): Promise<TaskResult | null> {
    return Promise.reject(this.#lacksStorage())
  }

  /** @throws TaskOptionError this backend does not allow the task's queue, or cannot delay. */
  validateTask(task: AnyTask): void {
    if (task.runAfter !== null && !this.supportsRunAfter) {
      const cure = `backend "${this.alias}" runs tasks at once; use a redis or memory backend`
      throw new TaskOptionError('runAfter', 'left out', task.runAfter, cure)
    }
    if (this.queues.length > 0 && !this.queues.includes(task.queueName)) {
      const cure = `backend "${this.alias}" allows: ${this.queues.join(', ')}; queues: [] allows any`
      throw new TaskOptionError(
        'queueName',
        'an allowed queue',
        task.queueName,
        hinted(task.queueName, this.queues, cure),
      )
    }
  }

  /** Stores one record. With the `id` of an existing record that record is answered and nothing is stored. */
  async enqueue(task: AnyTask, args: readonly unknown[], options: { id?: string } = {}): Promise<TaskResult> {
    this.validateTask(task)
    const [result] = await this.store(task, [newRecordOf(task, args, options.id)])
    this.#logEnqueued(result as TaskResult)
    return result as TaskResult
  }

  /** Stores one record for each list of arguments; all are checked before the first is stored. */
  async enqueueMany(task: AnyTask, lists: readonly (readonly unknown[])[]): Promise<TaskResult[]> {
    this.validateTask(task)
    const records = lists.map((args) => newRecordOf(task, args))
    const results: TaskResult[] = []
    for (const batch of batchesOf(records, CALL_LIMITS.records)) results.push(...(await this.store(task, batch)))
    for (const result of results) this.#logEnqueued(result)
    return results
  }

  /**
   * The result of a stored record.
   *
   * @throws TaskNotFoundError no record has that id.
   */
  async getResult(id: string): Promise<TaskResult> {
    return this.result(await findStored(this, id))
  }

  /** A stored record as callers see it. */
  result(record: StoredRecord): TaskResult {
    return new TaskResult(this.source, record)
  }

  /** Where the results of this backend are read from. */
  protected get source(): ResultSource {
    return this
  }

  /** @throws TaskOptionError there is no such event (the message names the nearest), or the listener is no function. */
  on(event: BackendEvent, listener: Listener): this {
    checkOptions('on', LISTENER_OPTIONS, { event, listener })
    const listeners = this.#listeners.get(event) ?? new Set()
    this.#listeners.set(event, listeners.add(listener))
    return this
  }

  off(event: BackendEvent, listener: Listener): this {
    this.#listeners.get(event)?.delete(listener)
    return this
  }

  hasListeners(event: BackendEvent): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0
  }

  /** Tells the listeners, after the commit. One that throws, rejects or never returns changes nothing. */
  emit(event: BackendEvent, result: BackendEvents[BackendEvent]): void {
    for (const listener of this.#listeners.get(event) ?? []) {
      const failed = (error: unknown): void => {
        this.logger.error({ event, id: result.id, error }, 'a listener failed; the task is not touched by that')
      }
      try {
        Promise.resolve(listener(result)).catch(failed)
      } catch (error) {
        failed(error)
      }
    }
  }

  /** One line for an attempt that begins; for whoever runs it, who may have a logger of their own. */
  logStarted({ id, name, queueName, attempts }: LoggedAttempt, logger = this.logger): void {
    logger.info({ id, name, queueName, attempt: attempts }, 'task started')
  }

  /** One line for an attempt that ended, with the error where there is one. */
  logFinished(attempt: LoggedAttempt & Pick<TaskResult, 'status' | 'errors'>, logger = this.logger): void {
    const { id, name, queueName, attempts, status, errors } = attempt
    const error = errors.at(-1)
    const facts = { id, name, queueName, attempt: attempts, status, ...(status !== 'SUCCESSFUL' && error && { error }) }
    if (status === 'SUCCESSFUL') logger.info(facts, 'task finished')
    else if (status === 'FAILED') logger.error(facts, 'task failed')
    else logger.warn(facts, 'task did not end; it runs again')
  }

  /** Ends the connections this backend opened; may be called twice. */
  close(): Promise<void> {
    withdrawBackend(this)
    return Promise.resolve()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #logEnqueued({ id, name, queueName }: TaskResult): void {
    this.logger.debug({ id, name, queueName }, 'task enqueued')
  }

  #lacksStorage(): TaskOptionError {
    const cure = "this backend only runs or remembers tasks; configure 'redis' or 'memory'"
    return new TaskOptionError(`backend "${this.alias}"`, 'one that stores records', this.constructor.name, cure)
  }
}

/** What workers and maintenance go by. */
export interface BackendLimits {
  /** The lease of an attempt. */
  readonly claimTimeoutSeconds: number
  /** Leases of a record that may run out before it is FAILED. */
  readonly maxCrashes: number
  /** How long no worker may know the task of a record before it is FAILED. */
  readonly unknownTaskTimeoutSeconds: number
  readonly blockTimeoutMs: number
  /** How long finished records are kept. */
  readonly completedTaskTtlSeconds: number
}

const ids = new RecordIds()

function newRecordOf(task: AnyTask, args: readonly unknown[], id?: string): NewRecord {
  const json = encodeArgs(args)
  task.checkArgs(args)
  return {
    id: checkId(id),
    name: task.name,
    queueName: task.queueName,
    priority: task.priority,
    runAfter: task.runAfter?.getTime() ?? null,
    args: json,
  }
}

function checkId(id: string | undefined): string {
  if (id === undefined) return ids.next()
  const normal = normalizeRecordId(id)
  if (normal === undefined) throw new TaskOptionError('id', 'a UUID', id, 'leave it out, and one is made')
  return normal
}
