/**
 * Servers before 6.0 refuse XREADGROUP inside a script: there the client reads and begin.lua follows. The same deliveries must
 * come of it, so the path is forced here on whatever server there is, and the change to it is seen once.
 */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { Keys, rootOf } from '../../../lib/storage/redis/keys.ts'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.ts'
import type { RedisStorageOptions } from '../../../lib/storage/redis/redis-storage.ts'
import { scriptOf } from '../../../lib/storage/redis/scripts.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'
import {
  aClaim,
  aRecord,
  aRecover,
  aTake,
  beginOne,
  countsOf,
  depthOf,
  enqueueOne,
  idsOf,
  QUEUE,
  read,
  someRecords,
  success,
  takeOne,
} from '../../support/storage-builders.ts'
import { readKeyspace, violations } from './keyspace.ts'

const GROUP = 'express_tasks_workers'

interface Subject {
  readonly storage: RedisStorage
  readonly redis: Redis
  readonly keys: Keys
}

/** A case with a storage of its own. */
function onStorage(
  test: (subject: Subject) => Promise<void>,
  options: (redis: Redis) => Partial<RedisStorageOptions> = () => ({ scriptedReads: false }),
): () => Promise<void> {
  return async () => {
    const redis = new Redis((await sharedRedisServer()).url)
    const keyPrefix = `spec-${randomUUID()}`
    const keys = new Keys(rootOf(keyPrefix, 'default'))
    const storage = new RedisStorage({
      ...{ server: { client: redis }, keyPrefix, alias: 'default', consumerGroup: GROUP },
      ...options(redis),
    })
    try {
      await test({ storage, redis, keys })
      expect(violations(await readKeyspace(redis, keys.root, GROUP))).to.deep.equal([])
    } finally {
      await storage.close()
      redis.disconnect()
    }
  }
}

const REFUSED = 'ERR Error running script: @user_script: 12: This Redis command is not allowed from scripts'

/** Makes the duplicates of a client answer `take` as a server before 6.0 does; counts how often they were asked. */
function refuseScriptedReads(redis: Redis): { readonly asked: number } {
  const readers: readonly unknown[] = [scriptOf('take').sha, scriptOf('settle-and-take').sha]
  const seen = { asked: 0 }
  const duplicate = redis.duplicate.bind(redis)
  redis.duplicate = (override) => {
    const client = duplicate(override)
    const evalsha = client.evalsha.bind(client) as (...words: unknown[]) => Promise<unknown>
    Object.assign(client, {
      evalsha: (sha: unknown, ...rest: unknown[]) => {
        if (!readers.includes(sha)) return evalsha(sha, ...rest)
        seen.asked += 1
        return Promise.reject(new Error(REFUSED))
      },
    })
    return client
  }
  return seen
}

