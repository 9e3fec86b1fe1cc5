/** What the server and its records say once a run is over: outcomes by id, waiting times, slow calls, commands. */
import type { Redis } from 'ioredis'
import type { Keys } from '../../../lib/storage/redis/keys.ts'

/** The fields of a record that a verdict asks for; '' where one is missing. A first attempt writes no `attempts`, but a `fence`. */
export interface EndedRecord {
  readonly status: string
  readonly returnValue: string
  readonly enqueuedAt: number
  readonly runAfter: number
  readonly attempts: number
}

export interface ServerFigures {
  readonly records: ReadonlyMap<string, EndedRecord>
  readonly slowlogMaxMs: number
  /** Since the server started. */
  readonly commands: number
  readonly connectionsReceived: number
}

const FIELDS = ['status', 'returnValue', 'enqueuedAt', 'runAfter', 'attempts', 'fence'] as const

export async function serverFigures(redis: Redis, keys: Keys, ids: readonly string[]): Promise<ServerFigures> {
  const records = new Map<string, EndedRecord>()
  for (let start = 0; start < ids.length; start += 1_000) {
    const batch = ids.slice(start, start + 1_000)
    const pipeline = redis.pipeline()
    for (const id of batch) pipeline.hmget(keys.record(id), ...FIELDS)
    const replies = (await pipeline.exec()) ?? []
    batch.forEach((id, index) => {
      const values = (replies[index]?.[1] ?? []) as (string | null)[]
      const [status, returnValue, enqueuedAt, runAfter, attempts, fence] = values
      if (!status) return
      records.set(id, {
        ...{ status, returnValue: returnValue ?? '', enqueuedAt: Number(enqueuedAt) },
        ...{ runAfter: Number(runAfter ?? ''), attempts: Number(attempts ?? (fence ? 1 : 0)) },
      })
    })
  }
  const slow = (await redis.slowlog('GET', -1)) as [id: number, at: number, us: number, ...rest: unknown[]][]
  const info = await redis.info('everything')
  const calls = [...info.matchAll(/^cmdstat_(?!evalsha|eval\b)[^:]*:calls=(\d+)/gm)]
  return {
    records,
    slowlogMaxMs: Math.max(0, ...slow.map(([, , us]) => us / 1_000)),
    commands: calls.reduce((sum, [, count]) => sum + Number(count), 0),
    connectionsReceived: Number(/total_connections_received:(\d+)/.exec(info)?.[1] ?? 0),
  }
}

/** Of several shards: nodes that hold more than one are counted as often. */
export function togetherOf(all: readonly ServerFigures[]): ServerFigures {
  const sum = (figure: (one: ServerFigures) => number): number => all.reduce((total, one) => total + figure(one), 0)
  return {
    records: new Map(all.flatMap(({ records }) => [...records])),
    slowlogMaxMs: Math.max(0, ...all.map(({ slowlogMaxMs }) => slowlogMaxMs)),
    commands: sum(({ commands }) => commands),
    connectionsReceived: sum(({ connectionsReceived }) => connectionsReceived),
  }
}

/** The value that so many of all are not above; NaN of none. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
}
