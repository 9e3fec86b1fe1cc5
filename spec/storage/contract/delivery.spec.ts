/** The contract of what is handed out: take, takeBlocking, recover, runById, requeue, renew, promote, depth. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import type { Delivery, Lease, Storage, Taken } from '../../../lib/storage/storage.ts'
import { eventually } from '../../support/eventually.ts'
import {
  aBlockingTake,
  aClaim,
  aReclaim,
  aRecord,
  aRecover,
  aTake,
  beginOne,
  countsOf,
  depthOf,
  enqueueOne,
  failOne,
  failure,
  idsOf,
  only,
  QUEUE,
  read,
  someRecords,
  statusOf,
  success,
  takeOne,
  takeWaiting,
  timeOf,
} from '../../support/storage-builders.ts'
import { overEveryStorage } from '../../support/storages.ts'

const HOUR_MS = 3_600_000
const never = new AbortController().signal

/** Takes nothing more: for what must not be there. */
const NOTHING: Taken = { begun: [], passed: 0 }

function begunOf(answer: Awaited<ReturnType<Storage['runById']>>): Delivery {
  if (typeof answer === 'string') throw new Error(`expected an attempt to begin, got: ${answer}`)
  return answer
}

overEveryStorage('take', (it) => {
  it('begins an attempt: RUNNING under a token of this call, with its deadline, its worker and a fence', async ({
    storage,
  }) => {
    const id = await enqueueOne(storage, { args: '["a"]' })
    const ready = await read(storage, id)
    const before = await timeOf(storage)
    const request = aTake('first', { leaseMs: 5_000 })
    const { lease, record } = await takeOne(storage, request)
    const after = await timeOf(storage)

    expect(lease).to.deep.equal({ id, token: `1:${request.call}`, entryId: ready.entryId })
    expect(record.lastAttemptedAt).to.be.within(before, after)
    expect(record.fence).to.be.within(before * 1000, (after + 1) * 1000)
    expect(record).to.deep.equal({
      ...ready,
      status: 'RUNNING',
      attempts: 1,
      workerIds: ['first'],
      startedAt: record.lastAttemptedAt,
      lastAttemptedAt: record.lastAttemptedAt,
      leaseToken: lease.token,
      leaseUntil: (record.lastAttemptedAt ?? 0) + 5_000,
      fence: record.fence,
    })
    expect(await read(storage, id)).to.deep.equal(record)
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 1, SUCCESSFUL: 0, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('empties high before normal before low over all queues, each in the order in which it was filled', async ({
    storage,
  }) => {
    const add = (queueName: string, priority: number): Promise<string> => enqueueOne(storage, { queueName, priority })
    const low = await add('b', -100)
    const normal = [await add('a', 0), await add('a', 0), await add('b', 0)]
    const high = [await add('a', 1), await add('b', 100)]
    const request = aTake('first', { queueNames: ['a', 'b'], count: 4 })
    expect(idsOf(await storage.take(request))).to.deep.equal([...high, ...normal.slice(0, 2)])
    expect(idsOf(await storage.take({ ...aTake(), queueNames: ['a', 'b'], count: 9 }))).to.deep.equal([normal[2], low])
  })

  it('looks at the queues in the order given within a band', async ({ storage }) => {
    const [a, b] = [await enqueueOne(storage, { queueName: 'a' }), await enqueueOne(storage, { queueName: 'b' })]
    expect(idsOf(await storage.take(aTake('first', { queueNames: ['b', 'a'], count: 9 })))).to.deep.equal([b, a])
  })

  it('takes from the queues named and from no others', async ({ storage }) => {
    await enqueueOne(storage, { queueName: 'other' })
    expect((await storage.take(aTake('first', { count: 9 }))).begun).to.deep.equal([])
    expect(await countsOf(storage, 'other')).to.include({ READY: 1 })
  })

  it('takes nothing when asked for nothing', async ({ storage }) => {
    await storage.enqueue(someRecords(5))
    expect((await storage.take(aTake('first', { count: 0 }))).begun).to.have.lengthOf(0)
    expect(await countsOf(storage)).to.include({ READY: 5, RUNNING: 0 })
  })

  it('begins no more than asked for', async ({ storage }) => {
    await storage.enqueue(someRecords(5))
    expect((await storage.take(aTake('first', { count: 3 }))).begun).to.have.lengthOf(3)
    expect(await countsOf(storage)).to.include({ READY: 2, RUNNING: 3 })
  })

  it('takes further entries when the same call is sent again; the first stay with their tokens', async ({
    storage,
  }) => {
    const [a, b] = [await enqueueOne(storage), await enqueueOne(storage)]
    const request = aTake()
    const first = await takeOne(storage, request)
    const second = await takeOne(storage, request)
    expect([first.lease.id, second.lease.id]).to.deep.equal([a, b])
    expect(await storage.settle([success(first), success(second)])).to.deep.equal(['SETTLED', 'SETTLED'])
  })

  it('begins each of many records once, whoever asks at the same time', async ({ storage }) => {
    const records = someRecords(60)
    await storage.enqueue(records)
    const workers = ['a', 'b', 'c', 'd', 'e', 'f']
    const taken = await Promise.all(workers.map((worker) => storage.take(aTake(worker, { count: 20 }))))
    expect(taken.flatMap(idsOf)).to.have.members(records.map(({ id }) => id))
    expect(await countsOf(storage)).to.include({ READY: 0, RUNNING: 60 })
  })

  it('passes over what already runs by id, and leaves it to its runner', async ({ storage }) => {
    // Given a record whose entry nobody read yet, run by its id
    const id = await enqueueOne(storage)
    const runner = begunOf(await storage.runById(aClaim('runner'), id, false))
    // When a worker reads the entry, then it begins nothing
    expect(await storage.take(aTake('reader'))).to.deep.equal({ begun: [], passed: 1 })
    expect(await read(storage, id)).to.deep.equal(runner.record)
    // And the runner's settle removes the entry, although it was read by another
    expect(await storage.settle([success(runner)])).to.deep.equal(['SETTLED'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.forget('reader.holder')).to.equal('FORGOTTEN')
  })

  it('makes a lost consumer group anew, and nothing runs twice', async ({ storage, raw }) => {
    const running = await beginOne(storage)
    const ready = await enqueueOne(storage)
    await raw.destroyGroups(QUEUE)
    const begun = await eventually(async () => {
      const taken = await storage.take(aTake('second', { count: 9 }))
      return taken.begun.length > 0 && taken.begun
    })
    expect(begun.map(({ lease }) => lease.id)).to.deep.equal([ready])
    expect(await storage.settle([success(running), ...begun.map((each) => success(each))])).to.deep.equal([
      'SETTLED',
      'SETTLED',
    ])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })
})

overEveryStorage('takeBlocking', (it) => {
  it('takes at once what is there', async ({ storage }) => {
    const id = await enqueueOne(storage)
    expect(idsOf(await takeWaiting(storage, aBlockingTake(), never))).to.deep.equal([id])
    expect(await statusOf(storage, id)).to.equal('RUNNING')
  })

  it('is woken by an entry of a queue that it waits for, whatever brought it', async ({ storage }) => {
    const failed = await failOne(storage)
    const bring: [string, () => Promise<unknown>][] = [
      ['enqueue', () => storage.enqueue([aRecord()])],
      ['retry', () => storage.retry([failed], 'request.1')],
    ]
    for (const [name, bringOne] of bring) {
      const waiting = takeWaiting(storage, aBlockingTake(), never)
      await bringOne()
      const delivery = only((await waiting).begun)
      expect(await statusOf(storage, delivery.lease.id), name).to.equal('RUNNING')
      await storage.settle([success(delivery)])
    }
  })

  it('waits on when an entry comes to another queue', async ({ storage }) => {
    const other = await enqueueOne(storage, { queueName: 'other' })
    const waiting = takeWaiting(storage, aBlockingTake(), never)
    await enqueueOne(storage, { queueName: 'other' })
    const id = await enqueueOne(storage)
    expect(idsOf(await waiting)).to.deep.equal([id])
    expect(await statusOf(storage, other)).to.equal('READY')
  })

  it('gives one entry to one of those who wait', async ({ storage }) => {
    await storage.settle([success(await beginOne(storage))])
    const waits = ['a', 'b', 'c'].map((worker) => takeWaiting(storage, aBlockingTake(worker), never))
    const records = someRecords(3)
    for (const record of records) await storage.enqueue([record])
    // A consumer that is woken in vain answers with nothing, and what it missed is taken by the next call.
    const taken = await Promise.all(waits)
    const ids = taken.flatMap(idsOf)
    const rest = await storage.take(aTake('d', { count: 9 }))
    expect([...ids, ...idsOf(rest)]).to.have.members(records.map(({ id }) => id))
  })

  it('is woken although somebody else waits longer, for another queue', async ({ storage, elapse }) => {
    await settleOneFromReader(storage)
    const ofOther = { queueNames: ['other'], blockMs: 10 }
    // From now on both queues are known, and a read of one waits
    const known = takeWaiting(storage, aBlockingTake('other', ofOther), never)
    elapse(10)
    await known
    const stop = new AbortController()
    const longer = storage.takeBlocking(aBlockingTake('other', { ...ofOther, blockMs: 600_000 }), stop.signal)
    const waiting = takeWaiting(storage, aBlockingTake('first', { blockMs: 600_000 }), never)
    const id = await enqueueOne(storage)
    expect(idsOf(await waiting)).to.deep.equal([id])
    stop.abort()
    expect((await longer).begun).to.deep.equal([])
  })

  it('begins nothing when its time is over', async ({ storage, elapse }) => {
    await storage.settle([success(await beginOne(storage))])
    const waiting = takeWaiting(storage, aBlockingTake('first', { blockMs: 10 }), never)
    elapse(10)
    expect(await waiting).to.deep.equal(NOTHING)
    const id = await enqueueOne(storage)
    expect((await takeOne(storage, aTake('second'))).lease.id).to.equal(id)
  })

  /** A reader that has read before: its connection is there, where it needs one. */
  async function settleOneFromReader(storage: Storage): Promise<void> {
    await enqueueOne(storage)
    const { begun } = await takeWaiting(storage, aBlockingTake(), never)
    await storage.settle([success(only(begun))])
  }

  it('is ended by its signal at once; an entry that comes later is for others', async ({ storage }) => {
    await settleOneFromReader(storage)
    const stop = new AbortController()
    const waiting = storage.takeBlocking(aBlockingTake('first', { blockMs: 600_000 }), stop.signal)
    stop.abort()
    expect((await waiting).begun).to.deep.equal([])
    const id = await enqueueOne(storage)
    expect((await takeOne(storage, aTake('second'))).lease.id).to.equal(id)
  })

  it('takes nothing when its signal has ended it before it began', async ({ storage }) => {
    await settleOneFromReader(storage)
    const id = await enqueueOne(storage)
    expect((await storage.takeBlocking(aBlockingTake(), AbortSignal.abort())).begun).to.deep.equal([])
    expect((await takeOne(storage, aTake('second'))).lease.id).to.equal(id)
  })

  it('loses no entry that comes while its signal ends it', async ({ storage }) => {
    await settleOneFromReader(storage)
    for (let round = 0; round < 10; round++) {
      const stop = new AbortController()
      const waiting = storage.takeBlocking(aBlockingTake('first', { blockMs: 600_000 }), stop.signal)
      const enqueuing = enqueueOne(storage)
      stop.abort()
      const [taken, id] = await Promise.all([waiting, enqueuing])
      // Begun here, or handed back for others; at the latest in the list of what this consumer was handed.
      const begun = [...taken.begun]
      if (begun.length === 0) begun.push(...(await storage.take(aTake('second'))).begun)
      if (begun.length === 0) begun.push(...(await storage.recover(aRecover('first'))).begun)
      expect(begun.map(({ lease }) => lease.id)).to.deep.equal([id])
      await storage.settle(begun.map((delivery) => success(delivery)))
    }
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })
})

overEveryStorage('recover', (it) => {
  it('begins what this holder began but never learned of: same attempt, new token, higher fence', async ({
    storage,
  }) => {
    // Given a take whose answer never arrived
    const lost = await beginOne(storage)
    // When its consumer asks what it has
    const request = aRecover('first', { leaseMs: 90_000 })
    const recovered = only((await storage.recover(request)).begun)
    // Then it has that attempt, and the token that nobody knows is dead
    expect(recovered.lease).to.deep.equal({ ...lost.lease, token: `1:${request.call}` })
    expect(recovered.record).to.include({ attempts: 1, crashes: 0, lastAttemptedAt: lost.record.lastAttemptedAt })
    expect(recovered.record.workerIds).to.deep.equal(['first'])
    expect(recovered.record.fence).to.be.above(lost.record.fence)
    expect(recovered.record.leaseUntil).to.be.above(lost.record.leaseUntil ?? 0)
    expect(await read(storage, lost.lease.id)).to.deep.equal(recovered.record)
    expect(await storage.settle([success(lost)])).to.deep.equal(['LOST'])
    expect(await storage.settle([success(recovered)])).to.deep.equal(['SETTLED'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('answers the same lease when the same call is sent again', async ({ storage }) => {
    await beginOne(storage)
    const request = aRecover()
    const first = await storage.recover(request)
    expect(await storage.recover(request)).to.deep.equal(first)
    expect(first.begun).to.have.lengthOf(1)
  })

  it('leaves alone what this process has in hand', async ({ storage }) => {
    const { lease, record } = await beginOne(storage)
    expect(await storage.recover(aRecover('first', { inHand: new Set([lease.id]) }))).to.deep.equal(NOTHING)
    expect(await read(storage, lease.id)).to.deep.equal(record)
  })

  it('never takes an attempt of another holder, whoever read its entry', async ({ storage }) => {
    const id = await enqueueOne(storage)
    const runner = begunOf(await storage.runById(aClaim('runner'), id, false))
    await storage.take(aTake('reader'))
    expect((await storage.recover(aRecover('reader'))).begun).to.deep.equal([])
    expect(await read(storage, id)).to.deep.equal(runner.record)
  })

  it('finds nothing for a consumer that was handed nothing', async ({ storage }) => {
    await beginOne(storage)
    expect(await storage.recover(aRecover('second'))).to.deep.equal(NOTHING)
  })

  it('hands back what is beyond its count, as if it had never begun', async ({ storage }) => {
    await storage.enqueue(someRecords(3))
    await storage.take(aTake('first', { count: 3 }))
    expect((await storage.recover(aRecover('first', { count: 1 }))).begun).to.have.lengthOf(1)
    expect(await countsOf(storage)).to.include({ READY: 2, RUNNING: 1 })
    const { begun } = await storage.take(aTake('second', { count: 9 }))
    expect(begun.map(({ record }) => [record.attempts, record.workerIds.join()])).to.deep.equal([
      [1, 'second'],
      [1, 'second'],
    ])
  })

  it('hands everything back when it may begin none: how a worker stops', async ({ storage }) => {
    const { lease, record } = await beginOne(storage)
    expect((await storage.recover(aRecover('first', { count: 0 }))).begun).to.deep.equal([])
    const back = await read(storage, lease.id)
    expect(back).to.include({ status: 'READY', attempts: 0, startedAt: null, leaseToken: '' })
    expect(back.fence).to.be.at.least(record.fence)
    expect(await storage.forget('first.holder')).to.equal('FORGOTTEN')
  })

  it('begins what the consumer was handed but never began', async ({ storage, raw }) => {
    const id = await enqueueOne(storage)
    await raw.deliver('first.holder', { queueName: QUEUE, band: 'normal' }, 1)
    const { record } = only((await storage.recover(aRecover())).begun)
    expect(record).to.include({ id, status: 'RUNNING', attempts: 1, crashes: 0 })
  })

  it('hands back, beyond its count, what the consumer was handed but never began', async ({ storage, raw }) => {
    const id = await enqueueOne(storage)
    await raw.deliver('first.holder', { queueName: QUEUE, band: 'normal' }, 1)
    expect((await storage.recover(aRecover('first', { count: 0 }))).begun).to.deep.equal([])
    expect(await read(storage, id)).to.include({ status: 'READY', attempts: 0 })
    expect((await takeOne(storage, aTake('second'))).lease.id).to.equal(id)
  })
})

overEveryStorage('runById', (it) => {
  it('begins a READY record whatever its place in the queue, and leaves its entry where it is', async ({ storage }) => {
    const [before, id] = [await enqueueOne(storage), await enqueueOne(storage)]
    const claim = aClaim('runner')
    const { entryId } = await read(storage, id)
    const { lease, record } = begunOf(await storage.runById(claim, id, false))
    expect(lease).to.deep.equal({ id, token: `1:${claim.call}`, entryId })
    expect(record).to.include({ status: 'RUNNING', attempts: 1 })
    expect(record.workerIds).to.deep.equal(['runner'])
    expect(await read(storage, id)).to.deep.equal(record)
    expect(await depthOf(storage)).to.deep.equal({ entries: 2, delayed: 0 })
    await storage.settle([{ lease, outcome: 'SUCCESSFUL', payload: '1', delayMs: 0 }])
    expect(idsOf(await storage.take(aTake('first', { count: 9 })))).to.deep.equal([before])
  })

  it('begins a delayed record before its time, and forgets that time', async ({ storage }) => {
    const id = await enqueueOne(storage, { runAfter: (await timeOf(storage)) + HOUR_MS })
    const delivery = begunOf(await storage.runById(aClaim(), id, false))
    expect(delivery.record).to.include({ status: 'RUNNING', runAfter: null })
    expect(delivery.lease.entryId).to.not.equal('')
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 0, dueInMs: null })
    expect(await storage.settle([success(delivery)])).to.deep.equal(['SETTLED'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('begins a FAILED record only when a retry is allowed; crashes and hand-backs start anew', async ({ storage }) => {
    const id = await failOne(storage)
    const failed = await read(storage, id)
    expect(await storage.runById(aClaim(), id, false)).to.equal('FAILED')
    expect(await read(storage, id)).to.deep.equal(failed)
    const { record } = begunOf(await storage.runById(aClaim(), id, true))
    expect(record).to.include({ status: 'RUNNING', attempts: 2, crashes: 0, handBacks: 0, finishedAt: null })
    expect(record.errors).to.deep.equal(failed.errors)
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 1, SUCCESSFUL: 0, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('forgets the crashes and hand-backs of a FAILED record that it begins', async ({ storage, elapse }) => {
    // Given a record that was handed back once and crashed over its limit
    const { lease } = await beginOne(storage)
    await storage.requeue([lease], 'growing')
    begunOf(await storage.runById(aClaim('first', { leaseMs: 1 }), lease.id, false))
    elapse(2)
    await eventually(async () => (await storage.reclaim(aReclaim('second', { crashLimit: 0 }))).crashed.length === 1)
    expect(await read(storage, lease.id)).to.include({ status: 'FAILED', crashes: 1, handBacks: 1 })
    // When a person runs it by id, then both start anew
    const { record } = begunOf(await storage.runById(aClaim(), lease.id, true))
    expect(record).to.include({ crashes: 0, handBacks: 0, attempts: 2 })
    expect(await read(storage, lease.id)).to.deep.equal(record)
  })

  it('answers the status of what may not run, and ABSENT where there is nothing', async ({ storage }) => {
    const done = await beginOne(storage)
    await storage.settle([success(done)])
    const running = await beginOne(storage)
    expect(await storage.runById(aClaim(), done.lease.id, true)).to.equal('SUCCESSFUL')
    expect(await storage.runById(aClaim('second'), running.lease.id, true)).to.equal('RUNNING')
    expect(await storage.runById(aClaim(), randomUUID(), true)).to.equal('ABSENT')
    expect(await read(storage, running.lease.id)).to.deep.equal(running.record)
  })

  it('answers the same lease when the same call is sent again, and the status once it has ended', async ({
    storage,
  }) => {
    const id = await enqueueOne(storage)
    const claim = aClaim()
    const first = begunOf(await storage.runById(claim, id, true))
    expect(await storage.runById(claim, id, true)).to.deep.equal(first)
    await storage.settle([failure(first)])
    expect(await storage.runById(claim, id, true)).to.equal('FAILED')
    begunOf(await storage.runById(aClaim(), id, true))
  })

  it('of several at the same time, and a take, one begins the record', async ({ storage }) => {
    for (let round = 0; round < 10; round++) {
      const id = await enqueueOne(storage)
      const [taken, ...answers] = await Promise.all([
        storage.take(aTake('worker')),
        storage.runById(aClaim('a'), id, true),
        storage.runById(aClaim('b'), id, true),
      ])
      const begun = [...taken.begun, ...answers.filter((answer) => typeof answer !== 'string')]
      expect(begun).to.have.lengthOf(1)
      expect(answers.filter((answer) => answer === 'RUNNING')).to.have.lengthOf(1 + taken.begun.length)
      expect(await read(storage, id)).to.deep.equal(begun[0]?.record)
      expect(await storage.settle(begun.map((delivery) => success(delivery)))).to.deep.equal(['SETTLED'])
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    }
  })
})

overEveryStorage('requeue', (it) => {
  it('makes the record READY as if the attempt had never been', async ({ storage }) => {
    const { lease, record } = await beginOne(storage)
    expect(await storage.requeue([lease], 'none')).to.deep.equal(['REQUEUED'])
    const back = await read(storage, lease.id)
    expect(back).to.include({ status: 'READY', attempts: 0, startedAt: null, lastAttemptedAt: null, leaseToken: '' })
    expect(back).to.include({ crashes: 0, handBacks: 0, runAfter: null })
    expect(back.workerIds).to.deep.equal([])
    expect(back.errors).to.deep.equal([])
    expect(await countsOf(storage)).to.include({ READY: 1, RUNNING: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
    // The number is given to the next attempt; the fence still grows.
    const again = await takeOne(storage, aTake('second'))
    expect(again.record).to.include({ id: lease.id, attempts: 1 })
    expect(again.record.workerIds).to.deep.equal(['second'])
    expect(again.record.fence).to.be.above(record.fence)
  })

  it('keeps the attempts before', async ({ storage }) => {
    const id = await failOne(storage)
    const failed = await read(storage, id)
    await storage.retry([id], 'request.1')
    const { lease } = await takeOne(storage, aTake('second'))
    await storage.requeue([lease], 'none')
    const back = await read(storage, id)
    expect(back).to.include({ status: 'READY', attempts: 1, startedAt: failed.startedAt })
    expect(back.workerIds).to.deep.equal(['first'])
    expect(back.errors).to.deep.equal(failed.errors)
  })

  it('puts the record at the end of its band', async ({ storage }) => {
    const { lease } = await beginOne(storage)
    const next = await enqueueOne(storage)
    await storage.requeue([lease], 'none')
    expect(idsOf(await storage.take(aTake('first', { count: 9 })))).to.deep.equal([next, lease.id])
  })

  it('fails a record that nobody knows for longer than the limit, and says why, once', async ({ storage, elapse }) => {
    const id = await enqueueOne(storage)
    const limit = { failAfterMs: 30, error: '{"name":"TaskNotRegisteredError","message":"unknown"}' }
    const first = begunOf(await storage.runById(aClaim(), id, false))
    expect(await storage.requeue([first.lease], limit)).to.deep.equal(['REQUEUED'])
    expect(await read(storage, id)).to.include({ status: 'READY', handBacks: 1, attempts: 0 })
    elapse(30)
    const last = await eventually(async () => {
      const { lease } = begunOf(await storage.runById(aClaim(), id, false))
      const [word] = await storage.requeue([lease], limit)
      return word === 'FAILED' && lease
    })
    const record = await read(storage, id)
    expect(record).to.include({ status: 'FAILED', attempts: 0, entryId: '', leaseToken: '' })
    expect(JSON.parse(only(record.errors))).to.include({ name: 'TaskNotRegisteredError', attempt: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.requeue([last], limit)).to.deep.equal(['FAILED'])
    expect(await read(storage, id)).to.deep.equal(record)
  })

  it('with a growing delay waits twice as long each time, from 250 ms to a minute', async ({ storage }) => {
    const id = await enqueueOne(storage)
    for (const [handBacks, delayMs] of [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000].entries()) {
      const { lease } = begunOf(await storage.runById(aClaim(), id, false))
      const before = await timeOf(storage)
      expect(await storage.requeue([lease], 'growing')).to.deep.equal(['REQUEUED'])
      const after = await timeOf(storage)
      const record = await read(storage, id)
      expect(record).to.include({ status: 'READY', attempts: 0, handBacks: handBacks + 1, entryId: '' })
      expect(record.runAfter).to.be.within(before + delayMs, after + delayMs)
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 1 })
    }
  })

  it('answers REQUEUED to the same call again, also when the record has begun anew since', async ({ storage }) => {
    const { lease } = await beginOne(storage)
    await storage.requeue([lease], 'none')
    const back = await read(storage, lease.id)
    expect(await storage.requeue([lease, lease], 'none')).to.deep.equal(['REQUEUED', 'REQUEUED'])
    expect(await read(storage, lease.id)).to.deep.equal(back)
    const { record } = await takeOne(storage, aTake('second'))
    expect(await storage.requeue([lease], 'none')).to.deep.equal(['REQUEUED'])
    expect(await read(storage, lease.id)).to.deep.equal(record)
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('answers LOST and writes nothing once the token is gone', async ({ storage }) => {
    const { lease } = await beginOne(storage)
    await storage.settle([{ lease, outcome: 'SUCCESSFUL', payload: '1', delayMs: 0 }])
    const done = await read(storage, lease.id)
    const absent: Lease = { id: randomUUID(), token: lease.token, entryId: lease.entryId }
    expect(await storage.requeue([lease, absent], 'growing')).to.deep.equal(['LOST', 'LOST'])
    expect(await read(storage, lease.id)).to.deep.equal(done)
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('leaves a late settle of the attempt LOST', async ({ storage }) => {
    const delivery = await beginOne(storage)
    await storage.requeue([delivery.lease], 'none')
    expect(await storage.settle([success(delivery)])).to.deep.equal(['LOST'])
    expect(await statusOf(storage, delivery.lease.id)).to.equal('READY')
  })

  it('answers each of a batch for itself', async ({ storage }) => {
    await storage.enqueue(someRecords(100))
    const { begun } = await storage.take(aTake('first', { count: 100 }))
    await storage.settle(begun.slice(0, 1).map((delivery) => success(delivery)))
    const words = await storage.requeue(
      begun.map(({ lease }) => lease),
      'none',
    )
    expect(words).to.deep.equal(['LOST', ...Array<string>(99).fill('REQUEUED')])
    expect(await countsOf(storage)).to.deep.equal({ READY: 99, RUNNING: 0, SUCCESSFUL: 1, FAILED: 0 })
  })

  it('hands back a delivery that was not begun, to the end of its band', async ({ storage, raw }) => {
    const [id, next] = [await enqueueOne(storage), await enqueueOne(storage)]
    const { entryId } = await read(storage, id)
    await raw.deliver('first.holder', { queueName: QUEUE, band: 'normal' }, 1)
    expect(await storage.requeue([{ id, token: '', entryId }], 'none')).to.deep.equal(['REQUEUED'])
    // The entry is another one now: the same call again finds nothing of its own.
    expect(await storage.requeue([{ id, token: '', entryId }], 'none')).to.deep.equal(['LOST'])
    expect(idsOf(await storage.take(aTake('first', { count: 9 })))).to.deep.equal([next, id])
    expect(await read(storage, id)).to.include({ attempts: 1, handBacks: 0 })
  })

  it('takes no token for none of the attempts', async ({ storage }) => {
    const { lease, record } = await beginOne(storage)
    const none = { ...lease, token: '' }
    expect(await storage.requeue([none], 'none')).to.deep.equal(['LOST'])
    expect(await storage.renew('first.holder', 1, [none])).to.deep.equal(['LOST'])
    expect(await storage.settle([{ lease: none, outcome: 'FAILED', payload: '{}', delayMs: 0 }])).to.deep.equal([
      'LOST',
    ])
    expect(await read(storage, lease.id)).to.deep.equal(record)
    await storage.settle([{ lease, outcome: 'SUCCESSFUL', payload: '1', delayMs: 0 }])
    expect(await storage.settle([{ lease: none, outcome: 'FAILED', payload: '{}', delayMs: 0 }])).to.deep.equal([
      'LOST',
    ])
  })
})

overEveryStorage('renew', (it) => {
  it('moves the deadline and nothing else', async ({ storage }) => {
    const { lease, record } = await beginOne(storage, aTake('first', { leaseMs: 1_000 }))
    const before = await timeOf(storage)
    expect(await storage.renew('first.holder', HOUR_MS, [lease])).to.deep.equal(['RENEWED'])
    const after = await timeOf(storage)
    const renewed = await read(storage, lease.id)
    expect(renewed.leaseUntil).to.be.within(before + HOUR_MS, after + HOUR_MS)
    expect(renewed).to.deep.equal({ ...record, leaseUntil: renewed.leaseUntil })
    expect(await storage.renew('first.holder', HOUR_MS, [lease])).to.deep.equal(['RENEWED'])
  })

  it('keeps a lease that would have run out', async ({ storage, elapse }) => {
    const { lease } = await beginOne(storage, aTake('first', { leaseMs: 1 }))
    await storage.renew('first.holder', HOUR_MS, [lease])
    elapse(10)
    expect((await storage.reclaim(aReclaim())).begun).to.deep.equal([])
    expect(await read(storage, lease.id)).to.include({ leaseToken: lease.token, crashes: 0 })
  })

  it('is still granted after the deadline, as long as nobody took over', async ({ storage, elapse }) => {
    const { lease, record } = await beginOne(storage, aTake('first', { leaseMs: 1 }))
    elapse(5)
    await eventually(async () => (await timeOf(storage)) > (record.leaseUntil ?? 0))
    expect(await storage.renew('first.holder', HOUR_MS, [lease])).to.deep.equal(['RENEWED'])
    expect((await storage.reclaim(aReclaim())).begun).to.deep.equal([])
  })

  it('answers LOST and brings nothing back once the token is gone', async ({ storage }) => {
    const settled = await beginOne(storage)
    await storage.settle([success(settled)])
    const handedBack = await beginOne(storage)
    await storage.requeue([handedBack.lease], 'none')
    const before = await storage.find([settled.lease.id, handedBack.lease.id])
    const absent = { ...settled.lease, id: randomUUID() }
    const leases = [settled.lease, handedBack.lease, absent]
    expect(await storage.renew('first.holder', 1, leases)).to.deep.equal(['LOST', 'LOST', 'LOST'])
    expect(await storage.find([settled.lease.id, handedBack.lease.id])).to.deep.equal(before)
    expect((await storage.reclaim(aReclaim())).crashed).to.deep.equal([])
    expect(await storage.find([absent.id])).to.deep.equal([undefined])
  })

  it('answers each of a batch for itself', async ({ storage }) => {
    await storage.enqueue(someRecords(100))
    const { begun } = await storage.take(aTake('first', { count: 100 }))
    await storage.settle(begun.slice(50, 51).map((delivery) => success(delivery)))
    const words = await storage.renew(
      'first.holder',
      HOUR_MS,
      begun.map(({ lease }) => lease),
    )
    expect(words.filter((word) => word === 'RENEWED')).to.have.lengthOf(99)
    expect(words[50]).to.equal('LOST')
  })

  it('brings the delivery of a record that runs by id from its reader to its runner', async ({ storage }) => {
    // Given an entry in the list of a consumer that only read it
    const id = await enqueueOne(storage)
    const runner = begunOf(await storage.runById(aClaim('runner'), id, false))
    await storage.take(aTake('reader'))
    expect(await storage.forget('reader.holder')).to.equal('KEPT')
    // When the runner renews, then the reader has nothing left and may go
    await storage.renew('runner.holder', HOUR_MS, [runner.lease])
    expect(await storage.forget('reader.holder')).to.equal('FORGOTTEN')
    expect(await storage.forget('runner.holder')).to.equal('KEPT')
  })
})

overEveryStorage('promote and depth', (it) => {
  it('moves due records in pages of a hundred, nothing twice', async ({ storage, elapse }) => {
    const runAfter = (await timeOf(storage)) + 700
    const records = someRecords(250, { runAfter })
    await storage.enqueue(records)
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 250 })
    expect((await storage.promote(QUEUE)).moved).to.equal(0)
    elapse(700)
    await eventually(async () => (await timeOf(storage)) >= runAfter)
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 100, dueInMs: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 100, delayed: 150 })
    expect((await storage.promote(QUEUE)).moved).to.equal(100)
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 50, dueInMs: null })
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 0, dueInMs: null })
    const taken = [
      ...idsOf(await storage.take(aTake('first', { count: 100 }))),
      ...idsOf(await storage.take(aTake('first', { count: 100 }))),
      ...idsOf(await storage.take(aTake('first', { count: 100 }))),
    ]
    expect(taken).to.have.members(records.map(({ id }) => id))
  })

  it('moves each record once, whoever promotes at the same time', async ({ storage, elapse }) => {
    const runAfter = (await timeOf(storage)) + 300
    await storage.enqueue(someRecords(50, { runAfter }))
    elapse(300)
    await eventually(async () => (await timeOf(storage)) >= runAfter)
    const answers = await Promise.all([1, 2, 3].map(() => storage.promote(QUEUE)))
    expect(answers.reduce((sum, { moved }) => sum + moved, 0)).to.equal(50)
    expect(await depthOf(storage)).to.deep.equal({ entries: 50, delayed: 0 })
  })

  it('says how long it is until the next one is due', async ({ storage }) => {
    const now = await timeOf(storage)
    await enqueueOne(storage, { runAfter: now + HOUR_MS })
    await enqueueOne(storage, { runAfter: now + 2 * HOUR_MS })
    const { moved, dueInMs } = await storage.promote(QUEUE)
    const passed = (await timeOf(storage)) - now
    expect(moved).to.equal(0)
    expect(dueInMs).to.be.within(HOUR_MS - passed, HOUR_MS)
  })

  it('gives each record an entry in the band of its priority, and keeps its time', async ({ storage, elapse }) => {
    const runAfter = (await timeOf(storage)) + 300
    const low = await enqueueOne(storage, { runAfter, priority: -5 })
    const high = await enqueueOne(storage, { runAfter, priority: 5 })
    elapse(300)
    await eventually(async () => (await timeOf(storage)) >= runAfter)
    expect((await storage.promote(QUEUE)).moved).to.equal(2)
    expect(await storage.depth([QUEUE])).to.deep.equal([{ queueName: QUEUE, high: 1, normal: 0, low: 1, delayed: 0 }])
    const { begun } = await storage.take(aTake('first', { count: 9 }))
    expect(begun.map(({ record }) => [record.id, record.runAfter])).to.deep.equal([
      [high, runAfter],
      [low, runAfter],
    ])
    expect(begun.every(({ record }) => (record.lastAttemptedAt ?? 0) >= runAfter)).to.equal(true)
  })

  it('promotes the queue named and no other', async ({ storage, elapse }) => {
    const runAfter = (await timeOf(storage)) + 300
    await enqueueOne(storage, { runAfter })
    elapse(300)
    await eventually(async () => (await timeOf(storage)) >= runAfter)
    expect(await storage.promote('other')).to.deep.equal({ moved: 0, dueInMs: null })
    expect((await depthOf(storage)).delayed).to.equal(1)
  })

  it('wakes those who wait for an entry', async ({ storage, elapse }) => {
    await storage.settle([success(await beginOne(storage))])
    const runAfter = (await timeOf(storage)) + 300
    const id = await enqueueOne(storage, { runAfter })
    const waiting = takeWaiting(storage, aBlockingTake(), never)
    elapse(300)
    await eventually(async () => (await storage.promote(QUEUE)).moved === 1)
    expect(idsOf(await waiting)).to.deep.equal([id])
  })

  it('measures each queue asked for, in order, delivered entries included', async ({ storage }) => {
    await storage.enqueue([
      ...someRecords(1, { priority: 1 }),
      ...someRecords(2),
      ...someRecords(3, { priority: -1 }),
      ...someRecords(4, { runAfter: (await timeOf(storage)) + HOUR_MS }),
    ])
    await storage.take(aTake('first', { count: 2 }))
    expect(await storage.depth(['none', QUEUE])).to.deep.equal([
      { queueName: 'none', high: 0, normal: 0, low: 0, delayed: 0 },
      { queueName: QUEUE, high: 1, normal: 2, low: 3, delayed: 4 },
    ])
    expect(await storage.depth([])).to.deep.equal([])
  })
})
