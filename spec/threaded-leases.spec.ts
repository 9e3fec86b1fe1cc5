/**
 * Leases on Redis, renewed by a thread: a long task keeps its record, whatever its event loop does; a lease that is lost is
 * told; the thread may die, and is gone after a stop.
 */
import { expect } from 'chai'
import { systemClock } from '../lib/clock.ts'
import type { TaskLeaseLostError } from '../lib/index.ts'
import { task } from '../lib/index.ts'
import type { HeldLease } from '../lib/lease-keeper.ts'
import { LeaseThreads } from './faults/support/lease-threads.ts'
import { Gate, overRedisWorker, settledBy } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { aReclaim } from './support/storage-builders.ts'

const LEASE_MS = 1_000

overRedisWorker(
  'ThreadedLeases',
  (bench) => {
    const threads = new LeaseThreads()
    beforeEach(() => threads.watch())
    afterEach(() => threads.forget())

    it('keeps a task that runs four leases from being taken over by a worker that looks for it', async () => {
      const begun: number[] = []
      const long = task({ name: 'long', takesContext: true }, async ({ signal }) => {
        begun.push(Date.now())
        await eventually(() => Date.now() > (begun[0] ?? NaN) + 4 * LEASE_MS)
        return signal.aborted
      })
      const first = await bench.start({ claimIntervalSeconds: 0.1 })
      await bench.start({ claimIntervalSeconds: 0.1 })
      const { id } = await long.enqueue()
      const record = await bench.reached(id, 'SUCCESSFUL', { timeoutMs: 8_000 })
      expect(begun).to.have.lengthOf(1)
      expect(record).to.include({ attempts: 1, crashes: 0, returnValue: 'false' })
      expect(first.processed).to.be.at.most(1)
    })

    it('aborts the signal of a task whose token is no longer on the record; its settle is LOST, told and counted', async () => {
      const gate = new Gate()
      let reason: unknown
      const overtaken = task({ name: 'overtaken', takesContext: true }, async ({ signal }) => {
        signal.addEventListener('abort', () => void (reason = signal.reason))
        await gate.pass()
        return 'stale'
      })
      const worker = await bench.start({ claimIntervalSeconds: 0.1, concurrency: 1 })
      const lost: string[] = []
      worker.on('leaseLost', ({ id }) => void lost.push(id))
      const events = settledBy(worker)
      const { id } = await overtaken.enqueue()
      await eventually(() => gate.arrived === 1)
      // When somebody else holds it
      const { client, keys } = bench.raw
      const leaseUntil = Date.now() + 3_600_000
      await client.hset(keys.record(id), { leaseToken: '2:somebody-else.1', leaseUntil })
      await client.zadd(keys.leases, leaseUntil, id)
      await eventually(() => reason !== undefined)
      expect((reason as TaskLeaseLostError).code).to.equal('ERR_TASKS_LEASE_LOST')
      gate.open()
      await eventually(() => events.length === 1)
      // Then what it returned is nowhere
      expect(events[0]).to.include({ id, outcome: 'SUCCESSFUL', word: 'LOST' })
      expect(lost).to.deep.equal([id])
      expect(await client.hmget(keys.record(id), 'status', 'leaseToken', 'returnValue')).to.deep.equal([
        'RUNNING',
        '2:somebody-else.1',
        null,
      ])
      await eventually(async () => (await bench.backend.storage.workers())[0]?.fields['lost'] === '1')
      expect(worker.processed).to.equal(0)
    })

    it('writes nothing over the one who took over, and leaves it its entry', async () => {
      const gate = new Gate()
      let aborted = false
      const overtaken = task({ name: 'overtaken', takesContext: true }, async ({ signal }) => {
        signal.addEventListener('abort', () => (aborted = true))
        await gate.pass()
        throw new Error('stale')
      })
      const worker = await bench.start({ claimIntervalSeconds: 60, concurrency: 1 })
      const { id } = await overtaken.enqueue()
      await eventually(() => gate.arrived === 1)
      // When its lease is over by the server's clock, and another takes over before the next renewal
      const { client, keys } = bench.raw
      const { storage } = bench.backend
      const stream = { queueName: 'default', band: 'normal' } as const
      const [delivery] = await eventually(async () => {
        await client.hset(keys.record(id), 'leaseUntil', '1')
        await client.zadd(keys.leases, 1, id)
        const { begun } = await storage.reclaim(aReclaim('second', { stream }))
        return begun.length === 1 && begun
      })
      await eventually(() => aborted)
      gate.open()
      await eventually(() => worker.running === 0)
      // Then the second one's attempt is as it was
      const record = await bench.record(id)
      expect(record).to.include({ status: 'RUNNING', leaseToken: delivery?.lease.token, crashes: 1, attempts: 2 })
      expect(record.errors).to.deep.equal([])
      const rows = (await client.xpending(
        keys.stream('default', 'normal'),
        'express_tasks_workers',
        '-',
        '+',
        10,
      )) as unknown[][]
      expect(rows.map((row) => row[1])).to.deep.equal(['second.holder'])
    })

    it('costs no message for each attempt, also where each begins after the one before has ended', async () => {
      const noop = task('noop', () => null)
      await noop.enqueueMany(Array.from({ length: 300 }, () => []))
      const worker = await bench.start({ concurrency: 1 })
      await eventually(() => worker.processed === 300, { timeoutMs: 20_000 })
      // Pages, heartbeats, and what a slow machine began late.
      expect(threads.told.length).to.be.within(1, 30)
    })

    it('tells the thread at once of a begin whose answer came late, and of no other', async () => {
      const heldOf = (id: string, ageMs: number): HeldLease => ({
        lease: { id, token: `1:${id}`, entryId: '1-1' },
        name: 'held',
        sentAtMs: systemClock.monotonicMs() - ageMs,
        stopAtMs: Infinity,
        lose: () => undefined,
      })
      const leases = bench.backend.openLeases(bench.backend.queue)
      try {
        await leases.start()
        leases.hold([heldOf('first', 0)])
        leases.hold([heldOf('in-time', 0)])
        leases.hold([heldOf('late', 0.5 * LEASE_MS)])
      } finally {
        await leases.stop()
      }
      expect(threads.told.map((message) => Object.keys(message))).to.deep.equal([['page'], ['look'], ['stop']])
    })

    it('keeps more attempts at a time than a page of its table holds', async () => {
      const count = 150
      const gate = new Gate()
      const long = task({ name: 'long', takesContext: true }, async ({ signal }) => {
        await gate.pass()
        return signal.aborted
      })
      await bench.start({ concurrency: count, claimIntervalSeconds: 60 })
      const results = await long.enqueueMany(Array.from({ length: count }, () => []))
      await eventually(() => gate.arrived === count)
      const begun = await Promise.all(results.map(({ id }) => bench.record(id)))
      // When each of them was renewed for longer than its first lease
      await eventually(async () => {
        const records = await Promise.all(results.map(({ id }) => bench.record(id)))
        return records.every((record, index) => Number(record.leaseUntil) > Number(begun[index]?.leaseUntil) + LEASE_MS)
      })
      gate.open()
      for (const { id } of results) {
        expect(await bench.reached(id, 'SUCCESSFUL')).to.include({ attempts: 1, crashes: 0, returnValue: 'false' })
      }
    })

    it('starts one thread with its worker, and leaves none behind', async () => {
      const noop = task('noop', () => null)
      const worker = bench.make()
      expect(threads.started).to.equal(0)
      await worker.start()
      expect(threads.started).to.equal(1)
      await noop.enqueueMany(Array.from({ length: 30 }, () => []))
      await eventually(() => worker.processed === 30)
      expect([threads.started, threads.running]).to.deep.equal([1, 1])
      await worker.stop()
      expect(threads.running).to.equal(0)
    })
  },
  { claimTimeoutSeconds: 1 },
)

