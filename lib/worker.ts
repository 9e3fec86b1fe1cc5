/**
 * Worker: takes due tasks, runs up to `concurrency` of them at a time, settles them, and looks after what others left.
 * One loop of turns: settle what ended and take what fits, in one write; block only when nothing was there. Judges no
 * record itself: the storage's scripts do. Works on every storage, also inside a web process.
 */
import { EventEmitter } from 'node:events'
import { hostname } from 'node:os'
import { Attempt } from './attempt.ts'
import { systemClock } from './clock.ts'
import { StorageUnavailableError, TaskError, TaskLeaseLostError } from './errors.ts'
import { WORKER_ID_PATTERN } from './executor.ts'
import type { HeldLease, Leases } from './lease-keeper.ts'
import { guardedLogger } from './logger.ts'
import type { Logger } from './logger.ts'
import { purgeFinished } from './maintenance.ts'
import { anything, checkOptions, flag, integer, listOf, NAME_PATTERN, number, text } from './options.ts'
import type { Delivery, Lease, Settlement, SettleWord, Taken } from './storage/storage.ts'
import type { StreamQueue } from './stream-queue.ts'
import { DEFAULT_QUEUE } from './task-backend.ts'
import type { TaskBackend } from './task-backend.ts'
import { taskRegistry } from './task-registry.ts'

/** Every option of a worker; the commands' flags are these rows too. */
export const WORKER_OPTIONS = Object.freeze({
  queues: listOf(text({ pattern: NAME_PATTERN, description: 'a queue name' }), {
    description: 'only these queues; left out = all, also ones that appear later',
  }),
  concurrency: integer({ min: 1, max: 1_000, default: 10, description: 'tasks at a time' }),
  continuous: flag({ default: true, description: 'keep running when nothing is due' }),
  intervalSeconds: number({
    min: 0.01,
    max: 3_600,
    default: 1,
    description: 'how often delayed tasks and new queues are looked at',
  }),
  maxTasks: integer({ min: 0, max: 1_000_000_000, default: 0, description: 'stop after so many; 0 = no limit' }),
  claimIntervalSeconds: number({
    min: 0.01,
    max: 86_400,
    default: 60,
    description: 'how often stale deliveries are looked for',
  }),
  drainTimeoutSeconds: number({
    min: 0,
    max: 86_400,
    default: 25,
    description: 'how long a stop waits for running tasks',
  }),
  workerId: text({ pattern: WORKER_ID_PATTERN, description: 'shown in workerIds' }),
  logger: anything({
    shape: 'a logger with debug, info, warn and error',
    is: (value): value is Logger => typeof value === 'object' && value !== null && 'error' in value,
    description: "where it logs; the backend's logger when left out",
  }),
})

export interface WorkerOptions {
  readonly queues?: readonly string[] | undefined
  readonly concurrency?: number | undefined
  readonly continuous?: boolean | undefined
  readonly intervalSeconds?: number | undefined
  readonly maxTasks?: number | undefined
  readonly claimIntervalSeconds?: number | undefined
  readonly drainTimeoutSeconds?: number | undefined
  readonly workerId?: string | undefined
  readonly logger?: Logger | undefined
}

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
  /** The storage failed; the worker goes on by itself. */
  error: [unknown]
}

/** One delivery in hand: from before it runs until its settle or hand-back was answered. */
interface InHand {
  readonly delivery: Delivery
  readonly attempt: Attempt
  /** The monotonic time before the request that granted its lease was sent. */
  sentAtMs: number
  startedMs: number
  /** Its function was called. */
  started: boolean
  handedBack: boolean
  /** Its settle is sent: that answer is the verdict, and a lost lease means nothing any more. */
  closing: boolean
}

interface Ended {
  readonly hand: InHand
  readonly settlement: Settlement
}

/** What one call carries at most. */
const SETTLE_BATCH = 100
const SETTLE_LENGTH = 2_000_000
const TAKE_BATCH = 100
const LEASE_BATCH = 100
const FIRST_BACKOFF_MS = 250
const LAST_BACKOFF_MS = 5_000
const HEARTBEAT_MS = 5_000
/** Consumers that were not heard of for so many claim intervals are removed, if nothing is theirs. */
const FORGET_AFTER_INTERVALS = 10

