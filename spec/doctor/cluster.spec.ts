/** The doctor on a cluster: every shard is examined and mended where its slot is, each on another master. */
import { expect } from 'chai'
import { Cluster } from 'ioredis'
import type { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { doctor, RedisTaskBackend } from '../../lib/index.ts'
import type { Finding } from '../../lib/index.ts'
import { Keys, rootOf } from '../../lib/storage/redis/keys.ts'
import { sharedRedisCluster } from '../support/redis-cluster.ts'
import type { RedisCluster } from '../support/redis-cluster.ts'
import { someRecords } from '../support/storage-builders.ts'
import { broken, GROUP, told } from './support.ts'

const SHARDS = 3

/** One shard, by the node that has it. */
interface Place {
  readonly redis: Redis
  readonly keys: Keys
}

/** A prefix whose shards are on as many masters. */
async function spread(cluster: RedisCluster): Promise<{ keyPrefix: string; places: readonly Place[] }> {
  for (;;) {
    const keyPrefix = `spec-${randomUUID()}`
    const roots = Array.from({ length: SHARDS }, (_, shard) => rootOf(keyPrefix, 'default', shard))
    const nodes = await Promise.all(roots.map(async (root) => await cluster.ownerOf(await cluster.slotOf(root))))
    if (new Set(nodes).size < SHARDS) continue
    return { keyPrefix, places: nodes.map(({ redis }, shard) => ({ redis, keys: new Keys(roots[shard] ?? '') })) }
  }
}

/** One violation of each kind that a repair mends, on records of its own. */
const PLANTS: readonly ((place: Place, id: string) => Promise<unknown>)[] = [
  ({ redis, keys }) => redis.zadd(keys.cell({ queueName: 'mail', name: 'send', status: 'FAILED' }), 5, randomUUID()),
  async ({ redis, keys }, id) => {
    const entryId = (await redis.hget(keys.record(id), 'entryId')) ?? ''
    return await redis.xdel(keys.stream('mail', 'normal'), entryId)
  },
  ({ redis, keys }) => redis.zadd(keys.leases, Date.now() + 3_600_000, randomUUID()),
  ({ redis, keys }, id) => redis.expire(keys.record(id), 900),
  ({ redis, keys }) => redis.srem(keys.cells, 'mail:send'),
  ({ redis, keys }) => redis.xgroup('DESTROY', keys.stream('mail', 'high'), GROUP),
]
const BROKEN = ['I3', 'I4', 'I9', 'I11', 'I12', 'I13', 'I15']

describe('doctor, on a cluster', function () {
  this.timeout(60_000)

  it('finds and mends what is broken on each of three masters', async () => {
    const cluster = await sharedRedisCluster()
    const { keyPrefix, places } = await spread(cluster)
    const client = new Cluster(cluster.startNodes, { lazyConnect: true })
    await using backend = new RedisTaskBackend({ client, keyPrefix, shards: SHARDS, queues: [] })
    try {
      await backend.storage.enqueue(someRecords(60))
      expect(await doctor(backend).summary()).to.include({ records: 60, entries: 60, found: 0 })
      const examine = async (options = {}): Promise<Finding[]> => {
        const findings: Finding[] = []
        for await (const finding of doctor(backend, options)) findings.push(finding)
        return findings
      }
      const of = (findings: readonly Finding[], { keys }: Place): Finding[] =>
        findings.filter(({ key }) => key.startsWith(keys.root))

      for (const place of places) {
        const ids = (await place.redis.keys(place.keys.record('*'))).map((key) => key.slice(-36))
        for (const [index, plant] of PLANTS.entries()) await plant(place, ids[index] ?? '')
      }
      const found = await examine()
      for (const place of places) expect(broken(of(found, place)), told(found).join('\n')).to.deep.equal(BROKEN)

      const mended = await examine({ repair: true })
      expect(mended.filter(({ repaired }) => repaired !== true)).to.deep.equal([])
      expect(told(await examine())).to.deep.equal([])
      expect(await doctor(backend).summary()).to.include({ records: 60, entries: 60, found: 0, complete: true })
    } finally {
      client.disconnect()
    }
  })
})
