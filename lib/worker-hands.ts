/**
 * The attempts that one worker has in hand: from their delivery until their settle or hand-back was answered.
 * Steps: known here or handed back, leases held, started (one that may be the killer alone), ended or handed back. Settles
 * nothing itself: what ended waits in `ended` for worker-outcomes.ts.
 */
import { Attempt } from './attempt.ts'
import type { LossReason } from './attempt.ts'
import { systemClock } from './clock.ts'
import { TaskCancelledError, TaskLeaseLostError } from './errors.ts'
import type { HeldLease } from './lease-keeper.ts'
import type { Delivery, Lease, RenewWord, Settlement } from './storage/storage.ts'
import { taskRegistry } from './task-registry.ts'
import { TurnoverMap } from './turnover-map.ts'
import { WorkerEarlyCancels } from './worker-early-cancels.ts'
import { WorkerHandBack } from './worker-hand-back.ts'
import type { WorkerParts } from './worker-parts.ts'

/** One delivery in hand. */
export interface InHand {
  readonly delivery: Delivery
  readonly attempt: Attempt
  /** The monotonic time before the request that granted its lease was sent. */
  sentAtMs: number
  /** When its function was called (monotonic); undefined before. */
  startedAtMs: number | undefined
  handedBack: boolean
  /** By a person: its record has its end already. */
  cancelled: boolean
  /** Its settle is sent: that answer is the verdict, and a lost lease means nothing any more. */
  closing: boolean
}

export interface Ended {
  readonly hand: InHand
  readonly settlement: Settlement
}

export class WorkerHands {
  /** Attempts that ended and wait for the next settle. */
  readonly ended: Ended[] = []
  readonly #parts: WorkerParts
  readonly #handBacks: WorkerHandBack
  readonly #inHand = new TurnoverMap<string, InHand>()
  readonly #earlyCancels = new WorkerEarlyCancels()
  readonly #toBeAlone: () => void
  #suspect: InHand | undefined

  /** @param toBeAlone told when one waits to run alone: nothing more may come. */
  constructor(parts: WorkerParts, toBeAlone: () => void) {
    this.#parts = parts
    this.#handBacks = new WorkerHandBack(parts)
    this.#toBeAlone = toBeAlone
  }

  get size(): number {
    return this.#inHand.size
  }

