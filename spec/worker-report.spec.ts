/** What a worker says of itself comes back as it was said; what somebody else wrote there is no harm. */
import { expect } from 'chai'
import fc from 'fast-check'
import { fieldsOf, reportOf } from '../lib/worker-report.ts'
import type { WorkerReport } from '../lib/worker-report.ts'

const REPORT: WorkerReport = {
  workerId: 'host-1-abc',
  host: 'host',
  pid: '42',
  node: 'v22.0.0',
  version: '0.1.0',
  startedAt: 1_795_000_000_000,
  state: 'running',
  concurrency: 10,
  running: 3,
  settled: 1_000,
  lost: 1,
  queues: ['mail', 'reports'],
  tasks: ['sendMail', 'build.report'],
  memoryBytes: 100_000_000,
  block: { ms: 1_500, tasks: ['sendMail/0198c1f2-7c2a-7abc-8def-0123456789ab'] },
  longestBlock: { ms: 9_000, tasks: ['sendMail/a', 'build.report/b'], endedAt: 1_795_000_001_000 },
}

describe('The report of a worker', () => {
  const seen = (fields: Readonly<Record<string, string>>): WorkerReport =>
    reportOf({ consumer: 'a-consumer', ageMs: 0, fields })

  it('is read as it was written', () => {
    expect(seen(fieldsOf(REPORT))).to.deep.equal(REPORT)
    const { block: _block, longestBlock: _longest, ...plain } = REPORT
    const idle = { ...plain, queues: [], tasks: [], running: 0 }
    expect(seen(fieldsOf(idle))).to.deep.equal({ ...idle, block: undefined, longestBlock: undefined })
  })

  it('is flat text of fields that say what they are', () => {
    const fields = fieldsOf(REPORT)
    expect(Object.values(fields).every((value) => typeof value === 'string')).to.equal(true)
    expect(fields).to.include({ queues: 'mail reports', blockedMs: '1500', longestBlockAt: '1795000001000' })
    expect(fieldsOf({ ...REPORT, block: undefined })).not.to.have.property('blockedMs')
  })

  it('says nothing where nothing was said, and counts what is odd as not said', () => {
    expect(seen({})).to.include({ workerId: 'a-consumer', startedAt: null, state: '', concurrency: 0 })
    const names = Object.keys(fieldsOf(REPORT))
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), fc.string()), (fields) => {
        const report = seen({ ...fields })
        for (const field of ['concurrency', 'running', 'settled', 'lost', 'memoryBytes'] as const) {
          expect(report[field], field).to.satisfy((value: number) => Number.isSafeInteger(value) && value >= 0)
        }
        expect(report.startedAt ?? 1).to.be.within(1, 8_640_000_000_000_000)
        expect(report.tasks.includes('')).to.equal(false)
      }),
    )
    for (const startedAt of ['-5', '1e400', 'NaN', '8640000000000001', '0x10', ' ']) {
      expect(seen({ startedAt }).startedAt, startedAt).to.equal(null)
    }
  })
})
