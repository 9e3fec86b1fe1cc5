import { expect } from 'chai'
import { Redis as IoRedis5 } from 'ioredis'
import { Redis as IoRedis6 } from 'ioredis6'
import { Redis as IoValkey } from 'iovalkey'
import { randomUUID } from 'node:crypto'
import sinon from 'sinon'
import {
  executor,
  MemoryTaskBackend,
  RedisTaskBackend,
  RetryLater,
  StorageUnavailableError,
  task,
  TaskArgumentError,
  taskBackends,
  TaskOptionError,
  TaskRecord,
  Worker,
} from '../../lib/index.ts'
import type { RedisBackendOptions, Task, TaskResult } from '../../lib/index.ts'
import { eventually } from '../support/eventually.ts'
import { sharedRedisServer, startRedisServer } from '../support/redis-server.ts'
import { caught, closedAtEnd, isolateProcessState, overEveryBackend, rememberingLogger } from './backends-under-test.ts'

const ID = '0198c1f2-0000-7000-8000-000000000000'

overEveryBackend('TaskBackend', (subject, kind) => {
  let echo: Task<[value: unknown], unknown>
  let fail: Task<[], never>

  beforeEach(() => {
    echo = task('echo', (value: unknown) => value)
    fail = task('fail', (): never => {
      throw new RangeError('no')
    })
  })

  describe('enqueue', () => {
    it('takes an id of the caller', async () => {
      const result = await subject.backend.enqueue(echo, [1], { id: ID.toUpperCase() })
      expect(result.id).to.equal(ID)
      expect((await TaskRecord.find(ID)).args).to.deep.equal([1])
    })

    it('answers the record that has the id already, whatever became of it, and stores nothing', async () => {
      await subject.backend.enqueue(echo, ['first'], { id: ID })
      const told: string[] = []
      subject.backend.on('taskEnqueued', ({ id }) => told.push(id))
      const again = await subject.backend.enqueue(echo.using({ priority: 50 }), ['second'], { id: ID })
      expect(again).to.include({ id: ID, status: 'READY', priority: 0 })
      expect(again.args).to.deep.equal(['first'])
      await executor.processOneTask()
      const done = await subject.backend.enqueue(echo, ['third'], { id: ID })
      expect(done).to.include({ status: 'SUCCESSFUL', returnValue: 'first' })
      expect(await executor.processOneTask()).to.equal(null)
      expect(await TaskRecord.filter().count()).to.equal(1)
      expect(told).to.deep.equal([])
    })

    it('stores once when many send the same id at the same time', async () => {
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, n) => subject.backend.enqueue(echo, [n], { id: ID })),
      )
      expect(new Set(results.map(({ args }) => args[0])).size).to.equal(1)
      expect(await executor.processTasks()).to.have.lengthOf(1)
    })

    it('refuses an id that is no UUID, and stores nothing', async () => {
      for (const id of ['', 'x', '../x', '*', `${ID} `, `${ID}\n`, 'a'.repeat(36), 5, null]) {
        const error = await caught(subject.backend.enqueue(echo, [1], { id: id as string }))
        expect(error).to.be.instanceOf(TaskOptionError).with.property('field', 'id')
      }
      expect(await TaskRecord.filter().count()).to.equal(0)
    })

    it('refuses arguments that are no list', async () => {
      for (const args of [null, undefined, 'text', 5, { length: 1 }]) {
        const error = await caught(subject.backend.enqueue(echo, args as unknown as unknown[]))
        expect(error).to.be.instanceOf(TaskArgumentError).with.property('path', 'args')
      }
    })
  })

  describe('events', () => {
    /** What listeners were told, as `event status attempts`. */
    const listen = (): string[] => {
      const told: string[] = []
      for (const event of ['taskEnqueued', 'taskStarted', 'taskFinished'] as const) {
        subject.backend.on(event, (result) => told.push(`${event} ${result.name} ${result.status} ${result.attempts}`))
      }
      return told
    }

    it('tell enqueued, started and finished in that order, for both outcomes', async () => {
      const told = listen()
      await echo.enqueue(1)
      await executor.processOneTask()
      await fail.enqueue()
      await executor.processOneTask()
      expect(told).to.deep.equal([
        ...['taskEnqueued echo READY 0', 'taskStarted echo RUNNING 1', 'taskFinished echo SUCCESSFUL 1'],
        ...['taskEnqueued fail READY 0', 'taskStarted fail RUNNING 1', 'taskFinished fail FAILED 1'],
      ])
    })

    it('tell the start of each attempt, and the end once', async () => {
      const told = listen()
      const flaky = task({ name: 'flaky', takesContext: true }, ({ attempt }) => {
        if (attempt === 1) throw new RetryLater({ delayMs: 0 })
      })
      const { id } = await flaky.enqueue()
      await executor.runTaskById(id)
      await executor.runTaskById(id)
      expect(told).to.deep.equal([
        ...['taskEnqueued flaky READY 0', 'taskStarted flaky RUNNING 1', 'taskStarted flaky RUNNING 2'],
        'taskFinished flaky SUCCESSFUL 2',
      ])
    })

    it('tell the same of what a worker runs', async () => {
      const told = listen()
      await echo.enqueue(1)
      await using worker = new Worker(subject.backend, { continuous: false })
      await worker.run()
      expect(told).to.deep.equal([
        ...['taskEnqueued echo READY 0', 'taskStarted echo RUNNING 1', 'taskFinished echo SUCCESSFUL 1'],
      ])
    })

    it('come after the commit: a listener reads what it is told', async () => {
      const read: string[] = []
      const reading: Promise<unknown>[] = []
      for (const event of ['taskEnqueued', 'taskStarted', 'taskFinished'] as const) {
        subject.backend.on(event, ({ id }) => {
          reading.push(TaskRecord.find(id).then(({ status }) => read.push(`${event} ${status}`)))
        })
      }
      await echo.enqueue(1)
      await Promise.all(reading)
      await executor.processOneTask()
      await Promise.all(reading)
      expect(read).to.include('taskEnqueued READY').and.to.include('taskFinished SUCCESSFUL')
    })

    it('tell of each record of many', async () => {
      const told = listen()
      await echo.enqueueMany([[1], [2], [3]])
      expect(told).to.have.lengthOf(3)
    })

    it('tell nothing when nothing was stored', async () => {
      const told = listen()
      await caught(echo.enqueue(new Date()))
      expect(told).to.deep.equal([])
    })

    for (const [what, listener] of [
      [
        'throws',
        () => {
          throw new Error('a listener')
        },
      ],
      [
        'throws what is no error',
        () => {
          throw null as unknown as Error
        },
      ],
      ['rejects', () => Promise.reject(new Error('a listener'))],
      ['never resolves', () => new Promise(() => {})],
      [
        'answers a thenable that throws',
        () => ({
          then() {
            throw new Error('a listener')
          },
        }),
      ],
    ] as const) {
      it(`change nothing when a listener ${what}, and the others are told`, async () => {
        for (const event of ['taskEnqueued', 'taskStarted', 'taskFinished'] as const)
          subject.backend.on(event, listener)
        const told = listen()
        const result = await echo.enqueue(1)
        expect(await executor.processOneTask()).to.include({ id: result.id, status: 'SUCCESSFUL' })
        await fail.enqueue()
        await using worker = new Worker(subject.backend, { continuous: false })
        await worker.run()
        expect(told).to.have.lengthOf(6)
        expect(await executor.getTaskCounts()).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 1, FAILED: 1 })
        if (what !== 'never resolves') {
          await eventually(() => subject.logged.some(({ message }) => message.includes('a listener failed')))
        }
      })
    }

    it('are not told to a listener that was taken off', async () => {
      const listener = sinon.spy()
      subject.backend.on('taskEnqueued', listener).off('taskEnqueued', listener)
      subject.backend.off('taskFinished', listener)
      await echo.enqueue(1)
      expect(listener.called).to.equal(false)
      expect(subject.backend.hasListeners('taskEnqueued')).to.equal(false)
    })

    it('are told once to a listener that was put on twice', async () => {
      const listener = sinon.spy()
      subject.backend.on('taskEnqueued', listener).on('taskEnqueued', listener)
      await echo.enqueue(1)
      expect(listener.callCount).to.equal(1)
    })

    it('refuse a name that is none of them, and ask for the nearest', async () => {
      const on = subject.backend.on.bind(subject.backend) as (event: string, listener: () => void) => unknown
      const error = await caught(() => on('taskfinished', () => {}))
      expect(error).to.be.instanceOf(TaskOptionError)
      expect((error as Error).message).to.contain('did you mean "taskFinished"?')
      expect(await caught(() => on('taskStarted', 'text' as never))).to.be.instanceOf(TaskOptionError)
    })
  })

  it('logs what was enqueued, began and ended, and a failure with its stack', async () => {
    const { id } = await echo.enqueue(1)
    await executor.processOneTask()
    await fail.enqueue()
    await executor.processOneTask()
    expect(subject.logged.map(({ level, message }) => `${level} ${message}`)).to.deep.equal([
      ...['debug task enqueued', 'info task started', 'info task finished'],
      ...['debug task enqueued', 'info task started', 'error task failed'],
    ])
    expect(subject.logged[0]?.facts).to.deep.equal({ id, name: 'echo', queueName: 'default' })
    expect(subject.logged[2]?.facts).to.include({ id, attempt: 1, status: 'SUCCESSFUL' })
    const { error } = subject.logged[5]?.facts as { error: { name: string; stack: string } }
    expect(error.name).to.equal('RangeError')
    expect(error.stack).to.contain('task-backend.spec.ts')
  })

  it('runs on when its logger throws', async () => {
    const refuse = (): never => {
      throw new Error('the disk is full')
    }
    const logger = { debug: refuse, info: refuse, warn: refuse, error: refuse }
    const { backend } = await kind.open({ logger })
    const result = await backend.enqueue(echo, [1])
    expect(await backend.runById(result.id)).to.include({ status: 'SUCCESSFUL' })
  })

  describe('close', () => {
    it('may be done twice, at the end of a scope too', async () => {
      let backend: typeof subject.backend
      {
        await using scoped = (await kind.open()).backend
        backend = scoped
        await backend.enqueue(echo, [1])
      }
      await backend.close()
      await backend.close()
    })

    it('takes the backend out of the aliases', async () => {
      expect(taskBackends.get()).to.equal(subject.backend)
      await subject.backend.close()
      expect(taskBackends.has('default')).to.equal(false)
    })

    it('may be done before anything was', async () => {
      const { backend } = await kind.open()
      await backend.close()
    })

    it('ends what is asked afterwards with an error that says so', async () => {
      const { backend } = await kind.open()
      await backend.close()
      for (const call of [backend.enqueue(echo, [1]), backend.getResult(ID), backend.records.filter().count()]) {
        const error = await caught(call)
        expect(error).to.be.instanceOf(StorageUnavailableError)
        expect((error as Error).message).to.contain('after close()')
      }
    })

    it('ends those who wait for a result, at once', async () => {
      const { backend } = await kind.open()
      const result = await backend.enqueue(echo, [1])
      const waiting = caught(result.wait({ timeoutMs: 60_000 }))
      await backend.close()
      expect(await waiting).to.be.instanceOf(StorageUnavailableError)
    })
  })
})

