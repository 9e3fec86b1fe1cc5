/**
 * StorageTaskBackend: a backend whose records are kept in a storage; base of the Redis and the memory backend.
 * Puts storage, records, queue and leases together; decides nothing that the storage decides.
 */
import { systemClock } from '../clock.ts'
import { runDelivery } from '../delivery-run.ts'
import { refuseGone, TaskNotFoundError, TaskRecordDamagedError } from '../errors.ts'
import { LeaseKeeper } from '../lease-keeper.ts'
import type { Leases } from '../lease-keeper.ts'
import type { EnqueueAnswer, Storage } from '../storage/storage.ts'
import { isDamaged, newStoredRecord } from '../storage/stored-record.ts'
import type { FoundRecord, NewRecord } from '../storage/stored-record.ts'
import { StreamQueue } from '../stream-queue.ts'
import type { StreamQueueOptions } from '../stream-queue.ts'
import { TaskBackend } from '../task-backend.ts'
import type { BackendLimits, BackendSettings } from '../task-backend.ts'
import { findStored, TaskRecords } from '../task-record.ts'
import { taskRegistry } from '../task-registry.ts'
import type { TaskResult } from '../task-result.ts'
import type { AnyTask } from '../task.ts'
import { EnqueueBatcher } from './enqueue-batcher.ts'

export abstract class StorageTaskBackend extends TaskBackend {
  readonly supportsRunAfter = true
  readonly #storage: Storage
  readonly #limits: BackendLimits
  readonly #records: TaskRecords
  readonly #enqueues: EnqueueBatcher
  #queue: StreamQueue | undefined
  #leases: Leases | undefined

  constructor(settings: BackendSettings, storage: Storage, limits: BackendLimits) {
    super(settings)
    this.#storage = storage
    this.#limits = Object.freeze({ ...limits })
    this.#records = new TaskRecords(this)
    this.#enqueues = new EnqueueBatcher(storage)
  }

  override get storage(): Storage {
    return this.#storage
  }

  override get limits(): BackendLimits {
    return this.#limits
  }

  override get records(): TaskRecords {
    return this.#records
  }

  /** This process's own consumer, made at its first use. */
  override get queue(): StreamQueue {
    return (this.#queue ??= this.openQueue())
  }

  override get leases(): Leases {
    return (this.#leases ??= this.openLeases(this.queue))
  }

  override openQueue(options: Partial<StreamQueueOptions> = {}): StreamQueue {
    const { claimTimeoutSeconds, maxCrashes, unknownTaskTimeoutSeconds } = this.#limits
    const settings = {
      leaseMs: claimTimeoutSeconds * 1_000,
      maxCrashes,
      unknownTaskTimeoutMs: unknownTaskTimeoutSeconds * 1_000,
    }
    return new StreamQueue(this.#storage, { ...settings, ...options })
  }

  override openLeases(queue: StreamQueue): Leases {
    return new LeaseKeeper(queue, systemClock, this.logger)
  }

  /**
   * Runs a record here and now, whatever its place in the queue.
   *
   * @returns null when its state does not allow it.
   * @throws TaskNotFoundError no record has that id.
   * @throws TaskNotRegisteredError no task of this process has its name; nothing was changed.
   */
  override async runById(
    id: string,
    options: { allowRetry?: boolean; workerId?: string } = {},
  ): Promise<TaskResult | null> {
    const { queue, leases } = this
    const { allowRetry = false, workerId } = options
    const stored = await findStored(this, id)
    // Asked before it begins: a FAILED record of a task unknown here must not come back as READY.
    if (stored.status === 'READY' || (stored.status === 'FAILED' && allowRetry)) taskRegistry.get(stored.name)
    const sentAtMs = systemClock.monotonicMs()
    // Before a function is called that may block this loop somebody else can renew its lease.
    const [delivery] = await Promise.all([queue.runById(stored.id, allowRetry, workerId), leases.start()])
    refuseGone(id, this.alias, delivery)
    if (typeof delivery === 'string') return null
    return await runDelivery({ backend: this, queue, leases, delivery, sentAtMs })
  }

  protected override async store(_task: AnyTask, records: readonly NewRecord[]): Promise<TaskResult[]> {
    const answers = await this.#enqueues.add(records)
    const existing = answers.some(({ word }) => word === 'EXISTS') ? await this.#existing(records, answers) : undefined
    const results = records.map((record, index) => {
      const answer = answers[index]
      if (answer?.word === 'ENQUEUED') return this.result(newStoredRecord(record, answer.enqueuedAt))
      const stored = existing?.get(record.id)
      if (!stored) throw new TaskNotFoundError(record.id, `backend "${this.alias}"`)
      if (isDamaged(stored)) throw new TaskRecordDamagedError(record.id, stored.damage)
      return this.result(stored)
    })
    if (this.hasListeners('taskEnqueued')) {
      results.forEach((result, index) => {
        if (answers[index]?.word === 'ENQUEUED') this.emit('taskEnqueued', result)
      })
    }
    return results
  }

  /** The records whose ids were there already. */
  async #existing(records: readonly NewRecord[], answers: readonly EnqueueAnswer[]): Promise<Map<string, FoundRecord>> {
    const ids = records.filter((_, index) => answers[index]?.word === 'EXISTS').map(({ id }) => id)
    const found = await this.#storage.find(ids)
    return new Map(ids.map((id, index) => [id, found[index]]))
  }

  override async close(): Promise<void> {
    await this.#leases?.stop()
    await super.close()
    await this.#storage.close()
  }
}
