import { expect } from 'chai'
import { Redis } from 'ioredis'
import { once } from 'node:events'
import {
  configureTasks,
  executor,
  RedisTaskBackend,
  RetryLater,
  StorageUnavailableError,
  task,
  TaskNotFoundError,
  TaskRecord,
  TaskTimeoutError,
  Worker,
} from '../lib/index.ts'
import type { Task } from '../lib/index.ts'
import { abandon, caught, closedAtEnd, isolateProcessState, overEveryBackend } from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'
import { startRedisServer } from './support/redis-server.ts'
import type { RedisServer } from './support/redis-server.ts'

/** Far longer than a case takes: what waits for so long was not woken. */
const LONG = { timeoutMs: 60_000 }

overEveryBackend('TaskResult.wait', (subject) => {
  let echo: Task<[value: unknown], unknown>

  beforeEach(() => {
    echo = task('echo', (value: unknown) => value)
  })

  it('resolves to the same result, read again, when the task was successful', async () => {
    const result = await echo.enqueue('x')
    const waiting = result.wait(LONG)
    await executor.processOneTask()
    expect(await waiting).to.equal(result)
    expect(result).to.include({ status: 'SUCCESSFUL', returnValue: 'x' })
  })

  it('resolves when the task failed, too', async () => {
    const fail = task('fail', () => Promise.reject(new Error('no')))
    const result = await fail.enqueue()
    const waiting = result.wait(LONG)
    await executor.processOneTask()
    expect(await waiting).to.include({ status: 'FAILED' })
  })

  it('resolves at once when the task has ended already, seen or not', async () => {
    const result = await echo.enqueue('x')
    await executor.processOneTask()
    expect(result.status).to.equal('READY')
    expect((await result.wait(LONG)).returnValue).to.equal('x')
    expect((await result.wait(LONG)).returnValue).to.equal('x')
    expect((await (await echo.getResult(result.id)).wait({ timeoutMs: 0 })).returnValue).to.equal('x')
  })

  it('is woken by what a worker of the same process runs', async () => {
    await using worker = new Worker(subject.backend, { continuous: true })
    await worker.start()
    const result = await echo.enqueue('x')
    expect((await result.wait(LONG)).returnValue).to.equal('x')
  })

  it('does not end with an attempt that is not the last', async () => {
    let runs = 0
    const flaky = task('flaky', () => {
      runs += 1
      if (runs === 1) throw new RetryLater({ delayMs: 0 })
      return runs
    })
    const result = await flaky.enqueue()
    const waiting = result.wait(LONG)
    await executor.runTaskById(result.id)
    expect((await flaky.getResult(result.id)).status).to.equal('READY')
    await executor.runTaskById(result.id)
    expect((await waiting).returnValue).to.equal(2)
  })

  it('throws TaskTimeoutError when the task did not end in time, and the task goes on', async () => {
    const result = await echo.enqueue('x')
    const error = await caught(result.wait({ timeoutMs: 20 }))
    expect(error).to.be.instanceOf(TaskTimeoutError)
    expect(error).to.include({ code: 'ERR_TASKS_TIMEOUT', timeoutMs: 20 })
    expect((error as Error).message).to.contain(result.id)
    expect(await executor.processOneTask()).to.include({ id: result.id, status: 'SUCCESSFUL' })
    expect((await result.wait({ timeoutMs: 20 })).returnValue).to.equal('x')
  })

  it('throws TaskTimeoutError at once with 0, when it has not ended', async () => {
    expect(await caught((await echo.enqueue('x')).wait({ timeoutMs: 0 }))).to.be.instanceOf(TaskTimeoutError)
  })

  it('throws TaskNotFoundError when the record is gone, and when it is deleted meanwhile', async () => {
    const result = await echo.enqueue('x')
    const waiting = caught(result.wait(LONG))
    await TaskRecord.filter().delete()
    expect(await waiting)
      .to.be.instanceOf(TaskNotFoundError)
      .with.property('id', result.id)
    expect(await caught(result.wait(LONG))).to.be.instanceOf(TaskNotFoundError)
  })

  it('is woken when the record becomes FAILED because its workers died', async () => {
    const result = await echo.enqueue('x')
    const waiting = result.wait(LONG)
    await abandon(subject.backend, 'default')
    const stream = { queueName: 'default', band: 'normal' } as const
    const claim = { consumer: 'c', workerId: 'w', call: 'c.1', leaseMs: 1, count: 1, stream, cursor: '' }
    const { crashed } = await subject.backend.storage.reclaim({
      ...claim,
      crashLimit: 0,
      idleMs: 0,
      crashError: '{"name":"X"}',
    })
    expect(crashed).to.deep.equal([result.id])
    expect((await waiting).errors[0]?.name).to.equal('X')
  })

  it('wakes everybody who waits for the same record', async () => {
    const result = await echo.enqueue('x')
    const others = await Promise.all(Array.from({ length: 10 }, () => echo.getResult(result.id)))
    const waiting = Promise.all(others.map((other) => other.wait(LONG)))
    await executor.processOneTask()
    for (const { returnValue } of await waiting) expect(returnValue).to.equal('x')
  })

  it('wakes each of many with its own', async () => {
    const results = await echo.enqueueMany(Array.from({ length: 50 }, (_, n) => [n]))
    const waiting = Promise.all(results.map((result) => result.wait(LONG)))
    await executor.processTasks()
    expect((await waiting).map(({ returnValue }) => returnValue)).to.deep.equal(Array.from({ length: 50 }, (_, n) => n))
  })

  it('leaves no timer behind when it is woken', async () => {
    const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const result = await echo.enqueue('x')
    const waiting = result.wait({ timeoutMs: 2_000_000_000 })
    await executor.processOneTask()
    await waiting
    await eventually(() => {
      const now = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
      expect(now).to.be.at.most(before + 1) // the poller's own
    })
  })
})

