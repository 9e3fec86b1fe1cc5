/** A person cancels: a waiting record ends at once, a running one is told, wherever it runs, and what it still returns is nothing. */
import { expect } from 'chai'
import {
  executor,
  RedisTaskBackend,
  task,
  TaskCancelledError,
  TaskNotFoundError,
  TaskRecord,
  TaskStateError,
} from '../lib/index.ts'
import type { TaskBackend, TaskContext, TaskResult } from '../lib/index.ts'
import { caught, closedAtEnd } from './backends/backends-under-test.ts'
import { Gate, overEveryWorker, overRedisWorker } from './faults/support/workers.ts'
import type { WorkerBench } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { sharedRedisServer } from './support/redis-server.ts'

/** A task that runs until it is aborted, or its gate opens, and says which it was. */
function patientTask(name = 'patient'): {
  readonly patient: ReturnType<typeof task<[], string>>
  readonly gate: Gate
  readonly reasons: unknown[]
  readonly ends: string[]
} {
  const gate = new Gate()
  const reasons: unknown[] = []
  const ends: string[] = []
  const patient = task(
    { name, takesContext: true, retry: { maxAttempts: 3, delayMs: 0 } },
    async (context: TaskContext) => {
      context.signal.addEventListener('abort', () => void reasons.push(context.signal.reason))
      await gate.pass()
      ends.push(context.signal.aborted ? 'after its abort' : 'in peace')
      return 'done'
    },
  )
  return { patient, gate, reasons, ends }
}

function expectCancelled(record: TaskResult): void {
  expect(record.status).to.equal('FAILED')
  expect(record.errors.at(-1)).to.include({ name: 'TaskCancelledError' })
}

/** The same backend as another process has it. */
async function elsewhere(bench: WorkerBench): Promise<TaskBackend> {
  const { url } = await sharedRedisServer()
  const keyPrefix = /^\{(.*):default\}/.exec(bench.raw.keys.root)?.[1] ?? ''
  return closedAtEnd(new RedisTaskBackend({ redisUrl: url, keyPrefix, queues: [] }))
}

overEveryWorker('Cancel: a record that waits', (bench) => {
  it('is FAILED at once, by its record or its result, and never runs', async () => {
    let runs = 0
    const counted = task('counted', () => void (runs += 1))
    const first = await counted.enqueue()
    const second = await counted.using({ runAfter: new Date(Date.now() + 100) }).enqueue()
    expectCancelled(await first.cancel())
    expectCancelled(await (await TaskRecord.find(second.id)).cancel())
    await bench.start()
    const last = await counted.enqueue()
    await bench.reached(last.id, 'SUCCESSFUL')
    expect(runs).to.equal(1)
    expect(await bench.counts()).to.include({ SUCCESSFUL: 1, FAILED: 2 })
  })

  it('carries the error with its code', async () => {
    const result = await task('any', () => null).enqueue()
    await result.cancel()
    const stored = JSON.parse((await bench.record(result.id)).errors[0] ?? '') as Record<string, unknown>
    expect(stored).to.include({ code: 'ERR_TASKS_CANCELLED', name: 'TaskCancelledError', attempt: 0 })
  })

  it('tells listeners and those who wait for it', async () => {
    const finished: string[] = []
    bench.backend.on('taskFinished', ({ id, status }) => void finished.push(`${id} ${status}`))
    const result = await task('any', () => null).enqueue()
    const waiting = (await TaskRecord.find(result.id)).wait({ timeoutMs: 60_000 })
    await result.cancel()
    expectCancelled(await waiting)
    expect(finished).to.deep.equal([`${result.id} FAILED`])
  })

  it('runs after all when a person retries it', async () => {
    const echo = task('echo', (text: string) => text)
    const result = await echo.enqueue('after all')
    await result.cancel()
    await (await TaskRecord.find(result.id)).retry()
    await bench.start()
    expect(await bench.reached(result.id, 'SUCCESSFUL')).to.include({ returnValue: '"after all"' })
  })

  it('is refused once it has ended, and where there is no record', async () => {
    const echo = task('echo', (text: string) => text)
    const result = await echo.enqueue('x')
    await executor.processOneTask()
    const error = await caught(result.cancel())
    expect(error).to.be.instanceOf(TaskStateError).with.property('message').that.contains('SUCCESSFUL')
    await (await TaskRecord.find(result.id)).delete()
    expect(await caught(result.cancel())).to.be.instanceOf(TaskNotFoundError)
  })
})

