/** Which ids records may have, and that those made here sort as they came. */
import { expect } from 'chai'
import fc from 'fast-check'
import { isRecordId, normalizeRecordId, RecordIds } from '../lib/record-id.ts'

describe('record ids', () => {
  const id = '0198c1f2-7c2a-7abc-8def-0123456789ab'

  it('are UUIDs in lower case', () => {
    expect(isRecordId(id)).to.equal(true)
    expect(isRecordId(id.toUpperCase())).to.equal(false)
    expect(normalizeRecordId(id)).to.equal(id)
    expect(normalizeRecordId(id.toUpperCase())).to.equal(id)
    for (const other of ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff']) {
      expect(normalizeRecordId(other)).to.equal(other)
    }
    fc.assert(
      fc.property(fc.uuid(), (uuid) => {
        expect(normalizeRecordId(uuid.toUpperCase())).to.equal(uuid)
      }),
    )
  })

  it('are nothing else', () => {
    const wrong = [
      '',
      'a',
      id.slice(1),
      `${id}0`,
      `${id}\n`,
      ` ${id}`,
      `{${id}}`,
      `urn:uuid:${id}`,
      id.replaceAll('-', ''),
      id.replace('0', 'g'),
    ]
    for (const value of [...wrong, 'x'.repeat(1_000_000), `${'İ'.repeat(35)}0`, 0, null, undefined, [id], Object(id)]) {
      expect(isRecordId(value)).to.equal(false)
      expect(normalizeRecordId(value)).to.equal(undefined)
    }
  })
})

describe('RecordIds', () => {
  const VERSION_7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
  const timeOf = (id: string): number => parseInt(id.slice(0, 13).replace('-', ''), 16)

  /** Ids made at these times, one each. */
  function made(times: readonly number[]): string[] {
    let at = 0
    const ids = new RecordIds(() => times[at++] ?? 0)
    return times.map(() => ids.next())
  }

  const sorted = (ids: readonly string[]): boolean =>
    ids.every((id, index) => index === 0 || id > (ids[index - 1] ?? ''))

  it('are UUIDs of version 7 that hold the time in milliseconds', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(4_000), (seconds, ms) => {
        const at = seconds * 1_000 + ms
        const [id = ''] = made([at])
        expect(id).to.match(VERSION_7)
        expect(timeOf(id)).to.equal(at)
      }),
    )
    for (const at of [0, -1, NaN]) {
      const [first = '', second = ''] = made([at, at])
      expect(
        [first, second].every((id) => VERSION_7.test(id) && timeOf(id) === 0),
        String(at),
      ).to.equal(true)
      expect(second > first).to.equal(true)
    }
    const before = Date.now()
    const own = timeOf(new RecordIds().next())
    expect(own).to.be.within(before, Date.now())
  })

  it('sort as they came and are never equal, within a millisecond and beyond what it can count', () => {
    const ids = made(new Array<number>(20_000).fill(1_795_000_000_000))
    expect(sorted(ids)).to.equal(true)
    expect(new Set(ids).size).to.equal(ids.length)
    expect(ids.filter((id) => !VERSION_7.test(id))).to.deep.equal([])
    // Each millisecond that is borrowed has room for more than 2,000.
    expect(timeOf(ids.at(-1) ?? '') - 1_795_000_000_000).to.be.within(4, 10)
  })

  it('sort as they came when the clock goes back, stands or jumps', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2_000), { minLength: 2, maxLength: 600 }), (times) => {
        expect(sorted(made(times.map((ms) => 1_795_000_000_000 + ms)))).to.equal(true)
      }),
    )
  })

  it('have random bits of their own: 62, of which no two ids have the same, in any process', () => {
    const at = new Array<number>(1_000).fill(1_795_000_000_000)
    const random = [...made(at), ...made(at)].map((id) => id.slice(19))
    expect(new Set(random).size).to.equal(2_000)
    // Every hexadecimal place but the variant takes every digit.
    for (let place = 1; place < 17; place += 1) {
      if (random[0]?.[place] === '-') continue
      expect(new Set(random.map((text) => text[place])).size, String(place)).to.equal(16)
    }
    expect(new Set(random.map((text) => text[0]))).to.deep.equal(new Set('89ab'))
  })
})
