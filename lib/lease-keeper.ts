/**
 * Keeps the leases of running attempts: renews them every 0.3 of their length, and aborts the attempt whose lease is lost.
 * Moves no record. The deadline is counted on the process's own monotonic clock, from before the request that granted it was
 * sent, so a worker that was frozen or cut off knows that it lost before anyone else can have begun.
 */
import type { Clock } from './clock.ts'
import { TaskError, TaskLeaseLostError } from './errors.ts'
import type { Logger } from './logger.ts'
import type { Lease } from './storage/storage.ts'

/** The part of a lease after which it is renewed. */
const RENEW_AFTER = 0.3
const BATCH = 100

/** Whoever can renew: a StreamQueue, or the storage of a thread that does nothing else. */
export interface Renewer {
  readonly leaseMs: number
  renew(leases: readonly Lease[]): Promise<readonly ('RENEWED' | 'LOST' | 'BROKEN')[]>
}

/** One lease to be kept. */
export interface HeldLease {
  readonly lease: Lease
  /** The monotonic time before the request that began the attempt was sent. */
  readonly sentAtMs: number
  /** The attempt's own limit: past it the lease is left to run out. */
  readonly timeoutMs: number | undefined
  /** Called at most once, and only while the lease is held. */
  readonly lose: (reason: TaskLeaseLostError) => void
}

/** Keeps leases, wherever that happens. */
export interface Leases {
  /** Keeps them until they are released. */
  hold(leases: readonly HeldLease[]): void
  /** Their settle or hand-back was answered. */
  release(leases: readonly Lease[]): void
  /** Keeps none any more; those that are held run out. May be called twice. */
  stop(): Promise<void>
}

interface Kept {
  readonly held: HeldLease
  deadlineMs: number
  /** On the monotonic clock; past it the lease is no longer renewed. */
  readonly stopAtMs: number
  lost: boolean
}

/** A token names one attempt of one record; an id may be here under two tokens for a moment. */
const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

export class LeaseKeeper implements Leases {
  readonly #renewer: Renewer
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #kept = new Map<string, Kept>()
  #timer: ReturnType<Clock['setTimeout']> | undefined
  #renewing = false

  constructor(renewer: Renewer, clock: Clock, logger: Logger) {
    this.#renewer = renewer
    this.#clock = clock
    this.#logger = logger
  }

  hold(leases: readonly HeldLease[]): void {
    const now = this.#clock.monotonicMs()
    for (const held of leases) {
      const kept: Kept = {
        held,
        deadlineMs: held.sentAtMs + this.#renewer.leaseMs,
        stopAtMs: held.timeoutMs === undefined ? Infinity : now + held.timeoutMs,
        lost: false,
      }
      this.#kept.set(keyOf(held.lease), kept)
    }
    // A begin whose answer took long is renewed at once: most of its lease may be over.
    const late = leases.some(({ sentAtMs }) => now - sentAtMs > this.#renewer.leaseMs * RENEW_AFTER)
    this.#schedule(late ? 0 : this.#renewer.leaseMs * RENEW_AFTER)
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
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #schedule(ms: number): void {
    if (this.#timer !== undefined || this.#kept.size === 0) return
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = undefined
      void this.#renew()
    }, ms)
  }

  async #renew(): Promise<void> {
    if (this.#renewing) return
    this.#renewing = true
    const startedMs = this.#clock.monotonicMs()
    try {
      for (const kept of this.#kept.values()) if (kept.deadlineMs <= startedMs) this.#lose(kept)
      const due = [...this.#kept.values()].filter((kept) => !kept.lost && kept.stopAtMs > startedMs)
      for (let start = 0; start < due.length; start += BATCH) await this.#renewBatch(due.slice(start, start + BATCH))
    } catch (error) {
      // The deadline decides: until then the next turn may still make it.
      const facts = { code: error instanceof TaskError ? error.code : undefined, leases: this.#kept.size, error }
      this.#logger.warn(facts, 'leases could not be renewed; trying again')
    } finally {
      this.#renewing = false
      const tookMs = this.#clock.monotonicMs() - startedMs
      this.#schedule(Math.max(0, this.#renewer.leaseMs * RENEW_AFTER - tookMs))
    }
  }

  async #renewBatch(batch: readonly Kept[]): Promise<void> {
    const sentAtMs = this.#clock.monotonicMs()
    const words = await this.#renewer.renew(batch.map(({ held }) => held.lease))
    batch.forEach((kept, index) => {
      if (words[index] === 'RENEWED') kept.deadlineMs = sentAtMs + this.#renewer.leaseMs
      else this.#lose(kept)
    })
  }

  #lose(kept: Kept): void {
    // Released meanwhile: its settle was answered, and that answer was the verdict.
    if (kept.lost || this.#kept.get(keyOf(kept.held.lease)) !== kept) return
    kept.lost = true
    kept.held.lose(new TaskLeaseLostError(kept.held.lease.id))
  }
}
