import { expect } from 'chai'
import { setImmediate as turn } from 'node:timers/promises'
import {
  configureTasks,
  ImmediateTaskBackend,
  task,
  TaskArgumentError,
  TaskOptionError,
  TaskStateError,
} from '../../lib/index.ts'
import type { TaskContext, TaskResult } from '../../lib/index.ts'
import { caught, isolateProcessState, rememberingLogger } from './backends-under-test.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

describe('ImmediateTaskBackend', () => {
  isolateProcessState()

  it('runs the task inside enqueue, and answers the finished result', async () => {
    new ImmediateTaskBackend()
    const ran: number[] = []
    const add = task('add', async (a: number, b: number) => {
      await turn()
      ran.push(a)
      return a + b
    })
    const result = await add.enqueue(1, 2)
    expect(ran).to.deep.equal([1])
    expect(result).to.include({ status: 'SUCCESSFUL', returnValue: 3, attempts: 1, isFinished: true, name: 'add' })
    expect(result.id).to.match(UUID)
    expect(result.args).to.deep.equal([1, 2])
    expect(result.startedAt).to.deep.equal(result.lastAttemptedAt)
    expect(result.finishedAt?.getTime()).to.be.at.least(result.startedAt?.getTime() ?? Infinity)
    expect(result.startedAt?.getTime()).to.be.at.least(result.enqueuedAt.getTime())
    expect(result.errors).to.deep.equal([])
  })

  it('resolves also when the task failed', async () => {
    new ImmediateTaskBackend()
    const fail = task('fail', (): never => {
      throw new RangeError('no')
    })
    const result = await fail.enqueue()
    expect(result).to.include({ status: 'FAILED', attempts: 1, isFinished: true })
    expect(result.errors).to.have.lengthOf(1)
    expect(result.errors[0]).to.include({ name: 'RangeError', message: 'no', attempt: 1 })
    expect(result.errors[0]?.at).to.deep.equal(result.finishedAt)
    expect(await caught(() => result.returnValue)).to.be.instanceOf(TaskStateError)
  })

  it('makes FAILED what returns a value that JSON cannot carry', async () => {
    new ImmediateTaskBackend()
    const result = await task('odd', () => ({ when: new Date() })).enqueue()
    expect(result.status).to.equal('FAILED')
    expect(result.errors[0]?.message).to.contain('return.when')
  })

  it('ends with the first failure, whatever the task says of retries', async () => {
    new ImmediateTaskBackend()
    let runs = 0
    const flaky = task({ name: 'flaky', retry: { maxAttempts: 5, delayMs: 0 } }, () => {
      runs += 1
      throw new Error('no')
    })
    expect((await flaky.enqueue()).status).to.equal('FAILED')
    expect(runs).to.equal(1)
  })

  it('keeps to the time limit of the task', async () => {
    new ImmediateTaskBackend()
    const slow = task({ name: 'slow', timeoutMs: 10 }, () => new Promise<never>(() => {}))
    expect((await slow.enqueue()).errors[0]?.name).to.equal('TaskTimeoutError')
  })

  it('has one worker id, and another backend another', async () => {
    const { one, other } = configureTasks({ one: { backend: 'immediate' }, other: { backend: 'immediate' } })
    const echo = task('echo', (n: number) => n)
    const idsOf = async (alias: string): Promise<readonly string[]> =>
      (await echo.using({ backend: alias }).enqueue(1)).workerIds
    const first = await idsOf('one')
    expect(first).to.have.lengthOf(1)
    expect(await idsOf('one')).to.deep.equal(first)
    expect(await idsOf('other')).not.to.deep.equal(first)
    expect(one).not.to.equal(other)
  })

  it('supplies a context', async () => {
    new ImmediateTaskBackend()
    const look = task({ name: 'look', takesContext: true }, (context: TaskContext, what: string) => [
      ...[what, context.attempt, context.taskResult.status, context.taskResult.id, context.signal.aborted],
    ])
    const result = await look.enqueue('x')
    expect(result.returnValue).to.deep.equal(['x', 1, 'RUNNING', result.id, false])
  })

  it('checks before it runs: arguments, schema and queue', async () => {
    new ImmediateTaskBackend()
    let runs = 0
    const echo = task({ name: 'echo', argsSchema: { type: 'array', maxItems: 1 } }, (...args: unknown[]) => {
      runs += 1
      return args
    })
    expect(await caught(echo.enqueue(new Date()))).to.be.instanceOf(TaskArgumentError)
    expect(await caught(echo.enqueue(1, 2))).to.be.instanceOf(TaskArgumentError)
    expect(await caught(() => echo.using({ queueName: 'mail' }))).to.be.instanceOf(TaskOptionError)
    expect(await caught(echo.enqueueMany([[1], [new Date()]]))).to.be.instanceOf(TaskArgumentError)
    expect(runs).to.equal(0)
  })

  it('hands the function a copy of its arguments', async () => {
    new ImmediateTaskBackend()
    const clear = task('clear', (list: number[]) => void (list.length = 0))
    const given = [1, 2]
    const result = await clear.enqueue(given)
    expect(given).to.deep.equal([1, 2])
    expect(result.args).to.deep.equal([[1, 2]])
  })

  it('refuses a time, as it cannot wait', async () => {
    new ImmediateTaskBackend()
    const echo = task('echo', (n: number) => n)
    const error = await caught(() => echo.using({ runAfter: new Date() }))
    expect(error).to.be.instanceOf(TaskOptionError).with.property('field', 'runAfter')
    expect((error as Error).message).to.contain('redis or memory')
  })

  it('stores nothing, so it finds no result, no records and no queue', async () => {
    const backend = new ImmediateTaskBackend()
    const echo = task('echo', (n: number) => n)
    const { id } = await echo.enqueue(1)
    expect(await caught(echo.getResult(id))).to.be.instanceOf(TaskOptionError)
    expect(await caught(backend.getResult(id))).to.be.instanceOf(TaskOptionError)
    for (const member of ['records', 'queue', 'storage', 'limits', 'leases'] as const) {
      expect(await caught(() => backend[member])).to.be.instanceOf(TaskOptionError)
    }
    expect(await caught(backend.runById(id))).to.be.instanceOf(TaskOptionError)
  })

  it('answers a result that stays as it is', async () => {
    new ImmediateTaskBackend()
    const result = await task('echo', (n: number) => n).enqueue(1)
    expect(await result.refresh()).to.equal(result)
    expect(await result.wait()).to.equal(result)
    expect(result.returnValue).to.equal(1)
  })

  it('tells enqueued, started and finished in that order, for both outcomes', async () => {
    const backend = new ImmediateTaskBackend()
    const told: string[] = []
    const tell = (event: string) => (result: TaskResult) => told.push(`${event} ${result.status} ${result.attempts}`)
    backend.on('taskEnqueued', tell('enqueued')).on('taskStarted', tell('started')).on('taskFinished', tell('finished'))
    await task('echo', (n: number) => n).enqueue(1)
    await task('fail', () => Promise.reject(new Error('no'))).enqueue()
    expect(told).to.deep.equal([
      ...['enqueued READY 0', 'started RUNNING 1', 'finished SUCCESSFUL 1'],
      ...['enqueued READY 0', 'started RUNNING 1', 'finished FAILED 1'],
    ])
  })

  it('logs the start and the end, and a failure with its stack', async () => {
    const { logger, logged } = rememberingLogger()
    new ImmediateTaskBackend({ logger })
    await task('echo', (n: number) => n).enqueue(1)
    await task('fail', () => Promise.reject(new RangeError('no'))).enqueue()
    expect(
      logged.map(({ level, message }) => `${level} ${message}`).filter((line) => !line.startsWith('debug')),
    ).to.deep.equal(['info task started', 'info task finished', 'info task started', 'error task failed'])
    const { error } = logged.find(({ level }) => level === 'error')?.facts as { error: { name: string; stack: string } }
    expect(error.name).to.equal('RangeError')
    expect(error.stack).to.contain('immediate-task-backend.spec.ts')
  })

  it('runs a task that enqueues another one', async () => {
    new ImmediateTaskBackend()
    const inner = task('inner', (n: number) => n * 2)
    const outer = task('outer', async (n: number) => (await inner.enqueue(n)).returnValue + 1)
    expect((await outer.enqueue(5)).returnValue).to.equal(11)
  })

  it('may be closed twice', async () => {
    const backend = new ImmediateTaskBackend()
    await backend.close()
    await backend.close()
  })
})
