/**
 * Keeps the leases of running attempts: renews them every 0.3 of their length, and aborts the attempt whose lease is lost.
 * Moves no record. The deadline is counted on the process's own monotonic clock, from before the request that granted it was
 * sent, so a worker that was frozen or cut off knows that it lost before anyone else can have begun.
 */
import { batchesOf } from './batches.ts'
import type { Clock } from './clock.ts'
import { TaskCancelledError, TaskError, TaskLeaseLostError } from './errors.ts'
import type { LossReason } from './attempt.ts'
import type { Logger } from './logger.ts'
import { CALL_LIMITS } from './storage/storage.ts'
import type { Lease, RenewWord } from './storage/storage.ts'
import type { PastBlock, WorkerReport } from './worker-report.ts'

/** The part of a lease after which it is renewed. */
export const RENEW_AFTER = 0.3

/** Whoever can renew: a StreamQueue, or the storage of a thread that does nothing else. */
export interface Renewer {
  readonly leaseMs: number
  renew(leases: readonly Lease[]): Promise<readonly RenewWord[]>
}

/** One lease to be kept. */
export interface HeldLease {
  readonly lease: Lease
  /** Of the task, for those who are told what blocks a worker. */
  readonly name: string
  /** The monotonic time before the request that began the attempt was sent. */
  readonly sentAtMs: number
  /** On the monotonic clock, past which the lease is left to run out: the attempt's own limit, or Infinity. */
  readonly stopAtMs: number
  /** Called at most once, and only while the lease is held. */
  readonly lose: (reason: LossReason) => void
}

/** Keeps leases, wherever that happens. */
export interface Leases {
  /** Resolves when the first lease need not wait for anything any more. May be called twice, or never. */
  start(): Promise<void>
  /** Keeps them until they are released. One that is kept already gets the new limit. */
  hold(leases: readonly HeldLease[]): void
  /** Their settle or hand-back was answered. */
  release(leases: readonly Lease[]): void
  /** Keeps none any more; those that are held run out. May be called twice. */
  stop(): Promise<void>
  /** What the worker last said of itself: repeated for it while a function blocks its event loop. Not where nobody can. */
  noteReport?(report: WorkerReport): void
  /** The longest block of the last ten minutes. */
  readonly longestBlock?: PastBlock | undefined
}

interface Kept {
  readonly held: HeldLease
  deadlineMs: number
  lost: boolean
}

/** A token names one attempt of one record; an id may be here under two tokens for a moment. */
const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

export class LeaseKeeper implements Leases {
  readonly #renewer: Renewer
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #kept = new Map<string, Kept>()
  readonly #renewal: Alarm
  readonly #deadline: Alarm
  #renewing = false

  constructor(renewer: Renewer, clock: Clock, logger: Logger) {
    this.#renewer = renewer
    this.#clock = clock
    this.#logger = logger
    this.#renewal = new Alarm(clock, () => void this.#renew())
    this.#deadline = new Alarm(clock, () => this.#loseOverdue())
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  hold(leases: readonly HeldLease[]): void {
    if (leases.length === 0) return
    const { leaseMs } = this.#renewer
    let earliestMs = Infinity
    for (const held of leases) {
      const key = keyOf(held.lease)
      const known = this.#kept.get(key)
      const deadlineMs = Math.max(known?.deadlineMs ?? 0, held.sentAtMs + leaseMs)
      this.#kept.set(key, { held, deadlineMs, lost: known?.lost ?? false })
      earliestMs = Math.min(earliestMs, deadlineMs)
    }
    // Counted from before the begin was sent: one whose answer took long is renewed at once, as most of its lease may be over.
    this.#renewal.at(earliestMs - leaseMs * (1 - RENEW_AFTER))
    this.#deadline.at(earliestMs)
  }

  release(leases: readonly Lease[]): void {
    for (const lease of leases) this.#kept.delete(keyOf(lease))
    if (this.#kept.size === 0) this.#clear()
  }

  stop(): Promise<void> {
    this.#kept.clear()
    this.#clear()
    return Promise.resolve()
  }

  #clear(): void {
    this.#renewal.clear()
    this.#deadline.clear()
  }

  async #renew(): Promise<void> {
    if (this.#renewing) return
    this.#renewing = true
    const startedMs = this.#clock.monotonicMs()
    try {
      this.#loseOverdue()
      const due = [...this.#kept.values()].filter(({ lost, held }) => !lost && held.stopAtMs > startedMs)
      for (const batch of batchesOf(due, CALL_LIMITS.moves)) await this.#renewBatch(batch)
    } catch (error) {
      // The deadline decides: until then the next turn may still make it.
      const facts = { code: error instanceof TaskError ? error.code : undefined, leases: this.#kept.size, error }
      this.#logger.warn(facts, 'leases could not be renewed; trying again')
    } finally {
      this.#renewing = false
      if (this.#kept.size > 0) this.#renewal.at(startedMs + this.#renewer.leaseMs * RENEW_AFTER)
    }
  }

  /** Whoever is past its deadline is lost, also while a renewal still waits for its answer. */
  #loseOverdue(): void {
    const now = this.#clock.monotonicMs()
    let earliestMs = Infinity
    for (const kept of this.#kept.values()) {
      if (kept.lost) continue
      if (kept.deadlineMs <= now) this.#lose(kept)
      else earliestMs = Math.min(earliestMs, kept.deadlineMs)
    }
    this.#deadline.at(earliestMs)
  }

  async #renewBatch(batch: readonly Kept[]): Promise<void> {
    const sentAtMs = this.#clock.monotonicMs()
    const words = await this.#renewer.renew(batch.map(({ held }) => held.lease))
    batch.forEach((kept, index) => {
      if (words[index] === 'RENEWED') kept.deadlineMs = sentAtMs + this.#renewer.leaseMs
      else this.#lose(kept, words[index])
    })
  }

  #lose(kept: Kept, word: RenewWord = 'LOST'): void {
    // Released meanwhile: its settle was answered, and that answer was the verdict.
    if (kept.lost || this.#kept.get(keyOf(kept.held.lease)) !== kept) return
    kept.lost = true
    kept.held.lose(lossOf(kept.held.lease, word))
  }
}

/** What a renewal that was refused says. */
export function lossOf({ id }: Lease, word: RenewWord): LossReason {
  return word === 'CANCELLED' ? new TaskCancelledError() : new TaskLeaseLostError(id)
}

/** One timer that can only be moved to an earlier time, until it has fired. */
class Alarm {
  readonly #clock: Clock
  readonly #ring: () => void
  #timer: ReturnType<Clock['setTimeout']> | undefined
  #atMs = Infinity

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock
    this.#ring = ring
  }

  at(atMs: number): void {
    if (atMs >= this.#atMs) return
    this.clear()
    this.#atMs = atMs
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = undefined
      this.#atMs = Infinity
      this.#ring()
    }, atMs - this.#clock.monotonicMs())
  }

  clear(): void {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer)
    this.#timer = undefined
    this.#atMs = Infinity
  }
}
