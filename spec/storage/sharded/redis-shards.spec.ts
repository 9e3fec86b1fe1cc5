/** Shards on one server: their keys, and that they share what one storage opens. */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { openRedis } from '../../../lib/storage/sharded/redis-shards.ts'
import { shardOf } from '../../../lib/storage/sharded/shards.ts'
import type { Storage } from '../../../lib/storage/storage.ts'
import { eventually } from '../../support/eventually.ts'
import { sharedRedisServer, startRedisServer } from '../../support/redis-server.ts'
import { aBlockingTake, aRecord, aTake, idsOf, only, someRecords, success } from '../../support/storage-builders.ts'

const GROUP = 'express_tasks_workers'

describe('Shards on one server', () => {
  const opened: { close(): Promise<void> | void }[] = []
  afterEach(async () => {
    for (const each of opened.splice(0)) await each.close()
  })

  function open(
    url: string,
    shards: number,
    keyPrefix = `spec-${randomUUID()}`,
  ): { storage: Storage; keyPrefix: string } {
    const { host, port } = new URL(url)
    const server = { options: { host: host.replace(/:\d+$/, ''), port: Number(port) } }
    const { storage } = openRedis({ server, keyPrefix, alias: 'default', consumerGroup: GROUP, shards })
    opened.push(storage)
    return { storage, keyPrefix }
  }

  function client(url: string): Redis {
    const redis = new Redis(url)
    opened.push({ close: () => redis.disconnect() })
    return redis
  }

  it('have a hash tag each, with the number of the shard; one shard has none', async () => {
    const { url } = await sharedRedisServer()
    const redis = client(url)
    const records = someRecords(30)
    for (const shards of [1, 3]) {
      const { storage, keyPrefix } = open(url, shards)
      await storage.enqueue(records)
      const tag = (id: string): string =>
        shards === 1 ? `{${keyPrefix}:default}` : `{${keyPrefix}:default:${shardOf(id, shards)}}`
      expect(await redis.exists(...records.map(({ id }) => `${tag(id)}:task:${id}`))).to.equal(30)
      const tags = new Set((await redis.keys(`*${keyPrefix}*`)).map((key) => /^\{.*\}/.exec(key)?.[0]))
      expect(tags.size).to.equal(shards)
    }
  })

  it('open no more connections than one storage, and wait in one read', async () => {
    await using server = await startRedisServer()
    const counted: number[] = []
    for (const shards of [1, 12]) {
      const { storage } = open(server.url, shards)
      await storage.enqueue(someRecords(24))
      const { begun } = await storage.take(aTake('first', { count: 24 }))
      const waited = storage.awaitFinished(begun[0]?.lease.id ?? '', 60_000)
      await storage.settle(begun.map((delivery) => success(delivery)))
      expect(await waited).to.equal('FINISHED')
      const stop = new AbortController()
      const blocked = storage.takeBlocking(aBlockingTake(), stop.signal)
      const redis = new Redis(server.url)
      const names = await eventually(async () => {
        const clients = String(await redis.client('LIST'))
          .split('\n')
          .filter(Boolean)
        return clients.some((line) => line.includes('cmd=xreadgroup')) && clients
      })
      counted.push(names.length - 1)
      expect(names.filter((line) => line.includes('cmd=xreadgroup'))).to.have.lengthOf(1)
      stop.abort()
      await blocked
      redis.disconnect()
      await storage.close()
      await server.restart()
    }
    expect(counted[1]).to.equal(counted[0])
  })

  it('wake the one read of all, whichever of them an entry comes to', async () => {
    const { url } = await sharedRedisServer()
    const { storage } = open(url, 5)
    for (let round = 0; round < 15; round += 1) {
      const waiting = storage.takeBlocking(aBlockingTake(), new AbortController().signal)
      const record = aRecord()
      await storage.enqueue([record])
      const taken = await waiting
      expect(idsOf(taken)).to.deep.equal([record.id])
      expect(await storage.settle([success(only(taken.begun))])).to.deep.equal(['SETTLED'])
    }
  })
})