  get ids(): ReadonlySet<string> {
    return new Set(this.#inHand.keys())
  }

  /** Its crashes are at the limit: it runs alone, after everything else has ended, and until then nothing else begins. */
  get suspect(): InHand | undefined {
    return this.#suspect
  }

  /** Takes in what was begun for this worker, and starts it. `sentAtMs`: before the request that began it was sent. */
  begin(deliveries: readonly Delivery[], sentAtMs: number): void {
    const { backend, queue, state, news, errands } = this.#parts
    if (state.phase !== 'running') {
      // Asked for before the stop: nothing starts after it.
      errands.inBackground(this.#handBacks.requeue(deliveries.map(({ lease }) => lease)))
      return
    }
    const unknown: Delivery[] = []
    const hands: InHand[] = []
    for (const delivery of deliveries) {
      const { lease, record } = delivery
      if (this.#earlyCancels.take(lease)) {
        // It has its end already: nothing is left to start.
        news.tell('cancelled', { id: record.id, name: record.name })
        continue
      }
      const held = this.#inHand.get(lease.id)
      if (held) {
        // The same record by two ways: the newer token is the live one.
        if (record.fence <= held.delivery.record.fence) continue
        held.attempt.lose(new TaskLeaseLostError(lease.id))
        this.release([held])
      }
      const task = taskRegistry.find(record.name)
      if (task) {
        const attempt = new Attempt(backend, delivery, task, systemClock)
        const hand: InHand = {
          delivery,
          attempt,
          sentAtMs,
          startedAtMs: undefined,
          handedBack: false,
          cancelled: false,
          closing: false,
        }
        this.#inHand.set(lease.id, hand)
        hands.push(hand)
      } else {
        unknown.push(delivery)
      }
    }
    state.begun += hands.length
    if (hands.length > 0) state.saidIdle = false
    if (systemClock.monotonicMs() - sentAtMs < queue.leaseMs / 2) this.#startAll(hands)
    else if (hands.length > 0) errands.inBackground(this.#startRenewed(hands))
    if (unknown.length > 0) errands.inBackground(this.#handBacks.requeueUnknown(unknown))
  }

  /**
   * Starts the suspect once it has this worker to itself. While it waited it could not crash anything: only from `starts` on does
   * a crash of this worker count against its record. False when there was nothing to do.
   */
  async serveSuspect(): Promise<boolean> {
    const suspect = this.#suspect
    if (!suspect || !isUnstarted(suspect) || this.#inHand.size > 1) return false
    const lease = leaseOf(suspect)
    const [word] = await this.#parts.queue.renew([lease], { starts: true })
    if (!isUnstarted(suspect)) return true
    if (word === 'CANCELLED') this.cancel(lease)
    else if (word !== 'RENEWED') this.#leaseLost(suspect, new TaskLeaseLostError(lease.id))
    else {
      const { timeoutMs } = suspect.attempt.task
      // Its own limit counts from here on, not from when it began to wait.
      if (timeoutMs !== undefined) this.#parts.leases.hold([this.#heldLease(suspect, timeoutMs)])
      this.#start(suspect)
    }
    return true
  }

  /** The stop begins: one that was not started yet has nothing to finish. */
  handBackWaiting(): void {
    if (this.#suspect && this.#suspect.startedAtMs === undefined)
      this.#parts.errands.inBackground(this.#handBack([this.#suspect]))
  }

  /** The drain time is over: aborts what runs, and hands it back. */
  handBackRunning(): void {
    const hands = this.#inHand
      .values()
      .filter((hand) => !hand.handedBack && !hand.closing && !this.ended.some((ended) => ended.hand === hand))
    for (const { attempt } of hands) attempt.handBack()
    if (hands.length > 0) this.#parts.errands.inBackground(this.#handBack(hands))
  }

  /** Their settle was answered, or nothing more is written for them. */
  release(hands: readonly InHand[]): void {
    this.#parts.leases.release(hands.map(leaseOf))
    for (const hand of hands) {
      const { id } = hand.delivery.lease
      if (this.#inHand.get(id) === hand) this.#inHand.delete(id)
      if (this.#suspect === hand) this.#suspect = undefined
    }
  }

  /** Its token is no longer on the record: nothing was written. */
  noteLost({ delivery: { record }, cancelled }: InHand): void {
    if (!cancelled) this.#parts.state.lost += 1
    this.#parts.news.tell(cancelled ? 'cancelled' : 'leaseLost', { id: record.id, name: record.name })
  }

  /** A person cancelled an attempt, here or elsewhere. */
  cancel(attempt: Pick<Lease, 'id' | 'token'>): void {
    const hand = this.#inHand.get(attempt.id)
    if (hand?.delivery.lease.token === attempt.token) this.#leaseLost(hand, new TaskCancelledError())
    else if (this.#parts.queue.isOwn(attempt.token)) this.#earlyCancels.remember(attempt)
  }

  /** News of that may have been lost: asks whether what is in hand is still wanted. */
  async lookForCancelled(): Promise<void> {
    const hands = this.#inHand.values().filter(({ closing, handedBack }) => !closing && !handedBack)
    const words = await this.#parts.queue.renew(hands.map(leaseOf))
    for (const [index, hand] of hands.entries()) if (words[index] === 'CANCELLED') this.cancel(leaseOf(hand))
  }

  #startAll(hands: readonly InHand[]): void {
    if (hands.length === 0) return
    const { queue, leases, state, errands } = this.#parts
    const suspects = hands.filter(({ delivery: { record } }) => queue.isSuspect(record))
    const innocent = hands.filter((hand) => !suspects.includes(hand))
    const chosen = this.#suspect ? undefined : suspects[0]
    // One at a time: a second that waits here would die with the first, and that would be its last time.
    const others = suspects.filter((hand) => hand !== chosen)
    if (others.length > 0) {
      state.begun -= others.length
      errands.inBackground(this.#handBack(others))
    }
    // All leases are in good hands before the first function is called: it may block this loop.
    leases.hold(innocent.map((hand) => this.#heldLease(hand, hand.attempt.task.timeoutMs)))
    if (chosen) {
      this.#suspect = chosen
      leases.hold([this.#heldLease(chosen, undefined)])
      this.#toBeAlone()
      state.wakeUp()
    }
    for (const hand of innocent) this.#start(hand)
  }

  /** Their answer came late (the read waited, or this loop was blocked): somebody else may have them by now. */
  async #startRenewed(hands: readonly InHand[]): Promise<void> {
    const { queue, state } = this.#parts
    const sentAtMs = systemClock.monotonicMs()
    let words: readonly RenewWord[]
    try {
      words = await queue.renew(hands.map(leaseOf))
    } catch (error) {
      // They are still this consumer's own, and found in its own list.
      state.mustRecover = true
      state.begun -= hands.length
      this.release(hands)
      throw error
    } finally {
      state.wakeUp()
    }
    // Of those that were cancelled or handed back meanwhile nothing is left to do.
    const isHeld = (hand: InHand): boolean => this.#inHand.get(hand.delivery.lease.id) === hand
    const wanted = hands.filter(({ handedBack }) => !handedBack)
    const renewed = wanted.filter((hand) => words[hands.indexOf(hand)] === 'RENEWED' && isHeld(hand))
    const gone = wanted.filter((hand) => !renewed.includes(hand))
    const lost = gone.filter(isHeld)
    for (const hand of lost) hand.cancelled ||= words[hands.indexOf(hand)] === 'CANCELLED'
    state.begun -= gone.length
    this.release(lost)
    for (const hand of lost) this.noteLost(hand)
    for (const hand of renewed) hand.sentAtMs = sentAtMs
    if (state.phase === 'running') this.#startAll(renewed)
    else await this.#handBack(renewed)
  }

  #heldLease(hand: InHand, timeoutMs: number | undefined): HeldLease {
    return {
      lease: hand.delivery.lease,
      name: hand.delivery.record.name,
      sentAtMs: hand.sentAtMs,
      stopAtMs: timeoutMs === undefined ? Infinity : systemClock.monotonicMs() + timeoutMs,
      lose: (reason) => this.#leaseLost(hand, reason),
    }
  }

  #start(hand: InHand): void {
    const { backend, state, news, errands } = this.#parts
    const { delivery, attempt } = hand
    hand.startedAtMs = systemClock.monotonicMs()
    news.started(delivery.record)
    if (backend.hasListeners('taskStarted')) backend.emit('taskStarted', backend.result(delivery.record))
    attempt.start((ending) => {
      if (hand.handedBack || this.#inHand.get(delivery.lease.id) !== hand) return
      if ('cancelled' in ending) {
        this.#drop(hand)
        return
      }
      if ('requeue' in ending) {
        errands.inBackground(this.#handBack([hand]))
        return
      }
      this.ended.push({ hand, settlement: ending.settle })
      state.sign()
      state.wakeUp()
    })
  }

  #leaseLost(hand: InHand, reason: LossReason): void {
    if (hand.closing || hand.cancelled) return
    const { id, name } = hand.delivery.record
    hand.cancelled = reason instanceof TaskCancelledError
    const what = hand.cancelled ? 'a running task is cancelled' : 'the lease of a running task is lost'
    this.#parts.news.logger.warn({ code: reason.code, id, name }, `${what}; its signal is aborted`)
    hand.attempt.lose(reason)
    if (hand.startedAtMs !== undefined) return
    // It has nothing to finish.
    if (hand.cancelled) this.#drop(hand)
    else if (hand === this.#suspect) this.#parts.errands.inBackground(this.#handBack([hand]))
  }

  /** Its end is written already: nothing is left to do for it. */
  #drop(hand: InHand): void {
    this.noteLost(hand)
    this.release([hand])
    this.#parts.state.sign()
    this.#parts.state.wakeUp()
  }

  /** Uncounted by the record, but counted by `maxTasks`: it was begun here. */
  async #handBack(hands: readonly InHand[]): Promise<void> {
    for (const hand of hands) hand.handedBack = true
    try {
      const words = await this.#handBacks.requeue(hands.map(leaseOf))
      for (const [index, hand] of hands.entries()) {
        if (words[index] === 'LOST') this.noteLost(hand)
        else if (hand.startedAtMs !== undefined && words[index] === 'REQUEUED')
          this.#parts.news.ended(hand.delivery.record, 'READY')
      }
    } finally {
      // Unanswered: it is found in the own list, or its lease runs out and somebody takes over.
      this.release(hands)
      this.#parts.state.sign()
      this.#parts.state.wakeUp()
    }
  }
}

const isUnstarted = ({ startedAtMs, handedBack, cancelled }: InHand): boolean =>
  startedAtMs === undefined && !handedBack && !cancelled
const leaseOf = ({ delivery }: InHand): Lease => delivery.lease
