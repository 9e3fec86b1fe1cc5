/** promote.lua on raw keys: due records get their entry, all else in `delayed` is put right or left. */
import { expect } from 'chai'
import {
  aClaim,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  ODD_NUMBERS,
  onBench,
  recordOf,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench } from './support.ts'

type Promoted = readonly [moved: number, wait: string, indexError?: string]

async function promote(bench: ScriptBench, queueName = 'mail'): Promise<Promoted> {
  return (await bench.run('promote', queueName)) as Promoted
}

describe('promote.lua', () => {
  it(
    'gives a due record its entry, in the band of its priority, and says when the next one is due',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 100, priority: 5 }, { id: 'b', runAfter: START_MS + 250 })
      await bench.elapse(100)
      const { answer, changes } = await changesOf(bench, () => promote(bench))
      const { entryId = '' } = await recordOf(bench)
      expect(answer).to.deep.equal([1, '150'])
      expect(changes).to.deep.equal({
        'task:a entryId': `-> ${entryId}`,
        'delayed:mail a': `${START_MS + 100} ->`,
        [`stream:mail:high entry ${entryId}`]: '-> a',
      })
      await expectWhole(bench)
    }),
  )

  it(
    'does nothing before the time, and says so for a queue without delayed records',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 100 }, { id: 'b', queueName: 'other' })
      await bench.elapse(99)
      await expectUnchanged(bench, () => promote(bench), [0, '1'])
      expect(await promote(bench, 'other')).to.deep.equal([0, ''])
      expect(await promote(bench, 'unheard')).to.deep.equal([0, ''])
    }),
  )

  it(
    'moves a hundred a call, the longest due first, and nothing twice',
    onBench(async (bench) => {
      const ids = Array.from({ length: 250 }, (_, index) => `r${String(index).padStart(3, '0')}`)
      await enqueue(bench, ...ids.map((id, index) => ({ id, runAfter: START_MS + 1 + index })))
      await bench.elapse(300)
      expect([await promote(bench), await promote(bench), await promote(bench), await promote(bench)]).to.deep.equal([
        [100, '0'],
        [100, '0'],
        [50, ''],
        [0, ''],
      ])
      expect((await take(bench, 250)).map(([, id]) => id)).to.deep.equal(ids)
      await expectWhole(bench)
    }),
  )

  it(
    'moves each record once, however many promote at the same time',
    onBench(async (bench) => {
      await enqueue(bench, ...Array.from({ length: 300 }, (_, index) => ({ id: `r${index}`, runAfter: START_MS + 1 })))
      await bench.elapse(1)
      const answers = await Promise.all(Array.from({ length: 10 }, () => promote(bench)))
      expect(answers.reduce((sum, [moved]) => sum + moved, 0)).to.equal(300)
      await expectWhole(bench)
    }),
  )

  it(
    'removes rows of records that are gone, elsewhere, or not waiting for a time',
    onBench(async (bench) => {
      const key = bench.keys.delayed('mail')
      await enqueue(bench, { id: 'waiting' }, { id: 'elsewhere', queueName: 'other', runAfter: START_MS + 5 })
      await take(bench, 1)
      await enqueue(bench, { id: 'ready' })
      await bench.redis.zadd(key, 1, 'absent', 2, 'waiting', 3, 'ready', 4, 'elsewhere')
      const { answer, changes } = await changesOf(bench, () => promote(bench))
      expect(answer).to.deep.equal([0, ''])
      expect(changes).to.deep.equal({
        'delayed:mail absent': '1 ->',
        'delayed:mail waiting': '2 ->',
        'delayed:mail ready': '3 ->',
        'delayed:mail elsewhere': '4 ->',
      })
      await expectWhole(bench)
    }),
  )

  it(
    'puts a wrong score right instead of starting a record before its time',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 5_000 })
      await bench.redis.zadd(bench.keys.delayed('mail'), 1, 'a')
      expect(await promote(bench)).to.deep.equal([0, '5000'])
      await expectWhole(bench)
    }),
  )

  it(
    'looks at what cannot be read again in a minute, so that it hides nobody',
    onBench(async (bench) => {
      const broken = Array.from({ length: 100 }, (_, index) => `broken${index}`)
      await enqueue(bench, ...broken.map((id) => ({ id, runAfter: START_MS + 1 })), {
        id: 'good',
        runAfter: START_MS + 2,
      })
      for (const id of broken) {
        await bench.redis.del(bench.keys.record(id))
        await spoil(bench, bench.keys.record(id))
      }
      await bench.elapse(10)
      expect(await promote(bench)).to.deep.equal([0, '0'])
      expect(await promote(bench)).to.deep.equal([1, '60000'])
    }),
  )

  it(
    'keeps a record whose stream is of a wrong type, and moves the others',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 1 }, { id: 'high', priority: 1, runAfter: START_MS + 1 })
      await bench.redis.del(bench.stream())
      await spoil(bench, bench.stream())
      await bench.elapse(1)
      const answer = await promote(bench)
      expect(answer.slice(0, 2)).to.deep.equal([1, '60000'])
      expect(answer[2]).to.contain('WRONGTYPE')
      expect((await take(bench, 9, { streams: [bench.stream('high')] })).map(([, id]) => id)).to.deep.equal(['high'])
      await bench.redis.del(bench.stream())
      await bench.elapse(60_000)
      expect(await promote(bench)).to.deep.equal([1, ''])
    }),
  )

  it(
    'answers with the error of a queue whose delayed records are of a wrong type, and changes nothing',
    onBench(async (bench) => {
      await spoil(bench, bench.keys.delayed('mail'))
      const { answer, changes } = await changesOf(bench, () => promote(bench))
      expect(answer.slice(0, 2)).to.deep.equal([0, ''])
      expect(answer[2]).to.contain('WRONGTYPE')
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'takes an odd time for none',
    onBench(async (bench) => {
      const ids = ODD_NUMBERS.map((_, index) => `odd${index}`)
      await enqueue(bench, ...ids.map((id) => ({ id, runAfter: START_MS + 1 })))
      for (const [index, id] of ids.entries())
        await bench.redis.hset(bench.keys.record(id), 'runAfter', ODD_NUMBERS[index] ?? '')
      await bench.elapse(1)
      expect(await promote(bench)).to.deep.equal([ids.length, ''])
    }),
  )

  it(
    'moves nothing that was run by id meanwhile',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 1 })
      await bench.elapse(1)
      await Promise.all([promote(bench), bench.run('run-by-id', ...aClaim('web'), 'a', ''), promote(bench)])
      await expectWhole(bench)
    }),
  )

  it(
    'promotes for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a', runAfter: START_MS + 1 })
        await bench.elapse(1, [])
        expect(await promote(bench)).to.deep.equal([1, ''])
        await expectWhole(bench)
      },
      { group: '' },
    ),
  )
})
