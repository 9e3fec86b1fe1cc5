/** A settle whose caller does not hand the record along: what the look at it answers is told apart, and no error is passed over. */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { Keys, rootOf } from '../../../lib/storage/redis/keys.ts'
import { RedisTaskBackend } from '../../../lib/index.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'
import { beginOne, read, success } from '../../support/storage-builders.ts'

describe('a settle that looks at the record itself', () => {
  const keyPrefix = `settled-${randomUUID()}`
  const keys = new Keys(rootOf(keyPrefix, 'default'))
  let redis: Redis
  let backend: RedisTaskBackend
  let url: string

  before(async () => {
    url = (await sharedRedisServer()).url
    redis = new Redis(url)
    backend = new RedisTaskBackend({ redisUrl: url, keyPrefix })
    await backend.storage.connect()
  })

  after(async () => {
    await backend.close()
    redis.disconnect()
  })

  it('answers BROKEN for a key of another type, and settles the others of the call', async () => {
    const [one, other] = [await beginOne(backend.storage), await beginOne(backend.storage)]
    await redis.del(keys.record(one.lease.id))
    await redis.set(keys.record(one.lease.id), 'no record')
    expect(await backend.storage.settle([success(one), success(other)])).to.deep.equal(['BROKEN', 'SETTLED'])
    expect(await redis.get(keys.record(one.lease.id))).to.equal('no record')
    expect((await read(backend.storage, other.lease.id)).status).to.equal('SUCCESSFUL')
  })

  it('fails with the error of the server where it may not look, and the attempt can be settled later', async () => {
    const user = `narrow-${randomUUID()}`
    await redis.call('ACL', 'SETUSER', user, 'on', '>secret', '~*', '+@all', '-hmget')
    // Redis 6.0 knows no channels.
    await redis.call('ACL', 'SETUSER', user, '&*').catch(() => null)
    const narrow = new RedisTaskBackend({ redisUrl: url, keyPrefix, redisUsername: user, redisPassword: 'secret' })
    try {
      const begun = await beginOne(backend.storage)
      const refused = narrow.storage.settle([success(begun)]).then(String, String)
      expect(await refused).to.contain('NOPERM')
      expect((await read(backend.storage, begun.lease.id)).status).to.equal('RUNNING')
      expect(await backend.storage.settle([success(begun)])).to.deep.equal(['SETTLED'])
    } finally {
      await narrow.close()
      await redis.call('ACL', 'DELUSER', user)
    }
  })
})
