import { expect } from 'chai'
import fc from 'fast-check'
import { SortedSet, type Member } from '../../../lib/storage/memory/sorted-set.ts'

function setOf(...members: readonly (readonly [string, number])[]): SortedSet {
  const set = new SortedSet()
  for (const [member, score] of members) set.add(member, score)
  return set
}

function names(members: readonly Member[]): string[] {
  return members.map(({ member }) => member)
}

/** The same set by brute force: the order of `Buffer.compare` is that of Redis. */
function sorted(scores: ReadonlyMap<string, number>): Member[] {
  return [...scores]
    .map(([member, score]) => ({ member, score }))
    .sort((a, b) => a.score - b.score || Buffer.compare(Buffer.from(a.member), Buffer.from(b.member)))
}

describe('SortedSet', () => {
  it('keeps members by score, then by name', () => {
    const set = setOf(['b', 1], ['a', 2], ['c', 0], ['a1', 1])
    expect(names(set.range({ limit: 10 }))).to.deep.equal(['c', 'a1', 'b', 'a'])
    expect(set.first()).to.deep.equal({ member: 'c', score: 0 })
    expect(set.size).to.equal(4)
  })

  it('orders equal scores by UTF-8 bytes, also where UTF-16 says otherwise', () => {
    const set = setOf(['\u{1F600}', 0], ['\uFFFD', 0], ['é', 0], ['z', 0])
    expect(names(set.range({ limit: 10 }))).to.deep.equal(['z', 'é', '\uFFFD', '\u{1F600}'])
  })

  it('moves a member that is added again', () => {
    const set = setOf(['a', 1], ['b', 2])
    set.add('a', 3)
    expect(names(set.range({ limit: 10 }))).to.deep.equal(['b', 'a'])
    expect(set.score('a')).to.equal(3)
    expect(set.size).to.equal(2)
  })

  it('says whether a removed member was there', () => {
    const set = setOf(['a', 1])
    expect(set.remove('b')).to.equal(false)
    expect(set.remove('a')).to.equal(true)
    expect(set.remove('a')).to.equal(false)
    expect(set.first()).to.equal(undefined)
    expect(set.score('a')).to.equal(undefined)
  })

  it('counts between two scores, both included', () => {
    const set = setOf(['a', 1], ['b', 2], ['c', 2], ['d', 3])
    expect(set.countBetween(2, 2)).to.equal(2)
    expect(set.countBetween(-Infinity, Infinity)).to.equal(4)
    expect(set.countBetween(3, 2)).to.equal(0)
    expect(set.countBetween(4, 9)).to.equal(0)
  })

  it('starts a range strictly behind a place, whether or not its member is still there', () => {
    const set = setOf(['a', 1], ['b', 1], ['c', 1])
    const after = { member: 'b', score: 1 }
    expect(names(set.range({ after, limit: 10 }))).to.deep.equal(['c'])
    expect(names(set.range({ after, order: 'descending', limit: 10 }))).to.deep.equal(['a'])
    set.remove('b')
    expect(names(set.range({ after, limit: 10 }))).to.deep.equal(['c'])
    expect(names(set.range({ after, order: 'descending', limit: 10 }))).to.deep.equal(['a'])
  })

  it('answers what a sorted array would, whatever was added and removed', () => {
    const member = fc.integer({ min: 0, max: 1500 }).map(String)
    const score = fc.integer({ min: 0, max: 20 })
    const change = fc.record({ member, score, removes: fc.boolean() })
    const range = fc.record({
      from: fc.option(score, { nil: undefined }),
      to: fc.option(score, { nil: undefined }),
      after: fc.option(fc.record({ member, score }), { nil: undefined }),
      order: fc.constantFrom('ascending' as const, 'descending' as const),
      limit: fc.nat(50),
    })
    const changes = fc.array(change, { maxLength: 3000, size: 'max' })
    fc.assert(
      fc.property(changes, fc.array(range, { minLength: 1, maxLength: 5 }), (steps, ranges) => {
        const set = new SortedSet()
        const model = new Map<string, number>()
        for (const step of steps) {
          if (step.removes) {
            expect(set.remove(step.member)).to.equal(model.delete(step.member))
          } else {
            set.add(step.member, step.score)
            model.set(step.member, step.score)
          }
        }
        const all = sorted(model)
        expect(set.size).to.equal(all.length)
        expect(set.range({ limit: Infinity })).to.deep.equal(all)
        for (const { from, to, after, order, limit } of ranges) {
          const compare = (a: Member, b: Member): number =>
            a.score - b.score || Buffer.compare(Buffer.from(a.member), Buffer.from(b.member))
          const ordered = order === 'ascending' ? all : all.toReversed()
          const sign = order === 'ascending' ? 1 : -1
          const within = ordered.filter((m) => m.score >= (from ?? -Infinity) && m.score <= (to ?? Infinity))
          const behind = within.filter((m) => !after || sign * compare(m, after) > 0)
          expect(set.range({ from, to, after, order, limit })).to.deep.equal(behind.slice(0, limit))
          expect(set.countBetween(from ?? -Infinity, to ?? Infinity)).to.equal(within.length)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('costs hardly more per member with a hundred thousand than with a few', () => {
    /** Processor time to add and remove so many, out of order: no insertion is at an end. */
    function costOf(count: number): number {
      const set = new SortedSet()
      const places = Array.from({ length: count }, (_, index) => (index * 61_343) % count)
      const before = process.cpuUsage()
      for (const place of places) set.add(`id-${place}`, place)
      expect(set.size).to.equal(count)
      for (const place of places) set.remove(`id-${place}`)
      expect(set.size).to.equal(0)
      const { user, system } = process.cpuUsage(before)
      return user + system
    }
    /** The least of some: what collects garbage in between only adds. */
    const leastOf = (count: number): number => Math.min(...[1, 2, 3, 4].map(() => costOf(count)))
    // Four times the members: 5 times the cost here, 16 times in one array that moves all behind each insertion.
    expect(leastOf(100_000) / leastOf(25_000)).to.be.below(10)
  })
})
