/**
 * The storage of a Redis backend: one RedisStorage, or so many of them over the connections of one, each under a hash tag of
 * its own. Says which; decides nothing else.
 */
import { RedisLink } from '../redis/redis-link.ts'
import type { ServerSettings } from '../redis/redis-client.ts'
import { RedisStorage } from '../redis/redis-storage.ts'
import type { RedisStorageOptions } from '../redis/redis-storage.ts'
import type { Storage } from '../storage.ts'
import { ShardedStorage } from './sharded-storage.ts'

export interface ShardedRedisOptions extends RedisStorageOptions {
  /** 1..64. With 1 the keys carry no number. */
  readonly shards: number
}

export interface OpenedRedis {
  readonly storage: Storage
  /** The same server for another thread; undefined when that is not possible. */
  readonly server: ServerSettings | undefined
}

/** Opens nothing yet: connections are made at their first use. */
export function openRedis({ shards, ...options }: ShardedRedisOptions): OpenedRedis {
  if (shards === 1) {
    const storage = new RedisStorage(options)
    return { storage, server: storage.server }
  }
  const links = RedisLink.shards(options, shards)
  return {
    storage: new ShardedStorage(
      links.map((link) => new RedisStorage(link)),
      options.logger,
    ),
    server: links[0]?.factory.settings,
  }
}
