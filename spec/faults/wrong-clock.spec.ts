/** Clocks of workers that are off, each by another amount: the server's time alone counts (F15). */
import { expect } from 'chai'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { easyLeaseSeconds, row } from './support/rows.ts'

const HOUR_MS = 3_600_000

describe('Faults: clocks', function () {
  this.timeout(sized(240_000, 600_000))

  row('begins nothing before it is due, and soon after it is, whatever the workers’ clocks say (F15)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: easyLeaseSeconds(3) })
    const taskOptions = { flaky: { retry: { maxAttempts: 2, delayMs: 500, jitter: 0 } } }
    await Promise.all(
      [-24 * HOUR_MS, -HOUR_MS, HOUR_MS, 24 * HOUR_MS].map((clockOffMs) => run.spawn({ clockOffMs, taskOptions })),
    )
    const due = Date.now() + 1_500
    const delayed = await run.enqueue({ runAfter: due }, lists(sized(100, 1_000), 1))
    // Longer than its lease, so that it has to be renewed; and one that a person's clock has put off
    await run.enqueue({}, lists(8, 1_500 * run.options.claimTimeoutSeconds))
    const flaky = await run.enqueue({ name: 'flaky' }, lists(20, 0))
    await run.drained()
    const verdict = await run.verdict()
    const late = verdict.begun.filter(({ id }) => delayed.includes(id)).map(({ at }) => at - due)
    const pauses = flaky.map((id) => {
      const [first, second] = verdict.begun.filter((fact) => fact.id === id)
      return (second?.at ?? NaN) - (first?.at ?? NaN)
    })
    const pauseMs = { min: Math.min(...pauses), max: Math.max(...pauses) }
    const figures = { faultsInjected: 4, faultsThatBit: 4, startErrorMs: Math.max(...late), pauseMs }
    verdict.assert('F15', { duplicates: flaky.length }, figures)
    expect(verdict.stale).to.equal(0)
    expect(verdict.duplicates).to.equal(flaky.length)
    expect(run.facts('aborted')).to.deep.equal([])
    expect(Math.max(...late)).to.be.at.most(1_500 * run.calibration)
    expect(pauseMs.min).to.be.at.least(495)
    expect(pauseMs.max).to.be.at.most(2_000 * run.calibration)
  })
})
