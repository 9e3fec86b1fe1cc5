/** Tasks that kill their worker, and tasks that a worker does not know: the others live (F26, F38). */
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { together } from './support/together.ts'
import type { WorkerProcess } from './support/fault-run.ts'

const CRASH_LIMIT = 3

describe('Faults: poison', function () {
  this.timeout(sized(240_000, 600_000))

  together({
    'begins what kills its process once more than the crash limit, then fails it; the innocents all succeed (F26)':
      killers,
    'hands back what the workers do not know yet, until those of the new release are there (F38)': deploy,
  })
})

async function killers(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 1, concurrency: 5 })
  const innocents = await run.enqueue({}, lists(sized(300, 3_000), 20))
  const killers = [...(await run.enqueue({ name: 'exit' }, [[]])), ...(await run.enqueue({ name: 'kill' }, [[]]))]
  const broken = [...(await run.enqueue({ name: 'throw' }, [[]])), ...(await run.enqueue({ name: 'large' }, [[]]))]
  const [unreadable = ''] = await run.enqueue({}, [[]])
  await run.redis.hset(run.keys.record(unreadable), 'args', '{not json')
  run.acknowledged.delete(unreadable)
  const workers: WorkerProcess[] = [run.spawnNow(), run.spawnNow()]
  let deaths = 0
  // Whoever is killed by its task is started again, as a supervisor does
  await eventually(
    async () => {
      for (const [index, worker] of workers.entries()) {
        if (!worker.hasEnded) continue
        worker.expectedEnd = true
        deaths += 1
        run.kills.push({ pid: worker.pid, at: worker.facts.at(-1)?.at ?? Date.now() })
        workers[index] = run.spawnNow()
      }
      const { READY = 0, RUNNING = 0 } = await run.counts()
      return READY + RUNNING === 0
    },
    { timeoutMs: 150_000 },
  )
  await eventually(() => workers.every(({ isReady }) => isReady), { timeoutMs: 60_000 })
  const nobodyThereMs = Math.max(...run.workers.map(({ startMs }) => startMs))
  const verdict = await run.verdict()
  const allowed = { duplicates: deaths * run.options.concurrency, nobodyThereMs, damaged: [unreadable] }
  verdict.assert('F26', allowed, { deaths, innocents: innocents.length })
  for (const id of killers) {
    const record = await run.record(id)
    expect(record).to.include({ status: 'FAILED', attempts: CRASH_LIMIT + 1, crashes: CRASH_LIMIT + 1 })
    // Two that were taken together: the second may die with the first before its function is called
    expect(verdict.begun.filter((fact) => fact.id === id).length).to.be.within(1, CRASH_LIMIT + 1)
    expect(JSON.parse(record.errors[0] ?? '')).to.include({ name: 'TaskAbandonedError' })
  }
  for (const id of [...broken, unreadable]) {
    const record = await run.record(id)
    expect(record).to.include({ status: 'FAILED' })
    expect(record.errors[0]?.length).to.be.below(32_768)
  }
  const counts = await run.counts()
  expect(counts).to.include({ SUCCESSFUL: innocents.length, FAILED: 5 })
  expect(deaths).to.be.within(CRASH_LIMIT + 1, killers.length * (CRASH_LIMIT + 1))
}

async function deploy(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 20 })
  const old = await run.spawn({ tasks: ['work'] })
  const known = await run.enqueue({}, lists(100, 5))
  const unknown = await run.enqueue({ name: 'first' }, lists(50, 5))
  const more = await run.enqueue({}, lists(100, 5))
  // Those behind the unknown ones are not held up
  await eventually(() => old.facts.filter(({ fact }) => fact === 'settled').length === 200, { timeoutMs: 60_000 })
  const knownMs = (old.facts.at(-1)?.at ?? NaN) - (old.facts.find(({ fact }) => fact === 'begun')?.at ?? NaN)
  await eventually(
    async () => (await Promise.all(unknown.map((id) => run.record(id)))).every(({ handBacks }) => handBacks >= 2),
    {
      timeoutMs: 60_000,
    },
  )
  const waiting = await Promise.all(unknown.map((id) => run.record(id)))
  expect(waiting.filter(({ attempts, crashes }) => attempts + crashes > 0)).to.deep.equal([])
  // When the new ones are there, and the old one has left
  await run.spawn()
  await old.signal('SIGTERM')
  const joinedAt = Date.now()
  await run.drained()
  const records = await Promise.all(unknown.map((id) => run.record(id)))
  const lateMs = Math.max(
    ...records.map(({ startedAt, runAfter }) => (startedAt ?? NaN) - Math.max(runAfter ?? 0, joinedAt)),
  )
  const handBacks = Math.max(...records.map((record) => record.handBacks))
  const verdict = await run.verdict()
  verdict.assert('F38', { duplicates: 0 }, { known: known.length + more.length, knownMs, handBacks, lateMs })
  expect(records.map(({ attempts, crashes, status }) => [attempts, crashes, status])).to.deep.equal(
    records.map(() => [1, 0, 'SUCCESSFUL']),
  )
  // 250 ms, and twice as long each time: so many fit into the time that they waited
  const waitedMs = Date.now() - Math.min(...records.map(({ enqueuedAt }) => enqueuedAt))
  expect(handBacks).to.be.at.most(Math.ceil(Math.log2(1 + waitedMs / 250)) + 1)
  expect(lateMs).to.be.at.most(1_000 * run.calibration + 1_000)
}
