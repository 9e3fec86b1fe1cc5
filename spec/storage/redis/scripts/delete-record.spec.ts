/** delete-record.lua on raw keys: a record goes with its index row and its place, unless it runs. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  failOne,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench, Words } from './support.ts'

async function deleteRecords(bench: ScriptBench, ...ids: readonly string[]): Promise<Words> {
  return (await bench.run('delete-record', ...ids)) as Words
}

/** Keys that remain of records once all are deleted. */
async function leftOver(bench: ScriptBench): Promise<string[]> {
  const { hashes, sortedSets } = await bench.keyspace()
  return [...Object.keys(hashes), ...Object.keys(sortedSets)].filter((key) => !key.startsWith('stats:'))
}

describe('delete-record.lua', () => {
  it(
    'deletes a waiting record with its cell row and its entry',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      const { answer, changes } = await changesOf(bench, () => deleteRecords(bench, 'a'))
      expect(answer).to.deep.equal(['DELETED'])
      expect(changes).to.include({ 'task:a status': 'READY ->', 'cell:mail:send:READY a': `${START_MS} ->` })
      expect(changes).to.include({ [`stream:mail:normal entry ${entryId}`]: 'a ->' })
      expect(await leftOver(bench)).to.deep.equal([])
      expect(await take(bench, 9)).to.deep.equal([])
    }),
  )

  it(
    'deletes delayed and finished records, and one that was delivered but not begun',
    onBench(async (bench) => {
      await settle(bench, await beginOne(bench, { id: 'done' }))
      await failOne(bench, { id: 'failed' })
      await enqueue(bench, { id: 'delivered' }, { id: 'later', runAfter: START_MS + 1 })
      await bench.redis.xreadgroup('GROUP', bench.group, 'reader', 'COUNT', 1, 'STREAMS', bench.stream(), '>')
      expect(await deleteRecords(bench, 'done', 'failed', 'delivered', 'later')).to.deep.equal([
        'DELETED',
        'DELETED',
        'DELETED',
        'DELETED',
      ])
      expect(await leftOver(bench)).to.deep.equal([])
      expect((await bench.keyspace()).streams['stream:mail:normal']).to.deep.equal({ entries: {}, pending: [] })
    }),
  )

  it(
    'refuses a running record, and judges each of a batch by itself',
    onBench(async (bench) => {
      const running = await beginOne(bench, { id: 'running' })
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      await spoil(bench, bench.keys.record('text'))
      const answer = await deleteRecords(bench, 'a', 'running', 'text', 'absent', 'a', 'b')
      expect(answer).to.deep.equal(['DELETED', 'RUNNING', 'BROKEN', 'ABSENT', 'ABSENT', 'DELETED'])
      expect((await bench.keyspace()).strings['task:text']).to.be.a('string')
      expect(await settle(bench, running)).to.deep.equal(['SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'answers ABSENT and changes nothing when sent again',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await deleteRecords(bench, 'a')
      await expectUnchanged(bench, () => deleteRecords(bench, 'a'), ['ABSENT'])
    }),
  )

  it(
    'never lets a record begin after it answered DELETED',
    onBench(async (bench) => {
      const ids = Array.from({ length: 50 }, (_, index) => `r${index}`)
      await enqueue(
        bench,
        ...ids.map((id, index) => ({ id, runAfter: index % 2 === 0 ? ('' as const) : START_MS + 1 })),
      )
      await bench.elapse(1)
      const [words, rows] = await Promise.all([
        Promise.all(ids.map((id) => deleteRecords(bench, id))),
        Promise.all(
          ids.map(async (id, index) => {
            await bench.run('promote', 'mail')
            return [...(await take(bench, 1)), (await bench.run('run-by-id', ...aClaim(`w${index}`), id, '')) as Words]
          }),
        ),
      ])
      const begun = new Set(rows.flat().flatMap(([word, id]) => (word === 'BEGUN' ? [id] : [])))
      ids.forEach((id, index) => expect(words[index]?.[0], id).to.equal(begun.has(id) ? 'RUNNING' : 'DELETED'))
      await expectWhole(bench)
    }),
  )

  it(
    'tells those who wait for the record that it is gone',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      await bench.run('watch', 'a')
      const listener = bench.redis.duplicate()
      try {
        const heard = new Promise<string>((resolve) =>
          listener.on('message', (_channel: string, text: string) => resolve(text)),
        )
        await listener.subscribe(bench.keys.finished)
        await deleteRecords(bench, 'a', 'b')
        expect(await heard).to.equal('a')
      } finally {
        listener.disconnect()
      }
    }),
  )

  for (const index of ['cell:mail:send:READY', 'stream:mail:normal', 'delayed:mail']) {
    it(
      `deletes all the same when ${index} is of a wrong type, and answers with the error where there is one`,
      onBench(async (bench) => {
        await enqueue(bench, { id: 'a' }, { id: 'later', runAfter: START_MS + 1 }, { id: 'b', queueName: 'other' })
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const answer = await deleteRecords(bench, 'a', 'later', 'b')
        expect(answer.slice(0, 3)).to.deep.equal(['DELETED', 'DELETED', 'DELETED'])
        expect(answer[3]).to.contain('WRONGTYPE')
        for (const id of ['a', 'later', 'b']) expect(await recordOf(bench, id)).to.deep.equal({})
      }),
    )
  }

  it(
    'deletes a record whose entry cannot be one',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.hset(bench.keys.record('a'), 'entryId', 'x')
      expect((await deleteRecords(bench, 'a'))[0]).to.equal('DELETED')
      expect(await take(bench, 9)).to.deep.equal([['DROPPED', 'a']])
    }),
  )

  it(
    'deletes for a client without groups; the entry stays, as nobody there could remove it',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' }, { id: 'later', runAfter: START_MS + 1 })
        expect(await deleteRecords(bench, 'a', 'later')).to.deep.equal(['DELETED', 'DELETED'])
        expect(await leftOver(bench)).to.deep.equal([])
      },
      { group: '' },
    ),
  )
})
