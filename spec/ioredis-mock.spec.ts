/**
 * The public contract on ioredis-mock, as far as the mock can carry it: for users who test their own code on it. What it
 * lacks stands in GAPS, by name and with the reason; there it must fail at once, with an error that names the memory backend.
 */
import { expect } from 'chai'
import RedisMock from 'ioredis-mock'
import { randomUUID } from 'node:crypto'
import {
  executor,
  RedisTaskBackend,
  StorageClientError,
  task,
  TaskArgumentError,
  TaskNotFoundError,
  TaskRecord,
  TaskTimeoutError,
  Worker,
} from '../lib/index.ts'
import type { RedisClientLike, Task } from '../lib/index.ts'
import { caught, closedAtEnd, DAY_MS, isolateProcessState } from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'

/** Its TIME answers whole seconds, rounded, and the microseconds of another clock: half a second slow to 1.5 s fast. */
const CLOCK_SKEW_MS = 2_000

const NO_GROUPS = 'the mock has no consumer groups (xgroup xreadgroup xack xautoclaim xpending)'

type Gap = (backend: RedisTaskBackend) => Promise<unknown>

const GAPS: readonly (readonly [name: string, reason: string, call: Gap])[] = [
  ['executor.processOneTask', NO_GROUPS, () => executor.processOneTask()],
  ['executor.processTasks', NO_GROUPS, () => executor.processTasks({ maxTasks: 5 })],
  ['executor.claimStaleTasks', NO_GROUPS, () => executor.claimStaleTasks()],
  ['worker.start', NO_GROUPS, (backend) => new Worker(backend).start()],
  ['queue.take', NO_GROUPS, ({ queue }) => queue.take(1)],
  ['queue.reclaim', NO_GROUPS, ({ queue }) => queue.reclaim(1)],
]