overRedisWorker(
  'ThreadedLeases: a thread that dies',
  (bench) => {
    const threads = new LeaseThreads()
    beforeEach(() => threads.watch())
    afterEach(() => threads.forget())

    it('starts another thread when one dies, and the leases are kept', async () => {
      let aborted = false
      const begun: number[] = []
      const reached = (leases: number): Promise<boolean> =>
        eventually(() => Date.now() > (begun[0] ?? NaN) + leases * 2 * LEASE_MS, { timeoutMs: 9_000 })
      const long = task({ name: 'long', takesContext: true }, async ({ signal }) => {
        begun.push(Date.now())
        signal.addEventListener('abort', () => (aborted = true))
        await reached(2.2)
      })
      await bench.start({ claimIntervalSeconds: 0.1 })
      await bench.start({ claimIntervalSeconds: 0.1 })
      const { id } = await long.enqueue()
      await eventually(() => begun.length === 1)
      // When it dies in the first lease, and the next one in the second
      for (const leases of [0.5, 1.3]) {
        await reached(leases)
        await threads.terminateAll()
      }
      const record = await bench.reached(id, 'SUCCESSFUL')
      // One with each worker; the idle one needs no other, the busy one two.
      expect(threads.started).to.equal(4)
      expect([begun.length, aborted]).to.deep.equal([1, false])
      expect(record).to.include({ attempts: 1, crashes: 0 })
    })

    it('tells once that a lease is lost, also when the next thread finds it lost again', async () => {
      const gate = new Gate()
      let aborted = 0
      const overtaken = task({ name: 'overtaken', takesContext: true }, async ({ signal }) => {
        signal.addEventListener('abort', () => (aborted += 1))
        await gate.pass()
      })
      await bench.start({ claimIntervalSeconds: 60 })
      const { id } = await overtaken.enqueue()
      await eventually(() => gate.arrived === 1)
      const { client, keys } = bench.raw
      await client.hset(keys.record(id), { leaseToken: '2:somebody-else.1', leaseUntil: Date.now() + 3_600_000 })
      const toldLost = (): number => threads.heard.filter((message) => 'lost' in message).length
      await eventually(() => toldLost() === 1)
      await threads.terminateAll()
      await eventually(() => toldLost() === 2)
      const told = bench.logged.filter(({ message }) => message.startsWith('the lease of a running task is lost'))
      expect([aborted, told.length]).to.deep.equal([1, 1])
      gate.open()
    })
  },
  // A new thread needs some of it.
  { claimTimeoutSeconds: 2 },
)
