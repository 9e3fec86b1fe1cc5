/** A cluster: its slots move, its nodes die, and workers on it do (F1, F20). */
import { expect } from 'chai'
import { StorageUnavailableError } from '../../lib/index.ts'
import { rootOf } from '../../lib/storage/redis/keys.ts'
import { eventually } from '../support/eventually.ts'
import { RedisCluster } from '../support/redis-cluster.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { easyLeaseSeconds, nightlyRow, row } from './support/rows.ts'

const SHARDS = 6
/** What a node says when a command came to the wrong one, or named keys of several slots: for the driver, never for a caller. */
const REDIRECTED = /CROSSSLOT|MOVED|\bASK\b|TRYAGAIN|non local key/

/** Enqueues without a pause until it is told to stop; what was refused is enqueued again by nobody. */
class Producer {
  #stopped = false
  refused = 0
  redirected = 0
  readonly #done: Promise<void>

  constructor(run: FaultRun, batch: number) {
    this.#done = this.#run(run, batch)
  }

  async #run(run: FaultRun, batch: number): Promise<void> {
    while (!this.#stopped) {
      try {
        await run.enqueue({}, lists(batch, 5))
      } catch (error) {
        if (!(error instanceof StorageUnavailableError)) throw error
        this.refused += 1
      }
      // No faster than the workers are: a backlog would only make the run longer.
      const ahead = async (): Promise<boolean> => ((await run.counts())['READY'] ?? 0) < 10 * batch
      await eventually(async () => this.#stopped || (await ahead()), { timeoutMs: 60_000 })
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }
}

/** The longest time in which no worker began anything, between two moments. */
function longestPauseMs(run: FaultRun, from: number, to: number): number {
  const times = run.facts('begun').flatMap(({ at }) => (at >= from && at <= to ? [at] : []))
  return [...times, to].reduce((longest, at, index) => Math.max(longest, at - (times[index - 1] ?? from)), 0)
}

function redirectsSeen(run: FaultRun): string[] {
  return run.facts('error').flatMap(({ text }) => (REDIRECTED.test(text) ? [text] : []))
}

describe('Faults: a cluster of three masters', function () {
  this.timeout(sized(120_000, 600_000))
  let cluster: RedisCluster | undefined
  const current = (): RedisCluster => {
    if (!cluster) throw new Error('expected the cluster to be used inside a case, got: outside')
    return cluster
  }

  before(async () => (cluster = await RedisCluster.start()))
  after(async () => await cluster?.stop())

  for (const driver of ['ioredis', 'ioredis6', 'iovalkey'] as const) {
    const declare = driver === 'ioredis' ? row : nightlyRow
    for (const shards of [SHARDS, 1]) {
      declare(`moves a slot under load, back and forth, and nothing is lost (${driver}, ${shards} shards) (F20)`, () =>
        movesSlot(current(), driver, shards),
      )
    }
  }

  row('takes over what a killed worker had in hand, on every shard (F1, F20)', async () => {
    await using run = await FaultRun.start({ cluster: current(), shards: SHARDS })
    const [victim] = await Promise.all([run.spawn(), run.spawn()])
    await run.enqueue({ name: 'first' }, lists(sized(60, 600), 400))
    await eventually(() => victim.facts.filter(({ fact }) => fact === 'begun').length >= run.options.concurrency, {
      timeoutMs: 20_000,
    })
    await run.kill(victim)
    await run.drained()
    const verdict = await run.verdict()
    verdict.assert('F20', { duplicates: run.options.concurrency }, { fault: 'a killed worker' })
  })

  row(
    'keeps the lease of a task that holds the event loop, from a thread with a client of its own (F6, F20)',
    async () => {
      const claimTimeoutSeconds = easyLeaseSeconds(1)
      await using run = await FaultRun.start({ cluster: current(), shards: SHARDS, claimTimeoutSeconds })
      await Promise.all([run.spawn(), run.spawn()])
      await run.enqueue({ name: 'block' }, lists(2, 2_500 * claimTimeoutSeconds))
      await run.drained()
      const verdict = await run.verdict()
      verdict.assert('F20', { duplicates: 0 }, { fault: 'a blocked event loop' })
    },
  )

  row('has every node work, and nobody asked to go elsewhere (F20)', async () => {
    await using run = await FaultRun.start({ cluster: current(), shards: SHARDS })
    await run.spawn()
    await run.enqueue({}, lists(sized(600, 3_000), 0))
    await run.drained()
    const sizes = await Promise.all(current().masters.map(({ redis }) => redis.dbsize()))
    const verdict = await run.verdict()
    verdict.assert('F20', { duplicates: 0 }, { fault: 'none', keys: sizes })
    expect(Math.min(...sizes)).to.be.above(0)
    expect(redirectsSeen(run)).to.deep.equal([])
  })
})

async function movesSlot(cluster: RedisCluster, driver: 'ioredis' | 'ioredis6' | 'iovalkey', shards: number) {
  await using run = await FaultRun.start({ cluster, shards, claimTimeoutSeconds: 5 })
  await Promise.all([run.spawn({ driver }), run.spawn({ driver })])
  const slot = await cluster.slotOf(rootOf(run.keyPrefix, 'default', shards === 1 ? undefined : 0))
  const home = await cluster.ownerOf(slot)
  const other = cluster.masters.find((node) => node !== home) ?? home
  const producer = new Producer(run, 50)
  const moves = sized(4, 10)
  let keys = 0
  for (let move = 0; move < moves; move += 1) {
    const before = run.facts('begun').length
    await eventually(() => run.facts('begun').length > before + 100, { timeoutMs: 30_000 })
    // Slowly enough for commands to meet a slot that is half here and half there
    const between = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10))
    keys += await cluster.moveSlot(slot, move % 2 === 0 ? other : home, between)
  }
  const startedAt = Date.now()
  await eventually(() => run.facts('begun').some(({ at }) => at > startedAt), { timeoutMs: 20_000 })
  await producer.stop()
  await run.drained()
  const verdict = await run.verdict()
  const figures = { fault: 'a slot that moves', driver, shards, moves, keys, refused: producer.refused }
  verdict.assert('F20', { duplicates: 0 }, { ...figures, workerErrors: run.facts('error').length })
  expect(redirectsSeen(run).filter((text) => !text.includes('StorageUnavailable'))).to.deep.equal([])
  expect(keys).to.be.above(moves)
}