const jittered = (ms: number): number => ms * (0.75 + Math.random() / 2)

export class Worker extends EventEmitter<WorkerEvents> {
  readonly backend: TaskBackend
  readonly options: ReturnType<typeof checkOptions<typeof WORKER_OPTIONS>>
  readonly #logger: Logger
  readonly #queue: StreamQueue
  readonly #leases: Leases
  readonly #inHand = new Map<string, InHand>()
  readonly #startedAt = systemClock.now()
  /** Attempts that ended and wait for the next settle. */
  #ended: Ended[] = []
  /** Its crashes are at the limit: it runs alone, after everything else has ended, and until then nothing else begins. */
  #suspect: InHand | undefined
  #queueNames: readonly string[] = []
  #begun = 0
  #settled = 0
  #lost = 0
  #state: 'new' | 'running' | 'draining' | 'stopped' = 'new'
  /** The last take found nothing: block, or be idle. */
  #dry = false
  /** Grows with every sign that something may wait; a take that was sent before such a sign proves nothing. */
  #signs = 0
  #saidIdle = false
  #mustRecover = false
  #reclaimDue = true
  #reader: { readonly abort: AbortController; readonly done: Promise<void> } | undefined
  /** A blocking read failed a moment ago: the next one waits. */
  #readPaused = false
  #readBackoffMs = FIRST_BACKOFF_MS
  #wake: (() => void) | undefined
  /** Something changed since the last turn began: no pause before the next. */
  #woken = false
  /** The storage is away: said once, not once a retry. */
  #troubled = false
  /** Calls that nobody waits for before the end: hand-backs of unknown tasks, news for listeners. */
  readonly #background = new Set<Promise<void>>()
  #handedBack = 0
  #timers = new Set<ReturnType<typeof systemClock.setTimeout>>()
  #promotion: { readonly timer: ReturnType<typeof systemClock.setTimeout>; readonly atMs: number } | undefined
  #starting: Promise<void> | undefined
  #loop: Promise<void> | undefined
  #stopping: Promise<number> | undefined
  /** The drain time is over: what the storage does not take now is left to run out. */
  #gaveUp = false
  #backoffMs = FIRST_BACKOFF_MS

  /** @throws TaskOptionError an option is unknown or out of range, or the backend stores nothing. */
  constructor(backend: TaskBackend, options: WorkerOptions = {}) {
    super()
    this.backend = backend
    this.options = checkOptions('options', WORKER_OPTIONS, options)
    this.#logger = this.options.logger ? guardedLogger(this.options.logger) : backend.logger
    this.#queue = backend.openQueue({ workerId: this.options.workerId })
    this.#leases = backend.openLeases(this.#queue)
  }

  get workerId(): string {
    return this.#queue.workerId
  }

  /** Attempts begun and not yet settled. */
  get running(): number {
    return this.#inHand.size
  }

  /** Attempts settled so far. */
  get processed(): number {
    return this.#settled
  }

  /**
   * Begins to take tasks. Calling it again changes nothing; a worker that was stopped stays so.
   *
   * @throws StorageUnavailableError the storage cannot be reached, or cannot be written to. It may be tried again.
   */
  async start(): Promise<void> {
    if (this.#state === 'new') {
      this.#state = 'running'
      this.#starting = this.#start()
    }
    await this.#starting
  }

