/** The contract of the record verbs: enqueue, find, list, count, catalog, save, delete, retry, purge. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import type { ListPosition, ListRequest, PurgeRequest } from '../../../lib/storage/storage.ts'
import type { NewRecord } from '../../../lib/storage/stored-record.ts'
import { eventually } from '../../support/eventually.ts'
import {
  aClaim,
  aRecord,
  aReclaim,
  aTake,
  beginOne,
  cells,
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
  TASK,
  timeOf,
} from '../../support/storage-builders.ts'
import { overEveryStorage, type OpenStorage } from '../../support/storages.ts'

const HOUR_MS = 3_600_000

overEveryStorage('enqueue', (it) => {
  it('stores a record as it was given: READY, never begun, with one entry', async ({ storage }) => {
    const given = aRecord({ priority: 7, args: '["a",{"b":[]}]' })
    const [answer] = await storage.enqueue([given])
    const record = await read(storage, given.id)
    expect(answer).to.deep.equal({ word: 'ENQUEUED', enqueuedAt: record.enqueuedAt })
    expect(record.entryId).to.not.equal('')
    expect(record).to.deep.equal({
      ...given,
      status: 'READY',
      enqueuedAt: record.enqueuedAt,
      startedAt: null,
      lastAttemptedAt: null,
      finishedAt: null,
      attempts: 0,
      workerIds: [],
      errors: [],
      returnValue: null,
      crashes: 0,
      handBacks: 0,
      entryId: record.entryId,
      leaseToken: '',
      leaseUntil: null,
      fence: 0,
    })
    expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })

  it('keeps args to the byte', async ({ storage }) => {
    const args = '[12345678901234567890, 1e400,{ }, [],"\\u0000 \\n é \u{1F600} \uFFFD \u2028",-0,"{\\"at\\":1}"]'
    const id = await enqueueOne(storage, { args })
    expect((await read(storage, id)).args).to.equal(args)
    expect((await takeOne(storage)).record.args).to.equal(args)
  })

  it('leaves an id that exists as it is, and answers EXISTS', async ({ storage }) => {
    const given = aRecord({ args: '["first"]' })
    await storage.enqueue([given])
    const before = await read(storage, given.id)
    const again = await storage.enqueue([{ ...given, args: '["second"]', priority: 50, queueName: 'other' }])
    expect(again).to.deep.equal([{ word: 'EXISTS' }])
    expect(await read(storage, given.id)).to.deep.equal(before)
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
    expect(await depthOf(storage, 'other')).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('answers EXISTS for an id that stands twice in one batch', async ({ storage }) => {
    const given = aRecord()
    const words = (await storage.enqueue([given, given, aRecord()])).map(({ word }) => word)
    expect(words).to.deep.equal(['ENQUEUED', 'EXISTS', 'ENQUEUED'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 2, delayed: 0 })
  })

  it('answers EXISTS when the record has ended, and does not run it again', async ({ storage }) => {
    const delivery = await beginOne(storage)
    await storage.settle([success(delivery)])
    expect(await storage.enqueue([aRecord({ id: delivery.lease.id })])).to.deep.equal([{ word: 'EXISTS' }])
    expect(await statusOf(storage, delivery.lease.id)).to.equal('SUCCESSFUL')
    expect((await storage.take(aTake())).begun).to.deep.equal([])
  })

  it('stores a thousand records in one call, in their order', async ({ storage }) => {
    const given = someRecords(1000)
    const answers = await storage.enqueue(given)
    expect(answers).to.have.lengthOf(1000)
    expect(await countsOf(storage)).to.include({ READY: 1000 })
    const taken = await storage.take(aTake('first', { count: 100 }))
    expect(idsOf(taken)).to.deep.equal(given.slice(0, 100).map(({ id }) => id))
  })

  it('keeps a record back whose time has not come', async ({ storage }) => {
    const runAfter = (await timeOf(storage)) + HOUR_MS
    const id = await enqueueOne(storage, { runAfter })
    expect(await read(storage, id)).to.include({ status: 'READY', entryId: '', runAfter })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 1 })
    expect(await storage.take(aTake())).to.deep.equal({ begun: [], passed: 0 })
    expect(await countsOf(storage)).to.include({ READY: 1 })
  })

  it('takes a time that has passed for due, and keeps it', async ({ storage }) => {
    const id = await enqueueOne(storage, { runAfter: 1_000 })
    expect((await takeOne(storage)).record).to.include({ id, runAfter: 1_000 })
  })

  it('nothing given is nothing stored', async ({ storage }) => {
    expect(await storage.enqueue([])).to.deep.equal([])
  })
})

overEveryStorage('find', (it) => {
  it('answers in the order asked, undefined where there is no record', async ({ storage }) => {
    const [a, b] = [await enqueueOne(storage), await enqueueOne(storage)]
    const found = await storage.find([b, randomUUID(), a, b])
    expect(found.map((record) => record?.id)).to.deep.equal([b, undefined, a, b])
    expect(await storage.find([])).to.deep.equal([])
  })

  it('answers what was then, whatever the record does later', async ({ storage }) => {
    const id = await enqueueOne(storage)
    const before = await read(storage, id)
    const delivery = await takeOne(storage)
    await storage.settle([failure(delivery)])
    expect(before).to.include({ status: 'READY', attempts: 0 })
    expect(before.errors).to.deep.equal([])
    expect(delivery.record).to.include({ status: 'RUNNING', attempts: 1 })
    expect(delivery.record.workerIds).to.deep.equal(['first'])
  })

  it('reports a record that cannot be read and reads the others', async ({ storage, raw }) => {
    const [a, b] = [await enqueueOne(storage), await enqueueOne(storage)]
    await raw.damage(a)
    const [damaged, whole] = await storage.find([a, b])
    expect(damaged).to.include({ id: a }).and.to.have.property('damage').that.is.a('string')
    expect(whole).to.include({ id: b, status: 'READY' })
  })
})

overEveryStorage('find, brief', (it) => {
  it('answers the whole record but for what a list does not show', async ({ storage }) => {
    await enqueueOne(storage, { args: '["short"]', priority: 3 })
    const delivery = await takeOne(storage)
    await storage.settle([success(delivery)])
    const whole = await read(storage, delivery.lease.id)
    const [brief] = await storage.find([whole.id], { argsBytes: 100 })
    expect(brief).to.deep.equal({ ...whole, returnValue: null, omittedBytes: 0 })
  })

  it('cuts args after so many bytes, never through a character, and says how many are left out', async ({
    storage,
  }) => {
    const args = `["${'aé\u{1F600}漢'.repeat(500)}"]`
    const id = await enqueueOne(storage, { args })
    for (const argsBytes of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 100, 101, 102, 103, 1_000]) {
      const [brief] = await storage.find([id], { argsBytes })
      if (!brief || 'damage' in brief) throw new Error('expected a record, got: none')
      const bytes = Buffer.byteLength(brief.args)
      expect(args.startsWith(brief.args), brief.args).to.equal(true)
      expect(bytes)
        .to.be.at.most(argsBytes)
        .and.greaterThan(argsBytes - 5)
      expect(brief.omittedBytes).to.equal(Buffer.byteLength(args) - bytes)
    }
  })

  it('shows the last error alone', async ({ storage }) => {
    const id = await failOne(storage)
    const [first] = (await read(storage, id)).errors
    await storage.retry([id], 'request.1')
    await storage.settle([failure(await takeOne(storage))])
    const { errors } = await read(storage, id)
    expect(errors).to.have.lengthOf(2)
    const [brief] = await storage.find([id], { argsBytes: 100 })
    expect(brief).to.deep.include({ errors: errors.slice(1), omittedBytes: Buffer.byteLength(first ?? '') + 1 })
  })

  it('answers in the order asked, undefined where there is no record', async ({ storage }) => {
    const ids = someRecords(600)
    await storage.enqueue(ids)
    const asked = [ids[599]?.id ?? '', randomUUID(), ...ids.slice(0, 520).map(({ id }) => id)]
    const found = await storage.find(asked, { argsBytes: 1 })
    expect(found.map((record) => record?.id)).to.deep.equal([asked[0], undefined, ...asked.slice(2)])
    expect(await storage.find([], { argsBytes: 1 })).to.deep.equal([])
  })

  it('reports a record that cannot be read and reads the others', async ({ storage, raw }) => {
    const [a, b] = [await enqueueOne(storage), await enqueueOne(storage)]
    await raw.damage(a)
    const [damaged, whole] = await storage.find([a, b], { argsBytes: 10 })
    expect(damaged).to.include({ id: a }).and.to.have.property('damage').that.is.a('string')
    expect(whole).to.include({ id: b, status: 'READY' })
  })
})

overEveryStorage('list', (it) => {
  /** Records of three cells and two times, many with equal `enqueuedAt`; in the order in which they should be listed. */
  async function listed({
    storage,
    elapse,
  }: OpenStorage): Promise<{ all: ListPosition[]; cells: ListRequest['cells'] }> {
    const batch = (): NewRecord[] => [
      ...someRecords(9, { name: 'a' }),
      ...someRecords(9, { name: 'b' }),
      ...someRecords(9, { queueName: 'other', name: 'a' }),
    ]
    const all: ListPosition[] = []
    for (let round = 0; round < 2; round++) {
      const before = all.at(-1)?.enqueuedAt ?? 0
      await eventually(async () => {
        elapse(1)
        return (await timeOf(storage)) > before
      })
      const records = batch()
      const answers = await storage.enqueue(records)
      answers.forEach((answer, index) => {
        if (answer.word === 'ENQUEUED') all.push({ id: records[index]?.id ?? '', enqueuedAt: answer.enqueuedAt })
      })
    }
    all.sort((a, b) => a.enqueuedAt - b.enqueuedAt || (a.id < b.id ? -1 : 1))
    return {
      all,
      cells: [
        { queueName: QUEUE, name: 'a', status: 'READY' },
        { queueName: QUEUE, name: 'b', status: 'READY' },
        { queueName: 'other', name: 'a', status: 'READY' },
        { queueName: 'none', name: 'none', status: 'READY' },
      ],
    }
  }

  async function pages({ storage }: OpenStorage, request: ListRequest): Promise<ListPosition[]> {
    const found: ListPosition[] = []
    for (;;) {
      const page = await storage.list({ ...request, after: found.at(-1) })
      expect(page.length).to.be.at.most(request.size)
      found.push(...page)
      if (page.length < request.size) return found
    }
  }

  for (const order of ['newest', 'oldest'] as const) {
    it(`shows every record once, ${order} first, in pages over many cells with equal times`, async (subject) => {
      const { all, cells } = await listed(subject)
      const expected = order === 'oldest' ? all : all.toReversed()
      for (const size of [1, 4, 27, 54, 100]) {
        expect(await pages(subject, { cells, order, size })).to.deep.equal(expected)
      }
    })

    it(`shows those between two times, both included, ${order} first`, async (subject) => {
      const { all, cells } = await listed(subject)
      const ordered = order === 'oldest' ? all : all.toReversed()
      const [first, last] = [all[0]?.enqueuedAt ?? 0, all.at(-1)?.enqueuedAt ?? 0]
      const older = ordered.filter(({ enqueuedAt }) => enqueuedAt === first)
      const newer = ordered.filter(({ enqueuedAt }) => enqueuedAt === last)
      expect(older).to.have.lengthOf(27)
      expect(await pages(subject, { cells, order, size: 5, from: first, to: last })).to.deep.equal(ordered)
      expect(await pages(subject, { cells, order, size: 5, to: first })).to.deep.equal(older)
      expect(await pages(subject, { cells, order, size: 5, from: last })).to.deep.equal(newer)
      expect(await pages(subject, { cells, order, size: 5, from: last + 1 })).to.deep.equal([])
      expect(await pages(subject, { cells, order, size: 5, to: first - 1 })).to.deep.equal([])
    })
  }

  it('goes on behind a record that has left the list since', async (subject) => {
    const { all, cells } = await listed(subject)
    const [first, second, third] = all
    const page = await subject.storage.list({ cells, order: 'oldest', size: 2 })
    expect(page).to.deep.equal([first, second])
    await subject.storage.delete([second?.id ?? ''])
    expect(await subject.storage.list({ cells, order: 'oldest', size: 1, after: second })).to.deep.equal([third])
  })

  it('shows a record in the cell of its status only', async ({ storage }) => {
    const { lease } = await beginOne(storage)
    const lists = await Promise.all(
      cells().map(async (cell) =>
        (await storage.list({ cells: [cell], order: 'newest', size: 9 })).map(({ id }) => id),
      ),
    )
    expect(lists).to.deep.equal([[], [lease.id], [], []])
  })

  it('is empty without cells', async ({ storage }) => {
    await enqueueOne(storage)
    expect(await storage.list({ cells: [], order: 'newest', size: 9 })).to.deep.equal([])
  })
})

