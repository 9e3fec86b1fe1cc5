/**
 * Finished attempts counted by minute, queue, outcome and time taken, for 25 hours: what a throughput chart is drawn from.
 * The fields are those of `stats:<minute>` on Redis.
 */
import type { FinalStatus } from '../../task-status.ts'
import { bucketOf, MINUTE_MS } from '../minute-counts.ts'

const KEPT_MINUTES = 25 * 60

export interface FinishedAttempt {
  readonly queueName: string
  readonly outcome: FinalStatus
  readonly runMs: number
  /** From due to begun; `null` for a later attempt, whose wait says nothing of the queue. */
  readonly waitMs: number | null
}

export class MinuteStats {
  readonly #minutes = new Map<number, Map<string, number>>()

  count({ queueName, outcome, runMs, waitMs }: FinishedAttempt, now: number): void {
    const minute = Math.floor(now / MINUTE_MS)
    let fields = this.#minutes.get(minute)
    if (!fields) {
      for (const old of this.#minutes.keys()) if (old <= minute - KEPT_MINUTES) this.#minutes.delete(old)
      fields = new Map()
      this.#minutes.set(minute, fields)
    }
    const names = [`${queueName}:${outcome}:${bucketOf(runMs)}`]
    if (waitMs !== null) names.push(`${queueName}:wait:${bucketOf(waitMs)}`)
    for (const name of names) fields.set(name, (fields.get(name) ?? 0) + 1)
  }

  /** The counts of one minute (since the epoch), by field. */
  read(minute: number): ReadonlyMap<string, number> {
    return this.#minutes.get(minute) ?? new Map<string, number>()
  }
}
