/** Worker: what it does for others: takes over what the dead left, runs suspects alone, removes what has had its time. */
import { expect } from 'chai'
import { once } from 'node:events'
import { task, taskRegistry } from '../lib/index.ts'
import type { TaskBackend } from '../lib/index.ts'
import { abandon, DAY_MS } from './backends/backends-under-test.ts'
import { Gate, overEveryWorker, overRedisWorker } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { aClaim, aReclaim } from './support/storage-builders.ts'

const STREAM = { queueName: 'default', band: 'normal' } as const

/** Workers died with this record so many times, and one more has it whose lease is over. */
async function crash({ storage }: TaskBackend, id: string, crashes: number): Promise<void> {
  await storage.runById(aClaim('dead', { leaseMs: 1 }), id, false)
  const request = { stream: STREAM, leaseMs: 1, crashLimit: 100 }
  for (let count = 0; count < crashes; count += 1) {
    await eventually(async () => (await storage.reclaim(aReclaim('dead', request))).begun.length === 1)
  }
}

overEveryWorker('Worker: takes over', (bench) => {
  it('runs what a dead worker left, and counts the crash', async () => {
    const orphan = task('orphan', () => 'saved')
    const { id } = await orphan.enqueue()
    expect(await abandon(bench.backend, 'default')).to.deep.equal([id])
    await bench.start({ claimIntervalSeconds: 0.1 })
    expect(await bench.reached(id, 'SUCCESSFUL')).to.include({ attempts: 2, crashes: 1, returnValue: '"saved"' })
  })

  it('does so within its claim interval with one slot, which its blocking read holds', async () => {
    const orphan = task('orphan', () => 'saved')
    const { backend } = await bench.kind.open({ blockTimeoutMs: 5_000 })
    const worker = bench.make({ concurrency: 1, claimIntervalSeconds: 0.2, intervalSeconds: 60 }, backend)
    const idle = once(worker, 'idle')
    await worker.start()
    await idle
    const { id } = await backend.enqueue(orphan.using({ runAfter: new Date(Date.now() + DAY_MS) }), [])
    const settled = once(worker, 'settled')
    const diedAt = performance.now()
    await crash(backend, id, 0)
    await settled
    expect(performance.now() - diedAt).to.be.below(3_000)
  })

  it('does so under a backlog too, before the backlog is through', async () => {
    const order: string[] = []
    const work = task('work', (text: string) => void order.push(text))
    await work.enqueue('orphan')
    await abandon(bench.backend, 'default')
    await work.enqueueMany(Array.from({ length: 3_000 }, (_, index) => [String(index)]))
    await bench.start({ concurrency: 2, claimIntervalSeconds: 0.05 })
    await eventually(() => order.includes('orphan'))
    expect(order.indexOf('orphan')).to.be.below(2_000)
  })

  it('fails a record whose leases ran out once too often, and says why', async () => {
    let begun = 0
    const killer = task('killer', () => void (begun += 1))
    const { id } = await killer.enqueue()
    await crash(bench.backend, id, 3)
    const finished: string[] = []
    bench.backend.on('taskFinished', (result) => finished.push(`${result.id} ${result.status}`))
    await bench.start({ claimIntervalSeconds: 0.1 })
    const record = await bench.reached(id, 'FAILED')
    expect(begun).to.equal(0)
    expect(record.crashes).to.equal(4)
    expect(JSON.parse(record.errors[0] ?? '')).to.include({ name: 'TaskAbandonedError', code: 'ERR_TASKS_ABANDONED' })
    await eventually(() => finished.length === 1)
    expect(finished).to.deep.equal([`${id} FAILED`])
  })

  it('hands back uncounted what it took over and does not know', async () => {
    const stranger = task('stranger', () => 'found')
    const { id } = await stranger.enqueue()
    await crash(bench.backend, id, 0)
    taskRegistry.delete('stranger')
    await bench.start({ claimIntervalSeconds: 0.1 })
    await eventually(async () => (await bench.record(id)).handBacks > 0)
    expect(await bench.record(id)).to.include({ attempts: 1, crashes: 1 })
    taskRegistry.add(stranger)
    expect(await bench.reached(id, 'SUCCESSFUL')).to.include({ attempts: 2, crashes: 1 })
  })
})

