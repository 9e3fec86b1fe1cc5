/** What holds over several shards beside the contract: where a record is, fair turns, merged pages, and half an outage. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import sinon from 'sinon'
import { StorageFullError, StorageUnavailableError } from '../../../lib/index.ts'
import { MemoryStorage } from '../../../lib/storage/memory/memory-storage.ts'
import { ShardedStorage } from '../../../lib/storage/sharded/sharded-storage.ts'
import { shardOf } from '../../../lib/storage/sharded/shards.ts'
import type { ListPosition } from '../../../lib/storage/storage.ts'
import type { NewRecord } from '../../../lib/storage/stored-record.ts'
import { rememberingLogger } from '../../backends/backends-under-test.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import {
  aBlockingTake,
  aReclaim,
  aRecord,
  aTake,
  cells,
  countsOf,
  depthOf,
  idsOf,
  QUEUE,
  someRecords,
  statusOf,
  success,
} from '../../support/storage-builders.ts'

const SHARDS = 4
const MINUTE_MS = 60_000

interface Bench {
  readonly clock: ManualClock
  readonly shards: readonly MemoryStorage[]
  readonly storage: ShardedStorage
  readonly logged: ReturnType<typeof rememberingLogger>['logged']
}

/** Records that live in one shard. */
function recordsOf(shard: number, count: number, fields: Partial<NewRecord> = {}): NewRecord[] {
  const records: NewRecord[] = []
  while (records.length < count) {
    const record = aRecord(fields)
    if (shardOf(record.id, SHARDS) === shard) records.push(record)
  }
  return records
}

describe('Shards of a record', () => {
  it('are picked by a hash that never changes', () => {
    const ids = ['00000000-0000-7000-8000-000000000000', '0198c1f2-7a2b-7c3d-8e4f-5a6b7c8d9e0f', 'a', '']
    expect(ids.map((id) => shardOf(id, 64))).to.deep.equal([30, 1, 44, 5])
    expect(ids.map((id) => shardOf(id, 3))).to.deep.equal([2, 2, 1, 1])
    expect(ids.map((id) => shardOf(id, 1))).to.deep.equal([0, 0, 0, 0])
  })

  it('hold as many records each, to within a tenth', () => {
    const counts = Array.from({ length: 6 }, () => 0)
    for (let count = 0; count < 60_000; count += 1) {
      const shard = shardOf(randomUUID(), 6)
      counts[shard] = (counts[shard] ?? 0) + 1
    }
    for (const count of counts) expect(count).to.be.within(9_000, 11_000)
  })
})

