/** What a query reads of records with large payloads: no more than is wanted of them, and whole ones a few at a time. */
import { expect } from 'chai'
import { StorageUnavailableError } from '../lib/errors.ts'
import { RecordIds } from '../lib/record-id.ts'
import { RecordQuery } from '../lib/record-query.ts'
import { MemoryStorage } from '../lib/storage/memory/memory-storage.ts'
import { isDamaged } from '../lib/storage/stored-record.ts'
import type { Brief, StoredRecord } from '../lib/storage/stored-record.ts'
import { caught } from './backends/backends-under-test.ts'

const LARGE = 1024 * 1024

/** Notes how many records each read asked for, and the bytes of args that it brought. */
class WatchedStorage extends MemoryStorage {
  readonly asked: number[] = []
  readonly reads: number[] = []
  /** A read that would bring more fails. */
  mostBytes = Infinity

  override async find(ids: readonly string[], brief?: Brief): ReturnType<MemoryStorage['find']> {
    const found = await super.find(ids, brief)
    this.asked.push(ids.length)
    const bytes = found.reduce((sum, record) => sum + (record && !isDamaged(record) ? record.args.length : 0), 0)
    this.reads.push(bytes)
    if (bytes > this.mostBytes)
      throw new StorageUnavailableError('read records', 'a spec that cut it off', 'read fewer')
    return found
  }

  get largest(): number {
    return Math.max(0, ...this.reads)
  }
}

const ids = new RecordIds()

async function filled(count: number, word = (index: number): string => `${index}`): Promise<WatchedStorage> {
  const storage = new WatchedStorage()
  await fill(storage, count, LARGE, word)
  return storage
}

async function fill(
  storage: MemoryStorage,
  count: number,
  bytes: number,
  word = (index: number): string => `${index}`,
): Promise<void> {
  const records = Array.from({ length: count }, (_, index) => ({
    // In the order of the ids where they are of one millisecond.
    ...{ id: ids.next(), name: 'large', queueName: 'default', priority: index % 2, runAfter: null },
    args: `["${'x'.repeat(bytes)}","${word(index)}"]`,
  }))
  await storage.enqueue(records)
}

function over(storage: WatchedStorage, filter: object, brief?: Brief): RecordQuery<StoredRecord> {
  const source = { storage, toItem: (record: StoredRecord) => record, onDamaged: () => undefined, brief }
  return new RecordQuery(source, filter)
}

describe('RecordQuery over large payloads', () => {
  it('reads of a page no more than its items need', async () => {
    const storage = await filled(60)
    const { records } = await over(storage, {}, { argsBytes: 1_000 }).page({ size: 50 })
    expect(records).to.have.lengthOf(50)
    expect(records[0]?.args).to.have.lengthOf(1_000)
    expect(storage.largest).to.be.at.most(51 * 1_000)
  })

  it('gives ids, counts and deletes without reading payloads', async () => {
    const storage = await filled(40)
    expect(await over(storage, {}).ids()).to.have.lengthOf(40)
    expect(await over(storage, { priority: 1 }).count()).to.equal(20)
    expect(await over(storage, { priority: 1 }).delete()).to.equal(20)
    expect(storage.largest).to.be.at.most(100)
  })

  it('finds a text in them, holding a few at once', async () => {
    const storage = await filled(40, (index) => (index % 10 === 3 ? 'needle' : ''))
    const { records } = await over(storage, { search: 'NEEDLE' }, { argsBytes: 1_000 }).page({ size: 50 })
    expect(records).to.have.lengthOf(4)
    expect(await over(storage, { search: 'needle' }).count()).to.equal(4)
    expect(await over(storage, { search: 'needle' }).delete()).to.equal(4)
    expect(storage.largest).to.be.at.most(10 * LARGE)
  })

  it('gives whole records where items are whole', async () => {
    const storage = await filled(2)
    const [first] = await over(storage, {})
    expect(first?.args).to.have.lengthOf.greaterThan(LARGE)
    expect(first).not.to.have.property('omittedBytes')
  })

  it('iterates over whole records, eight megabytes at a time', async () => {
    const storage = await filled(60)
    let seen = 0
    for await (const { args } of over(storage, {})) seen += args.length > LARGE ? 1 : 0
    expect(seen).to.equal(60)
    // Of the first piece nothing is known yet. Seven: what a record has beside its megabyte counts, too.
    expect(storage.asked).to.deep.equal([16, 7, 7, 7, 7, 7, 7, 2])
  })

  it('reads one at a time where one alone is as much', async () => {
    const storage = new WatchedStorage()
    await fill(storage, 18, 5 * LARGE)
    for await (const { args } of over(storage, {})) expect(args).to.have.lengthOf.greaterThan(5 * LARGE)
    expect(storage.asked).to.deep.equal([16, 1, 1])
  })

  it('asks for fewer when so many do not come in time, and gives up when not even one does', async () => {
    // Given a wire that carries ten megabytes in the time of a command, and small records before large ones
    const storage = await filled(40)
    await fill(storage, 200, 10)
    storage.mostBytes = 10 * LARGE
    let seen = 0
    for await (const { args } of over(storage, {})) seen += args.length > 0 ? 1 : 0
    expect(seen).to.equal(240)
    // Sixty and forty-five hold too many large ones, fifteen none and eleven a few.
    expect(storage.asked.slice(0, 8)).to.deep.equal([16, 64, 100, 60, 15, 45, 11, 7])
    // When it carries less than one
    storage.asked.length = 0
    storage.mostBytes = LARGE - 1
    const error = await caught(async () => await over(storage, { priority: 1 }).orderBy('enqueuedAt').first())
    expect(error).to.be.instanceOf(StorageUnavailableError)
    expect(storage.asked).to.deep.equal([16, 4, 1])
  })

  it('reads fewer from the first large one on, and more again behind the last', async () => {
    const storage = new WatchedStorage()
    for (const [count, bytes] of [
      [170, 10],
      [60, LARGE],
      [200, 10],
    ] as const)
      await fill(storage, count, bytes)
    let seen = 0
    for await (const { args } of over(storage, {}).orderBy('enqueuedAt')) seen += args.length > 0 ? 1 : 0
    expect(seen).to.equal(430)
    const pieces = storage.asked.map((asked, index) => [asked, Math.round((storage.reads[index] ?? 0) / LARGE)])
    // Small ones, the hundred that brings the first large ones, a few at a time, then small ones again.
    expect(pieces.slice(0, 2)).to.deep.equal([
      [16, 0],
      [64, 0],
    ])
    const met = pieces.findIndex(([, megabytes = 0]) => megabytes > 0)
    expect(pieces[met]?.[0]).to.equal(100)
    for (const [, megabytes] of pieces.slice(met + 1)) expect(megabytes).to.be.at.most(8)
    expect(pieces.at(-2)?.[0]).to.equal(100)
  })
})
