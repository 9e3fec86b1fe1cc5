/** A worker, a web process and the records of a backend with shards: what they do is what they do without. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { executor, RedisTaskBackend, task, Worker } from '../../../lib/index.ts'
import { abandon, closedAtEnd, isolateProcessState } from '../../backends/backends-under-test.ts'
import { eventually } from '../../support/eventually.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'

async function open(shards: number, keyPrefix = `spec-${randomUUID()}`): Promise<RedisTaskBackend> {
  const { url } = await sharedRedisServer()
  const options = { shards, keyPrefix, queues: [], claimTimeoutSeconds: 5, blockTimeoutMs: 1_000 }
  return closedAtEnd(new RedisTaskBackend({ redisUrl: url, ...options }))
}

describe('A backend with shards', () => {
  const workers: Worker[] = []
  // Before isolateProcessState: hooks run in the order in which they are declared, and it closes the backends.
  afterEach(async () => {
    for (const worker of workers.splice(0)) await worker.stop({ drainTimeoutSeconds: 0 })
  })
  isolateProcessState()
  let backend: RedisTaskBackend | undefined
  const current = (): RedisTaskBackend => {
    if (!backend) throw new Error('expected the backend to be used inside a case, got: outside')
    return backend
  }
  beforeEach(async () => (backend = await open(3)))
  function work(options: ConstructorParameters<typeof Worker>[1] = {}): Worker {
    const worker = new Worker(current(), { intervalSeconds: 0.1, claimIntervalSeconds: 0.5, ...options })
    workers.push(worker)
    return worker
  }

  it('runs what is there on every shard, and what comes while it waits', async () => {
    const double = task('double', (value: number) => value * 2)
    const results = await double.enqueueMany(Array.from({ length: 60 }, (_, value): [number] => [value]))
    const worker = work()
    await worker.start()
    for (const [value, result] of results.entries()) {
      await result.wait({ timeoutMs: 20_000 })
      expect(result.returnValue).to.equal(value * 2)
    }
    // One at a time, each to another shard than the one before as often as not
    for (let value = 0; value < 12; value += 1) {
      const result = await double.enqueue(value)
      await result.wait({ timeoutMs: 20_000 })
      expect(result.returnValue).to.equal(value * 2)
    }
    expect(await current().records.countBy('status')).to.include({ SUCCESSFUL: 72, READY: 0, RUNNING: 0 })
  })

  it('begins exactly maxTasks of what several shards offer', async () => {
    let runs = 0
    const count = task('count', () => void (runs += 1))
    await count.enqueueMany(Array.from({ length: 30 }, () => [] as []))
    await work({ maxTasks: 7, concurrency: 4 }).run()
    expect(runs).to.equal(7)
    expect(await current().records.countBy('status')).to.include({ SUCCESSFUL: 7, READY: 23, RUNNING: 0 })
  })

  it('promotes delayed ones, and retries failed ones', async () => {
    const flaky = task({ name: 'flaky', takesContext: true, retry: { maxAttempts: 3, delayMs: 10 } }, ({ attempt }) => {
      if (attempt < 3) throw new Error('not yet')
      return attempt
    })
    const runAfter = new Date(Date.now() + 200)
    const results = [await flaky.enqueue(), await flaky.using({ runAfter }).enqueue()]
    const worker = work({ concurrency: 1 })
    await worker.start()
    for (const result of results) await result.wait({ timeoutMs: 20_000 })
    expect(results.map(({ returnValue }) => returnValue)).to.deep.equal([3, 3])
  })

  it('takes over what a dead worker left on each shard', async () => {
    const nothing = task('nothing', () => null)
    await nothing.enqueueMany(Array.from({ length: 20 }, () => [] as []))
    expect(await abandon(current(), 'default', 20)).to.have.lengthOf(20)
    await work().start()
    await eventually(async () => (await current().records.filter({ status: 'SUCCESSFUL' }).count()) === 20, {
      timeoutMs: 20_000,
    })
  })

  it('hands back what a stop interrupts, and forgets the worker', async () => {
    const long = task({ name: 'long', takesContext: true }, async ({ signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      signal.throwIfAborted()
    })
    await long.enqueueMany(Array.from({ length: 9 }, () => [] as []))
    const worker = work({ concurrency: 9 })
    await worker.start()
    await eventually(() => worker.running === 9)
    expect(await worker.stop({ drainTimeoutSeconds: 0 })).to.equal(9)
    expect(await current().records.countBy('status')).to.include({ READY: 9, RUNNING: 0 })
    expect(await current().storage.workers()).to.deep.equal([])
  })

  it('serves the executor and the queries', async () => {
    const even = task('even', (value: number) => {
      if (value % 2 === 1) throw new Error('odd')
    })
    await even.enqueueMany(Array.from({ length: 20 }, (_, value): [number] => [value]))
    expect(await executor.processTasks({ maxTasks: 20 })).to.have.lengthOf(20)
    expect(await executor.getQueueStats()).to.include({ successfulCount: 10, failedCount: 10, pendingCount: 0 })
    const failed = current().records.filter({ status: 'FAILED' })
    const pages: string[] = []
    let after: string | null = null
    do {
      const page: Awaited<ReturnType<typeof failed.page>> = await failed.page({ size: 3, after })
      expect(page.total).to.equal(10)
      pages.push(...page.records.map(({ id }) => id))
      after = page.next
    } while (after !== null)
    expect(new Set(pages).size).to.equal(10)
    expect(await failed.retry()).to.equal(10)
    expect(await current().records.filter({ status: 'READY' }).delete()).to.equal(10)
    expect(await executor.purgeCompletedTasks({ days: 0 })).to.equal(10)
    expect(await current().records.filter({}).count()).to.equal(0)
  })

  it('is not seen by one with another number of shards, and not harmed by its workers', async () => {
    const nothing = task('nothing', () => null)
    const keyPrefix = `spec-${randomUUID()}`
    const [three, two] = [await open(3, keyPrefix), await open(2, keyPrefix)]
    await three.enqueueMany(
      nothing,
      Array.from({ length: 30 }, () => []),
    )
    const wrong = new Worker(two, { intervalSeconds: 0.05 })
    workers.push(wrong)
    await wrong.start()
    // It hands back what it takes, and that waits a little longer each time
    await eventually(async () => ((await three.queue.depth())[0]?.delayed ?? 0) > 0)
    await wrong.stop()
    const right = new Worker(three, { intervalSeconds: 0.05 })
    workers.push(right)
    await right.start()
    await eventually(async () => (await three.records.filter({ status: 'SUCCESSFUL' }).count()) === 30, {
      timeoutMs: 30_000,
    })
    const records = await three.records.filter({})
    expect(records.every(({ attempts }) => attempts === 1)).to.equal(true)
  })
})
