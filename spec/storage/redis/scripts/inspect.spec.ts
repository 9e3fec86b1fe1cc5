/**
 * The scripts of an inspection on raw keys: what each answers, twice the same, and that none of them writes. What their answers mean
 * is judged in spec/doctor.
 */
import { expect } from 'chai'
import type { ScriptName } from '../../../../lib/storage/redis/scripts.ts'
import { beginOne, changesOf, enqueue, failOne, GROUP, onBench, recordOf, spoil, START_MS, take } from './support.ts'
import type { ScriptBench } from './support.ts'

/** Sends a script twice: both answers are the same, and nothing was written. */
async function read(bench: ScriptBench, name: ScriptName, ...args: readonly (string | number)[]): Promise<unknown> {
  const first = await changesOf(bench, () => bench.run(name, ...args))
  const second = await changesOf(bench, () => bench.run(name, ...args))
  expect(first.changes).to.deep.equal({})
  expect(second).to.deep.equal(first)
  return first.answer
}

const FIELDS = ['status', 'queueName', 'name', 'priority', 'entryId', 'enqueuedAt']

async function inspectRecords(bench: ScriptBench, ...ids: readonly string[]): Promise<string[][]> {
  const [now, ...rows] = (await read(bench, 'inspect-records', FIELDS.length, ...FIELDS, ...ids)) as [
    string,
    ...string[][],
  ]
  expect(now).to.equal(String(START_MS))
  return rows
}

describe('inspect-keys.lua', () => {
  it(
    'tells type and lifetime of what is below the root, of records the names alone, and no other keys',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.hset(bench.keys.stats(1), 'mail:wait:1', '1')
      await bench.redis.expire(bench.keys.stats(1), 900)
      await bench.redis.set(`beside-${bench.keys.root}`, 'x')
      const found = new Map<string, string[]>()
      let cursor = '0'
      do {
        const [next, rows] = (await bench.run('inspect-keys', cursor, 10_000, `*${bench.keys.root}*`)) as [
          string,
          string[],
        ]
        for (let index = 0; index < rows.length; index += 3)
          found.set(rows[index] ?? '', rows.slice(index + 1, index + 3))
        cursor = next
      } while (cursor !== '0')
      expect(found.get(bench.keys.record('a'))).to.deep.equal(['', '-1'])
      expect(found.get(bench.stream())).to.deep.equal(['stream', '-1'])
      expect(found.get(bench.keys.queues)).to.deep.equal(['set', '-1'])
      expect(found.get(`beside-${bench.keys.root}`)).to.deep.equal(['', '-1'])
      const [type, ttl] = found.get(bench.keys.stats(1)) ?? []
      expect(type).to.equal('hash')
      expect(Number(ttl)).to.be.within(1, 900_000)
    }),
  )
})

