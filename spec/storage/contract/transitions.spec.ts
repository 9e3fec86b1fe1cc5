/** The contract of how attempts end: settle, settleAndTake, reclaim, and who wins where two of them meet. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import type { Delivery, ReclaimAnswer, ReclaimRequest } from '../../../lib/storage/storage.ts'
import { eventually } from '../../support/eventually.ts'
import {
  aClaim,
  aReclaim,
  aRecord,
  aTake,
  beginOne,
  countsOf,
  depthOf,
  enqueueOne,
  failOne,
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
  timeOf,
} from '../../support/storage-builders.ts'
import { overEveryStorage, type OpenStorage } from '../../support/storages.ts'

const HOUR_MS = 3_600_000
const SHORT_LEASE = { leaseMs: 1 }

/** Begins one attempt under a lease of 1 ms and lets it run out. */
async function beginAndLose({ storage, elapse }: OpenStorage, worker = 'first'): Promise<Delivery> {
  const delivery = await beginOne(storage, aTake(worker, SHORT_LEASE))
  elapse(2)
  await eventually(async () => (await timeOf(storage)) > (delivery.record.leaseUntil ?? 0))
  return delivery
}

/** Reclaims what ran out; one record at the most is about. */
async function reclaimOne({ storage }: OpenStorage, request: ReclaimRequest = aReclaim()): Promise<Delivery> {
  return only((await storage.reclaim(request)).begun)
}

