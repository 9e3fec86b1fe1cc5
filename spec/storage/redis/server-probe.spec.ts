/**
 * What a start finds out about a server: what is refused (a replica, a sentinel, one that is too old, a user without rights), and
 * what is only warned about, each with its code and its cure. On real servers where their settings say it, else by their texts.
 */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { StorageUnavailableError, StorageUnfitError } from '../../../lib/errors.ts'
import { driverOptions } from '../../../lib/storage/redis/redis-client.ts'
import type { RedisConnection } from '../../../lib/storage/redis/redis-client.ts'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.ts'
import { probeServer } from '../../../lib/storage/redis/server-probe.ts'
import type { ServerFacts } from '../../../lib/storage/storage.ts'
import { caught, rememberingLogger } from '../../backends/backends-under-test.ts'
import type { LogLine } from '../../backends/backends-under-test.ts'
import { eventually } from '../../support/eventually.ts'
import { sharedRedisServer, startRedisServer } from '../../support/redis-server.ts'
import type { RedisServer } from '../../support/redis-server.ts'
import { aRecord } from '../../support/storage-builders.ts'

const PASSWORD = 'p4ssw0rd-of-the-spec'

interface Opened extends AsyncDisposable {
  readonly storage: RedisStorage
  readonly root: string
  readonly logged: readonly LogLine[]
}

function open(redisUrl: string): Opened {
  const { logger, logged } = rememberingLogger()
  const keyPrefix = `spec-${randomUUID()}`
  const server = driverOptions({ redisUrl })
  const storage = new RedisStorage({ server, keyPrefix, alias: 'default', consumerGroup: 'spec', logger })
  return { storage, root: `{${keyPrefix}:default}:`, logged, [Symbol.asyncDispose]: () => storage.close() }
}

const codesOf = ({ warnings }: ServerFacts): string[] => warnings.map(({ code }) => code)

/** Settings of a server that there is nothing to say about. */
const HEALTHY = ['--save', '86400', '1000000000']