describe('inspect-records.lua', () => {
  it(
    'tells what is gone, and what is no hash',
    onBench(async (bench) => {
      await bench.redis.set(bench.keys.record('s'), 'x')
      expect(await inspectRecords(bench, 'none', 's')).to.deep.equal([
        ['GONE', 'none'],
        ['WRONG', 's', 'string'],
      ])
    }),
  )

  it(
    'tells what belongs to a record in each state',
    onBench(async (bench) => {
      const begun = await beginOne(bench, { id: 'run' })
      await failOne(bench, { id: 'failed' })
      await enqueue(bench, { id: 'read' })
      await bench.redis.xreadgroup('GROUP', GROUP, 'other', 'COUNT', 1, 'STREAMS', bench.stream(), '>')
      await enqueue(bench, { id: 'ready' }, { id: 'later', runAfter: START_MS + 5_000 })
      const rows = await inspectRecords(bench, 'run', 'failed', 'read', 'ready', 'later')
      const [now, until, later] = [String(START_MS), begun.leaseUntil, String(START_MS + 5_000)]
      // id, ttl, cell, delayed, lease, queue, task, stream, entry, bytes of args, returnValue and errors
      expect(rows.map((row) => row.slice(1, 12))).to.deep.equal([
        ['run', '-1', now, '', until, '1', '1', '1', 'PENDING', '2', '0'],
        ['failed', '-1', now, '', '', '1', '1', '1', 'NONE', '2', '0'],
        ['read', '-1', now, '', '', '1', '1', '1', 'PENDING', '2', '0'],
        ['ready', '-1', now, '', '', '1', '1', '1', 'UNDELIVERED', '2', '0'],
        ['later', '-1', now, later, '', '1', '1', '1', 'NONE', '2', '0'],
      ])
      expect(rows.map((row) => Number(row[12]) > 0)).to.deep.equal([false, true, false, false, false])
      // Fields that were not asked for
      expect(rows[3]?.[13]).to.equal('')
      expect(rows[4]?.[13]).to.equal('runAfter')
      expect(rows[3]?.slice(14)).to.deep.equal([
        'READY',
        'mail',
        'send',
        '',
        (await recordOf(bench, 'ready'))['entryId'],
        now,
      ])
    }),
  )

  it(
    'tells an entry that nobody will be handed any more, and one of another record',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      await bench.redis.xreadgroup('GROUP', GROUP, 'other', 'COUNT', 1, 'STREAMS', bench.stream(), '>')
      const { entryId = '' } = await recordOf(bench, 'a')
      await bench.redis.xack(bench.stream(), GROUP, entryId)
      await bench.redis.hset(bench.keys.record('b'), 'entryId', entryId)
      expect((await inspectRecords(bench, 'a', 'b')).map((row) => row[9])).to.deep.equal(['ACKNOWLEDGED', 'NONE'])
      await bench.redis.xgroup('DESTROY', bench.stream(), GROUP)
      expect((await inspectRecords(bench, 'a')).map((row) => row[9])).to.deep.equal(['UNDELIVERED'])
    }),
  )

  it(
    'answers for keys of a wrong type, too',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { queueName = '' } = await recordOf(bench)
      for (const key of [bench.stream(), bench.keys.delayed(queueName), bench.keys.leases, bench.keys.queues])
        await spoil(bench, key)
      expect((await inspectRecords(bench, 'a'))[0]?.slice(4, 10)).to.deep.equal(['!', '!', '!', '1', '', 'NONE'])
    }),
  )
})

describe('inspect-index.lua', () => {
  it(
    'tells each row with the record that it names',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      const cell = bench.keys.cell({ queueName: 'mail', name: 'send', status: 'READY' })
      await bench.redis.zadd(cell, 5, 'gone', 6, 'broken')
      await bench.redis.set(bench.keys.record('broken'), 'x')
      const [cursor, now, rows] = (await read(bench, 'inspect-index', cell, '0')) as [string, string, string[][]]
      expect([cursor, now]).to.deep.equal(['0', String(START_MS)])
      expect(rows).to.have.deep.members([
        ['a', String(START_MS), 'READY', 'mail', 'send', entryId, '', '', ''],
        ['gone', '5', 'ABSENT', '', '', '', '', '', ''],
        ['broken', '6', 'BROKEN', '', '', '', '', '', ''],
      ])
      await spoil(bench, cell)
      expect(await read(bench, 'inspect-index', cell, '0')).to.deep.equal(['0', now, []])
    }),
  )
})

describe('inspect-entries.lua', () => {
  it(
    'tells each entry, whether its record owns it, and page by page',
    onBench(async (bench) => {
      await enqueue(bench, ...Array.from({ length: 100 }, (_, index) => ({ id: `r${index}` })))
      const orphan = (await bench.redis.xadd(bench.stream(), '*', 'id', 'gone')) ?? ''
      const second = (await bench.redis.xadd(bench.stream(), '*', 'id', 'r0')) ?? ''
      const blank = (await bench.redis.xadd(bench.stream(), '*', 'colour', 'red')) ?? ''
      const [next, ...rows] = (await read(bench, 'inspect-entries', bench.stream(), '-')) as [string, ...string[][]]
      expect(rows).to.have.lengthOf(100)
      expect(rows.every((row) => row[2] === 'NAMED' && row[4] === 'READY')).to.equal(true)
      const [end, ...rest] = (await read(bench, 'inspect-entries', bench.stream(), next)) as [string, ...string[][]]
      expect(end).to.equal('')
      expect(rest.map((row) => row.slice(0, 5))).to.deep.equal([
        [orphan, 'gone', '', '', 'ABSENT'],
        [second, 'r0', '', '', 'READY'],
        [blank, '', '', '', 'ABSENT'],
      ])
      await take(bench, 1000)
      const after = (await bench.run('inspect-entries', bench.stream(), next)) as [string, ...string[][]]
      expect(after).to.deep.equal([''])
    }),
  )

  it(
    'says that a record of another band still owns its entry, until it has one there',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' })
      const { entryId = '' } = await recordOf(bench)
      await bench.redis.hset(bench.keys.record('a'), 'priority', 5)
      const marks = async (): Promise<unknown> =>
        ((await read(bench, 'inspect-entries', bench.stream(), '-')) as string[][]).slice(1).map((row) => row[2])
      expect(await marks()).to.deep.equal(['NAMED'])
      await bench.redis.del(bench.stream('high'))
      await bench.redis.xadd(bench.stream('high'), entryId, 'id', 'a')
      expect(await marks()).to.deep.equal([''])
    }),
  )
})