  async #start(): Promise<void> {
    try {
      await this.#refreshQueues()
      if (this.#state === 'running') await this.#heartbeat()
      if (this.#state === 'running') await this.#leases.start()
    } catch (error) {
      if (this.#state === 'running') this.#state = 'new'
      throw error
    }
    // Stopped meanwhile: there is nothing to begin any more.
    if (this.#state !== 'running') return
    this.#every(this.#heartbeatMs, () => this.#heartbeat())
    this.#every(this.options.claimIntervalSeconds * 1_000, () => this.#sweep())
    this.#schedulePromotion(0)
    this.#loop = this.#run()
  }

  /** Starts, and resolves when `maxTasks` are done or, not continuous, when nothing is due; else when it was stopped. */
  async run(): Promise<void> {
    await this.start()
    await this.#loop
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
    if (this.#state === 'new') {
      this.#state = 'stopped'
      return 0
    }
    this.#stopping ??= this.#stop()
    if (this.#state !== 'stopped') this.#after(drainMs, () => this.#giveUp())
    return await this.#stopping
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  // The loop

  async #run(): Promise<void> {
    while (this.#state === 'running' || this.#inHand.size > 0 || this.#ended.length > 0) {
      this.#woken = false
      try {
        const busy = (await this.#turn()) || (await this.#promoteBeforeEnd())
        this.#backoffMs = FIRST_BACKOFF_MS
        this.#troubled = false
        if (busy) continue
      } catch (error) {
        this.#failed(error)
        this.#mustRecover = true
        if (this.#gaveUp) {
          this.#abandonEnded()
          continue
        }
        await this.#pause(jittered(this.#backoffMs))
        this.#backoffMs = Math.min(this.#backoffMs * 2, LAST_BACKOFF_MS)
        continue
      }
      if (this.#finished()) return
      await this.#pause()
    }
  }

  /** A worker that ends when nothing is due has to ask new queues and the delayed ones before it says so. */
  async #promoteBeforeEnd(): Promise<boolean> {
    if (this.options.continuous || !this.#dry || this.#inHand.size > 0 || this.#state !== 'running') return false
    await this.#refreshQueues()
    const { moved } = await this.#queue.promote(this.#queueNames)
    if (moved > 0) this.#sign()
    return !this.#dry
  }

  /** One turn. False when there was nothing to do. */
  async #turn(): Promise<boolean> {
    if (this.#suspect) return await this.#turnOfSuspect(this.#suspect)
    if (this.#mustRecover) await this.#recover()
    if (this.#reclaimDue && this.#free() > 0) await this.#reclaim(this.#free())
    const ended = this.#takeEnded()
    // Slots that this settle frees are taken again in the same write, unless one of those two waits for a slot: under a
    // backlog none would ever be left for it.
    const count = this.#mustRecover || this.#reclaimDue ? 0 : Math.min(this.#free(ended.length), TAKE_BATCH)
    const wanted = count > 0 && !(this.#dry && ended.length === 0)
    if (ended.length === 0 && !wanted) {
      if (this.#dry && count > 0) this.#block()
      return false
    }
    if (!wanted) await this.#settle(ended)
    else if (ended.length === 0) this.#accept(await this.#take(count))
    else await this.#settleAndTake(ended, count)
    return true
  }

  /** Slots for further attempts, once so many more have ended; one belongs to the blocking read while it is out. */
  #free(ending = 0): number {
    const reserved = this.#reader ? 1 : 0
    return Math.min(this.options.concurrency - this.#inHand.size + ending, this.#left()) - reserved
  }

  #left(): number {
    if (this.#state !== 'running') return 0
    return this.options.maxTasks === 0 ? Infinity : this.options.maxTasks - this.#begun
  }

  #finished(): boolean {
    if (this.#inHand.size > 0 || this.#ended.length > 0) return false
    if (this.#state !== 'running') return true
    if (this.#left() <= 0) return true
    if (!this.#dry) return false
    if (!this.#saidIdle) this.#tell('idle')
    this.#saidIdle = true
    return !this.options.continuous
  }

  async #take(count: number): Promise<{ taken: Taken; sentAtMs: number; signs: number }> {
    const [sentAtMs, signs] = [systemClock.monotonicMs(), this.#signs]
    return { taken: await this.#queue.take(count, { queueNames: this.#queueNames }), sentAtMs, signs }
  }

  async #settleAndTake(ended: Ended[], count: number): Promise<void> {
    for (const { hand } of ended) hand.closing = true
    const [sentAtMs, signs] = [systemClock.monotonicMs(), this.#signs]
    try {
      const settlements = ended.map(({ settlement }) => settlement)
      const { words, taken } = await this.#queue.settleAndTake(settlements, count, this.#queueNames)
      this.#answered(ended, words)
      this.#accept({ taken, sentAtMs, signs })
    } catch (error) {
      this.#ended.unshift(...ended)
      throw error
    }
  }

  /** What ended first, as much as one settle carries: a hundred large results would not be answered in time, ever. */
  #takeEnded(): Ended[] {
    let length = 0
    const tooMany = this.#ended.findIndex(({ settlement: { payload } }, index) => {
      length += payload.length
      return index === SETTLE_BATCH || (index > 0 && length > SETTLE_LENGTH)
    })
    return this.#ended.splice(0, tooMany === -1 ? this.#ended.length : tooMany)
  }

  async #settle(ended: Ended[]): Promise<void> {
    for (const { hand } of ended) hand.closing = true
    try {
      this.#answered(ended, await this.#queue.settle(ended.map(({ settlement }) => settlement)))
    } catch (error) {
      // The outcome is unknown: the same call again, until it is SETTLED or LOST.
      this.#ended.unshift(...ended)
      throw error
    }
  }

  #answered(ended: readonly Ended[], words: readonly SettleWord[]): void {
    const finished: string[] = []
    this.#release(ended.map(({ hand }) => hand))
    ended.forEach(({ hand, settlement }, index) => {
      const word = words[index] ?? 'LOST'
      const { record, lease } = hand.delivery
      if (word === 'SETTLED') {
        this.#settled += 1
        if (settlement.outcome === 'READY') this.#schedulePromotion(settlement.delayMs)
        else finished.push(record.id)
      } else {
        this.#noteLost(hand)
        this.#logger.warn(
          { code: 'ERR_TASKS_LEASE_LOST', id: record.id, token: lease.token, word },
          'a settle was refused',
        )
      }
      if (this.listenerCount('settled') > 0) {
        this.#tell('settled', {
          ...{ id: record.id, name: record.name, queueName: record.queueName, attempt: record.attempts },
          ...{ outcome: settlement.outcome, word, durationMs: systemClock.monotonicMs() - hand.startedMs },
          error: settlement.outcome === 'SUCCESSFUL' ? null : settlement.payload,
        })
      }
    })
    if (finished.length > 0 && this.backend.hasListeners('taskFinished')) this.#tellFinished(finished)
  }

  #tellFinished(ids: readonly string[]): void {
    const tell = async (id: string): Promise<void> => {
      try {
        this.backend.emit('taskFinished', await this.backend.getResult(id))
      } catch (error) {
        // Deleted or damaged since; its outcome is written all the same.
        this.#logger.warn({ id, error }, 'a finished record could not be read for its listeners')
      }
    }
    for (const id of ids) this.#inBackground(tell(id))
  }

  #inBackground(work: Promise<unknown>): void {
    const done: Promise<void> = work
      .then(() => undefined)
      .catch((error: unknown) => this.#failed(error))
      .finally(() => this.#background.delete(done))
    this.#background.add(done)
  }

  // Deliveries

  #accept({ taken, sentAtMs, signs }: { taken: Taken; sentAtMs: number; signs: number }): void {
    this.#dry = taken.begun.length === 0 && taken.passed === 0 && signs === this.#signs
    this.#begin(taken.begun, sentAtMs)
  }

  #begin(deliveries: readonly Delivery[], sentAtMs: number): void {
    if (this.#state !== 'running') {
      // Asked for before the stop: nothing starts after it.
      this.#inBackground(this.#requeue(deliveries.map(({ lease }) => lease)))
      return
    }
    const unknown: Lease[] = []
    const hands: InHand[] = []
    for (const delivery of deliveries) {
      const { lease, record } = delivery
      const held = this.#inHand.get(lease.id)
      if (held) {
        // The same record by two ways: the newer token is the live one.
        if (record.fence <= held.delivery.record.fence) continue
        held.attempt.lose(new TaskLeaseLostError(lease.id))
        this.#release([held])
      }
      const task = taskRegistry.find(record.name)
      if (task) {
        const attempt = new Attempt(this.backend, delivery, task, systemClock)
        const startedMs = systemClock.monotonicMs()
        const hand = { delivery, attempt, sentAtMs, startedMs, started: false, handedBack: false, closing: false }
        this.#inHand.set(lease.id, hand)
        hands.push(hand)
      } else {
        const facts = { code: 'ERR_TASKS_NOT_REGISTERED', id: record.id, name: record.name }
        this.#logger.warn(facts, 'no task of that name is known here; it is handed back')
        unknown.push(lease)
      }
    }
    this.#begun += hands.length
    if (hands.length > 0) this.#saidIdle = false
    if (systemClock.monotonicMs() - sentAtMs < this.#queue.leaseMs / 2) this.#startAll(hands)
    else if (hands.length > 0) this.#inBackground(this.#startRenewed(hands))
    if (unknown.length > 0) this.#inBackground(this.#requeue(unknown, { delay: 'growing' }))
  }

  #startAll(hands: readonly InHand[]): void {
    if (hands.length === 0) return
    const isSuspect = ({ delivery }: InHand): boolean => delivery.record.crashes >= this.#queue.maxCrashes
    const suspects = hands.filter(isSuspect)
    const innocent = hands.filter((hand) => !suspects.includes(hand))
    const chosen = this.#suspect ? undefined : suspects[0]
    // One at a time: a second that waits here would die with the first, and that would be its last time.
    const others = suspects.filter((hand) => hand !== chosen)
    if (others.length > 0) {
      this.#begun -= others.length
      this.#inBackground(this.#handBack(others))
    }
    // All leases are in good hands before the first function is called: it may block this loop.
    this.#leases.hold(innocent.map((hand) => this.#heldLease(hand, hand.attempt.task.timeoutMs)))
    if (chosen) {
      this.#suspect = chosen
      this.#leases.hold([this.#heldLease(chosen, undefined)])
      this.#reader?.abort.abort()
      this.#wakeUp()
    }
    for (const hand of innocent) this.#startOne(hand)
  }

  /** Their answer came late (the read waited, or this loop was blocked): somebody else may have them by now. */
  async #startRenewed(hands: readonly InHand[]): Promise<void> {
    const sentAtMs = systemClock.monotonicMs()
    const words: string[] = []
    try {
      for (const batch of batches(hands)) words.push(...(await this.#queue.renew(batch.map(leaseOf))))
    } catch (error) {
      // They are still this consumer's own, and found in its own list.
      this.#mustRecover = true
      this.#begun -= hands.length
      this.#release(hands)
      throw error
    } finally {
      this.#wakeUp()
    }
    const renewed = hands.filter((hand, index) => words[index] === 'RENEWED' && !hand.handedBack)
    const lost = hands.filter((_, index) => words[index] !== 'RENEWED')
    this.#begun -= lost.length
    this.#release(lost)
    for (const hand of lost) this.#noteLost(hand)
    for (const hand of renewed) hand.sentAtMs = sentAtMs
    if (this.#state === 'running') this.#startAll(renewed)
    else await this.#handBack(renewed)
  }

  #heldLease(hand: InHand, timeoutMs: number | undefined): HeldLease {
    return {
      lease: hand.delivery.lease,
      sentAtMs: hand.sentAtMs,
      stopAtMs: timeoutMs === undefined ? Infinity : systemClock.monotonicMs() + timeoutMs,
      lose: (reason) => this.#leaseLost(hand, reason),
    }
  }

  #startOne(hand: InHand): void {
    const { delivery, attempt } = hand
    hand.started = true
    hand.startedMs = systemClock.monotonicMs()
    if (this.backend.hasListeners('taskStarted')) this.backend.emit('taskStarted', this.backend.result(delivery.record))
    void attempt.run().then((ending) => {
      if (hand.handedBack || this.#inHand.get(delivery.lease.id) !== hand) return
      if ('requeue' in ending) {
        this.#inBackground(this.#handBack([hand]))
        return
      }
      this.#ended.push({ hand, settlement: ending.settle })
      this.#sign()
      this.#wakeUp()
    })
  }

  #leaseLost(hand: InHand, reason: TaskLeaseLostError): void {
    if (hand.closing) return
    const { id, name } = hand.delivery.record
    this.#logger.warn({ code: reason.code, id, name }, 'the lease of a running task is lost; its signal is aborted')
    hand.attempt.lose(reason)
    // One that waits to run alone has nothing to finish.
    if (hand === this.#suspect && !hand.started) this.#inBackground(this.#handBack([hand]))
  }

  /** Its token is no longer on the record: nothing was written. */
  #noteLost({ delivery: { record } }: InHand): void {
    this.#lost += 1
    this.#tell('leaseLost', { id: record.id, name: record.name })
  }

  #release(hands: readonly InHand[]): void {
    this.#leases.release(hands.map(leaseOf))
    for (const hand of hands) {
      const { id } = hand.delivery.lease
      if (this.#inHand.get(id) === hand) this.#inHand.delete(id)
      if (this.#suspect === hand) this.#suspect = undefined
    }
  }

  /** Uncounted by the record, but counted by `maxTasks`: it was begun here. */
  async #handBack(hands: readonly InHand[]): Promise<void> {
    for (const hand of hands) hand.handedBack = true
    try {
      const words = await this.#requeue(hands.map(leaseOf))
      hands.forEach((hand, index) => words[index] === 'LOST' && this.#noteLost(hand))
    } finally {
      // Unanswered: it is found in the own list, or its lease runs out and somebody takes over.
      this.#release(hands)
      this.#sign()
      this.#wakeUp()
    }
  }

  async #requeue(leases: readonly Lease[], options: { delay?: 'growing' } = {}): Promise<readonly string[]> {
    const words: string[] = []
    try {
      for (const batch of batches(leases)) words.push(...(await this.#queue.requeue(batch, options)))
    } catch (error) {
      this.#mustRecover = true
      throw error
    }
    if (this.#state !== 'running') this.#handedBack += words.filter((word) => word === 'REQUEUED').length
    return words
  }

  /** The storage took no outcome until the end of the drain time: the leases run out, and others run them again. */
  #abandonEnded(): void {
    const hands = this.#ended.splice(0).map(({ hand }) => hand)
    if (hands.length === 0) return
    const facts = { code: 'ERR_TASKS_STORAGE_UNAVAILABLE', ids: hands.map((hand) => hand.delivery.lease.id) }
    this.#logger.error(facts, 'outcomes could not be written; these tasks run again elsewhere')
    this.#release(hands)
  }

  async #turnOfSuspect(suspect: InHand): Promise<boolean> {
    const ended = this.#takeEnded()
    if (ended.length > 0) {
      await this.#settle(ended)
      return true
    }
    if (suspect.started || suspect.handedBack || this.#inHand.size > 1) return false
    const { timeoutMs } = suspect.attempt.task
    // Its own limit counts from here on, not from when it began to wait.
    if (timeoutMs !== undefined) this.#leases.hold([this.#heldLease(suspect, timeoutMs)])
    this.#startOne(suspect)
    return true
  }

  // Waiting for entries

  #block(): void {
    if (this.#reader || this.#readPaused || !this.options.continuous) return
    const sentAtMs = systemClock.monotonicMs()
    const abort = new AbortController()
    const { blockTimeoutMs: blockMs } = this.backend.limits
    const done = this.#queue
      .takeBlocking({ queueNames: this.#queueNames, blockMs, signal: abort.signal })
      .then((taken) => {
        this.#reader = undefined
        this.#readBackoffMs = FIRST_BACKOFF_MS
        if (taken.begun.length === 0 && taken.passed === 0) return
        this.#sign()
        this.#begin(taken.begun, sentAtMs)
      })
      .catch((error: unknown) => {
        // The next turn looks for what this read may have brought; the next read waits longer with each failure.
        this.#mustRecover = true
        this.#readPaused = true
        this.#after(jittered(this.#readBackoffMs), () => {
          this.#readPaused = false
          this.#wakeUp()
        })
        this.#readBackoffMs = Math.min(this.#readBackoffMs * 2, LAST_BACKOFF_MS)
        this.#failed(error)
      })
      .finally(() => {
        this.#reader = undefined
        this.#wakeUp()
      })
    this.#reader = { abort, done }
  }

  /** Until something ended, came, or changed; or for `ms`, whatever happens (except a stop). */
  async #pause(ms?: number): Promise<void> {
    if (ms === undefined && this.#woken) return
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        if (timer !== undefined) systemClock.clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
      const timer = ms === undefined ? undefined : systemClock.setTimeout(wake, ms)
      this.#wake = ms === undefined ? wake : () => this.#state !== 'running' && wake()
    })
  }

  /** Something may wait: take, do not block. */
  #sign(): void {
    this.#dry = false
    this.#signs += 1
  }

  #wakeUp(): void {
    this.#woken = true
    this.#wake?.()
  }

  // Maintenance

  async #refreshQueues(): Promise<void> {
    const names = this.options.queues ?? (await this.#queue.queueNames())
    const next = names.length > 0 ? names : [DEFAULT_QUEUE]
    if (next.length === this.#queueNames.length && next.every((name) => this.#queueNames.includes(name))) return
    this.#queueNames = next
    // The blocking read looks at the queues it was started with.
    this.#reader?.abort.abort()
    this.#sign()
    this.#wakeUp()
  }

  /** The next promotion, in an interval at the latest; an earlier one that is planned stays. */
  #schedulePromotion(dueInMs: number): void {
    if (this.#state !== 'running') return
    const waitMs = Math.min(dueInMs, this.options.intervalSeconds * 1_000)
    const atMs = systemClock.monotonicMs() + waitMs
    if (this.#promotion) {
      if (this.#promotion.atMs <= atMs) return
      systemClock.clearTimeout(this.#promotion.timer)
      this.#timers.delete(this.#promotion.timer)
    }
    const timer = this.#after(waitMs, () => {
      this.#promotion = undefined
      this.#inBackground(this.#promote())
    })
    this.#promotion = { timer, atMs }
  }

  async #promote(): Promise<void> {
    let dueInMs = Infinity
    try {
      if (!this.options.queues) await this.#refreshQueues()
      const { moved, dueInMs: next } = await this.#queue.promote(this.#queueNames)
      dueInMs = next ?? Infinity
      if (moved > 0) {
        this.#sign()
        this.#wakeUp()
      }
    } catch (error) {
      this.#failed(error)
    }
    this.#schedulePromotion(dueInMs)
  }

  async #reclaim(free: number): Promise<void> {
    const sentAtMs = systemClock.monotonicMs()
    const { begun, crashed, done } = await this.#queue.reclaim(free, { queueNames: this.#queueNames })
    // A pass cut short by the slots goes on when the next are free.
    this.#reclaimDue = !done
    if (begun.length > 0) this.#sign()
    this.#begin(begun, sentAtMs)
    if (crashed.length > 0) {
      this.#logger.error({ code: 'ERR_TASKS_ABANDONED', ids: crashed }, 'records failed: their workers died too often')
      if (this.backend.hasListeners('taskFinished')) this.#tellFinished(crashed)
    }
  }

  async #recover(): Promise<void> {
    // Its own list names what the blocking read was handed a moment ago, too: that read has to end first.
    this.#reader?.abort.abort()
    await this.#reader?.done
    const free = this.#free()
    if (free <= 0) return
    const sentAtMs = systemClock.monotonicMs()
    // Before the call: whatever fails meanwhile wants another one.
    this.#mustRecover = false
    const { begun } = await this.#queue.recover(free, new Set(this.#inHand.keys()), this.#queueNames)
    this.#begin(begun, sentAtMs)
  }

  async #sweep(): Promise<void> {
    if (this.#state !== 'running') return
    this.#mustRecover = true
    this.#reclaimDue = true
    this.#sign()
    this.#wakeUp()
    const finishedForMs = this.backend.limits.completedTaskTtlSeconds * 1_000
    const { deleted } = await purgeFinished(this.backend.storage, { finishedForMs })
    if (deleted > 0) this.#logger.info({ deleted }, 'finished records were removed; their retention ended')
    await this.backend.storage.sweep(this.options.claimIntervalSeconds * 1_000 * FORGET_AFTER_INTERVALS)
  }

  get #heartbeatMs(): number {
    return Math.min(HEARTBEAT_MS, this.options.claimIntervalSeconds * 1_000)
  }

