/**
 * Each kind of violation, planted in a healthy backend: the doctor finds it and nothing else, mends what can be mended and no
 * more, and a second run finds only what is reported and left alone.
 */
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { difference, readKeyspace } from '../storage/redis/keyspace.ts'
import type { Keyspace } from '../storage/redis/keyspace.ts'
import { PLANTS } from './plants.ts'
import { broken, GROUP, Patient, told } from './support.ts'

const keyspaceOf = ({ redis, keys }: Patient): Promise<Keyspace> => readKeyspace(redis, keys.root, GROUP)

describe('doctor, with a violation planted', function () {
  this.timeout(30_000)

  it('finds nothing where nothing was planted', async () => {
    await using patient = await Patient.open()
    const { findings, summary } = await patient.examine()
    expect(told(findings)).to.deep.equal([])
    expect(summary).to.include({ found: 0, left: 0, complete: true, records: 8, delayed: 1, leases: 2, entries: 5 })
  })

  for (const [invariant, plants] of Object.entries(PLANTS)) {
    for (const { what, plant, breaks, leaves, options = {} } of plants) {
      it(`${invariant}: ${what}`, async () => {
        await using patient = await Patient.open()
        await plant(patient)
        const planted = await keyspaceOf(patient)

        // When it only looks, it finds what is broken and changes nothing
        const first = await eventually(async () => {
          const run = await patient.examine(options)
          return run.findings.length > 0 && run
        })
        expect(broken(first.findings), told(first.findings).join('\n')).to.deep.equal(breaks)
        expect(first.findings.every(({ repaired }) => repaired === undefined)).to.equal(true)
        expect(difference(planted, await keyspaceOf(patient))).to.deep.equal({})
        expect(first.summary).to.include({ found: first.findings.length, repaired: 0, complete: true })

        // When it repairs, then what is left was only to be reported
        const repair = await patient.examine({ ...options, repair: true })
        for (const { repairable, repaired, found } of repair.findings) {
          expect(repaired, found).to.equal(repairable ? true : undefined)
        }
        const mended = await keyspaceOf(patient)
        if (repair.summary.repaired === 0) expect(difference(planted, mended)).to.deep.equal({})
        const second = await patient.examine(options)
        expect(broken(second.findings), told(second.findings).join('\n')).to.deep.equal(leaves)
        expect(second.findings.filter(({ repairable }) => repairable)).to.deep.equal([])

        // When it repairs again, then nothing changes
        await patient.examine({ ...options, repair: true })
        expect(difference(mended, await keyspaceOf(patient))).to.deep.equal({})
      })
    }
  }
})
