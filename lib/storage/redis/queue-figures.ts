/**
 * Figures of queues on Redis: what waits longest, and what ended by minute. Reads the heads of streams and the hashes that
 * settle writes, each in one pipeline; never a whole stream, cell or record set.
 */
import { MINUTE_MS, minuteCountOf } from '../minute-counts.ts'
import type { MinuteOfStats } from '../minute-counts.ts'
import { BANDS } from '../storage.ts'
import type { Keys } from './keys.ts'
import { readAll, textsOf } from './pipeline.ts'
import type { RedisConnection } from './redis-client.ts'

/** The time of the server; on a cluster, of the node that has the key, whose clock wrote what it is compared with. */
export async function timeBeside(client: RedisConnection, key: string): Promise<number> {
  const [reply] = client.isCluster
    ? await readAll(client, (pipeline) => pipeline.time().zcard(key))
    : [(await client.time()) as string[]]
  const [seconds = '0', micros = '0'] = reply as string[]
  return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000)
}

/** The id after this one: an exclusive range needs a server of 6.2. */
function following(entryId: string): string {
  const [ms = '0', sequence = '0'] = entryId.split('-')
  return /^\d+$/.test(sequence) ? `${ms}-${BigInt(sequence) + 1n}` : '-'
}

interface Head {
  readonly queueName: string
  readonly entryId: string
  readonly id: string
}

export async function longestWaits(
  client: RedisConnection,
  keys: Keys,
  group: string,
  queueNames: readonly string[],
): Promise<readonly (number | null)[]> {
  if (queueNames.length === 0) return []
  const streams = queueNames.flatMap((queueName) =>
    BANDS.map((band) => ({ queueName, key: keys.stream(queueName, band) })),
  )
  const [nowMs, groups, delayed] = await Promise.all([
    timeBeside(client, keys.leases),
    // The mock has no groups: there every entry is undelivered.
    group === ''
      ? []
      : readAll(client, (pipeline) => {
          for (const { key } of streams) pipeline.xinfo('GROUPS', key)
        }),
    readAll(client, (pipeline) => {
      for (const queueName of queueNames) pipeline.zrange(keys.delayed(queueName), '0', '0', 'WITHSCORES')
    }),
  ])
  const entries = await readAll(client, (pipeline) => {
    streams.forEach(({ key }, index) => {
      const rows = ((groups[index] ?? []) as unknown[]).map(textsOf)
      const last = rows.find(({ name }) => name === group)?.['last-delivered-id']
      pipeline.xrange(key, last === undefined ? '-' : following(last), '+', 'COUNT', '1')
    })
  })
  const heads = streams.flatMap(({ queueName }, index): Head[] => {
    const [entry] = (entries[index] ?? []) as [string, string[]][]
    return entry ? [{ queueName, entryId: entry[0], id: entry[1][1] ?? '' }] : []
  })
  const rows = await readAll(client, (pipeline) => {
    for (const { id } of heads) pipeline.hmget(keys.record(id), 'enqueuedAt', 'runAfter', 'attempts', 'fence')
  })
  const oldest = new Map<string, number>()
  const note = (queueName: string, dueMs: number): void => {
    if (dueMs > 0) oldest.set(queueName, Math.min(dueMs, oldest.get(queueName) ?? Infinity))
  }
  heads.forEach(({ queueName, entryId }, index) => {
    const [enqueuedAt, runAfter, attempts, fence] = (rows[index] ?? []) as (string | null)[]
    // A later attempt waits from when it was put back, which its entry tells. The first one writes no `attempts`, but a fence.
    if (Number(attempts ?? fence) > 0 || !Number(enqueuedAt)) note(queueName, Number(entryId.split('-')[0]))
    else note(queueName, Math.max(Number(enqueuedAt), Number(runAfter)))
  })
  queueNames.forEach((queueName, index) => {
    const [, score] = (delayed[index] ?? []) as string[]
    if (score !== undefined && Number(score) <= nowMs) note(queueName, Number(score))
  })
  return queueNames.map((queueName) => {
    const dueMs = oldest.get(queueName)
    return dueMs === undefined ? null : Math.max(0, nowMs - dueMs)
  })
}

export async function readStats(
  client: RedisConnection,
  keys: Keys,
  minutes: number,
): Promise<readonly MinuteOfStats[]> {
  const running = Math.floor((await timeBeside(client, keys.leases)) / MINUTE_MS)
  const first = running - minutes + 1
  const hashes = await readAll(client, (pipeline) => {
    for (let minute = first; minute <= running; minute++) pipeline.hgetall(keys.stats(minute))
  })
  return hashes.map((hash, index) => {
    const counts = Object.entries(textsOf(hash)).flatMap(([name, count]) => minuteCountOf(name, count) ?? [])
    return { from: (first + index) * MINUTE_MS, counts }
  })
}