  async #heartbeat(): Promise<void> {
    const { concurrency, queues } = this.options
    await this.backend.storage.heartbeat({
      consumer: this.#queue.consumer,
      fields: {
        workerId: this.workerId,
        host: hostname(),
        pid: String(process.pid),
        node: process.version,
        startedAt: String(this.#startedAt),
        state: this.#state,
        concurrency: String(concurrency),
        running: String(this.#inHand.size),
        settled: String(this.#settled),
        lost: String(this.#lost),
        queues: queues?.join(' ') ?? '',
        tasks: taskRegistry.names().slice(0, 1_000).join(' '),
        memoryBytes: String(process.memoryUsage.rss()),
      },
    })
  }

  #after(ms: number, act: () => unknown): ReturnType<typeof systemClock.setTimeout> {
    const timer = systemClock.setTimeout(() => {
      this.#timers.delete(timer)
      act()
    }, ms)
    this.#timers.add(timer)
    return timer
  }

  /** Every `ms`, jittered, so that workers started together do not come together. */
  #every(ms: number, act: () => Promise<void>): void {
    this.#after(jittered(ms), () => {
      const again = (): void => {
        if (this.#state !== 'stopped') this.#every(ms, act)
      }
      this.#inBackground(act().finally(again))
    })
  }

  // The end

