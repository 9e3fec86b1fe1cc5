/** A table of leases in shared memory: what one side writes the other sees, whole or not at all, wherever its slot was before. */
import { expect } from 'chai'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { LeaseTable, LeaseTableReader } from '../../lib/backends/lease-table.ts'
import type { LeasePage, SharedLease } from '../../lib/backends/lease-table.ts'

/** Slots of a page of usual words. */
const SLOTS = 64

const NOTHING = { held: [], released: [] }

describe('LeaseTable', () => {
  let told: LeasePage[]
  let table: LeaseTable
  let reader: LeaseTableReader

  beforeEach(() => {
    told = []
    table = new LeaseTable((page) => {
      told.push(page)
      reader.addPage(page)
    })
    reader = new LeaseTableReader([])
  })

  const leaseOf = (id: string, fields: Partial<SharedLease> = {}): SharedLease => ({
    lease: { id, token: `1:${id}`, entryId: '1-1' },
    name: 'send',
    sentAtMs: 1_234.567,
    stopAtMs: Infinity,
    ...fields,
  })
  const idsOf = (leases: readonly SharedLease[]): string[] => leases.map(({ lease }) => lease.id)

  it('shows each lease once, with all that is known of it, in the order in which they were held', () => {
    const gap = table.add(leaseOf('gap'))
    table.add(leaseOf('a', { stopAtMs: 5_000.25 }))
    table.remove(gap)
    table.add(leaseOf('b'))
    expect(reader.look()).to.deep.equal({ held: [leaseOf('a', { stopAtMs: 5_000.25 }), leaseOf('b')], released: [] })
    expect(reader.look()).to.deep.equal(NOTHING)
  })

  it('shows what was released, and whoever has its slot since as another', () => {
    const [a, b] = [leaseOf('a'), leaseOf('b')]
    const slot = table.add(a)
    reader.look()
    table.remove(slot)
    expect(table.add(b)).to.equal(slot)
    expect(reader.look()).to.deep.equal({ held: [b], released: [a.lease] })
    table.remove(slot)
    expect(reader.look()).to.deep.equal({ held: [], released: [b.lease] })
  })

  it('tells an attempt from the next one of the same record', () => {
    const [first, second] = [leaseOf('a'), leaseOf('a', { lease: { id: 'a', token: '2:a', entryId: '1-1' } })]
    table.remove(table.add(first))
    const slot = table.add(first)
    reader.look()
    table.remove(slot)
    table.add(second)
    expect(reader.look()).to.deep.equal({ held: [second], released: [first.lease] })
  })

  it('says nothing of what is gone at the next look', () => {
    table.remove(table.add(leaseOf('a')))
    expect(reader.look()).to.deep.equal(NOTHING)
  })

  it('shows a lease with new times as held anew, not as released', () => {
    const slot = table.add(leaseOf('a'))
    reader.look()
    const changed = leaseOf('a', { sentAtMs: 2_000, stopAtMs: 9_000 })
    table.change(slot, changed)
    expect(reader.look()).to.deep.equal({ held: [changed], released: [] })
  })

  it('leaves a slot that is being written for the next look, and keeps what it knew of it', () => {
    const slot = table.add(leaseOf('a'))
    reader.look()
    const version = new Int32Array(told[0]?.memory ?? new SharedArrayBuffer(4), 0, 1)
    expect(slot.version).to.equal(version[0])
    Atomics.add(version, 0, 1)
    expect(reader.look()).to.deep.equal(NOTHING)
    Atomics.add(version, 0, 1)
    expect(reader.look()).to.deep.equal({ held: [leaseOf('a')], released: [] })
  })

  it('takes a further page when all slots are taken, moves nothing, and uses free slots first', () => {
    const ids = Array.from({ length: 3 * SLOTS }, (_, index) => `id-${index}`)
    const slots = ids.slice(0, SLOTS).map((id) => table.add(leaseOf(id)))
    expect(told).to.have.lengthOf(1)
    reader.look()
    for (const id of ids.slice(SLOTS)) table.add(leaseOf(id))
    expect(told).to.have.lengthOf(3)
    const { held, released } = reader.look()
    expect([idsOf(held), released]).to.deep.equal([ids.slice(SLOTS), []])
    for (const slot of slots) table.remove(slot)
    for (const id of ids.slice(0, SLOTS)) table.add(leaseOf(`again-${id}`))
    expect(table.pages).to.deep.equal(told).and.to.have.lengthOf(3)
  })

  it('holds words of any length and any letters', () => {
    const words = ['ü'.repeat(200), '字'.repeat(2_000), 'a "quoted"\n\0 line', '\ud800', 'x'.repeat(300_000)]
    const leases = words.map((word) => leaseOf(word, { name: word }))
    const slots = leases.map((lease) => table.add(lease))
    table.add(leaseOf('usual'))
    expect(reader.look().held).to.deep.equal([...leases, leaseOf('usual')])
    for (const slot of slots) table.remove(slot)
    const pages = told.length
    // A long slot is free again, and found.
    for (const lease of leases) table.add(lease)
    expect(told).to.have.lengthOf(pages)
    expect(new Set(idsOf(reader.look().held))).to.deep.equal(new Set(words))
  })

  it('shows all of it to another reader that comes later', () => {
    const ids = Array.from({ length: 2 * SLOTS }, (_, index) => `id-${index}`)
    for (const id of ids) table.add(leaseOf(id))
    expect(idsOf(new LeaseTableReader(table.pages).look().held)).to.deep.equal(ids)
  })

  it('is read whole while another thread writes it', async () => {
    const stop = new Int32Array(new SharedArrayBuffer(4))
    const writer = new Worker(new URL('./support/table-writer.mjs', import.meta.url), {
      workerData: stop,
      execArgv: [],
    })
    const [page] = (await once(writer, 'message')) as [LeasePage]
    const other = new LeaseTableReader([page])
    const held = new Map<string, SharedLease>()
    let seen = 0
    const look = (): void => {
      const changes = other.look()
      for (const { id } of changes.released) expect(held.delete(id), id).to.equal(true)
      for (const { lease, name, sentAtMs, stopAtMs } of changes.held) {
        const word = String(sentAtMs).repeat(1 + (sentAtMs % 9))
        const whole = { id: word, token: word, entryId: word, name: `${word}é`, stopAtMs: sentAtMs }
        expect({ ...lease, name, stopAtMs }).to.deep.equal(whole)
        held.set(lease.id, { lease, name, sentAtMs, stopAtMs })
      }
      seen += changes.held.length
      // It holds four at most, in as many slots.
      expect(held.size).to.be.at.most(4)
    }
    try {
      while (seen < 3_000) look()
    } finally {
      Atomics.store(stop, 0, 1)
      await once(writer, 'exit')
    }
    look()
    expect(held.size).to.equal(3)
  })
})
