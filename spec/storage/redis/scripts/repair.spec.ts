/**
 * The repairs on raw keys: nothing is changed where nothing is broken, each change is exactly what was broken, and a repair that is
 * sent again changes nothing. What a doctor does with them is in spec/doctor.
 */
import { expect } from 'chai'
import type { ScriptName } from '../../../../lib/storage/redis/scripts.ts'
import {
  beginOne,
  changesOf,
  enqueue,
  failOne,
  GROUP,
  LEASE_MS,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench } from './support.ts'

type Changes = Record<string, string>

/** Sends a repair, and once more: the second one changes nothing. */
async function repair(
  bench: ScriptBench,
  name: ScriptName,
  ...args: readonly (string | number)[]
): Promise<{ answer: unknown; changes: Changes }> {
  const first = await changesOf(bench, () => bench.run(name, ...args))
  const second = await changesOf(bench, () => bench.run(name, ...args))
  expect(second.changes).to.deep.equal({})
  expect(second.answer).to.deep.equal(name === 'repair-record' ? [(first.answer as string[])[0]] : 'FINE')
  return first
}

const RETENTION_MS = 60_000
const mend = (bench: ScriptBench, id = 'a'): ReturnType<typeof repair> =>
  repair(bench, 'repair-record', id, RETENTION_MS)

const cell = (bench: ScriptBench, status: 'READY' | 'RUNNING' | 'FAILED'): string =>
  bench.keys.cell({ queueName: 'mail', name: 'send', status })

describe('repair-record.lua', () => {
  it(
    'changes nothing about a record in any state that has all it needs',
    onBench(async (bench) => {
      await beginOne(bench, { id: 'run' })
      await settle(bench, await beginOne(bench, { id: 'done' }))
      await failOne(bench, { id: 'failed' })
      await enqueue(bench, { id: 'ready' }, { id: 'later', runAfter: START_MS + 9_000 })
      await bench.run('run-by-id', 'web.holder', 'web-holder.1', LEASE_MS, 'web', 'ready', '')
      await enqueue(bench, { id: 'read' })
      await bench.redis.xreadgroup('GROUP', GROUP, 'other', 'COUNT', 9, 'STREAMS', bench.stream(), '>')
      for (const id of ['run', 'done', 'failed', 'ready', 'later', 'read']) {
        expect(await mend(bench, id), id).to.deep.equal({ answer: ['MENDED'], changes: {} })
      }
    }),
  )

  it(
    'leaves alone what is no record, and what cannot be read',
    onBench(async (bench) => {
      expect(await mend(bench, 'none')).to.deep.equal({ answer: ['ABSENT'], changes: {} })
      await bench.redis.set(bench.keys.record('s'), 'x')
      expect(await mend(bench, 's')).to.deep.equal({ answer: ['BROKEN'], changes: {} })
      await enqueue(bench, { id: 'a' })
      await bench.redis.hset(bench.keys.record('a'), 'status', 'WAITING')
      expect(await mend(bench)).to.deep.equal({ answer: ['BROKEN'], changes: {} })
    }),
  )

  it(
    'gives READY without a place an entry, that a worker begins',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.del(bench.stream())
      const { answer } = await mend(bench)
      expect(answer).to.deep.equal(['MENDED', 'I4'])
      const rows = await take(bench, 1)
      expect(rows[0]?.slice(0, 2)).to.deep.equal(['BEGUN', 'a'])
    }),
  )

  it(
    'gives READY whose time has not come its row, and no entry',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 9_000 })
      await bench.redis.zrem(bench.keys.delayed('mail'), 'a')
      const { answer, changes } = await mend(bench)
      expect(answer).to.deep.equal(['MENDED', 'I4'])
      expect(changes).to.deep.equal({ 'delayed:mail a': `-> ${START_MS + 9_000}` })
    }),
  )

  it(
    'lets READY wait in delayed while its stream cannot be written',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      await spoil(bench, bench.stream())
      const { answer, changes } = await mend(bench)
      expect(answer).to.deep.equal(['MENDED', 'I4'])
      expect(changes).to.deep.equal({ 'task:a entryId': `${entryId} ->`, 'delayed:mail a': `-> ${START_MS + 60_000}` })
    }),
  )

  it(
    'puts back the lease row of RUNNING with its own deadline: the attempt goes on',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.redis.del(bench.keys.leases)
      const { answer, changes } = await mend(bench)
      expect(answer).to.deep.equal(['MENDED', 'I5'])
      expect(changes).to.deep.equal({ 'leases a': `-> ${START_MS + LEASE_MS}` })
      expect(await settle(bench, begun)).to.deep.equal(['SETTLED'])
    }),
  )

  it(
    'gives RUNNING another entry: the attempt goes on, its settle removes it, and a worker that reads it leaves it alone',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.redis.del(bench.stream())
      expect((await mend(bench)).answer).to.deep.equal(['MENDED', 'I5'])
      expect((await take(bench, 1))[0]?.[0]).to.equal('HELD')
      expect(await settle(bench, begun)).to.deep.equal(['SETTLED'])
      expect(await bench.redis.xlen(bench.stream())).to.equal(0)
    }),
  )

  it(
    'lets RUNNING without a token be taken over at once',
    onBench(async (bench) => {
      await beginOne(bench)
      await bench.redis.hset(bench.keys.record('a'), 'leaseToken', '')
      expect((await mend(bench)).answer).to.deep.equal(['MENDED', 'I5'])
      const claim = ['rescuer.holder', 'rescuer-holder.1', LEASE_MS, 'rescuer'] as const
      const rows = (await bench.run('reclaim', ...claim, 9, 3, 0, '{}', bench.stream(), '-')) as string[][]
      expect(rows[1]?.slice(0, 2)).to.deep.equal(['BEGUN', 'a'])
      expect(await recordOf(bench)).to.include({ status: 'RUNNING', attempts: '2', crashes: '1' })
    }),
  )

  it(
    'takes the entry from a record that finished',
    onBench(async (bench) => {
      await failOne(bench)
      const entryId = (await bench.redis.xadd(bench.stream(), '*', 'id', 'a')) ?? ''
      await bench.redis.hset(bench.keys.record('a'), 'entryId', entryId)
      const { answer, changes } = await mend(bench)
      expect(answer).to.deep.equal(['MENDED', 'I6'])
      expect(changes).to.deep.equal({
        'task:a entryId': `${entryId} ->`,
        [`stream:mail:normal entry ${entryId}`]: 'a ->',
      })
    }),
  )

  it(
    'puts a record into its cell and its lists',
    onBench(async (bench) => {
      await failOne(bench)
      await bench.redis.del(cell(bench, 'FAILED'), bench.keys.queues, bench.keys.cells)
      const { answer, changes } = await mend(bench)
      expect(answer).to.deep.equal(['MENDED', 'I12', 'I3'])
      expect(changes).to.deep.equal({
        'cell:mail:send:FAILED a': `-> ${START_MS}`,
        'queues mail': '-> in',
        'cells mail:send': '-> in',
      })
    }),
  )

  it(
    'takes the lifetime from an unfinished record, and from a finished one whose retention lasts longer',
    onBench(async (bench) => {
      await failOne(bench, { id: 'failed' })
      await enqueue(bench, { id: 'a' })
      for (const [id, seconds, answer] of [
        ['a', 900, ['MENDED', 'I11']],
        ['failed', 900, ['MENDED']],
        ['failed', 50, ['MENDED', 'I11']],
      ] as const) {
        await bench.redis.expire(bench.keys.record(id), seconds)
        expect((await mend(bench, id)).answer, `${id} ${seconds}`).to.deep.equal(answer)
      }
      expect(await bench.redis.ttl(bench.keys.record('a'))).to.equal(-1)
    }),
  )
})

