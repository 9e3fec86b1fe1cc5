/** cancel.lua on raw keys: a person ends what waits or runs; the token is gone, whoever runs it is told, and a repeat is one. */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { sharedRedisServer } from '../../../support/redis-server.ts'
import { eventually } from '../../../support/eventually.ts'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  ERROR,
  expectUnchanged,
  expectWhole,
  failOne,
  GROUP,
  LEASE_MS,
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

const REASON = '{"name":"TaskCancelledError","message":"no more","code":"ERR_TASKS_CANCELLED"}'
const lineOf = (attempt: number): string => `{"at":${NOW},"attempt":${attempt},${REASON.slice(1)}`

async function cancel(bench: ScriptBench, requestId: string, ...ids: readonly string[]): Promise<Words> {
  return (await bench.run('cancel', requestId, REASON, ...ids)) as Words
}

/** What is said on the channel while `call` runs. */
async function saidDuring(bench: ScriptBench, channel: string, call: () => Promise<unknown>): Promise<string[]> {
  const listener = new Redis((await sharedRedisServer()).url)
  const said: string[] = []
  try {
    await listener.subscribe(channel)
    listener.on('message', (_channel: string, message: string) => void said.push(message))
    await call()
    // Messages of one connection come in order: behind this one nothing is missing.
    await bench.redis.publish(channel, 'end')
    await eventually(() => said.includes('end'))
  } finally {
    listener.disconnect()
  }
  return said.filter((message) => message !== 'end')
}

