/** retry.lua on raw keys: a person puts failed records back; the same request twice is one retry. */
import { expect } from 'chai'
import {
  begunOf,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  failOne,
  NOW,
  ODD_NUMBERS,
  onBench,
  oneOfEach,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench, Words } from './support.ts'

async function retry(bench: ScriptBench, requestId: string, ...ids: readonly string[]): Promise<Words> {
  return (await bench.run('retry', requestId, ...ids)) as Words
}

describe('retry.lua', () => {
  it(
    'puts a failed record back, due at once; attempts, errors and fence stay',
    onBench(async (bench) => {
      const failed = await failOne(bench)
      await bench.redis.hset(bench.keys.record('a'), { crashes: '1', handBacks: '3' })
      const { answer, changes } = await changesOf(bench, () => retry(bench, 'request-1', 'a'))
      const { entryId = '' } = await recordOf(bench)
      expect(answer).to.deep.equal(['RETRIED'])
      expect(changes).to.deep.equal({
        'task:a status': 'FAILED -> READY',
        'task:a entryId': `${failed.entryId} -> ${entryId}`,
        'task:a leaseToken': `${failed.leaseToken} ->`,
        'task:a lastMove': `-> settle ${failed.leaseToken}`,
        'task:a requestId': '-> request-1',
        'task:a runAfter': '->',
        'task:a finishedAt': `${NOW} ->`,
        'task:a crashes': '1 -> 0',
        'task:a handBacks': '3 -> 0',
        'cell:mail:send:FAILED a': `${NOW} ->`,
        'cell:mail:send:READY a': `-> ${NOW}`,
        [`stream:mail:normal entry ${entryId}`]: '-> a',
      })
      const again = begunOf((await take(bench, 1))[0])
      expect(again).to.include({ attempts: '2', errors: (await recordOf(bench))['errors'] })
      expect(Number(again.fence)).to.be.greaterThan(Number(failed.fence))
      await expectWhole(bench)
    }),
  )

  it(
    'answers RETRIED and changes nothing when sent again, whatever the record did since',
    onBench(async (bench) => {
      await failOne(bench)
      await retry(bench, 'request-1', 'a')
      await expectUnchanged(bench, () => retry(bench, 'request-1', 'a'), ['RETRIED'])
      const second = begunOf((await take(bench, 1))[0])
      await expectUnchanged(bench, () => retry(bench, 'request-1', 'a'), ['RETRIED'])
      await settle(bench, { ...second, outcome: 'FAILED' })
      await expectUnchanged(bench, () => retry(bench, 'request-1', 'a'), ['RETRIED'])
      expect(await recordOf(bench)).to.include({ status: 'FAILED' })
      expect(await retry(bench, 'request-2', 'a')).to.deep.equal(['RETRIED'])
      expect(await recordOf(bench)).to.include({ status: 'READY' })
      await expectWhole(bench)
    }),
  )

  it(
    'judges each of a batch by itself, and an id that stands twice once',
    onBench(async (bench) => {
      await oneOfEach(bench)
      const ids = ['ready', 'failed', 'running', 'text', 'done', 'absent', 'failed']
      expect(await retry(bench, 'request-1', ...ids)).to.deep.equal([
        'READY',
        'RETRIED',
        'RUNNING',
        'BROKEN',
        'SUCCESSFUL',
        'ABSENT',
        'RETRIED',
      ])
      expect((await take(bench, 9)).map(([word, id]) => [word, id])).to.deep.equal([
        ['BEGUN', 'ready'],
        ['BEGUN', 'failed'],
      ])
    }),
  )

  it(
    'retries once, however many ask at the same time',
    onBench(async (bench) => {
      await failOne(bench)
      const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => retry(bench, `request-${index}`, 'a')))
      expect(answers.flat().filter((word) => word === 'RETRIED')).to.have.lengthOf(1)
      await expectWhole(bench)
    }),
  )

  for (const index of ['cell:mail:send:FAILED', 'cell:mail:send:READY', 'stream:mail:normal']) {
    it(
      `retries all the same when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        await failOne(bench, { id: 'a' })
        await failOne(bench, { id: 'b', queueName: 'other' })
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const answer = await retry(bench, 'request-1', 'a', 'b')
        expect(answer.slice(0, 2)).to.deep.equal(['RETRIED', 'RETRIED'])
        expect(answer[2]).to.contain('WRONGTYPE')
        for (const id of ['a', 'b']) expect(await recordOf(bench, id)).to.include({ status: 'READY' })
        if (index === 'stream:mail:normal') {
          expect((await bench.keyspace()).sortedSets['delayed:mail']).to.deep.equal({ a: String(START_MS + 60_000) })
        }
      }),
    )
  }

  it(
    'retries a record with odd numbers',
    onBench(async (bench) => {
      for (const [index, odd] of ODD_NUMBERS.entries()) {
        const { id } = await failOne(bench, { id: `odd${index}` })
        await bench.redis.hset(bench.keys.record(id), { enqueuedAt: odd, runAfter: odd, crashes: odd })
        expect(await retry(bench, 'request-1', id), odd).to.deep.equal(['RETRIED'])
        expect((await take(bench, 1)).map(([word]) => word)).to.deep.equal(['BEGUN'])
      }
    }),
  )

  it(
    'retries for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        const row = (await bench.run('run-by-id', 'c', 'h.1', 1000, 'web', 'a', '')) as Words
        await settle(bench, { ...begunOf(row), outcome: 'FAILED' })
        expect(await retry(bench, 'request-1', 'a')).to.deep.equal(['RETRIED'])
        expect(await recordOf(bench)).to.include({ status: 'READY' })
      },
      { group: '' },
    ),
  )
})