describe('repair-row.lua', () => {
  it(
    'removes a row that no record bears out, corrects a score, and leaves the rest',
    onBench(async (bench) => {
      await beginOne(bench, { id: 'run' })
      await enqueue(bench, { id: 'a' }, { id: 'later', runAfter: START_MS + 9_000 })
      await bench.redis.set(bench.keys.record('broken'), 'x')
      const [delayed, leases] = [bench.keys.delayed('mail'), bench.keys.leases]
      await bench.redis.zadd(cell(bench, 'FAILED'), 1, 'a', 2, 'gone', 3, 'broken')
      await bench.redis.zadd(delayed, 5, 'later', 6, 'run', 7, 'gone')
      await bench.redis.zadd(leases, 5, 'run', 6, 'a', 7, 'gone')
      const failed = ['cell', 'mail', 'send', 'FAILED'] as const
      const ready = ['cell', 'mail', 'send', 'READY'] as const
      const later = ['delayed', 'mail', '', ''] as const
      const lease = ['lease', '', '', ''] as const
      for (const [id, place, changes] of [
        ['a', failed, { 'cell:mail:send:FAILED a': '1 ->' }],
        ['gone', failed, { 'cell:mail:send:FAILED gone': '2 ->' }],
        ['broken', failed, {}],
        ['a', ready, {}],
        ['later', later, { 'delayed:mail later': `5 -> ${START_MS + 9_000}` }],
        ['run', later, { 'delayed:mail run': '6 ->' }],
        ['gone', later, { 'delayed:mail gone': '7 ->' }],
        ['run', lease, { 'leases run': `5 -> ${START_MS + LEASE_MS}` }],
        ['a', lease, { 'leases a': '6 ->' }],
        ['gone', lease, { 'leases gone': '7 ->' }],
      ] as const) {
        const answer = Object.keys(changes).length > 0 ? 'MENDED' : 'FINE'
        expect(await repair(bench, 'repair-row', id, ...place), `${id} ${place.join(' ')}`).to.deep.equal({
          answer,
          changes,
        })
      }
    }),
  )

  it(
    'leaves a due record where it waits because its stream cannot be written',
    onBench(async (bench) => {
      await bench.redis.set(bench.stream(), 'x')
      await enqueue(bench, { id: 'a' })
      expect(await repair(bench, 'repair-row', 'a', 'delayed', 'mail', '', '')).to.deep.equal({
        answer: 'FINE',
        changes: {},
      })
    }),
  )
})

