/** reclaim.lua on raw keys: what dead workers left, found by its lease and by its delivery, and what is mended on the way. */
import { expect } from 'chai'
import {
  LEASE_FIELDS,
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expandFirsts,
  expectUnchanged,
  expectWhole,
  LEASE_MS,
  ODD_NUMBERS,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { Rows, ScriptBench, Words } from './support.ts'

const CRASHED = '{"name":"TaskAbandonedError","message":"crashed"}'

interface ReclaimOptions {
  readonly claim?: ReturnType<typeof aClaim>
  readonly count?: number
  readonly crashLimit?: number
  readonly idleMs?: number
  readonly stream?: string
  readonly cursor?: string
}

async function reclaim(
  bench: ScriptBench,
  {
    claim = aClaim('rescuer'),
    count = 100,
    crashLimit = 3,
    idleMs = LEASE_MS,
    stream,
    cursor = '-',
  }: ReclaimOptions = {},
): Promise<{ next: string; rows: Rows }> {
  const args = [...claim, count, crashLimit, idleMs, CRASHED, stream ?? bench.stream(), cursor]
  const [next, ...rows] = (await bench.run('reclaim', ...args)) as [string, ...Words[]]
  return { next, rows: expandFirsts(rows) }
}

const words = (rows: Rows): string[] => rows.map(([word = '', id = '']) => `${word} ${id}`)

/** Delivers entries without beginning them, to a consumer that dies. */
async function deliver(bench: ScriptBench, count: number): Promise<void> {
  await bench.redis.xreadgroup('GROUP', bench.group, 'dead', 'COUNT', count, 'STREAMS', bench.stream(), '>')
}

describe('reclaim.lua', () => {
  it(
    'takes an attempt over whose lease ran out: a new token, a higher fence, one crash more, the row of the delivery',
    onBench(async (bench) => {
      const dead = await beginOne(bench)
      await bench.elapse(LEASE_MS)
      const claim = aClaim('rescuer')
      const { answer, changes } = await changesOf(bench, () => reclaim(bench, { claim }))
      const nowMs = START_MS + LEASE_MS
      expect(answer.next).to.equal('-')
      expect(words(answer.rows)).to.deep.equal(['BEGUN a'])
      expect(begunOf(answer.rows[0])).to.include({
        attempts: '2',
        crashes: '1',
        leaseToken: `2:${claim[1]}`,
        workerIds: 'first rescuer',
      })
      expect(changes).to.deep.equal({
        'task:a leaseToken': `${dead.leaseToken} -> 2:${claim[1]}`,
        'task:a leaseUntil': `${nowMs} -> ${nowMs + LEASE_MS}`,
        'task:a fence': `${START_MS * 1000} -> ${nowMs * 1000}`,
        'task:a attempts': '-> 2',
        'task:a crashes': '-> 1',
        'task:a workerIds': 'first -> first rescuer',
        'task:a startedAt': `-> ${START_MS}`,
        'task:a lastAttemptedAt': `-> ${nowMs}`,
        'leases a': `${nowMs} -> ${nowMs + LEASE_MS}`,
        [`stream:mail:normal pending ${dead.entryId}`]: 'first.holder -> rescuer.holder',
      })
      expect(await settle(bench, dead)).to.deep.equal(['LOST'])
      await expectWhole(bench)
    }),
  )

  it(
    'leaves a live lease alone, however long its delivery has been idle',
    onBench(async (bench) => {
      await beginOne(bench)
      await bench.elapse(LEASE_MS - 1)
      await expectUnchanged(bench, () => reclaim(bench, { idleMs: 0 }), { next: '-', rows: [] })
    }),
  )

  it(
    'leaves the leases of other streams to the calls for those: a worker of some queues begins nothing of the others',
    onBench(async (bench) => {
      await beginOne(bench, { id: 'high', priority: 1 })
      await beginOne(bench, { id: 'other', queueName: 'other' })
      await bench.elapse(LEASE_MS, bench.streams('mail', 'other'))
      expect((await reclaim(bench)).rows).to.deep.equal([])
      expect((await reclaim(bench, { crashLimit: 0 })).rows).to.deep.equal([])
      expect(words((await reclaim(bench, { stream: bench.stream('high') })).rows)).to.deep.equal(['BEGUN high'])
      expect(words((await reclaim(bench, { stream: bench.stream('normal', 'other') })).rows)).to.deep.equal([
        'BEGUN other',
      ])
      await expectWhole(bench)
    }),
  )

  it(
    'puts the lost lease row of a live attempt back',
    onBench(async (bench) => {
      await beginOne(bench)
      await bench.redis.del(bench.keys.leases)
      const { answer, changes } = await changesOf(bench, () => reclaim(bench, { idleMs: 0 }))
      expect(answer.rows).to.deep.equal([])
      expect(changes).to.deep.equal({ 'leases a': `-> ${START_MS + LEASE_MS}` })
    }),
  )

  it(
    'finds an attempt by its idle delivery when leases is lost, but not before it is idle long enough',
    onBench(async (bench) => {
      await beginOne(bench)
      await bench.redis.del(bench.keys.leases)
      await bench.elapse(LEASE_MS)
      expect((await reclaim(bench, { idleMs: LEASE_MS + 5_000 })).rows).to.deep.equal([])
      expect(words((await reclaim(bench)).rows)).to.deep.equal(['BEGUN a'])
      await expectWhole(bench)
    }),
  )

  it(
    'begins an idle delivery that was never begun, without counting a crash',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await deliver(bench, 1)
      await bench.elapse(LEASE_MS)
      const { rows } = await reclaim(bench)
      expect(begunOf(rows[0])).to.include({ id: 'a', attempts: '1', crashes: '0' })
      expect(await recordOf(bench)).to.include({ status: 'RUNNING', workerIds: 'rescuer' })
      expect((await bench.keyspace()).streams['stream:mail:normal']?.pending).to.deep.equal([
        { entryId: begunOf(rows[0]).entryId, consumer: 'rescuer.holder' },
      ])
      await expectWhole(bench)
    }),
  )

  it(
    'ends a record as FAILED that crashed once too often, counts it and tells those who wait',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await bench.elapse(LEASE_MS)
      const second = begunOf((await reclaim(bench, { crashLimit: 1 })).rows[0])
      expect(second.crashes).to.equal('1')
      await bench.run('renew', 'rescuer.holder', 0, '1', 'a', second.leaseToken)
      await bench.run('watch', 'a')
      await bench.elapse(LEASE_MS)
      const listener = bench.redis.duplicate()
      try {
        const heard = new Promise<string>((resolve) =>
          listener.on('message', (_channel: string, text: string) => resolve(text)),
        )
        await listener.subscribe(bench.keys.finished)
        expect((await reclaim(bench, { crashLimit: 1 })).rows).to.deep.equal([['CRASHED', 'a']])
        expect(await heard).to.equal('a')
      } finally {
        listener.disconnect()
      }
      const nowMs = START_MS + 2 * LEASE_MS
      expect(await recordOf(bench)).to.not.have.any.keys(...LEASE_FIELDS)
      expect(await recordOf(bench)).to.include({
        status: 'FAILED',
        crashes: '2',
        attempts: '2',
        finishedAt: String(nowMs),
        errors: `{"at":${nowMs},"attempt":2,"name":"TaskAbandonedError","message":"crashed"}`,
      })
      const stats = (await bench.keyspace()).hashes[`stats:${Math.floor(nowMs / 60_000)}`]
      expect(stats).to.deep.equal({ 'mail:FAILED:10': '1' })
      expect(await settle(bench, first, second)).to.deep.equal(['LOST', 'LOST'])
      await expectWhole(bench)
    }),
  )

  it(
    'begins no more than there are free slots, but ends what crashed too often all the same',
    onBench(async (bench) => {
      await enqueue(bench, ...['a', 'b', 'c', 'd'].map((id) => ({ id })))
      await take(bench, 4)
      await bench.redis.hset(bench.keys.record('c'), { crashes: '3', attempts: '4', workerIds: 'w w w w' })
      await bench.elapse(LEASE_MS)
      expect(words((await reclaim(bench, { count: 1 })).rows)).to.deep.equal(['BEGUN a', 'CRASHED c'])
      expect(words((await reclaim(bench, { count: 0 })).rows)).to.deep.equal([])
      expect(words((await reclaim(bench)).rows)).to.deep.equal(['BEGUN b', 'BEGUN d'])
      await expectWhole(bench)
    }),
  )

  it(
    'takes further ones when sent again; the first are begun',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      await take(bench, 2)
      await bench.elapse(LEASE_MS)
      const claim = aClaim('rescuer')
      expect(words((await reclaim(bench, { claim, count: 1 })).rows)).to.deep.equal(['BEGUN a'])
      expect(words((await reclaim(bench, { claim, count: 1 })).rows)).to.deep.equal(['BEGUN b'])
      expect(words((await reclaim(bench, { claim, count: 1 })).rows)).to.deep.equal([])
      await expectWhole(bench)
    }),
  )

  it(
    'hands each record to one of many who reclaim at the same time',
    onBench(async (bench) => {
      await enqueue(bench, ...Array.from({ length: 20 }, (_, index) => ({ id: `r${index}` })))
      await take(bench, 20)
      await bench.elapse(LEASE_MS)
      const claims = Array.from({ length: 8 }, (_, index) => aClaim(`w${index}`))
      const answers = await Promise.all(claims.map((claim) => reclaim(bench, { claim, count: 5 })))
      const ids = answers.flatMap(({ rows }) => rows.map(([, id]) => id))
      expect(ids).to.have.lengthOf(20)
      expect(new Set(ids).size).to.equal(20)
      await expectWhole(bench)
    }),
  )

  it(
    'gives a running record without its entry a new one',
    onBench(async (bench) => {
      const dead = await beginOne(bench)
      await bench.redis.xdel(bench.stream(), dead.entryId)
      await bench.elapse(LEASE_MS)
      const begun = begunOf((await reclaim(bench)).rows[0])
      expect(begun.entryId).not.to.equal(dead.entryId)
      expect(await recordOf(bench)).to.include({ entryId: begun.entryId })
      await expectWhole(bench)
      expect(await settle(bench, begun)).to.deep.equal(['SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'takes over what runs by id with its entry undelivered, and leaves that entry where it is',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.run('run-by-id', ...aClaim('web'), 'a', '')
      await bench.elapse(LEASE_MS)
      const begun = begunOf((await reclaim(bench)).rows[0])
      expect((await bench.keyspace()).streams['stream:mail:normal']).to.deep.equal({
        entries: { [begun.entryId]: 'a' },
        pending: [],
      })
      expect(await take(bench, 9)).to.deep.equal([['HELD', 'a']])
      expect(await settle(bench, begun)).to.deep.equal(['SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'mends lease rows: of no record, of one that does not run, with a wrong score',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'ready' })
      await beginOne(bench, { id: 'live', priority: 1 })
      const { leases } = bench.keys
      await bench.redis.zadd(leases, 1, 'absent', 2, 'ready', 3, 'live')
      const { answer, changes } = await changesOf(bench, () => reclaim(bench))
      expect(answer.rows).to.deep.equal([])
      expect(changes).to.deep.equal({
        'leases absent': '1 ->',
        'leases ready': '2 ->',
        'leases live': `3 -> ${START_MS + LEASE_MS}`,
      })
      await expectWhole(bench)
    }),
  )

  it(
    'mends deliveries: rows without their entry, and entries that no record names',
    onBench(async (bench) => {
      const ids = ['deleted', 'gone', 'moved', 'done', 'good']
      await enqueue(bench, ...ids.map((id) => ({ id })))
      await deliver(bench, 9)
      const { redis, keys } = bench
      await redis.xdel(bench.stream(), (await recordOf(bench, 'deleted'))['entryId'] ?? '')
      await redis.del(keys.record('deleted'), keys.record('gone'))
      await redis.hset(keys.record('moved'), 'entryId', '1-1')
      await redis.hset(keys.record('done'), { status: 'SUCCESSFUL', entryId: '' })
      await bench.elapse(LEASE_MS)
      expect(words((await reclaim(bench)).rows)).to.deep.equal(['BEGUN good'])
      const stream = (await bench.keyspace()).streams['stream:mail:normal']
      expect(Object.values(stream?.entries ?? {})).to.deep.equal(['good'])
      expect(stream?.pending?.map(({ consumer }) => consumer)).to.deep.equal(['rescuer.holder'])
    }),
  )

  it(
    'leaves an idle delivery in another stream than its record’s alone, but for removing it',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await deliver(bench, 1)
      await bench.redis.hset(bench.keys.record('a'), 'priority', '7')
      await bench.elapse(LEASE_MS)
      expect((await reclaim(bench)).rows).to.deep.equal([])
      expect((await bench.keyspace()).streams['stream:mail:normal']).to.deep.equal({ entries: {}, pending: [] })
    }),
  )

  it(
    'passes over what cannot be read, and moves its lease row on so that it hides nobody',
    onBench(async (bench) => {
      const ids = Array.from({ length: 120 }, (_, index) => `r${String(index).padStart(3, '0')}`)
      await enqueue(bench, ...ids.map((id) => ({ id })))
      await take(bench, 100)
      await take(bench, 20)
      for (const id of ids.slice(0, 110)) {
        await bench.redis.del(bench.keys.record(id))
        await spoil(bench, bench.keys.record(id))
      }
      await bench.elapse(LEASE_MS)
      const idleMs = 3_600_000
      expect(words((await reclaim(bench, { idleMs })).rows)).to.deep.equal([])
      expect(words((await reclaim(bench, { idleMs })).rows)).to.deep.equal(ids.slice(110).map((id) => `BEGUN ${id}`))
    }),
  )

  it(
    'finds an attempt by its idle delivery when a hundred overdue leases of queues that nobody serves stand before its own',
    onBench(async (bench) => {
      const streams = bench.streams('unserved')
      const ids = Array.from({ length: 120 }, (_, index) => `unserved${index}`)
      await enqueue(bench, ...ids.map((id) => ({ id, queueName: 'unserved' })))
      await take(bench, 120, { streams })
      await bench.elapse(1, [...bench.streams('mail'), ...streams])
      await beginOne(bench)
      await bench.elapse(LEASE_MS, [...bench.streams('mail'), ...streams])
      expect(words((await reclaim(bench)).rows)).to.deep.equal(['BEGUN a'])
    }),
  )

  it(
    'walks the pending list a hundred rows a call, by a cursor',
    onBench(async (bench) => {
      const ids = Array.from({ length: 250 }, (_, index) => `r${index}`)
      await enqueue(bench, ...ids.map((id) => ({ id })))
      await deliver(bench, 250)
      await bench.elapse(LEASE_MS)
      const begun: string[] = []
      const sizes: number[] = []
      let cursor = '-'
      do {
        const { next, rows } = await reclaim(bench, { count: 1000, cursor })
        begun.push(...rows.map(([, id = '']) => id))
        sizes.push(rows.length)
        cursor = next
      } while (cursor !== '-')
      expect(begun).to.deep.equal(ids)
      expect(sizes).to.deep.equal([100, 100, 50])
      await expectWhole(bench)
    }),
  )

  it(
    'names a stream without its group, and takes over by leases all the same',
    onBench(async (bench) => {
      await beginOne(bench)
      await bench.redis.xgroup('DESTROY', bench.stream(), bench.group)
      await bench.elapse(LEASE_MS)
      const { next, rows } = await reclaim(bench)
      expect(next).to.equal('-')
      expect(words(rows)).to.deep.equal(['BEGUN a', `NOGROUP ${bench.stream()}`])
    }),
  )

  for (const index of ['leases', 'stream:mail:normal']) {
    it(
      `takes over what it can see when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        const { leaseToken } = await beginOne(bench)
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        await bench.elapse(LEASE_MS)
        const { rows } = await reclaim(bench)
        expect(rows.map(([word]) => word)).to.deep.equal(['BEGUN', 'INDEX'])
        expect(rows[1]?.[1]).to.contain('WRONGTYPE')
        expect(await settle(bench, { id: 'a', leaseToken })).to.deep.equal(['LOST'])
        expect((await settle(bench, begunOf(rows[0])))[0]).to.equal('SETTLED')
      }),
    )
  }

  it(
    'ends a record at the crash limit although its cells are of a wrong type',
    onBench(async (bench) => {
      await beginOne(bench)
      for (const status of ['RUNNING', 'FAILED']) {
        await bench.redis.del(`${bench.keys.root}cell:mail:send:${status}`)
        await spoil(bench, `${bench.keys.root}cell:mail:send:${status}`)
      }
      await bench.elapse(LEASE_MS)
      const { rows } = await reclaim(bench, { crashLimit: 0 })
      expect(rows.map(([word]) => word)).to.deep.equal(['CRASHED', 'INDEX'])
      expect(await recordOf(bench))
        .to.include({ status: 'FAILED' })
        .and.not.have.any.keys(...LEASE_FIELDS)
    }),
  )

  it(
    'takes an odd number for 0, and the others of the batch over as ever',
    onBench(async (bench) => {
      const fields = ['attempts', 'crashes', 'fence', 'enqueuedAt', 'leaseUntil', 'lastAttemptedAt', 'handBacks']
      for (const field of fields) {
        const ids = ODD_NUMBERS.map((_, index) => `${field}${index}`)
        await enqueue(bench, ...ids.map((id) => ({ id })), { id: `good-${field}` })
        await take(bench, 99)
        for (const [index, id] of ids.entries())
          await bench.redis.hset(bench.keys.record(id), field, ODD_NUMBERS[index] ?? '')
        await bench.elapse(LEASE_MS)
        const begun = (await reclaim(bench)).rows.map(begunOf)
        expect(
          begun.map(({ id }) => id),
          field,
        ).to.have.members([...ids, `good-${field}`])
        for (const { crashes, fence } of begun) {
          expect(crashes, field).to.equal('1')
          expect(fence, field).to.equal(String(bench.nowMs * 1000))
        }
        expect(await settle(bench, ...begun), field).to.deep.equal(begun.map(() => 'SETTLED'))
      }
    }),
  )
})
