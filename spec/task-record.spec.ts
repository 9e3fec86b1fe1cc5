import { expect } from 'chai'
import sinon from 'sinon'
import {
  configureTasks,
  executor,
  task,
  TaskArgumentError,
  TaskNotFoundError,
  TaskNotRegisteredError,
  TaskOptionError,
  TaskRecord,
  TaskRecordDamagedError,
  taskRegistry,
  TaskStateError,
} from '../lib/index.ts'
import type { Task } from '../lib/index.ts'
import { abandon, caught, holdRunning, isolateProcessState, overEveryBackend } from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'

const NOWHERE = '0198c1f2-0000-7000-8000-000000000000'

overEveryBackend('TaskRecord', (subject) => {
  let echo: Task<[value: unknown], unknown>
  let fail: Task<[], never>

  beforeEach(() => {
    echo = task('echo', (value: unknown) => value)
    fail = task('fail', (): never => {
      throw new Error('no')
    })
  })

  const stored = async (value: unknown = 1): Promise<TaskRecord> => TaskRecord.find((await echo.enqueue(value)).id)
  const failed = async (): Promise<TaskRecord> => {
    const { id } = await fail.enqueue()
    await executor.runTaskById(id)
    return await TaskRecord.find(id)
  }
  const running = async (): Promise<TaskRecord> => {
    const record = await stored()
    expect(await holdRunning(subject.backend, 'default')).to.deep.equal([record.id])
    return await record.refresh()
  }
  const succeeded = async (): Promise<TaskRecord> => await (await stored()).run()

  describe('find', () => {
    it('answers the record of an id', async () => {
      const record = await stored('x')
      expect(record).to.be.instanceOf(TaskRecord)
      expect(record).to.include({ name: 'echo', status: 'READY', queueName: 'default', crashes: 0, fence: 0 })
      expect(record.args).to.deep.equal(['x'])
      expect(record.stored).to.include({ args: '["x"]', returnValue: null })
    })

    it('says that there is none of an id that is nowhere', async () => {
      const error = await caught(TaskRecord.find(NOWHERE))
      expect(error).to.be.instanceOf(TaskNotFoundError).with.property('id', NOWHERE)
    })

    it('takes what is no UUID for the id of no record, and does not even ask the storage', async () => {
      const find = sinon.spy(subject.backend.storage, 'find')
      for (const id of [
        '',
        'x',
        `${NOWHERE} `,
        `{${NOWHERE}}`,
        '*',
        '../x',
        'a'.repeat(1_000_000),
        5,
        null,
        undefined,
        {},
      ]) {
        const error = await caught(TaskRecord.find(id as string))
        expect(error).to.be.instanceOf(TaskNotFoundError)
        expect((error as Error).message).to.have.length.below(500)
      }
      expect(find.called).to.equal(false)
    })
  })

  describe('save', () => {
    it('changes the priority, and with it the place in the queue', async () => {
      const [first, second] = await echo.enqueueMany([[1], [2]])
      const record = await TaskRecord.find(second?.id ?? '')
      record.priority = 10
      expect(await record.save()).to.equal(record)
      expect(record.priority).to.equal(10)
      expect((await TaskRecord.find(record.id)).priority).to.equal(10)
      const order = await executor.processTasks()
      expect(order.map(({ id }) => id)).to.deep.equal([second?.id, first?.id])
    })

    it('delays a record that was due, and makes a delayed one due', async () => {
      const record = await stored()
      record.runAfter = new Date(Date.now() + 3_600_000)
      await record.save()
      expect(await executor.processOneTask()).to.equal(null)
      expect(await executor.getQueueStats()).to.include({ pendingCount: 0, delayedCount: 1 })
      record.runAfter = null
      await record.save()
      expect(record.runAfter).to.equal(null)
      expect((await executor.processOneTask())?.id).to.equal(record.id)
    })

    it('changes the arguments, and the run sees them', async () => {
      const record = await stored('old')
      record.args = ['new']
      expect(record.args).to.deep.equal(['new'])
      await record.save()
      expect(record.args).to.deep.equal(['new'])
      expect((await TaskRecord.find(record.id)).args).to.deep.equal(['new'])
      expect((await executor.processOneTask())?.returnValue).to.equal('new')
    })

    it('writes nothing when nothing was changed', async () => {
      const record = await stored([1])
      const save = sinon.spy(subject.backend.storage, 'save')
      record.priority = 0
      record.runAfter = null
      record.args = [[1]]
      await record.save()
      expect(save.called).to.equal(false)
    })

    it('writes only what was changed', async () => {
      const record = await stored()
      const other = await TaskRecord.find(record.id)
      other.args = ['other']
      await other.save()
      record.priority = 5
      await record.save()
      expect(record.args).to.deep.equal(['other'])
      expect(record.priority).to.equal(5)
    })

    it('refuses what may not be, and writes nothing', async () => {
      const record = await stored()
      const save = sinon.spy(subject.backend.storage, 'save')
      for (const priority of [101, 1.5, NaN, '5']) {
        record.priority = priority as number
        expect(await caught(record.save()))
          .to.be.instanceOf(TaskOptionError)
          .with.property('field', 'record.priority')
      }
      record.priority = 0
      for (const runAfter of [new Date(NaN), 5, '2030-01-01']) {
        record.runAfter = runAfter as Date
        expect(await caught(record.save()))
          .to.be.instanceOf(TaskOptionError)
          .with.property('field', 'record.runAfter')
      }
      record.runAfter = null
      record.args = [{ when: new Date() }]
      expect(await caught(record.save()))
        .to.be.instanceOf(TaskArgumentError)
        .with.property('path', 'args[0].when')
      expect(save.called).to.equal(false)
    })

    it('leaves a finished record finished', async () => {
      const record = await succeeded()
      record.priority = 50
      await record.save()
      expect(record).to.include({ status: 'SUCCESSFUL', priority: 50 })
      expect(await executor.processOneTask()).to.equal(null)
    })

    it('is refused while the record is RUNNING', async () => {
      const record = await running()
      record.priority = 5
      const error = await caught(record.save())
      expect(error).to.be.instanceOf(TaskStateError)
      expect(error).to.include({ code: 'ERR_TASKS_STATE', id: record.id, status: 'RUNNING' })
      expect((await TaskRecord.find(record.id)).priority).to.equal(0)
    })

    it('says so when the record is gone', async () => {
      const record = await stored()
      await record.delete()
      record.priority = 5
      expect(await caught(record.save())).to.be.instanceOf(TaskNotFoundError)
      expect(await TaskRecord.filter().count()).to.equal(0)
    })

    it('has no setter for what is fixed, nor for a state', async () => {
      const record = await stored()
      for (const field of ['id', 'name', 'queueName', 'status', 'enqueuedAt', 'attempts', 'errors']) {
        expect(() => Object.assign(record, { [field]: 'SUCCESSFUL' }), field).to.throw(TypeError)
      }
    })
  })

  describe('delete', () => {
    it('removes a record that waits, one that is delayed, and finished ones', async () => {
      const waiting = await stored()
      const delayed = await echo.using({ runAfter: new Date(Date.now() + 3_600_000) }).enqueue(1)
      for (const record of [await succeeded(), await failed(), waiting, await TaskRecord.find(delayed.id)]) {
        await record.delete()
        expect(await caught(TaskRecord.find(record.id))).to.be.instanceOf(TaskNotFoundError)
      }
      expect(await TaskRecord.countBy('status')).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
      expect(await executor.processOneTask()).to.equal(null)
      expect(await executor.getQueueStats()).to.include({ pendingCount: 0, delayedCount: 0 })
    })

    it('is refused while the record is RUNNING', async () => {
      const record = await running()
      const error = await caught(record.delete())
      expect(error).to.be.instanceOf(TaskStateError)
      expect(error).to.include({ status: 'RUNNING', id: record.id })
      expect((error as Error).message).to.contain('delete it after it has settled')
      expect((await record.refresh()).status).to.equal('RUNNING')
    })

    it('may be done twice', async () => {
      const record = await stored()
      await record.delete()
      await record.delete()
    })
  })

  describe('retry', () => {
    it('puts a failed record back, due at once, with its errors and attempts', async () => {
      const record = await failed()
      expect(await record.retry()).to.equal(record)
      expect(record).to.include({ status: 'READY', attempts: 1, finishedAt: null, runAfter: null })
      expect(record.errors).to.have.lengthOf(1)
      const again = await executor.processOneTask()
      expect(again).to.include({ id: record.id, status: 'FAILED', attempts: 2 })
      expect(again?.errors.map(({ attempt }) => attempt)).to.deep.equal([1, 2])
    })

    it('is refused in any other state, and changes nothing', async () => {
      for (const record of [await succeeded(), await running(), await stored()]) {
        const { status } = record
        const error = await caught(record.retry())
        expect(error).to.be.instanceOf(TaskStateError).with.property('status', status)
        expect((await record.refresh()).status).to.equal(status)
      }
    })

    it('says so when the record is gone', async () => {
      const record = await failed()
      await record.delete()
      expect(await caught(record.retry())).to.be.instanceOf(TaskNotFoundError)
    })
  })

  describe('run', () => {
    it('runs a record here and now, whatever its place in the queue', async () => {
      await echo.using({ priority: 100 }).enqueue('before')
      const delayed = await echo.using({ priority: -100, runAfter: new Date(Date.now() + 3_600_000) }).enqueue('now')
      const record = await TaskRecord.find(delayed.id)
      expect(await record.run()).to.equal(record)
      expect(record).to.include({ status: 'SUCCESSFUL', returnValue: 'now', attempts: 1, runAfter: null })
      expect(record.workerIds).to.have.lengthOf(1)
    })

    it('answers a record that failed, and does not throw', async () => {
      const record = await TaskRecord.find((await fail.enqueue()).id)
      expect(await record.run()).to.include({ status: 'FAILED', attempts: 1 })
    })

    it('runs a failed one only when that is asked for', async () => {
      const record = await failed()
      const error = await caught(record.run())
      expect(error).to.be.instanceOf(TaskStateError).with.property('status', 'FAILED')
      expect((error as Error).message).to.contain('allowRetry')
      await record.run({ allowRetry: true })
      expect(record).to.include({ status: 'FAILED', attempts: 2 })
    })

    it('is refused for one that runs or was successful', async () => {
      for (const record of [await succeeded(), await running()]) {
        const error = await caught(record.run({ allowRetry: true }))
        expect(error).to.be.instanceOf(TaskStateError).with.property('status', record.status)
      }
    })

    it('names the task when nobody here knows it, and leaves the record as it is', async () => {
      const waiting = await stored()
      const broken = await failed()
      taskRegistry.delete('echo')
      taskRegistry.delete('fail')
      task('fial', () => null)
      const error = await caught(broken.run({ allowRetry: true }))
      expect(error).to.be.instanceOf(TaskNotRegisteredError).with.property('taskName', 'fail')
      expect((error as Error).message).to.contain('did you mean "fial"?')
      expect(await caught(waiting.run())).to.be.instanceOf(TaskNotRegisteredError)
      expect(await waiting.refresh()).to.include({ status: 'READY', attempts: 0, runAfter: null })
      expect(await broken.refresh()).to.include({ status: 'FAILED', attempts: 1 })
    })

    it('says so when the record is gone', async () => {
      const record = await stored()
      await record.delete()
      expect(await caught(record.run())).to.be.instanceOf(TaskNotFoundError)
    })
  })

  it('counts crashes apart from failures, and forgets them at a retry', async () => {
    const { id } = await fail.enqueue()
    await abandon(subject.backend, 'default')
    await eventually(async () => (await executor.claimStaleTasks()) === 1)
    const record = await TaskRecord.find(id)
    expect(record).to.include({ status: 'FAILED', attempts: 2, crashes: 1 })
    expect(record.errors).to.have.lengthOf(1)
    const { fence } = record
    await record.retry()
    expect(record.crashes).to.equal(0)
    await record.run()
    expect(record.fence).to.be.above(fence)
  })

  if (subject.name === 'redis') {
    for (const [what, damage] of [
      ['a key of another type', (key: string) => subject.raw.client.set(key, 'no record')],
      ['an unknown status', (key: string) => subject.raw.client.hset(key, 'status', 'PAUSED')],
      ['a number that is none', (key: string) => subject.raw.client.hset(key, 'priority', 'high')],
      ['a missing field', (key: string) => subject.raw.client.hdel(key, 'name')],
      ['a time beyond the last date', (key: string) => subject.raw.client.hset(key, 'enqueuedAt', '9e15')],
      ['bytes that are no text', (key: string) => subject.raw.client.hset(key, 'status', Buffer.from([0xff, 0xfe]))],
    ] as const) {
      it(`names a record that cannot be read for ${what}, and leaves it as it is`, async () => {
        const { id } = await echo.enqueue(1)
        const key = subject.raw.keys.record(id)
        if (what === 'a key of another type') await subject.raw.client.del(key)
        await damage(key)
        const before = await subject.raw.client.dumpBuffer(key)
        const error = await caught(TaskRecord.find(id))
        expect(error).to.be.instanceOf(TaskRecordDamagedError)
        expect(error).to.include({ id, code: 'ERR_TASKS_RECORD_DAMAGED' })
        expect(await caught(echo.getResult(id))).to.be.instanceOf(TaskRecordDamagedError)
        expect(await caught(executor.runTaskById(id))).to.be.instanceOf(TaskRecordDamagedError)
        expect(await subject.raw.client.dumpBuffer(key)).to.deep.equal(before)
      })
    }
  }
})

