import { expect } from 'chai'
import sinon from 'sinon'
import { executor, task, TaskOptionError, TaskQueryLimitError, TaskRecord } from '../lib/index.ts'
import type { RecordFilter, RecordOrder, RecordQuery, Task, TaskResult } from '../lib/index.ts'
import { LOOK_LIMIT } from '../lib/record-page.ts'
import { LIST_LIMIT } from '../lib/record-query.ts'
import { caught, DAY_MS, holdRunning, overEveryBackend } from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'

const NOWHERE = '0198c1f2-0000-7000-8000-000000000000'
const ids = (records: readonly { readonly id: string }[]): string[] => records.map(({ id }) => id)

overEveryBackend('RecordQuery', (subject) => {
  let mail: Task<[to: string], string>
  let report: Task<[month: string], string>

  beforeEach(() => {
    mail = task({ name: 'mail.send', queueName: 'mail' }, (to: string) => {
      if (to.startsWith('bad')) throw new RangeError(`no such address as ${to}`)
      return to
    })
    report = task({ name: 'report.build', queueName: 'reports' }, (month: string) => month)
  })

  /** One record after the other, each in a millisecond of its own. Oldest first. */
  async function enqueueApart(count: number, of: Task<[string], string> = mail): Promise<string[]> {
    const enqueued: TaskResult[] = []
    for (let n = 0; n < count; n += 1) {
      enqueued.push(await of.enqueue(`${n}`))
      const last = enqueued.at(-1)?.enqueuedAt.getTime() ?? 0
      await eventually(() => Date.now() > last + 1)
    }
    return ids(enqueued)
  }

  const finish = (id: string): Promise<unknown> => executor.runTaskById(id)

  describe('filter', () => {
    let good: string, bad: string, waiting: string, high: string, january: string, running: string

    beforeEach(async () => {
      const results = [
        await mail.enqueue('good@example.com'),
        await mail.enqueue('bad@example.com'),
        await mail.enqueue('waiting@example.com'),
        await mail.using({ priority: 50, queueName: 'urgent' }).enqueue('high@example.com'),
        await report.enqueue('January "quoted"'),
        await report.using({ queueName: 'slow', priority: -5 }).enqueue('running'),
      ]
      ;[good, bad, waiting, high, january, running] = ids(results) as [string, string, string, string, string, string]
      await finish(good)
      await finish(bad)
      await holdRunning(subject.backend, 'slow')
    })

    /** The ids that match, in the order in which they were enqueued. */
    const matching = async (filter: RecordFilter): Promise<string[]> => {
      const found = await TaskRecord.filter(filter).ids()
      expect(found.length, 'the count says the same').to.equal(await TaskRecord.filter(filter).count())
      return [good, bad, waiting, high, january, running].filter((id) => found.includes(id))
    }

    it('answers everything without a key', async () => {
      expect(await matching({})).to.deep.equal([good, bad, waiting, high, january, running])
    })

    it('knows status, one or many', async () => {
      expect(await matching({ status: 'SUCCESSFUL' })).to.deep.equal([good])
      expect(await matching({ status: 'RUNNING' })).to.deep.equal([running])
      expect(await matching({ status: ['FAILED', 'READY'] })).to.deep.equal([bad, waiting, high, january])
      expect(await matching({ status: [] })).to.deep.equal([])
    })

    it('knows queueName, one or many', async () => {
      expect(await matching({ queueName: 'mail' })).to.deep.equal([good, bad, waiting])
      expect(await matching({ queueName: ['urgent', 'slow'] })).to.deep.equal([high, running])
      expect(await matching({ queueName: 'nowhere' })).to.deep.equal([])
    })

    it('knows name, one or many', async () => {
      expect(await matching({ name: 'report.build' })).to.deep.equal([january, running])
      expect(await matching({ name: ['report.build', 'mail.send', 'other'] })).to.have.lengthOf(6)
      expect(await matching({ name: 'mail' })).to.deep.equal([])
    })

    it('knows priority, one or many', async () => {
      expect(await matching({ priority: 50 })).to.deep.equal([high])
      expect(await matching({ priority: [50, -5] })).to.deep.equal([high, running])
      expect(await matching({ priority: 1 })).to.deep.equal([])
    })

    it('knows the time of enqueue: after is inclusive, before is not', async () => {
      const { enqueuedAt } = await TaskRecord.find(good)
      const last = (await TaskRecord.find(running)).enqueuedAt
      const later = new Date(last.getTime() + 1)
      expect(await matching({ enqueuedAfter: enqueuedAt, enqueuedBefore: later })).to.have.lengthOf(6)
      expect(await matching({ enqueuedBefore: enqueuedAt })).to.deep.equal([])
      expect(await matching({ enqueuedAfter: later })).to.deep.equal([])
      expect(await matching({ enqueuedAfter: later, enqueuedBefore: enqueuedAt })).to.deep.equal([])
    })

    it('knows the time of the end: after is inclusive, before is not', async () => {
      const finishedAt = (await TaskRecord.find(good)).finishedAt as Date
      const later = new Date(((await TaskRecord.find(bad)).finishedAt as Date).getTime() + 1)
      expect(await matching({ finishedAfter: finishedAt })).to.deep.equal([good, bad])
      expect(await matching({ finishedAfter: finishedAt, finishedBefore: later })).to.deep.equal([good, bad])
      expect(await matching({ finishedBefore: finishedAt })).to.deep.equal([])
      expect(await matching({ finishedAfter: later })).to.deep.equal([])
    })

    it('searches in id, name, arguments and errors, whatever the case', async () => {
      expect(await matching({ search: high.toUpperCase() })).to.deep.equal([high])
      expect(await matching({ search: 'REPORT.' })).to.deep.equal([january, running])
      expect(await matching({ search: 'waiting@' })).to.deep.equal([waiting])
      expect(await matching({ search: 'no such address' })).to.deep.equal([bad])
      expect(await matching({ search: 'rangeerror' })).to.deep.equal([bad])
      expect(await matching({ search: '.*' })).to.deep.equal([])
    })

    it('takes keys together for all of these', async () => {
      expect(await matching({ status: 'READY', queueName: ['mail', 'urgent'], name: 'mail.send' })).to.deep.equal([
        waiting,
        high,
      ])
      expect(await matching({ status: 'READY', priority: 0, search: 'example' })).to.deep.equal([waiting])
    })

    it('narrows: keys of the same name are replaced, others stay', async () => {
      const query = TaskRecord.filter({ status: 'READY' })
      expect(await query.filter({ queueName: 'urgent' }).ids()).to.deep.equal([high])
      expect(await query.filter({ status: 'FAILED' }).ids()).to.deep.equal([bad])
      expect(await query.count()).to.equal(3)
    })

    it('takes a value that stands twice in a list for one', async () => {
      expect(await matching({ status: ['READY', 'READY'] })).to.deep.equal([waiting, high, january])
      expect(await matching({ queueName: ['mail', 'mail'], name: ['mail.send', 'mail.send'] })).to.have.lengthOf(3)
      expect(await TaskRecord.filter({ queueName: ['mail', 'mail'] }).countBy('queueName')).to.deep.equal({ mail: 3 })
    })

    it('takes long lists of names, most of which never held a record', async () => {
      const names = Array.from({ length: 998 }, (_, n) => `n${n}`)
      const count = sinon.spy(subject.backend.storage, 'count')
      expect(await matching({ queueName: [...names, 'mail'], name: [...names, 'mail.send'] })).to.have.lengthOf(3)
      expect(count.args[0]?.[0]).to.have.length.below(50)
    })

    it('takes undefined for left out', async () => {
      expect(await matching({ status: undefined, search: undefined, enqueuedAfter: undefined })).to.have.lengthOf(6)
    })

    it('keeps a copy: what the caller changes later changes nothing', async () => {
      const status: ('READY' | 'FAILED')[] = ['FAILED']
      const enqueuedBefore = new Date(Date.now() + DAY_MS)
      const query = TaskRecord.filter({ status, enqueuedBefore })
      status.push('READY')
      enqueuedBefore.setUTCFullYear(1999)
      expect(await query.ids()).to.deep.equal([bad])
    })

    it('counts by status, queue and name', async () => {
      expect(await TaskRecord.countBy('status')).to.deep.equal({ READY: 3, RUNNING: 1, SUCCESSFUL: 1, FAILED: 1 })
      expect(await TaskRecord.countBy('queueName')).to.deep.equal({ mail: 3, urgent: 1, reports: 1, slow: 1 })
      expect(await TaskRecord.countBy('name')).to.deep.equal({ 'mail.send': 4, 'report.build': 2 })
    })

    it('counts by a field what a filter leaves', async () => {
      const query = TaskRecord.filter({ queueName: 'mail' })
      expect(await query.countBy('status')).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 1, FAILED: 1 })
      expect(await query.filter({ status: ['READY', 'FAILED'] }).countBy('status')).to.deep.equal({
        READY: 1,
        FAILED: 1,
      })
      expect(await query.filter({ enqueuedAfter: new Date(Date.now() + DAY_MS) }).countBy('name')).to.deep.equal({
        'mail.send': 0,
      })
    })

    it('does not count by a field what has to be looked at record by record', async () => {
      const error = await caught(TaskRecord.filter({ search: 'x' }).countBy('status'))
      expect(error).to.be.instanceOf(TaskQueryLimitError)
      expect((error as Error).message).to.contain('search')
    })

    it('refuses a field that it cannot count by, and names the nearest', async () => {
      const error = await caught(TaskRecord.countBy('queue_name' as 'queueName'))
      expect(error).to.be.instanceOf(TaskOptionError)
      expect((error as Error).message).to.contain('did you mean "queueName"?')
    })

    it('answers the first record, or null', async () => {
      expect((await TaskRecord.filter({ queueName: 'mail' }).first())?.id).to.equal(waiting)
      expect((await TaskRecord.filter({ queueName: 'mail' }).orderBy('enqueuedAt').first())?.id).to.equal(good)
      expect(await TaskRecord.filter({ queueName: 'nowhere' }).first()).to.equal(null)
    })

    it('answers records that can act', async () => {
      for await (const record of TaskRecord.filter({ status: 'FAILED' })) await record.retry()
      expect(await TaskRecord.countBy('status')).to.include({ READY: 4, FAILED: 0 })
    })

    it('retries what failed, and nothing else', async () => {
      expect(await TaskRecord.filter().retry()).to.equal(1)
      expect(await TaskRecord.filter().retry()).to.equal(0)
      expect((await TaskRecord.find(bad)).status).to.equal('READY')
    })

    it('deletes what matches and does not run', async () => {
      expect(await TaskRecord.filter({ queueName: ['mail', 'slow'] }).delete()).to.equal(3)
      expect(await matching({})).to.deep.equal([high, january, running])
      expect(await executor.getQueueStats({ queueName: 'mail' })).to.include({ pendingCount: 0 })
    })

    for (const [given, meant] of [
      ['state', 'status'],
      ['queue', 'queueName'],
      ['queue_name', 'queueName'],
      ['prio', 'priority'],
      ['enqueuedSince', undefined],
      ['taskName', undefined],
      ['enqueued_before', 'enqueuedBefore'],
      ['finishedAt', 'finishedAfter'],
    ] as const) {
      it(`refuses the key ${given}${meant === undefined ? '' : ` and asks for ${meant}`}`, async () => {
        const error = await caught(() => TaskRecord.filter({ [given]: 'x' }))
        expect(error).to.be.instanceOf(TaskOptionError).with.property('field', `filter.${given}`)
        expect((error as Error).message).to.contain(
          meant === undefined ? 'known are: status' : `did you mean "${meant}"?`,
        )
      })
    }

    it('refuses what a key may not be, at once and by its field', async () => {
      const bad: readonly (readonly [string, readonly unknown[]])[] = [
        ['status', ['ready', 'DONE', 1, null, ['READY', 'x'], new Array(2), new Array(1_001).fill('READY')]],
        ['queueName', ['a b', '', '*', null, ['mail', 'a:b']]],
        ['name', ['a b', 5, [null]]],
        ['priority', ['5', 1.5, 101, NaN, [0, '1'], null]],
        ['enqueuedAfter', [0, '2030-01-01', new Date(NaN), null]],
        ['finishedBefore', [Date.now(), 'yesterday', {}]],
        ['search', [5, 'x'.repeat(201), null, ['x']]],
      ]
      for (const [field, values] of bad) {
        for (const value of values) {
          const error = await caught(() => TaskRecord.filter({ [field]: value }))
          expect(error, `${field}: ${String(value)}`).to.be.instanceOf(TaskOptionError)
          expect((error as TaskOptionError).field).to.match(new RegExp(`^filter\\.${field}`))
        }
      }
    })
  })

  describe('order and limit', () => {
    it('lists the newest first, unless told otherwise', async () => {
      const oldestFirst = await enqueueApart(4)
      expect(await TaskRecord.filter().ids()).to.deep.equal(oldestFirst.toReversed())
      expect(await TaskRecord.filter().orderBy('-enqueuedAt').ids()).to.deep.equal(oldestFirst.toReversed())
      expect(await TaskRecord.filter().orderBy('enqueuedAt').ids()).to.deep.equal(oldestFirst)
    })

    it('merges queues, tasks and states into one order', async () => {
      const order: string[] = []
      for (const name of ['a', 'b', 'c', 'a', 'b', 'c']) {
        order.push(...(await enqueueApart(1, mail.using({ queueName: name }))))
        order.push(...(await enqueueApart(1, report.using({ queueName: name }))))
      }
      for (const id of order.filter((_, index) => index % 3 === 0)) await finish(id)
      expect(await TaskRecord.filter().orderBy('enqueuedAt').ids()).to.deep.equal(order)
      expect(ids(await TaskRecord.filter().limit(5))).to.deep.equal(order.toReversed().slice(0, 5))
    })

    it('lists those of one moment in the order of their ids', async () => {
      const many = ids(await mail.enqueueMany(Array.from({ length: 30 }, (_, n) => [`${n}`])))
      expect(await TaskRecord.filter().orderBy('enqueuedAt').ids()).to.deep.equal(many.toSorted())
    })

    it('answers no more than the limit, which the count knows too', async () => {
      const oldestFirst = await enqueueApart(4)
      const query = TaskRecord.filter().limit(3)
      expect(ids(await query)).to.deep.equal(oldestFirst.toReversed().slice(0, 3))
      expect(await query.count()).to.equal(3)
      expect(await query.filter({ search: 'mail' }).count()).to.equal(3)
      expect(await query.limit(9).count()).to.equal(4)
    })

    it('deletes and retries no more than the limit, beginning at the end that the order says', async () => {
      const oldestFirst = await enqueueApart(4)
      expect(await TaskRecord.filter().orderBy('enqueuedAt').limit(1).delete()).to.equal(1)
      expect(await TaskRecord.filter().limit(1).delete()).to.equal(1)
      expect(await TaskRecord.filter().orderBy('enqueuedAt').ids()).to.deep.equal(oldestFirst.slice(1, 3))
    })

    it('refuses an order and a limit that are none', async () => {
      expect(await caught(() => TaskRecord.filter().orderBy('enqueued_at' as RecordOrder)))
        .to.be.instanceOf(TaskOptionError)
        .with.property('message')
        .that.contains('did you mean "enqueuedAt"?')
      expect(await caught(() => TaskRecord.filter().orderBy('name' as RecordOrder))).to.be.instanceOf(TaskOptionError)
      for (const limit of [0, -1, 1.5, NaN, Infinity, 10_001, '5', null]) {
        expect(await caught(() => TaskRecord.filter().limit(limit as number)), String(limit)).to.be.instanceOf(
          TaskOptionError,
        )
      }
    })

    it('can be awaited more than once, each time anew', async () => {
      const query = TaskRecord.filter()
      await enqueueApart(1)
      expect(await query).to.have.lengthOf(1)
      await enqueueApart(1)
      expect(await query).to.have.lengthOf(2)
    })
  })

  describe('page', () => {
    /** Every page of a query, by ids. `between` runs after each. */
    async function pages<Item extends { id: string }>(
      query: RecordQuery<Item>,
      size: number,
      between: () => Promise<unknown> = () => Promise.resolve(),
    ): Promise<string[][]> {
      const found: string[][] = []
      let after: string | null = null
      do {
        const page: Awaited<ReturnType<typeof query.page>> = await query.page({ size, after })
        found.push(ids(page.records))
        after = page.next
        await between()
      } while (after !== null)
      return found
    }

    it('answers records, the exact total, and where the next one starts', async () => {
      const newestFirst = (await enqueueApart(5)).reverse()
      const first = await TaskRecord.filter().page({ size: 2 })
      expect(ids(first.records)).to.deep.equal(newestFirst.slice(0, 2))
      expect(first).to.include({ total: 5 })
      expect(first.damaged).to.deep.equal([])
      expect(first.next).to.match(/^[0-9a-z]+\.[0-9a-f-]+$/)
      const second = await TaskRecord.filter().page({ size: 2, after: first.next })
      expect(ids(second.records)).to.deep.equal(newestFirst.slice(2, 4))
      const third = await TaskRecord.filter().page({ size: 2, after: second.next })
      expect(ids(third.records)).to.deep.equal(newestFirst.slice(4))
      expect(third).to.include({ total: 5, next: null })
    })

    it('has no next page when the records end with the page', async () => {
      await enqueueApart(4)
      expect((await pages(TaskRecord.filter(), 2)).map((page) => page.length)).to.deep.equal([2, 2])
      expect((await pages(TaskRecord.filter({ search: 'mail' }), 2)).map((page) => page.length)).to.deep.equal([2, 2])
    })

    it('has one empty page of nothing', async () => {
      const empty = { records: [], total: 0, next: null, damaged: [], looked: 0 }
      expect(await TaskRecord.filter().page()).to.deep.equal(empty)
      expect(await TaskRecord.filter({ status: [] }).page()).to.deep.equal(empty)
    })

    for (const order of ['-enqueuedAt', 'enqueuedAt'] as const) {
      for (const filter of [{}, { queueName: ['mail', 'reports'] }, { search: 'e' }] as const) {
        it(`shows each record once by ${order} with ${JSON.stringify(filter)}, those of one moment too`, async () => {
          const all = [
            ...(await mail.enqueueMany(Array.from({ length: 23 }, (_, n) => [`${n}`]))),
            ...(await report.enqueueMany(Array.from({ length: 19 }, (_, n) => [`${n}`]))),
            ...(await mail.enqueueMany(Array.from({ length: 8 }, (_, n) => [`${n}`]))),
          ]
          for (const { id } of all.slice(15, 25)) await finish(id)
          const found = await pages(TaskRecord.filter(filter).orderBy(order), 7)
          expect(found.map((page) => page.length)).to.deep.equal([7, 7, 7, 7, 7, 7, 7, 1])
          expect(found.flat().toSorted()).to.deep.equal(ids(all).toSorted())
        })
      }
    }

    it('shows what was there once and in its order, while records arrive and leave', async () => {
      const newestFirst = (await enqueueApart(12)).reverse()
      // Arriving ones stand before the first page, leaving ones behind and before the place in hand.
      const leaving = [newestFirst[0], newestFirst[9], newestFirst[1], newestFirst[11]]
      const found = await pages(TaskRecord.filter(), 3, async () => {
        await enqueueApart(2)
        const id = leaving.shift()
        if (id !== undefined) await (await TaskRecord.find(id)).delete()
      })
      const gone = [newestFirst[9]]
      const seen = found.flat()
      expect(seen).to.deep.equal(newestFirst.filter((id) => !gone.includes(id)))
    })

    it('goes on where it was, also when the record at that place is gone', async () => {
      const newestFirst = (await enqueueApart(6)).reverse()
      const { next } = await TaskRecord.filter().page({ size: 3 })
      await (await TaskRecord.find(newestFirst[2] ?? '')).delete()
      expect(ids((await TaskRecord.filter().page({ size: 3, after: next })).records)).to.deep.equal(
        newestFirst.slice(3),
      )
    })

    it('follows a record that changes its state, which changes nothing in the order', async () => {
      const newestFirst = (await enqueueApart(9)).reverse()
      const moving = [...newestFirst]
      const found = await pages(TaskRecord.filter(), 2, async () => {
        const id = moving.pop()
        if (id !== undefined) await finish(id)
      })
      expect(found.flat()).to.deep.equal(newestFirst)
    })

    it('says null for a total that only a look at each record could tell', async () => {
      await enqueueApart(2)
      expect(await TaskRecord.filter({ search: 'mail' }).page()).to.include({ total: null, looked: 2 })
      expect(await TaskRecord.filter({ priority: 0 }).page()).to.include({ total: null })
      expect(await TaskRecord.filter({ finishedAfter: new Date() }).page()).to.include({ total: null })
      expect(await TaskRecord.filter({ enqueuedAfter: new Date(0) }).page()).to.include({ total: 2 })
    })

    it('looks at no more records than it may, says so, and goes on from there', async () => {
      const [needle] = ids(await report.enqueueMany([['needle']]))
      const { enqueuedAt } = await TaskRecord.find(needle ?? '')
      await eventually(() => Date.now() > enqueuedAt.getTime() + 1)
      await mail.enqueueMany(Array.from({ length: 25 }, () => ['hay']))
      const query = TaskRecord.filter({ search: 'needle' })
      const first = await query.page({ lookLimit: 10 })
      expect(first).to.include({ looked: 10, total: null })
      expect(first.records).to.deep.equal([])
      expect(first.next).to.be.a('string')
      const second = await query.page({ lookLimit: 10, after: first.next })
      expect(second.records).to.deep.equal([])
      const third = await query.page({ lookLimit: 10, after: second.next })
      expect(ids(third.records)).to.deep.equal([needle])
      expect(third).to.include({ looked: 6, next: null })
    })

    it('refuses a cursor that is none', async () => {
      await enqueueApart(1)
      const forged = [
        '',
        'x',
        '.',
        '1',
        `1.`,
        `.${NOWHERE}`,
        `-1.${NOWHERE}`,
        `1.5.${NOWHERE}`,
        `zzzzzzzzzzz.${NOWHERE}`,
      ]
      forged.push(`1 .${NOWHERE}`, `A.${NOWHERE}`, `1.${NOWHERE}\n`, `1.a:b`, `1.*`, '\0', 'a'.repeat(1_000_000))
      for (const after of forged) {
        const error = await caught(TaskRecord.filter().page({ after }))
        expect(error, after.slice(0, 60)).to.be.instanceOf(TaskOptionError).with.property('field', 'page.after')
        expect((error as Error).message)
          .to.contain('start again without it')
          .and.to.have.length.below(600)
      }
      for (const after of [5, {}, [], true]) {
        expect(await caught(TaskRecord.filter().page({ after: after as unknown as string }))).to.be.instanceOf(
          TaskOptionError,
        )
      }
    })

    it('takes a forged cursor of the right form for the place that it names, and no more', async () => {
      const [first] = await enqueueApart(1)
      expect(ids((await TaskRecord.filter().page({ after: `zzzzzzzz.${NOWHERE}` })).records)).to.deep.equal([first])
      expect((await TaskRecord.filter().page({ after: `0.${NOWHERE}` })).records).to.deep.equal([])
      expect((await TaskRecord.filter().page({ after: `0.${'f'.repeat(64)}` })).records).to.deep.equal([])
    })

    it('takes a cursor of another filter for a place', async () => {
      const oldestFirst = await enqueueApart(4)
      await finish(oldestFirst[0] ?? '')
      const { next } = await TaskRecord.filter({ status: 'READY' }).page({ size: 2 })
      expect(ids((await TaskRecord.filter({ status: 'SUCCESSFUL' }).page({ after: next })).records)).to.deep.equal([
        oldestFirst[0],
      ])
    })

    it('refuses a size that is none, and options that it does not know', async () => {
      for (const size of [0, -1, 1.5, NaN, 1_001, '10', null]) {
        expect(await caught(TaskRecord.filter().page({ size: size as number })), String(size)).to.be.instanceOf(
          TaskOptionError,
        )
      }
      const error = await caught(TaskRecord.filter().page({ cursor: 'x' } as object))
      expect(error).to.be.instanceOf(TaskOptionError).with.property('field', 'page.cursor')
    })
  })

  describe('many records', () => {
    it('iterates over all of them, a page at a time', async () => {
      await mail.enqueueMany(Array.from({ length: 1_300 }, (_, n) => [`${n}`]))
      const find = sinon.spy(subject.backend.storage, 'find')
      const seen = new Set<string>()
      for await (const { id } of TaskRecord.filter()) seen.add(id)
      expect(seen.size).to.equal(1_300)
      expect(Math.max(...find.args.map(([asked]) => asked.length))).to.be.at.most(502)
    })

    it('may be left in the middle', async () => {
      await mail.enqueueMany(Array.from({ length: 600 }, (_, n) => [`${n}`]))
      let count = 0
      for await (const record of TaskRecord.filter()) {
        expect(record.status).to.equal('READY')
        count += 1
        if (count === 3) break
      }
      expect(count).to.equal(3)
    })

    it('iterates over what it deletes', async () => {
      await mail.enqueueMany(Array.from({ length: 1_100 }, (_, n) => [`${n}`]))
      for await (const record of TaskRecord.filter().orderBy('enqueuedAt')) await record.delete()
      expect(await TaskRecord.filter().count()).to.equal(0)
    })

    it('deletes more than a batch', async () => {
      await mail.enqueueMany(Array.from({ length: 1_234 }, (_, n) => [`${n}`]))
      await report.enqueueMany([['kept']])
      expect(await TaskRecord.filter({ name: 'mail.send' }).delete()).to.equal(1_234)
      expect(await TaskRecord.filter().count()).to.equal(1)
    })

    // These bounds lie above the storage: the quicker one will do.
    if (subject.name === 'memory') {
      it('refuses to bring more than it may at once, and says how to get them', async () => {
        await mail.enqueueMany(Array.from({ length: LIST_LIMIT + 1 }, () => ['x']))
        for (const attempt of [async () => await TaskRecord.filter(), () => TaskRecord.filter().ids()]) {
          const error = await caught(attempt)
          expect(error).to.be.instanceOf(TaskQueryLimitError).with.property('looked', LIST_LIMIT)
          expect((error as Error).message).to.contain('iterate')
        }
        expect(await TaskRecord.filter().limit(LIST_LIMIT).ids()).to.have.lengthOf(LIST_LIMIT)
        expect(await TaskRecord.filter().count()).to.equal(LIST_LIMIT + 1)
      }).timeout(20_000)

      it('refuses a count that would look at more records than it may, and counts up to there', async () => {
        await mail.enqueueMany(Array.from({ length: LOOK_LIMIT }, () => ['x']))
        expect(await TaskRecord.filter({ search: 'mail' }).count()).to.equal(LOOK_LIMIT)
        await mail.enqueueMany(Array.from({ length: 600 }, () => ['x']))
        const error = await caught(TaskRecord.filter({ search: 'mail', priority: 0 }).count())
        expect(error).to.be.instanceOf(TaskQueryLimitError)
        expect(error).to.include({ code: 'ERR_TASKS_QUERY_LIMIT' })
        expect((error as TaskQueryLimitError).looked).to.be.within(LOOK_LIMIT, LOOK_LIMIT + 600)
        expect((error as Error).message).to.contain('priority, search')
      }).timeout(20_000)
    }
  })

  if (subject.name === 'redis') {
    it('asks the same number of commands for a page and a count, whatever the number of records', async () => {
      const { client } = subject.raw
      const commands = async (): Promise<number> => {
        const stats = await client.info('commandstats')
        return [...stats.matchAll(/cmdstat_(\S+?):calls=(\d+)/g)]
          .filter(([, name]) => name !== 'info')
          .reduce((sum, [, , calls]) => sum + Number(calls), 0)
      }
      const cost = async (): Promise<number> => {
        const before = await commands()
        await TaskRecord.filter().page()
        await TaskRecord.filter({ status: 'READY' }).page({ size: 20 })
        await TaskRecord.filter().count()
        await TaskRecord.countBy('status')
        return (await commands()) - before
      }
      await mail.enqueueMany(Array.from({ length: 1_000 }, () => ['x']))
      const few = await cost()
      await mail.enqueueMany(Array.from({ length: 9_000 }, () => ['x']))
      expect(await cost()).to.equal(few)
    }).timeout(20_000)

    describe('damaged records', () => {
      /** Five records, newest first; the second and the fourth cannot be read. */
      const damaged = async (): Promise<[all: string[], readable: string[], broken: string[]]> => {
        const { client, keys } = subject.raw
        const all = (await enqueueApart(5)).reverse()
        const [, wrongType = '', , badStatus = ''] = all
        await client.del(keys.record(wrongType))
        await client.set(keys.record(wrongType), 'no record')
        await client.hset(keys.record(badStatus), 'status', 'PAUSED')
        const broken = [wrongType, badStatus]
        return [all, all.filter((id) => !broken.includes(id)), broken]
      }

      it('are named on their page, beside the others', async () => {
        const [, readable, broken] = await damaged()
        const page = await TaskRecord.filter().page()
        expect(ids(page.records)).to.deep.equal(readable)
        expect(ids(page.damaged)).to.deep.equal(broken)
        expect(page.damaged[0]?.damage).to.contain('not a hash')
        expect(page.damaged[1]?.damage).to.contain('status is "PAUSED"')
        expect(page.next).to.equal(null)
      })

      it('take no place from the others, and do not end the pages', async () => {
        const [, readable] = await damaged()
        const first = await TaskRecord.filter().page({ size: 2 })
        expect(ids(first.records)).to.deep.equal(readable.slice(0, 2))
        expect(first.damaged).to.have.lengthOf(1)
        const second = await TaskRecord.filter().page({ size: 2, after: first.next })
        expect(ids(second.records)).to.deep.equal(readable.slice(2))
        expect(second.damaged).to.have.lengthOf(1)
      })

      it('are logged and passed over by a list, an iteration and a bulk delete', async () => {
        const [, readable, broken] = await damaged()
        expect(await TaskRecord.filter().ids()).to.deep.equal(readable)
        const errors = subject.logged.filter(({ level }) => level === 'error')
        expect(errors.map(({ facts }) => facts['id'])).to.deep.equal(broken)
        const seen: string[] = []
        for await (const { id } of TaskRecord.filter()) seen.push(id)
        expect(seen).to.deep.equal(readable)
        expect(await TaskRecord.filter().delete()).to.equal(3)
        expect(await TaskRecord.filter().retry()).to.equal(0)
        const [rest] = await Promise.all([TaskRecord.filter().page()])
        expect(ids(rest.damaged)).to.deep.equal(broken)
      })

      for (const [field, value] of [
        ['priority', 'high'],
        ['priority', '1e3'],
        ['enqueuedAt', '-1'],
        ['attempts', '1.5'],
        ['runAfter', 'NaN'],
        ['finishedAt', '9007199254740993000'],
        ['args', ''],
      ] as const) {
        it(`are told by the field: ${field} "${value}"`, async () => {
          const [id = ''] = await enqueueApart(1)
          await subject.raw.client.hset(subject.raw.keys.record(id), field, value)
          const [found] = (await TaskRecord.filter().page()).damaged
          expect(found).to.include({ id })
          expect(found?.damage).to.contain(field)
        })
      }

      it('are no error where an index row has no record at all', async () => {
        const [first = '', second = ''] = await enqueueApart(2)
        await subject.raw.client.del(subject.raw.keys.record(first))
        const page = await TaskRecord.filter().page()
        expect(ids(page.records)).to.deep.equal([second])
        expect(page.damaged).to.deep.equal([])
      })

      it('are no error where an index key is of another type', async () => {
        const [id = ''] = await enqueueApart(1)
        const { client, keys } = subject.raw
        await client.set(keys.cell({ queueName: 'mail', name: 'mail.send', status: 'FAILED' }), 'x')
        const page = await TaskRecord.filter().page()
        expect(ids(page.records)).to.deep.equal([id])
        expect(await TaskRecord.countBy('status')).to.include({ READY: 1, FAILED: 0 })
      })
    })
  }
})