describe('RedisStorage without reads in scripts', () => {
  it(
    'begins high before normal before low, and no more than asked for',
    onStorage(async ({ storage }) => {
      const add = (queueName: string, priority: number): Promise<string> => enqueueOne(storage, { queueName, priority })
      const low = await add('b', -1)
      const normal = [await add('a', 0), await add('a', 0), await add('b', 0)]
      const high = [await add('a', 1), await add('b', 1)]
      const request = aTake('first', { queueNames: ['a', 'b'], count: 4 })
      expect(idsOf(await storage.take(request))).to.deep.equal([...high, ...normal.slice(0, 2)])
      expect(idsOf(await storage.take(aTake('first', { queueNames: ['a', 'b'], count: 0 })))).to.deep.equal([])
      expect(idsOf(await storage.take(aTake('first', { queueNames: ['a', 'b'], count: 9 })))).to.deep.equal([
        normal[2],
        low,
      ])
    }),
  )

  it(
    'settles and takes in one turn',
    onStorage(async ({ storage }) => {
      const first = await beginOne(storage)
      const second = await enqueueOne(storage)
      const { words, taken } = await storage.settleAndTake([success(first)], aTake('first', { count: 5 }))
      expect(words).to.deep.equal(['SETTLED'])
      expect(idsOf(taken)).to.deep.equal([second])
      expect(await countsOf(storage)).to.include({ RUNNING: 1, SUCCESSFUL: 1 })
    }),
  )

  it(
    'begins each of many records once, whoever asks at the same time',
    onStorage(async ({ storage }) => {
      await storage.enqueue(someRecords(60))
      const workers = ['a', 'b', 'c', 'd']
      const taken = await Promise.all(
        Array.from({ length: 24 }, (_, index) => storage.take(aTake(workers[index % 4] ?? '', { count: 5 }))),
      )
      const ids = taken.flatMap(idsOf)
      expect(ids).to.have.lengthOf(60)
      expect(new Set(ids).size).to.equal(60)
    }),
  )

  it(
    'makes the group anew where it is missing, and takes from the queues that have it',
    onStorage(async ({ storage, redis, keys }) => {
      await enqueueOne(storage, { queueName: 'lost' })
      await redis.xgroup('DESTROY', keys.stream('lost', 'normal'), GROUP)
      const id = await enqueueOne(storage)
      const request = (): ReturnType<typeof aTake> => aTake('first', { queueNames: ['lost', QUEUE], count: 5 })
      expect(idsOf(await storage.take(request()))).to.deep.equal([id])
      expect((await storage.take(request())).begun).to.have.lengthOf(1)
    }),
  )

  it(
    'takes and recovers from the other streams while one is of a wrong type',
    onStorage(async ({ storage, redis, keys }) => {
      const broken = keys.stream(QUEUE, 'high')
      const id = await enqueueOne(storage)
      await redis.del(broken)
      await redis.set(broken, 'not what belongs here')
      const [first] = (await storage.take(aTake('first', { count: 5 }))).begun
      expect(first?.lease.id).to.equal(id)
      expect(idsOf(await storage.recover(aRecover('first')))).to.deep.equal([id])
      await redis.del(broken)
    }),
  )

  it(
    'recovers what was read and never begun',
    onStorage(async ({ storage, redis, keys }) => {
      const id = await enqueueOne(storage)
      const request = aRecover('first')
      await redis.xreadgroup('GROUP', GROUP, request.consumer, 'STREAMS', keys.stream(QUEUE, 'normal'), '>')
      expect((await storage.take(aTake('first', { count: 5 }))).begun).to.deep.equal([])
      expect(idsOf(await storage.recover(request))).to.deep.equal([id])
      expect(await read(storage, id)).to.include({ status: 'RUNNING', attempts: 1 })
    }),
  )
})

describe('RedisStorage on a server that refuses reads in scripts', () => {
  it('changes to the other path at its first take, for good', async () => {
    let seen: { readonly asked: number } | undefined
    await onStorage(
      async ({ storage }) => {
        await storage.enqueue([aRecord(), aRecord(), aRecord()])
        for (let count = 0; count < 3; count += 1) await takeOne(storage)
        expect(await depthOf(storage)).to.deep.equal({ entries: 3, delayed: 0 })
        expect(seen?.asked).to.equal(1)
      },
      (redis) => {
        seen = refuseScriptedReads(redis)
        return {}
      },
    )()
  })

  it('changes to it when the first take goes with a settle, and says what became of that', async () => {
    let seen: { readonly asked: number } | undefined
    await onStorage(
      async ({ storage }) => {
        // Given a worker whose first work was not taken: run by id, or taken over from a dead one
        const [first, second] = [await enqueueOne(storage), await enqueueOne(storage)]
        const delivery = await storage.runById(aClaim('first'), first, false)
        if (typeof delivery === 'string') throw new Error(`expected an attempt to begin, got: ${delivery}`)
        const { words, taken } = await storage.settleAndTake([success(delivery)], aTake('first', { count: 5 }))
        expect(words).to.deep.equal(['SETTLED'])
        expect(idsOf(taken)).to.deep.equal([second])
        expect(seen?.asked).to.equal(1)
      },
      (redis) => {
        seen = refuseScriptedReads(redis)
        return {}
      },
    )()
  })
})
