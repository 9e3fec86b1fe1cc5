/** Figures of queues in memory storage: what waits longest, and what ended by minute. Reads only. */
import { MINUTE_MS, minuteCountOf } from '../minute-counts.ts'
import type { MinuteOfStats } from '../minute-counts.ts'
import { BANDS } from '../storage.ts'
import type { Keyspace } from './keyspace.ts'

export function longestWaits(
  { queues, records }: Keyspace,
  queueNames: readonly string[],
  now: number,
): readonly (number | null)[] {
  return queueNames.map((queueName) => {
    const queue = queues.get(queueName)
    if (!queue) return null
    const dues: number[] = []
    for (const band of BANDS) {
      const entry = queue.streams[band].firstUndelivered()
      const record = entry && records.get(entry.id)
      if (!record) continue
      // A later attempt waits from when it was put back, which its entry tells.
      if (record.attempts > 0) dues.push(Number(entry.entryId.split('-')[0]))
      else dues.push(Math.max(record.enqueuedAt, record.runAfter ?? 0))
    }
    const delayed = queue.delayed.first()
    if (delayed && delayed.score <= now) dues.push(delayed.score)
    return dues.length === 0 ? null : Math.max(0, now - Math.min(...dues))
  })
}

export function readStats({ stats }: Keyspace, minutes: number, now: number): readonly MinuteOfStats[] {
  const running = Math.floor(now / MINUTE_MS)
  return Array.from({ length: minutes }, (_, index) => {
    const minute = running - minutes + 1 + index
    const counts = [...stats.read(minute)].flatMap(([field, count]) => minuteCountOf(field, String(count)) ?? [])
    return { from: minute * MINUTE_MS, counts }
  })
}
