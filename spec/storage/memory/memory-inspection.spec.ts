/** The inspection of memory: each kind of violation that its keyspace could hold, planted, found, mended, and gone. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import type { Finding, InspectionRequest } from '../../../lib/storage/inspection.ts'
import { Keyspace } from '../../../lib/storage/memory/keyspace.ts'
import { MemoryInspection } from '../../../lib/storage/memory/memory-inspection.ts'
import { newRecord } from '../../../lib/storage/memory/memory-record.ts'
import type { MemoryRecord } from '../../../lib/storage/memory/memory-record.ts'
import { aClaim, aRecord } from '../../support/storage-builders.ts'

const NOW = Date.UTC(2026, 0, 1)
const ERROR = '{"name":"Error","message":"no","stack":"","attempt":1}'

type State = 'ready' | 'delayed' | 'running' | 'failed'

/** A keyspace with a record in each state. */
class Patient {
  readonly keyspace = new Keyspace()
  readonly records: Readonly<Record<State, MemoryRecord>>

  constructor() {
    const add = (runAfter: number | null = null): MemoryRecord => {
      const record = newRecord(aRecord({ runAfter }), NOW)
      this.keyspace.insert(record, NOW)
      return record
    }
    this.records = { ready: add(), delayed: add(NOW + 9_000), running: add(), failed: add() }
    for (const record of [this.records.running, this.records.failed]) {
      this.keyspace.streamOf(record).claim(record.entryId, 'first.holder', NOW)
      this.keyspace.startAttempt(record, aClaim(), NOW)
    }
    this.records.failed.errors.push(ERROR)
    this.keyspace.finish(this.records.failed, 'FAILED', null, NOW)
  }

  get queue(): ReturnType<Keyspace['queues']['get']> & object {
    const queue = this.keyspace.queues.get('mail')
    if (!queue) throw new Error('expected the queue to be there, got: none')
    return queue
  }

  async examine(fields: Partial<InspectionRequest> = {}): Promise<Finding[]> {
    const findings: Finding[] = []
    const request = { repair: false, retentionMs: 60_000, claimIntervalMs: 60_000, intervalMs: 1_000 }
    const inspection = new MemoryInspection(this.keyspace, () => NOW)
    for await (const finding of inspection.inspect({
      ...{ ...request, consumers: new Set<string>(), isAttended: () => false },
      ...fields,
    })) {
      findings.push(finding)
    }
    return findings
  }
}

const PLANTS: readonly (readonly [what: string, invariant: string, plant: (patient: Patient) => unknown])[] = [
  ['a record without its cell row', 'I3', ({ keyspace, records: { ready } }) => keyspace.cell(ready)?.remove(ready.id)],
  ['a row with another score', 'I3', ({ keyspace, records: { ready } }) => keyspace.cell(ready)?.add(ready.id, 5)],
  [
    'a row in a second cell',
    'I3',
    ({ keyspace, records: { ready } }) => keyspace.cell({ ...ready, status: 'FAILED' })?.add(ready.id, NOW),
  ],
  ['a row without a record', 'I3', ({ keyspace, records: { ready } }) => keyspace.cell(ready)?.add(randomUUID(), NOW)],
  ['READY with a token', 'I4', ({ records: { ready } }) => (ready.leaseToken = '1:x.1')],
  [
    'READY whose entry is gone',
    'I4',
    ({ keyspace, records: { ready } }) => keyspace.streamOf(ready).remove(ready.entryId),
  ],
  ['delayed without its row', 'I4', ({ queue, records: { delayed } }) => queue.delayed.remove(delayed.id)],
  ['READY with two places', 'I4', ({ queue, records: { ready } }) => queue.delayed.add(ready.id, NOW + 5)],
  ['RUNNING without a token', 'I5', ({ records: { running } }) => (running.leaseToken = '')],
  ['RUNNING without a fence', 'I5', ({ records: { running } }) => (running.fence = 0)],
  ['RUNNING without a lease', 'I5', ({ keyspace, records: { running } }) => keyspace.leases.remove(running.id)],
  [
    'RUNNING whose entry is gone',
    'I5',
    ({ keyspace, records: { running } }) => keyspace.streamOf(running).remove(running.entryId),
  ],
  ['finished with an entry', 'I6', ({ keyspace, records: { failed } }) => keyspace.push(failed, NOW)],
  ['an entry without a record', 'I7', ({ queue }) => queue.streams.low.append(randomUUID(), NOW)],
  ['a second entry', 'I7', ({ queue, records: { ready } }) => queue.streams.normal.append(ready.id, NOW)],
  ['a row in delayed without a record', 'I9', ({ queue }) => queue.delayed.add(randomUUID(), 5)],
  [
    'a row in delayed with another score',
    'I9',
    ({ queue, records: { delayed } }) => queue.delayed.add(delayed.id, NOW + 99_000),
  ],
  ['a lease of a record that is READY', 'I9', ({ keyspace, records: { ready } }) => keyspace.leases.add(ready.id, NOW)],
  ['a lease with another score', 'I9', ({ keyspace, records: { running } }) => keyspace.leases.add(running.id, 5)],
]

const REPORTED: typeof PLANTS = [
  ['args that are no list', 'I2', ({ records: { ready } }) => (ready.args = '{}')],
  ['finished at no time', 'I6', ({ records: { failed } }) => (failed.finishedAt = null)],
  ['FAILED without an error', 'I10', ({ records: { failed } }) => (failed.errors = [])],
  ['more attempts than worker ids', 'I10', ({ records: { running } }) => (running.attempts = 2)],
]

describe('MemoryInspection', () => {
  it('finds nothing where nothing is broken', async () => {
    expect(await new Patient().examine()).to.deep.equal([])
  })

  for (const [what, invariant, plant] of [...PLANTS, ...REPORTED]) {
    const isMended = PLANTS.some(([planted]) => planted === what)
    it(`${invariant}: ${what}, ${isMended ? 'mended' : 'reported'}`, async () => {
      const patient = new Patient()
      plant(patient)
      const found = await patient.examine()
      expect(found.map((finding) => finding.invariant)).to.deep.equal([invariant])
      expect(await patient.examine()).to.deep.equal(found)
      const [mended] = await patient.examine({ repair: true })
      expect(mended).to.include({ repairable: isMended })
      expect(mended?.repaired).to.equal(isMended ? true : undefined)
      expect(await patient.examine()).to.deep.equal(isMended ? [] : found)
    })
  }

  it('I14: what is overdue, where a worker is there for it', async () => {
    const patient = new Patient()
    patient.records.running.leaseUntil = NOW - 600_000
    patient.keyspace.leases.add(patient.records.running.id, NOW - 600_000)
    expect(await patient.examine()).to.deep.equal([])
    const found = await patient.examine({ isAttended: () => true })
    expect(found.map(({ invariant, repairable }) => [invariant, repairable])).to.deep.equal([['I14', false]])
  })

  it('ends at a signal', async () => {
    const patient = new Patient()
    patient.records.running.leaseToken = ''
    const abort = new AbortController()
    abort.abort()
    expect(await patient.examine({ signal: abort.signal })).to.deep.equal([])
  })
})
