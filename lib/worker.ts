/**
 * Worker: takes due tasks, runs up to `concurrency` of them at a time, settles them, and looks after what others left.
 * Puts its parts together and starts and stops them; judges no record itself: the storage's scripts do. Works on every
 * storage, also inside a web process. Parts: worker-loop (turns), -hands (attempts), -hand-back (to the queue), -early-cancels, -outcomes
 * (settles), -reader (waiting for entries), -upkeep (by the clock), -errands (timers, calls beside the loop), -events, -state,
 * -options.
 */
import { EventEmitter } from 'node:events'
import { StorageClientError } from './errors.ts'
import { guardedLogger } from './logger.ts'
import type { TaskBackend } from './task-backend.ts'
import { WorkerErrands } from './worker-errands.ts'
import { WorkerNews } from './worker-events.ts'
import type { WorkerEvents } from './worker-events.ts'
import { WorkerHands } from './worker-hands.ts'
import { WorkerLoop } from './worker-loop.ts'
import { checkWorkerOptions } from './worker-options.ts'
import type { WorkerOptions, WorkerSettings } from './worker-options.ts'
import { WorkerOutcomes } from './worker-outcomes.ts'
import type { WorkerParts } from './worker-parts.ts'
import { WorkerReader } from './worker-reader.ts'
import { WorkerState } from './worker-state.ts'
import { WorkerUpkeep } from './worker-upkeep.ts'

export class Worker extends EventEmitter<WorkerEvents> {
  readonly backend: TaskBackend
  readonly options: WorkerSettings
  readonly #parts: WorkerParts
  readonly #state = new WorkerState()
  readonly #hands: WorkerHands
  readonly #reader: WorkerReader
  readonly #upkeep: WorkerUpkeep
  readonly #loop: WorkerLoop
  #unwatch: (() => void) | undefined
  #starting: Promise<void> | undefined
  #looping: Promise<void> | undefined
  #stopping: Promise<number> | undefined

  /** @throws TaskOptionError an option is unknown or out of range, or the backend stores nothing. */
  constructor(backend: TaskBackend, options: WorkerOptions = {}) {
    super()
    this.backend = backend
    this.options = checkWorkerOptions(options)
    const { workerId, logger, logTasks } = this.options
    const queue = backend.openQueue({ workerId })
    const news = new WorkerNews(this, logger ? guardedLogger(logger) : backend.logger, logTasks ? backend : undefined)
    const [leases, errands, state] = [backend.openLeases(queue), new WorkerErrands(news), this.#state]
    this.#parts = { backend, settings: this.options, queue, leases, state, news, errands }
    this.#hands = new WorkerHands(this.#parts, () => this.#reader.abort())
    this.#reader = new WorkerReader(this.#parts, this.#hands)
    // The blocking read looks at the queues it was started with.
    this.#upkeep = new WorkerUpkeep(
      this.#parts,
      () => this.#hands.size,
      () => this.#reader.abort(),
    )
    const [hands, reader, upkeep] = [this.#hands, this.#reader, this.#upkeep]
    const outcomes = new WorkerOutcomes(this.#parts, hands, (inMs) => upkeep.planPromotion(inMs))
    this.#loop = new WorkerLoop(this.#parts, { hands, outcomes, reader, upkeep })
  }

  get workerId(): string {
    return this.#parts.queue.workerId
  }

  /** Attempts begun and not yet settled. */
  get running(): number {
    return this.#hands.size
  }

  /** Attempts settled so far. */
  get processed(): number {
    return this.#state.settled
  }

  /**
   * Begins to take tasks. Calling it again changes nothing; a worker that was stopped stays so.
   *
   * @throws StorageUnavailableError the storage cannot be reached, or cannot be written to. It may be tried again.
   * @throws StorageClientError the client is ioredis-mock, which has no consumer groups.
   * @throws StorageUnfitError (one of those) it is a replica, too old, or does not permit what tasks need.
   */
  async start(): Promise<void> {
    if (this.#state.phase === 'new') {
      this.#state.phase = 'running'
      this.#starting = this.#start()
    }
    await this.#starting
  }

  /** Starts, and resolves when `maxTasks` are done or, not continuous, when nothing is due; else when it was stopped. */
  async run(): Promise<void> {
    await this.start()
    await this.#looping
    await this.stop()
  }

  /**
   * Takes no more, waits for what runs, then aborts and hands the rest back, uncounted. May be called twice: the shorter
   * limit holds.
   *
   * @returns how many were handed back.
   */
  async stop(options: { drainTimeoutSeconds?: number } = {}): Promise<number> {
    const drainMs = (options.drainTimeoutSeconds ?? this.options.drainTimeoutSeconds) * 1_000
    if (this.#state.phase === 'new') {
      this.#state.phase = 'stopped'
      return 0
    }
    this.#stopping ??= this.#stop()
    if (this.#state.phase !== 'stopped') this.#parts.errands.after(drainMs, () => this.#giveUp())
    return await this.#stopping
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  async #start(): Promise<void> {
    const state = this.#state
    try {
      const { kind } = await this.backend.storage.connect()
      if (kind === 'mock') throw withoutGroups()
      if (state.phase === 'running') await this.#upkeep.refreshQueues()
      if (state.phase === 'running') await this.#upkeep.heartbeat()
      if (state.phase === 'running') await this.#parts.leases.start()
    } catch (error) {
      if (state.phase === 'running') state.phase = 'new'
      throw error
    }
    // Stopped meanwhile: there is nothing to begin any more.
    if (state.phase !== 'running') return
    this.#unwatch = this.backend.storage.watchCancels({
      cancelled: (attempt) => this.#hands.cancel(attempt),
      missed: () => this.#parts.errands.inBackground(this.#hands.lookForCancelled()),
    })
    this.#upkeep.start()
    this.#looping = this.#loop.run()
  }

  async #stop(): Promise<number> {
    const { queue, leases, news, errands, state } = this.#parts
    state.phase = 'draining'
    await this.#starting?.catch(() => undefined)
    this.#hands.handBackWaiting()
    state.wakeUp()
    await this.#reader.end()
    await this.#looping
    this.#unwatch?.()
    state.phase = 'stopped'
    await errands.end()
    await leases.stop()
    // The storage is away, and the time for it is over: the next sweep of others forgets this consumer.
    if (state.gaveUp && news.troubled) return state.handedBack
    try {
      // What was delivered and never arrived goes back too; then nothing is left that keeps this consumer.
      await queue.recover(0, new Set(), state.queueNames)
      await queue.forget()
    } catch (error) {
      news.failed(error)
    }
    return state.handedBack
  }

  /** The drain time is over. */
  #giveUp(): void {
    this.#state.gaveUp = true
    this.#hands.handBackRunning()
    this.#state.wakeUp()
  }
}

function withoutGroups(): StorageClientError {
  const cure = "to run workers without a server use the memory backend: { backend: 'memory' }"
  return new StorageClientError('one with consumer groups', 'ioredis-mock, which has none', cure)
}
