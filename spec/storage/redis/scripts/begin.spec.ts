/** begin.lua on raw keys: entries that were read outside a script, and what a consumer finds in its own pending list. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expandFirsts,
  expectUnchanged,
  expectWhole,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { Rows, ScriptBench } from './support.ts'

type Entry = readonly [stream: string, entryId: string, id: string]

/** Delivers entries of the normal band without beginning them. */
async function deliver(bench: ScriptBench, consumer: string, count = 100): Promise<Entry[]> {
  const reply = (await bench.redis.xreadgroup(
    ...(['GROUP', bench.group, consumer, 'COUNT', count, 'STREAMS', bench.stream(), '>'] as const),
  )) as [string, [string, string[]][]][] | null
  return (reply ?? []).flatMap(([stream, entries]) =>
    entries.map(([entryId, fields]): Entry => [stream, entryId, fields[1] ?? '']),
  )
}

async function begin(
  bench: ScriptBench,
  claim: ReturnType<typeof aClaim>,
  entries: readonly Entry[],
  mode: 'delivered' | 'own' = 'delivered',
): Promise<Rows> {
  return expandFirsts((await bench.run('begin', ...claim, mode === 'own' ? '1' : '', ...entries.flat())) as Rows)
}

const words = (rows: Rows): string[] => rows.map(([word = '', id = '']) => `${word} ${id}`)

