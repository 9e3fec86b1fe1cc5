/** Workers that are killed: what they had in hand runs again, in time, and nothing else does (F0, F1, F2, F3). */
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { easyLeaseSeconds, row } from './support/rows.ts'
import { together } from './support/together.ts'

describe('Faults: killed workers', function () {
  this.timeout(sized(240_000, 600_000))

  row('loses nothing when a random worker is killed again and again (F1)', async () => {
    await using run = await FaultRun.start()
    const kills = sized(20, 100)
    const count = sized(2_000, 20_000)
    const workers = await Promise.all(sized([1, 2], [1, 2, 3, 4]).map(() => run.spawn()))
    const enqueue = async (more: number): Promise<void> => {
      await run.enqueue(
        {},
        Array.from({ length: more }, () => [20 + Math.floor(run.random() * 100)]),
      )
    }
    for (let done = 0; done < count; done += 500) await enqueue(500)
    let bit = 0
    let lastAt = Date.now()
    while (run.kills.length < kills) {
      const index = Math.floor(run.random() * workers.length)
      const victim = workers[index]
      if (!victim) continue
      // Every 300 ms, and not before it has taken something: a fault that hits nobody proves nothing. There is a backlog
      // until the last kill, however long a process takes to start.
      await eventually(
        async () => {
          if (((await run.counts())['READY'] ?? 0) < 200) await enqueue(200)
          return Date.now() - lastAt >= 300 && victim.hasBegun
        },
        { timeoutMs: 60_000 },
      )
      lastAt = Date.now()
      await run.kill(victim)
      const settled = victim.facts.flatMap((fact) => (fact.fact === 'settled' ? [fact.id] : []))
      if (victim.facts.some((fact) => fact.fact === 'begun' && !settled.includes(fact.id))) bit += 1
      workers[index] = run.spawnNow()
    }
    await run.drained()
    const nobodyThereMs = Math.max(...run.workers.map(({ startMs }) => startMs))
    const verdict = await run.verdict()
    verdict.assert('F1', { duplicates: kills * run.options.concurrency, nobodyThereMs }, { killsThatBit: bit })
    expect(bit).to.be.at.least(kills / 2)
  })
})

describe('Faults: workers that die', function () {
  this.timeout(sized(240_000, 600_000))

  together({
    'runs everything exactly once when nothing is killed (F0)': nothingIsKilled,
    'lets one worker of another host finish what all the others left (F2)': everybodyElseIsDead,
    'loses nothing wherever between two steps a worker dies (F3)': diesBetweenTwoSteps,
  })
})

async function nothingIsKilled(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: easyLeaseSeconds(3) })
  const count = sized(400, 4_000)
  await Promise.all([run.spawn(), run.spawn()])
  const due = Date.now() + 1_000
  for (let batch = 0; batch < 4; batch += 1) {
    await run.enqueue(
      { queueName: `queue-${batch}` },
      Array.from({ length: count / 5 }, () => [batch * 5]),
    )
  }
  const delayed = await run.enqueue({ runAfter: due }, lists(count / 5, 1))
  const [long] = await run.enqueue({}, [[4 * run.options.claimTimeoutSeconds * 1_000]])
  await run.drained()
  const verdict = await run.verdict()
  const late = verdict.begun.filter(({ id }) => delayed.includes(id)).map(({ at }) => at - due)
  verdict.assert('F0', { duplicates: 0 }, { lateMs: { min: Math.min(...late), max: Math.max(...late) } })
  expect(verdict.stale).to.equal(0)
  expect(verdict.begun.filter(({ id }) => id === long)).to.have.lengthOf(1)
  expect(Math.min(...late), 'begun before it was due').to.be.at.least(0)
  expect(Math.max(...late)).to.be.at.most(1_500 * run.calibration)
}

