/**
 * A server at its memory limit that evicts nothing: what needs memory is refused whole and typed, and what ends, moves or frees
 * work passes. Otherwise a full server could run the same tasks for ever. And one that takes no writes at all: nothing half done.
 */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { StorageFullError } from '../../../lib/errors.ts'
import { Keys, rootOf } from '../../../lib/storage/redis/keys.ts'
import { driverOptions } from '../../../lib/storage/redis/redis-client.ts'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.ts'
import { startRedisServer } from '../../support/redis-server.ts'
import type { RedisServer } from '../../support/redis-server.ts'
import {
  aRecord,
  aTake,
  beginOne as beginThrough,
  failOne as failThrough,
  success,
} from '../../support/storage-builders.ts'
import { difference, readKeyspace, violations } from './keyspace.ts'
import {
  aClaim,
  beginOne,
  begunOf,
  enqueue,
  ERROR,
  expandFirsts,
  failOne,
  LEASE_MS,
  recordOf,
  ScriptBench,
  settle,
  spoil,
  START_MS,
  take,
} from './scripts/support.ts'

const GROUP = 'express_tasks_workers'
const NOTHING = { id: '', leaseToken: '', entryId: '' }

describe('a server at its memory limit, or one that takes no writes at all', () => {
  let server: RedisServer
  let bench: ScriptBench

  before(async () => {
    server = await startRedisServer({ args: ['--maxmemory-policy', 'noeviction'] })
  })

  after(async () => {
    await server.stop()
  })

  beforeEach(async () => {
    bench = await new ScriptBench(server.url).start()
  })

  afterEach(async () => {
    await bench.redis.config('SET', 'maxmemory', 0)
    bench.close()
  })

  /** The server is full while `call` runs. */
  async function whileFull<Answer>(call: () => Promise<Answer>): Promise<Answer> {
    await bench.redis.config('SET', 'maxmemory', '100kb')
    try {
      const refused = await bench.redis.set('ballast', 'x').catch((error: unknown) => error)
      expect(String(refused)).to.contain('OOM')
      return await call()
    } finally {
      await bench.redis.config('SET', 'maxmemory', 0)
    }
  }

  async function expectWhole(): Promise<void> {
    expect(violations(await bench.keyspace())).to.deep.equal([])
  }

  interface Refused {
    readonly name: string
    readonly prepare: () => Promise<unknown>
    readonly call: () => Promise<unknown>
  }

  const refused: readonly Refused[] = [
    {
      name: 'enqueue of a task that is known',
      prepare: () => enqueue(bench, { id: 'a' }),
      call: () => enqueue(bench, { id: 'b' }, { id: 'c', runAfter: START_MS + 1 }),
    },
    { name: 'enqueue into a new queue', prepare: async () => {}, call: () => enqueue(bench, { id: 'a' }, { id: 'b' }) },
    {
      name: 'retry',
      prepare: () => failOne(bench),
      call: () => bench.run('retry', 'request-1', 'a'),
    },
    {
      name: 'a save that puts off',
      prepare: () => enqueue(bench, { id: 'a' }),
      call: () => bench.run('save-record', 'a', 'runAfter', START_MS + 500),
    },
    {
      name: 'a save that moves to another band',
      prepare: () => enqueue(bench, { id: 'a' }),
      call: () => bench.run('save-record', 'a', 'priority', 5),
    },
    {
      name: 'a save that makes a delayed record due',
      prepare: () => enqueue(bench, { id: 'a', runAfter: START_MS + 500 }),
      call: () => bench.run('save-record', 'a', 'runAfter', ''),
    },
    {
      name: 'a save that moves nothing',
      prepare: () => failOne(bench),
      call: () => bench.run('save-record', 'a', 'args', '[1]'),
    },
    { name: 'ensure-queue', prepare: async () => {}, call: () => bench.run('ensure-queue', 'mail') },
  ]

  for (const { name, prepare, call } of refused) {
    it(`refuses ${name} at the limit, and nothing of it is written`, async () => {
      await prepare()
      const before = await bench.keyspace()
      const error = await whileFull(() => call().catch((reason: unknown) => reason))
      expect(error).to.be.an('error').with.property('message').that.contains('OOM')
      expect(difference(before, await bench.keyspace())).to.deep.equal({})
      await expectWhole()
    })
  }

  interface Passing {
    readonly name: string
    /** What stands there before; its answer is handed to `call`. */
    readonly prepare: () => Promise<{ id: string; leaseToken: string; entryId: string }>
    readonly call: (begun: { id: string; leaseToken: string; entryId: string }) => Promise<unknown>
    readonly expected: unknown
  }

  const waiting = async (runAfter: number | '' = ''): Promise<Awaited<ReturnType<Passing['prepare']>>> => {
    await enqueue(bench, { id: 'a', runAfter })
    return { id: 'a', leaseToken: '', entryId: (await recordOf(bench))['entryId'] ?? '' }
  }
  const words = (rows: unknown): unknown => expandFirsts(rows as string[][]).map(([word]) => word)
  const reclaim = async (crashLimit = 3): Promise<unknown> =>
    words(
      (
        (await bench.run(
          'reclaim',
          ...[...aClaim('rescuer'), 100, crashLimit, 0, ERROR, bench.stream(), '-'],
        )) as unknown[]
      ).slice(1),
    )
  const runById = async (allowRetry = ''): Promise<unknown> =>
    ((await bench.run('run-by-id', ...aClaim('web'), 'a', allowRetry)) as unknown[])[0]

  const passing: readonly Passing[] = [
    { name: 'take', prepare: waiting, call: async () => words(await take(bench, 5)), expected: ['BEGUN'] },
    {
      name: 'begin',
      prepare: async () => {
        await enqueue(bench, { id: 'a' })
        await bench.redis.xreadgroup('GROUP', GROUP, 'first.holder', 'STREAMS', bench.stream(), '>')
        return { id: 'a', leaseToken: '', entryId: (await recordOf(bench))['entryId'] ?? '' }
      },
      call: async ({ entryId }) => words(await bench.run('begin', ...aClaim(), '', bench.stream(), entryId, 'a')),
      expected: ['BEGUN'],
    },
    {
      name: 'begin in mode own',
      prepare: () => beginOne(bench),
      call: async ({ entryId }) => words(await bench.run('begin', ...aClaim(), '1', bench.stream(), entryId, 'a')),
      expected: ['BEGUN'],
    },
    ...(['SUCCESSFUL', 'FAILED', 'READY'] as const).flatMap((outcome): Passing[] =>
      [0, 500].map((delayMs) => ({
        name: `settle as ${outcome} with a delay of ${delayMs} ms`,
        prepare: () => beginOne(bench),
        call: (begun) => settle(bench, { ...begun, outcome, delayMs, payload: `{"name":"${'x'.repeat(10_000)}"}` }),
        expected: ['SETTLED'],
      })),
    ),
    ...['', '1'].map((growing): Passing => ({
      name: growing ? 'requeue with a delay' : 'requeue',
      prepare: () => beginOne(bench),
      call: ({ id, leaseToken, entryId }) => bench.run('requeue', growing, id, leaseToken, entryId),
      expected: ['REQUEUED'],
    })),
    {
      name: 'requeue of a delivery that was not begun',
      prepare: waiting,
      call: ({ id, entryId }) => bench.run('requeue', '', id, '', entryId),
      expected: ['REQUEUED'],
    },
    {
      name: 'renew',
      prepare: () => beginOne(bench),
      call: ({ id, leaseToken }) => bench.run('renew', 'first.holder', 5_000, '', id, leaseToken),
      expected: ['RENEWED'],
    },
    ...[true, false].map((running): Passing => ({
      name: `cancel of a record that ${running ? 'runs' : 'waits'}`,
      prepare: () => (running ? beginOne(bench) : waiting()),
      call: () => bench.run('cancel', 'request-1', ERROR, 'a'),
      expected: ['CANCELLED'],
    })),
    {
      name: 'reclaim of a lease that ran out',
      prepare: async () => {
        const begun = await beginOne(bench)
        await bench.elapse(LEASE_MS)
        return begun
      },
      call: () => reclaim(),
      expected: ['BEGUN'],
    },
    {
      name: 'reclaim at the crash limit',
      prepare: async () => {
        const begun = await beginOne(bench)
        await bench.elapse(LEASE_MS)
        return begun
      },
      call: () => reclaim(0),
      expected: ['CRASHED'],
    },
    {
      name: 'reclaim of an idle delivery',
      prepare: async () => {
        const record = await waiting()
        await bench.redis.xreadgroup('GROUP', GROUP, 'dead', 'STREAMS', bench.stream(), '>')
        return record
      },
      call: () => reclaim(),
      expected: ['BEGUN'],
    },
    {
      name: 'reclaim that puts a lost lease row back',
      prepare: async () => {
        const begun = await beginOne(bench)
        await bench.redis.del(bench.keys.leases)
        return begun
      },
      call: () => reclaim(),
      expected: [],
    },
    {
      name: 'promote',
      prepare: async () => {
        const record = await waiting(START_MS + 1)
        await bench.elapse(1)
        return record
      },
      call: () => bench.run('promote', 'mail'),
      expected: [1, ''],
    },
    {
      name: 'promote that only puts a score right',
      prepare: async () => {
        const record = await waiting(START_MS + 500)
        await bench.redis.zadd(bench.keys.delayed('mail'), 1, 'a')
        return record
      },
      call: () => bench.run('promote', 'mail'),
      expected: [0, '500'],
    },
    { name: 'run-by-id of a waiting record', prepare: waiting, call: () => runById(), expected: 'BEGUN' },
    {
      name: 'run-by-id of a delayed record',
      prepare: () => waiting(START_MS + 500),
      call: () => runById(),
      expected: 'BEGUN',
    },
    {
      name: 'run-by-id of a failed record',
      prepare: () => failOne(bench),
      call: () => runById('1'),
      expected: 'BEGUN',
    },
    { name: 'delete', prepare: waiting, call: () => bench.run('delete-record', 'a'), expected: ['DELETED'] },
    {
      name: 'purge',
      prepare: () => failOne(bench),
      call: () => bench.run('purge', 'mail', 'send', 'FAILED', 0, 200, '', '-inf', 0),
      expected: [1, 1, '', 0],
    },
    { name: 'watch', prepare: waiting, call: () => bench.run('watch', 'a'), expected: 'WATCHED' },
    {
      name: 'heartbeat',
      prepare: waiting,
      call: () => bench.run('heartbeat', 'first.holder', 'workerId', 'first'),
      expected: 'KEPT',
    },
    {
      name: 'forget-worker',
      prepare: waiting,
      call: () => bench.run('forget-worker', 'first.holder', ''),
      expected: 'FORGOTTEN',
    },
  ]

  for (const { name, prepare, call, expected } of passing) {
    it(`lets ${name} pass at the limit, whole`, async () => {
      const begun = await prepare()
      expect(await whileFull(() => call(begun))).to.deep.equal(expected)
      await expectWhole()
    })
  }

  const say = ([command, ...args]: readonly [string, ...string[]]): Promise<unknown> =>
    bench.redis.call(command, ...args)

  for (const [state, enter, leave, answer] of [
    [
      'has too few replicas',
      ['CONFIG', 'SET', 'min-replicas-to-write', '1'],
      ['CONFIG', 'SET', 'min-replicas-to-write', '0'],
      'NOREPLICAS',
    ],
    ['is a replica', ['REPLICAOF', '127.0.0.1', '1'], ['REPLICAOF', 'NO', 'ONE'], 'READONLY'],
  ] as const) {
    it(`raises from any script what a server answers that ${state}, and nothing is written`, async function () {
      await say(enter)
      const probe = await bench.redis
        .eval("return redis.call('DEL', KEYS[1])", 1, 'probe')
        .catch((error: unknown) => error)
      await say(leave)
      // Before 7.0 a script may write whatever min-replicas-to-write says.
      if (!String(probe).includes(answer)) this.skip()
      const calls: readonly Passing[] = [
        ...passing,
        ...refused.map((one) => ({ ...one, prepare: async () => (await one.prepare(), NOTHING), expected: undefined })),
      ]
      for (const { name, prepare, call } of calls) {
        const begun = await prepare()
        const before = await bench.keyspace()
        await say(enter)
        const error = await call(begun).then(
          (words: unknown) => new Error(`expected an error, got: ${JSON.stringify(words)}`),
          (reason: unknown) => reason,
        )
        await say(leave)
        expect(String(error), name).to.contain(answer)
        expect(difference(before, await bench.keyspace()), name).to.deep.equal({})
        bench.close()
        bench = await new ScriptBench(server.url).start()
      }
    })
  }

  it('reclaims although the first row it meets belongs to a record that cannot be read', async () => {
    const broken = await beginOne(bench, { id: 'a' })
    await beginOne(bench, { id: 'b' })
    await bench.redis.del(bench.keys.record(broken.id))
    await spoil(bench, bench.keys.record(broken.id))
    await bench.elapse(LEASE_MS)
    expect(await whileFull(() => reclaim())).to.deep.equal(['BEGUN'])
  })

  it('brings a whole backlog to its end while it is full', async () => {
    const ids = Array.from({ length: 300 }, (_, index) => `r${index}`)
    await enqueue(bench, ...ids.map((id) => ({ id })))
    await whileFull(async () => {
      for (;;) {
        const rows = await take(bench, 50)
        if (rows.length === 0) break
        const answer = await settle(
          bench,
          ...rows.map((row) => ({ ...begunOf(row), payload: JSON.stringify('x'.repeat(500)) })),
        )
        expect(answer).to.deep.equal(rows.map(() => 'SETTLED'))
      }
    })
    const { sortedSets } = await bench.keyspace()
    expect(Object.keys(sortedSets['cell:mail:send:SUCCESSFUL'] ?? {})).to.have.members(ids)
    await expectWhole()
  })

  it('tells the callers of the storage by a StorageFullError, and serves its workers on', async () => {
    const keyPrefix = `spec-${randomUUID()}`
    const storage = new RedisStorage({
      server: driverOptions({ redisUrl: server.url }),
      keyPrefix,
      alias: 'default',
      consumerGroup: GROUP,
    })
    const root = rootOf(keyPrefix, 'default')
    try {
      const failed = await failThrough(storage)
      const delivery = await beginThrough(storage)
      await storage.enqueue([aRecord({ id: 'waiting' })])
      const before = await readKeyspace(bench.redis, root, GROUP)
      await whileFull(async () => {
        for (const call of [
          () => storage.enqueue([aRecord(), aRecord()]),
          () => storage.retry([failed], 'request-1'),
          () => storage.save('waiting', { runAfter: Date.now() + 60_000 }),
        ]) {
          const error = await call().catch((reason: unknown) => reason)
          expect(error).to.be.instanceOf(StorageFullError).with.property('code', 'ERR_TASKS_STORAGE_FULL')
        }
        expect(difference(before, await readKeyspace(bench.redis, root, GROUP))).to.deep.equal({})
        const { words: settled, taken } = await storage.settleAndTake([success(delivery)], aTake())
        expect(settled).to.deep.equal(['SETTLED'])
        expect(taken.begun.map(({ lease }) => lease.id)).to.deep.equal(['waiting'])
      })
      expect(violations(await readKeyspace(bench.redis, new Keys(root).root, GROUP))).to.deep.equal([])
    } finally {
      await storage.close()
    }
  })
})