overEveryWorker('Worker: its own list', (bench) => {
  it('begins nothing twice, however often it looks there while its blocking read is handed tasks', async () => {
    const begun: string[] = []
    const slow = task({ name: 'slow', takesContext: true }, async ({ taskResult }) => {
      begun.push(taskResult.id)
      await eventually(() => begun.length >= 300, { timeoutMs: 60_000 })
    })
    const workers = [1, 2].map(() => bench.make({ concurrency: 200, claimIntervalSeconds: 0.01 }))
    for (const worker of workers) await worker.start()
    for (let count = 0; count < 300; count += 1) await slow.enqueue()
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 300)
    expect(begun).to.have.lengthOf(300)
    expect(new Set(begun).size).to.equal(300)
  })
})

overEveryWorker('Worker: with queues of its own', (bench) => {
  it('leaves what a dead worker of another queue left to those who serve that', async () => {
    const work = task({ name: 'work', queueName: 'theirs' }, () => null)
    const { id } = await work.enqueue()
    await crash(bench.backend, id, 0)
    const mine = task({ name: 'mine', queueName: 'mine' }, () => null)
    const orphan = await mine.enqueue()
    await crash(bench.backend, orphan.id, 0)
    const worker = await bench.start({ queues: ['mine'], claimIntervalSeconds: 0.1, workerId: 'mine' })
    expect((await bench.reached(orphan.id, 'SUCCESSFUL')).workerIds).to.deep.equal(['dead', 'mine'])
    expect(await bench.record(id)).to.include({ status: 'RUNNING', attempts: 1, crashes: 0 })
    await bench.start({ queues: ['theirs'], claimIntervalSeconds: 0.1, workerId: 'theirs' })
    expect((await bench.reached(id, 'SUCCESSFUL')).workerIds).to.deep.equal(['dead', 'theirs'])
    await eventually(() => worker.processed === 1)
  })
})

overEveryWorker('Worker: a record that may be the killer', (bench) => {
  it('runs it alone, after what runs has ended and before anything else begins', async () => {
    const beside = new Gate()
    const alone = new Gate()
    const suspect = task('suspect', () => alone.pass())
    const innocent = task('innocent', () => beside.pass())
    const later = task('later', () => null)
    // Given two that run, when the third crash is found
    const worker = await bench.start({ concurrency: 4, claimIntervalSeconds: 1 })
    await innocent.enqueueMany([[], []])
    await eventually(() => beside.arrived === 2)
    const { id } = await suspect.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue()
    await crash(bench.backend, id, 2)
    await eventually(() => worker.running === 3)
    await later.enqueueMany([[], []])
    expect(alone.arrived).to.equal(0)
    // Then it waits for them, in hand, and runs once they have ended
    beside.open()
    await eventually(() => alone.arrived === 1)
    const waiting = await later.enqueueMany([[], []])
    await eventually(async () => (await bench.backend.storage.workers())[0]?.fields['running'] === '1')
    expect(worker.running).to.equal(1)
    expect((await bench.record(waiting[0]?.id ?? '')).status).to.equal('READY')
    alone.open()
    await bench.reached(id, 'SUCCESSFUL')
    await bench.reached(waiting[1]?.id ?? '', 'SUCCESSFUL')
  })

  it('keeps its lease while it waits, however short its own limit of time is', async () => {
    const beside = new Gate()
    const suspect = task({ name: 'suspect', timeoutMs: 100 }, () => 'in time')
    const innocent = task('innocent', () => beside.pass())
    const { backend } = await bench.kind.open({ claimTimeoutSeconds: 1, blockTimeoutMs: 500 })
    const worker = await bench.start({ concurrency: 4, claimIntervalSeconds: 1 }, backend)
    await backend.enqueue(innocent, [])
    await eventually(() => beside.arrived === 1)
    const { id } = await backend.enqueue(suspect.using({ runAfter: new Date(Date.now() + DAY_MS) }), [])
    await crash(backend, id, 2)
    const begin = async (): Promise<number> => (await backend.getResult(id)).lastAttemptedAt?.getTime() ?? 0
    await eventually(() => worker.running === 2)
    const begunAt = await begin()
    // A lease and a half later it is still the same attempt
    await eventually(() => Date.now() > begunAt + 1_500)
    expect(await begin()).to.equal(begunAt)
    beside.open()
    await eventually(async () => (await backend.getResult(id)).status === 'SUCCESSFUL')
    expect((await backend.getResult(id)).attempts).to.equal(4)
  })

  it('hands back at a stop what still waits to run alone', async () => {
    const beside = new Gate()
    const suspect = task('suspect', () => null)
    const innocent = task('innocent', () => beside.pass())
    const worker = await bench.start({ concurrency: 4, claimIntervalSeconds: 1 })
    await innocent.enqueue()
    await eventually(() => beside.arrived === 1)
    const { id } = await suspect.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue()
    await crash(bench.backend, id, 2)
    await eventually(() => worker.running === 2)
    const stopped = worker.stop()
    await bench.reached(id, 'READY')
    beside.open()
    expect(await stopped).to.equal(1)
    expect(await bench.record(id)).to.include({ status: 'READY', attempts: 3, crashes: 3 })
  })
})

