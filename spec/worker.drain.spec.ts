/** Worker: the end. What runs may finish for a while; then it is told, handed back uncounted, and runs elsewhere. */
import { expect } from 'chai'
import { task, TaskHandedBackError } from '../lib/index.ts'
import { Gate, overEveryWorker, overRedisWorker, settledBy } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'

overEveryWorker('Worker: stop', (bench) => {
  it('waits for what runs, and begins nothing more', async () => {
    const gate = new Gate()
    const gated = task('gated', () => gate.pass())
    const worker = await bench.start({ concurrency: 2 })
    await gated.enqueueMany([[], [], [], []])
    await eventually(() => gate.arrived === 2)
    const stopped = worker.stop()
    gate.open()
    expect(await stopped).to.equal(0)
    expect(gate.arrived).to.equal(2)
    expect(await bench.counts()).to.include({ READY: 2, RUNNING: 0, SUCCESSFUL: 2 })
  })

  it('aborts what does not end in time and hands it back uncounted; another worker begins it within a second', async () => {
    const begun: { readonly workerId: string; readonly at: number }[] = []
    const reasons: unknown[] = []
    const stubborn = task({ name: 'stubborn', takesContext: true }, async ({ signal, taskResult }) => {
      begun.push({ workerId: taskResult.workerIds.at(-1) ?? '', at: performance.now() })
      if (begun.length > 1) return 'done elsewhere'
      signal.addEventListener('abort', () => reasons.push(signal.reason))
      return await new Promise<string>(() => {})
    })
    const first = await bench.start({ workerId: 'first' })
    const { id } = await stubborn.enqueue()
    await eventually(() => begun.length === 1)
    await bench.start({ workerId: 'second' })
    const toldAt = performance.now()
    expect(await first.stop({ drainTimeoutSeconds: 0.1 })).to.equal(1)
    const record = await bench.reached(id, 'SUCCESSFUL')
    expect(reasons).to.have.lengthOf(1)
    expect(reasons[0]).to.be.instanceOf(TaskHandedBackError)
    expect(record).to.include({ attempts: 1, crashes: 0, handBacks: 0 })
    expect(record.workerIds).to.deep.equal(['second'])
    expect(begun[1]?.workerId).to.equal('second')
    expect((begun[1]?.at ?? NaN) - toldAt).to.be.below(1_100)
  })

  it('leaves nothing of an attempt that was handed back', async () => {
    const hung = task('hung', () => new Promise(() => {}))
    const worker = await bench.start()
    const { id } = await hung.enqueue()
    await bench.reached(id, 'RUNNING')
    await eventually(() => worker.running === 1)
    expect(await worker.stop({ drainTimeoutSeconds: 0 })).to.equal(1)
    const record = await bench.record(id)
    expect(record).to.include({ status: 'READY', attempts: 0, startedAt: null, leaseToken: '', crashes: 0 })
    expect([record.workerIds, record.errors]).to.deep.equal([[], []])
    expect(worker.running).to.equal(0)
  })

  it('changes nothing when a function ends after it was handed back', async () => {
    const gate = new Gate()
    let ended = 0
    const slow = task('slow', async () => {
      await gate.pass()
      ended += 1
      return 'late'
    })
    const worker = await bench.start()
    const events = settledBy(worker)
    const { id } = await slow.enqueue()
    await eventually(() => gate.arrived === 1)
    await worker.stop({ drainTimeoutSeconds: 0 })
    const before = await bench.record(id)
    gate.open()
    await eventually(() => ended === 1)
    expect(await bench.record(id)).to.deep.equal(before)
    expect(events).to.deep.equal([])
  })

  it('holds to the shorter limit when it is told twice', async () => {
    const hung = task('hung', () => new Promise(() => {}))
    const worker = await bench.start()
    await hung.enqueue()
    await eventually(() => worker.running === 1)
    const patient = worker.stop({ drainTimeoutSeconds: 3_600 })
    const impatient = worker.stop({ drainTimeoutSeconds: 0 })
    expect(await Promise.all([patient, impatient])).to.deep.equal([1, 1])
  })

  it('starts no function after it was told to stop, whatever is on its way', async () => {
    for (let round = 0; round < 8; round += 1) {
      let stopping = false
      let late = 0
      const quick = task(`quick-${round}`, () => {
        if (stopping) late += 1
      })
      await quick.enqueueMany(Array.from({ length: 200 }, () => []))
      const worker = await bench.start({ concurrency: 5 })
      await eventually(() => worker.processed > 3 * round)
      stopping = true
      await worker.stop()
      expect(late, `round ${round}`).to.equal(0)
      expect((await bench.counts())['RUNNING']).to.equal(0)
      await bench.backend.records.filter({}).delete()
    }
  })
})

overRedisWorker('Worker: stop on Redis', (bench) => {
  it('leaves no consumer behind, and no pending row', async () => {
    const noop = task('noop', () => null)
    const hung = task('hung', () => new Promise(() => {}))
    const worker = await bench.start({ concurrency: 3 })
    await noop.enqueueMany([[], [], []])
    await hung.enqueueMany([[], []])
    await eventually(async () => worker.running === 2 && (await bench.counts())['SUCCESSFUL'] === 3)
    const { client, keys } = bench.raw
    const stream = keys.stream('default', 'normal')
    expect(await client.xinfo('CONSUMERS', stream, 'express_tasks_workers')).to.have.lengthOf(1)
    await worker.stop({ drainTimeoutSeconds: 0 })
    for (const band of ['high', 'normal', 'low'] as const) {
      expect(await client.xinfo('CONSUMERS', keys.stream('default', band), 'express_tasks_workers')).to.deep.equal([])
    }
    expect(await client.xpending(stream, 'express_tasks_workers')).to.include.members([0])
    expect(await client.zcard(keys.leases)).to.equal(0)
  })

  it('hands back what was delivered to it and never reached it', async () => {
    const noop = task('noop', () => null)
    const worker = await bench.start({ concurrency: 1, queues: ['other'] })
    const { id } = await noop.using({ queueName: 'other' }).enqueue()
    await bench.reached(id, 'SUCCESSFUL')
    // Given an entry that the server handed to this consumer in a reply that was lost
    const { client, keys } = bench.raw
    const [seen] = await bench.backend.storage.workers()
    const lost = await noop.using({ queueName: 'other', priority: 1 }).enqueue()
    const stream = keys.stream('other', 'high')
    await client.xreadgroup('GROUP', 'express_tasks_workers', seen?.consumer ?? '', 'STREAMS', stream, '>')
    await worker.stop()
    const record = await bench.record(lost.id)
    // Then it is waiting again, unless the worker was faster and ran it
    expect(record.status).to.be.oneOf(['READY', 'SUCCESSFUL'])
    expect(await client.xpending(stream, 'express_tasks_workers')).to.include.members([0])
    await bench.make({ continuous: false }).run()
    expect((await bench.record(lost.id)).status).to.equal('SUCCESSFUL')
  })
})
