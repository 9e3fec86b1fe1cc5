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
        // Some stand for one case in each order.
        const title = gap.replace(/(newest|oldest) first$/, '${order} first')
        expect(contract.includes(`it('${title}'`) || contract.includes(`it(\`${title}\``), gap).to.equal(true)
        expect(reason).to.not.equal('')
      }
    })
  }

  it('are none on a real server without shards', () => {
    const withGaps = STORAGES.filter(({ gaps }) => Object.keys(gaps).length > 0).map(({ name }) => name)
    expect(withGaps.filter((name) => !name.includes('shards'))).to.deep.equal(['memory'])
  })
})
