/** What holds for memory storage beside the contract: exact times, one step a verb, and nothing left behind. */
import { expect } from 'chai'
import { StorageUnavailableError } from '../../../lib/errors.ts'
import { MemoryStorage } from '../../../lib/storage/memory/memory-storage.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import {
  aBlockingTake,
  aClaim,
  aReclaim,
  aRecord,
  aTake,
  beginOne,
  cells,
  depthOf,
  enqueueOne,
  failure,
  idsOf,
  later,
  only,
  QUEUE,
  read,
  someRecords,
  statusOf,
  success,
  takeOne,
  TASK,
} from '../../support/storage-builders.ts'

const never = new AbortController().signal

function open(): { storage: MemoryStorage; clock: ManualClock } {
  const clock = new ManualClock()
  return { storage: new MemoryStorage({ clock }), clock }
}

describe('MemoryStorage', () => {
  it('takes the real clock when it is given none', async () => {
    const before = Date.now()
    const storage = new MemoryStorage()
    const { enqueuedAt } = await read(storage, await enqueueOne(storage))
    expect(enqueuedAt).to.be.within(before, Date.now())
  })

  it('carries out a verb when it is called, not when its promise is asked', async () => {
    const { storage } = open()
    const { id } = aRecord()
    const answers = await Promise.all([
      storage.enqueue([aRecord({ id })]),
      storage.find([id]),
      storage.take(aTake()),
      storage.delete([id]),
      storage.count(cells()),
    ])
    expect(answers[1][0]).to.include({ id, status: 'READY' })
    expect(idsOf(answers[2])).to.deep.equal([id])
    expect(answers[3]).to.deep.equal(['RUNNING'])
    expect(answers[4]).to.deep.equal([0, 1, 0, 0])
  })

  it('hands out frozen copies', async () => {
    const { storage } = open()
    const delivery = await beginOne(storage)
    const found = await read(storage, delivery.lease.id)
    for (const record of [delivery.record, found]) {
      expect(record).to.be.frozen
      expect(record.workerIds).to.be.frozen
      expect(record.errors).to.be.frozen
    }
  })

  it('calls a lease run out at its deadline, and not a millisecond before', async () => {
    const { storage, clock } = open()
    const { lease } = await beginOne(storage, aTake('first', { leaseMs: 1_000 }))
    clock.advance(999)
    expect((await storage.reclaim(aReclaim())).begun).to.deep.equal([])
    clock.advance(1)
    expect(idsOf(await storage.reclaim(aReclaim()))).to.deep.equal([lease.id])
  })

  it('promotes at the due time, and not a millisecond before', async () => {
    const { storage, clock } = open()
    await enqueueOne(storage, { runAfter: clock.now() + 1_000 })
    clock.advance(999)
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 0, dueInMs: 1 })
    clock.advance(1)
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 1, dueInMs: null })
  })

  it('purges what finished exactly so long ago, and nothing younger', async () => {
    const { storage, clock } = open()
    await storage.settle([success(await beginOne(storage))])
    clock.advance(1)
    const young = await beginOne(storage)
    await storage.settle([success(young)])
    clock.advance(999)
    const cell = { queueName: QUEUE, name: TASK, status: 'SUCCESSFUL' } as const
    const purge = { cell, finishedForMs: 1_000, limit: 200, position: '', dryRun: false }
    expect(await storage.purge(purge)).to.deep.equal({ matched: 1, deleted: 1, next: '' })
    expect(await statusOf(storage, young.lease.id)).to.equal('SUCCESSFUL')
  })

  it('counts attempts in the minute in which they end, by how long they ran and their record waited', async () => {
    const { storage, clock } = open()
    await enqueueOne(storage)
    clock.advance(3)
    const delivery = await takeOne(storage)
    clock.advance(60_000)
    await storage.settle([success(delivery)])
    const [before, running] = await storage.stats(2)
    expect(before?.counts).to.deep.equal([])
    expect(running?.counts).to.have.deep.members([
      { queueName: QUEUE, kind: 'SUCCESSFUL', bucket: 16, count: 1 },
      { queueName: QUEUE, kind: 'wait', bucket: 2, count: 1 },
    ])
  })

  it('lets a fence grow when the clock is set back', async () => {
    const { storage, clock } = open()
    const { lease, record } = await beginOne(storage)
    expect(record.fence).to.equal(clock.now() * 1000)
    await storage.requeue([lease], 'none')
    clock.setBack(3_600_000)
    expect((await takeOne(storage)).record.fence).to.equal(record.fence + 1)
  })

  it('keeps the order of entries when the clock is set back', async () => {
    const { storage, clock } = open()
    const first = await enqueueOne(storage)
    clock.setBack(3_600_000)
    const second = await enqueueOne(storage)
    expect(idsOf(await storage.take(aTake('first', { count: 9 })))).to.deep.equal([first, second])
  })

  it('serves the consumer that waits longest, and leaves none waiting for an entry that is there', async () => {
    const { storage, clock } = open()
    const served: string[] = []
    const waits = ['a', 'b', 'c'].map(async (worker) => {
      const taken = await storage.takeBlocking(aBlockingTake(worker), never)
      served.push(...taken.begun.map(({ record }) => record.workerIds.join()))
    })
    await storage.enqueue(someRecords(2))
    await storage.enqueue(someRecords(2))
    await Promise.all(waits)
    expect(served).to.deep.equal(['a', 'b', 'c'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 4, delayed: 0 })
    expect(clock.timers).to.equal(0)
  })

  it('waits on past an entry that begins nothing', async () => {
    const { storage, clock } = open()
    const delayed = await enqueueOne(storage, { runAfter: clock.now() + 1_000 })
    const waiting = storage.takeBlocking(aBlockingTake(), never)
    // Given an entry that is new in the stream, its record already running
    await storage.runById(aClaim('runner'), delayed, false)
    const id = await enqueueOne(storage)
    expect(idsOf(await waiting)).to.deep.equal([id])
  })

  it('leaves no timer and no listener behind, however a wait ends', async () => {
    const { storage, clock } = open()
    const { lease } = await beginOne(storage)
    const stop = new AbortController()
    const waits = [
      storage.takeBlocking(aBlockingTake('first', { blockMs: 10 }), never),
      storage.takeBlocking(aBlockingTake('second'), stop.signal),
      storage.awaitFinished(lease.id, 10),
      storage.awaitFinished(lease.id, 1_000),
    ]
    expect(clock.timers).to.equal(4)
    clock.advance(10)
    stop.abort()
    await storage.settle([{ lease, outcome: 'SUCCESSFUL', payload: '1', delayMs: 0 }])
    await Promise.all(waits)
    expect(clock.timers).to.equal(0)
  })

  it('ends every wait with an error when it is closed', async () => {
    const { storage, clock } = open()
    const id = await enqueueOne(storage, { runAfter: clock.now() + 1_000 })
    const waits = [storage.takeBlocking(aBlockingTake(), never), storage.awaitFinished(id, 1_000)]
    const ends = Promise.all(waits.map((wait) => wait.catch((error: unknown) => error)))
    await storage.close()
    for (const error of await ends) {
      expect(error).to.be.instanceOf(StorageUnavailableError)
      expect(error).to.have.property('message').that.includes('make a new one after close()')
    }
    expect(clock.timers).to.equal(0)
  })

  it('keeps nothing of ten thousand records that lived and were purged', async () => {
    const { storage, clock } = open()
    for (let round = 0; round < 100; round++) {
      await storage.enqueue(someRecords(100, { priority: (round % 3) - 1 }))
      const { begun } = await storage.take(aTake('first', { count: 100 }))
      await storage.settle(begun.slice(0, 50).map((delivery) => success(delivery)))
      await storage.settle(begun.slice(50, 80).map((delivery) => failure(delivery)))
      await storage.settle(begun.slice(80).map((delivery) => later(delivery, 1_000)))
      clock.advance(1_000)
      await storage.promote(QUEUE)
      const again = await storage.take(aTake('second', { count: 100 }))
      await storage.settle(again.begun.map((delivery) => success(delivery)))
      for (const status of ['SUCCESSFUL', 'FAILED'] as const) {
        const cell = { queueName: QUEUE, name: TASK, status }
        await storage.purge({ cell, finishedForMs: 0, limit: 200, position: '', dryRun: false })
      }
    }
    expect(await storage.count(cells())).to.deep.equal([0, 0, 0, 0])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect([await storage.forget('first.holder'), await storage.forget('second.holder')]).to.deep.equal([
      'FORGOTTEN',
      'FORGOTTEN',
    ])
    expect(only((await storage.catalog()).tasks)).to.deep.equal({ queueName: QUEUE, name: TASK })
  })
})
