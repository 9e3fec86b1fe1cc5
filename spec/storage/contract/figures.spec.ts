/** The contract of the figures that an overview shows: how long the oldest record waits, and what ended by minute. */
import { expect } from 'chai'
import type { Storage } from '../../../lib/storage/storage.ts'
import { eventually } from '../../support/eventually.ts'
import {
  aReclaim,
  aTake,
  beginOne,
  enqueueOne,
  failOne,
  failure,
  later,
  only,
  QUEUE,
  read,
  someRecords,
  success,
  takeOne,
  timeOf,
} from '../../support/storage-builders.ts'
import { overEveryStorage } from '../../support/storages.ts'

const HOUR_MS = 3_600_000
const MINUTE_MS = 60_000

async function waitOf(storage: Storage, queueName = QUEUE): Promise<number | null> {
  return only(await storage.longestWait([queueName]))
}

overEveryStorage('longestWait', (it) => {
  it('says how long the oldest waiting record has been due, whatever its band', async ({ storage, elapse }) => {
    const oldest = await enqueueOne(storage, { priority: -1 })
    elapse(50)
    await eventually(async () => ((await waitOf(storage)) ?? 0) >= 50)
    await storage.enqueue([...someRecords(3, { priority: 1 }), ...someRecords(3)])
    const wait = await waitOf(storage)
    const passed = (await timeOf(storage)) - (await read(storage, oldest)).enqueuedAt
    expect(wait).to.be.within(50, passed)
  })

  it('says null where none waits: no queue, nothing but running, or nothing due', async ({ storage }) => {
    await beginOne(storage, aTake('first', { queueNames: ['running'] }))
    await failOne(storage)
    await enqueueOne(storage, { queueName: 'delayed', runAfter: (await timeOf(storage)) + HOUR_MS })
    expect(await storage.longestWait(['none', 'running', 'delayed', QUEUE])).to.deep.equal([null, null, null, null])
    expect(await storage.longestWait([])).to.deep.equal([])
  })

  it('counts a delayed record from its time on, promoted or not', async ({ storage, elapse }) => {
    const runAfter = (await timeOf(storage)) + 100
    await enqueueOne(storage, { runAfter })
    elapse(100 + 20)
    await eventually(async () => (await timeOf(storage)) >= runAfter + 20)
    for (const moved of [1, 0]) {
      const before = await timeOf(storage)
      const wait = await waitOf(storage)
      const after = await timeOf(storage)
      expect(wait).to.be.within(before - runAfter, after - runAfter)
      expect((await storage.promote(QUEUE)).moved).to.equal(moved)
    }
  })

  it('counts a record that was put back from then on, not from its beginning', async ({ storage, elapse }) => {
    const delivery = await beginOne(storage)
    elapse(HOUR_MS)
    const before = await timeOf(storage)
    await storage.settle([later(delivery, 0)])
    const wait = await waitOf(storage)
    expect(wait).to.be.within(0, (await timeOf(storage)) - before)
  })
})

overEveryStorage('stats', (it) => {
  /** Counts of the last minutes by queue and kind. */
  async function totals(storage: Storage): Promise<Record<string, number>> {
    const sums: Record<string, number> = {}
    for (const { counts } of await storage.stats(5)) {
      for (const { queueName, kind, bucket, count } of counts) {
        expect(bucket).to.be.within(0, 24)
        sums[`${queueName} ${kind}`] = (sums[`${queueName} ${kind}`] ?? 0) + count
      }
    }
    return sums
  }

  it('answers the minutes asked for, the running one last', async ({ storage }) => {
    const before = await timeOf(storage)
    const minutes = await storage.stats(3)
    const after = await timeOf(storage)
    const starts = minutes.map(({ from }) => from)
    const last = starts.at(-1) ?? 0
    expect(last).to.be.within(before - MINUTE_MS + 1, after)
    expect(last % MINUTE_MS).to.equal(0)
    expect(starts).to.deep.equal([last - 2 * MINUTE_MS, last - MINUTE_MS, last])
    expect(minutes.flatMap(({ counts }) => counts)).to.deep.equal([])
  })

  it('counts every outcome once, and the wait of first attempts', async ({ storage }) => {
    // Given a success, a failure that was put back once before, and a success of another queue
    const done = await beginOne(storage)
    await storage.settle([success(done)])
    await storage.settle([later(await beginOne(storage), 0)])
    const again = await takeOne(storage)
    await storage.settle([failure(again), failure(again)])
    const other = await beginOne(storage, aTake('first', { queueNames: ['other'] }))
    await storage.settle([success(other)])
    // When the settles are sent once more, then they count for nothing
    await storage.settle([success(done), failure(again), success(other)])
    expect(await totals(storage)).to.deep.equal({
      [`${QUEUE} SUCCESSFUL`]: 1,
      [`${QUEUE} FAILED`]: 1,
      [`${QUEUE} wait`]: 1,
      'other SUCCESSFUL': 1,
      'other wait': 1,
    })
  })

  it('counts a record that crashed once too often as FAILED, and a hand-back not at all', async ({
    storage,
    elapse,
  }) => {
    const handedBack = await beginOne(storage)
    await storage.requeue([handedBack.lease], 'none')
    await takeOne(storage, aTake('first', { leaseMs: 1 }))
    elapse(2)
    await eventually(async () => (await storage.reclaim(aReclaim('second', { crashLimit: 0 }))).crashed.length === 1)
    expect(await totals(storage)).to.deep.equal({ [`${QUEUE} FAILED`]: 1 })
  })
})
