/** save-record.lua on raw keys: what a record's owner may change, and where a waiting record moves for it. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  failOne,
  ODD_NUMBERS,
  onBench,
  recordOf,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench, Words } from './support.ts'

async function save(bench: ScriptBench, id: string, fields: Readonly<Record<string, string | number>>): Promise<Words> {
  return (await bench.run('save-record', id, ...Object.entries(fields).flat())) as Words
}

describe('save-record.lua', () => {
  it(
    'writes what does not move the record, and leaves it in its place',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', priority: 5 })
      const { answer, changes } = await changesOf(bench, () =>
        save(bench, 'a', { priority: 9, args: '["new"]', runAfter: '' }),
      )
      expect(answer).to.deep.equal(['SAVED'])
      expect(changes).to.deep.equal({
        'task:a priority': '5 -> 9',
        'task:a args': '[] -> ["new"]',
        'task:a runAfter': '->',
      })
      await expectUnchanged(bench, () => save(bench, 'a', {}), ['SAVED'])
      await expectWhole(bench)
    }),
  )

  it(
    'moves a waiting record to the band of its new priority',
    onBench(async (bench) => {
      // The second of its stream: two streams may give out one and the same entry id within a millisecond.
      await enqueue(bench, { id: 'other' }, { id: 'a' })
      const { entryId: old = '' } = await recordOf(bench)
      const { answer, changes } = await changesOf(bench, () => save(bench, 'a', { priority: -1 }))
      const { entryId = '' } = await recordOf(bench)
      expect(answer).to.deep.equal(['SAVED'])
      expect(changes).to.deep.equal({
        'task:a priority': '-> -1',
        'task:a entryId': `${old} -> ${entryId}`,
        [`stream:mail:normal entry ${old}`]: 'a ->',
        [`stream:mail:low entry ${entryId}`]: '-> a',
      })
      await expectWhole(bench)
    }),
  )

  it(
    'puts a record off, moves it on, and makes it due again',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      for (const runAfter of [START_MS + 500, START_MS + 900]) {
        expect(await save(bench, 'a', { runAfter })).to.deep.equal(['SAVED'])
        expect(await recordOf(bench)).to.include({ entryId: '', runAfter: String(runAfter) })
        expect((await bench.keyspace()).sortedSets['delayed:mail']).to.deep.equal({ a: String(runAfter) })
        await expectWhole(bench)
      }
      await save(bench, 'a', { runAfter: '' })
      await expectWhole(bench)
      expect((await take(bench, 9)).map(([, id]) => id)).to.deep.equal(['a'])
    }),
  )

  it(
    'keeps a delayed record delayed when something else is saved, and picks its band when it is promoted',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 500 })
      const { changes } = await changesOf(bench, () => save(bench, 'a', { priority: 3, args: '[1]' }))
      expect(changes).to.deep.equal({ 'task:a priority': '-> 3', 'task:a args': '[] -> [1]' })
      await bench.elapse(500)
      await bench.run('promote', 'mail')
      expect(Object.values((await bench.keyspace()).streams['stream:mail:high']?.entries ?? {})).to.deep.equal(['a'])
      await expectWhole(bench)
    }),
  )

  it(
    'moves a record that was delivered but not begun, so that the old delivery begins nothing',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      await bench.redis.xreadgroup('GROUP', bench.group, 'reader', 'COUNT', 1, 'STREAMS', bench.stream(), '>')
      await save(bench, 'a', { runAfter: START_MS + 500 })
      await expectWhole(bench)
      expect(await bench.run('begin', ...aClaim(), '', bench.stream(), entryId, 'a')).to.deep.equal([['DROPPED', 'a']])
      await expectWhole(bench)
    }),
  )

  it(
    'writes to a finished record without placing it anywhere',
    onBench(async (bench) => {
      await failOne(bench)
      const { answer, changes } = await changesOf(bench, () =>
        save(bench, 'a', { priority: 3, runAfter: START_MS + 500 }),
      )
      expect(answer).to.deep.equal(['SAVED'])
      expect(changes).to.deep.equal({ 'task:a priority': '-> 3', 'task:a runAfter': `-> ${START_MS + 500}` })
      await expectWhole(bench)
    }),
  )

  it(
    'refuses a running record, and says when there is none or none that can be read',
    onBench(async (bench) => {
      await beginOne(bench, { id: 'running' })
      await spoil(bench, bench.keys.record('text'))
      const { answer, changes } = await changesOf(bench, async () => [
        await save(bench, 'running', { priority: 5 }),
        await save(bench, 'absent', { priority: 5 }),
        await save(bench, 'text', { priority: 5 }),
      ])
      expect(answer).to.deep.equal([['RUNNING'], ['ABSENT'], ['BROKEN']])
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'says SAVED and changes nothing when sent again',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      for (const fields of [{ priority: 5 }, { runAfter: START_MS + 500 }, { args: '[2]' }]) {
        expect(await save(bench, 'a', fields)).to.deep.equal(['SAVED'])
        await expectUnchanged(bench, () => save(bench, 'a', fields), ['SAVED'])
      }
    }),
  )

  it(
    'leaves one place, however many save at the same time; one of them is the last',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const runAfters = [START_MS + 100, '', START_MS + 200, START_MS - 1]
      await Promise.all(
        Array.from({ length: 40 }, (_, index) =>
          save(bench, 'a', { priority: (index % 3) - 1, runAfter: runAfters[index % 4] ?? '' }),
        ),
      )
      await expectWhole(bench)
    }),
  )

  for (const [index, fields] of [
    ['stream:mail:normal', { priority: 5 }],
    ['delayed:mail', { runAfter: START_MS + 500 }],
  ] as const) {
    it(
      `saves all the same when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        await enqueue(bench, { id: 'a' })
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const [word, error] = await save(bench, 'a', fields)
        expect(word).to.equal('SAVED')
        expect(error).to.contain('WRONGTYPE')
        expect(await recordOf(bench)).to.include(
          Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, String(value)])),
        )
      }),
    )
  }

  it(
    'lets a record wait in delayed while the stream of its new band is of a wrong type',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.del(bench.stream('high'))
      await spoil(bench, bench.stream('high'))
      expect((await save(bench, 'a', { priority: 5 }))[0]).to.equal('SAVED')
      expect(await recordOf(bench)).to.include({ entryId: '', priority: '5' })
      const { sortedSets, streams } = await bench.keyspace()
      expect(sortedSets['delayed:mail']).to.deep.equal({ a: String(START_MS + 60_000) })
      expect(streams['stream:mail:normal']?.entries).to.deep.equal({})
    }),
  )

  it(
    'saves a record with odd numbers',
    onBench(async (bench) => {
      for (const [index, odd] of ODD_NUMBERS.entries()) {
        await enqueue(bench, { id: `odd${index}` })
        await bench.redis.hset(bench.keys.record(`odd${index}`), { runAfter: odd, enqueuedAt: odd, attempts: odd })
        expect(await save(bench, `odd${index}`, { priority: 5 }), odd).to.deep.equal(['SAVED'])
      }
      expect(await bench.redis.xlen(bench.stream('high'))).to.equal(ODD_NUMBERS.length)
    }),
  )

  it(
    'saves for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        expect(await save(bench, 'a', { runAfter: START_MS + 500 })).to.deep.equal(['SAVED'])
        expect(await recordOf(bench)).to.include({ entryId: '', runAfter: String(START_MS + 500) })
      },
      { group: '' },
    ),
  )
})
