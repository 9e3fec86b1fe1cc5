/** Worker and executor while the storage is away, slow or closed: what had ended is not run again, and nobody waits for ever. */
import { expect } from 'chai'
import { setImmediate } from 'node:timers/promises'
import { executor, RedisTaskBackend, StorageUnavailableError, task, TaskAbandonedError, Worker } from '../lib/index.ts'
import type { Storage } from '../lib/index.ts'
import type { CancelWatcher } from '../lib/storage/storage.ts'
import { abandon, caught, closedAtEnd, DAY_MS } from './backends/backends-under-test.ts'
import { TcpProxy } from './faults/support/tcp-proxy.ts'
import { Gate, overEveryWorker, overRedisWorker, settledBy } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { sharedRedisServer } from './support/redis-server.ts'
import { aClaim, aReclaim } from './support/storage-builders.ts'

type Verb = 'settle' | 'settleAndTake' | 'take' | 'renew' | 'recover' | 'reclaim' | 'sweep'

/** Lets every call of these verbs fail until `back` is called. */
function takeAway(storage: Storage, verbs: readonly Verb[]): { readonly tried: readonly Verb[]; back: () => void } {
  const tried: Verb[] = []
  const kept = Object.fromEntries(verbs.map((verb) => [verb, storage[verb]]))
  for (const verb of verbs) {
    const failing = (): Promise<never> => {
      tried.push(verb)
      return Promise.reject(new StorageUnavailableError('answer', 'nothing', 'try again later'))
    }
    Object.assign(storage, { [verb]: failing })
  }
  return { tried, back: () => void Object.assign(storage, kept) }
}

overEveryWorker(
  'Worker: an outage longer than a lease',
  (bench) => {
    // On Redis a thread renews leases by a connection of its own; there the outage is a real one (spec/faults/server-outage.spec.ts).
    if (bench.kind.name !== 'memory') return
    it('settles what ended meanwhile before it looks for stale ones, and does not run it again', async () => {
      const gate = new Gate()
      const gated = task('gated', () => gate.pass())
      const { storage } = bench.backend
      const worker = await bench.start({ concurrency: 2, claimIntervalSeconds: 0.1 })
      const settled = settledBy(worker)
      const { id } = await gated.enqueue()
      await eventually(() => gate.arrived === 1)
      const outage = takeAway(storage, ['settle', 'settleAndTake', 'take', 'renew', 'recover', 'reclaim', 'sweep'])
      gate.open()
      // Now it looks for stale ones as soon as it can.
      await eventually(() => outage.tried.includes('sweep'))
      const { leaseUntil } = await bench.record(id)
      await eventually(() => Date.now() > (leaseUntil ?? 0), { timeoutMs: 10_000 })
      outage.back()
      await eventually(() => settled.length > 0, { timeoutMs: 20_000 })
      expect(settled[0]).to.include({ id, word: 'SETTLED', outcome: 'SUCCESSFUL', attempt: 1 })
      expect(await bench.record(id)).to.include({ status: 'SUCCESSFUL', attempts: 1, crashes: 0 })
      expect(gate.arrived).to.equal(1)
    })
  },
  { claimTimeoutSeconds: 1 },
)

overEveryWorker('Worker: a purge that takes long', (bench) => {
  it('keeps neither a take-over waiting nor a stop', async () => {
    const { storage } = bench.backend
    let steps = 0
    storage.purge = async () => {
      steps += 1
      return await setImmediate({ matched: 1, deleted: 1, next: 'there is more' })
    }
    const orphan = task('orphan', () => 'saved')
    await orphan.enqueue()
    const worker = await bench.start({ claimIntervalSeconds: 0.1 })
    await eventually(() => steps > 3)
    const { id } = await orphan.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue()
    await storage.runById(aClaim('dead', { leaseMs: 1 }), id, false)
    expect(await bench.reached(id, 'SUCCESSFUL')).to.include({ attempts: 2, returnValue: '"saved"' })
    expect(await worker.stop()).to.equal(0)
    const last = steps
    await setImmediate()
    expect(steps).to.be.at.most(last + 1)
  })
})

overEveryWorker(
  'Worker: an answer that comes late',
  (bench) => {
    it('begins nothing that a person cancelled while its lease was renewed', async () => {
      let runs = 0
      const counted = task('counted', () => void (runs += 1))
      const { storage } = bench.backend
      const { take, renew } = storage
      const renewing = new Gate()
      // Half of the lease is over when the worker hears what it was given.
      storage.take = async (request) => {
        const taken = await take.call(storage, request)
        const heardAt = performance.now() + 600
        if (taken.begun.length > 0) await eventually(() => performance.now() > heardAt)
        return taken
      }
      storage.renew = async (...args) => {
        const words = await renew.apply(storage, args)
        await renewing.pass()
        return words
      }
      const result = await counted.enqueue()
      const worker = bench.make({ concurrency: 2, maxTasks: 2 })
      const cancelled: unknown[] = []
      worker.on('cancelled', (event) => void cancelled.push(event))
      await worker.start()
      await eventually(() => renewing.arrived > 0)
      await result.cancel()
      await eventually(() => cancelled.length > 0)
      renewing.open()
      storage.take = take
      // Its slot is free, and it does not count.
      const others = await counted.enqueueMany([[], []])
      for (const { id } of others) await bench.reached(id, 'SUCCESSFUL')
      expect(runs).to.equal(2)
      expect(cancelled).to.have.lengthOf(1)
    })
  },
  { claimTimeoutSeconds: 1 },
)