overEveryStorage('count and catalog', (it) => {
  it('counts each cell, in the order asked', async ({ storage }) => {
    await storage.enqueue([...someRecords(3, { name: 'a' }), ...someRecords(2, { name: 'b' })])
    const counts = await storage.count([
      { queueName: QUEUE, name: 'b', status: 'READY' },
      { queueName: 'none', name: 'a', status: 'READY' },
      { queueName: QUEUE, name: 'a', status: 'READY' },
      { queueName: QUEUE, name: 'a', status: 'FAILED' },
    ])
    expect(counts).to.deep.equal([2, 0, 3, 0])
    expect(await storage.count([])).to.deep.equal([])
  })

  it('counts those enqueued between two times, both included', async ({ storage, elapse }) => {
    const early = await enqueueOne(storage)
    const { enqueuedAt: from } = await read(storage, early)
    const late = await eventually(async () => {
      elapse(1)
      return (await timeOf(storage)) > from && (await enqueueOne(storage))
    })
    const { enqueuedAt: to } = await read(storage, late)
    const cell = { queueName: QUEUE, name: TASK, status: 'READY' } as const
    expect(await storage.count([cell], { from, to })).to.deep.equal([2])
    expect(await storage.count([cell], { from: from + 1 })).to.deep.equal([1])
    expect(await storage.count([cell], { to: to - 1 })).to.deep.equal([1])
    expect(await storage.count([cell], { from: to + 1 })).to.deep.equal([0])
    expect(await storage.count([cell], {})).to.deep.equal([2])
  })

  it('follows a record through its life', async ({ storage }) => {
    const delivery = await beginOne(storage)
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 1, SUCCESSFUL: 0, FAILED: 0 })
    await storage.settle([failure(delivery)])
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 1 })
    await storage.retry([delivery.lease.id], 'request.1')
    expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
  })

  it('knows every queue and task that a record was ever stored under, also when none is left', async ({ storage }) => {
    expect(await storage.catalog()).to.deep.equal({ queueNames: [], tasks: [] })
    const gone = await enqueueOne(storage, { queueName: 'a', name: 'x.y-z_1' })
    await enqueueOne(storage, { queueName: 'a', name: 'other' })
    await enqueueOne(storage, { queueName: 'b', runAfter: (await timeOf(storage)) + HOUR_MS })
    await storage.delete([gone])
    const { queueNames, tasks } = await storage.catalog()
    expect(queueNames).to.have.members(['a', 'b', 'probe'])
    expect(tasks).to.deep.include.members([
      { queueName: 'a', name: 'x.y-z_1' },
      { queueName: 'a', name: 'other' },
      { queueName: 'b', name: TASK },
    ])
    expect(tasks).to.have.lengthOf(4)
  })
})

