/** requeue.lua on raw keys: attempts handed back without being counted, and deliveries that were never begun. */
import { expect } from 'chai'
import {
  LEASE_FIELDS,
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
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

interface Held {
  readonly id: string
  readonly leaseToken: string
  readonly entryId: string
}

async function requeue(bench: ScriptBench, delay: 'none' | 'growing', ...held: readonly Held[]): Promise<Words> {
  const words = held.flatMap(({ id, leaseToken, entryId }) => [id, leaseToken, entryId])
  return (await bench.run('requeue', delay === 'growing' ? '1' : '', ...words)) as Words
}

/** Delivers one entry without beginning it. */
async function deliverOne(bench: ScriptBench, id: string): Promise<Held> {
  await bench.redis.xreadgroup('GROUP', bench.group, 'reader', 'COUNT', 1, 'STREAMS', bench.stream(), '>')
  return { id, leaseToken: '', entryId: (await recordOf(bench, id))['entryId'] ?? '' }
}

describe('requeue.lua', () => {
  it(
    'hands a first attempt back as if it had never begun, at the end of its band',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await enqueue(bench, { id: 'b' })
      const { answer, changes } = await changesOf(bench, () => requeue(bench, 'none', begun))
      const { entryId = '' } = await recordOf(bench)
      expect(answer).to.deep.equal(['REQUEUED'])
      expect(changes).to.deep.equal({
        'task:a status': 'RUNNING -> READY',
        'task:a leaseToken': `${begun.leaseToken} ->`,
        'task:a lastMove': `-> requeue ${begun.leaseToken}`,
        'task:a entryId': `${begun.entryId} -> ${entryId}`,
        'task:a attempts': '-> 0',
        'task:a workerIds': 'first ->',
        'task:a handBacks': '-> 0',
        'task:a runAfter': '->',
        'cell:mail:send:RUNNING a': `${NOW} ->`,
        'cell:mail:send:READY a': `-> ${NOW}`,
        'leases a': `${START_MS + 1_000} ->`,
        [`stream:mail:normal entry ${begun.entryId}`]: 'a ->',
        [`stream:mail:normal pending ${begun.entryId}`]: 'first.holder ->',
        [`stream:mail:normal entry ${entryId}`]: '-> a',
      })
      expect((await take(bench, 2)).map(([, id]) => id)).to.deep.equal(['b', 'a'])
      await expectWhole(bench)
    }),
  )

  it(
    'takes the number, the worker and nothing else of a later attempt back; the fence goes on',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await settle(bench, { ...first, outcome: 'READY' })
      await bench.elapse(10)
      const second = begunOf((await take(bench, 1, { claim: aClaim('second') }))[0])
      expect(await requeue(bench, 'none', second)).to.deep.equal(['REQUEUED'])
      expect(await recordOf(bench)).to.include({
        attempts: '1',
        workerIds: 'first',
        startedAt: NOW,
        fence: second.fence,
      })
      const third = begunOf((await take(bench, 1))[0])
      expect(third.attempts).to.equal('2')
      expect(Number(third.fence)).to.be.greaterThan(Number(second.fence))
      await expectWhole(bench)
    }),
  )

  it(
    'makes the record wait longer each time when asked to: 250 ms, doubled, a minute at most',
    onBench(async (bench) => {
      const expected = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
      await enqueue(bench, { id: 'a' })
      for (const [index, delayMs] of expected.entries()) {
        const begun = begunOf((await take(bench, 1))[0])
        expect(begun.handBacks).to.equal(String(index))
        expect(await requeue(bench, 'growing', begun)).to.deep.equal(['REQUEUED'])
        expect(await recordOf(bench)).to.include({
          runAfter: String(bench.nowMs + delayMs),
          entryId: '',
          attempts: '0',
        })
        await expectWhole(bench)
        await bench.elapse(delayMs)
        await bench.run('promote', 'mail')
      }
    }),
  )

  const REASON = '{"name":"TaskNotRegisteredError","message":"nobody knows it"}'

  /** Begins it again, whatever its delay, and hands it back as a task that nobody knows, for 600 ms at most. */
  async function unknown(bench: ScriptBench): Promise<string> {
    const row = begunOf((await bench.run('run-by-id', ...aClaim(), 'a', '1')) as Words)
    const words = (await bench.run('requeue', `600 ${REASON}`, 'a', row.leaseToken, row.entryId)) as Words
    return words[0] ?? ''
  }

  it(
    'fails a record that nobody knew for the limit of time, uncounted, and answers the same when sent again',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      expect(await unknown(bench)).to.equal('REQUEUED')
      expect(await recordOf(bench)).to.include({ handBacks: '1', unknownSince: `1:${NOW}` })
      await bench.elapse(599)
      expect(await unknown(bench)).to.equal('REQUEUED')
      await bench.elapse(1)
      await bench.run('watch', 'a')
      const row = begunOf((await bench.run('run-by-id', ...aClaim(), 'a', '')) as Words)
      const again = (): Promise<unknown> => bench.run('requeue', `600 ${REASON}`, 'a', row.leaseToken, row.entryId)
      expect(await again()).to.deep.equal(['FAILED'])
      const record = await recordOf(bench)
      expect(record).to.include({ status: 'FAILED', attempts: '0', workerIds: '' })
      expect(record['errors']).to.equal(`{"at":${START_MS + 600},"attempt":0,${REASON.slice(1)}`)
      expect(record).to.not.have.any.keys('startedAt', 'lastAttemptedAt', ...LEASE_FIELDS)
      await expectUnchanged(bench, again, ['FAILED'])
      await expectWhole(bench)
    }),
  )

  it(
    'counts that time anew after a retry by a person, and after an attempt that ran',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await unknown(bench)
      await bench.elapse(600)
      expect(await unknown(bench)).to.equal('FAILED')
      await bench.run('retry', 'request-1', 'a')
      expect(await unknown(bench)).to.equal('REQUEUED')
      await bench.elapse(500)
      const ran = begunOf((await bench.run('run-by-id', ...aClaim(), 'a', '')) as Words)
      await settle(bench, { ...ran, outcome: 'READY' })
      await bench.elapse(500)
      expect(await unknown(bench)).to.equal('REQUEUED')
      await bench.elapse(600)
      expect(await unknown(bench)).to.equal('FAILED')
      await expectWhole(bench)
    }),
  )

  it(
    'gives a delivery that was not begun a new entry, and does not begin it',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const delivered = await deliverOne(bench, 'a')
      const { answer, changes } = await changesOf(bench, () => requeue(bench, 'none', delivered))
      const { entryId = '' } = await recordOf(bench)
      expect(answer).to.deep.equal(['REQUEUED'])
      expect(changes).to.deep.equal({
        'task:a entryId': `${delivered.entryId} -> ${entryId}`,
        [`stream:mail:normal entry ${delivered.entryId}`]: 'a ->',
        [`stream:mail:normal pending ${delivered.entryId}`]: 'reader ->',
        [`stream:mail:normal entry ${entryId}`]: '-> a',
      })
      // Sent again without a token it is LOST, which the caller ignores
      await expectUnchanged(bench, () => requeue(bench, 'none', delivered), ['LOST'])
    }),
  )

  it(
    'leaves a delivery alone that was begun meanwhile',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const delivered = await deliverOne(bench, 'a')
      await bench.run('begin', ...aClaim(), '', bench.stream(), delivered.entryId, 'a')
      await expectUnchanged(bench, () => requeue(bench, 'none', delivered), ['LOST'])
    }),
  )

  it(
    'answers REQUEUED and changes nothing when sent again, also after the record began anew and ended',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await requeue(bench, 'growing', begun)
      await expectUnchanged(bench, () => requeue(bench, 'growing', begun), ['REQUEUED'])
      await bench.elapse(250)
      await bench.run('promote', 'mail')
      const second = begunOf((await take(bench, 1, { claim: aClaim('second') }))[0])
      expect(second.leaseToken).to.match(/^1:second/)
      await expectUnchanged(bench, () => requeue(bench, 'growing', begun), ['REQUEUED'])
      expect(await settle(bench, second)).to.deep.equal(['SETTLED'])
      await expectUnchanged(bench, () => requeue(bench, 'growing', begun), ['REQUEUED'])
    }),
  )

  it(
    'answers LOST and writes nothing for a token or an entry that is not the record’s',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await enqueue(bench, { id: 'waiting' }, { id: 'later', runAfter: START_MS + 500 })
      const strangers = [
        { ...begun, leaseToken: '1:other.1' },
        { ...begun, leaseToken: '' },
        { id: 'waiting', leaseToken: '', entryId: '1-1' },
        { id: 'waiting', leaseToken: '', entryId: '' },
        { id: 'later', leaseToken: '', entryId: '' },
        { ...begun, id: 'absent' },
      ]
      const { answer, changes } = await changesOf(bench, () => requeue(bench, 'none', ...strangers))
      expect(answer).to.deep.equal(strangers.map(() => 'LOST'))
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'judges each of a batch by itself',
    onBench(async (bench) => {
      const [a, b] = [await beginOne(bench, { id: 'a' }), await beginOne(bench, { id: 'b' })]
      await spoil(bench, bench.keys.record('text'))
      const items = [a, { ...b, leaseToken: '1:other.1' }, { ...b, id: 'text' }, b, a]
      expect(await requeue(bench, 'none', ...items)).to.deep.equal([
        'REQUEUED',
        'LOST',
        'BROKEN',
        'REQUEUED',
        'REQUEUED',
      ])
      await expectWhole(bench)
    }),
  )

  for (const index of [
    'cell:mail:send:RUNNING',
    'cell:mail:send:READY',
    'leases',
    'stream:mail:normal',
    'delayed:mail',
  ]) {
    it(
      `hands back all the same when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        const [a, b] = [await beginOne(bench, { id: 'a' }), await beginOne(bench, { id: 'b', queueName: 'other' })]
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const answer = await requeue(bench, index === 'delayed:mail' ? 'growing' : 'none', a, b)
        expect(answer.slice(0, 2)).to.deep.equal(['REQUEUED', 'REQUEUED'])
        expect(answer[2]).to.contain('WRONGTYPE')
        for (const id of ['a', 'b']) expect(await recordOf(bench, id)).to.include({ status: 'READY', leaseToken: '' })
        if (index === 'stream:mail:normal') {
          expect((await bench.keyspace()).sortedSets['delayed:mail']).to.deep.equal({ a: String(START_MS + 60_000) })
        }
      }),
    )
  }

  it(
    'takes an odd number for 0',
    onBench(async (bench) => {
      const fields = ['attempts', 'handBacks', 'crashes', 'fence', 'enqueuedAt', 'runAfter']
      for (const [index, odd] of ODD_NUMBERS.entries()) {
        const begun = await beginOne(bench, { id: `odd${index}` })
        await bench.redis.hset(bench.keys.record(begun.id), Object.fromEntries(fields.map((field) => [field, odd])))
        expect(await requeue(bench, 'growing', begun), odd).to.deep.equal(['REQUEUED'])
        expect(await recordOf(bench, begun.id), odd).to.include({
          attempts: '0',
          handBacks: '1',
          runAfter: String(START_MS + 250),
        })
      }
    }),
  )

  it(
    'hands an attempt back once, however many send it at the same time',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      const answers = await Promise.all(Array.from({ length: 10 }, () => requeue(bench, 'none', begun)))
      expect(answers.flat()).to.deep.equal(Array.from({ length: 10 }, () => 'REQUEUED'))
      await expectWhole(bench)
    }),
  )

  it(
    'hands back for a client without groups; the old entry stays, as nobody there could remove it',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        const begun = begunOf((await bench.run('run-by-id', ...aClaim('web'), 'a', '')) as Words)
        expect(await requeue(bench, 'none', begun)).to.deep.equal(['REQUEUED'])
        expect(await recordOf(bench)).to.include({ status: 'READY', attempts: '0' })
      },
      { group: '' },
    ),
  )
})
