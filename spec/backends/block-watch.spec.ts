/** A loop seen from outside: a counter that stands still for a second while something is in hand, and nothing else. */
import { expect } from 'chai'
import { BlockWatch } from '../../lib/backends/block-watch.ts'
import type { Block } from '../../lib/worker-report.ts'
import { ManualClock } from '../support/manual-clock.ts'

describe('BlockWatch', () => {
  let clock: ManualClock
  /** By how much the whole process stood still: no timer fired meanwhile. */
  let stoodStillMs = 0
  let ticks: Int32Array
  let lasting: Block[]
  let ended: Block[]
  let watch: BlockWatch

  beforeEach(() => {
    clock = new ManualClock()
    ticks = new Int32Array(new SharedArrayBuffer(4))
    lasting = []
    ended = []
    stoodStillMs = 0
    const stopped = {
      now: () => clock.now(),
      monotonicMs: () => clock.monotonicMs() + stoodStillMs,
      setTimeout: (fn: () => void, ms: number) => clock.setTimeout(fn, ms),
      clearTimeout: (timer: object) => clock.clearTimeout(timer),
    }
    watch = new BlockWatch(ticks, stopped, {
      lasts: (block) => void lasting.push(block),
      ended: (block) => void ended.push(block),
    })
  })

  /** Lets time pass in the steps of a thread that turns, while the loop that is watched turns or not. */
  function pass(ms: number, turns: boolean): void {
    for (let passed = 0; passed < ms; passed += 50) {
      if (turns) Atomics.add(ticks, 0, 1)
      clock.advance(50)
    }
  }

  it('says nothing while the loop turns, or nothing is in hand', () => {
    pass(5_000, false)
    watch.begun('a', 'send/a')
    pass(5_000, true)
    watch.ended('a')
    pass(5_000, false)
    expect([lasting, ended]).to.deep.equal([[], []])
  })

  it('tells how long the loop has not turned, and what is in hand, last begun first', () => {
    watch.begun('a', 'waits/a')
    pass(1_000, true)
    watch.begun('b', 'blocks/b')
    pass(900, false)
    expect(lasting).to.deep.equal([])
    pass(1_600, false)
    expect(lasting.at(-1)?.tasks).to.deep.equal(['blocks/b', 'waits/a'])
    expect(lasting.at(-1)?.ms).to.be.within(2_000, 2_500)
    expect(ended).to.deep.equal([])
    pass(300, true)
    expect(ended).to.deep.equal([lasting.at(-1)])
    const told = lasting.length
    pass(3_000, true)
    expect(lasting).to.have.lengthOf(told)
  })

  it('counts from the begin of what came to an idle loop', () => {
    watch.begun('a', 'a/a')
    watch.ended('a')
    pass(10_000, false)
    watch.begun('b', 'b/b')
    pass(900, false)
    expect(lasting).to.deep.equal([])
  })

  it('counts from when it was told of what is in hand where the loop has not turned since', () => {
    Atomics.add(ticks, 0, 1)
    watch.begun('a', 'blocks/a')
    pass(950, false)
    expect(lasting).to.deep.equal([])
    pass(50, false)
    expect(lasting).to.deep.equal([{ ms: 1_000, tasks: ['blocks/a'] }])
  })

  it('keeps no timer once nothing is in hand', () => {
    watch.begun('a', 'a/a')
    pass(500, true)
    watch.ended('a')
    expect(clock.timers).to.equal(0)
  })

  it('takes a process that stood still as a whole for no block', () => {
    watch.begun('a', 'a/a')
    pass(500, true)
    stoodStillMs = 60_000
    pass(500, true)
    expect([lasting, ended]).to.deep.equal([[], []])
  })
})
