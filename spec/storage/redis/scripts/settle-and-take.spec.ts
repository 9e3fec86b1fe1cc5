/** settle-and-take.lua: both halves in one call, each as it is by itself. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  enqueue,
  expandFirsts,
  expectWhole,
  GROUP,
  onBench,
  recordOf,
  settle,
  settleAnswers,
  settleWords,
  spoil,
  take,
} from './support.ts'
import type { Rows, ScriptBench, SettleFields, SettleReply, Words } from './support.ts'

async function settleAndTake(
  bench: ScriptBench,
  items: readonly SettleFields[],
  count: number,
  claim = aClaim(),
): Promise<[Words, Rows]> {
  const words = items.flatMap(settleWords)
  const args = [...claim, count, words.length, ...words, ...bench.streams('mail')]
  const [size, ...answers] = (await bench.run('settle-and-take', ...args)) as [number, ...unknown[]]
  return [
    settleAnswers(items.length, answers.slice(0, size) as SettleReply),
    expandFirsts(answers.slice(size) as unknown as Rows),
  ]
}

describe('settle-and-take.lua', () => {
  it(
    'settles what ended and begins what waits',
    onBench(async (bench) => {
      const first = await beginOne(bench, { id: 'first' })
      await enqueue(bench, { id: 'second' }, { id: 'third' })
      const [words, rows] = await settleAndTake(bench, [first], 1)
      expect(words).to.deep.equal(['SETTLED'])
      expect(rows.map(begunOf).map(({ id }) => id)).to.deep.equal(['second'])
      expect(await recordOf(bench, 'first')).to.include({ status: 'SUCCESSFUL' })
      expect(await recordOf(bench, 'second')).to.include({ status: 'RUNNING' })
      expect(await recordOf(bench, 'third')).to.include({ status: 'READY' })
      await expectWhole(bench)
    }),
  )

  it(
    'takes also when nothing ended, and settles also when nothing waits',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const [none, [row]] = await settleAndTake(bench, [], 5)
      expect(none).to.deep.equal([])
      expect(await settleAndTake(bench, [begunOf(row)], 5)).to.deep.equal([['SETTLED'], []])
      await expectWhole(bench)
    }),
  )

  it(
    'begins at once what it settles as READY, as a take behind the settle would',
    onBench(async (bench) => {
      const begun = await beginOne(bench, { id: 'a' })
      const again = { ...begun, outcome: 'READY', payload: '{"name":"Error"}' } as const
      const [words, [row]] = await settleAndTake(bench, [again], 1)
      expect(words).to.deep.equal(['SETTLED'])
      expect(begunOf(row)).to.include({ id: 'a', attempts: '2' })
      await expectWhole(bench)
    }),
  )

  it(
    'sent again, settles nothing twice and takes further entries',
    onBench(async (bench) => {
      const first = await beginOne(bench, { id: 'first' })
      await enqueue(bench, { id: 'second' }, { id: 'third' })
      const claim = aClaim()
      await settleAndTake(bench, [first], 1, claim)
      const settled = await recordOf(bench, 'first')
      const [words, rows] = await settleAndTake(bench, [first], 1, claim)
      expect(words).to.deep.equal(['SETTLED'])
      expect(rows.map(begunOf).map(({ id }) => id)).to.deep.equal(['third'])
      expect(await recordOf(bench, 'first')).to.deep.equal(settled)
      await expectWhole(bench)
    }),
  )

  it(
    'answers LOST for a token that is gone, and takes all the same',
    onBench(async (bench) => {
      const first = await beginOne(bench, { id: 'first' })
      await enqueue(bench, { id: 'second' })
      const [words, rows] = await settleAndTake(bench, [{ ...first, leaseToken: '1:stranger.1' }], 1)
      expect(words).to.deep.equal(['LOST'])
      expect(rows.map(begunOf).map(({ id }) => id)).to.deep.equal(['second'])
    }),
  )

  it(
    'names an index error beside the half that met it',
    onBench(async (bench) => {
      const first = await beginOne(bench, { id: 'first' })
      await spoil(bench, bench.keys.cell({ queueName: 'mail', name: 'send', status: 'SUCCESSFUL' }))
      const [words, rows] = await settleAndTake(bench, [first], 1)
      expect(words[0]).to.equal('SETTLED')
      expect(words[1]).to.match(/WRONGTYPE/)
      expect(rows).to.deep.equal([])
    }),
  )

  it(
    'names a stream without its group, and has settled before',
    onBench(async (bench) => {
      const first = await beginOne(bench, { id: 'first' })
      await bench.redis.xgroup('DESTROY', bench.stream('high'), GROUP)
      const [words, rows] = await settleAndTake(bench, [first], 1)
      expect(words).to.deep.equal(['SETTLED'])
      expect(rows[0]?.[0]).to.equal('NOGROUP')
      expect(await settle(bench, first)).to.deep.equal(['SETTLED'])
      expect(await take(bench, 1)).to.deep.equal(rows)
    }),
  )
})