overEveryStorage('save', (it) => {
  it('changes what is named and keeps the rest', async ({ storage }) => {
    const id = await enqueueOne(storage, { priority: 5, args: '[1]' })
    const before = await read(storage, id)
    expect(await storage.save(id, { args: '[2]' })).to.equal('SAVED')
    expect(await read(storage, id)).to.deep.equal({ ...before, args: '[2]' })
    expect(await storage.save(id, {})).to.equal('SAVED')
    expect(await read(storage, id)).to.deep.equal({ ...before, args: '[2]' })
  })

  it('keeps the place of a record whose priority stays in its band', async ({ storage }) => {
    const [first] = [await enqueueOne(storage, { priority: 5 }), await enqueueOne(storage, { priority: 5 })]
    const { entryId } = await read(storage, first)
    expect(await storage.save(first, { priority: 100 })).to.equal('SAVED')
    expect(await read(storage, first)).to.include({ entryId, priority: 100 })
    expect((await takeOne(storage)).lease.id).to.equal(first)
  })

  it('moves a record to the band of its new priority', async ({ storage }) => {
    const [first, second] = [await enqueueOne(storage), await enqueueOne(storage)]
    await storage.save(second, { priority: 1 })
    expect(await storage.depth([QUEUE])).to.deep.equal([{ queueName: QUEUE, high: 1, normal: 1, low: 0, delayed: 0 }])
    expect(idsOf(await storage.take(aTake('first', { count: 9 })))).to.deep.equal([second, first])
  })

  it('delays a record, moves its time, and makes it due again', async ({ storage }) => {
    const id = await enqueueOne(storage)
    const runAfter = (await timeOf(storage)) + HOUR_MS
    await storage.save(id, { runAfter })
    expect(await read(storage, id)).to.include({ runAfter, entryId: '' })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 1 })

    await storage.save(id, { runAfter: runAfter + HOUR_MS, priority: -1 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 1 })
    expect((await storage.promote(QUEUE)).dueInMs).to.be.above(HOUR_MS)

    await storage.save(id, { runAfter: null })
    expect(await storage.depth([QUEUE])).to.deep.equal([{ queueName: QUEUE, high: 0, normal: 0, low: 1, delayed: 0 }])
    expect((await takeOne(storage)).record).to.include({ id, runAfter: null, priority: -1 })
  })

  it('moves a delivered entry to another band, so that the old delivery begins nothing', async ({ storage, raw }) => {
    // Given an entry that a worker read and did not begin
    const id = await enqueueOne(storage)
    await raw.deliver('dead.holder', { queueName: QUEUE, band: 'normal' }, 1)
    // When its record is saved into another band
    expect(await storage.save(id, { priority: 50 })).to.equal('SAVED')
    // Then the old delivery is gone and the new entry counts
    const recovered = await storage.recover({ ...aClaim('dead'), queueNames: [QUEUE], count: 9, inHand: new Set() })
    expect(recovered.begun).to.deep.equal([])
    expect(await storage.depth([QUEUE])).to.deep.equal([{ queueName: QUEUE, high: 1, normal: 0, low: 0, delayed: 0 }])
    expect((await takeOne(storage)).lease.id).to.equal(id)
  })

  it('changes a finished record without giving it a place; a retry then follows it', async ({ storage }) => {
    const id = await failOne(storage)
    expect(await storage.save(id, { priority: 9, args: '[9]' })).to.equal('SAVED')
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await statusOf(storage, id)).to.equal('FAILED')
    await storage.retry([id], 'request.1')
    expect(only(await storage.depth([QUEUE]))).to.include({ high: 1, normal: 0 })
    expect((await takeOne(storage)).record).to.include({ priority: 9, args: '[9]' })
  })

  it('refuses a RUNNING record and leaves it as it is', async ({ storage }) => {
    const { record } = await beginOne(storage)
    expect(await storage.save(record.id, { priority: 9, args: '[9]', runAfter: 1 })).to.equal('RUNNING')
    expect(await read(storage, record.id)).to.deep.equal(record)
  })

  it('answers ABSENT for an id without a record, and makes none', async ({ storage }) => {
    const id = randomUUID()
    expect(await storage.save(id, { args: '[]' })).to.equal('ABSENT')
    expect(await storage.find([id])).to.deep.equal([undefined])
  })
})

