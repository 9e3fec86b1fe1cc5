import { expect } from 'chai'
import {
  DummyTaskBackend,
  task,
  TaskArgumentError,
  TaskNotFoundError,
  TaskOptionError,
  TaskResultMismatchError,
} from '../../lib/index.ts'
import { caught, isolateProcessState } from './backends-under-test.ts'

const ID = '0198c1f2-0000-7000-8000-000000000000'

describe('DummyTaskBackend', () => {
  isolateProcessState()

  it('runs nothing and remembers what was enqueued, in order', async () => {
    const backend = new DummyTaskBackend()
    let runs = 0
    const echo = task('echo', (n: number) => {
      runs += 1
      return n
    })
    const first = await echo.enqueue(1)
    const rest = await echo.enqueueMany([[2], [3]])
    expect(runs).to.equal(0)
    expect(backend.results.map(({ args }) => args)).to.deep.equal([[1], [2], [3]])
    expect(backend.results.map(({ id }) => id)).to.deep.equal([first.id, ...rest.map(({ id }) => id)])
    for (const result of backend.results) expect(result).to.include({ status: 'READY', attempts: 0, name: 'echo' })
  })

  it('forgets all of it', async () => {
    const backend = new DummyTaskBackend()
    const echo = task('echo', (n: number) => n)
    const { id } = await echo.enqueue(1)
    backend.clear()
    expect(backend.results).to.deep.equal([])
    expect(await caught(echo.getResult(id))).to.be.instanceOf(TaskNotFoundError)
  })

  it('answers a copy: what the caller does with it does not change what is remembered', async () => {
    const backend = new DummyTaskBackend()
    const echo = task('echo', (given: { list: number[] }) => given)
    const result = await echo.enqueue({ list: [1] })
    expect(result).not.to.equal(backend.results[0])
    result.args[0].list.push(2)
    expect(backend.results[0]?.args).to.deep.equal([{ list: [1] }])
  })

  it('takes a time', async () => {
    const backend = new DummyTaskBackend()
    const runAfter = new Date(Date.now() + 60_000)
    await task('echo', (n: number) => n)
      .using({ runAfter })
      .enqueue(1)
    expect(backend.results[0]?.runAfter).to.deep.equal(runAfter)
  })

  it('finds a result among those it remembers', async () => {
    const backend = new DummyTaskBackend()
    const echo = task('echo', (n: number) => n)
    const other = task('other', () => null)
    const { id } = await echo.enqueue(1)
    expect((await echo.getResult(id)).args).to.deep.equal([1])
    expect((await backend.getResult(id.toUpperCase())).id).to.equal(id)
    expect(await caught(other.getResult(id))).to.be.instanceOf(TaskResultMismatchError)
    for (const absent of [ID, 'x', '', null]) {
      expect(await caught(backend.getResult(absent as string))).to.be.instanceOf(TaskNotFoundError)
    }
  })

  it('remembers an id once, and answers what it remembered', async () => {
    const backend = new DummyTaskBackend()
    const echo = task('echo', (n: number) => n)
    await backend.enqueue(echo, [1], { id: ID })
    const again = await backend.enqueue(echo, [2], { id: ID.toUpperCase() })
    expect(again.args).to.deep.equal([1])
    expect(backend.results).to.have.lengthOf(1)
    backend.clear()
    expect((await backend.enqueue(echo, [3], { id: ID })).args).to.deep.equal([3])
  })

  it('checks like every other: arguments, schema and queue', async () => {
    const backend = new DummyTaskBackend({ queues: ['mail'] })
    const send = task(
      { name: 'send', queueName: 'mail', argsSchema: { type: 'array', maxItems: 1 } },
      (...to: unknown[]) => to,
    )
    expect(await caught(send.enqueue(1, 2))).to.be.instanceOf(TaskArgumentError)
    expect(await caught(send.enqueueMany([[1], [undefined]]))).to.be.instanceOf(TaskArgumentError)
    expect(await caught(() => send.using({ queueName: 'mails' }))).to.be.instanceOf(TaskOptionError)
    expect(await caught(backend.enqueue(send, [1], { id: 'x' })))
      .to.be.instanceOf(TaskOptionError)
      .with.property('field', 'id')
    expect(backend.results).to.deep.equal([])
  })

  it('tells that something was enqueued', async () => {
    const backend = new DummyTaskBackend()
    const told: unknown[] = []
    backend.on('taskEnqueued', ({ args }) => told.push(args))
    backend.on('taskStarted', () => told.push('started'))
    await task('echo', (n: number) => n).enqueue(1)
    expect(told).to.deep.equal([[1]])
  })

  it('stores nothing that a query could find', async () => {
    const backend = new DummyTaskBackend()
    for (const member of ['records', 'queue', 'storage', 'limits', 'leases'] as const) {
      expect(await caught(() => backend[member])).to.be.instanceOf(TaskOptionError)
    }
  })
})