describe('ShardedStorage', () => {
  let opened: Bench | undefined
  const bench = (): Bench => {
    if (!opened) throw new Error('expected the bench to be used inside a case, got: outside')
    return opened
  }
  beforeEach(() => {
    const clock = new ManualClock()
    const shards = Array.from({ length: SHARDS }, () => new MemoryStorage({ clock }))
    const { logger, logged } = rememberingLogger()
    opened = { clock, shards, storage: new ShardedStorage(shards, logger), logged }
  })
  afterEach(async () => {
    sinon.restore()
    await bench().storage.close()
  })

  it('keeps each record in the shard of its id, and finds it there', async () => {
    const { storage, shards } = bench()
    const records = someRecords(200)
    await storage.enqueue(records)
    for (const [index, shard] of shards.entries()) {
      const own = records.filter(({ id }) => shardOf(id, SHARDS) === index).map(({ id }) => id)
      expect((await shard.find(records.map(({ id }) => id))).flatMap((found) => found?.id ?? [])).to.have.members(own)
    }
    expect((await storage.find(records.map(({ id }) => id))).map((found) => found?.id)).to.deep.equal(
      records.map(({ id }) => id),
    )
  })

  it('needs a shard', () => {
    expect(() => new ShardedStorage([])).to.throw('at least one shard')
  })

  it('takes from all shards alike while all have something', async () => {
    const { storage } = bench()
    for (let shard = 0; shard < SHARDS; shard += 1) await storage.enqueue(recordsOf(shard, 100))
    const counts = Array.from({ length: SHARDS }, () => 0)
    for (let take = 0; take < 40; take += 1) {
      for (const id of idsOf(await storage.take(aTake('first', { count: 3 })))) {
        const shard = shardOf(id, SHARDS)
        counts[shard] = (counts[shard] ?? 0) + 1
      }
    }
    expect(counts).to.deep.equal([30, 30, 30, 30])
  })

  it('fills up to what is asked for, wherever it is, and never beyond', async () => {
    const { storage } = bench()
    await storage.enqueue([...recordsOf(0, 1), ...recordsOf(2, 30)])
    for (const [count, begun] of [
      [1, 1],
      [7, 7],
      [10, 10],
      [40, 13],
      [5, 0],
    ] as const) {
      expect(idsOf(await storage.take(aTake('first', { count })))).to.have.lengthOf(begun)
    }
  })

  it('empties high before normal before low in each shard', async () => {
    const { storage } = bench()
    const low = recordsOf(1, 2, { priority: -1 })
    const high = recordsOf(1, 2, { priority: 1 })
    await storage.enqueue([...low, ...high])
    const taken = idsOf(await storage.take(aTake('first', { count: 4 })))
    expect(taken).to.deep.equal([...high, ...low].map(({ id }) => id))
  })

  it('merges pages of all shards in one order, whatever their size', async () => {
    const { storage, clock } = bench()
    const all: ListPosition[] = []
    for (let round = 0; round < 10; round += 1) {
      clock.advance(1)
      const records = someRecords(9)
      const answers = await storage.enqueue(records)
      answers.forEach((answer, index) => {
        if (answer.word === 'ENQUEUED') all.push({ id: records[index]?.id ?? '', enqueuedAt: answer.enqueuedAt })
      })
    }
    all.sort((a, b) => a.enqueuedAt - b.enqueuedAt || (a.id < b.id ? -1 : 1))
    for (const size of [1, 7, 50, 200]) {
      const found: ListPosition[] = []
      for (;;) {
        const page = await storage.list({ cells: cells(), order: 'oldest', size, after: found.at(-1) })
        found.push(...page)
        if (page.length < size) break
      }
      expect(found).to.deep.equal(all)
    }
  })

  it('purges shard after shard, within one limit', async () => {
    const { storage } = bench()
    await storage.enqueue(someRecords(90))
    const { begun } = await storage.take(aTake('first', { count: 90 }))
    await storage.settle(begun.map((delivery) => success(delivery)))
    const cell = { queueName: QUEUE, name: 'send', status: 'SUCCESSFUL' } as const
    let [position, deleted, calls] = ['', 0, 0]
    do {
      const answer = await storage.purge({ cell, finishedForMs: 0, limit: 10, position, dryRun: false })
      expect(answer.deleted).to.be.at.most(10)
      deleted += answer.deleted
      position = answer.next
      expect((calls += 1)).to.be.below(50)
    } while (position !== '')
    expect(deleted).to.equal(90)
    expect(await countsOf(storage)).to.include({ SUCCESSFUL: 0 })
  })

  it('takes over what ran out on every shard, a count at a time', async () => {
    const { storage, clock } = bench()
    const records = someRecords(40)
    await storage.enqueue(records)
    await storage.take(aTake('dead', { count: 40, leaseMs: 1 }))
    clock.advance(2)
    const found: string[] = []
    let cursor = ''
    do {
      const answer = await storage.reclaim(aReclaim('second', { count: 7, cursor }))
      expect(answer.begun.length).to.be.at.most(7)
      found.push(...idsOf(answer))
      cursor = answer.next
    } while (cursor !== '')
    expect(found).to.have.members(records.map(({ id }) => id))
  })

  it('promotes what is due in every shard, until fewer than a hundred moved', async () => {
    const { storage, clock } = bench()
    const [answer] = await storage.enqueue([aRecord({ queueName: 'probe' })])
    const runAfter = (answer?.word === 'ENQUEUED' ? answer.enqueuedAt : 0) + 10
    await storage.enqueue([...recordsOf(0, 250, { runAfter }), ...recordsOf(3, 5, { runAfter: runAfter + MINUTE_MS })])
    clock.advance(10)
    const moved: number[] = []
    for (;;) {
      const promoted = await storage.promote(QUEUE)
      moved.push(promoted.moved)
      if (promoted.moved >= 100) continue
      expect(promoted.dueInMs).to.equal(MINUTE_MS)
      break
    }
    expect(moved).to.deep.equal([100, 100, 50])
    expect(await depthOf(storage)).to.deep.equal({ entries: 250, delayed: 5 })
  })

  it('waits on all shards at the same time, and hands back what several brought beyond the count', async () => {
    const { storage, shards } = bench()
    // Given reads that two shards answer in the same moment
    const waiting = storage.takeBlocking(aBlockingTake(), new AbortController().signal)
    const [one, other] = [...recordsOf(1, 1), ...recordsOf(3, 1)]
    await Promise.all([shards[1]?.enqueue(one ? [one] : []), shards[3]?.enqueue(other ? [other] : [])])
    const taken = await waiting
    expect(taken.begun).to.have.lengthOf(1)
    expect(await countsOf(storage)).to.include({ RUNNING: 1, READY: 1 })
    const rest = await storage.take(aTake('second', { count: 9 }))
    expect([...idsOf(taken), ...idsOf(rest)]).to.have.members([one?.id, other?.id])
    expect(rest.begun[0]?.record.attempts).to.equal(1)
  })

  it('rejects a blocking take when one shard fails, and leaves the others without a reader', async () => {
    const { storage, shards } = bench()
    const [first, failing] = shards
    if (!first || !failing) throw new Error('expected four shards, got: fewer')
    const outage = new StorageUnavailableError('wait', 'an outage', 'wait')
    sinon.stub(failing, 'takeBlocking').rejects(outage)
    const error: unknown = await storage
      .takeBlocking(aBlockingTake('first', { blockMs: 600_000 }), new AbortController().signal)
      .catch((caught: unknown) => caught)
    expect(error).to.equal(outage)
    await first.enqueue(recordsOf(0, 1))
    expect(await countsOf(storage)).to.include({ READY: 1, RUNNING: 0 })
  })

  it('answers an outage of one shard as an outage, once all have answered; a repeat mends it', async () => {
    const { storage, shards } = bench()
    const stub = sinon.stub(shards[2] as MemoryStorage, 'enqueue')
    stub.rejects(new StorageUnavailableError('enqueue', 'an outage', 'wait'))
    const records = someRecords(40)
    const error: unknown = await storage.enqueue(records).catch((caught: unknown) => caught)
    expect(error).to.be.instanceOf(StorageUnavailableError)
    stub.restore()
    const words = (await storage.enqueue(records)).map(({ word }) => word)
    expect(words.filter((word) => word === 'EXISTS').length).to.be.within(1, 39)
    expect(await countsOf(storage)).to.include({ READY: 40 })
  })

  it('says that nothing was written only when every shard is full', async () => {
    const { storage, shards } = bench()
    const fill = (shard: MemoryStorage): void =>
      void sinon.stub(shard, 'enqueue').rejects(new StorageFullError('run enqueue'))
    const records = someRecords(40)
    fill(shards[0] as MemoryStorage)
    const some: unknown = await storage.enqueue(records).catch((caught: unknown) => caught)
    expect(some).to.be.instanceOf(StorageUnavailableError).and.not.instanceOf(StorageFullError)
    for (const shard of shards.slice(1)) fill(shard)
    const all: unknown = await storage.enqueue(records).catch((caught: unknown) => caught)
    expect(all).to.be.instanceOf(StorageFullError)
  })

  it('does not hide an error that nobody expected behind an outage', async () => {
    const { storage, shards } = bench()
    sinon.stub(shards[0] as MemoryStorage, 'catalog').rejects(new StorageUnavailableError('read', 'an outage', 'wait'))
    sinon.stub(shards[1] as MemoryStorage, 'catalog').rejects(new TypeError('a bug'))
    const error: unknown = await storage.catalog().catch((caught: unknown) => caught)
    expect(error).to.be.instanceOf(TypeError)
  })

  it('hands back records of another number of shards, and says so', async () => {
    const { storage, shards, logged } = bench()
    // Given a record that was stored while there was one shard more or less
    const [stray] = recordsOf(1, 1)
    if (!stray) throw new Error('expected a record, got: none')
    await shards[0]?.enqueue([stray])
    const taken = await storage.take(aTake('first', { count: 10 }))
    expect(taken.begun).to.deep.equal([])
    expect(taken.passed).to.equal(1)
    expect(logged.map(({ facts }) => facts['code'])).to.deep.equal(['ERR_TASKS_SHARDS'])
    expect(await statusOf(shards[0] as MemoryStorage, stray.id)).to.equal('READY')
    expect(await depthOf(storage)).to.deep.equal({ entries: 0, delayed: 1 })
  })

  it('keeps a worker in sight as long as one shard has something of it', async () => {
    const { storage, clock } = bench()
    await storage.heartbeat({ consumer: 'first.holder', fields: { host: 'h' } })
    const [record] = recordsOf(2, 1)
    await storage.enqueue(record ? [record] : [])
    const { begun } = await storage.take(aTake('first', { count: 1 }))
    expect(await storage.forget('first.holder')).to.equal('KEPT')
    clock.advance(MINUTE_MS)
    expect(await storage.sweep(1)).to.equal(0)
    expect((await storage.workers()).map(({ consumer }) => consumer)).to.deep.equal(['first.holder'])
    await storage.settle(begun.map((delivery) => success(delivery)))
    expect(await storage.sweep(1)).to.equal(1)
    expect(await storage.workers()).to.deep.equal([])
  })

  it('sums what ended by minute', async () => {
    const { storage } = bench()
    await storage.enqueue(someRecords(20))
    const { begun } = await storage.take(aTake('first', { count: 20 }))
    await storage.settle(begun.map((delivery) => success(delivery)))
    const stats = await storage.stats(3)
    expect(stats).to.have.lengthOf(3)
    const counts = stats.flatMap((minute) => minute.counts).filter(({ kind }) => kind === 'SUCCESSFUL')
    expect(counts.reduce((sum, { count }) => sum + count, 0)).to.equal(20)
    expect(new Set(counts.map(({ bucket }) => bucket)).size).to.equal(counts.length)
  })
})
