/**
 * Effects of tasks, outside the server that a fault hits: for each record a plain count, and a value behind its fence, as a
 * store of the user's would keep it. A writer that was overtaken is refused there.
 */
import { Redis } from 'ioredis'
import { sharedRedisServer } from '../../support/redis-server.ts'

/** KEYS: counts, fences, values; ARGV: id, fence, value. The same text is sent by worker-child.mjs. */
export const APPLY_EFFECT = `
  redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
  if tonumber(ARGV[2]) < tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0') then return 0 end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
  return 1`

/** Where a child finds it; travels as JSON. */
export interface EffectsAt {
  readonly url: string
  readonly keys: readonly [counts: string, fences: string, values: string]
  readonly script: string
}

export class Effects {
  readonly at: EffectsAt
  readonly #redis: Redis

  private constructor(at: EffectsAt) {
    this.at = at
    this.#redis = new Redis(at.url)
  }

  static async open(prefix: string): Promise<Effects> {
    const { url } = await sharedRedisServer()
    return new Effects({
      url,
      keys: [`${prefix}:counts`, `${prefix}:fences`, `${prefix}:values`],
      script: APPLY_EFFECT,
    })
  }

  /** The value that stands behind the highest fence, by record. */
  async values(): Promise<ReadonlyMap<string, string>> {
    return new Map(Object.entries(await this.#redis.hgetall(this.at.keys[2])))
  }

  async close(): Promise<void> {
    await this.#redis.del(...this.at.keys)
    this.#redis.disconnect()
  }
}
