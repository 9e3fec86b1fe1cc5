/** A map of few entries through which very many pass: nothing is lost where it begins anew, nothing comes back. */
import { expect } from 'chai'
import { TurnoverMap } from '../lib/turnover-map.ts'

describe('TurnoverMap', () => {
  it('holds what is there, however much came and went', () => {
    const map = new TurnoverMap<string, number>()
    const model = new Map<string, number>()
    for (let step = 0; step < 5_000; step += 1) {
      map.set(`k${step}`, step)
      model.set(`k${step}`, step)
      // Some stay for long, so that more than a fresh map holds at once are carried over.
      const gone = `k${step - (step % 7 === 0 ? 900 : 30)}`
      map.delete(gone)
      model.delete(gone)
      if (step % 500 === 0) expect(map.keys()).to.have.members([...model.keys()])
    }
    expect(map.size).to.equal(model.size)
    expect(map.values()).to.have.members([...model.values()])
    for (const [key, value] of model) expect(map.get(key)).to.equal(value)
    expect(map.get('k0')).to.equal(undefined)
  })

  it('replaces the value of a key, and is empty after clear', () => {
    const map = new TurnoverMap<string, number>()
    for (let step = 0; step < 1_000; step += 1) map.set('same', step)
    expect([map.size, map.get('same')]).to.deep.equal([1, 999])
    map.clear()
    expect([map.size, map.keys()]).to.deep.equal([0, []])
    map.set('again', 1)
    expect(map.values()).to.deep.equal([1])
  })

  it('may be changed while its keys and values are walked', () => {
    const map = new TurnoverMap<number, number>()
    for (let key = 0; key < 10; key += 1) map.set(key, key)
    for (const key of map.keys()) map.delete(key)
    expect(map.size).to.equal(0)
  })
})
