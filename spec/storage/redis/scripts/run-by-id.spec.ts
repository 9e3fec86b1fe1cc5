/** run-by-id.lua on raw keys: an attempt begun by a person or a webhook, wherever the record stands. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  failOne,
  NOW,
  ODD_NUMBERS,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench, Words } from './support.ts'

async function runById(bench: ScriptBench, id: string, allowRetry = false, claim = aClaim('web')): Promise<Words> {
  return (await bench.run('run-by-id', ...claim, id, allowRetry ? '1' : '')) as Words
}

const UNTIL = String(START_MS + 1_000)

describe('run-by-id.lua', () => {
  it(
    'begins a waiting record and leaves its entry undelivered; a worker that reads it holds still, and the settle removes it',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      const claim = aClaim('web')
      const { answer, changes } = await changesOf(bench, () => runById(bench, 'a', false, claim))
      const begun = begunOf(answer)
      expect(begun).to.include({ entryId, leaseToken: `1:${claim[1]}`, attempts: '1', workerIds: 'web', priority: '0' })
      expect(changes).to.deep.equal({
        'task:a status': 'READY -> RUNNING',
        'task:a leaseToken': `-> 1:${claim[1]}`,
        'task:a leaseUntil': `-> ${UNTIL}`,
        'task:a fence': `-> ${START_MS * 1000}`,
        'task:a attempts': '-> 1',
        'task:a workerIds': '-> web',
        'task:a startedAt': `-> ${NOW}`,
        'task:a lastAttemptedAt': `-> ${NOW}`,
        'task:a runAfter': '->',
        'task:a requestId': `-> ${claim[1]}`,
        'cell:mail:send:READY a': `${NOW} ->`,
        'cell:mail:send:RUNNING a': `-> ${NOW}`,
        'leases a': `-> ${UNTIL}`,
      })
      await expectWhole(bench)
      expect(await take(bench, 9)).to.deep.equal([['HELD', 'a']])
      expect(await settle(bench, begun)).to.deep.equal(['SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'begins a delayed record, gives it an entry and empties its due time',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 60_000 })
      const begun = begunOf(await runById(bench, 'a'))
      expect(begun.runAfter).to.equal('')
      expect(begun.entryId).to.match(/^\d+-\d+$/)
      expect(await recordOf(bench)).to.include({ status: 'RUNNING', runAfter: '', entryId: begun.entryId })
      await expectWhole(bench)
    }),
  )

  it(
    'begins a failed record only where a retry is allowed, and forgets its crashes and hand-backs',
    onBench(async (bench) => {
      await failOne(bench)
      await bench.redis.hset(bench.keys.record('a'), { crashes: '1', handBacks: '2' })
      await expectUnchanged(bench, () => runById(bench, 'a'), ['STATE', 'FAILED'])
      const begun = begunOf(await runById(bench, 'a', true))
      expect(begun).to.include({ attempts: '2', workerIds: 'first web', crashes: '0', handBacks: '0' })
      expect(begun.errors).to.contain('"message":"no"')
      expect(await recordOf(bench)).to.include({ crashes: '0', handBacks: '0', finishedAt: '' })
      await expectWhole(bench)
    }),
  )

  it(
    'says what state the record is in, or that there is none',
    onBench(async (bench) => {
      const running = await beginOne(bench, { id: 'running' })
      const done = await beginOne(bench, { id: 'done' })
      await settle(bench, done)
      await spoil(bench, bench.keys.record('text'))
      await bench.redis.hset(bench.keys.record('empty'), 'stray', 'field')
      expect(running.id).to.equal('running')
      const { answer, changes } = await changesOf(bench, () =>
        Promise.all(['running', 'done', 'absent', 'text', 'empty'].map((id) => runById(bench, id, true))),
      )
      expect(answer).to.deep.equal([['STATE', 'RUNNING'], ['STATE', 'SUCCESSFUL'], ['ABSENT'], ['BROKEN'], ['BROKEN']])
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'answers BEGUN with the same token when sent again, and STATE once the attempt ended',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim('web')
      const first = await runById(bench, 'a', true, claim)
      await expectUnchanged(bench, () => runById(bench, 'a', true, claim), first)
      await settle(bench, { ...begunOf(first), outcome: 'FAILED' })
      expect(await runById(bench, 'a', true, claim)).to.deep.equal(['STATE', 'FAILED'])
      expect(await recordOf(bench)).to.include({ attempts: '1' })
    }),
  )

  it(
    'does not run again for a request that was carried out and put back',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const claim = aClaim('web')
      await settle(bench, { ...begunOf(await runById(bench, 'a', false, claim)), outcome: 'READY' })
      expect(await runById(bench, 'a', false, claim)).to.deep.equal(['STATE', 'READY'])
    }),
  )

  it(
    'begins a record once, however many ask at the same time',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const answers = await Promise.all(Array.from({ length: 20 }, () => runById(bench, 'a', true)))
      expect(answers.filter(([word]) => word === 'BEGUN')).to.have.lengthOf(1)
      expect(answers.filter(([word, state]) => word === 'STATE' && state === 'RUNNING')).to.have.lengthOf(19)
      await expectWhole(bench)
    }),
  )

  for (const index of [
    'cell:mail:send:READY',
    'cell:mail:send:RUNNING',
    'leases',
    'delayed:mail',
    'stream:mail:normal',
  ]) {
    it(
      `begins all the same when ${index} is of a wrong type, answers with the error, and can be settled`,
      onBench(async (bench) => {
        await enqueue(bench, { id: 'a', runAfter: START_MS + 1 })
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const row = await runById(bench, 'a')
        const begun = begunOf(row)
        expect(row.at(-1)).to.contain('WRONGTYPE')
        expect(await recordOf(bench)).to.include({ status: 'RUNNING', leaseToken: begun.leaseToken })
        expect((await settle(bench, begun))[0]).to.equal('SETTLED')
      }),
    )
  }

  it(
    'takes an odd number for 0',
    onBench(async (bench) => {
      const fields = ['attempts', 'fence', 'enqueuedAt', 'crashes', 'handBacks', 'leaseUntil', 'priority', 'runAfter']
      for (const [index, odd] of ODD_NUMBERS.entries()) {
        const id = `odd${index}`
        await enqueue(bench, { id })
        await bench.redis.hset(bench.keys.record(id), Object.fromEntries(fields.map((field) => [field, odd])))
        const begun = begunOf(await runById(bench, id))
        expect(begun, odd).to.include({ attempts: '1', fence: String(START_MS * 1000), crashes: '0', handBacks: '0' })
        expect(await settle(bench, begun), odd).to.deep.equal(['SETTLED'])
      }
    }),
  )

  it(
    'runs for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' }, { id: 'later', runAfter: START_MS + 1 })
        for (const id of ['a', 'later']) {
          const claim = aClaim('web')
          const begun = begunOf(await runById(bench, id, false, claim))
          expect(begunOf(await runById(bench, id, false, claim)).leaseToken).to.equal(begun.leaseToken)
          expect(await settle(bench, { ...begun, outcome: 'FAILED' })).to.deep.equal(['SETTLED'])
          expect(begunOf(await runById(bench, id, true)).attempts).to.equal('2')
        }
      },
      { group: '' },
    ),
  )
})
