/** The counts of the last hour as the overview shows them: by queue and minute, and the times below which so many lie. */
import type { MinuteOfStats } from '../storage/minute-counts.ts'
import type { Percentiles } from './charts.ts'

export interface Totals {
  successful: number
  failed: number
}

export function perQueue(stats: readonly MinuteOfStats[]): ReadonlyMap<string, readonly Totals[]> {
  const queues = new Map<string, Totals[]>()
  stats.forEach(({ counts }, index) => {
    for (const { queueName, kind, count: ended } of counts) {
      if (kind === 'wait') continue
      const minutes = queues.get(queueName) ?? stats.map(() => ({ successful: 0, failed: 0 }))
      queues.set(queueName, minutes)
      const minute = minutes[index]
      if (minute) minute[kind === 'FAILED' ? 'failed' : 'successful'] += ended
    }
  })
  return queues
}

/** The upper bound of the bucket below which a part of the times lies. */
function percentile(buckets: readonly number[], part: number): number {
  const total = buckets.reduce((sum, each) => sum + each, 0)
  let seen = 0
  for (const [bucket, each] of buckets.entries()) {
    seen += each
    if (seen >= total * part) return 2 ** bucket
  }
  return 1
}

function bucketsOf(stats: readonly MinuteOfStats[], wait: boolean): readonly number[] {
  const buckets = Array.from({ length: 25 }, () => 0)
  for (const { counts } of stats) {
    for (const { kind, bucket, count: ended } of counts)
      if ((kind === 'wait') === wait) buckets[bucket] = (buckets[bucket] ?? 0) + ended
  }
  return buckets
}

/** Of waits and of runs, as far as there were any. */
export function percentilesOf(stats: readonly MinuteOfStats[]): readonly Percentiles[] {
  const measures = [
    { name: 'Wait', buckets: bucketsOf(stats, true) },
    { name: 'Run', buckets: bucketsOf(stats, false) },
  ].filter(({ buckets }) => buckets.some((each) => each > 0))
  return measures.map(({ name, buckets }) => ({
    name,
    p50: percentile(buckets, 0.5),
    p95: percentile(buckets, 0.95),
    p99: percentile(buckets, 0.99),
  }))
}
