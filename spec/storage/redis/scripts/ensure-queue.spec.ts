/** ensure-queue.lua on raw keys: streams and groups where they are missing. */
import { expect } from 'chai'
import { changesOf, enqueue, expectUnchanged, onBench, spoil, take } from './support.ts'

describe('ensure-queue.lua', () => {
  it(
    'lists each queue and makes its three streams with their group',
    onBench(async (bench) => {
      const { answer, changes } = await changesOf(bench, () => bench.run('ensure-queue', 'mail', 'reports'))
      expect(answer).to.deep.equal(['ENSURED'])
      const made = (queueName: string): Record<string, string> => ({
        [`queues ${queueName}`]: '-> in',
        [`stream:${queueName}:high`]: '-> stream with group',
        [`stream:${queueName}:normal`]: '-> stream with group',
        [`stream:${queueName}:low`]: '-> stream with group',
      })
      expect(changes).to.deep.equal({ ...made('mail'), ...made('reports') })
      await expectUnchanged(bench, () => bench.run('ensure-queue', 'mail', 'reports'), ['ENSURED'])
    }),
  )

  it(
    'makes a lost group anew from the beginning, so that every entry is delivered again',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      await take(bench, 1)
      await bench.redis.xgroup('DESTROY', bench.stream(), bench.group)
      expect(await bench.run('ensure-queue', 'mail')).to.deep.equal(['ENSURED'])
      expect((await take(bench, 9)).map(([word, id]) => [word, id])).to.deep.equal([
        ['HELD', 'a'],
        ['BEGUN', 'b'],
      ])
    }),
  )

  for (const index of ['queues', 'stream:mail:normal']) {
    it(
      `goes on with what can be made when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        await spoil(bench, bench.keys.root + index)
        const [word, error] = (await bench.run('ensure-queue', 'mail', 'reports')) as string[]
        expect(word).to.equal('ENSURED')
        expect(error).to.contain('WRONGTYPE')
        expect(Object.keys((await bench.keyspace()).streams)).to.include.members([
          'stream:mail:low',
          'stream:reports:low',
        ])
      }),
    )
  }
})
