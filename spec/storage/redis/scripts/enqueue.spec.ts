/** enqueue.lua on raw keys: what is stored, what a repeat finds, and what a broken index key does to it. */
import { expect } from 'chai'
import {
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  NOW,
  ODD_NUMBERS,
  onBench,
  recordOf,
  spoil,
  START_MS,
  take,
} from './support.ts'

describe('enqueue.lua', () => {
  it(
    'stores the record, its cell row and its entry, and makes a new queue with its streams and groups',
    onBench(async (bench) => {
      const { answer, changes } = await changesOf(bench, () => enqueue(bench, { id: 'a', args: '["x"]' }))
      const { entryId = '' } = await recordOf(bench)
      expect(answer).to.deep.equal(['ENQUEUED', NOW])
      expect(changes).to.deep.equal({
        'task:a queueName': '-> mail',
        'task:a name': '-> send',
        'task:a status': '-> READY',
        'task:a enqueuedAt': `-> ${NOW}`,
        'task:a entryId': `-> ${entryId}`,
        'task:a args': '-> ["x"]',
        'cell:mail:send:READY a': `-> ${NOW}`,
        'stream:mail:high': '-> stream with group',
        'stream:mail:normal': '-> stream with group',
        'stream:mail:low': '-> stream with group',
        [`stream:mail:normal entry ${entryId}`]: '-> a',
        'cells mail:send': '-> in',
        'queues mail': '-> in',
      })
      await expectWhole(bench)
    }),
  )

  it(
    'puts a record whose time has not come into delayed, and one whose time has come into its stream',
    onBench(async (bench) => {
      const later = START_MS + 1
      await enqueue(bench, { id: 'later', runAfter: later }, { id: 'now', runAfter: START_MS })
      const { streams, sortedSets } = await bench.keyspace()
      expect(sortedSets['delayed:mail']).to.deep.equal({ later: String(later) })
      expect(Object.values(streams['stream:mail:normal']?.entries ?? {})).to.deep.equal(['now'])
      expect(await recordOf(bench, 'later')).to.include({ entryId: '', runAfter: String(later) })
      expect(await recordOf(bench, 'now')).to.include({ runAfter: NOW })
      await expectWhole(bench)
    }),
  )

  it(
    'picks the stream by the sign of the priority',
    onBench(async (bench) => {
      const priorities = [-100, -1, 0, 1, 100]
      await enqueue(bench, ...priorities.map((priority) => ({ id: String(priority), priority })))
      const { streams } = await bench.keyspace()
      const inBand = (band: string): string[] => Object.values(streams[`stream:mail:${band}`]?.entries ?? {})
      expect([inBand('high'), inBand('normal'), inBand('low')]).to.deep.equal([['1', '100'], ['0'], ['-100', '-1']])
    }),
  )

  it(
    'answers EXISTS and changes nothing when sent again, also after the task has begun',
    onBench(async (bench) => {
      const records = [{ id: 'a' }, { id: 'b', runAfter: START_MS + 5_000 }]
      await enqueue(bench, ...records)
      await expectUnchanged(bench, () => enqueue(bench, ...records), ['EXISTS', '', 'EXISTS', ''])
      await take(bench, 1)
      await expectUnchanged(bench, () => enqueue(bench, ...records), ['EXISTS', '', 'EXISTS', ''])
    }),
  )

  it(
    'stores an id that stands twice in a batch once, as it stands first',
    onBench(async (bench) => {
      const answer = await enqueue(bench, { id: 'a', args: '[1]' }, { id: 'a', args: '[2]' }, { id: 'b' })
      expect(answer).to.deep.equal(['ENQUEUED', NOW, 'EXISTS', '', 'ENQUEUED', NOW])
      expect(await recordOf(bench)).to.include({ args: '[1]' })
      await expectWhole(bench)
    }),
  )

  it(
    'answers EXISTS for a key that is no record, leaves it alone and stores the others',
    onBench(async (bench) => {
      await spoil(bench, bench.keys.record('odd'))
      const answer = await enqueue(bench, { id: 'a' }, { id: 'odd' }, { id: 'b' })
      expect(answer).to.deep.equal(['ENQUEUED', NOW, 'EXISTS', '', 'ENQUEUED', NOW])
      expect((await bench.keyspace()).strings['task:odd']).to.equal('not what belongs here')
    }),
  )

  it(
    'stores a thousand records in one call, all with the same time',
    onBench(async (bench) => {
      const records = Array.from({ length: 1000 }, (_, index) => ({ id: `r${index}`, name: `n${index % 7}` }))
      const answer = await enqueue(bench, ...records)
      expect(answer).to.deep.equal(records.flatMap(() => ['ENQUEUED', NOW]))
      await expectWhole(bench)
    }),
  )

  it(
    'keeps payloads as they are, to the byte',
    onBench(async (bench) => {
      const payloads = ['[]', '{}', '[12345678901234567890.10]', '["é\\u0000 \\"\\n"]', `["${'x'.repeat(100_000)}"]`]
      await enqueue(bench, ...payloads.map((args, index) => ({ id: `p${index}`, args })))
      for (const [index, args] of payloads.entries())
        expect((await recordOf(bench, `p${index}`))['args']).to.equal(args)
    }),
  )

  it(
    'takes an odd time for none',
    onBench(async (bench) => {
      const words = ODD_NUMBERS.flatMap((runAfter, index) => ['mail', 'send', 0, runAfter, 1, 1, `o${index}`, '[]'])
      await bench.run('enqueue', ...words)
      expect(await bench.redis.xlen(bench.stream())).to.equal(ODD_NUMBERS.length)
    }),
  )

  for (const [index, what] of Object.entries({
    cells: 'the list of cells',
    queues: 'the list of queues',
    'cell:mail:send:READY': 'its cell',
  })) {
    it(
      `stores the record all the same when ${what} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        await spoil(bench, bench.keys.root + index)
        const answer = await enqueue(bench, { id: 'a' }, { id: 'b' })
        expect(answer.slice(0, 4)).to.deep.equal(['ENQUEUED', NOW, 'ENQUEUED', NOW])
        expect(answer[4]).to.contain('WRONGTYPE')
        expect(await recordOf(bench)).to.include({ status: 'READY' })
        expect((await take(bench, 9)).filter(([word]) => word === 'BEGUN')).to.have.lengthOf(2)
      }),
    )
  }

  it(
    'lets a record wait in delayed while its stream is of a wrong type, until it can be promoted',
    onBench(async (bench) => {
      await spoil(bench, bench.stream())
      const answer = await enqueue(bench, { id: 'a' }, { id: 'high', priority: 1 })
      expect(answer.slice(0, 4)).to.deep.equal(['ENQUEUED', NOW, 'ENQUEUED', NOW])
      expect(answer[4]).to.contain('WRONGTYPE')
      expect((await bench.keyspace()).sortedSets['delayed:mail']).to.deep.equal({ a: String(START_MS + 60_000) })
      // Given somebody removes what stood there
      await bench.redis.del(bench.stream())
      await bench.run('ensure-queue', 'mail')
      await bench.elapse(60_000)
      expect(await bench.run('promote', 'mail')).to.deep.equal([1, ''])
      await expectWhole(bench)
    }),
  )

  it(
    'keeps a delayed record whose index key is of a wrong type, and answers with the error',
    onBench(async (bench) => {
      await spoil(bench, bench.keys.delayed('mail'))
      const answer = await enqueue(bench, { id: 'a', runAfter: START_MS + 1 })
      expect(answer.slice(0, 2)).to.deep.equal(['ENQUEUED', NOW])
      expect(answer[2]).to.contain('WRONGTYPE')
      expect(await recordOf(bench)).to.include({ status: 'READY', entryId: '' })
    }),
  )

  it(
    'stores each id once, however many callers send it at the same time',
    onBench(async (bench) => {
      const records = Array.from({ length: 20 }, (_, index) => ({ id: `r${index}` }))
      const answers = await Promise.all(Array.from({ length: 5 }, () => enqueue(bench, ...records)))
      const stored = answers.flat().filter((word) => word === 'ENQUEUED')
      expect(stored).to.have.lengthOf(20)
      await expectWhole(bench)
    }),
  )

  it(
    'makes no group for a client that has none, and stores all else',
    onBench(
      async (bench) => {
        expect(await enqueue(bench, { id: 'a' }, { id: 'b', runAfter: START_MS + 1 })).to.deep.equal([
          'ENQUEUED',
          NOW,
          'ENQUEUED',
          NOW,
        ])
        expect(await bench.redis.xinfo('GROUPS', bench.stream())).to.deep.equal([])
        await expectWhole(bench)
      },
      { group: '' },
    ),
  )
})
