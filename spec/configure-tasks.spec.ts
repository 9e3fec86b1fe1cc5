import { expect } from 'chai'
import {
  configureTasks,
  DummyTaskBackend,
  executor,
  ImmediateTaskBackend,
  MemoryTaskBackend,
  RedisTaskBackend,
  silentLogger,
  task,
  TaskBackend,
  taskBackends,
  TaskOptionError,
  TaskRecord,
} from '../lib/index.ts'
import type { TasksConfig } from '../lib/index.ts'
import { caught, closedAtEnd, isolateProcessState, rememberingLogger } from './backends/backends-under-test.ts'
import { sharedRedisServer } from './support/redis-server.ts'

/** The error of a configuration that a caller without types may give. */
async function refusal(config: unknown): Promise<TaskOptionError> {
  const error = await caught(() => configureTasks(config as TasksConfig))
  expect(error).to.be.instanceOf(TaskOptionError)
  return error as TaskOptionError
}

describe('configureTasks', () => {
  isolateProcessState()

  it('makes a backend of each kind', () => {
    const tasks = configureTasks({
      default: { backend: 'redis' },
      embedded: { backend: 'memory' },
      now: { backend: 'immediate' },
      noted: { backend: 'dummy' },
    })
    expect(tasks.default).to.be.instanceOf(RedisTaskBackend)
    expect(tasks.embedded).to.be.instanceOf(MemoryTaskBackend)
    expect(tasks.now).to.be.instanceOf(ImmediateTaskBackend)
    expect(tasks.noted).to.be.instanceOf(DummyTaskBackend)
    expect(Object.entries(tasks).map(([alias, backend]) => [alias, backend.alias])).to.deep.equal([
      ['default', 'default'],
      ['embedded', 'embedded'],
      ['now', 'now'],
      ['noted', 'noted'],
    ])
    expect(Object.isFrozen(tasks)).to.equal(true)
  })

  it('makes them known by their aliases', () => {
    const tasks = configureTasks({ default: { backend: 'dummy' }, other: { backend: 'dummy' } })
    expect(taskBackends.get()).to.equal(tasks.default)
    expect(taskBackends.get('other')).to.equal(tasks.other)
    expect(taskBackends.has('other')).to.equal(true)
    expect(taskBackends.has('another')).to.equal(false)
    expect(taskBackends.entries().map(([alias]) => alias)).to.deep.equal(['default', 'other'])
  })

  it('takes a class of the caller, made with the alias, the queues and the options', () => {
    class OwnBackend extends MemoryTaskBackend {
      readonly given: unknown
      constructor(given: { claimTimeoutSeconds?: number; alias?: string; queues?: readonly string[] }) {
        super(given)
        this.given = given
      }
    }
    const tasks = configureTasks({
      own: { backend: OwnBackend, queues: ['mail'], options: { claimTimeoutSeconds: 7 } },
    })
    const backend: OwnBackend = tasks.own
    expect(backend.given).to.deep.equal({ claimTimeoutSeconds: 7, alias: 'own', queues: ['mail'] })
    expect(backend.limits.claimTimeoutSeconds).to.equal(7)
    expect(taskBackends.get('own')).to.equal(backend)
  })

  it('refuses a class that makes no backend', async () => {
    class Nothing {
      readonly empty = true
    }
    const error = await refusal({ default: { backend: Nothing } })
    expect(error.field).to.equal('config.default.backend')
    expect(error.message).to.contain('TaskBackend')
  })

  it('hands its logger to the backend', async () => {
    const { logger, logged } = rememberingLogger()
    configureTasks({ default: { backend: 'memory', logger } })
    await task('quiet', () => null).enqueue()
    expect(logged.map(({ level, message }) => [level, message])).to.deep.equal([['debug', 'task enqueued']])
  })

  it('refuses a logger that is none', async () => {
    expect((await refusal({ default: { backend: 'memory', logger: { info: () => {} } } })).field).to.match(/logger$/)
    expect((await refusal({ default: { backend: 'memory', logger: console.log } })).field).to.match(/logger$/)
  })

  for (const [given, meant] of [
    ['reddis', 'redis'],
    ['Redis', 'redis'],
    ['inmemory', undefined],
    ['dumy', 'dummy'],
    ['constructor', undefined],
    ['', undefined],
  ] as const) {
    it(`refuses the kind "${given}"${meant === undefined ? ' and lists those there are' : ` and asks for ${meant}`}`, async () => {
      const error = await refusal({ default: { backend: given } })
      expect(error.field).to.equal('config.default.backend')
      expect(error.message).to.contain('redis, memory, immediate, dummy')
      if (meant !== undefined) expect(error.message).to.contain(`did you mean "${meant}"?`)
    })
  }

  it('refuses settings without a kind, and what is no settings', async () => {
    expect((await refusal({ default: {} })).field).to.equal('config.default.backend')
    expect((await refusal({ default: { backend: 5 } })).field).to.equal('config.default.backend')
    for (const settings of [null, undefined, 'redis', 5, []]) {
      expect((await refusal({ default: settings })).field).to.match(/^config\.default/)
    }
  })

  it('refuses settings that it does not know and names the nearest', async () => {
    const error = await refusal({ default: { backend: 'memory', queue: ['mail'] } })
    expect(error.field).to.equal('config.default.queue')
    expect(error.message).to.contain('did you mean "queues"?')
    expect((await refusal({ default: { backend: 'memory', OPTIONS: {} } })).message).to.contain(
      'did you mean "options"?',
    )
  })

  it('refuses an option that the kind does not know and names the nearest', async () => {
    const error = await refusal({ default: { backend: 'redis', options: { redisURL: 'redis://x' } } })
    expect(error.field).to.equal('options.redisURL')
    expect(error.message).to.contain('did you mean "redisUrl"?')
    expect((await refusal({ default: { backend: 'redis', options: { REDIS_URL: 'x' } } })).message).to.contain(
      '"redisUrl"',
    )
    expect((await refusal({ default: { backend: 'memory', options: { redisUrl: 'redis://x' } } })).field).to.equal(
      'options.redisUrl',
    )
    expect((await refusal({ default: { backend: 'dummy', options: { blockTimeoutMs: 10 } } })).field).to.equal(
      'options.blockTimeoutMs',
    )
  })

  it('refuses an alias that is no name', async () => {
    for (const alias of ['', 'a b', 'a:b', '{a}', '*', 'a'.repeat(129)]) {
      expect((await refusal({ [alias]: { backend: 'dummy' } })).message).to.contain('a name of 1 to 128')
    }
  })

  it('refuses what is no configuration', async () => {
    for (const config of [null, undefined, 'redis', 5, [], {}, [{ backend: 'redis' }]]) {
      expect((await refusal(config)).field).to.match(/^config/)
    }
  })

  it('replaces the aliases when it is called again, and leaves the old backends open', async () => {
    const first = configureTasks({ default: { backend: 'memory' }, other: { backend: 'memory' } })
    closedAtEnd(first.default)
    const echo = task('echo', (n: number) => n)
    await echo.enqueue(1)
    const second = configureTasks({ default: { backend: 'memory' } })
    expect(taskBackends.entries()).to.deep.equal([['default', second.default]])
    await echo.enqueue(2)
    expect(await first.default.records.filter().count()).to.equal(1)
    expect(await second.default.records.filter().count()).to.equal(1)
    expect(await TaskRecord.filter().count()).to.equal(1)
  })

  it('replaces nothing when anything is refused, whatever was made before that', async () => {
    await refusal({ default: { backend: 'memory' }, other: { backend: 'nothing' } })
    expect(taskBackends.entries()).to.deep.equal([])
    const { default: kept } = configureTasks({ default: { backend: 'dummy' } })
    await refusal({ default: { backend: 'memory' }, other: { backend: 'redis', options: { redisPort: 0 } } })
    class Throwing extends MemoryTaskBackend {
      constructor(options: object) {
        super(options)
        throw new RangeError('in the constructor')
      }
    }
    expect(await caught(() => configureTasks({ other: { backend: Throwing } }))).to.be.instanceOf(RangeError)
    expect(taskBackends.entries()).to.deep.equal([['default', kept]])
  })

  it('has no default when none is configured', async () => {
    configureTasks({ other: { backend: 'dummy' } })
    const error = await caught(() => taskBackends.get())
    expect(error).to.be.instanceOf(TaskOptionError)
    expect((error as Error).message).to.contain('configured are: other')
  })

  it('opens no connection before the first use', () => {
    // Nobody listens there, and nobody is asked.
    configureTasks({ default: { backend: 'redis', options: { redisUrl: 'redis://127.0.0.1:1' } } })
  })

  describe('queues', () => {
    const enqueueTo = (queueName: string): Promise<unknown> =>
      task({ name: `to-${queueName}`, queueName }, () => null).enqueue()

    it('left out allow only default', async () => {
      const tasks = configureTasks({ default: { backend: 'memory' } })
      expect(tasks.default.queues).to.deep.equal(['default'])
      await enqueueTo('default')
      expect(await caught(() => enqueueTo('mail')))
        .to.be.instanceOf(TaskOptionError)
        .with.property('field', 'queueName')
      expect(await TaskRecord.filter().count()).to.equal(1)
    })

    it('undefined are left out', () => {
      const tasks = configureTasks({ default: { backend: 'memory', queues: undefined as unknown as [] } })
      expect(tasks.default.queues).to.deep.equal(['default'])
    })

    it('[] allow any', async () => {
      configureTasks({ default: { backend: 'memory', queues: [] } })
      for (const name of ['default', 'mail', 'reports.v2']) await enqueueTo(name)
      expect(await TaskRecord.countBy('queueName')).to.deep.equal({ default: 1, mail: 1, 'reports.v2': 1 })
    })

    it('named allow those alone, without default too', async () => {
      configureTasks({ default: { backend: 'memory', queues: ['mail', 'reports'] } })
      await enqueueTo('mail')
      const error = await caught(() => enqueueTo('report'))
      expect(error).to.be.instanceOf(TaskOptionError)
      expect((error as Error).message)
        .to.contain('did you mean "reports"?')
        .and.to.contain('mail, reports')
      expect(await caught(() => enqueueTo('default'))).to.be.instanceOf(TaskOptionError)
    })

    it('are copied and frozen', () => {
      const queues = ['mail']
      const tasks = configureTasks({ default: { backend: 'memory', queues } })
      queues.push('reports')
      expect(tasks.default.queues).to.deep.equal(['mail'])
      expect(Object.isFrozen(tasks.default.queues)).to.equal(true)
    })

    it('are refused where they are no list of names', async () => {
      for (const queues of ['mail', {}, [5], ['a b'], [''], [null]]) {
        expect((await refusal({ default: { backend: 'memory', queues } })).field).to.match(/queues/)
      }
    })
  })

  describe('REDIS_URL', () => {
    it('configures default at its first use, for any queue, when nothing else did', async () => {
      const { url } = await sharedRedisServer()
      process.env['REDIS_URL'] = url
      expect(taskBackends.has('default')).to.equal(false)
      const backend = taskBackends.get()
      expect(backend).to.be.instanceOf(RedisTaskBackend)
      expect(backend.queues).to.deep.equal([])
      expect(taskBackends.get()).to.equal(backend)
      // The default key prefix: nobody else on this server uses it, and nothing stays behind.
      const result = await task('by-url', () => 'done')
        .using({ queueName: 'any' })
        .enqueue()
      expect(await executor.runTaskById(result.id)).to.include({ status: 'SUCCESSFUL', returnValue: 'done' })
      expect(await executor.deleteTask(result.id)).to.equal(true)
    })

    it('is not read when a backend is configured, nor for another alias', async () => {
      process.env['REDIS_URL'] = 'redis://127.0.0.1:1'
      const { default: configured } = configureTasks({ default: { backend: 'dummy' } })
      expect(taskBackends.get()).to.equal(configured)
      expect(await caught(() => taskBackends.get('other'))).to.be.instanceOf(TaskOptionError)
    })

    it('empty is as good as none, and a bad one is refused without showing its password', async () => {
      process.env['REDIS_URL'] = ''
      expect(((await caught(() => taskBackends.get())) as Error).message).to.contain('REDIS_URL')
      process.env['REDIS_URL'] = 'http://user:secret@example.com'
      const error = await caught(() => taskBackends.get())
      expect(error).to.be.instanceOf(TaskOptionError).with.property('field', 'options.redisUrl')
      expect((error as Error).message).not.to.contain('secret')
      expect(taskBackends.entries()).to.deep.equal([])
    })
  })

  describe('a backend made by hand', () => {
    it('becomes default when there is none, and only then', () => {
      const first = new MemoryTaskBackend()
      const second = closedAtEnd(new MemoryTaskBackend())
      expect(taskBackends.get()).to.equal(first)
      expect(taskBackends.entries()).to.deep.equal([['default', first]])
      expect(second.alias).to.equal('default')
    })

    it('is what tasks, records and the executor use then', async () => {
      const backend = new MemoryTaskBackend()
      const { id } = await task('echo', (n: number) => n).enqueue(5)
      expect((await TaskRecord.find(id)).backendName).to.equal('default')
      expect(await executor.runTaskById(id)).to.include({ status: 'SUCCESSFUL', returnValue: 5 })
      expect(await backend.records.filter({ status: 'SUCCESSFUL' }).ids()).to.deep.equal([id])
    })

    it('does not replace one that was configured', () => {
      const { default: configured } = configureTasks({ default: { backend: 'dummy' } })
      closedAtEnd(new MemoryTaskBackend())
      expect(taskBackends.get()).to.equal(configured)
    })

    it('gives the place free when it is closed', async () => {
      const first = new MemoryTaskBackend()
      await first.close()
      expect(taskBackends.has('default')).to.equal(false)
      const second = new MemoryTaskBackend()
      expect(taskBackends.get()).to.equal(second)
    })

    it('takes no place when its options are refused', async () => {
      expect(await caught(() => new MemoryTaskBackend({ claimTimeoutSeconds: 0 }))).to.be.instanceOf(TaskOptionError)
      expect(await caught(() => new RedisTaskBackend({ client: {} as never }))).to.be.instanceOf(TaskOptionError)
      expect(taskBackends.entries()).to.deep.equal([])
    })
  })

  it('says of every backend that it is one', () => {
    const tasks = configureTasks({ a: { backend: 'redis' }, b: { backend: 'memory' }, c: { backend: 'dummy' } })
    for (const backend of Object.values(tasks)) expect(backend).to.be.instanceOf(TaskBackend)
    expect(silentLogger).to.be.an('object')
  })
})

describe('backends made by hand', () => {
  isolateProcessState()

  it('are found by their alias, and the first is default too', async () => {
    const first = closedAtEnd(new MemoryTaskBackend({ alias: 'first' }))
    const second = closedAtEnd(new MemoryTaskBackend({ alias: 'second' }))
    expect([taskBackends.get('first'), taskBackends.get('second')]).to.deep.equal([first, second])
    expect(taskBackends.get('default')).to.equal(first)
    await second.close()
    expect(taskBackends.has('second')).to.equal(false)
  })

  it('do not take an alias that another one has', () => {
    const first = closedAtEnd(new MemoryTaskBackend({ alias: 'same' }))
    closedAtEnd(new MemoryTaskBackend({ alias: 'same' }))
    expect(taskBackends.get('same')).to.equal(first)
  })
})