async function everybodyElseIsDead(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 1 })
  const workers = await Promise.all([run.spawn(), run.spawn()])
  await run.enqueue({ name: 'first' }, lists(20, 60_000))
  await run.enqueue({}, lists(100, 1))
  await eventually(() => run.facts('begun').length === 20, { timeoutMs: 60_000 })
  await Promise.all(workers.map((worker) => run.kill(worker)))
  const diedAt = Date.now()
  // Given that all their leases have been over for two more
  await eventually(async () => {
    const [seconds, micros] = await run.redis.time()
    const nowMs = Number(seconds) * 1_000 + Number(micros) / 1_000
    return (await run.redis.zcount(run.keys.leases, '-inf', nowMs - 2_000)) === 20
  })
  const other = await run.spawn({ worker: { workerId: 'other-host', claimIntervalSeconds: 0.5, concurrency: 10 } })
  const startedAt = other.readyAt ?? NaN
  await run.drained()
  const tookMs = Date.now() - startedAt
  // The dead consumers are removed, too
  const stream = run.keys.stream('default', 'normal')
  const consumers = async (): Promise<unknown[]> =>
    (await run.redis.xinfo('CONSUMERS', stream, 'express_tasks_workers')) as unknown[]
  await eventually(async () => (await consumers()).length === 1, { timeoutMs: 60_000 })
  const consumersGoneMs = Date.now() - startedAt
  const verdict = await run.verdict()
  verdict.assert('F2', { duplicates: 20, nobodyThereMs: startedAt - diedAt }, { tookMs, consumersGoneMs })
  expect(verdict.duplicates).to.equal(20)
  expect(await consumers()).to.deep.equal([])
}

const POINTS = [
  { verb: 'take', call: 1, when: 'before' },
  { verb: 'take', call: 1, when: 'after' },
  { verb: 'takeBlocking', call: 1, when: 'after' },
  { verb: 'settleAndTake', call: 1, when: 'before' },
  { verb: 'settleAndTake', call: 2, when: 'sent' },
  { verb: 'settleAndTake', call: 2, when: 'after' },
  { verb: 'recover', call: 1, when: 'before' },
  { verb: 'promote', call: 1, when: 'after' },
] as const

async function diesBetweenTwoSteps(): Promise<void> {
  for (let round = 0; round < sized(1, 25); round += 1) {
    await using run = await FaultRun.start({ claimTimeoutSeconds: easyLeaseSeconds(1), concurrency: 3 })
    // One queue for each point, so that each dying worker has work of its own
    for (const [index, { verb }] of POINTS.entries()) {
      const runAfter = verb === 'promote' ? Date.now() + 300 : null
      await run.enqueue({ queueName: `point-${index}`, runAfter }, [[5], [10], [15], [20], [25]])
    }
    const dying = POINTS.map((dieAt, index) => {
      const worker = { queues: [`point-${index}`], claimIntervalSeconds: 0.5, concurrency: 3 }
      const child = run.spawnNow({ dieAt, worker })
      child.expectedEnd = true
      return child
    })
    await Promise.all(dying.map((child) => child.ended()))
    const dies = run.facts('dies')
    for (const { pid, at } of dies) run.kills.push({ pid, at })
    const applied = new Set(await run.backend.records.filter({ status: 'SUCCESSFUL' }).ids())
    // Then one healthy worker finishes everything
    const healthy = await run.spawn()
    const nobodyThereMs = (healthy.readyAt ?? NaN) - Math.min(...dies.map(({ at }) => at))
    await run.drained()
    const verdict = await run.verdict()
    const unread = verdict.begun.filter(
      ({ id, pid }) => pid === dying[4]?.pid && applied.has(id) && !verdict.settled.some((fact) => fact.id === id),
    )
    verdict.assert(
      'F3',
      { duplicates: POINTS.length * 3, nobodyThereMs },
      { points: dies.length, unread: unread.length },
    )
    expect(dies).to.have.lengthOf(POINTS.length)
    // What was written is not run again, whether its answer was read or not
    expect(unread.length).to.be.at.least(1)
    expect(verdict.begun.filter(({ id, pid }) => applied.has(id) && pid === healthy.pid)).to.deep.equal([])
  }
}
