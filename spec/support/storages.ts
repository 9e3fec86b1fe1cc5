/**
 * Every storage and client that the contract runs over, and what each cannot do, by the name of the case and its reason.
 * A test gets a storage of its own: memory with a clock that the test moves, or Redis under a key prefix of its own on the
 * one shared server. A gap is shown as a pending case with its reason; a gap that names no case fails (gaps.spec.ts).
 */
import { randomUUID } from 'node:crypto'
import { Cluster as Cluster5, Redis as IoRedis5 } from 'ioredis'
import { Cluster as Cluster6, Redis as IoRedis6 } from 'ioredis6'
import { Cluster as ClusterOfIoValkey, Redis as IoValkey } from 'iovalkey'
import { StorageUnavailableError } from '../../lib/errors.ts'
import { MemoryStorage } from '../../lib/storage/memory/memory-storage.ts'
import { Keys, rootOf } from '../../lib/storage/redis/keys.ts'
import type { RedisClientLike } from '../../lib/storage/redis/redis-client.ts'
import { openRedis } from '../../lib/storage/sharded/redis-shards.ts'
import { ShardedStorage } from '../../lib/storage/sharded/sharded-storage.ts'
import { shardOf } from '../../lib/storage/sharded/shards.ts'
import type { Storage, StreamName } from '../../lib/storage/storage.ts'
import { makeDocumentedUser } from './acl-user.ts'
import { ManualClock } from './manual-clock.ts'
import { sharedRedisCluster } from './redis-cluster.ts'
import { sharedRedisServer } from './redis-server.ts'

const GROUP = 'express_tasks_workers'

/** What a test may do behind the storage's back: the traces of a crash, and foreign keys. */
export interface RawAccess {
  /** Puts something where the record was that is no record. */
  damage(id: string): Promise<void>
  /** Hands undelivered entries to a consumer that dies before it begins one. */
  deliver(consumer: string, stream: StreamName, count: number): Promise<void>
  /** Removes a queue's consumer groups, with all that they knew of deliveries. */
  destroyGroups(queueName: string): Promise<void>
  /** Removes every lease row, as a server does that lost its last second. */
  loseLeases(): Promise<void>
}

export interface OpenStorage {
  readonly storage: Storage
  readonly raw: RawAccess
  /** Lets time pass: moves the clock of memory; on a server time passes by itself, so ask with `eventually`. */
  elapse(ms: number): void
  close(): Promise<void>
}

export interface StorageUnderTest {
  readonly name: string
  /** Why a case cannot run here, by its name. */
  readonly gaps: Readonly<Record<string, string>>
  open(): Promise<OpenStorage>
}

const ONE_STEP = 'memory delivers and begins in one step: no entry is ever delivered and not begun'
const NO_FOREIGN_WRITES = 'nobody but the storage writes to its memory'

/** The cases that need a hand in the storage: memory has no place where one could reach in. */
const MEMORY_GAPS: Readonly<Record<string, string>> = {
  'reports a record that cannot be read and reads the others': NO_FOREIGN_WRITES,
  'answers BROKEN for a record that cannot be read and goes on with the others': NO_FOREIGN_WRITES,
  'passes over the entry of a record that cannot be read': NO_FOREIGN_WRITES,
  'moves a delivered entry to another band, so that the old delivery begins nothing': ONE_STEP,
  'deletes a record whose entry was delivered but not begun': ONE_STEP,
  'begins what the consumer was handed but never began': ONE_STEP,
  'hands back, beyond its count, what the consumer was handed but never began': ONE_STEP,
  'hands back a delivery that was not begun, to the end of its band': ONE_STEP,
  'begins an idle delivery that its consumer never began, without counting a crash': ONE_STEP,
  'leaves a delivery alone that has not been idle for long enough': ONE_STEP,
  'walks the pending list page by page while deliveries are taken over': ONE_STEP,
  'makes a lost consumer group anew, and nothing runs twice': NO_FOREIGN_WRITES,
  'finds an attempt whose lease row is lost by its idle delivery': NO_FOREIGN_WRITES,
}

const NO_ORDER = 'an order holds within a shard, and these records are on several'
const NO_ONE_TIME = 'a batch is stored by one call for each shard, at its own time'
const NO_ONE_PAGE = 'a page of each shard makes one page; sharded-storage.spec.ts walks them'