describe('Faults: a cluster of three masters with a replica each', function () {
  this.timeout(sized(120_000, 600_000))

  for (const driver of ['ioredis', 'ioredis6', 'iovalkey'] as const) {
    nightlyRow(`goes on when a master dies and its replica takes over (${driver}) (F20)`, () => failsOver(driver))
  }
})

async function failsOver(driver: 'ioredis' | 'ioredis6' | 'iovalkey'): Promise<void> {
  const nodeTimeoutMs = 2_000
  await using cluster = await RedisCluster.start({ replicas: 1, nodeTimeoutMs })
  await using run = await FaultRun.start({ cluster, shards: SHARDS, claimTimeoutSeconds: 5 })
  await Promise.all([run.spawn({ driver }), run.spawn({ driver })])
  for (let batch = 0; batch < 8; batch += 1) await run.enqueue({}, lists(500, 20))
  await eventually(() => run.facts('begun').length > 200, { timeoutMs: 30_000 })
  // Acknowledged before the fault, and known to the replica: what a failover may lose is none of these
  const root = rootOf(run.keyPrefix, 'default', SHARDS - 1)
  const slot = await cluster.slotOf(root)
  const victim = await cluster.ownerOf(slot)
  // A connection waits for what it wrote itself
  await victim.redis.set(`spec:${root}`, '')
  await victim.redis.del(`spec:${root}`)
  expect(await victim.redis.wait(1, 10_000)).to.equal(1)
  const killedAt = Date.now()
  await victim.server.kill('SIGKILL')
  await eventually(async () => (await cluster.ownerOf(slot)) !== victim, { timeoutMs: 30_000 })
  await cluster.whole()
  const wholeAt = Date.now()
  await run.drained()
  const pauseMs = longestPauseMs(run, killedAt, Date.now())
  const verdict = await run.verdict()
  const allowed = { duplicates: 4 * run.options.concurrency, forgotten: true, uncounted: true }
  verdict.assert('F20', allowed, { fault: 'a failover', driver, wholeAfterMs: wholeAt - killedAt, pauseMs })
  expect(redirectsSeen(run).filter((text) => !text.includes('StorageUnavailable'))).to.deep.equal([])
  expect(pauseMs).to.be.at.most((nodeTimeoutMs + 5_000) * run.calibration)
}
