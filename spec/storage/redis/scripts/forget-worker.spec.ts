/** forget-worker.lua on raw keys: a consumer goes once it has no deliveries; deleting it sooner would lose them. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expectUnchanged,
  onBench,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench } from './support.ts'

async function forget(bench: ScriptBench, consumer: string, maxIdleMs: number | '' = ''): Promise<unknown> {
  return await bench.run('forget-worker', consumer, maxIdleMs)
}

async function consumersOf(bench: ScriptBench): Promise<unknown[]> {
  const rows = (await bench.redis.xinfo('CONSUMERS', bench.stream(), bench.group)) as unknown[][]
  return rows.map((row) => row[row.indexOf('name') + 1])
}

describe('forget-worker.lua', () => {
  it(
    'removes a consumer that ended, with its heartbeat and in every stream',
    onBench(async (bench) => {
      await settle(bench, await beginOne(bench))
      await bench.run('heartbeat', 'first.holder', 'workerId', 'first')
      expect(await consumersOf(bench)).to.deep.equal(['first.holder'])
      const { answer, changes } = await changesOf(bench, () => forget(bench, 'first.holder'))
      expect(answer).to.equal('FORGOTTEN')
      expect(changes).to.deep.equal({
        'workers first.holder': `${START_MS} ->`,
        'worker:first.holder workerId': 'first ->',
      })
      expect(await consumersOf(bench)).to.deep.equal([])
      await expectUnchanged(bench, () => forget(bench, 'first.holder'), 'FORGOTTEN')
    }),
  )

  it(
    'keeps a consumer that has a delivery in any stream of any queue',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', queueName: 'reports', priority: -1 })
      const begun = await take(bench, 1, { claim: aClaim('first'), streams: bench.streams('mail', 'reports') })
      await bench.run('heartbeat', 'first.holder', 'workerId', 'first')
      await expectUnchanged(bench, () => forget(bench, 'first.holder'), 'KEPT')
      await settle(bench, begunOf(begun[0]))
      expect(await forget(bench, 'first.holder')).to.equal('FORGOTTEN')
    }),
  )

  it(
    'keeps a consumer that was heard of lately, unless it asks itself',
    onBench(async (bench) => {
      await bench.run('heartbeat', 'first.holder', 'workerId', 'first')
      await bench.elapse(999)
      expect(await forget(bench, 'first.holder', 1_000)).to.equal('KEPT')
      await bench.elapse(1)
      expect(await forget(bench, 'first.holder', 1_000)).to.equal('FORGOTTEN')
      await bench.run('heartbeat', 'first.holder', 'workerId', 'first')
      expect(await forget(bench, 'first.holder')).to.equal('FORGOTTEN')
    }),
  )

  it(
    'removes a consumer that never sent a heartbeat',
    onBench(async (bench) => {
      await settle(bench, await beginOne(bench))
      expect(await forget(bench, 'first.holder', 1_000)).to.equal('FORGOTTEN')
      expect(await consumersOf(bench)).to.deep.equal([])
    }),
  )

  it(
    'leaves the deliveries of the others alone',
    onBench(async (bench) => {
      await beginOne(bench, {}, aClaim('second'))
      const { streams } = await bench.keyspace()
      expect(await forget(bench, 'first.holder')).to.equal('FORGOTTEN')
      expect((await bench.keyspace()).streams).to.deep.equal(streams)
    }),
  )

  it(
    'passes over a stream of a wrong type and one without its group',
    onBench(async (bench) => {
      await settle(bench, await beginOne(bench))
      await bench.redis.del(bench.stream('high'))
      await spoil(bench, bench.stream('high'))
      await bench.redis.xgroup('DESTROY', bench.stream('low'), bench.group)
      expect(await forget(bench, 'first.holder')).to.equal('FORGOTTEN')
      expect(await consumersOf(bench)).to.deep.equal([])
    }),
  )
})