overEveryStorage('delete', (it) => {
  it('removes record, index and place of whatever does not run', async ({ storage }) => {
    const failed = await failOne(storage)
    const done = await beginOne(storage)
    await storage.settle([success(done)])
    const delayed = await enqueueOne(storage, { runAfter: (await timeOf(storage)) + HOUR_MS })
    const ready = await enqueueOne(storage)
    const ids = [failed, done.lease.id, delayed, ready]
    expect(await storage.delete(ids)).to.deep.equal(['DELETED', 'DELETED', 'DELETED', 'DELETED'])
    expect(await storage.find(ids)).to.deep.equal([undefined, undefined, undefined, undefined])
    expect(await countsOf(storage)).to.deep.equal({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    expect(await storage.take(aTake())).to.deep.equal({ begun: [], passed: 0 })
  })

  it('refuses what runs, and answers each id in order', async ({ storage }) => {
    const { lease, record } = await beginOne(storage)
    const id = await enqueueOne(storage)
    expect(await storage.delete([id, lease.id, randomUUID(), id])).to.deep.equal([
      'DELETED',
      'RUNNING',
      'ABSENT',
      'ABSENT',
    ])
    expect(await read(storage, lease.id)).to.deep.equal(record)
  })

  it('deletes a record whose entry was delivered but not begun', async ({ storage, raw }) => {
    const id = await enqueueOne(storage)
    await raw.deliver('dead.holder', { queueName: QUEUE, band: 'normal' }, 1)
    expect(await storage.delete([id])).to.deep.equal(['DELETED'])
    const recovered = await storage.recover({ ...aClaim('dead'), queueNames: [QUEUE], count: 9, inHand: new Set() })
    expect(recovered.begun).to.deep.equal([])
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
  })

  it('gives the id free for a new record', async ({ storage }) => {
    const id = await failOne(storage)
    await storage.delete([id])
    await enqueueOne(storage, { id })
    expect(await read(storage, id)).to.deep.include({ status: 'READY', attempts: 0, errors: [], finishedAt: null })
    expect((await takeOne(storage)).lease.id).to.equal(id)
  })

  it('of a delete and a take at the same time, one wins and nothing is left behind', async ({ storage }) => {
    for (let round = 0; round < 10; round++) {
      const id = await enqueueOne(storage)
      const [taken, [word]] = await Promise.all([storage.take(aTake()), storage.delete([id])])
      if (word === 'DELETED') {
        expect(taken.begun).to.deep.equal([])
        expect(await storage.find([id])).to.deep.equal([undefined])
      } else {
        expect(word).to.equal('RUNNING')
        await storage.settle(taken.begun.map((delivery) => success(delivery)))
        expect(await statusOf(storage, id)).to.equal('SUCCESSFUL')
      }
      expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 0 })
    }
  })
})