describe('TaskResult.wait on a server of its own', () => {
  isolateProcessState()

  let server: RedisServer
  let admin: Redis
  let echo: Task<[value: unknown], unknown>

  beforeEach(async () => {
    server = await startRedisServer()
    admin = new Redis(server.url)
    configureTasks({ default: { backend: 'redis', options: { redisUrl: server.url } } })
    echo = task('echo', (value: unknown) => value)
  })

  afterEach(async () => {
    admin.disconnect()
    await server.stop()
  })

  const subscribers = async (): Promise<string[]> =>
    ((await admin.call('CLIENT', 'LIST', 'TYPE', 'pubsub')) as string).split('\n').filter(Boolean)

  /** Every command that the server was given since the last reset, but for those that ask for that. */
  const commands = async (): Promise<Record<string, number>> => {
    const stats = await admin.info('commandstats')
    const calls = [...stats.matchAll(/cmdstat_(\S+?):calls=(\d+)/g)].map(([, name = '', count]) => [
      name,
      Number(count),
    ])
    return Object.fromEntries(calls.filter(([name]) => !/^(info|config)/.test(String(name)))) as Record<string, number>
  }

  /** Resolves when the record is marked for those who wait for it: from then on a message comes. */
  const watched = async (id: string): Promise<unknown> =>
    await eventually(async () => (await admin.hget(`{express_tasks:default}:task:${id}`, 'watched')) === '1')

  it('asks nothing while it waits, and once more at the end of its time', async () => {
    const result = await echo.enqueue('x')
    const waiting = caught(result.wait({ timeoutMs: 400 }))
    await watched(result.id)
    await admin.config('RESETSTAT')
    expect(await waiting).to.be.instanceOf(TaskTimeoutError)
    expect(await commands()).to.include({ evalsha: 1, hget: 1 })
  })

  it('waits again once it may subscribe, where it was refused before', async () => {
    await admin.call('ACL', 'SETUSER', 'deaf', 'on', '>secret', '~*', '+@all', '-subscribe')
    // Before 6.2 there is nothing to permit.
    const channels = await admin.call('ACL', 'SETUSER', 'deaf', 'allchannels').catch(String)
    expect(channels).to.match(/^OK$|Syntax error/)
    const url = new URL(server.url)
    url.username = 'deaf'
    url.password = 'secret'
    const deaf = closedAtEnd(new RedisTaskBackend({ redisUrl: url.href }))
    const { id } = await echo.enqueue('x')
    expect(await caught((await deaf.getResult(id)).wait(LONG))).to.be.instanceOf(StorageUnavailableError)
    await admin.call('ACL', 'SETUSER', 'deaf', '+subscribe')
    const waiting = (await deaf.getResult(id)).wait(LONG)
    await watched(id)
    await executor.processOneTask()
    expect((await waiting).returnValue).to.equal('x')
  })

  it('has one subscription for fifty who wait, and one look at each when it ends', async () => {
    const results = await echo.enqueueMany(Array.from({ length: 50 }, (_, n) => [n]))
    const waiting = Promise.all(results.map((result) => result.wait(LONG)))
    for (const { id } of results) await watched(id)
    expect(await subscribers()).to.have.lengthOf(1)
    await admin.config('RESETSTAT')
    await executor.processTasks()
    await waiting
    const { hget, subscribe = 0, ...others } = await commands()
    expect(others).to.include({ publish: 50 }).and.not.to.have.any.keys('psubscribe')
    // Who runs tasks hears of cancels: that is a channel more, and a look whether the new subscription had missed one
    expect(subscribe).to.be.at.most(1)
    expect(hget).to.be.within(50, 51)
  })

  it('has one subscription, used again for what comes later', async () => {
    for (let n = 0; n < 3; n += 1) {
      const results = await echo.enqueueMany([[1], [2], [3]])
      const waiting = Promise.all(results.map((result) => result.wait(LONG)))
      await Promise.all(results.map(({ id }) => watched(id)))
      expect(await subscribers()).to.have.lengthOf(1)
      await executor.processTasks()
      await waiting
    }
    expect(await subscribers()).to.have.lengthOf(1)
  })

  it('is woken by what another process runs', async () => {
    const result = await echo.enqueue('x')
    const waiting = result.wait(LONG)
    await watched(result.id)
    const other = closedAtEnd(new RedisTaskBackend({ redisUrl: server.url }))
    expect(await other.runById(result.id)).to.include({ status: 'SUCCESSFUL' })
    expect((await waiting).returnValue).to.equal('x')
  })

  it('is woken although its subscription was cut off', async () => {
    const result = await echo.enqueue('x')
    const waiting = result.wait(LONG)
    await watched(result.id)
    expect(await admin.client('KILL', 'TYPE', 'pubsub')).to.equal(1)
    await eventually(async () => (await subscribers()).length === 1)
    await executor.processOneTask()
    expect((await waiting).returnValue).to.equal('x')
  })

  it('is woken although the message came while its subscription was cut off', async () => {
    const result = await echo.enqueue('x')
    const waiting = result.wait(LONG)
    await watched(result.id)
    // Nobody gets in while the message goes out; then everybody may again.
    await admin.client('KILL', 'TYPE', 'pubsub')
    await executor.processOneTask()
    expect((await waiting).returnValue).to.equal('x')
  })

  it('is woken after the server was restarted, if it kept the record', async () => {
    await admin.config('SET', 'appendonly', 'yes')
    const result = await echo.enqueue('x')
    const waiting = result.wait(LONG)
    await watched(result.id)
    const closed = once(admin, 'close')
    await admin.save()
    await server.kill('SIGKILL')
    await closed
    await server.restart()
    await eventually(async () => (await executor.processOneTask().catch(() => null)) !== null)
    expect((await waiting).returnValue).to.equal('x')
  }).timeout(20_000)

  it('keeps to its time limit while the server is away', async () => {
    const result = await echo.enqueue('x')
    await server.kill('SIGKILL')
    const before = performance.now()
    const error = await caught(result.wait({ timeoutMs: 200 }))
    expect(error).to.satisfy((e: unknown) => e instanceof TaskTimeoutError || e instanceof StorageUnavailableError)
    expect(performance.now() - before).to.be.below(1_500)
  })
})
