/** The contract of cancel: a person ends what waits or runs, whoever runs it is told, and nothing of it comes back by itself. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import type { CancelWatcher, Lease, Storage } from '../../../lib/storage/storage.ts'
import { eventually } from '../../support/eventually.ts'
import {
  aClaim,
  aReclaim,
  aTake,
  beginOne,
  countsOf,
  depthOf,
  enqueueOne,
  failOne,
  idsOf,
  later,
  only,
  read,
  statusOf,
  success,
  takeOne,
  timeOf,
} from '../../support/storage-builders.ts'
import { overEveryStorage } from '../../support/storages.ts'

const HOUR_MS = 3_600_000
const REASON = '{"name":"TaskCancelledError","message":"no more"}'

interface ReadError {
  readonly at: number
  readonly attempt: number
  readonly name: string
}

async function errorsOf(storage: Storage, id: string): Promise<ReadError[]> {
  return (await read(storage, id)).errors.map((text) => JSON.parse(text) as ReadError)
}

/** A watcher that remembers what it was told. */
function aWatcher(): CancelWatcher & { readonly told: string[] } {
  const told: string[] = []
  return {
    told,
    cancelled: ({ id, token }: Pick<Lease, 'id' | 'token'>) => void told.push(`${id} ${token}`),
    missed: () => undefined,
  }
}

