/**
 * Every storage and client that the contract runs over, and what each cannot do, by the name of the case and its reason.
 * A test gets a storage of its own: memory with a clock that the test moves, or Redis under a key prefix of its own on the
 * one shared server. A gap is shown as a pending case with its reason; a gap that names no case fails (gaps.spec.ts).
 */
import { randomUUID } from 'node:crypto'
import { Redis as IoRedis5 } from 'ioredis'
import { Redis as IoRedis6 } from 'ioredis6'
import { Redis as IoValkey } from 'iovalkey'
import { MemoryStorage } from '../../lib/storage/memory/memory-storage.ts'
import { Keys, rootOf } from '../../lib/storage/redis/keys.ts'
import type { RedisClientLike } from '../../lib/storage/redis/redis-client.ts'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.ts'
import type { Storage, StreamName } from '../../lib/storage/storage.ts'
import { ManualClock } from './manual-clock.ts'
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

const memory: StorageUnderTest = {
  name: 'memory',
  gaps: MEMORY_GAPS,
  open() {
    const clock = new ManualClock()
    const storage = new MemoryStorage({ clock })
    const refuse = (): Promise<void> =>
      Promise.reject(new Error('expected a gap in MEMORY_GAPS for this case, got: none'))
    return Promise.resolve({
      storage,
      raw: { damage: refuse, deliver: refuse, destroyGroups: refuse, loseLeases: refuse },
      elapse: (ms) => clock.advance(ms),
      close: () => storage.close(),
    })
  },
}

type Connect = (url: string) => RedisClientLike

/** `scriptedReads: false` is the path for servers before 6.0; a server of today answers on it, too. */
function redis(name: string, connect: Connect, options: { readonly scriptedReads?: boolean } = {}): StorageUnderTest {
  return {
    name: `redis (${name})`,
    gaps: {},
    async open() {
      const { url } = await sharedRedisServer()
      const keyPrefix = `spec-${randomUUID()}`
      const server = { client: connect(url) }
      const storage = new RedisStorage({ server, keyPrefix, alias: 'default', consumerGroup: GROUP, ...options })
      const raw = new RawRedis(url, new Keys(rootOf(keyPrefix, 'default')))
      return {
        storage,
        raw,
        elapse: () => undefined,
        close: async () => {
          raw.close()
          await storage.close()
        },
      }
    },
  }
}

class RawRedis implements RawAccess {
  readonly #keys: Keys
  readonly #client: IoRedis5

  constructor(url: string, keys: Keys) {
    this.#client = new IoRedis5(url, { lazyConnect: true })
    this.#keys = keys
  }

  async damage(id: string): Promise<void> {
    await this.#client.set(this.#keys.record(id), 'no record')
  }

  async deliver(consumer: string, { queueName, band }: StreamName, count: number): Promise<void> {
    const stream = this.#keys.stream(queueName, band)
    await this.#client.xreadgroup('GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', stream, '>')
  }

  async destroyGroups(queueName: string): Promise<void> {
    for (const band of ['high', 'normal', 'low'] as const) {
      await this.#client.xgroup('DESTROY', this.#keys.stream(queueName, band), GROUP)
    }
  }

  async loseLeases(): Promise<void> {
    await this.#client.del(this.#keys.leases)
  }

  close(): void {
    this.#client.disconnect()
  }
}

/** The storages duplicate a client of the caller's and never use it, so these are not even connected. */
const unused = { lazyConnect: true }

export const STORAGES: readonly StorageUnderTest[] = [
  memory,
  redis('ioredis 5', (url) => new IoRedis5(url, unused)),
  redis('ioredis 5, reads outside scripts', (url) => new IoRedis5(url, unused), { scriptedReads: false }),
  redis('ioredis 6', (url) => new IoRedis6(url, unused)),
  redis('iovalkey', (url) => new IoValkey(url, unused)),
]

/** Declares one case of the contract. */
export type ContractCase = (name: string, test: (subject: OpenStorage) => Promise<void>) => void

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
            const opened = await open()
            try {
              await test(opened)
            } finally {
              await opened.close()
            }
          })
        })
      })
    }
  })
}
