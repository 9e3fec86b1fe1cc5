import { expect } from 'chai'
import sinon from 'sinon'
import { systemClock } from '../lib/clock.ts'

describe('systemClock', () => {
  let fake: sinon.SinonFakeTimers

  beforeEach(() => {
    fake = sinon.useFakeTimers({ now: 1_700_000_000_000 })
  })

  afterEach(() => fake.restore())

  it('tells epoch milliseconds, and a time that never goes back', () => {
    expect(systemClock.now()).to.equal(1_700_000_000_000)
    const before = systemClock.monotonicMs()
    fake.tick(250)
    expect(systemClock.monotonicMs() - before).to.equal(250)
    fake.setSystemTime(0)
    expect(systemClock.now()).to.equal(0)
    expect(systemClock.monotonicMs() - before).to.equal(250)
  })

  it('calls once, in time', () => {
    const fn = sinon.spy()
    systemClock.setTimeout(fn, 100)
    fake.tick(99)
    expect(fn.callCount).to.equal(0)
    fake.tick(1)
    fake.tick(1000)
    expect(fn.callCount).to.equal(1)
  })

  it('calls nothing once the timer is cleared, which may be done again, and late', () => {
    const fn = sinon.spy()
    const timer = systemClock.setTimeout(fn, 100)
    systemClock.clearTimeout(timer)
    systemClock.clearTimeout(timer)
    systemClock.clearTimeout({})
    fake.tick(1000)
    expect(fn.callCount).to.equal(0)
    const fired = systemClock.setTimeout(fn, 0)
    fake.tick(1)
    systemClock.clearTimeout(fired)
    expect(fn.callCount).to.equal(1)
  })

  it('waits longer than a timer of Node can', () => {
    const [fn, cleared] = [sinon.spy(), sinon.spy()]
    const days = 86_400_000
    systemClock.setTimeout(fn, 60 * days)
    const timer = systemClock.setTimeout(cleared, 60 * days)
    fake.tick(59 * days)
    expect(fn.callCount).to.equal(0)
    systemClock.clearTimeout(timer)
    fake.tick(1 * days)
    expect(fn.callCount).to.equal(1)
    expect(cleared.callCount).to.equal(0)
  })
})