overEveryStorage('settle', (it) => {
  it('writes a success: return value, time, index, and no trace of lease and entry', async ({ storage }) => {
    const { lease, record } = await beginOne(storage)
    const payload = '{"big":12345678901234567890,"list":[],"text":"é \\u0000"}'
    const before = await timeOf(storage)
    const words = await storage.settle([{ lease, outcome: 'SUCCESSFUL', payload, delayMs: 0 }])
    const after = await timeOf(storage)
    const settled = await read(storage, lease.id)
    expect(words).to.deep.equal(['SETTLED'])
    expect(settled.finishedAt).to.be.within(before, after)
    expect(settled).to.deep.equal({
      ...record,
      status: 'SUCCESSFUL',
      returnValue: payload,
      finishedAt: settled.finishedAt,
      entryId: '',
      leaseToken: '',
      leaseUntil: settled.leaseUntil,
    })
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 1, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.forget('first.holder')).to.equal('FORGOTTEN')
  })

  it('writes the same whether the caller hands the record along or has it looked up, side by side in one call', async ({
    storage,
  }) => {
    const kinds = [{}, { priority: 5 }, { priority: -5 }, { runAfter: 1_000 }, { name: 'other' }]
    await storage.enqueue(kinds.flatMap((kind) => [aRecord(kind), aRecord(kind), aRecord(kind)]))
    const { begun } = await storage.take(aTake('first', { count: 100 }))
    expect(begun).to.have.lengthOf(15)
    const items = begun.map((delivery, index) => {
      const item = success(delivery, index % 5 === 0 ? '"own"' : 'null')
      return index % 2 === 0 ? item : { ...item, record: delivery.record }
    })
    items.push({ ...success(only(begun.slice(0, 1))), lease: { id: randomUUID(), token: '1:x.1', entryId: '1-1' } })
    expect(await storage.settle(items)).to.deep.equal([...begun.map(() => 'SETTLED'), 'LOST'])
    for (const [index, { record }] of begun.entries()) {
      const settled = await read(storage, record.id)
      expect(settled).to.include({ status: 'SUCCESSFUL', returnValue: index % 5 === 0 ? '"own"' : 'null' })
      expect(settled).to.include({ priority: record.priority, startedAt: record.startedAt, attempts: 1 })
    }
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 12, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.forget('first.holder')).to.equal('FORGOTTEN')
  })

  it('writes a failure with its time put in front, the rest of the error to the byte', async ({ storage }) => {
    const delivery = await beginOne(storage)
    const error = '{"name":"E","message":"a\\n\u2028{[\\"","stack":"","attempt":1,"n":12345678901234567890}'
    expect(await storage.settle([failure(delivery, error)])).to.deep.equal(['SETTLED'])
    const settled = await read(storage, delivery.lease.id)
    expect(settled).to.include({ status: 'FAILED', returnValue: null, entryId: '', leaseToken: '' })
    expect(settled.errors).to.deep.equal([`{"at":${settled.finishedAt},${error.slice(1)}`])
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 1 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('puts a record back for later: delayed, with the error and the attempt counted', async ({ storage }) => {
    const delivery = await beginOne(storage)
    const before = await timeOf(storage)
    expect(await storage.settle([later(delivery, HOUR_MS)])).to.deep.equal(['SETTLED'])
    const after = await timeOf(storage)
    const record = await read(storage, delivery.lease.id)
    expect(record).to.include({
      status: 'READY',
      attempts: 1,
      finishedAt: null,
      entryId: '',
      leaseToken: '',
      crashes: 0,
    })
    expect(record.runAfter).to.be.within(before + HOUR_MS, after + HOUR_MS)
    expect(record.errors).to.have.lengthOf(1)
    expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 1 })
  })

  it('puts a record back at once when there is no delay; each error stays', async ({ storage }) => {
    let delivery = await beginOne(storage)
    for (const attempt of [1, 2, 3]) {
      expect(delivery.record).to.include({ attempts: attempt, runAfter: null })
      await storage.settle([later(delivery, 0, `{"name":"E${attempt}"}`)])
      expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
      delivery = await takeOne(storage)
    }
    await storage.settle([success(delivery, '"done"')])
    const record = await read(storage, delivery.lease.id)
    expect(record).to.include({ status: 'SUCCESSFUL', attempts: 4, returnValue: '"done"' })
    expect(record.errors.map((error) => (JSON.parse(error) as { name: string }).name)).to.deep.equal(['E1', 'E2', 'E3'])
    expect(record.workerIds).to.deep.equal(['first', 'first', 'first', 'first'])
  })

  for (const outcome of ['SUCCESSFUL', 'FAILED', 'READY'] as const) {
    it(`answers SETTLED to the same ${outcome} again, and writes nothing`, async ({ storage }) => {
      const { lease } = await beginOne(storage)
      const item = { lease, outcome, payload: '{"name":"E"}', delayMs: 0 }
      expect(await storage.settle([item])).to.deep.equal(['SETTLED'])
      const settled = await read(storage, lease.id)
      expect(await storage.settle([item])).to.deep.equal(['SETTLED'])
      expect(await read(storage, lease.id)).to.deep.equal(settled)
    })
  }

  it('answers SETTLED to a repeat also when the record has begun anew since', async ({ storage }) => {
    const first = await beginOne(storage)
    await storage.settle([later(first, 0)])
    const second = await takeOne(storage, aTake('second'))
    expect(await storage.settle([later(first, 0)])).to.deep.equal(['SETTLED'])
    expect(await read(storage, second.lease.id)).to.deep.equal(second.record)
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('answers LOST to a repeat once a later attempt has settled, too', async ({ storage }) => {
    const first = await beginOne(storage)
    await storage.settle([later(first, 0)])
    const second = await takeOne(storage)
    await storage.settle([success(second, '2')])
    expect(await storage.settle([success(first, '1')])).to.deep.equal(['LOST'])
    expect((await read(storage, first.lease.id)).returnValue).to.equal('2')
  })

  it('writes one outcome for a token that stands twice in one batch', async ({ storage }) => {
    const delivery = await beginOne(storage)
    const words = await storage.settle([failure(delivery), failure(delivery)])
    expect(words).to.deep.equal(['SETTLED', 'SETTLED'])
    expect((await read(storage, delivery.lease.id)).errors).to.have.lengthOf(1)
  })

  it('answers LOST and writes nothing for a token that never was, and for a record that is gone', async ({
    storage,
  }) => {
    const { lease, record } = await beginOne(storage)
    const stale = { ...lease, token: '1:another_holder.1' }
    const absent = { ...lease, id: randomUUID() }
    const items = [stale, absent].map(
      (each) => ({ lease: each, outcome: 'FAILED', payload: '{"a":1}', delayMs: 0 }) as const,
    )
    expect(await storage.settle(items)).to.deep.equal(['LOST', 'LOST'])
    expect(await read(storage, lease.id)).to.deep.equal(record)
    expect(await storage.find([absent.id])).to.deep.equal([undefined])
  })

  it('answers LOST for a record that was deleted, and brings nothing back', async ({ storage }) => {
    const delivery = await beginOne(storage)
    await storage.requeue([delivery.lease], 'none')
    await storage.delete([delivery.lease.id])
    expect(await storage.settle([success(delivery)])).to.deep.equal(['LOST'])
    expect(await storage.find([delivery.lease.id])).to.deep.equal([undefined])
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
  })

  it('settles ninety-nine of a hundred when one is stale', async ({ storage }) => {
    await storage.enqueue(someRecords(100))
    const { begun } = await storage.take(aTake('first', { count: 100 }))
    const stale = begun[37]
    await storage.requeue(stale ? [stale.lease] : [], 'none')
    const words = await storage.settle(begun.map((delivery) => success(delivery)))
    expect(words.map((word, index) => (word === 'LOST' ? index : -1)).filter((index) => index >= 0)).to.deep.equal([37])
    expect(words.filter((word) => word === 'SETTLED')).to.have.lengthOf(99)
    expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 99, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('still holds after the deadline, as long as nobody took over', async (subject) => {
    const delivery = await beginAndLose(subject)
    expect(await subject.storage.settle([success(delivery)])).to.deep.equal(['SETTLED'])
    expect((await subject.storage.reclaim(aReclaim())).begun).to.deep.equal([])
    expect(await statusOf(subject.storage, delivery.lease.id)).to.equal('SUCCESSFUL')
  })

  it('has nothing to say about nothing', async ({ storage }) => {
    expect(await storage.settle([])).to.deep.equal([])
    expect(await storage.requeue([], 'none')).to.deep.equal([])
    expect(await storage.renew('first.holder', 1, [])).to.deep.equal([])
    expect(await storage.retry([], 'request.1')).to.deep.equal([])
    expect(await storage.delete([])).to.deep.equal([])
  })
})

overEveryStorage('settleAndTake', (it) => {
  it('settles first, so that a record put back at once is taken in the same turn', async ({ storage }) => {
    const first = await beginOne(storage)
    const { words, taken } = await storage.settleAndTake([later(first, 0)], aTake())
    expect(words).to.deep.equal(['SETTLED'])
    expect(only(taken.begun).record).to.include({ id: first.lease.id, attempts: 2 })
  })

  it('answers both halves, whatever one of them has to say', async ({ storage }) => {
    const first = await beginOne(storage)
    const next = await enqueueOne(storage)
    const turn = await storage.settleAndTake([success(first)], aTake('first', { count: 9 }))
    expect(turn.words).to.deep.equal(['SETTLED'])
    expect(idsOf(turn.taken)).to.deep.equal([next])
    const again = await storage.settleAndTake([success(first)], aTake('first', { count: 9 }))
    expect(again).to.deep.equal({ words: ['SETTLED'], taken: { begun: [], passed: 0 } })
    const stale = await storage.settleAndTake(
      [{ ...success(first), lease: { ...first.lease, token: '9:x.1' } }],
      aTake(),
    )
    expect(stale).to.deep.equal({ words: ['LOST'], taken: { begun: [], passed: 0 } })
  })

  it('takes nothing when it has no room', async ({ storage }) => {
    const first = await beginOne(storage)
    await enqueueOne(storage)
    const { taken } = await storage.settleAndTake([success(first)], aTake('first', { count: 0 }))
    expect(taken.begun).to.have.lengthOf(0)
  })
})

overEveryStorage('reclaim', (it) => {
  it('takes over an attempt whose lease ran out: a new token, a higher fence, one crash more', async (subject) => {
    const { storage } = subject
    const lost = await beginAndLose(subject)
    const request = aReclaim('second')
    const answer = await storage.reclaim(request)
    const { lease, record } = only(answer.begun)
    expect(answer).to.include({ next: '' })
    expect(answer.crashed).to.deep.equal([])
    expect(lease).to.deep.equal({ ...lost.lease, token: `2:${request.call}` })
    expect(record).to.include({ status: 'RUNNING', attempts: 2, crashes: 1, startedAt: lost.record.startedAt })
    expect(record.workerIds).to.deep.equal(['first', 'second'])
    expect(record.errors).to.deep.equal([])
    expect(record.fence).to.be.above(lost.record.fence)
    expect(await read(storage, lease.id)).to.deep.equal(record)
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('counts a crash of an attempt at the limit only once it has said that it starts', async (subject) => {
    const { storage, elapse } = subject
    await beginAndLose(subject)
    const waiting = await reclaimOne(subject, aReclaim('second', { crashLimit: 1, leaseMs: 1 }))
    expect(await storage.renew('second.holder', 1, [waiting.lease])).to.deep.equal(['RENEWED'])
    elapse(5)
    await eventually(async () => (await timeOf(storage)) > ((await read(storage, waiting.lease.id)).leaseUntil ?? 0))
    const request = aReclaim('third', { crashLimit: 1, leaseMs: 1 })
    const begun = await reclaimOne(subject, request)
    expect(begun.lease.token).to.equal(`2:${request.call}`)
    expect(begun.record).to.include({ status: 'RUNNING', attempts: 2, crashes: 1 })
    expect(begun.record.workerIds).to.deep.equal(['first', 'third'])
    expect(begun.record.fence).to.be.above(waiting.record.fence)
    // Handed back and taken again it waits again
    expect(await storage.requeue([begun.lease], 'none')).to.deep.equal(['REQUEUED'])
    const again = only((await storage.take(aTake('fourth', { leaseMs: 1 }))).begun)
    elapse(5)
    await eventually(async () => (await timeOf(storage)) > (again.record.leaseUntil ?? 0))
    const last = await reclaimOne(subject, aReclaim('third', { crashLimit: 1, leaseMs: 1 }))
    expect(last.record).to.include({ attempts: 2, crashes: 1 })
    // Once it has started it counts, and that is one too many
    expect(await storage.renew('third.holder', 1, [last.lease], { starts: true })).to.deep.equal(['RENEWED'])
    elapse(5)
    const crashed = await eventually(async () => {
      const answer = await storage.reclaim(aReclaim('fifth', { crashLimit: 1 }))
      return answer.crashed.length > 0 && answer.crashed
    })
    expect(crashed).to.deep.equal([begun.lease.id])
    expect(await read(storage, begun.lease.id)).to.include({ status: 'FAILED', attempts: 2, crashes: 2 })
  })

  it('leaves the first worker with LOST, whatever it sends, and writes nothing of it', async (subject) => {
    const { storage } = subject
    const late = await beginAndLose(subject)
    const current = await reclaimOne(subject, aReclaim('second'))
    expect(await storage.settle([success(late, '"late"')])).to.deep.equal(['LOST'])
    expect(await storage.renew('first.holder', HOUR_MS, [late.lease])).to.deep.equal(['LOST'])
    expect(await storage.requeue([late.lease], 'none')).to.deep.equal(['LOST'])
    expect(await read(storage, late.lease.id)).to.deep.equal(current.record)
    // The delivery is the second worker's now.
    expect(await storage.forget('first.holder')).to.equal('FORGOTTEN')
    expect(await storage.forget('second.holder')).to.equal('KEPT')
    expect(await storage.settle([success(current)])).to.deep.equal(['SETTLED'])
  })

  it('leaves a live lease alone, however long its delivery has been idle', async ({ storage, elapse }) => {
    const { lease, record } = await beginOne(storage, aTake('first', { leaseMs: 2 * HOUR_MS }))
    elapse(HOUR_MS)
    const answer = await storage.reclaim(aReclaim('second', { idleMs: 0 }))
    expect(answer.begun).to.deep.equal([])
    expect(answer.crashed).to.deep.equal([])
    expect(await read(storage, lease.id)).to.deep.equal(record)
  })

  it('takes over what ran out although its delivery has not been idle for long', async (subject) => {
    const { lease } = await beginAndLose(subject)
    const delivery = await reclaimOne(subject, aReclaim('second', { idleMs: HOUR_MS }))
    expect(delivery.lease.id).to.equal(lease.id)
  })

  it('takes over a record that was run by id, its entry still unread', async (subject) => {
    const { storage, elapse } = subject
    const id = await enqueueOne(storage)
    await storage.runById(aClaim('runner', SHORT_LEASE), id, false)
    elapse(2)
    const delivery = await eventually(async () => (await storage.reclaim(aReclaim('second'))).begun[0] ?? null)
    expect(delivery.record).to.include({ id, attempts: 2, crashes: 1 })
    expect(await storage.take(aTake('reader'))).to.deep.equal({ begun: [], passed: 1 })
    expect(await storage.settle([success(delivery)])).to.deep.equal(['SETTLED'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.forget('reader.holder')).to.equal('FORGOTTEN')
  })

  it('makes a record FAILED that crashed once more than the limit, with the reason', async (subject) => {
    const { storage, elapse } = subject
    // Given a record whose workers die one after the other
    const { lease } = await beginAndLose(subject)
    const request = (): ReclaimRequest =>
      aReclaim('second', { ...SHORT_LEASE, crashLimit: 2, crashError: '{"name":"TaskCrashedError","message":"m"}' })
    const crashed = await eventually(async () => {
      elapse(2)
      const answer = await storage.reclaim(request())
      for (const { lease } of answer.begun) await storage.renew('second.holder', 1, [lease], { starts: true })
      return answer.crashed.length > 0 && answer.crashed
    })
    // Then it began once, and once more for each crash within the limit
    expect(crashed).to.deep.equal([lease.id])
    const record = await read(storage, lease.id)
    expect(record).to.include({ status: 'FAILED', attempts: 3, crashes: 3, entryId: '', leaseToken: '' })
    expect(record.errors).to.deep.equal([
      `{"at":${record.finishedAt},"attempt":3,"name":"TaskCrashedError","message":"m"}`,
    ])
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 1 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.forget('second.holder')).to.equal('FORGOTTEN')
    // And a person may retry it, with all its chances
    await storage.retry([lease.id], 'request.1')
    expect((await takeOne(storage)).record).to.include({ attempts: 4, crashes: 0 })
  })

  it('begins no more than it has room for, and leaves the others to the next', async (subject) => {
    const { storage, elapse } = subject
    await storage.enqueue(someRecords(5))
    const { begun } = await storage.take(aTake('first', { ...SHORT_LEASE, count: 5 }))
    elapse(2)
    await eventually(
      async () => (await timeOf(storage)) > Math.max(...begun.map(({ record }) => record.leaseUntil ?? 0)),
    )
    expect((await storage.reclaim(aReclaim('second', { count: 0 }))).begun).to.deep.equal([])
    expect((await storage.reclaim(aReclaim('second', { count: 2 }))).begun).to.have.lengthOf(2)
    expect((await storage.reclaim(aReclaim('third', { count: 9 }))).begun).to.have.lengthOf(3)
    expect((await storage.reclaim(aReclaim('fourth', { count: 9 }))).begun).to.deep.equal([])
  })

  it('ends what is over the limit even without room', async (subject) => {
    const { lease } = await beginAndLose(subject)
    const answer = await subject.storage.reclaim(aReclaim('second', { count: 0, crashLimit: 0 }))
    expect(answer.crashed).to.deep.equal([lease.id])
    expect(answer.begun).to.deep.equal([])
  })

  it('walks the pending list of a stream to its end, a page at a time', async ({ storage }) => {
    await storage.enqueue(someRecords(150))
    const taken = await Promise.all([1, 2].map(() => storage.take(aTake('first', { count: 75 }))))
    expect(taken.flatMap(idsOf)).to.have.lengthOf(150)
    const first = await storage.reclaim(aReclaim())
    expect(first.next).to.not.equal('')
    const second = await storage.reclaim(aReclaim('reclaimer', { cursor: first.next }))
    expect([...first.begun, ...second.begun]).to.deep.equal([])
    expect(second.next).to.equal('')
  })

  it('walks the pending list page by page while deliveries are taken over', async ({ storage, raw }) => {
    const records = someRecords(250)
    await storage.enqueue(records)
    await raw.deliver('dead.holder', { queueName: QUEUE, band: 'normal' }, 250)
    const begun: string[] = []
    let cursor = ''
    let calls = 0
    do {
      expect((calls += 1), 'a walk that does not end').to.be.below(100)
      const answer: ReclaimAnswer = await storage.reclaim(aReclaim('second', { cursor }))
      begun.push(...idsOf(answer))
      cursor = answer.next
    } while (cursor !== '')
    expect(begun).to.have.members(records.map(({ id }) => id))
  })

  it('finds nothing where there is nothing', async ({ storage }) => {
    await enqueueOne(storage)
    const nothing: ReclaimAnswer = { begun: [], crashed: [], passed: 0, next: '' }
    expect(await storage.reclaim(aReclaim())).to.deep.equal(nothing)
    const stream = { queueName: QUEUE, band: 'high' } as const
    expect(await storage.reclaim(aReclaim('second', { stream }))).to.deep.equal(nothing)
  })

  it('begins an idle delivery that its consumer never began, without counting a crash', async ({ storage, raw }) => {
    const id = await enqueueOne(storage)
    await raw.deliver('dead.holder', { queueName: QUEUE, band: 'normal' }, 1)
    expect((await storage.take(aTake())).begun).to.deep.equal([])
    const { record } = only((await storage.reclaim(aReclaim('second'))).begun)
    expect(record).to.include({ id, status: 'RUNNING', attempts: 1, crashes: 0 })
    expect(record.workerIds).to.deep.equal(['second'])
    expect(await storage.forget('dead.holder')).to.equal('FORGOTTEN')
  })

  it('leaves a delivery alone that has not been idle for long enough', async ({ storage, raw }) => {
    const id = await enqueueOne(storage)
    await raw.deliver('slow.holder', { queueName: QUEUE, band: 'normal' }, 1)
    expect((await storage.reclaim(aReclaim('second', { idleMs: HOUR_MS }))).begun).to.deep.equal([])
    expect(await read(storage, id)).to.include({ status: 'READY', attempts: 0 })
  })

  it('finds an attempt whose lease row is lost by its idle delivery', async (subject) => {
    const { lease } = await beginAndLose(subject)
    await subject.raw.loseLeases()
    const delivery = await reclaimOne(subject, aReclaim('second'))
    expect(delivery.record).to.include({ id: lease.id, attempts: 2, crashes: 1 })
  })
})

overEveryStorage('races', (it) => {
  it('of two that reclaim at the same time, one takes each record over', async (subject) => {
    for (let round = 0; round < 10; round++) {
      const { lease } = await beginAndLose(subject)
      const answers = await Promise.all(['a', 'b', 'c'].map((worker) => subject.storage.reclaim(aReclaim(worker))))
      const delivery = only(answers.flatMap(({ begun }) => begun))
      expect(delivery.record).to.include({ id: lease.id, attempts: 2, crashes: 1 })
      await subject.storage.settle([success(delivery)])
    }
    expect(await depthOf(subject.storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('of a reclaim and a late renewal, one wins', async (subject) => {
    const { storage } = subject
    for (let round = 0; round < 10; round++) {
      const { lease } = await beginAndLose(subject)
      const [{ begun }, [word]] = await Promise.all([
        storage.reclaim(aReclaim('second')),
        storage.renew('first.holder', HOUR_MS, [lease]),
      ])
      expect(word).to.equal(begun.length === 1 ? 'LOST' : 'RENEWED')
      const holder = begun[0]?.lease ?? lease
      expect((await read(storage, lease.id)).leaseToken).to.equal(holder.token)
      await storage.settle([{ lease: holder, outcome: 'SUCCESSFUL', payload: '1', delayMs: 0 }])
    }
  })

  it('of a reclaim and a late settle, one wins, and no second copy is left', async (subject) => {
    const { storage } = subject
    for (let round = 0; round < 10; round++) {
      const late = await beginAndLose(subject)
      const [{ begun }, [word]] = await Promise.all([
        storage.reclaim(aReclaim('second')),
        storage.settle([later(late, 0)]),
      ])
      expect(word).to.equal(begun.length === 1 ? 'LOST' : 'SETTLED')
      expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
      const current = begun[0] ?? (await takeOne(storage))
      expect(current.record.attempts).to.equal(2)
      await storage.settle([success(current)])
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    }
  })

  it('of two requests to retry, and a run by id, one moves the record', async ({ storage }) => {
    for (let round = 0; round < 10; round++) {
      const id = await failOne(storage)
      const [[a], [b], run] = await Promise.all([
        storage.retry([id], `a.${round}`),
        storage.retry([id], `b.${round}`),
        storage.runById(aClaim('runner'), id, true),
      ])
      expect([a, b].filter((word) => word === 'RETRIED').length).to.be.at.most(1)
      expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
      const current = typeof run === 'string' ? await takeOne(storage) : run
      await storage.settle([success(current)])
      expect(await statusOf(storage, id)).to.equal('SUCCESSFUL')
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    }
  })

  it('of a save and a take at the same time, one wins, and one entry is left', async ({ storage }) => {
    for (let round = 0; round < 10; round++) {
      const id = await enqueueOne(storage)
      const [word, taken] = await Promise.all([storage.save(id, { priority: 50 }), storage.take(aTake())])
      const current = taken.begun[0] ?? (await takeOne(storage))
      expect(current.record.priority).to.equal(word === 'SAVED' ? 50 : 0)
      expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
      expect(await storage.settle([success(current)])).to.deep.equal(['SETTLED'])
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    }
  })

  it('of a promotion, a run by id and a delete, the record is in one place or gone', async (subject) => {
    const { storage, elapse } = subject
    for (let round = 0; round < 5; round++) {
      const runAfter = (await timeOf(storage)) + 20
      const id = await enqueueOne(storage, { runAfter })
      elapse(20)
      await eventually(async () => (await timeOf(storage)) >= runAfter)
      const [, run, [word]] = await Promise.all([
        storage.promote(QUEUE),
        storage.runById(aClaim('runner'), id, false),
        storage.delete([id]),
      ])
      if (word === 'DELETED') {
        expect(run).to.equal('ABSENT')
      } else {
        expect(word).to.equal('RUNNING')
        if (typeof run === 'string') throw new Error(`expected the record to run, got: ${run}`)
        await storage.settle([success(run)])
      }
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    }
  })
})
