/** renew.lua on raw keys: deadlines move while the token is on the record, and nothing at all moves once it is gone. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
} from './support.ts'
import type { ScriptBench, Words } from './support.ts'

interface Held {
  readonly id: string
  readonly leaseToken: string
}

async function renew(bench: ScriptBench, consumer: string, ...held: readonly Held[]): Promise<Words> {
  return (await bench.run(
    'renew',
    consumer,
    1_000,
    '',
    ...held.flatMap(({ id, leaseToken }) => [id, leaseToken]),
  )) as Words
}

describe('renew.lua', () => {
  it(
    'moves the deadline on the record and in leases, and nothing else',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.elapse(400)
      const { answer, changes } = await changesOf(bench, () => renew(bench, 'first.holder', begun))
      expect(answer).to.deep.equal(['RENEWED'])
      const moved = `${START_MS + 1_000} -> ${START_MS + 1_400}`
      expect(changes).to.deep.equal({ 'task:a leaseUntil': moved, 'leases a': moved })
    }),
  )

  it(
    'moves the deadline once more when sent again',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await expectUnchanged(bench, () => renew(bench, 'first.holder', begun), ['RENEWED'])
      await bench.elapse(1)
      expect(await renew(bench, 'first.holder', begun)).to.deep.equal(['RENEWED'])
      expect(await recordOf(bench)).to.include({ leaseUntil: String(START_MS + 1_001) })
      await expectWhole(bench)
    }),
  )

  it(
    'renews a lease that ran out while nobody reclaimed it',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.elapse(60_000)
      expect(await renew(bench, 'first.holder', begun)).to.deep.equal(['RENEWED'])
      await expectWhole(bench)
    }),
  )

  it(
    'makes the delivery young again, and moves its row to the one who renews',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.elapse(500)
      await renew(bench, 'second.holder', begun)
      const rows = (await bench.redis.xpending(bench.stream(), bench.group, '-', '+', 9)) as [
        string,
        string,
        number,
        number,
      ][]
      expect(rows.map(([entryId, consumer]) => [entryId, consumer])).to.deep.equal([[begun.entryId, 'second.holder']])
      expect(rows[0]?.[2]).to.be.lessThan(500)
    }),
  )

  it(
    'does not deliver an entry that nobody read: a record run by id keeps it undelivered',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim('web')
      const begun = begunOf((await bench.run('run-by-id', ...claim, 'a', '')) as Words)
      expect(await renew(bench, claim[0], begun)).to.deep.equal(['RENEWED'])
      expect((await bench.keyspace()).streams['stream:mail:normal']?.pending).to.deep.equal([])
    }),
  )

  it(
    'answers LOST and writes nothing for a token that is not on the record',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      const done = await beginOne(bench, { id: 'done' })
      await settle(bench, done)
      await bench.elapse(400)
      const strangers = [
        { id: 'a', leaseToken: '1:other.1' },
        { id: 'a', leaseToken: '' },
        { id: 'done', leaseToken: done.leaseToken },
        { id: 'done', leaseToken: '' },
        { id: 'absent', leaseToken: begun.leaseToken },
        { id: 'absent', leaseToken: '' },
      ]
      const { answer, changes } = await changesOf(bench, () => renew(bench, 'late.holder', ...strangers))
      expect(answer).to.deep.equal(strangers.map(() => 'LOST'))
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'judges each of a batch by itself',
    onBench(async (bench) => {
      const [a, b] = [await beginOne(bench, { id: 'a' }), await beginOne(bench, { id: 'b', priority: 1 })]
      await spoil(bench, bench.keys.record('text'))
      await bench.elapse(400)
      const items = [a, { id: 'b', leaseToken: '1:other.1' }, { id: 'text', leaseToken: 't' }, b, a]
      expect(await renew(bench, 'first.holder', ...items)).to.deep.equal([
        'RENEWED',
        'LOST',
        'BROKEN',
        'RENEWED',
        'RENEWED',
      ])
      const until = String(START_MS + 1_400)
      expect((await bench.keyspace()).sortedSets['leases']).to.deep.equal({ a: until, b: until })
      await expectWhole(bench)
    }),
  )

  it(
    'renews on the record when leases is of a wrong type, and answers with the error',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.redis.del(bench.keys.leases)
      await spoil(bench, bench.keys.leases)
      await bench.elapse(400)
      const answer = await renew(bench, 'first.holder', begun)
      expect(answer[0]).to.equal('RENEWED')
      expect(answer[1]).to.contain('WRONGTYPE')
      expect(await recordOf(bench)).to.include({ leaseUntil: String(START_MS + 1_400) })
    }),
  )

  it(
    'puts a lost lease row back',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.redis.del(bench.keys.leases)
      expect(await renew(bench, 'first.holder', begun)).to.deep.equal(['RENEWED'])
      await expectWhole(bench)
    }),
  )

  it(
    'renews without the group, as that says nothing about the lease',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.redis.xgroup('DESTROY', bench.stream(), bench.group)
      expect(await renew(bench, 'first.holder', begun)).to.deep.equal(['RENEWED'])
    }),
  )

  it(
    'keeps the deliveries of a batch young although one record names an entry that cannot be',
    onBench(async (bench) => {
      const [a, b] = [await beginOne(bench, { id: 'a' }), await beginOne(bench, { id: 'b' })]
      await bench.redis.hset(bench.keys.record('b'), 'entryId', 'x')
      expect(await renew(bench, 'second.holder', a, b)).to.deep.equal(['RENEWED', 'RENEWED'])
      const pending = (await bench.keyspace()).streams['stream:mail:normal']?.pending
      expect(pending?.map(({ consumer }) => consumer)).to.deep.equal(['second.holder', 'first.holder'])
    }),
  )

  it(
    'renews for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        const begun = begunOf((await bench.run('run-by-id', ...aClaim('web'), 'a', '')) as Words)
        await bench.elapse(400, [])
        expect(await renew(bench, 'web.holder', begun)).to.deep.equal(['RENEWED'])
        await expectWhole(bench)
      },
      { group: '' },
    ),
  )
})