describe('RedisTaskBackend', () => {
  isolateProcessState()

  const BOUNDS: readonly (readonly [option: string, good: readonly unknown[], bad: readonly unknown[]])[] = [
    ['alias', ['a', 'a.b-c_d'], ['', 'a b', 'a:b', 5, null]],
    ['queues', [[], ['mail']], ['mail', [''], [5], {}, null]],
    ['resultTtlSeconds', [0, 604_800], [-1, 1.5, '5m', NaN, null]],
    ['completedTaskTtlSeconds', [0, 1], [-1, 1.5, '1', null]],
    ['claimTimeoutSeconds', [1, 300, 86_400], [0, 86_401, '5m', 1.5, null]],
    ['blockTimeoutMs', [10, 5_000], [0, 5_001, '5s', null]],
    ['keyPrefix', ['a', 'app-1.tasks_x', 'x'.repeat(64)], ['', 'a:b', '{a}', 'a b', 'x'.repeat(65), '*', null]],
    ['consumerGroup', ['workers', 'app:workers'], ['', 'a b', 'a\nb', 5, null]],
    ['shards', [1, 3, 64], [0, 65, 1.5, '3', null]],
    ['redisHost', ['localhost', '::1'], ['', 5, 'x'.repeat(256), null]],
    ['redisPort', [1, 65_535], [0, 65_536, '6379', null]],
    ['redisDb', [0, 15], [-1, 1.5, '0', null]],
    ['redisUsername', ['app'], ['', 5, null]],
    ['redisPassword', ['secret'], ['', 5, null]],
    ['redisSsl', [true, false], ['true', 1, null]],
    [
      'redisUrl',
      ['redis://localhost', 'rediss://u:p@h:6380/2', 'valkey://h', 'unix:///tmp/redis.sock', 'redis://[::1]:6379/0'],
      ['', 'localhost', 'http://h', 'redis://a b', 5, null],
    ],
    ['client', [], [{}, 5, 'redis://x', null, () => null]],
    ['logger', [rememberingLogger().logger, console], [{}, { info: () => {} }, 5, null]],
  ]

  for (const [option, good, bad] of BOUNDS) {
    it(`knows what ${option} may be`, async () => {
      for (const value of good) closedAtEnd(new RedisTaskBackend({ [option]: value }))
      for (const value of bad) {
        const error = await caught(() => new RedisTaskBackend({ [option]: value }))
        expect(error, `${option}: ${String(value)}`).to.be.instanceOf(TaskOptionError)
        expect((error as TaskOptionError).field).to.match(new RegExp(`^options\\.${option}`))
      }
    })
  }

  it('has the defaults of its table', () => {
    const backend = closedAtEnd(new RedisTaskBackend())
    expect(backend.alias).to.equal('default')
    expect(backend.queues).to.deep.equal(['default'])
    expect(backend.limits).to.deep.equal({
      ...{ claimTimeoutSeconds: 300, blockTimeoutMs: 5_000, completedTaskTtlSeconds: 604_800 },
      ...{ maxCrashes: 3, unknownTaskTimeoutSeconds: 86_400 },
    })
    expect(Object.isFrozen(backend.limits)).to.equal(true)
  })

  it('keeps finished records for as long as results, unless told otherwise', () => {
    const kept = (options: RedisBackendOptions): number =>
      closedAtEnd(new RedisTaskBackend(options)).limits.completedTaskTtlSeconds
    expect(kept({ resultTtlSeconds: 60 })).to.equal(60)
    expect(kept({ resultTtlSeconds: 60, completedTaskTtlSeconds: 5 })).to.equal(5)
    expect(kept({ completedTaskTtlSeconds: 0 })).to.equal(0)
  })

  it('says why an option is refused, and shows no password', async () => {
    const error = await caught(() => new RedisTaskBackend({ claimTimeoutSeconds: '5m' as unknown as number }))
    expect((error as Error).message).to.match(
      /^expected options\.claimTimeoutSeconds to be an integer .*, got: "5m" \(.+\)$/,
    )
    const url = await caught(() => new RedisTaskBackend({ redisUrl: 'http://app:secret@example.com' }))
    expect((url as Error).message)
      .to.contain('http://app:***@example.com')
      .and.not.to.contain('secret')
    const password = await caught(() => new RedisTaskBackend({ redisPassword: ['secret'] as unknown as string }))
    expect((password as Error).message).not.to.contain('secret')
  })

  for (const [given, meant] of [
    ['url', 'redisUrl'],
    ['REDIS_URL', 'redisUrl'],
    ['host', 'redisHost'],
    ['prefix', 'keyPrefix'],
    ['keyprefix', 'keyPrefix'],
    ['REDIS_CLAIM_TIMEOUT', undefined],
    ['queue', 'queues'],
  ] as const) {
    it(`refuses the option ${given}${meant === undefined ? '' : ' and names the nearest, or all'}`, async () => {
      const error = await caught(() => new RedisTaskBackend({ [given]: 'x' }))
      expect(error).to.be.instanceOf(TaskOptionError).with.property('field', `options.${given}`)
      if (meant !== undefined) expect((error as Error).message).to.contain(meant)
    })
  }

  it('keeps to its own keys: prefix and alias keep backends apart', async () => {
    const { url: redisUrl } = await sharedRedisServer()
    const keyPrefix = `spec-${randomUUID()}`
    const open = (options: RedisBackendOptions): RedisTaskBackend =>
      closedAtEnd(new RedisTaskBackend({ redisUrl, keyPrefix, ...options }))
    const [one, alias, prefix, same] = [
      open({}),
      open({ alias: 'other' }),
      open({ keyPrefix: `${keyPrefix}-2` }),
      open({}),
    ]
    await one.enqueue(
      task('echo', (n: number) => n),
      [1],
    )
    expect(await same.records.filter().count()).to.equal(1)
    expect(await alias.records.filter().count()).to.equal(0)
    expect(await prefix.records.filter().count()).to.equal(0)
  })

  it('takes host, port and database in place of a URL, and over one', async () => {
    const { host, port } = await sharedRedisServer()
    const keyPrefix = `spec-${randomUUID()}`
    const parts = closedAtEnd(new RedisTaskBackend({ redisHost: host, redisPort: port, redisDb: 3, keyPrefix }))
    const url = closedAtEnd(new RedisTaskBackend({ redisUrl: `redis://${host}:${port}/3`, keyPrefix }))
    const over = closedAtEnd(
      new RedisTaskBackend({ redisUrl: `redis://${host}:1/0`, redisPort: port, redisDb: 3, keyPrefix }),
    )
    const elsewhere = closedAtEnd(new RedisTaskBackend({ redisUrl: `redis://${host}:${port}`, keyPrefix }))
    await parts.enqueue(
      task('echo', (n: number) => n),
      [1],
    )
    for (const backend of [url, over]) expect(await backend.records.filter().count()).to.equal(1)
    expect(await elsewhere.records.filter().count()).to.equal(0)
  })

  for (const wrong of [
    ':pa#ss@h',
    ':pa/ss@h',
    ':pa?ss@h',
    ':pa%ss@h',
    'h:abc',
    'h:99999',
    'h/abc',
    'h?db=x',
    'h/1/2',
  ]) {
    it(`says what is wrong with the URL redis://${wrong}, and shows no password`, async () => {
      const error = await caught(() => new RedisTaskBackend({ redisUrl: `redis://${wrong}` }))
      expect(error).to.be.instanceOf(TaskOptionError).with.property('field', 'options.redisUrl')
      expect((error as Error).message)
        .to.match(/%23 %2F %3F %25 %40 %3A|number of a database/)
        .and.not.match(/pa.ss/)
    })
  }

  it('takes no other database than the one that was asked for', async () => {
    const { host, port, url } = await sharedRedisServer()
    const keyPrefix = `spec-${randomUUID()}`
    const none = closedAtEnd(new RedisTaskBackend({ redisUrl: `redis://${host}:${port}/99`, keyPrefix }))
    const echo = task('echo', (n: number) => n)
    const tried = Array.from({ length: 300 }, (_, n) => caught(none.enqueue(echo, [n])))
    for (const error of await Promise.all(tried)) {
      expect(error).to.be.instanceOf(StorageUnavailableError)
      expect((error as Error).message)
        .to.contain('DB index is out of range')
        .and.contain('/99 (give a database')
    }
    expect(await caught(none.storage.connect())).to.be.instanceOf(StorageUnavailableError)
    const zero = closedAtEnd(new RedisTaskBackend({ redisUrl: url, keyPrefix }))
    expect(await zero.records.filter().count()).to.equal(0)
  })

  it('logs in with user and password, and says what is wrong when it may not', async () => {
    await using server = await startRedisServer({ args: ['--requirepass', 's3cr:t@/'] })
    const password = 's3cr:t@/'
    const { host: redisHost, port: redisPort } = server
    const right = closedAtEnd(new RedisTaskBackend({ redisHost, redisPort, redisPassword: password }))
    const encoded = encodeURIComponent(password)
    const byUrl = closedAtEnd(
      new RedisTaskBackend({ redisUrl: `redis://default:${encoded}@${redisHost}:${redisPort}` }),
    )
    for (const backend of [right, byUrl]) expect(await backend.records.filter().count()).to.equal(0)
    for (const redisPassword of [undefined, 'wrong-guess']) {
      const wrong = closedAtEnd(new RedisTaskBackend({ redisHost, redisPort, redisPassword }))
      const error = await caught(wrong.records.filter().count())
      expect(error).to.be.instanceOf(StorageUnavailableError)
      expect((error as Error).message)
        .to.contain('password')
        .and.not.to.contain('wrong-guess')
    }
  })

  it('fails within a second while the server is away, with an error that says where it should be', async () => {
    const { logger, logged } = rememberingLogger()
    const redisUrl = 'redis://app:secret@127.0.0.1:1/0'
    const backend = closedAtEnd(new RedisTaskBackend({ redisUrl, logger }))
    const before = performance.now()
    const error = await caught(
      backend.enqueue(
        task('echo', (n: number) => n),
        [1],
      ),
    )
    expect(performance.now() - before).to.be.below(1_500)
    expect(error).to.be.instanceOf(StorageUnavailableError)
    expect(error).to.include({ code: 'ERR_TASKS_STORAGE_UNAVAILABLE' })
    expect((error as Error).message)
      .to.contain('127.0.0.1:1/0')
      .and.not.to.contain('secret')
    expect(JSON.stringify(logged)).not.to.contain('secret')
  })

  it('says that it asked over TLS where the server never answers that', async () => {
    const { url } = await sharedRedisServer()
    const backend = closedAtEnd(new RedisTaskBackend({ redisUrl: url.replace('redis://', 'rediss://') }))
    const error = await caught(backend.storage.connect())
    expect(error).to.be.instanceOf(StorageUnavailableError)
    expect((error as Error).message).to.match(/ from 127\.0\.0\.1:\d+\/0 over TLS \(/)
  })

  for (const [name, connect] of [
    ['ioredis 5', (url: string) => new IoRedis5(url, { lazyConnect: true, keyPrefix: 'mine:' })],
    ['ioredis 6', (url: string) => new IoRedis6(url, { lazyConnect: true, keyPrefix: 'mine:' })],
    ['iovalkey', (url: string) => new IoValkey(url, { lazyConnect: true, keyPrefix: 'mine:' })],
  ] as const) {
    it(`duplicates a client of ${name}, and neither uses nor closes it`, async () => {
      const { url } = await sharedRedisServer()
      const client = connect(url)
      const backend = closedAtEnd(new RedisTaskBackend({ client: client, keyPrefix: `spec-${randomUUID()}` }))
      const { id } = await task('echo', (n: number) => n).enqueue(1)
      expect(await executor.runTaskById(id)).to.include({ status: 'SUCCESSFUL', returnValue: 1 })
      expect(client.status).to.equal('wait')
      await client.connect()
      await backend.close()
      expect(await client.ping()).to.equal('PONG')
      client.disconnect()
    })
  }
})

describe('MemoryTaskBackend', () => {
  isolateProcessState()

  it('knows the same options as Redis, without those of a server', async () => {
    const backend = closedAtEnd(
      new MemoryTaskBackend({ claimTimeoutSeconds: 5, blockTimeoutMs: 10, resultTtlSeconds: 1 }),
    )
    expect(backend.limits).to.deep.equal({
      claimTimeoutSeconds: 5,
      maxCrashes: 3,
      unknownTaskTimeoutSeconds: 86_400,
      blockTimeoutMs: 10,
      completedTaskTtlSeconds: 1,
    })
    expect(await caught(() => new MemoryTaskBackend({ redisUrl: 'redis://x' } as object))).to.be.instanceOf(
      TaskOptionError,
    )
    expect(await caught(() => new MemoryTaskBackend({ claimTimeoutSeconds: 0 }))).to.be.instanceOf(TaskOptionError)
    expect(await caught(() => new MemoryTaskBackend(null as unknown as object))).to.be.instanceOf(TaskOptionError)
  })

  it('keeps its records to itself', async () => {
    const [one, other] = [closedAtEnd(new MemoryTaskBackend()), closedAtEnd(new MemoryTaskBackend())]
    const results: TaskResult[] = [
      await one.enqueue(
        task('echo', (n: number) => n),
        [1],
      ),
    ]
    expect(await one.records.filter().ids()).to.deep.equal(results.map(({ id }) => id))
    expect(await other.records.filter().count()).to.equal(0)
  })
})