describe('begin.lua', () => {
  it(
    'begins what was delivered, in order',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      const claim = aClaim()
      const rows = await begin(bench, claim, await deliver(bench, claim[0]))
      expect(words(rows)).to.deep.equal(['BEGUN a', 'BEGUN b'])
      expect(begunOf(rows[0])).to.include({ leaseToken: `1:${claim[1]}`, leaseUntil: String(START_MS + 1_000) })
      await expectWhole(bench)
    }),
  )

  it(
    'answers BEGUN with the same token when sent again, and writes nothing',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      const claim = aClaim()
      const entries = await deliver(bench, claim[0])
      const rows = await begin(bench, claim, entries)
      await bench.elapse(10)
      // A repeat is read from the record, and says in words what follows from a first attempt's fence and call.
      const now = String(START_MS)
      const again = rows.map((row) => [...row, now, now, 'first', '', '0', '0'])
      await expectUnchanged(bench, () => begin(bench, claim, entries), again)
      // Also as a call of mode own
      await expectUnchanged(bench, () => begin(bench, claim, entries, 'own'), again)
    }),
  )

  it(
    'holds what runs under any other call: of another worker, or of the same one',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim('first')
      const entries = await deliver(bench, claim[0])
      await begin(bench, claim, entries)
      for (const other of [aClaim('second'), aClaim('first')]) {
        await expectUnchanged(bench, () => begin(bench, other, entries), [['HELD', 'a']])
      }
    }),
  )

  it(
    'gives an attempt of its own holder a new token, fence and deadline in mode own, under the same number',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await bench.elapse(400)
      const claim = aClaim()
      const { answer, changes } = await changesOf(bench, () =>
        begin(bench, claim, [[bench.stream(), first.entryId, 'a']], 'own'),
      )
      const fence = String((START_MS + 400) * 1000)
      expect(begunOf(answer[0])).to.include({ leaseToken: `1:${claim[1]}`, attempts: '1', fence, workerIds: 'first' })
      expect(changes).to.deep.equal({
        'task:a leaseToken': `${first.leaseToken} -> 1:${claim[1]}`,
        'task:a leaseUntil': `${START_MS + 1_000} -> ${START_MS + 1_400}`,
        'task:a fence': `${START_MS * 1000} -> ${fence}`,
        'task:a startedAt': `-> ${START_MS}`,
        // The fence no longer says them.
        'task:a attempts': '-> 1',
        'task:a lastAttemptedAt': `-> ${START_MS}`,
        'leases a': `${START_MS + 1_000} -> ${START_MS + 1_400}`,
      })
      expect(await settle(bench, first)).to.deep.equal(['LOST'])
    }),
  )

  it(
    'does not touch the attempt of another holder in mode own',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await expectUnchanged(
        bench,
        () => begin(bench, aClaim('second'), [[bench.stream(), first.entryId, 'a']], 'own'),
        [['HELD', 'a']],
      )
    }),
  )

  it(
    'begins READY and its own RUNNING in one batch',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await enqueue(bench, { id: 'b' })
      const claim = aClaim()
      const entries: Entry[] = [[bench.stream(), first.entryId, 'a'], ...(await deliver(bench, claim[0]))]
      expect(words(await begin(bench, claim, entries, 'own'))).to.deep.equal(['BEGUN a', 'BEGUN b'])
      await expectWhole(bench)
    }),
  )

  it(
    'begins an entry once that stands twice in a batch',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim()
      const [entry] = await deliver(bench, claim[0])
      if (!entry) throw new Error('expected an entry, got: none')
      expect(words(await begin(bench, claim, [entry, entry]))).to.deep.equal(['BEGUN a', 'HELD a'])
      expect(await recordOf(bench)).to.include({ workerIds: 'first' })
      await expectWhole(bench)
    }),
  )

  it(
    'drops the entries that no record names and begins the rest',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'gone' }, { id: 'moved' }, { id: 'text' })
      const claim = aClaim()
      const entries = await deliver(bench, claim[0])
      await bench.run('delete-record', 'gone')
      await bench.run('save-record', 'moved', 'priority', 5)
      await bench.redis.del(bench.keys.record('text'))
      await spoil(bench, bench.keys.record('text'))
      expect(words(await begin(bench, claim, entries))).to.deep.equal([
        'BEGUN a',
        'DROPPED gone',
        'DROPPED moved',
        'BROKEN text',
      ])
      const { streams } = await bench.keyspace()
      expect(Object.values(streams['stream:mail:normal']?.entries ?? {})).to.deep.equal(['a', 'text'])
      expect(Object.values(streams['stream:mail:high']?.entries ?? {})).to.deep.equal(['moved'])
    }),
  )

  it(
    'deletes an entry only if it is the one that was judged',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim()
      const [[stream, entryId] = ['', '']] = await deliver(bench, claim[0])
      // Given a caller that is wrong about the id in the entry
      await expectUnchanged(bench, () => begin(bench, claim, [[stream, entryId, 'other']]), [['DROPPED', 'other']])
    }),
  )

  it(
    'takes the pending row of a deleted entry away',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim()
      const [[stream, entryId] = ['', '']] = await deliver(bench, claim[0])
      await bench.redis.xdel(stream, entryId)
      // An own list shows it without fields, so without an id
      expect(words(await begin(bench, claim, [[stream, entryId, '']], 'own'))).to.deep.equal(['DROPPED '])
      expect((await bench.keyspace()).streams['stream:mail:normal']?.pending).to.deep.equal([])
    }),
  )

  it(
    'does not begin an entry of the same id in another stream',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim()
      const [[stream, entryId] = ['', '']] = await deliver(bench, claim[0])
      await expectUnchanged(bench, () => begin(bench, claim, [[bench.stream('high'), entryId, 'a']]), [
        ['DROPPED', 'a'],
      ])
      expect(words(await begin(bench, claim, [[stream, entryId, 'a']]))).to.deep.equal(['BEGUN a'])
    }),
  )

  it(
    'answers with the error of an index key and begins all the same',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim()
      const entries = await deliver(bench, claim[0])
      await spoil(bench, bench.keys.leases)
      const rows = await begin(bench, claim, entries)
      expect(rows.map(([word]) => word)).to.deep.equal(['BEGUN', 'INDEX'])
    }),
  )

  it(
    'begins a record once when two callers were handed its entry',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const entries = await deliver(bench, 'reader')
      const answers = await Promise.all(['x', 'y', 'z'].map((worker) => begin(bench, aClaim(worker), entries)))
      expect(answers.flatMap(words).sort()).to.deep.equal(['BEGUN a', 'HELD a', 'HELD a'])
      expect(await take(bench, 9)).to.deep.equal([])
      await expectWhole(bench)
    }),
  )
})