overEveryStorage('cancel', (it) => {
  it('ends a waiting record at once, with the reason as its error and no place left', async ({ storage }) => {
    const id = await enqueueOne(storage)
    const before = await timeOf(storage)
    expect(await storage.cancel([id], 'cancel.1', REASON)).to.deep.equal(['CANCELLED'])
    const record = await read(storage, id)
    expect(record).to.include({ status: 'FAILED', attempts: 0, entryId: '', leaseToken: '', returnValue: null })
    expect(record.finishedAt).to.be.at.least(before)
    expect(await errorsOf(storage, id)).to.deep.equal([
      { at: record.finishedAt, attempt: 0, name: 'TaskCancelledError', message: 'no more' },
    ])
    expect(await countsOf(storage)).to.include({ READY: 0, FAILED: 1 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(idsOf(await storage.take(aTake()))).to.deep.equal([])
  })

  it('ends a delayed record at once; nothing is left to promote', async ({ storage }) => {
    const id = await enqueueOne(storage, { runAfter: (await timeOf(storage)) + HOUR_MS })
    expect(await storage.cancel([id], 'cancel.1', REASON)).to.deep.equal(['CANCELLED'])
    expect(await statusOf(storage, id)).to.equal('FAILED')
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.promote('mail')).to.deep.equal({ moved: 0, dueInMs: null })
  })

  it('ends a record that waits for its next attempt, and keeps the errors of those before', async ({ storage }) => {
    const delivery = await beginOne(storage)
    await storage.settle([later(delivery, HOUR_MS)])
    await storage.cancel([delivery.lease.id], 'cancel.1', REASON)
    expect((await errorsOf(storage, delivery.lease.id)).map(({ name }) => name)).to.deep.equal([
      'Error',
      'TaskCancelledError',
    ])
  })

  it('ends a running record; what its worker still sends is LOST, and a renewal says why', async ({ storage }) => {
    const delivery = await beginOne(storage)
    const { lease } = delivery
    expect(await storage.cancel([lease.id], 'cancel.1', REASON)).to.deep.equal(['CANCELLED'])
    const ended = await read(storage, lease.id)
    expect(ended).to.include({ status: 'FAILED', attempts: 1, entryId: '', leaseToken: '' })
    expect(only(await errorsOf(storage, lease.id))).to.include({ attempt: 1, name: 'TaskCancelledError' })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.settle([success(delivery)])).to.deep.equal(['LOST'])
    expect(await storage.requeue([lease], 'none')).to.deep.equal(['LOST'])
    expect(await storage.renew('first.holder', 60_000, [lease])).to.deep.equal(['CANCELLED'])
    expect(await read(storage, lease.id)).to.deep.equal(ended)
  })

  it('ends a record whose lease ran out; nobody takes it over', async ({ storage, elapse }) => {
    const { lease } = await beginOne(storage, aTake('first', { leaseMs: 1 }))
    elapse(2)
    expect(await storage.cancel([lease.id], 'cancel.1', REASON)).to.deep.equal(['CANCELLED'])
    expect((await storage.reclaim(aReclaim())).begun).to.deep.equal([])
    expect(await storage.recover({ ...aTake('first'), inHand: new Set() })).to.deep.equal({ begun: [], passed: 0 })
    expect(await statusOf(storage, lease.id)).to.equal('FAILED')
  })

  it('is followed by a retry of a person, and then it runs', async ({ storage }) => {
    const id = await enqueueOne(storage)
    await storage.cancel([id], 'cancel.1', REASON)
    expect(await storage.retry([id], 'request.1')).to.deep.equal(['RETRIED'])
    const delivery = await takeOne(storage)
    // The errors before an attempt decide whether there is another.
    expect(delivery.record.errors).to.have.lengthOf(1)
    expect(delivery.record).to.include({ attempts: 1, startedAt: delivery.record.lastAttemptedAt })
    expect(await storage.settle([success(delivery)])).to.deep.equal(['SETTLED'])
    expect(await read(storage, id)).to.include({ status: 'SUCCESSFUL', attempts: 1 })
  })

  it('is followed by a run by id where that is allowed', async ({ storage }) => {
    const id = await enqueueOne(storage)
    await storage.cancel([id], 'cancel.1', REASON)
    expect(await storage.runById(aClaim(), id, false)).to.equal('FAILED')
    expect(await storage.runById(aClaim(), id, true)).to.have.property('lease')
  })

  it('answers the status of what has ended, and leaves it', async ({ storage }) => {
    const done = await beginOne(storage)
    await storage.settle([success(done)])
    const failed = await failOne(storage)
    const ids = [done.lease.id, failed]
    const before = await storage.find(ids)
    const words = await storage.cancel([...ids, randomUUID()], 'cancel.1', REASON)
    expect(words).to.deep.equal(['SUCCESSFUL', 'FAILED', 'ABSENT'])
    expect(await storage.find(ids)).to.deep.equal(before)
  })

  it('is carried out once for a request, whatever the record did since', async ({ storage }) => {
    const id = await enqueueOne(storage)
    await storage.cancel([id, id], 'cancel.1', REASON)
    await storage.retry([id], 'request.1')
    expect(await storage.cancel([id], 'cancel.1', REASON)).to.deep.equal(['CANCELLED'])
    expect(await read(storage, id)).to.include({ status: 'READY' })
    expect(await errorsOf(storage, id)).to.have.lengthOf(1)
    expect(await storage.cancel([id], 'cancel.2', REASON)).to.deep.equal(['CANCELLED'])
    // A retry that arrives once more is the one that was carried out.
    await storage.retry([id], 'request.1')
    expect(await statusOf(storage, id)).to.equal('FAILED')
  })

  it('tells those who watch, with the token, of attempts alone', async ({ storage }) => {
    const watcher = aWatcher()
    const stop = storage.watchCancels(watcher)
    const waiting = await enqueueOne(storage, { runAfter: (await timeOf(storage)) + HOUR_MS })
    // A server takes a moment to send its first message.
    const told = await eventually(async () => {
      const { lease } = await beginOne(storage)
      await storage.cancel([waiting, lease.id], `cancel.${lease.id}`, REASON)
      const word = `${lease.id} ${lease.token}`
      return await eventually(() => watcher.told.includes(word) && word, { timeoutMs: 500 }).catch(() => false)
    })
    expect(watcher.told).to.include(told)
    expect(watcher.told.every((word) => !word.includes(waiting))).to.equal(true)
    stop()
    const heard = watcher.told.length
    const { lease } = await beginOne(storage)
    const second = aWatcher()
    storage.watchCancels(second)
    await storage.cancel([lease.id], 'cancel.last', REASON)
    await eventually(() => second.told.length === 1)
    expect(watcher.told).to.have.lengthOf(heard)
  })

  it('wakes whoever waits for the end', async ({ storage }) => {
    const id = await enqueueOne(storage)
    const waiting = storage.awaitFinished(id, 60_000)
    await storage.cancel([id], 'cancel.1', REASON)
    expect(await waiting).to.equal('FINISHED')
  })

  it('of a cancel and a settle at the same time lets one win', async ({ storage }) => {
    for (let round = 0; round < 10; round += 1) {
      const delivery = await beginOne(storage)
      const [words, settled] = await Promise.all([
        storage.cancel([delivery.lease.id], `cancel.${round}`, REASON),
        storage.settle([success(delivery)]),
      ])
      expect([only(words), only(settled)]).to.be.deep.oneOf([
        ['CANCELLED', 'LOST'],
        ['SUCCESSFUL', 'SETTLED'],
      ])
    }
  })
})