overRedisWorker('Worker: a record that may be the killer', (bench) => {
  it('is charged no crash when its worker dies of another task while it waits', async () => {
    const beside = new Gate()
    const suspect = task('suspect', () => 'alone')
    const innocent = task('innocent', () => beside.pass())
    const { backend, raw } = bench
    const worker = await bench.start({ concurrency: 4, claimIntervalSeconds: 1 })
    await innocent.enqueue()
    await eventually(() => beside.arrived === 1)
    const { id } = await suspect.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue()
    await crash(backend, id, 2)
    const waiting = await eventually(async () => {
      const { waitToken, leaseToken = '', entryId = '' } = await raw.client.hgetall(raw.keys.record(id))
      return worker.running === 2 && waitToken === leaseToken && { id, token: leaseToken, entryId }
    })
    // Nobody renews any more what a dead worker holds
    await backend.storage.renew('dead.holder', 1, [waiting])
    const taken = await eventually(async () => {
      const { begun, crashed } = await backend.storage.reclaim(aReclaim('other', { stream: STREAM, crashLimit: 3 }))
      expect(crashed).to.deep.equal([])
      return begun[0] ?? false
    })
    expect(taken.record).to.include({ id, status: 'RUNNING', attempts: 4, crashes: 3 })
    beside.open()
    await eventually(() => worker.running === 0)
    expect(await bench.record(id)).to.include({ status: 'RUNNING', leaseToken: taken.lease.token, returnValue: null })
  })
})

overEveryWorker(
  'Worker: retention',
  (bench) => {
    it('removes finished records when their time is over, and nothing else', async () => {
      const noop = task('noop', () => null)
      const run = async (): Promise<Awaited<ReturnType<typeof noop.enqueueMany>>> => {
        const results = await noop.enqueueMany([[], [], []])
        await bench.make({ continuous: false }).run()
        return results
      }
      const old = await bench.past(2 * DAY_MS, run)
      const recent = await run()
      const waiting = await noop.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue()
      await bench.start({ claimIntervalSeconds: 0.05 })
      await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 3)
      const ids = await bench.backend.records.filter({}).ids()
      expect(ids).to.have.members([...recent.map(({ id }) => id), waiting.id])
      expect(ids).not.to.include.members(old.map(({ id }) => id))
    })
  },
  { completedTaskTtlSeconds: 86_400 },
)

overRedisWorker('Worker: consumers of others', (bench) => {
  it('removes one that was not heard of for ten claim intervals, unless something is pending for it', async () => {
    const noop = task('noop', () => null)
    await noop.enqueueMany([[], []])
    const { client, keys } = bench.raw
    const stream = keys.stream('default', 'normal')
    const group = 'express_tasks_workers'
    const read = await client.xreadgroup('GROUP', group, 'idle', 'COUNT', 1, 'STREAMS', stream, '>')
    const [[, [[entryId]]]] = read as [[string, [[string]]]]
    await client.xclaim(stream, group, 'holds', 0, entryId, 'JUSTID')
    const worker = await bench.start({ claimIntervalSeconds: 0.05 })
    const names = async (): Promise<unknown[]> =>
      ((await client.xinfo('CONSUMERS', stream, group)) as unknown[][]).map((fields) => fields[1])
    await eventually(async () => !(await names()).includes('idle'))
    expect(await names()).to.include('holds')
    await eventually(() => worker.processed === 1)
  })
})

for (const maxCrashes of [0, 1]) {
  overEveryWorker(
    `Worker: maxCrashes: ${maxCrashes}`,
    (bench) => {
      it('fails a record whose leases ran out once more than that', async () => {
        const killer = task('killer', () => 'it was not me')
        const { id } = await killer.enqueue()
        await crash(bench.backend, id, maxCrashes)
        await bench.start({ claimIntervalSeconds: 0.1 })
        expect(await bench.reached(id, 'FAILED')).to.include({ crashes: maxCrashes + 1 })
      })

      it('runs a record whose leases ran out so often', async () => {
        const killer = task('killer', () => 'it was not me')
        const { id } = await killer.enqueue()
        if (maxCrashes > 0) await crash(bench.backend, id, maxCrashes - 1)
        await bench.start({ claimIntervalSeconds: 0.1 })
        expect(await bench.reached(id, 'SUCCESSFUL')).to.include({ crashes: maxCrashes })
      })
    },
    { maxCrashes },
  )
}