overEveryStorage('retry', (it) => {
  it('makes a FAILED record READY and due at once, with errors and attempts kept', async ({ storage }) => {
    const id = await failOne(storage)
    const failed = await read(storage, id)
    await storage.save(id, { runAfter: (await timeOf(storage)) + HOUR_MS })
    expect(await storage.retry([id], 'request.1')).to.deep.equal(['RETRIED'])
    const retried = await read(storage, id)
    expect(retried).to.include({ status: 'READY', runAfter: null, finishedAt: null, attempts: 1, leaseToken: '' })
    expect(retried.errors).to.deep.equal(failed.errors)
    const { record } = await takeOne(storage)
    expect(record).to.include({ id, attempts: 2, startedAt: failed.startedAt })
    expect(record.fence).to.be.above(failed.fence)
  })

  it('forgets crashes and hand-backs', async ({ storage, elapse }) => {
    // Given a record that was handed back, crashed once, and failed
    const handedBack = await beginOne(storage)
    await storage.requeue([handedBack.lease], 'growing')
    const { id } = handedBack.lease
    const delivery = await storage.runById(aClaim('first', { leaseMs: 1 }), id, false)
    expect(delivery).to.have.property('lease')
    elapse(2)
    const { begun } = await eventually(async () => {
      const answer = await storage.reclaim(aReclaim())
      return answer.begun.length > 0 && answer
    })
    await storage.settle([failure(only(begun))])
    expect(await read(storage, id)).to.include({ crashes: 1, handBacks: 1 })
    // When a person retries it
    await storage.retry([id], 'request.1')
    // Then both start anew
    expect(await read(storage, id)).to.include({ crashes: 0, handBacks: 0 })
  })

  it('answers the status of what is not FAILED, and leaves it', async ({ storage }) => {
    const done = await beginOne(storage)
    await storage.settle([success(done)])
    const running = await beginOne(storage)
    const ready = await enqueueOne(storage)
    const before = await storage.find([done.lease.id, running.lease.id, ready])
    const words = await storage.retry([done.lease.id, running.lease.id, ready, randomUUID()], 'request.1')
    expect(words).to.deep.equal(['SUCCESSFUL', 'RUNNING', 'READY', 'ABSENT'])
    expect(await storage.find([done.lease.id, running.lease.id, ready])).to.deep.equal(before)
  })

  it('carries out one request once, whatever the record did since', async ({ storage }) => {
    const id = await failOne(storage)
    const retry = async (requestId: string): Promise<string> => only(await storage.retry([id], requestId))
    expect(await retry('request.1')).to.equal('RETRIED')
    expect(await retry('request.1')).to.equal('RETRIED')
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
    await storage.settle([failure(await takeOne(storage))])
    // When the first request arrives once more
    expect(await retry('request.1')).to.equal('RETRIED')
    // Then it moves nothing; another request does
    expect(await statusOf(storage, id)).to.equal('FAILED')
    expect(await retry('request.2')).to.equal('RETRIED')
    expect(await statusOf(storage, id)).to.equal('READY')
  })

  it('takes an id that stands twice in one batch for a repeat', async ({ storage }) => {
    const id = await failOne(storage)
    expect(await storage.retry([id, id], 'request.1')).to.deep.equal(['RETRIED', 'RETRIED'])
    expect(await depthOf(storage)).to.deep.equal({ entries: 1, delayed: 0 })
  })
})