describe('repair-entry.lua', () => {
  it(
    'removes an entry that its record does not own, with its pending row; and a pending row without its entry',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId: own = '' } = await recordOf(bench)
      const orphan = (await bench.redis.xadd(bench.stream(), '*', 'id', 'gone')) ?? ''
      const second = (await bench.redis.xadd(bench.stream(), '*', 'id', 'a')) ?? ''
      const blank = (await bench.redis.xadd(bench.stream(), '*', 'colour', 'red')) ?? ''
      await bench.redis.xreadgroup('GROUP', GROUP, 'other', 'COUNT', 9, 'STREAMS', bench.stream(), '>')
      for (const entryId of [orphan, second, blank]) {
        const { answer, changes } = await repair(bench, 'repair-entry', bench.stream(), entryId)
        expect(answer).to.equal('MENDED')
        expect(Object.keys(changes)).to.deep.equal([
          `stream:mail:normal entry ${entryId}`,
          `stream:mail:normal pending ${entryId}`,
        ])
      }
      expect(await repair(bench, 'repair-entry', bench.stream(), own)).to.deep.equal({ answer: 'FINE', changes: {} })
      await bench.redis.xdel(bench.stream(), own)
      const { changes } = await repair(bench, 'repair-entry', bench.stream(), own)
      expect(changes).to.deep.equal({ [`stream:mail:normal pending ${own}`]: 'other ->' })
    }),
  )

  it(
    'leaves the entry of a record that cannot be read, and that of a record whose band was changed',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      const [{ entryId: one = '' }, { entryId: other = '' }] = [await recordOf(bench, 'a'), await recordOf(bench, 'b')]
      await bench.redis.hdel(bench.keys.record('a'), 'status')
      await bench.redis.hset(bench.keys.record('b'), 'priority', 9)
      for (const entryId of [one, other]) {
        expect(await repair(bench, 'repair-entry', bench.stream(), entryId)).to.deep.equal({
          answer: 'FINE',
          changes: {},
        })
      }
    }),
  )
})

describe('repair-group.lua, repair-consumer.lua, repair-worker.lua, repair-lifetime.lua', () => {
  it(
    'makes a missing group from the start, of a stream that is there',
    onBench(async (bench) => {
      expect(await repair(bench, 'repair-group', bench.stream())).to.deep.equal({ answer: 'FINE', changes: {} })
      await enqueue(bench, { id: 'a' })
      await bench.redis.xgroup('DESTROY', bench.stream(), GROUP)
      expect((await repair(bench, 'repair-group', bench.stream())).answer).to.equal('MENDED')
      expect((await take(bench, 1))[0]?.slice(0, 2)).to.deep.equal(['BEGUN', 'a'])
    }),
  )

  it(
    'removes a consumer that has nothing and says nothing, and no other',
    onBench(async (bench) => {
      const send = (maxIdleMs: number): ReturnType<typeof repair> =>
        repair(bench, 'repair-consumer', bench.stream(), 'first.holder', maxIdleMs)
      const begun = await beginOne(bench)
      expect((await send(0)).answer).to.equal('FINE')
      await settle(bench, begun)
      expect((await send(3_600_000)).answer).to.equal('FINE')
      await bench.run('heartbeat', 'first.holder', 'state', 'running')
      expect((await send(0)).answer).to.equal('FINE')
      await bench.redis.del(bench.keys.workers)
      expect((await send(0)).answer).to.equal('MENDED')
      expect(await bench.redis.xinfo('CONSUMERS', bench.stream(), GROUP)).to.deep.equal([])
    }),
  )

  it(
    'removes half of a worker, and no whole one',
    onBench(async (bench) => {
      await bench.run('heartbeat', 'first.holder', 'state', 'running')
      expect(await repair(bench, 'repair-worker', 'first.holder')).to.deep.equal({ answer: 'FINE', changes: {} })
      await bench.redis.del(bench.keys.worker('first.holder'))
      const row = await repair(bench, 'repair-worker', 'first.holder')
      expect(row).to.deep.equal({ answer: 'MENDED', changes: { 'workers first.holder': `${START_MS} ->` } })
      await bench.redis.hset(bench.keys.worker('second.holder'), 'state', 'running')
      const hash = await repair(bench, 'repair-worker', 'second.holder')
      expect(hash).to.deep.equal({ answer: 'MENDED', changes: { 'worker:second.holder state': 'running ->' } })
    }),
  )

  it(
    'takes a lifetime away, or gives one to what must not stay',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.expire(bench.stream(), 900)
      expect((await repair(bench, 'repair-lifetime', bench.stream(), '')).answer).to.equal('MENDED')
      expect(await bench.redis.ttl(bench.stream())).to.equal(-1)
      const stats = bench.keys.stats(1)
      await bench.redis.hset(stats, 'mail:wait:1', '1')
      expect((await repair(bench, 'repair-lifetime', stats, 900)).answer).to.equal('MENDED')
      expect(await bench.redis.ttl(stats)).to.be.within(1, 900)
      expect((await repair(bench, 'repair-lifetime', bench.keys.stats(2), 900)).answer).to.equal('FINE')
    }),
  )
})
