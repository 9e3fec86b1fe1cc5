/** The server goes away, kills its connections, or takes no writes: workers go on by themselves (F8, F9, F12, F17, F27). */
import { expect } from 'chai'
import { StorageUnavailableError, Worker } from '../../lib/index.ts'
import { scriptOf } from '../../lib/storage/redis/scripts.ts'
import { caught } from '../backends/backends-under-test.ts'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { withOwnTask } from './support/own-task.ts'
import { report, row } from './support/rows.ts'
import { TcpProxy } from './support/tcp-proxy.ts'
import { together } from './support/together.ts'
import { reportOwn } from './support/verdict.ts'

// `everysec` may put off even the write while the disk is busy; then the end of the process alone loses something.
const APPENDONLY = ['--appendonly', 'yes', '--appendfsync', 'always']

/** No sweep comes to the help of a worker that has lost something: it has to find it by itself. */
const NEVER = 3_600

/** How long an enqueue took to fail, and that it failed as it should. */
async function refused(run: FaultRun): Promise<number> {
  const startedAt = performance.now()
  try {
    await run.enqueue({}, [[1]])
  } catch (error) {
    expect(error).to.be.instanceOf(StorageUnavailableError)
    return Math.round(performance.now() - startedAt)
  }
  throw new Error('expected an enqueue to fail, got: an answer')
}

describe('Faults: the server', function () {
  this.timeout(sized(240_000, 600_000))

  row('loses nothing when the process of the server is killed under load (F12)', async () => {
    await using run = await FaultRun.start({ server: { args: APPENDONLY }, claimIntervalSeconds: NEVER })
    await Promise.all([run.spawn(), run.spawn()])
    const rounds = sized(2, 20)
    for (let round = 0; round < rounds; round += 1) {
      const before = run.facts('begun').length
      await run.enqueue({}, lists(300, 30))
      await eventually(() => run.facts('begun').length > before + 100, { timeoutMs: 60_000 })
      await run.server.kill('SIGKILL')
      await run.server.restart()
      // A producer comes back a moment later, too: what it enqueues before that is refused.
      await eventually(() => run.counts())
    }
    await run.drained()
    const verdict = await run.verdict()
    verdict.assert(
      'F12',
      { duplicates: rounds * 2 * run.options.concurrency, uncounted: true },
      { faultsInjected: rounds, faultsThatBit: rounds },
    )
  })

  row('tells what was lost where the server keeps nothing, so that the account above is one (F12)', async () => {
    await using run = await FaultRun.start()
    await run.enqueue({}, lists(50, 1))
    await run.server.kill('SIGKILL')
    await run.server.restart()
    const { lost } = await run.verdict()
    reportOwn(run, 'F12', { executed: 0, lost: 0, case: 'control', lostWithoutLog: lost.length })
    expect(lost).to.have.lengthOf(50)
  })

  row('drains a backlog although it kills every connection again and again, without an enqueue (F8)', async () => {
    await using run = await FaultRun.start({ claimIntervalSeconds: NEVER })
    const workers = await Promise.all([run.spawn(), run.spawn()])
    const kills = sized(20, 50)
    await run.enqueue({}, lists(sized(1_500, 5_000), 20))
    let begun = 0
    let bit = 0
    for (let kill = 0; kill < kills; kill += 1) {
      const { READY = 0 } = await run.counts()
      if (READY === 0) break
      await eventually(
        () => {
          const now = workers.reduce((sum, { facts }) => sum + facts.length, 0)
          return now > begun && (begun = now)
        },
        { timeoutMs: 60_000 },
      )
      const killed = await run.redis.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      if (Number(killed) > 0) bit += 1
    }
    const lastAt = Date.now()
    await run.drained()
    const tookMs = Date.now() - lastAt
    const verdict = await run.verdict()
    verdict.assert(
      'F8',
      { duplicates: 2 * run.options.concurrency * kills },
      { faultsInjected: kills, faultsThatBit: bit, tookMs },
    )
    expect(tookMs).to.be.at.most(10_000 * run.calibration)
  })
})

