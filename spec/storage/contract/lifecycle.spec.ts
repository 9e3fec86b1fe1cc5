/** The contract of everything around the attempts: waiting for an end, workers, connecting and closing, a whole life. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { StorageUnavailableError } from '../../../lib/errors.ts'
import type { Storage } from '../../../lib/storage/storage.ts'
import { eventually } from '../../support/eventually.ts'
import {
  aBlockingTake,
  aClaim,
  aReclaim,
  aRecord,
  aRecover,
  aTake,
  beginOne,
  cells,
  depthOf,
  enqueueOne,
  failOne,
  failure,
  later,
  only,
  QUEUE,
  read,
  success,
  takeOne,
  timeOf,
} from '../../support/storage-builders.ts'
import { overEveryStorage } from '../../support/storages.ts'

const MINUTE_MS = 60_000

overEveryStorage('awaitFinished', (it) => {
  it('answers at once when the record has an outcome', async ({ storage }) => {
    const done = await beginOne(storage)
    await storage.settle([success(done)])
    expect(await storage.awaitFinished(done.lease.id, MINUTE_MS)).to.equal('FINISHED')
    expect(await storage.awaitFinished(await failOne(storage), MINUTE_MS)).to.equal('FINISHED')
  })

  it('answers at once when there is no record', async ({ storage }) => {
    expect(await storage.awaitFinished(randomUUID(), MINUTE_MS)).to.equal('ABSENT')
  })

  it('answers when the record gets its outcome, to everyone who waits', async ({ storage }) => {
    const delivery = await beginOne(storage)
    const other = await enqueueOne(storage)
    const waiting = [1, 2].map(() => storage.awaitFinished(delivery.lease.id, MINUTE_MS))
    const others = [1, 2].map(() => storage.awaitFinished(other, MINUTE_MS))
    // A retry later is no outcome, and the end of another record is none of this one.
    await storage.settle([later(delivery, 0)])
    for (const each of [await takeOne(storage), await takeOne(storage)]) {
      await storage.settle([each.lease.id === other ? failure(each) : success(each)])
    }
    expect(await Promise.all([...waiting, ...others])).to.deep.equal(['FINISHED', 'FINISHED', 'FINISHED', 'FINISHED'])
  })

  it('answers when the record crashed once too often', async ({ storage, elapse }) => {
    const { lease } = await beginOne(storage, aTake('first', { leaseMs: 1 }))
    const waiting = storage.awaitFinished(lease.id, MINUTE_MS)
    elapse(2)
    await eventually(async () => (await storage.reclaim(aReclaim('second', { crashLimit: 0 }))).crashed.length === 1)
    expect(await waiting).to.equal('FINISHED')
  })

  it('answers when the record is deleted', async ({ storage }) => {
    const id = await enqueueOne(storage)
    const waiting = storage.awaitFinished(id, MINUTE_MS)
    await storage.delete([id])
    expect(await waiting).to.equal('ABSENT')
  })

  it('answers TIMEOUT when its time is over, and waits anew when asked again', async ({ storage, elapse }) => {
    const delivery = await beginOne(storage)
    const waiting = storage.awaitFinished(delivery.lease.id, 20)
    elapse(20)
    expect(await waiting).to.equal('TIMEOUT')
    const again = storage.awaitFinished(delivery.lease.id, MINUTE_MS)
    await storage.settle([success(delivery)])
    expect(await again).to.equal('FINISHED')
  })

  it('waits for the next end of a record that was retried', async ({ storage }) => {
    const id = await failOne(storage)
    await storage.retry([id], 'request.1')
    const waiting = storage.awaitFinished(id, MINUTE_MS)
    await storage.settle([success(await takeOne(storage))])
    expect(await waiting).to.equal('FINISHED')
  })
})

overEveryStorage('workers', (it) => {
  it('keeps the last heartbeat of each consumer', async ({ storage, elapse }) => {
    expect(await storage.workers()).to.deep.equal([])
    await storage.heartbeat({ consumer: 'a.x', fields: { host: 'h', running: '1', draining: 'yes' } })
    await storage.heartbeat({ consumer: 'b.y', fields: { host: 'i' } })
    elapse(1_000)
    await storage.heartbeat({ consumer: 'a.x', fields: { host: 'h', running: '2' } })
    const workers = await storage.workers()
    const byName = new Map(workers.map((worker) => [worker.consumer, worker]))
    expect([...byName.keys()]).to.have.members(['a.x', 'b.y'])
    expect({ ...byName.get('a.x')?.fields }).to.deep.equal({ host: 'h', running: '2' })
    expect({ ...byName.get('b.y')?.fields }).to.deep.equal({ host: 'i' })
    expect(byName.get('a.x')?.ageMs).to.be.within(0, 5_000)
  })

  it('says how long ago a worker was heard of', async ({ storage, elapse }) => {
    await storage.heartbeat({ consumer: 'a.x', fields: { host: 'h' } })
    elapse(50)
    await eventually(async () => only(await storage.workers()).ageMs >= 50)
  })

  it('keeps a heartbeat that says nothing but that it is there', async ({ storage }) => {
    await storage.heartbeat({ consumer: 'a.x', fields: {} })
    expect((await storage.workers()).map(({ consumer }) => consumer)).to.deep.equal(['a.x'])
  })

  it('forgets a worker that has nothing in hand, and one that never was', async ({ storage }) => {
    await storage.heartbeat({ consumer: 'first.holder', fields: { host: 'h' } })
    await storage.settle([success(await beginOne(storage))])
    expect(await storage.forget('first.holder')).to.equal('FORGOTTEN')
    expect(await storage.forget('first.holder')).to.equal('FORGOTTEN')
    expect(await storage.workers()).to.deep.equal([])
  })

  it('keeps a worker that has deliveries: what it holds must be found', async ({ storage }) => {
    await storage.heartbeat({ consumer: 'first.holder', fields: { host: 'h' } })
    const delivery = await beginOne(storage)
    expect(await storage.forget('first.holder')).to.equal('KEPT')
    expect(await storage.sweep(0)).to.equal(0)
    expect((await storage.workers()).map(({ consumer }) => consumer)).to.deep.equal(['first.holder'])
    // Its own list is still there.
    const recovered = await storage.recover(aRecover('first'))
    expect(recovered.begun.map(({ lease }) => lease.id)).to.deep.equal([delivery.lease.id])
  })

  it('goes on handing entries to a consumer that was forgotten', async ({ storage }) => {
    await storage.settle([success(await beginOne(storage))])
    await storage.forget('first.holder')
    const delivery = await beginOne(storage)
    expect(await storage.settle([success(delivery)])).to.deep.equal(['SETTLED'])
  })

  it('sweeps those that were not heard of for that long, and no others', async ({ storage, elapse }) => {
    await storage.heartbeat({ consumer: 'old.x', fields: { host: 'h' } })
    await storage.heartbeat({ consumer: 'holder.y', fields: { host: 'h' } })
    await beginOne(storage, { ...aTake(), consumer: 'holder.y' })
    elapse(300)
    await eventually(async () => (await storage.workers()).every(({ ageMs }) => ageMs >= 300))
    await storage.heartbeat({ consumer: 'young.z', fields: { host: 'h' } })
    expect(await storage.sweep(MINUTE_MS)).to.equal(0)
    const { ageMs: oldest } = (await storage.workers()).find(({ consumer }) => consumer === 'old.x') ?? { ageMs: 0 }
    expect(await storage.sweep(oldest)).to.equal(1)
    const names = (await storage.workers()).map(({ consumer }) => consumer)
    expect(names).to.have.members(['holder.y', 'young.z'])
  })
})

overEveryStorage('a storage', (it) => {
  it('says what it is', async ({ storage }) => {
    const facts = await storage.connect()
    expect(facts.kind).to.be.oneOf(['memory', 'redis', 'valkey'])
    expect(facts.version).to.match(/^v?\d+\.\d+/)
    expect(facts.address).to.be.a('string').with.length.above(0)
  })

  it('may be closed twice, and before its first use', async ({ storage }) => {
    await storage.close()
    await storage.close()
  })

  it('rejects every verb once it is closed', async ({ storage }) => {
    const { lease } = await beginOne(storage)
    await storage.close()
    const cell = { queueName: QUEUE, name: 'send', status: 'FAILED' } as const
    const signal = new AbortController().signal
    const verbs: Readonly<
      Record<Exclude<keyof Storage, 'close' | 'watchCancels'>, (open: Storage) => Promise<unknown>>
    > = {
      connect: (open) => open.connect(),
      enqueue: (open) => open.enqueue([aRecord()]),
      find: (open) => open.find([lease.id]),
      list: (open) => open.list({ cells: cells(), order: 'newest', size: 1 }),
      count: (open) => open.count(cells()),
      catalog: (open) => open.catalog(),
      save: (open) => open.save(lease.id, { args: '[]' }),
      delete: (open) => open.delete([lease.id]),
      retry: (open) => open.retry([lease.id], 'request.1'),
      cancel: (open) => open.cancel([lease.id], 'request.1', '{}'),
      purge: (open) => open.purge({ cell, finishedForMs: 0, limit: 1, position: '', dryRun: true }),
      awaitFinished: (open) => open.awaitFinished(lease.id, MINUTE_MS),
      take: (open) => open.take(aTake()),
      takeBlocking: (open) => open.takeBlocking(aBlockingTake(), signal),
      recover: (open) => open.recover(aRecover()),
      runById: (open) => open.runById(aClaim(), lease.id, false),
      settle: (open) => open.settle([{ lease, outcome: 'SUCCESSFUL', payload: '1', delayMs: 0 }]),
      settleAndTake: (open) => open.settleAndTake([], aTake()),
      requeue: (open) => open.requeue([lease], 'none'),
      renew: (open) => open.renew('first.holder', 1, [lease]),
      reclaim: (open) => open.reclaim(aReclaim()),
      promote: (open) => open.promote(QUEUE),
      depth: (open) => open.depth([QUEUE]),
      longestWait: (open) => open.longestWait([QUEUE]),
      heartbeat: (open) => open.heartbeat({ consumer: 'a.x', fields: { host: 'h' } }),
      workers: (open) => open.workers(),
      forget: (open) => open.forget('a.x'),
      sweep: (open) => open.sweep(0),
      stats: (open) => open.stats(1),
    }
    for (const [name, verb] of Object.entries(verbs)) {
      const error: unknown = await verb(storage).catch((caught: unknown) => caught)
      expect(error, name).to.be.instanceOf(StorageUnavailableError)
    }
  })

  it('keeps token and fence of one record apart through a whole life', async ({ storage, elapse }) => {
    const id = await enqueueOne(storage)
    const seen: { token: string; fence: number }[] = []
    const note = (record: { leaseToken: string; fence: number }): void => {
      seen.push({ token: record.leaseToken, fence: record.fence })
    }
    // Taken and handed back, taken and failed for later, run by id, lost, reclaimed, failed, retried, done.
    const taken = await takeOne(storage)
    note(taken.record)
    await storage.requeue([taken.lease], 'none')
    const second = await takeOne(storage)
    note(second.record)
    await storage.settle([later(second, MINUTE_MS)])
    const third = await storage.runById(aClaim('person', { leaseMs: 1 }), id, false)
    if (typeof third === 'string') throw new Error(`expected the record to run, got: ${third}`)
    note(third.record)
    elapse(2)
    const fourth = await eventually(async () => (await storage.reclaim(aReclaim())).begun[0] ?? null)
    note(fourth.record)
    await storage.settle([failure(fourth)])
    await storage.retry([id], 'request.1')
    const fifth = await takeOne(storage)
    note(fifth.record)
    await storage.settle([success(fifth)])

    expect(new Set(seen.map(({ token }) => token)).size).to.equal(seen.length)
    const fences = seen.map(({ fence }) => fence)
    expect(fences).to.deep.equal([...new Set(fences)].sort((a, b) => a - b))
    expect(fences.every((fence) => Number.isSafeInteger(fence))).to.equal(true)
    const record = await read(storage, id)
    expect(record).to.include({ status: 'SUCCESSFUL', attempts: 4, crashes: 0, handBacks: 0, fence: fences.at(-1) })
    expect(record.workerIds).to.have.lengthOf(4)
    expect(record.errors).to.have.lengthOf(2)
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await timeOf(storage)).to.be.at.least(record.finishedAt ?? Infinity)
  })
})