describe('ioredis-mock', () => {
  isolateProcessState()

  let backend: RedisTaskBackend
  let echo: Task<[value: unknown], unknown>
  let fail: Task<[], never>

  beforeEach(() => {
    const mock = new RedisMock()
    closedAtEnd({ close: async () => mock.disconnect() })
    const client = mock as RedisClientLike
    backend = closedAtEnd(new RedisTaskBackend({ client, queues: [], keyPrefix: `mock-${randomUUID()}` }))
    echo = task('echo', (value: unknown) => value)
    fail = task('fail', (): never => {
      throw new RangeError('no')
    })
  })

  const ids = (records: readonly { readonly id: string }[]): string[] => records.map(({ id }) => id)

  it('enqueues, one and many, at once and for later', async () => {
    const result = await echo.enqueue({ a: [1, 'é', null] })
    expect(result).to.include({ status: 'READY', backendName: 'default' })
    expect(await echo.enqueueMany(Array.from({ length: 120 }, (_, n) => [n]))).to.have.lengthOf(120)
    await echo.using({ runAfter: new Date(Date.now() + DAY_MS), priority: 9, queueName: 'mail' }).enqueue('later')
    expect(await TaskRecord.filter().count()).to.equal(122)
  })

  it('refuses arguments as everywhere, and stores nothing', async () => {
    expect(await caught(echo.enqueue(new Date()))).to.be.instanceOf(TaskArgumentError)
    expect(await TaskRecord.filter().count()).to.equal(0)
  })

  it('answers an id that exists with its record', async () => {
    const { id } = await echo.enqueue('first')
    expect((await backend.enqueue(echo, ['second'], { id })).args).to.deep.equal(['first'])
    expect(await TaskRecord.filter().count()).to.equal(1)
  })

  it('finds results and records', async () => {
    const { id } = await echo.enqueue({ a: [1, 'é', null] })
    expect((await echo.getResult(id)).args).to.deep.equal([{ a: [1, 'é', null] }])
    expect(await TaskRecord.find(id)).to.include({ id, status: 'READY', queueName: 'default' })
    expect(await caught(TaskRecord.find(randomUUID()))).to.be.instanceOf(TaskNotFoundError)
  })

  it('filters, orders, counts and pages', async () => {
    const mail = ids(await echo.using({ queueName: 'mail' }).enqueueMany([[1], [2], [3]]))
    const other = await echo.using({ priority: 5 }).enqueue('needle')
    expect(await TaskRecord.filter({ queueName: 'mail' }).ids()).to.have.members(mail)
    expect(await TaskRecord.filter({ queueName: 'mail' }).orderBy('enqueuedAt').ids()).to.deep.equal(mail.toSorted())
    expect(await TaskRecord.filter({ search: 'needle', priority: 5 }).ids()).to.deep.equal([other.id])
    expect(await TaskRecord.filter({ status: 'READY' }).count()).to.equal(4)
    const soon = new Date(Date.now() + CLOCK_SKEW_MS)
    expect(await TaskRecord.filter({ enqueuedAfter: new Date(0), enqueuedBefore: soon }).count()).to.equal(4)
    expect(await TaskRecord.filter({ enqueuedAfter: soon }).count()).to.equal(0)
    expect(await TaskRecord.countBy('queueName')).to.deep.equal({ mail: 3, default: 1 })
    const first = await TaskRecord.filter({ queueName: 'mail' }).page({ size: 2 })
    const second = await TaskRecord.filter({ queueName: 'mail' }).page({ size: 2, after: first.next })
    expect([...ids(first.records), ...ids(second.records)].toSorted()).to.deep.equal(mail.toSorted())
    expect([first.total, second.next]).to.deep.equal([3, null])
    expect((await executor.getTasks({ queueName: 'mail', limit: 2 })).total).to.equal(3)
    expect((await executor.getTaskById(other.id)).args).to.deep.equal(['needle'])
  })

  it('saves priority, time and arguments', async () => {
    const record = await TaskRecord.find((await echo.enqueue('old')).id)
    Object.assign(record, { priority: 50, args: ['new'] })
    await record.save()
    record.runAfter = new Date(Date.now() + DAY_MS)
    await record.save()
    expect(await TaskRecord.find(record.id)).to.include({ priority: 50, status: 'READY' })
    expect((await TaskRecord.find(record.id)).args).to.deep.equal(['new'])
  })

  it('runs a record by its id, keeps how it ended, and retries it', async () => {
    const good = await echo.enqueue('x')
    expect(await executor.runTaskById(good.id)).to.include({ status: 'SUCCESSFUL', returnValue: 'x', attempts: 1 })
    expect(await executor.runTaskById(good.id)).to.equal(null)
    const bad = await TaskRecord.find((await fail.enqueue()).id)
    expect(await bad.run()).to.include({ status: 'FAILED', attempts: 1 })
    expect(bad.errors[0]).to.include({ name: 'RangeError', message: 'no' })
    expect(await bad.retry()).to.include({ status: 'READY' })
    expect(await executor.getTaskCounts()).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 1, FAILED: 0 })
  })

  it('deletes records that finished, and records that wait', async () => {
    const done = await echo.enqueue(1)
    await executor.runTaskById(done.id)
    const waiting = await TaskRecord.find((await echo.enqueue(2)).id)
    const delayed = await echo.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue(3)
    expect(await TaskRecord.filter({ status: 'SUCCESSFUL' }).delete()).to.equal(1)
    await waiting.delete()
    expect(await executor.deleteTasks([delayed.id])).to.equal(1)
    expect(await TaskRecord.filter().count()).to.equal(0)
  })

  it('purges what finished, by age and state', async () => {
    for (const { id } of [await echo.enqueue(1), await fail.enqueue()]) await executor.runTaskById(id)
    await echo.enqueue('waiting')
    expect(await executor.purgeCompletedTasks({ days: 1 })).to.equal(0)
    // By its clock they may have finished a moment from now.
    await eventually(async () => (await executor.purgeCompletedTasks({ days: 0, dryRun: true })) === 2)
    expect(await executor.purgeCompletedTasks({ days: 0, statuses: ['FAILED'] })).to.equal(1)
    expect(await executor.purgeCompletedTasks({ days: 0 })).to.equal(1)
    expect(await executor.getTaskCounts()).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
  })

  it('waits for a result', async () => {
    const result = await echo.enqueue('x')
    const waiting = result.wait({ timeoutMs: 60_000 })
    await executor.runTaskById(result.id)
    expect((await waiting).returnValue).to.equal('x')
    expect(await caught((await echo.enqueue('y')).wait({ timeoutMs: 20 }))).to.be.instanceOf(TaskTimeoutError)
  })

  it('knows how many wait', async () => {
    await echo.enqueueMany([[1], [2]])
    await echo.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue(3)
    expect(await executor.getQueueStats()).to.include({ pendingCount: 2, delayedCount: 1 })
    expect(await executor.getPendingTaskCount()).to.equal(2)
  })

  it('says what it is', async () => {
    expect(await backend.storage.connect()).to.include({ kind: 'mock' })
  })

  describe('gaps', () => {
    for (const [name, reason, call] of GAPS) {
      it(`${name}: ${reason}`, async () => {
        const { id } = await echo.enqueue(1)
        const error = await caught(call(backend))
        expect(error).to.be.instanceOf(StorageClientError)
        expect((error as Error).message)
          .to.contain("{ backend: 'memory' }")
          .and.to.contain('ioredis-mock')
        expect(await TaskRecord.find(id)).to.include({ status: 'READY', attempts: 0 })
      })
    }
  })
})
