/** RedisTaskBackend: records, streams and index on Redis or Valkey. Checks its options, makes its storage, nothing else. */
import { silentLogger } from '../logger.ts'
import { anything, checkOptions, flag, integer, text } from '../options.ts'
import type { Leases } from '../lease-keeper.ts'
import { driverOptions, faultOfUrl } from '../storage/redis/redis-client.ts'
import type { RedisClientLike, RedisSettings, ServerSettings } from '../storage/redis/redis-client.ts'
import { openRedis } from '../storage/sharded/redis-shards.ts'
import type { StreamQueue } from '../stream-queue.ts'
import { limitsOf, STORAGE_BACKEND_OPTIONS } from './backend-options.ts'
import type { StorageBackendOptions } from './backend-options.ts'
import { StorageTaskBackend } from './storage-task-backend.ts'
import { ThreadedLeases } from './threaded-leases.ts'
import type { LeaseThreadData } from './threaded-leases.ts'

/** The seed of all: where the server is when nothing says otherwise. */
const DEFAULT_URL = 'redis://localhost:6379/0'

export const REDIS_BACKEND_OPTIONS = Object.freeze({
  ...STORAGE_BACKEND_OPTIONS,
  redisUrl: text({
    pattern: /^(rediss?|valkeys?|unix):\/\/\S*$/,
    maxLength: 2_000,
    shape: 'a redis://, rediss://, valkey://, valkeys:// or unix:// URL',
    fault: faultOfUrl,
    description: `where the server is; ${DEFAULT_URL} when left out`,
  }),
  redisHost: text({ maxLength: 255, description: 'host, in place of that of the URL' }),
  redisPort: integer({ min: 1, max: 65_535, description: 'port, in place of that of the URL' }),
  redisDb: integer({ min: 0, max: 65_535, description: 'database number, in place of that of the URL' }),
  redisUsername: text({ maxLength: 500, description: 'ACL user, in place of that of the URL' }),
  redisPassword: text({ maxLength: 5_000, secret: true, description: 'password, in place of that of the URL' }),
  redisSsl: flag({ description: 'TLS' }),
  client: anything({
    shape: 'a client of ioredis or iovalkey',
    is: (value): value is RedisClientLike =>
      (typeof value === 'object' || typeof value === 'function') && value !== null && 'duplicate' in value,
    description: "the caller's client: it is duplicated, never used or closed",
  }),
  keyPrefix: text({
    pattern: /^[A-Za-z0-9_.-]{1,64}$/,
    default: 'express_tasks',
    description: 'first part of every key',
  }),
  consumerGroup: text({
    pattern: /^[A-Za-z0-9_.:-]{1,128}$/,
    default: 'express_tasks_workers',
    description: 'consumer group of the streams',
  }),
  shards: integer({
    min: 1,
    max: 64,
    default: 1,
    description: 'hash tags that records are spread over by id, for a cluster; the same in every process',
  }),
})

export interface RedisBackendOptions extends StorageBackendOptions, RedisSettings {
  readonly client?: RedisClientLike | undefined
  readonly keyPrefix?: string | undefined
  readonly consumerGroup?: string | undefined
  readonly shards?: number | undefined
}

export class RedisTaskBackend extends StorageTaskBackend {
  readonly #server: ServerSettings | undefined
  readonly #thread: Pick<LeaseThreadData, 'keyPrefix' | 'alias' | 'consumerGroup' | 'shards'>

  /** @throws TaskOptionError an option is unknown or out of range. Nothing is connected before the first use. */
  constructor(options: RedisBackendOptions = {}) {
    const checked = checkOptions('options', REDIS_BACKEND_OPTIONS, options)
    const logger = checked.logger ?? silentLogger
    const { client, keyPrefix, alias, consumerGroup, shards } = checked
    const server = client
      ? { client }
      : driverOptions(checked.redisHost === undefined ? { redisUrl: DEFAULT_URL, ...checked } : checked)
    const redis = openRedis({ server, keyPrefix, alias, consumerGroup, shards, logger })
    super({ alias, queues: checked.queues, logger, retry: checked.retry }, redis.storage, limitsOf(checked))
    this.#server = redis.server
    this.#thread = { keyPrefix, alias, consumerGroup, shards }
  }

  /** Renewed by a thread with a connection of its own, so that a task that blocks this event loop keeps its lease. */
  override openLeases(queue: StreamQueue): Leases {
    if (!this.#server) return super.openLeases(queue)
    const { consumer, leaseMs } = queue
    return new ThreadedLeases({ ...this.#thread, server: this.#server, consumer, leaseMs }, this.logger)
  }
}