/** The cases that compare records of several shards; sharded-storage.spec.ts says what holds there. */
const SHARD_GAPS: Readonly<Record<string, string>> = {
  'empties high before normal before low over all queues, each in the order in which it was filled': NO_ORDER,
  'looks at the queues in the order given within a band': NO_ORDER,
  'takes further entries when the same call is sent again; the first stay with their tokens': NO_ORDER,
  'stores a thousand records in one call, in their order': NO_ORDER,
  'keeps the place of a record whose priority stays in its band': NO_ORDER,
  'moves a record to the band of its new priority': NO_ORDER,
  'puts the record at the end of its band': NO_ORDER,
  'hands back a delivery that was not begun, to the end of its band': NO_ORDER,
  'passes over the entry of a record that cannot be read': NO_ORDER,
  'gives each record an entry in the band of its priority, and keeps its time': NO_ORDER,
  'shows those between two times, both included, newest first': NO_ONE_TIME,
  'shows those between two times, both included, oldest first': NO_ONE_TIME,
  'moves due records in pages of a hundred, nothing twice': NO_ONE_PAGE,
  'walks the pending list of a stream to its end, a page at a time': NO_ONE_PAGE,
}

const refuse = (): Promise<void> => Promise.reject(new Error('expected a gap in MEMORY_GAPS for this case, got: none'))
const refusing: RawAccess = { damage: refuse, deliver: refuse, destroyGroups: refuse, loseLeases: refuse }

const memory: StorageUnderTest = {
  name: 'memory',
  gaps: MEMORY_GAPS,
  open() {
    const clock = new ManualClock()
    const storage = new MemoryStorage({ clock })
    return Promise.resolve({
      storage,
      raw: refusing,
      elapse: (ms) => clock.advance(ms),
      close: () => storage.close(),
    })
  },
}

/** The same work over several storages: whatever one of them can do, except an order among records of several. */
const memoryShards: StorageUnderTest = {
  name: 'memory, 3 shards',
  gaps: { ...MEMORY_GAPS, ...SHARD_GAPS },
  open() {
    const clock = new ManualClock()
    const shards = [0, 1, 2].map(() => new MemoryStorage({ clock }))
    const storage = new ShardedStorage(shards)
    return Promise.resolve({
      storage,
      raw: refusing,
      elapse: (ms) => clock.advance(ms),
      close: () => storage.close(),
    })
  },
}

/** The storages duplicate a client of the caller's and never use it, so these are not even connected. */
const unused = { lazyConnect: true }

const users = new Map<string, Promise<string>>()

/** The same server as the user of docs/redis-keys.md; as ourselves where a server has no ACL. */
async function urlOfDocumentedUser(url: string): Promise<string> {
  const made = users.get(url) ?? makeUser(url)
  users.set(url, made)
  return await made
}

async function makeUser(url: string): Promise<string> {
  const client = new IoRedis5(url)
  try {
    const user = { name: 'contract', password: randomUUID(), keyPrefix: 'spec-acl-*' }
    const isMade = await makeDocumentedUser(client, user)
    return isMade ? url.replace('//', `//${user.name}:${user.password}@`) : url
  } finally {
    client.disconnect()
  }
}

type Connect = (url: string) => RedisClientLike

interface RedisVariant {
  /** False is the path for servers before 6.0; a server of today answers on it, too. */
  readonly scriptedReads?: boolean
  readonly shards?: number
  /** As the user of docs/redis-keys.md, who may do nothing but what is written there. */
  readonly leastPrivilege?: boolean
}

function redis(
  name: string,
  connect: Connect,
  { shards = 1, leastPrivilege = false, ...options }: RedisVariant = {},
): StorageUnderTest {
  return {
    name: `redis (${name})`,
    gaps: shards === 1 ? {} : SHARD_GAPS,
    async open() {
      const { url } = await sharedRedisServer()
      const client = connect(leastPrivilege ? await urlOfDocumentedUser(url) : url)
      return openOn(client, new IoRedis5(url, unused), { shards, leastPrivilege, ...options })
    },
  }
}

type Nodes = { host: string; port: number }[]

/** Three masters; keys of one root share a slot there, so nothing else changes. */
function cluster(name: string, connect: (nodes: Nodes) => RedisClientLike, shards: number): StorageUnderTest {
  return {
    name: `cluster (${name}, ${shards} shards)`,
    gaps: shards === 1 ? {} : SHARD_GAPS,
    async open() {
      const { startNodes } = await sharedRedisCluster()
      return openOn(connect(startNodes), new Cluster5(startNodes, unused), { shards })
    },
  }
}