describe('the start-up checks of a server', () => {
  let server: RedisServer
  let redis: Redis

  before(async () => {
    server = await startRedisServer({ args: [...HEALTHY, '--maxmemory-policy', 'noeviction'] })
    redis = new Redis(server.url)
  })

  after(async () => {
    redis.disconnect()
    await server.stop()
  })

  async function withSetting<Answer>(name: string, value: string, body: () => Promise<Answer>): Promise<Answer> {
    const [, before = ''] = (await redis.config('GET', name)) as string[]
    await redis.config('SET', name, value)
    try {
      return await body()
    } finally {
      await redis.config('SET', name, before)
    }
  }

  async function factsOf(url = server.url): Promise<ServerFacts> {
    await using opened = open(url)
    return await opened.storage.connect()
  }

  it('says nothing about a server that evicts nothing and keeps snapshots', async () => {
    const facts = await factsOf()
    expect(facts).to.deep.equal({
      kind: server.product,
      version: server.version,
      address: `${server.host}:${server.port}/0`,
      warnings: [],
    })
  })

  for (const policy of ['allkeys-lru', 'allkeys-lfu', 'allkeys-random']) {
    it(`warns that ${policy} loses tasks`, async () => {
      const facts = await withSetting('maxmemory-policy', policy, () => factsOf())
      expect(codesOf(facts)).to.deep.equal(['WARN_TASKS_SERVER_EVICTION'])
      expect(facts.warnings[0]?.message).to.match(new RegExp(`${policy}.*unfinished tasks are lost.*noeviction`))
    })
  }

  for (const policy of ['volatile-lru', 'volatile-lfu', 'volatile-random', 'volatile-ttl']) {
    it(`warns that ${policy} loses counts, but no task`, async () => {
      const facts = await withSetting('maxmemory-policy', policy, () => factsOf())
      expect(codesOf(facts)).to.deep.equal(['WARN_TASKS_SERVER_EVICTION_VOLATILE'])
      expect(facts.warnings[0]?.message).to.match(
        new RegExp(`${policy}.*counts by minute.*no task is lost.*noeviction`),
      )
    })
  }

  it('warns that nothing is kept over a restart, and is content with AOF alone', async () => {
    await withSetting('save', '', async () => {
      const facts = await factsOf()
      expect(codesOf(facts)).to.deep.equal(['WARN_TASKS_SERVER_PERSISTENCE'])
      expect(facts.warnings[0]?.message).to.match(/restart of the server loses every task .*appendonly yes/)
      await withSetting('appendonly', 'yes', async () => {
        expect(codesOf(await factsOf())).to.deep.equal([])
      })
    })
  })

  it('logs each warning once a storage, however often its health is asked', async () => {
    await withSetting('maxmemory-policy', 'allkeys-lru', async () => {
      await using opened = open(server.url)
      for (let count = 0; count < 3; count += 1) await opened.storage.connect()
      expect(opened.logged.map(({ level, facts }) => [level, facts['code']])).to.deep.equal([
        ['warn', 'WARN_TASKS_SERVER_EVICTION'],
      ])
    })
  })

  it('tells in no warning where the server is', async () => {
    const said = await withSetting('save', '', () =>
      withSetting('maxmemory-policy', 'allkeys-lru', async () => JSON.stringify((await factsOf()).warnings)),
    )
    expect(said).to.not.contain(server.host).and.not.contain(String(server.port))
  })

  it('costs three commands, one of them a script, and none of them again for a task', async () => {
    await using opened = open(server.url)
    await opened.storage.enqueue([aRecord()])
    await redis.config('RESETSTAT')
    await opened.storage.connect()
    const asked = await redis.info('commandstats')
    const called = (name: string): number =>
      Number(new RegExp(`^cmdstat_${name}:calls=(\\d+)`, 'm').exec(asked)?.[1] ?? 0)
    // Before 7.0 the subcommands of CONFIG are counted together, RESETSTAT too.
    expect([called('info'), called('eval'), called('config\\|get') || called('config') - 1]).to.deep.equal([1, 1, 1])
    await redis.config('RESETSTAT')
    await opened.storage.enqueue([aRecord()])
    const later = await redis.info('commandstats')
    expect(later).to.not.match(/cmdstat_(?:info|eval):/)
  })

  it('leaves no key behind', async () => {
    await using opened = open(server.url)
    await opened.storage.connect()
    expect(await redis.keys(`${opened.root}*`)).to.deep.equal([])
  })

  it('refuses a replica by its role', async () => {
    await using replica = await startRedisServer({ args: HEALTHY })
    const client = new Redis(replica.url)
    try {
      await client.call('REPLICAOF', server.host, String(server.port))
      await using opened = open(replica.url)
      const error = await caught(opened.storage.connect())
      expect(error).to.be.instanceOf(StorageUnfitError).and.instanceOf(StorageUnavailableError)
      expect(error).to.include({ code: 'ERR_TASKS_STORAGE_UNFIT', fault: 'role' })
      expect(String(error)).to.match(/to be a master, got: a replica at .*give the address of its master/)
      await client.call('REPLICAOF', 'NO', 'ONE')
      expect((await opened.storage.connect()).kind).to.equal(replica.product)
    } finally {
      client.disconnect()
    }
  })

  describe('by an ACL', () => {
    before(async function () {
      if (server.product === 'redis' && Number.parseInt(server.version, 10) < 6) this.skip()
      await redis.call('ACL', 'SETUSER', 'spec', 'on', `>${PASSWORD}`, '+@all', '~*')
    })

    /** Where a user connects who has these rules. */
    async function userWith(...rules: string[]): Promise<string> {
      await redis.call('ACL', 'SETUSER', 'spec', 'reset', 'on', `>${PASSWORD}`, ...allChannels(), ...rules)
      return `redis://spec:${PASSWORD}@${server.host}:${server.port}`
    }

    /** What such a user is told. */
    async function refusedWith(...rules: string[]): Promise<unknown> {
      await using opened = open(await userWith(...rules))
      return await caught(opened.storage.connect())
    }

    it('names each command that the user may not run', async () => {
      const error = await refusedWith('+@all', '~*', '-hset', '-xack', '-xgroup')
      expect(error).to.be.instanceOf(StorageUnfitError).and.include({ fault: 'access' })
      const rules = String(error).match(/a user without (.*) \(ACL SETUSER <user> (.*);/)
      expect(rules?.[1]).to.equal(rules?.[2])
      expect(rules?.[1]?.split(' ')).to.have.members(['+hset', '+xack', '+xgroup|create', '+xgroup|delconsumer'])
      expect(String(error)).to.not.contain(PASSWORD)
    })

    it('names the pattern of keys that the user may not touch', async () => {
      const error = await refusedWith('+@all', '~other:*')
      expect(error).to.be.instanceOf(StorageUnfitError).and.include({ fault: 'access' })
      expect(String(error)).to.match(/a user without ~\{spec-[^:]+:default\}:\*/)
    })

    it('names the channel that the user may not publish on', async function () {
      if (server.product === 'redis' && Number.parseFloat(server.version) < 6.2) this.skip()
      const error = await refusedWith('+@all', '~*', 'resetchannels')
      expect(String(error)).to.match(/a user without &\{spec-[^:]+:default\}:\*/)
    })

    it('names a command that has no harmless form', async () => {
      expect(String(await refusedWith('+@all', '~*', '-sadd'))).to.match(/a user without \S*\+sadd/)
    })

    it('goes on without INFO and CONFIG, and says what is not known for it', async () => {
      const facts = await factsOf(await userWith('+@all', '-info', '-config', '~*'))
      expect(codesOf(facts)).to.deep.equal(['WARN_TASKS_SERVER_UNKNOWN'])
      expect(facts.warnings[0]?.message).to.contain('+info')
    })

    it('says that persistence is not known where CONFIG is refused and no snapshot was ever made', async () => {
      const url = await userWith('+@all', '-config', '~*')
      expect(codesOf(await factsOf(url))).to.deep.equal(['WARN_TASKS_SERVER_PERSISTENCE_UNKNOWN'])
      await redis.bgsave()
      await eventually(async () => !/rdb_last_bgsave_time_sec:-1/.test(await redis.info('persistence')))
      expect(codesOf(await factsOf(url))).to.deep.equal([])
    })

    it('tells a wrong password as what it is, and not the password', async () => {
      await using opened = open(`redis://spec:wrong-${PASSWORD}@${server.host}:${server.port}`)
      const error = await caught(opened.storage.connect())
      expect(error).to.be.instanceOf(StorageUnavailableError)
      expect(String(error)).to.match(/WRONGPASS.*check the user's name, password and ACL/)
      expect(JSON.stringify([String(error), opened.logged])).to.not.contain(PASSWORD)
    })

    function allChannels(): string[] {
      return server.product === 'redis' && Number.parseFloat(server.version) < 6.2 ? [] : ['&*']
    }
  })

  describe('by what it says', () => {
    /** A connection whose INFO is this text. */
    function saying(text: string): RedisConnection {
      const refuse = (): Promise<never> => Promise.reject(new Error("ERR unknown command 'CONFIG'"))
      const nowMs = Date.now()
      const time = [String(Math.floor(nowMs / 1_000)), '0']
      // Only what a probe asks for.
      return {
        info: () => Promise.resolve(text),
        config: refuse,
        time: () => Promise.resolve(time),
      } as unknown as RedisConnection
    }

    it('refuses a Redis without streams', async () => {
      const error = await caught(probeServer(saying('redis_version:4.0.14\r\nrole:master\r\n'), 'here'))
      expect(error).to.be.instanceOf(StorageUnfitError).and.include({ fault: 'version' })
      expect(String(error)).to.match(/Redis 5\.0 or later, got: Redis 4\.0\.14/)
    })

    it('refuses a sentinel', async () => {
      for (const mode of [
        'redis_mode:sentinel',
        'redis_version:7.2.4\r\nvalkey_version:8.0.1\r\nserver_mode:sentinel',
      ]) {
        const error = await caught(probeServer(saying(`${mode}\r\n`), 'here'))
        expect(error).to.be.instanceOf(StorageUnfitError).and.include({ fault: 'role' })
        expect(String(error)).to.contain('a sentinel')
      }
    })

    it('takes Valkey for Valkey, whatever version of Redis it names beside', async () => {
      const facts = await probeServer(
        saying('redis_version:7.2.4\r\nvalkey_version:8.1.1\r\naof_enabled:1\r\n'),
        'here',
      )
      expect(facts).to.deep.equal({ kind: 'valkey', version: '8.1.1', address: 'here', warnings: [] })
    })

    it('trusts what INFO tells of snapshots where CONFIG is an unknown command', async () => {
      const managed = 'redis_version:7.1.0\r\nrole:master\r\naof_enabled:0\r\nrdb_last_bgsave_time_sec:0\r\n'
      expect(codesOf(await probeServer(saying(managed), 'here'))).to.deep.equal([])
    })

    it('warns when the clocks are more than five seconds apart', async () => {
      const codes = async (offsetMs: number): Promise<string[]> => {
        const { warnings } = await probeServer(saying('aof_enabled:1'), 'here', { now: () => Date.now() + offsetMs })
        for (const { message } of warnings) {
          expect(message).to.match(offsetMs > 0 ? /(59|6\d)\.\d s behind.*NTP/ : /(59|60)\.\d s ahead of.*NTP/)
        }
        return warnings.map(({ code }) => code)
      }
      expect(await codes(60_000)).to.deep.equal(['WARN_TASKS_SERVER_CLOCK'])
      expect(await codes(-60_000)).to.deep.equal(['WARN_TASKS_SERVER_CLOCK'])
      expect(await codes(3_000)).to.deep.equal([])
    })
  })

  it('is content with the server that all specs share', async () => {
    expect(codesOf(await factsOf((await sharedRedisServer()).url))).to.deep.equal([])
  })
})
