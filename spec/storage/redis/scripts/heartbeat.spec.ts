/** heartbeat.lua on raw keys: when a worker was last heard of, and what it does. */
import { expect } from 'chai'
import { changesOf, onBench, START_MS } from './support.ts'

describe('heartbeat.lua', () => {
  it(
    'keeps the time of the server and the fields of the worker',
    onBench(async (bench) => {
      const { answer, changes } = await changesOf(bench, () =>
        bench.run('heartbeat', 'first.holder', 'workerId', 'first', 'held', '2'),
      )
      expect(answer).to.equal('KEPT')
      expect(changes).to.deep.equal({
        'workers first.holder': `-> ${START_MS}`,
        'worker:first.holder workerId': '-> first',
        'worker:first.holder held': '-> 2',
      })
    }),
  )

  it(
    'moves the time on when sent again',
    onBench(async (bench) => {
      await bench.run('heartbeat', 'first.holder', 'held', '2')
      await bench.elapse(700)
      const { changes } = await changesOf(bench, () => bench.run('heartbeat', 'first.holder', 'held', '2'))
      expect(changes).to.deep.equal({ 'workers first.holder': `${START_MS} -> ${START_MS + 700}` })
    }),
  )

  it(
    'keeps nothing of what the worker said before',
    onBench(async (bench) => {
      await bench.run('heartbeat', 'first.holder', 'held', '2', 'draining', 'yes')
      const { changes } = await changesOf(bench, () => bench.run('heartbeat', 'first.holder', 'held', '1'))
      expect(changes).to.deep.equal({ 'worker:first.holder held': '2 -> 1', 'worker:first.holder draining': 'yes ->' })
    }),
  )

  it(
    'takes a worker that says nothing but that it is there',
    onBench(async (bench) => {
      expect(await bench.run('heartbeat', 'first.holder')).to.equal('KEPT')
      expect((await bench.keyspace()).sortedSets['workers']).to.deep.equal({ 'first.holder': String(START_MS) })
    }),
  )
})