overEveryStorage('purge', (it) => {
  const failedCell = { queueName: QUEUE, name: TASK, status: 'FAILED' } as const
  const successfulCell = { ...failedCell, status: 'SUCCESSFUL' } as const

  function aPurge(fields: Partial<PurgeRequest> = {}): PurgeRequest {
    return { cell: successfulCell, finishedForMs: 0, limit: 200, position: '', dryRun: false, ...fields }
  }

  /** Records of one batch, so of one `enqueuedAt`, that all succeeded. */
  async function finished({ storage }: OpenStorage, count: number): Promise<string[]> {
    await storage.enqueue(someRecords(count))
    const { begun } = await storage.take(aTake('first', { count }))
    await storage.settle(begun.map((delivery) => success(delivery)))
    return begun.map(({ lease }) => lease.id)
  }

  async function walk({ storage }: OpenStorage, request: PurgeRequest): Promise<{ matched: number; deleted: number }> {
    const total = { matched: 0, deleted: 0 }
    let position = ''
    let calls = 0
    do {
      expect((calls += 1), 'a walk that does not end').to.be.below(100)
      const { matched, deleted, next } = await storage.purge({ ...request, position })
      expect(matched).to.be.at.most(request.limit)
      total.matched += matched
      total.deleted += deleted
      position = next
    } while (position !== '')
    return total
  }

  it('deletes the finished records of one cell and leaves all others', async (subject) => {
    const { storage } = subject
    const failed = await failOne(storage)
    await finished(subject, 3)
    const { lease } = await beginOne(storage)
    const ready = await enqueueOne(storage)
    expect(await storage.purge(aPurge())).to.deep.equal({ matched: 3, deleted: 3, next: '' })
    expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 1, SUCCESSFUL: 0, FAILED: 1 })
    expect((await storage.find([failed, lease.id, ready])).map((record) => record?.id)).to.not.include(undefined)
    expect(await storage.purge(aPurge({ cell: failedCell }))).to.include({ matched: 1, deleted: 1 })
  })

  it('leaves what has not been finished for that long', async (subject) => {
    await finished(subject, 3)
    expect(await walk(subject, aPurge({ finishedForMs: HOUR_MS }))).to.deep.equal({ matched: 0, deleted: 0 })
    expect(await countsOf(subject.storage)).to.include({ SUCCESSFUL: 3 })
  })

  it('walks records of one time in pages, and passes over none', async (subject) => {
    await finished(subject, 25)
    expect(await walk(subject, aPurge({ limit: 4 }))).to.deep.equal({ matched: 25, deleted: 25 })
    expect(await countsOf(subject.storage)).to.include({ SUCCESSFUL: 0 })
  })

  it('counts in a dry run what it would delete, each once, and deletes nothing', async (subject) => {
    await finished(subject, 25)
    expect(await walk(subject, aPurge({ limit: 4, dryRun: true }))).to.deep.equal({ matched: 25, deleted: 0 })
    expect(await countsOf(subject.storage)).to.include({ SUCCESSFUL: 25 })
  })

  it('walks on past records that it may not delete', async (subject) => {
    // Given old records of one time that finished in two halves, the second half after a retry
    const { storage, elapse } = subject
    await storage.enqueue(someRecords(20))
    const { begun } = await storage.take(aTake('first', { count: 20 }))
    await storage.settle(begun.map((delivery) => failure(delivery)))
    const firstHalf = begun.slice(0, 10).map(({ lease }) => lease.id)
    const before = await timeOf(storage)
    await eventually(async () => {
      elapse(500)
      return (await timeOf(storage)) - before >= 500
    })
    await storage.retry(firstHalf, 'request.1')
    const again = await storage.take(aTake('first', { count: 10 }))
    await storage.settle(again.begun.map((delivery) => failure(delivery)))
    // When those are purged that finished long enough ago
    const purged = await walk(subject, aPurge({ cell: failedCell, limit: 3, finishedForMs: 500 }))
    // Then the young half stays
    expect(purged).to.deep.equal({ matched: 10, deleted: 10 })
    const kept = await storage.find(firstHalf)
    expect(kept.map((record) => record?.id)).to.have.members(firstHalf)
  })

  it('knows nothing of a cell that never was', async ({ storage }) => {
    const cell = { queueName: 'none', name: 'none', status: 'FAILED' } as const
    expect(await storage.purge(aPurge({ cell }))).to.deep.equal({ matched: 0, deleted: 0, next: '' })
  })
})

