/** take.lua on raw keys: what is read, in which order, what begins, and what each entry that cannot begin comes to. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  NOW,
  ODD_NUMBERS,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'

const UNTIL = String(START_MS + 1_000)
const FENCE = String(START_MS * 1000)

describe('take.lua', () => {
  it(
    'begins an attempt: record, cells, lease and the pending row of its consumer',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', args: '["x"]', priority: -3 })
      const { entryId = '' } = await recordOf(bench)
      const [consumer, call, leaseMs, workerId] = aClaim()
      const { answer, changes } = await changesOf(bench, () =>
        take(bench, 1, { claim: [consumer, call, leaseMs, workerId] }),
      )
      const token = `1:${call}`
      expect(answer).to.deep.equal([
        // Of a first attempt no more is said: the rest follows from the fence and the call.
        ['BEGUN', 'a', entryId, token, FENCE, '1', UNTIL, 'mail', 'send', '-3', NOW, '["x"]', ''],
      ])
      expect(changes).to.deep.equal({
        'task:a status': 'READY -> RUNNING',
        'task:a leaseToken': `-> ${token}`,
        'task:a leaseUntil': `-> ${UNTIL}`,
        'task:a fence': `-> ${FENCE}`,
        'task:a workerIds': '-> first',
        'cell:mail:send:READY a': `${NOW} ->`,
        'cell:mail:send:RUNNING a': `-> ${NOW}`,
        'leases a': `-> ${UNTIL}`,
        [`stream:mail:low pending ${entryId}`]: `-> ${consumer}`,
      })
    }),
  )

  it(
    'goes on with what an earlier attempt left: workers, errors, first start, and a fence that grows though the clock stands',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await settle(bench, { ...first, outcome: 'READY' })
      const [row] = await take(bench, 1, { claim: aClaim('second') })
      const second = begunOf(row)
      expect(second).to.include({
        attempts: '2',
        workerIds: 'first second',
        startedAt: NOW,
        fence: String(START_MS * 1000 + 1),
      })
      expect(second.leaseToken).to.match(/^2:second-holder\./)
      expect(second.errors).to.equal(`{"at":${NOW},"name":"Error","message":"no","stack":""}`)
      await expectWhole(bench)
    }),
  )

  it(
    'writes a fence of sixteen digits without rounding it',
    onBench(async (bench) => {
      await bench.redis.set(`${bench.keys.root}clock`, '1767225600123457')
      expect(await beginOne(bench)).to.include({ fence: '1767225600123457', leaseUntil: '1767225601123' })
    }),
  )

  it(
    'empties the streams in the order given and reads no more than asked for, whatever the number of streams',
    onBench(async (bench) => {
      const of = (priority: number, id: string): { id: string; priority: number } => ({ id, priority })
      await enqueue(bench, of(-1, 'l1'), of(0, 'n1'), of(0, 'n2'), of(0, 'n3'), of(1, 'h1'), of(1, 'h2'))
      const begun = async (count: number): Promise<string[]> => (await take(bench, count)).map(([, id = '']) => id)
      expect(await begun(3)).to.deep.equal(['h1', 'h2', 'n1'])
      expect(await begun(1)).to.deep.equal(['n2'])
      expect(await begun(9)).to.deep.equal(['n3', 'l1'])
      expect(await begun(9)).to.deep.equal([])
    }),
  )

  it(
    'reads nothing when asked for nothing: COUNT 0 would mean all',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await expectUnchanged(bench, () => take(bench, 0), [])
    }),
  )

  it(
    'takes further entries when sent again; the first stay begun under their tokens',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      const claim = aClaim()
      const rows = [...(await take(bench, 1, { claim })), ...(await take(bench, 1, { claim }))].map(begunOf)
      expect(rows.map(({ id }) => id)).to.deep.equal(['a', 'b'])
      expect(await settle(bench, ...rows)).to.deep.equal(['SETTLED', 'SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'judges each entry of a batch by itself: what is held, dropped or broken does not keep the others',
    onBench(async (bench) => {
      const { redis, keys } = bench
      const ids = ['good', 'held', 'gone', 'moved', 'done', 'text', 'nameless', 'argless', 'odd', 'last']
      await enqueue(bench, ...ids.map((id) => ({ id })))
      // Given one that somebody runs by id, and some whose record does not name its entry any more
      await bench.run('run-by-id', ...aClaim('web'), 'held', '')
      await redis.del(keys.record('gone'))
      await redis.hset(keys.record('moved'), 'entryId', '1-1')
      await redis.hset(keys.record('done'), { status: 'SUCCESSFUL', entryId: '' })
      // And some that cannot be read
      await redis.del(keys.record('text'))
      await spoil(bench, keys.record('text'))
      await redis.hdel(keys.record('nameless'), 'name')
      await redis.hdel(keys.record('argless'), 'args')
      await redis.hset(keys.record('odd'), 'status', 'SLEEPING')
      const before = await bench.keyspace()
      const answer = await take(bench, 20)
      expect(answer.map(([word, id]) => [word, id])).to.deep.equal([
        // Of one row: first attempts of a task stand together.
        ['BEGUN', 'good'],
        ['BEGUN', 'last'],
        ['HELD', 'held'],
        ['DROPPED', 'gone'],
        ['DROPPED', 'moved'],
        ['DROPPED', 'done'],
        ['BROKEN', 'text'],
        ['BROKEN', 'nameless'],
        ['BROKEN', 'argless'],
        ['BROKEN', 'odd'],
      ])
      const after = await bench.keyspace()
      const stream = after.streams['stream:mail:normal']
      // What no record names is gone; what is held or broken waits as it is
      expect(Object.values(stream?.entries ?? {})).to.deep.equal([
        'good',
        'held',
        'text',
        'nameless',
        'argless',
        'odd',
        'last',
      ])
      expect(stream?.pending).to.have.lengthOf(7)
      for (const id of ['held', 'moved', 'done', 'nameless', 'argless', 'odd']) {
        expect(after.hashes[`task:${id}`], id).to.deep.equal(before.hashes[`task:${id}`])
      }
    }),
  )

  it(
    'removes entries that were never ours',
    onBench(async (bench) => {
      await bench.run('ensure-queue', 'mail')
      await bench.redis.xadd(bench.stream(), '*', 'foreign', 'text', 'more', 'of it')
      expect(await take(bench, 9)).to.deep.equal([['DROPPED', 'text']])
      expect((await bench.keyspace()).streams['stream:mail:normal']).to.deep.equal({ entries: {}, pending: [] })
    }),
  )

  it(
    'names each stream without its group and takes from the others',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'h', priority: 1 })
      await bench.redis.xgroup('DESTROY', bench.stream('high'), bench.group)
      const streams = [...bench.streams('mail'), bench.stream('normal', 'unheard')]
      const rows = await take(bench, 9, { streams })
      expect(rows.map(([word, id]) => [word, id])).to.deep.equal([
        ['BEGUN', 'a'],
        ['NOGROUP', bench.stream('high')],
        ['NOGROUP', bench.stream('normal', 'unheard')],
      ])
      expect(await take(bench, 9, { streams })).to.deep.equal([
        ['NOGROUP', bench.stream('high')],
        ['NOGROUP', bench.stream('normal', 'unheard')],
      ])
    }),
  )

  it(
    'names a stream of a wrong type and takes from the others',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.del(bench.stream('high'))
      await spoil(bench, bench.stream('high'))
      const rows = await take(bench, 9)
      expect(rows.map(([word]) => word)).to.deep.equal(['BEGUN', 'INDEX'])
      expect(rows[1]?.[1]).to.contain('WRONGTYPE').and.to.contain(bench.stream('high'))
    }),
  )

  for (const index of ['cell:mail:send:READY', 'cell:mail:send:RUNNING', 'leases']) {
    it(
      `begins all the same when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        await enqueue(bench, { id: 'a' }, { id: 'b', name: 'other' })
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const rows = await take(bench, 9)
        expect(rows.map(([word]) => word)).to.deep.equal(['BEGUN', 'BEGUN', 'INDEX'])
        expect(rows[2]?.[1]).to.contain('WRONGTYPE')
        expect(await recordOf(bench, 'a')).to.include({ status: 'RUNNING' })
        expect((await bench.keyspace()).sortedSets['cell:mail:other:RUNNING']).to.deep.equal({ b: NOW })
        expect(await settle(bench, begunOf(rows[0]))).to.have.property('0', 'SETTLED')
      }),
    )
  }

  for (const field of ['attempts', 'fence', 'enqueuedAt', 'priority', 'crashes', 'handBacks', 'runAfter']) {
    it(
      `takes an odd number in ${field} for 0, and begins the others of the batch as ever`,
      onBench(async (bench) => {
        const ids = ODD_NUMBERS.map((_, index) => `odd${index}`)
        await enqueue(bench, ...ids.map((id) => ({ id })), { id: 'good' })
        for (const [index, id] of ids.entries()) {
          await bench.redis.hset(bench.keys.record(id), { attempts: '0', [field]: ODD_NUMBERS[index] ?? '' })
        }
        // A negative or infinite priority is a number, and picks another stream than the one the entry is in.
        const rows = await take(bench, 99)
        const begun = rows.filter(([word]) => word === 'BEGUN').map(begunOf)
        if (field === 'priority') expect(begun.length).to.be.greaterThan(1)
        else expect(rows.map(([word]) => word)).to.deep.equal([...ids, 'good'].map(() => 'BEGUN'))
        expect(begun.at(-1)).to.include({ id: 'good', attempts: '1', fence: FENCE })
        const { sortedSets } = await bench.keyspace()
        for (const { id, attempts, fence, leaseUntil } of begun) {
          expect([attempts, fence, leaseUntil], id).to.deep.equal(['1', FENCE, UNTIL])
          expect(sortedSets['cell:mail:send:RUNNING'], id).to.have.property(id)
          expect(sortedSets['leases'], id).to.have.property(id, UNTIL)
        }
        expect(await settle(bench, ...begun)).to.deep.equal(begun.map(() => 'SETTLED'))
        const finished = (await bench.keyspace()).sortedSets['cell:mail:send:SUCCESSFUL']
        expect(Object.keys(finished ?? {})).to.have.members(begun.map(({ id }) => id))
      }),
    )
  }

  it(
    'keeps the rows of many attempts in hand in a skip list, which a row more costs no walk, and no other row in it',
    onBench(async (bench) => {
      const { redis, keys } = bench
      const running = keys.cell({ queueName: 'mail', name: 'send', status: 'RUNNING' })
      const encodings = (): Promise<unknown[]> =>
        Promise.all([keys.leases, running].map((key) => redis.object('ENCODING', key)))
      await enqueue(bench, ...Array.from({ length: 31 }, (_, index) => ({ id: `r${index}` })))
      await take(bench, 15)
      for (const encoding of await encodings()) expect(encoding).to.be.oneOf(['listpack', 'ziplist'])
      await take(bench, 16)
      expect(await encodings()).to.deep.equal(['skiplist', 'skiplist'])
      const { sortedSets } = await bench.keyspace()
      const ids = Array.from({ length: 31 }, (_, index) => `r${index}`).toSorted()
      expect(Object.keys(sortedSets['leases'] ?? {}).toSorted()).to.deep.equal(ids)
      expect(Object.keys(sortedSets['cell:mail:send:RUNNING'] ?? {}).toSorted()).to.deep.equal(ids)
      await expectWhole(bench)
    }),
  )

  it(
    'begins each record once, however many consumers take at the same time',
    onBench(async (bench) => {
      await enqueue(bench, ...Array.from({ length: 100 }, (_, index) => ({ id: `r${index}` })))
      const takes = Array.from({ length: 30 }, (_, index) => take(bench, 5, { claim: aClaim(`w${index}`) }))
      const begun = (await Promise.all(takes)).flat().map(begunOf)
      expect(new Set(begun.map(({ id }) => id)).size).to.equal(100)
      expect(begun).to.have.lengthOf(100)
      await expectWhole(bench)
    }),
  )
})
