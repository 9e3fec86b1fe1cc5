import { expect } from 'chai'
import { getEventListeners } from 'node:events'
import { Waits } from '../../../lib/storage/memory/waits.ts'
import type { Delivery, Taken } from '../../../lib/storage/storage.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { aBlockingTake, QUEUE } from '../../support/storage-builders.ts'

const NOTHING: Taken = { begun: [], passed: 0 }
// What was begun is passed through unread.
const SOMETHING: Taken = { begun: [{} as Delivery], passed: 0 }

describe('Waits', () => {
  let clock: ManualClock
  let waits: Waits

  beforeEach(() => {
    clock = new ManualClock()
    waits = new Waits(clock)
  })

  it('takes at once when there is something to begin', async () => {
    const { signal } = new AbortController()
    expect(await waits.forEntry(aBlockingTake(), signal, () => SOMETHING)).to.equal(SOMETHING)
    expect([waits.size, clock.timers, getEventListeners(signal, 'abort').length]).to.deep.equal([0, 0, 0])
  })

  it('tries again only when its queue got an entry', async () => {
    const { signal } = new AbortController()
    const answers = [NOTHING, NOTHING, SOMETHING]
    let tried = 0
    const waiting = waits.forEntry(aBlockingTake(), signal, () => answers[tried++] ?? NOTHING)
    waits.pushed('other')
    expect(tried).to.equal(1)
    waits.pushed(QUEUE)
    waits.pushed(QUEUE)
    expect(await waiting).to.equal(SOMETHING)
    waits.pushed(QUEUE)
    expect(tried).to.equal(3)
  })

  it('goes on past entries that begin nothing, however many', async () => {
    let passed = 100_000
    const take = (): Taken => (passed-- > 0 ? { begun: [], passed: 1 } : SOMETHING)
    expect(await waits.forEntry(aBlockingTake(), new AbortController().signal, take)).to.equal(SOMETHING)
  })

  it('asks no further once the entries have run out', async () => {
    const { signal } = new AbortController()
    const tried: string[] = []
    const ends = ['a', 'b', 'c'].map((name) =>
      waits.forEntry(aBlockingTake(), signal, () => {
        tried.push(name)
        return NOTHING
      }),
    )
    waits.pushed(QUEUE)
    expect(tried).to.deep.equal(['a', 'b', 'c', 'a'])
    clock.advance(5_000)
    expect(await Promise.all(ends)).to.deep.equal([NOTHING, NOTHING, NOTHING])
  })

  it('keeps nothing of a wait, whichever way it ended', async () => {
    const [stop, never] = [new AbortController(), new AbortController()]
    const ends = [
      waits.forEntry(aBlockingTake('a'), stop.signal, () => NOTHING),
      waits.forEntry(aBlockingTake('b', { blockMs: 10 }), never.signal, () => NOTHING),
      waits.forEnd('id', 10),
      waits.forEnd('id', 1_000),
      waits.forEnd('other', 10),
    ]
    expect(waits.size).to.equal(5)
    stop.abort()
    clock.advance(10)
    expect(waits.size).to.equal(1)
    waits.ended('id', 'FINISHED')
    waits.ended('other', 'ABSENT')
    expect(await Promise.all(ends)).to.deep.equal([NOTHING, NOTHING, 'TIMEOUT', 'FINISHED', 'TIMEOUT'])
    const listeners = [stop, never].map(({ signal }) => getEventListeners(signal, 'abort').length)
    expect([waits.size, clock.timers, ...listeners]).to.deep.equal([0, 0, 0, 0])
  })
})
