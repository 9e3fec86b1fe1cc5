/** Workers that are told to stop while their tasks last longer than the drain, or hold the event loop (F27). */
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { Project } from '../cli/project.ts'
import type { Command } from '../cli/project.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { together } from './support/together.ts'
import { reportOwn } from './support/verdict.ts'

const DRAIN_MS = 1_000

describe('Faults: stops', function () {
  this.timeout(sized(240_000, 600_000))

  together({
    'hands back what lasts longer than the drain, uncounted, and others begin it at once (F27)': longerThanTheDrain,
    'ends a thread that a task blocks, and others begin that task at once (F27)': blockedThread,
  })
})

async function longerThanTheDrain(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 60 })
  const figures: Record<string, number> = {}
  for (const twice of [false, true]) {
    const drainTimeoutSeconds = twice ? 3_600 : DRAIN_MS / 1_000
    const leaving = await run.spawn({ heldMs: 3_600_000, worker: { drainTimeoutSeconds } })
    const held = await run.enqueue({ name: 'held' }, lists(5, 0))
    await eventually(() => leaving.facts.filter(({ fact }) => fact === 'begun').length === 5, { timeoutMs: 60_000 })
    const staying = await run.spawn({ heldMs: 10 })
    leaving.expectedEnd = true
    leaving.child.kill('SIGTERM')
    const toldAt = Date.now()
    // The worker has stopped to take once it says so, or a while later; what comes then is for the other one. Nor may a second
    // signal come sooner: two that wait to be delivered are one.
    await eventually(async () => {
      const workers = await run.backend.storage.workers()
      return workers.some(({ fields }) => fields['state'] === 'draining') || Date.now() - toldAt > 500
    })
    if (twice) leaving.child.kill('SIGTERM')
    await run.enqueue({}, lists(20, 5))
    await leaving.ended()
    const endedAt = Date.now()
    await run.drained()
    const begun = run.facts('begun').filter(({ id, pid }) => held.includes(id) && pid === staying.pid)
    const name = twice ? 'twice' : 'once'
    figures[`${name}StopTookMs`] = endedAt - toldAt
    figures[`${name}BegunElsewhereMs`] = Math.max(...begun.map(({ at }) => at - endedAt))
    const records = await Promise.all(held.map((id) => run.record(id)))
    expect(records.map(({ attempts, crashes }) => [attempts, crashes])).to.deep.equal(held.map(() => [1, 0]))
    expect(begun).to.have.lengthOf(5)
    expect(leaving.facts.filter(({ fact }) => fact === 'begun')).to.have.lengthOf(5)
    expect(leaving.child.exitCode).to.equal(0)
    expect(figures[`${name}StopTookMs`]).to.be.at.most(((twice ? 0 : DRAIN_MS) + 2_000) * run.calibration)
    expect(figures[`${name}BegunElsewhereMs`]).to.be.at.most(1_000 * run.calibration)
    await staying.signal('SIGTERM')
  }
  const verdict = await run.verdict()
  verdict.assert('F27', { duplicates: 10 }, { faultsInjected: 2, faultsThatBit: 2, ...figures })
}

/** Blocks for ever in the process that says so. */
const BLOCKS = `
import { appendFileSync } from 'node:fs'
import { task } from 'express-tasks-redis'
export const blocks = task('blocks', async () => {
  appendFileSync('marks', JSON.stringify({ pid: process.pid, at: Date.now() }) + '\\n')
  if (process.env.BLOCKS) for (;;);
})
`

async function blockedThread(): Promise<void> {
  await using run = await FaultRun.start()
  const project = await Project.create({ server: run.server, claimTimeoutSeconds: 60 })
  try {
    project.write('tasks.js', BLOCKS)
    project.write('marks', '')
    const start = (variables: NodeJS.ProcessEnv): Command => {
      const drain = ['--claim-interval', '1', '--drain-timeout', String(DRAIN_MS / 1_000)]
      return project.start('run-redis-tasks', ['tasks.js', '--continuous', ...drain], variables)
    }
    const marks = (): { pid: number; at: number }[] =>
      project
        .read('marks')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as { pid: number; at: number })
    const leaving = start({ BLOCKS: '1' })
    const id = await project.enqueue('blocks')
    await eventually(() => marks().length === 1, { timeoutMs: 60_000 })
    const staying = start({})
    await eventually(async () => (await project.backend.storage.workers()).length === 2, { timeoutMs: 60_000 })
    leaving.kill('SIGTERM')
    const toldAt = Date.now()
    const code = await leaving.ended
    const endedAt = Date.now()
    const again = await eventually(() => marks()[1] ?? null, { timeoutMs: 60_000 }).catch(() => null)
    await eventually(async () => (await project.record(id)).status === 'SUCCESSFUL', { timeoutMs: 60_000 })
    staying.kill('SIGTERM')
    await staying.ended
    const figures = { stopTookMs: endedAt - toldAt, begunElsewhereMs: (again?.at ?? NaN) - endedAt }
    reportOwn(run, 'F27', { executed: marks().length, duplicates: marks().length - 1, case: 'blocked', ...figures })
    expect(code).to.equal(4)
    expect(await project.record(id)).to.include({ status: 'SUCCESSFUL', attempts: 1, crashes: 0 })
    expect(figures.stopTookMs).to.be.at.most((DRAIN_MS + 2_000) * run.calibration)
    expect(figures.begunElsewhereMs).to.be.at.most(1_000 * run.calibration)
  } finally {
    await project.remove()
  }
}