overEveryWorker('Cancel: a record that runs', (bench) => {
  it('aborts the signal with the reason, is not run again, and leaves the slot to others', async () => {
    const { patient, gate, reasons, ends } = patientTask()
    const quick = task('quick', () => 'quick')
    const worker = await bench.start({ concurrency: 1 })
    const told: string[] = []
    worker.on('cancelled', ({ id }) => void told.push(id))
    const { id } = await patient.enqueue()
    await eventually(() => gate.arrived === 1)
    const record = await TaskRecord.find(id)
    expectCancelled(await record.cancel())
    const atMs = performance.now()
    await eventually(() => reasons.length === 1)
    expect(performance.now() - atMs).to.be.below(1_000)
    expect(reasons[0]).to.be.instanceOf(TaskCancelledError).with.property('code', 'ERR_TASKS_CANCELLED')
    await bench.reached((await quick.enqueue()).id, 'SUCCESSFUL')
    // When the function ends after all, nothing changes.
    const before = await bench.record(id)
    gate.open()
    await eventually(() => ends.length === 1)
    await bench.reached((await quick.enqueue()).id, 'SUCCESSFUL')
    expect(await bench.record(id)).to.deep.equal(before)
    expect(before).to.include({ attempts: 1, status: 'FAILED' })
    expect(told).to.deep.equal([id])
    await eventually(() => worker.running === 0 && worker.processed === 2)
  })

  it('counts no lost lease', async () => {
    const { patient, gate, reasons } = patientTask()
    await bench.start({ claimIntervalSeconds: 0.05 })
    const result = await patient.enqueue()
    await eventually(() => gate.arrived === 1)
    await result.cancel()
    await eventually(() => reasons.length === 1)
    gate.open()
    const [, before] = [await bench.reached(result.id, 'FAILED'), performance.now()]
    await eventually(async () => (await bench.backend.storage.workers())[0]?.fields['running'] === '0')
    expect(performance.now()).to.be.above(before)
    expect((await bench.backend.storage.workers())[0]?.fields['lost']).to.equal('0')
  })

  it('can be retried and runs anew, while the first function still goes on', async () => {
    const { patient, gate, ends } = patientTask()
    await bench.start()
    const result = await patient.enqueue()
    await eventually(() => gate.arrived === 1)
    await result.cancel()
    await (await TaskRecord.find(result.id)).retry()
    await eventually(() => gate.arrived === 2)
    gate.open()
    const done = await bench.reached(result.id, 'SUCCESSFUL')
    expect(done).to.include({ attempts: 2 })
    await eventually(() => ends.length === 2)
    expect(ends).to.have.members(['after its abort', 'in peace'])
  })

  it('is told where it runs by the executor, too', async () => {
    const { patient, gate, reasons } = patientTask()
    const result = await patient.enqueue()
    const running = executor.runTaskById(result.id)
    await eventually(() => gate.arrived === 1)
    await result.cancel()
    expectCancelled((await running) as TaskResult)
    expect(reasons[0]).to.be.instanceOf(TaskCancelledError)
    gate.open()
    const second = await patient.enqueue()
    expect(await executor.processOneTask()).to.include({ id: second.id, status: 'SUCCESSFUL' })
  })
})

overRedisWorker('Cancel: on Redis', (bench) => {
  it('reaches a worker of another process within a second', async () => {
    const { patient, gate, reasons } = patientTask()
    await bench.start()
    const { id } = await patient.enqueue()
    await eventually(() => gate.arrived === 1)
    const other = await elsewhere(bench)
    const record = await other.records.find(id)
    const atMs = performance.now()
    await record.cancel()
    await eventually(() => reasons.length === 1)
    expect(performance.now() - atMs).to.be.below(1_000)
    expect(reasons[0]).to.be.instanceOf(TaskCancelledError)
    gate.open()
  })

  it('reaches a worker whose subscription was cut off at that moment', async () => {
    const { patient, gate, reasons } = patientTask()
    await bench.start()
    const { id } = await patient.enqueue()
    await eventually(() => gate.arrived === 1)
    const record = await TaskRecord.find(id)
    await eventually(async () => Number((await bench.raw.client.pubsub('NUMSUB', bench.raw.keys.cancelled))[1]) > 0)
    // One step: the message goes out while nobody is subscribed.
    const cutOff = bench.raw.client.multi().client('KILL', 'TYPE', 'pubsub').exec()
    await Promise.all([cutOff, record.cancel()])
    await eventually(() => reasons.length === 1)
    expect(reasons[0]).to.be.instanceOf(TaskCancelledError)
    gate.open()
  })
})

overRedisWorker(
  'Cancel: a message that never came',
  (bench) => {
    it('is made up for by the renewal of the lease', async () => {
      const { patient, gate, reasons } = patientTask()
      await bench.start()
      const { id } = await patient.enqueue()
      await eventually(() => gate.arrived === 1)
      // What cancel.lua leaves on the record, without its message.
      const { leaseToken } = await bench.record(id)
      const key = bench.raw.keys.record(id)
      await bench.raw.client.hset(key, { leaseToken: '', lastMove: `cancel ${leaseToken}` })
      await eventually(() => reasons.length === 1)
      expect(reasons[0]).to.be.instanceOf(TaskCancelledError)
      gate.open()
    })
  },
  { claimTimeoutSeconds: 1 },
)
