import { expect } from 'chai'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  DoNotRetry,
  executor,
  FINAL_STATUSES,
  RetryLater,
  task,
  TaskNotFoundError,
  TaskOptionError,
  TaskRecordDamagedError,
  TaskStateError,
} from '../lib/index.ts'
import type { Task, TaskContext } from '../lib/index.ts'
import { readError } from '../lib/task-result.ts'
import { abandon, caught, overEveryBackend } from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'

overEveryBackend('TaskResult', (subject) => {
  let add: Task<[a: number, b: number], number>
  let fail: Task<[message: string], never>

  beforeEach(() => {
    add = task('add', (a: number, b: number) => a + b)
    fail = task('fail', (message: string): never => {
      throw new RangeError(message)
    })
  })

  it('shows a record that waits', async () => {
    const before = Date.now()
    const result = await add.enqueue(1, 2)
    expect(result).to.include({ name: 'add', status: 'READY', queueName: 'default', backendName: 'default' })
    expect(result).to.include({ priority: 0, attempts: 0, isFinished: false })
    expect(result).to.include({ runAfter: null, startedAt: null, finishedAt: null, lastAttemptedAt: null })
    expect(result.args).to.deep.equal([1, 2])
    expect(result.workerIds).to.deep.equal([])
    expect(result.errors).to.deep.equal([])
    expect(result.enqueuedAt).to.be.instanceOf(Date)
    expect(result.enqueuedAt.getTime()).to.be.within(before - 5, Date.now() + 5)
  })

  it('says the same, read again, as enqueue answered', async () => {
    const result = await add
      .using({ priority: -3, queueName: 'mail', runAfter: new Date(Date.now() + 1e6) })
      .enqueue(1, 2)
    const again = await add.getResult(result.id)
    expect(again.toJSON()).to.deep.equal(result.toJSON())
  })

  it('never changes by itself; refresh reads it anew into the same object', async () => {
    const result = await add.enqueue(1, 2)
    await executor.processOneTask()
    expect(result).to.include({ status: 'READY', attempts: 0, startedAt: null })
    expect(await result.refresh()).to.equal(result)
    expect(result).to.include({ status: 'SUCCESSFUL', attempts: 1, isFinished: true, returnValue: 3 })
    expect(result.finishedAt).to.be.instanceOf(Date)
    expect(result.startedAt).to.deep.equal(result.lastAttemptedAt)
    expect(result.workerIds).to.have.lengthOf(1)
  })

  it('is read-only', async () => {
    const result = await add.enqueue(1, 2)
    for (const field of ['id', 'name', 'status', 'priority', 'runAfter', 'args', 'errors', 'returnValue', 'attempts']) {
      expect(() => Object.assign(result, { [field]: 1 }), field).to.throw(TypeError)
    }
    result.enqueuedAt.setUTCFullYear(1999)
    expect(result.enqueuedAt.getUTCFullYear()).not.to.equal(1999)
  })

  it('keeps priority and due time as they were when it was made, whatever was saved since', async () => {
    const runAfter = new Date(Date.now() + 60_000)
    const result = await add.using({ priority: 1, runAfter }).enqueue(1, 2)
    const record = await subject.backend.records.find(result.id)
    record.priority = 9
    record.runAfter = null
    await record.save()
    await result.refresh()
    expect(result.priority).to.equal(1)
    expect(result.runAfter).to.deep.equal(runAfter)
  })

  it('shows, refreshed, the arguments that were saved since', async () => {
    const result = await add.enqueue(1, 2)
    expect(result.args).to.deep.equal([1, 2])
    const record = await subject.backend.records.find(result.id)
    record.args = [3, 4]
    await record.save()
    await result.refresh()
    expect(result.args).to.deep.equal([3, 4])
  })

  describe('returnValue', () => {
    const give = async (value: unknown): Promise<unknown> => {
      const given = task('give', () => value)
      const { id } = await given.enqueue()
      return (await executor.runTaskById(id))?.returnValue
    }

    it('is what the function returned', async () => {
      expect(await give({ b: [1, { c: null }], a: 'é' })).to.deep.equal({ b: [1, { c: null }], a: 'é' })
    })

    it('takes null for a value', async () => {
      expect(await give(null)).to.equal(null)
    })

    it('is null when nothing was returned', async () => {
      expect(await give(undefined)).to.equal(null)
    })

    it('is an error before the end, with a code of its own', async () => {
      const result = await add.enqueue(1, 2)
      const error = await caught(() => result.returnValue)
      expect(error).to.be.instanceOf(TaskStateError)
      expect(error).to.include({ code: 'ERR_TASKS_NOT_FINISHED', id: result.id, status: 'READY' })
    })

    it('is an error after a failure, with another code and the reason', async () => {
      await fail.enqueue('no such file')
      const result = await executor.processOneTask()
      const error = await caught(() => result?.returnValue)
      expect(error).to.be.instanceOf(TaskStateError)
      expect(error).to.include({ code: 'ERR_TASKS_FAILED', status: 'FAILED' })
      expect((error as Error).message).to.contain('RangeError: no such file')
    })
  })

  it('is finished in the two final states only', async () => {
    const result = await add.enqueue(1, 2)
    expect(result.isFinished).to.equal(false)
    await abandon(subject.backend, 'default')
    await result.refresh()
    expect(result).to.include({ status: 'RUNNING', isFinished: false })
    const failed = await fail.enqueue('no')
    await executor.runTaskById(failed.id)
    await failed.refresh()
    expect(failed).to.include({ status: 'FAILED', isFinished: true })
    expect(FINAL_STATUSES).to.deep.equal(['SUCCESSFUL', 'FAILED'])
  })

  it('keeps an error for each failed attempt, also over a retry by policy and one by hand', async () => {
    let runs = 0
    const flaky = task({ name: 'flaky', retry: { maxAttempts: 2, delayMs: 0 } }, () => {
      runs += 1
      throw new TypeError(`failure ${runs}`)
    })
    const { id } = await flaky.enqueue()
    await eventually(async () => {
      await executor.processOneTask()
      return (await flaky.getResult(id)).isFinished
    })
    await (await subject.backend.records.find(id)).retry()
    await executor.runTaskById(id)
    const result = await flaky.getResult(id)
    expect(result.errors.map(({ name, message, attempt }) => [name, message, attempt])).to.deep.equal([
      ['TypeError', 'failure 1', 1],
      ['TypeError', 'failure 2', 2],
      ['TypeError', 'failure 3', 3],
    ])
    for (const { at, stack } of result.errors) {
      expect(at).to.be.instanceOf(Date)
      expect(stack).to.contain('task-result.spec.ts')
    }
  })

  it('counts attempts as it counts worker ids, the running one included', async () => {
    const seen: number[] = []
    const twice = task({ name: 'twice', takesContext: true }, (context: TaskContext) => {
      seen.push(context.attempt, context.taskResult.attempts, context.taskResult.workerIds.length)
      if (context.attempt === 1) throw new RetryLater({ delayMs: 0 })
    })
    const result = await twice.enqueue()
    await executor.runTaskById(result.id, { workerId: 'one' })
    await executor.runTaskById(result.id, { workerId: 'two' })
    await result.refresh()
    expect(seen).to.deep.equal([1, 1, 1, 2, 2, 2])
    expect(result.workerIds).to.deep.equal(['one', 'two'])
    expect(result).to.include({ attempts: 2, status: 'SUCCESSFUL' })
  })

  it('keeps the start of the first attempt beside that of the latest', async () => {
    const always = task('always', (): never => {
      throw new DoNotRetry('never')
    })
    const result = await always.enqueue()
    await executor.runTaskById(result.id)
    await result.refresh()
    const first = result.startedAt
    expect(result.lastAttemptedAt).to.deep.equal(first)
    await eventually(() => Date.now() > (first?.getTime() ?? 0) + 2)
    await executor.runTaskById(result.id, { allowRetry: true })
    await result.refresh()
    expect(result.startedAt).to.deep.equal(first)
    expect(result.lastAttemptedAt?.getTime()).to.be.above(first?.getTime() ?? Infinity)
  })

  it('says so when it is refreshed and the record is gone', async () => {
    const result = await add.enqueue(1, 2)
    await subject.backend.records.filter().delete()
    const error = await caught(result.refresh())
    expect(error).to.be.instanceOf(TaskNotFoundError)
    expect(error).to.include({ code: 'ERR_TASKS_NOT_FOUND', id: result.id })
    expect(result.status).to.equal('READY')
  })

  it('is plain data as JSON', async () => {
    const { id } = await add.enqueue(1, 2)
    const result = await executor.runTaskById(id)
    const json = JSON.parse(JSON.stringify(result)) as Record<string, unknown>
    expect(Object.keys(json)).to.have.members([
      ...['id', 'name', 'status', 'enqueuedAt', 'startedAt', 'finishedAt', 'lastAttemptedAt', 'args', 'priority'],
      ...['queueName', 'backendName', 'runAfter', 'attempts', 'workerIds', 'errors', 'returnValue'],
    ])
    expect(json).to.include({ id, name: 'add', status: 'SUCCESSFUL', returnValue: 3, attempts: 1 })
    expect(json['enqueuedAt']).to.equal(result?.enqueuedAt.toISOString())
    expect(json['args']).to.deep.equal([1, 2])
  })

  it('refuses a time limit for wait that is none', async () => {
    const result = await add.enqueue(1, 2)
    for (const timeoutMs of [-1, NaN, Infinity, 2 ** 31, '5', null]) {
      const error = await caught(Promise.race([result.wait({ timeoutMs: timeoutMs as number }), sleep(500)]))
      expect(error, String(timeoutMs)).to.be.instanceOf(TaskOptionError)
    }
    expect(await caught(result.wait({ timeout: 5 } as object))).to.be.instanceOf(TaskOptionError)
  })

  if (subject.name === 'redis') {
    it('says so when it is refreshed and the record cannot be read any more', async () => {
      const result = await add.enqueue(1, 2)
      await subject.raw.client.hset(subject.raw.keys.record(result.id), 'status', 'PAUSED')
      expect(await caught(result.refresh()))
        .to.be.instanceOf(TaskRecordDamagedError)
        .with.property('id', result.id)
    })

    it('shows what can be read of a damaged history', async () => {
      const result = await add.enqueue(1, 2)
      const lines = '{"name":"Error","message":"fine","attempt":1}\nnot json\n[]\nnull\n{"name":5,"at":"x"}'
      await subject.raw.client.hset(subject.raw.keys.record(result.id), 'errors', lines)
      await result.refresh()
      expect(result.errors.map(({ name, message }) => [name, message])).to.deep.equal([
        ['Error', 'fine'],
        ['UnreadableError', 'not json'],
        ['Error', ''],
        ['Error', ''],
        ['Error', ''],
      ])
    })

    it('says so when the arguments are no JSON any more', async () => {
      const result = await add.enqueue(1, 2)
      await subject.raw.client.hset(subject.raw.keys.record(result.id), 'args', '[1,')
      const again = await add.getResult(result.id)
      expect(await caught(() => again.args)).to.include({ code: 'ERR_TASKS_ARGUMENT', path: 'args' })
      expect(again.status).to.equal('READY')
    })
  }
})

describe('readError', () => {
  it('gives a date to the time, and null for what is missing', () => {
    expect(readError('{"name":"E","message":"m","stack":"s","attempt":2,"at":1000}')).to.deep.equal({
      ...{ name: 'E', message: 'm', stack: 's', attempt: 2, at: new Date(1000) },
    })
    expect(readError('{}')).to.deep.equal({ name: 'Error', message: '', stack: null, attempt: 0, at: null })
  })
})