overEveryWorker('Worker: a cancel that is heard of before the attempt', (bench) => {
  it('leaves nothing to start', async () => {
    let runs = 0
    const counted = task('counted', () => void (runs += 1))
    const { storage } = bench.backend
    const { take, watchCancels } = storage
    const watchers: CancelWatcher[] = []
    storage.watchCancels = (watcher) => {
      watchers.push(watcher)
      return watchCancels.call(storage, watcher)
    }
    storage.take = async (request) => {
      const taken = await take.call(storage, request)
      const [delivery] = taken.begun
      if (!delivery) return taken
      storage.take = take
      await (await bench.backend.records.find(delivery.lease.id)).cancel()
      // Said again here, as the worker may not have subscribed yet.
      for (const watcher of watchers) watcher.cancelled(delivery.lease)
      return taken
    }
    const worker = bench.make({ concurrency: 1, maxTasks: 1 })
    const told: string[] = []
    worker.on('cancelled', (event) => void told.push(event.id))
    const { id } = await counted.enqueue()
    await worker.start()
    expect(await bench.reached(id, 'FAILED')).to.include({ attempts: 1 })
    // It does not count, and its slot is free.
    const second = await counted.enqueue()
    await bench.reached(second.id, 'SUCCESSFUL')
    expect(told).to.deep.equal([id])
    expect(runs).to.equal(1)
  })
})

overRedisWorker('Worker: a blocking read that is told to end', (bench) => {
  it('is followed by a look at what it was handed and never brought', async () => {
    const counted = task('counted', () => 'seen')
    const { storage } = bench.backend
    const { take, takeBlocking } = storage
    const stream = bench.raw.keys.stream('default', 'normal')
    const delivered = new Gate()
    let isAborted = false
    let id = ''
    storage.take = async (request) => {
      if (isAborted) await delivered.pass()
      return await take.call(storage, request)
    }
    // Its connection was cut between the delivery and the answer.
    storage.takeBlocking = async (request, signal) => {
      signal.addEventListener('abort', () => (isAborted = true))
      const taken = await takeBlocking.call(storage, request, signal)
      if (!signal.aborted || id !== '') return taken
      ;({ id } = await counted.enqueue())
      const read = ['GROUP', 'express_tasks_workers', request.consumer, 'COUNT', 1, 'STREAMS', stream, '>'] as const
      expect(await bench.raw.client.xreadgroup(...read)).to.have.lengthOf(1)
      delivered.open()
      return taken
    }
    await counted.enqueue()
    await bench.start({ intervalSeconds: 0.05 })
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 1)
    // Another queue: the read is told to end, for the next to look there, too.
    await counted.using({ queueName: 'other' }).enqueue()
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 3)
    expect(await bench.record(id)).to.include({ attempts: 1, crashes: 0 })
  })
})

overRedisWorker('Worker: a slow line', (bench) => {
  it('lets large arguments and outcomes through in the end, and what stands behind them', async () => {
    const large = task('large', (text: string) => text)
    const small = task('small', () => undefined)
    const { id } = await large.enqueue('x'.repeat(1_500_000))
    const others = await small.enqueueMany(Array.from({ length: 20 }, () => []))
    await using proxy = await TcpProxy.start(await sharedRedisServer())
    proxy.setPace({ bytesPerSecond: 1_000_000 })
    const keyPrefix = /^\{(.*):default\}/.exec(bench.raw.keys.root)?.[1] ?? ''
    const slow = closedAtEnd(new RedisTaskBackend({ redisUrl: proxy.url, keyPrefix, alias: 'default', queues: [] }))
    await using worker = new Worker(slow)
    await worker.start()
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 1 + others.length, { timeoutMs: 60_000 })
    expect(await bench.record(id)).to.include({ attempts: 1, crashes: 0 })
    await worker.stop()
  }).timeout(90_000)
})

overEveryWorker('Executor', (bench) => {
  it('runs a record at its limit of crashes although the answer that it may start was lost', async () => {
    const suspect = task('suspect', () => 'alone')
    const { storage } = bench.backend
    const { id } = await suspect.enqueue()
    await abandon(bench.backend, 'default')
    for (let crash = 0; crash < 2; crash += 1) {
      const stream = { queueName: 'default', band: 'normal' } as const
      const request = aReclaim('dying', { leaseMs: 1, crashLimit: 3, stream })
      await eventually(async () => (await storage.reclaim(request)).begun.length === 1)
    }
    const { renew } = storage
    const words: string[] = []
    storage.renew = async (consumer, leaseMs, leases, options) => {
      const answer = await renew.call(storage, consumer, leaseMs, leases, options)
      if (options?.starts !== true) return answer
      words.push(...answer)
      if (words.length === 1) throw new StorageUnavailableError('renew', 'a cut connection', 'try again later')
      return answer
    }
    expect(await eventually(() => executor.claimStaleTasks())).to.equal(1)
    expect(words).to.deep.equal(['RENEWED', 'RENEWED'])
    const record = await bench.record(id)
    expect(record).to.include({ status: 'SUCCESSFUL', attempts: 4, crashes: 3 })
    expect(record.errors.join()).not.to.contain(TaskAbandonedError.name)
  })

  it('ends with an error when its backend is closed while a task runs', async () => {
    const gate = new Gate()
    const gated = task('gated', () => gate.pass())
    await gated.enqueue()
    const running = caught(executor.processOneTask())
    await eventually(() => gate.arrived === 1)
    await bench.backend.close()
    gate.open()
    expect(await running).to.be.instanceOf(StorageUnavailableError)
  })
})