describe('Faults: answers that are lost', function () {
  this.timeout(sized(240_000, 600_000))

  row('finds in its own list what lost answers named, with no sweep to help (F8)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 30, claimIntervalSeconds: NEVER })
    await using proxy = await TcpProxy.start(run.server, run.random)
    const child = await run.spawn({ backend: run.backendOptions(proxy.url) })
    // The server knows the scripts by then, and answers their calls with what they took
    await run.enqueue({}, lists(20, 5))
    await run.drained()
    // One for sure that names what was begun, the others by chance
    proxy.cutNext({ side: 'reply', after: 1, marker: scriptOf('settle-and-take').sha })
    await run.enqueue({}, lists(300, 5))
    await eventually(() => proxy.cuts > 0, { timeoutMs: 60_000 })
    proxy.setPace({ cutShare: 0.2 })
    await eventually(() => proxy.cuts >= 8, { timeoutMs: 60_000 })
    proxy.setPace({})
    await run.drained(20_000)
    const verdict = await run.verdict()
    verdict.assert('F8', { duplicates: 300 }, { case: 'cut', faultsInjected: proxy.cuts, faultsThatBit: proxy.cuts })
    expect(child.unplannedEnd).to.equal(undefined)
  })
})

describe('Faults: a server that is away', function () {
  this.timeout(sized(240_000, 600_000))

  together({
    'is read again after an outage longer than the blocking read, without an enqueue (F9)': outage,
    'is away for longer than a lease: what ended meanwhile is settled, and not run again (F9)': outlastsLease,
    'takes no write for want of replicas: nothing fails because of it, and nothing is run twice (F17)': wantsReplicas,
    'is away: a worker that is told to stop ends within its drain time and two seconds (F27)': stopsWhileAway,
    'is away at the start: the worker refuses, and starts once it is there (F9)': startsWhileAway,
  })
})

async function outage(): Promise<void> {
  await using run = await FaultRun.start({ server: { args: APPENDONLY }, concurrency: 2, claimIntervalSeconds: NEVER })
  const [idle, busy] = await Promise.all([
    run.spawn({ worker: { queues: ['later'] } }),
    run.spawn({ worker: { queues: ['default'] } }),
  ])
  await run.enqueue({}, lists(200, 20))
  const due = Date.now() + 3_500
  await run.enqueue({ queueName: 'later', runAfter: due }, [[1], [1], [1]])
  await eventually(() => busy.facts.filter(({ fact }) => fact === 'begun').length > 20, { timeoutMs: 60_000 })
  await run.server.kill('SIGTERM')
  const downAt = Date.now()
  const refusedMs: number[] = []
  // Three times as long as a blocking read waits, and longer than its watchdog
  while (Date.now() - downAt < sized(2_500, 10_000)) refusedMs.push(await refused(run))
  await run.server.restart()
  const upAt = Date.now()
  await run.drained(15_000)
  const tookMs = Date.now() - upAt
  const again = Math.min(...run.facts('begun').flatMap(({ at }) => (at > downAt + 100 ? [at - upAt] : [])))
  const idleAgain = Math.min(
    ...idle.facts.flatMap(({ fact, at }) => (fact === 'begun' ? [at - Math.max(upAt, due)] : [])),
  )
  const verdict = await run.verdict()
  const figures = {
    refusedMaxMs: Math.max(...refusedMs),
    readingAgainMs: again,
    idleReadingAgainMs: idleAgain,
    tookMs,
  }
  verdict.assert('F9', { duplicates: 2, uncounted: true }, figures)
  expect(Math.max(again, idleAgain)).to.be.at.most(10_000 * run.calibration)
  expect(Math.max(...refusedMs)).to.be.at.most(1_100 * run.calibration)
  expect([idle.hasEnded, busy.hasEnded]).to.deep.equal([true, true])
}