describe('inspect-pending.lua', () => {
  it(
    'tells pending rows without an entry',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a' }, { id: 'b' })
      await take(bench, 2)
      const { entryId = '' } = await recordOf(bench)
      expect(await read(bench, 'inspect-pending', bench.stream(), '-')).to.deep.equal(['', '2'])
      await bench.redis.xdel(bench.stream(), entryId)
      expect(await read(bench, 'inspect-pending', bench.stream(), '-')).to.deep.equal([
        '',
        '2',
        entryId,
        'first.holder',
      ])
      await bench.redis.xgroup('DESTROY', bench.stream(), GROUP)
      expect(await read(bench, 'inspect-pending', bench.stream(), '-')).to.deep.equal(['', '0'])
    }),
  )
})

describe('inspect-consumers.lua', () => {
  it(
    'tells the groups of a stream, and the consumers of ours with their heartbeats',
    onBench(async (bench) => {
      expect(await read(bench, 'inspect-consumers', bench.stream())).to.deep.equal([])
      await beginOne(bench)
      await bench.run('heartbeat', 'first.holder', 'state', 'running')
      await bench.redis.xgroup('CREATE', bench.stream(), 'others', '0')
      const rows = (await bench.run('inspect-consumers', bench.stream())) as string[][]
      expect(rows[0]).to.deep.equal(['STREAM'])
      expect(rows).to.deep.include(['GROUP', GROUP]).and.to.deep.include(['GROUP', 'others'])
      const [, name, pending, idle, heartbeat] = rows.find(([word]) => word === 'CONSUMER') ?? []
      expect([name, pending, heartbeat]).to.deep.equal(['first.holder', '1', String(START_MS)])
      expect(Number(idle)).to.be.at.least(0)
    }),
  )
})

describe('inspect-workers.lua', () => {
  it(
    'tells the two keys of each worker',
    onBench(async (bench) => {
      await bench.run('heartbeat', 'first.holder', 'state', 'running')
      await bench.redis.zadd(bench.keys.workers, 5, 'half')
      expect(await read(bench, 'inspect-workers', 'first.holder', 'half', 'none')).to.deep.equal([
        ...[String(START_MS), 'hash', '5', 'none', '', 'none'],
      ])
      await spoil(bench, bench.keys.workers)
      expect(await read(bench, 'inspect-workers', 'half')).to.deep.equal(['!', 'none'])
    }),
  )
})

describe('inspect-totals.lua', () => {
  it(
    'measures cells by status, entries, delayed and leases; keys of a wrong type count nothing',
    onBench(async (bench) => {
      expect(await read(bench, 'inspect-totals')).to.deep.equal([0, 0, 0, 0, 0, 0, 0])
      await beginOne(bench, { id: 'run' })
      await failOne(bench, { id: 'failed' })
      await enqueue(
        bench,
        { id: 'a' },
        { id: 'b', queueName: 'reports', priority: 5 },
        { id: 'c', runAfter: START_MS + 9 },
      )
      expect(await read(bench, 'inspect-totals')).to.deep.equal([3, 1, 0, 1, 3, 1, 1])
      await spoil(bench, bench.keys.leases)
      await spoil(bench, bench.stream())
      expect(await read(bench, 'inspect-totals')).to.deep.equal([3, 1, 0, 1, 1, 1, 0])
    }),
  )
})