  async #stop(): Promise<number> {
    this.#state = 'draining'
    await this.#starting?.catch(() => undefined)
    // One that was not started yet has nothing to finish.
    if (this.#suspect?.started === false) this.#inBackground(this.#handBack([this.#suspect]))
    const reader = this.#reader
    reader?.abort.abort()
    this.#wakeUp()
    await reader?.done
    await this.#loop
    this.#state = 'stopped'
    for (const timer of this.#timers) systemClock.clearTimeout(timer)
    this.#timers.clear()
    while (this.#background.size > 0) await Promise.all(this.#background)
    await this.#leases.stop()
    // The storage is away, and the time for it is over: the next sweep of others forgets this consumer.
    if (this.#gaveUp && this.#troubled) return this.#handedBack
    try {
      // What was delivered and never arrived goes back too; then nothing is left that keeps this consumer.
      await this.#queue.recover(0, new Set(), this.#queueNames)
      await this.#queue.forget()
    } catch (error) {
      this.#failed(error)
    }
    return this.#handedBack
  }

  /** The drain time is over. */
  #giveUp(): void {
    this.#gaveUp = true
    const hands = [...this.#inHand.values()].filter(
      (hand) => !hand.handedBack && !hand.closing && !this.#ended.some((ended) => ended.hand === hand),
    )
    for (const { attempt } of hands) attempt.handBack()
    if (hands.length > 0) this.#inBackground(this.#handBack(hands))
    this.#wakeUp()
  }

  #failed(error: unknown): void {
    const outage = error instanceof StorageUnavailableError
    const level = !outage ? 'error' : this.#troubled ? 'debug' : 'warn'
    if (outage) this.#troubled = true
    const code = error instanceof TaskError ? error.code : undefined
    this.#logger[level]({ code, error }, 'the worker met an error and goes on')
    this.#tell('error', error)
  }

  /** Each listener by itself: one that throws or rejects changes nothing. */
  #tell<Event extends keyof WorkerEvents>(event: Event, ...facts: WorkerEvents[Event]): void {
    for (const listener of this.rawListeners(event) as ((...facts: WorkerEvents[Event]) => unknown)[]) {
      const failed = (error: unknown): void => this.#logger.error({ event, error }, 'a listener of the worker failed')
      try {
        Promise.resolve(listener.apply(this, facts)).catch(failed)
      } catch (error) {
        failed(error)
      }
    }
  }
}

const leaseOf = ({ delivery }: InHand): Lease => delivery.lease

function* batches<T>(items: readonly T[]): Iterable<readonly T[]> {
  for (let start = 0; start < items.length; start += LEASE_BATCH) yield items.slice(start, start + LEASE_BATCH)
}