async function outlastsLease(): Promise<void> {
  const options = { claimTimeoutSeconds: 2, claimIntervalSeconds: 0.5, concurrency: 2 }
  await using run = await FaultRun.start({ server: { args: APPENDONLY }, ...options })
  const child = await run.spawn()
  const [id = ''] = await run.enqueue({}, [[500]])
  await eventually(() => child.hasBegun, { timeoutMs: 60_000 })
  await run.server.kill('SIGKILL')
  const downAt = Date.now()
  await eventually(() => Date.now() > downAt + 2 * 2_000, { timeoutMs: 60_000 })
  await run.server.restart()
  await run.drained(15_000)
  const verdict = await run.verdict()
  verdict.assert('F9', { duplicates: 0, uncounted: true }, { case: 'longer than a lease' })
  expect(run.facts('begun').filter((fact) => fact.id === id)).to.have.lengthOf(1)
}

async function wantsReplicas(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 5, claimIntervalSeconds: NEVER })
  // As the page on operations says: before 7.0 scripts write all the same, and there is no such fault.
  if (Number.parseInt(run.server.version) < 7) {
    await run.redis.config('SET', 'min-replicas-to-write', '1')
    expect(await run.enqueue({}, [[1]])).to.have.lengthOf(1)
    report('F17', { skipped: `${run.server.version} does not look at min-replicas-to-write inside scripts` })
    return
  }
  await run.spawn()
  let refusedMs = 0
  for (let round = 0; round < sized(2, 10); round += 1) {
    const done = run.facts('settled').length
    await run.enqueue({}, lists(200, 20))
    await eventually(() => run.facts('settled').length > done + 20, { timeoutMs: 60_000 })
    await run.redis.config('SET', 'min-replicas-to-write', '1')
    const settled = run.facts('settled').length
    const until = Date.now() + sized(1_000, 10_000)
    for (let count = 0; count < 5; count += 1) refusedMs = Math.max(refusedMs, await refused(run))
    await eventually(() => Date.now() > until, { timeoutMs: 60_000 })
    // What was on its way may still have been answered; nothing else was.
    expect(run.facts('settled').length - settled).to.be.at.most(2 * run.options.concurrency)
    await run.redis.config('SET', 'min-replicas-to-write', '0')
    await run.drained()
  }
  const verdict = await run.verdict()
  verdict.assert('F17', { duplicates: 0 }, { refusedMaxMs: refusedMs })
  expect(verdict.stale).to.equal(0)
  expect((await run.counts())['FAILED']).to.equal(0)
}

async function stopsWhileAway(): Promise<void> {
  await using run = await FaultRun.start({ server: { args: APPENDONLY } })
  const child = await run.spawn({ worker: { drainTimeoutSeconds: 1 } })
  await run.enqueue({ name: 'first' }, [[60_000], [60_000], [200]])
  await eventually(() => child.facts.filter(({ fact }) => fact === 'begun').length === 3, { timeoutMs: 60_000 })
  await run.server.kill('SIGKILL')
  const toldAt = performance.now()
  await child.signal('SIGTERM')
  const tookMs = Math.round(performance.now() - toldAt)
  expect(child.child.exitCode).to.equal(0)
  await run.server.restart()
  run.kills.push({ pid: child.pid, at: Date.now() })
  const { startMs } = await run.spawn()
  await run.drained()
  const verdict = await run.verdict()
  verdict.assert('F27', { duplicates: 3, uncounted: true, nobodyThereMs: startMs }, { stopTookMs: tookMs })
  expect(tookMs).to.be.at.most(3_000 * run.calibration)
}

async function startsWhileAway(): Promise<void> {
  await using run = await FaultRun.start({ server: { args: APPENDONLY } })
  await run.server.kill('SIGKILL')
  const worker = new Worker(run.backend, { intervalSeconds: 0.1 })
  expect(await caught(worker.start())).to.be.instanceOf(StorageUnavailableError)
  await run.server.restart()
  await withOwnTask(
    () => null,
    async () => {
      // The driver needs a moment to come back.
      await eventually(async () => !((await caught(worker.start())) instanceof StorageUnavailableError))
      await run.enqueue({}, [[]])
      await run.drained()
      await worker.stop()
      reportOwn(run, 'F9', { executed: 1, duplicates: 0 })
    },
  )
}