describe('TaskRecord and its backend', () => {
  isolateProcessState()

  it('asks the default backend unless it is told another', async () => {
    const { other } = configureTasks({ default: { backend: 'memory' }, other: { backend: 'memory' } })
    const echo = task('echo', (n: number) => n)
    const here = await echo.enqueue(1)
    const there = await echo.using({ backend: 'other' }).enqueue(2)
    expect((await TaskRecord.find(here.id)).backendName).to.equal('default')
    expect(await caught(TaskRecord.find(there.id))).to.be.instanceOf(TaskNotFoundError)
    expect((await TaskRecord.using('other').find(there.id)).backendName).to.equal('other')
    expect(await TaskRecord.using('other').filter().ids()).to.deep.equal([there.id])
    expect(await other.records.countBy('name')).to.deep.equal({ echo: 1 })
    expect(await TaskRecord.countBy('name')).to.deep.equal({ echo: 1 })
  })

  it('names the known aliases when it is told one that is not there', async () => {
    configureTasks({ default: { backend: 'memory' }, other: { backend: 'memory' } })
    const error = await caught(() => TaskRecord.using('othre'))
    expect(error).to.be.instanceOf(TaskOptionError)
    expect((error as Error).message)
      .to.contain('default, other')
      .and.to.contain('did you mean "other"?')
  })

  it('says what to configure when there is no backend', async () => {
    expect(await caught(() => TaskRecord.filter())).to.be.instanceOf(TaskOptionError)
    expect(((await caught(TaskRecord.find(NOWHERE))) as Error).message).to.contain('configureTasks')
  })

  it('refuses a backend that stores nothing', async () => {
    configureTasks({ default: { backend: 'dummy' } })
    const error = await caught(() => TaskRecord.filter())
    expect(error).to.be.instanceOf(TaskOptionError)
    expect((error as Error).message).to.contain("configure 'redis' or 'memory'")
  })
})