function openOn(
  client: RedisClientLike,
  own: IoRedis5 | Cluster5,
  { shards = 1, leastPrivilege = false, ...options }: RedisVariant,
): OpenStorage {
  const keyPrefix = `${leastPrivilege ? 'spec-acl' : 'spec'}-${randomUUID()}`
  const where = { server: { client }, keyPrefix, alias: 'default', consumerGroup: GROUP }
  const { storage } = openRedis({ ...where, shards, ...options })
  return {
    storage,
    raw: new RawRedis(own, keyPrefix, shards),
    elapse: () => undefined,
    close: async () => {
      own.disconnect()
      await storage.close()
    },
  }
}

/** Goes to every shard where a case names none: it knows no place of what it enqueued. */
class RawRedis implements RawAccess {
  readonly #client: IoRedis5 | Cluster5
  readonly #keys: readonly Keys[]

  constructor(client: IoRedis5 | Cluster5, keyPrefix: string, shards: number) {
    this.#client = client
    this.#keys =
      shards === 1
        ? [new Keys(rootOf(keyPrefix, 'default'))]
        : Array.from({ length: shards }, (_, shard) => new Keys(rootOf(keyPrefix, 'default', shard)))
  }

  async damage(id: string): Promise<void> {
    const keys = this.#keys[shardOf(id, this.#keys.length)]
    await this.#client.set(keys?.record(id) ?? '', 'no record')
  }

  async deliver(consumer: string, { queueName, band }: StreamName, count: number): Promise<void> {
    for (const keys of this.#keys) {
      const stream = keys.stream(queueName, band)
      if ((await this.#client.exists(stream)) === 0) continue
      await this.#client.xreadgroup('GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', stream, '>')
    }
  }

  async destroyGroups(queueName: string): Promise<void> {
    for (const keys of this.#keys) {
      for (const band of ['high', 'normal', 'low'] as const) {
        const stream = keys.stream(queueName, band)
        if ((await this.#client.exists(stream)) === 1) await this.#client.xgroup('DESTROY', stream, GROUP)
      }
    }
  }

  async loseLeases(): Promise<void> {
    for (const { leases } of this.#keys) await this.#client.del(leases)
  }
}

export const STORAGES: readonly StorageUnderTest[] = [
  memory,
  memoryShards,
  redis('ioredis 5', (url) => new IoRedis5(url, unused)),
  redis('ioredis 5, reads outside scripts', (url) => new IoRedis5(url, unused), { scriptedReads: false }),
  redis('ioredis 6', (url) => new IoRedis6(url, unused)),
  redis('iovalkey', (url) => new IoValkey(url, unused)),
  redis('ioredis 5, 3 shards', (url) => new IoRedis5(url, unused), { shards: 3 }),
  redis('iovalkey, 3 shards, reads outside scripts', (url) => new IoValkey(url, unused), {
    shards: 3,
    scriptedReads: false,
  }),
  redis('ioredis 5, a user of least privilege', (url) => new IoRedis5(url, unused), { leastPrivilege: true }),
  cluster('ioredis 5', (nodes) => new Cluster5(nodes, unused), 6),
  ...(process.env['FAULTS_SIZE'] === 'nightly'
    ? [
        cluster('ioredis 5', (nodes) => new Cluster5(nodes, unused), 1),
        cluster('ioredis 6', (nodes) => new Cluster6(nodes, unused), 1),
        cluster('ioredis 6', (nodes) => new Cluster6(nodes, unused), 6),
        cluster('iovalkey', (nodes) => new ClusterOfIoValkey(nodes, unused), 1),
        cluster('iovalkey', (nodes) => new ClusterOfIoValkey(nodes, unused), 6),
      ]
    : []),
]

/** Declares one case of the contract. */
export type ContractCase = (name: string, test: (subject: OpenStorage) => Promise<void>) => void

/** No case is about a server that does not answer: where one did not for almost a second, the machine stood still. */
function isStandstill(error: unknown): error is StorageUnavailableError {
  return error instanceof StorageUnavailableError && error.message.includes('Command timed out')
}

/** Runs cases over every storage; each gets a storage of its own, closed at its end. */
export function overEveryStorage(subject: string, define: (it: ContractCase) => void): void {
  describe(subject, () => {
    for (const { name: storageName, gaps, open } of STORAGES) {
      describe(storageName, () => {
        define((name, test) => {
          const reason = gaps[name]
          if (reason !== undefined) {
            it.skip(`${name} (a gap: ${reason})`)
            return
          }
          it(name, async () => {
            const once = async (): Promise<void> => {
              const opened = await open()
              try {
                await test(opened)
              } finally {
                await opened.close()
              }
            }
            await once().catch(async (error: unknown) => {
              if (!isStandstill(error)) throw error
              console.log(`      once more: ${error.message}`)
              await once()
            })
          })
        })
      })
    }
  })
}
