/** Workers that stand still: a frozen process, and a task that holds its event loop (F5, F6). */
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import type { ChildOrders, WorkerProcess } from './support/fault-run.ts'
import { easyLeaseSeconds } from './support/rows.ts'
import { together } from './support/together.ts'

const LEASE_MS = 1_000

describe('Faults: frozen workers', function () {
  this.timeout(sized(240_000, 600_000))

  together({
    'refuses what a frozen worker settles after its leases were taken over, and overwrites nothing (F5)': frozen,
    'keeps the lease of a task that holds the event loop for three leases, while another worker looks for it (F6)':
      blocked,
    'keeps that lease in a web process that runs due tasks itself (F6)': () => blocked({ kind: 'processTasks' }),
    'keeps that lease in a worker thread (F6)': () => blocked({ inThread: true }),
    'lets the lease of such a task run out at its own limit of time, and refuses its late end (F6)': blockedWithLimit,
  })
})

async function frozen(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 1 })
  const count = sized(10, 40)
  const frozen = await run.spawn({ worker: { workerId: 'frozen', concurrency: count } })
  // Given attempts that last longer than the freeze
  const ids = await run.enqueue({ name: 'first' }, lists(count, 5 * LEASE_MS))
  await eventually(() => frozen.facts.filter(({ fact }) => fact === 'begun').length === count, { timeoutMs: 60_000 })
  await frozen.signal('SIGSTOP')
  const stoppedAt = Date.now()
  run.kills.push({ pid: frozen.pid, at: stoppedAt })
  const second = await run.spawn({ worker: { workerId: 'second' } })
  await eventually(() => Date.now() - stoppedAt > 3 * LEASE_MS)
  await run.drained()
  const before = await Promise.all(ids.map((id) => run.record(id)))
  await frozen.signal('SIGCONT')
  const wokenAt = Date.now()
  await eventually(() => run.facts('settled').filter(({ word }) => word === 'LOST').length === count, {
    timeoutMs: 60_000,
  })
  // Then each was told soon after it woke, and the second one's outcomes are untouched
  const aborted = run.facts('aborted').map(({ at }) => at - wokenAt)
  expect(await Promise.all(ids.map((id) => run.record(id)))).to.deep.equal(before)
  expect(before.map(({ returnValue }) => returnValue)).to.deep.equal(ids.map(() => JSON.stringify(`${second.pid} 2`)))
  const verdict = await run.verdict()
  verdict.assert('F5', { duplicates: count }, { abortedAfterMs: Math.max(...aborted) })
  expect(verdict.stale).to.equal(count)
  expect(aborted).to.have.lengthOf(count)
  expect(Math.max(...aborted)).to.be.at.most((0.3 * LEASE_MS + 500) * run.calibration)
}

/** It takes nothing from now on, until SIGCONT: its blocking read has ended, too, else the server would hand it the next entry. */
async function holdBack(worker: WorkerProcess, run: FaultRun): Promise<void> {
  await worker.signal('SIGSTOP')
  const stoppedAt = Date.now()
  await eventually(() => Date.now() - stoppedAt > 2 * run.options.blockTimeoutMs)
}

async function blocked(orders: Pick<ChildOrders, 'kind' | 'inThread'> = {}): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: easyLeaseSeconds(4), claimIntervalSeconds: 0.3 })
  const [blocking, second] = await Promise.all([run.spawn(orders), run.spawn()])
  await holdBack(second, run)
  await run.enqueue({ name: 'block' }, [[3 * run.options.claimTimeoutSeconds * 1_000]])
  await eventually(() => blocking.hasBegun, { timeoutMs: 60_000 })
  await second.signal('SIGCONT')
  await run.enqueue({}, lists(20, 5))
  await run.drained()
  const verdict = await run.verdict()
  verdict.assert('F6', { duplicates: 0 }, { faultsInjected: 1, faultsThatBit: 1, ...orders })
  expect(verdict.begun.filter(({ name }) => name === 'block')).to.have.lengthOf(1)
  expect(verdict.stale).to.equal(0)
}

async function blockedWithLimit(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 1, claimIntervalSeconds: 0.3 })
  const taskOptions = { block: { timeoutMs: LEASE_MS } }
  const [blocked, second] = await Promise.all([run.spawn({ taskOptions }), run.spawn({ taskOptions })])
  await holdBack(second, run)
  const [id = ''] = await run.enqueue({ name: 'block' }, [[6 * LEASE_MS]])
  await eventually(() => blocked.hasBegun, { timeoutMs: 60_000 })
  await second.signal('SIGCONT')
  await run.drained()
  // Renewed up to the limit, so a lease later it is over
  run.kills.push({ pid: blocked.pid, at: (run.facts('begun')[0]?.at ?? NaN) + LEASE_MS })
  await eventually(() => run.facts('settled').some(({ word }) => word === 'LOST'), { timeoutMs: 60_000 })
  expect((await run.record(id)).returnValue).to.equal(JSON.stringify(`${second.pid} 2`))
  const verdict = await run.verdict()
  verdict.assert('F6', { duplicates: 1 }, { case: 'timeoutMs' })
  expect(verdict.stale).to.equal(1)
}