describe('cancel.lua', () => {
  it(
    'ends a waiting record as FAILED, and takes its entry away',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      const { answer, changes } = await changesOf(bench, () => cancel(bench, 'request-1', 'a'))
      expect(answer).to.deep.equal(['CANCELLED'])
      expect(changes).to.deep.equal({
        'task:a status': 'READY -> FAILED',
        'task:a entryId': `${entryId} ->`,
        'task:a finishedAt': `-> ${NOW}`,
        'task:a errors': `-> ${lineOf(0)}`,
        'task:a cancelId': '-> request-1',
        'cell:mail:send:READY a': `${NOW} ->`,
        'cell:mail:send:FAILED a': `-> ${NOW}`,
        [`stream:mail:normal entry ${entryId}`]: 'a ->',
      })
      expect(await take(bench, 1)).to.deep.equal([])
      await expectWhole(bench)
    }),
  )

  it(
    'ends a delayed record, and takes its delayed row away',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 500 })
      expect(await cancel(bench, 'request-1', 'a')).to.deep.equal(['CANCELLED'])
      expect(await recordOf(bench)).to.include({ status: 'FAILED', errors: lineOf(0) })
      expect((await bench.keyspace()).sortedSets['delayed:mail'] ?? {}).to.deep.equal({})
      await bench.elapse(500)
      expect(await bench.run('promote', 'mail')).to.deep.equal([0, ''])
      await expectWhole(bench)
    }),
  )

  it(
    'ends a record whose entry was delivered and not begun: that delivery begins nothing',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      await bench.redis.xreadgroup('GROUP', GROUP, 'first.holder', 'STREAMS', bench.stream(), '>')
      await cancel(bench, 'request-1', 'a')
      const rows = (await bench.run('begin', ...aClaim(), '', bench.stream(), entryId, 'a')) as string[][]
      expect(rows.map(([word]) => word)).to.deep.equal(['DROPPED'])
      await expectWhole(bench)
    }),
  )

  it(
    'ends a running record, and leaves nothing of its attempt: lease, entry, pending row and token are gone',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.elapse(40)
      const at = String(START_MS + 40)
      const { answer, changes } = await changesOf(bench, () => cancel(bench, 'request-1', 'a'))
      expect(answer).to.deep.equal(['CANCELLED'])
      const minute = Math.floor(START_MS / 60_000)
      expect(changes).to.deep.include({
        'task:a status': 'RUNNING -> FAILED',
        'task:a leaseToken': `${begun.leaseToken} ->`,
        'task:a lastMove': `-> cancel ${begun.leaseToken}`,
        'task:a finishedAt': `-> ${at}`,
        'leases a': `${START_MS + LEASE_MS} ->`,
        [`stats:${minute} mail:FAILED:6`]: '-> 1',
      })
      await expectWhole(bench)
    }),
  )

  it(
    'refuses what its worker still sends: settle and requeue are LOST, renew says why',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await cancel(bench, 'request-1', 'a')
      const late = await changesOf(bench, async () => [
        await settle(bench, { ...begun, outcome: 'SUCCESSFUL' }),
        await bench.run('requeue', '', 'a', begun.leaseToken, begun.entryId),
        await bench.run('renew', 'first.holder', LEASE_MS, '', 'a', begun.leaseToken),
      ])
      expect(late).to.deep.equal({ answer: [['LOST'], ['LOST'], ['CANCELLED']], changes: {} })
    }),
  )

  it(
    'says on the channel which attempts end, with their tokens, and wakes those who wait for the end',
    onBench(async (bench) => {
      const a = await beginOne(bench, { id: 'a' })
      const b = await beginOne(bench, { id: 'b' })
      await enqueue(bench, { id: 'c' })
      for (const id of ['a', 'c']) await bench.run('watch', id)
      const all = (): Promise<Words> => cancel(bench, 'request-1', 'a', 'b', 'c')
      expect(await saidDuring(bench, bench.keys.cancelled, all)).to.deep.equal([`a ${a.leaseToken} b ${b.leaseToken}`])
      await enqueue(bench, { id: 'd' })
      await bench.run('watch', 'd')
      expect(await saidDuring(bench, bench.keys.finished, () => cancel(bench, 'request-2', 'd'))).to.deep.equal(['d'])
    }),
  )

  it(
    'answers CANCELLED and changes nothing when sent again, whatever the record did since',
    onBench(async (bench) => {
      await beginOne(bench)
      await cancel(bench, 'request-1', 'a')
      await expectUnchanged(bench, () => cancel(bench, 'request-1', 'a'), ['CANCELLED'])
      await bench.run('retry', 'request-2', 'a')
      await expectUnchanged(bench, () => cancel(bench, 'request-1', 'a'), ['CANCELLED'])
      const second = begunOf((await take(bench, 1))[0])
      await expectUnchanged(bench, () => cancel(bench, 'request-1', 'a'), ['CANCELLED'])
      await expectUnchanged(bench, () => bench.run('retry', 'request-2', 'a'), ['RETRIED'])
      expect(await settle(bench, second)).to.deep.equal(['SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'leaves a retry or a run by id that is sent again without effect, however the cancel came between',
    onBench(async (bench) => {
      await failOne(bench)
      await bench.run('retry', 'request-1', 'a')
      await cancel(bench, 'request-2', 'a')
      await bench.run('retry', 'request-1', 'a')
      expect(await recordOf(bench)).to.include({ status: 'FAILED' })
      const claim = aClaim('web')
      await bench.run('run-by-id', ...claim, 'a', '1')
      await cancel(bench, 'request-3', 'a')
      expect(await bench.run('run-by-id', ...claim, 'a', '1')).to.deep.equal(['STATE', 'FAILED'])
      await expectWhole(bench)
    }),
  )

  it(
    'keeps the errors of the attempts before',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await settle(bench, { ...begun, outcome: 'READY', payload: ERROR })
      await cancel(bench, 'request-1', 'a')
      const { errors = '' } = await recordOf(bench)
      expect(errors.split('\n')).to.deep.equal([`{"at":${NOW},${ERROR.slice(1)}`, lineOf(1)])
      // And that settle, sent again, is still the one that was accepted.
      expect(await settle(bench, { ...begun, outcome: 'READY', payload: ERROR })).to.deep.equal(['SETTLED'])
    }),
  )

  it(
    'judges each of a batch by itself, and an id that stands twice once',
    onBench(async (bench) => {
      await oneOfEach(bench)
      const ids = ['ready', 'failed', 'running', 'text', 'done', 'absent', 'ready']
      expect(await cancel(bench, 'request-1', ...ids)).to.deep.equal([
        ...['CANCELLED', 'FAILED', 'CANCELLED', 'BROKEN', 'SUCCESSFUL', 'ABSENT', 'CANCELLED'],
      ])
      expect((await recordOf(bench, 'ready'))['errors']?.split('\n')).to.have.lengthOf(1)
    }),
  )

  it(
    'of a cancel and a settle at the same time lets one win',
    onBench(async (bench) => {
      for (let round = 0; round < 20; round += 1) {
        const id = `r${round}`
        const begun = await beginOne(bench, { id })
        const [words, [settled]] = await Promise.all([cancel(bench, `c-${round}`, id), settle(bench, begun)])
        expect([words[0], settled]).to.be.deep.oneOf([
          ['CANCELLED', 'LOST'],
          ['SUCCESSFUL', 'SETTLED'],
        ])
      }
      await expectWhole(bench)
    }),
  )

  for (const index of ['leases', 'cell:mail:send:READY', 'cell:mail:send:FAILED', 'stream:mail:normal']) {
    it(
      `cancels all the same when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        await enqueue(bench, { id: 'a' })
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const answer = await cancel(bench, 'request-1', 'a')
        expect(answer[0]).to.equal('CANCELLED')
        expect(answer[1]).to.contain('WRONGTYPE')
        expect(await recordOf(bench)).to.include({ status: 'FAILED' })
      }),
    )
  }

  it(
    'cancels a record with odd numbers',
    onBench(async (bench) => {
      for (const [index, odd] of ODD_NUMBERS.entries()) {
        const { id } = await beginOne(bench, { id: `odd${index}` })
        await bench.redis.hset(bench.keys.record(id), { enqueuedAt: odd, attempts: odd, lastAttemptedAt: odd })
        expect(await cancel(bench, 'request-1', id), odd).to.deep.equal(['CANCELLED'])
        expect(JSON.parse((await recordOf(bench, id))['errors'] ?? '')).to.include({ name: 'TaskCancelledError' })
      }
    }),
  )

  it(
    'cancels for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        expect(await cancel(bench, 'request-1', 'a')).to.deep.equal(['CANCELLED'])
      },
      { group: '' },
    ),
  )
})
