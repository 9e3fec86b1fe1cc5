/** watch.lua on raw keys: a mark on a record that somebody waits for. */
import { expect } from 'chai'
import {
  beginOne,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  failOne,
  onBench,
  settle,
  spoil,
} from './support.ts'

describe('watch.lua', () => {
  it(
    'marks a record that has no outcome yet, and changes nothing when sent again',
    onBench(async (bench) => {
      await beginOne(bench, { id: 'running' })
      await enqueue(bench, { id: 'ready' })
      for (const id of ['running', 'ready']) {
        const { answer, changes } = await changesOf(bench, () => bench.run('watch', id))
        expect(answer).to.equal('WATCHED')
        expect(changes).to.deep.equal({ [`task:${id} watched`]: '-> 1' })
        await expectUnchanged(bench, () => bench.run('watch', id), 'WATCHED')
      }
      await expectWhole(bench)
    }),
  )

  it(
    'says that a record has its outcome, is not there or cannot be read, and marks nothing',
    onBench(async (bench) => {
      await failOne(bench, { id: 'failed' })
      await settle(bench, await beginOne(bench, { id: 'done' }))
      await spoil(bench, bench.keys.record('text'))
      const { answer, changes } = await changesOf(bench, () =>
        Promise.all(['failed', 'done', 'absent', 'text'].map((id) => bench.run('watch', id))),
      )
      expect(answer).to.deep.equal(['FINISHED', 'FINISHED', 'ABSENT', 'BROKEN'])
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'marks a record although leases is of a wrong type',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await spoil(bench, bench.keys.leases)
      expect(await bench.run('watch', 'a')).to.equal('WATCHED')
    }),
  )

  it(
    'marks for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        expect(await bench.run('watch', 'a')).to.equal('WATCHED')
      },
      { group: '' },
    ),
  )
})
