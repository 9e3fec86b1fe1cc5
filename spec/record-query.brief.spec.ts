/** What a query reads of records with large payloads: no more than is wanted of them. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { RecordQuery } from '../lib/record-query.ts'
import { MemoryStorage } from '../lib/storage/memory/memory-storage.ts'
import { isDamaged } from '../lib/storage/storage.ts'
import type { Brief, StoredRecord } from '../lib/storage/storage.ts'

const LARGE = 1024 * 1024

/** Notes the bytes of args that each read brought. */
class WatchedStorage extends MemoryStorage {
  readonly reads: number[] = []

  override async find(ids: readonly string[], brief?: Brief): ReturnType<MemoryStorage['find']> {
    const found = await super.find(ids, brief)
    this.reads.push(
      found.reduce((sum, record) => sum + (record && !isDamaged(record) ? Buffer.byteLength(record.args) : 0), 0),
    )
    return found
  }

  get largest(): number {
    return Math.max(0, ...this.reads)
  }
}

async function filled(count: number, word = (index: number): string => `${index}`): Promise<WatchedStorage> {
  const storage = new WatchedStorage()
  const records = Array.from({ length: count }, (_, index) => ({
    ...{ id: randomUUID(), name: 'large', queueName: 'default', priority: index % 2, runAfter: null },
    args: `["${'x'.repeat(LARGE)}","${word(index)}"]`,
  }))
  await storage.enqueue(records)
  return storage
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
})
