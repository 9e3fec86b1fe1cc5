/** No gap without its case: a case that was renamed must not take its gap's reason along into nowhere. */
import { expect } from 'chai'
import { readdirSync, readFileSync } from 'node:fs'
import { STORAGES } from '../../support/storages.ts'

describe('the gaps of the contract', () => {
  const contract = readdirSync(import.meta.dirname)
    .map((file) => readFileSync(`${import.meta.dirname}/${file}`, 'utf8'))
    .join('\n')

  for (const { name, gaps } of STORAGES) {
    it(`each name a case that is there, and give a reason: ${name}`, () => {
      for (const [gap, reason] of Object.entries(gaps)) {
        expect(contract).to.include(`it('${gap}'`)
        expect(reason).to.not.equal('')
      }
    })
  }

  it('are none on a real server', () => {
    const withGaps = STORAGES.filter(({ gaps }) => Object.keys(gaps).length > 0).map(({ name }) => name)
    expect(withGaps).to.deep.equal(['memory'])
  })
})
