import { expect } from 'chai'
import { MinuteStats } from '../../../lib/storage/memory/minute-stats.ts'

const MINUTE_MS = 60_000

describe('MinuteStats', () => {
  it('counts by queue, outcome and time taken, each bucket twice as wide as the one before', () => {
    const stats = new MinuteStats()
    for (const runMs of [0, 1, 2, 3, 4, 1023, 1024, 2 ** 40]) {
      stats.count({ queueName: 'mail', outcome: 'SUCCESSFUL', runMs, waitMs: null }, 5 * MINUTE_MS)
    }
    expect(Object.fromEntries(stats.read(5))).to.deep.equal({
      'mail:SUCCESSFUL:0': 1,
      'mail:SUCCESSFUL:1': 1,
      'mail:SUCCESSFUL:2': 2,
      'mail:SUCCESSFUL:3': 1,
      'mail:SUCCESSFUL:10': 1,
      'mail:SUCCESSFUL:11': 1,
      'mail:SUCCESSFUL:24': 1,
    })
  })

  it('counts the wait where there is one', () => {
    const stats = new MinuteStats()
    stats.count({ queueName: 'mail', outcome: 'FAILED', runMs: 0, waitMs: 5 }, 0)
    stats.count({ queueName: 'mail', outcome: 'FAILED', runMs: 0, waitMs: null }, MINUTE_MS - 1)
    expect(Object.fromEntries(stats.read(0))).to.deep.equal({ 'mail:FAILED:0': 2, 'mail:wait:3': 1 })
    expect([...stats.read(1)]).to.deep.equal([])
  })

  it('keeps 25 hours', () => {
    const stats = new MinuteStats()
    const attempt = { queueName: 'mail', outcome: 'SUCCESSFUL', runMs: 0, waitMs: null } as const
    for (let minute = 0; minute <= 25 * 60; minute++) stats.count(attempt, minute * MINUTE_MS)
    expect(stats.read(0).size).to.equal(0)
    expect(stats.read(1).size).to.equal(1)
    expect(stats.read(25 * 60).size).to.equal(1)
  })
})