overEveryStorage('damaged records', (it) => {
  it('answers BROKEN for a record that cannot be read and goes on with the others', async ({ storage, raw }) => {
    const broken = await beginOne(storage)
    const whole = await beginOne(storage)
    await raw.damage(broken.lease.id)
    const ids = [broken.lease.id, whole.lease.id]
    const leases = [broken.lease, whole.lease]
    expect(await storage.delete(ids)).to.deep.equal(['BROKEN', 'RUNNING'])
    expect(await storage.retry(ids, 'request.1')).to.deep.equal(['BROKEN', 'RUNNING'])
    expect(await storage.save(broken.lease.id, { args: '[]' })).to.equal('BROKEN')
    expect(await storage.runById(aClaim(), broken.lease.id, true)).to.equal('BROKEN')
    expect(await storage.renew('first.holder', 60_000, leases)).to.deep.equal(['BROKEN', 'RENEWED'])
    expect(await storage.requeue([broken.lease], 'none')).to.deep.equal(['BROKEN'])
    expect(await storage.settle([success(broken), success(whole)])).to.deep.equal(['BROKEN', 'SETTLED'])
    expect((await storage.reclaim(aReclaim())).crashed).to.deep.equal([])
  })

  it('passes over the entry of a record that cannot be read', async ({ storage, raw }) => {
    await raw.damage(await enqueueOne(storage))
    const id = await enqueueOne(storage)
    expect(await storage.take(aTake())).to.deep.equal({ begun: [], passed: 1 })
    expect((await takeOne(storage)).lease.id).to.equal(id)
  })
})
