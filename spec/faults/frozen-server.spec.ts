/**
 * The server stands still and comes back: shorter than a lease nothing happens twice, longer than one each record in flight is
 * begun once more at most, and what its first worker settles then is refused (F16).
 */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { eventually } from '../support/eventually.ts'
import { findRedisServer } from '../../scripts/ensure-redis.mjs'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { isWanted } from './support/rows.ts'
import { together } from './support/together.ts'

/** Renewals have a second and more to come late in on a machine that is busy with other things. */
const LEASE_SECONDS = 4
/** (a): the leases live on. */
const SHORT_MS = 0.4 * LEASE_SECONDS * 1_000
/** (b): they are over, by the server's clock, when it goes on. */
const LONG_MS = sized(1.25, 2.5) * LEASE_SECONDS * 1_000

/** Makes the server stand still for so long; resolves when it goes on. */
type Freeze = (run: FaultRun, ms: number) => Promise<void>

const { product, version } = findRedisServer() ?? { product: 'redis', version: '0' }
const release = product === 'valkey' ? 8 : Number.parseFloat(version)

const FREEZES: readonly { readonly how: string; readonly freeze: Freeze; readonly args?: readonly string[] }[] = [
  {
    how: 'stopped by a signal',
    freeze: async (run, ms) => {
      await run.server.kill('SIGSTOP')
      await passed(ms)
      await run.server.kill('SIGCONT')
    },
  },
  { how: 'paused for all clients', freeze: (run, ms) => paused(run, ms, release >= 6.2 ? ['ALL'] : []) },
  ...(release >= 6.2
    ? [{ how: 'paused for writes', freeze: (run: FaultRun, ms: number) => paused(run, ms, ['WRITE']) }]
    : []),
  {
    how: 'busy with a command of its own',
    // Before 7.0 the command is always there.
    args: release >= 7 ? ['--enable-debug-command', 'local'] : [],
    freeze: async (run, ms) => {
      await run.redis.call('DEBUG', 'SLEEP', String(ms / 1_000))
    },
  },
]

async function paused({ server }: FaultRun, ms: number, mode: readonly string[]): Promise<void> {
  const client = new Redis(server.url)
  try {
    await client.call('CLIENT', 'PAUSE', String(Math.round(ms)), ...mode)
    await passed(ms)
    // Answered, as a write, once the pause is over.
    await client.set('spec:after-the-pause', '1')
  } finally {
    client.disconnect()
  }
}

async function passed(ms: number): Promise<void> {
  const until = performance.now() + ms
  await eventually(() => performance.now() >= until, { timeoutMs: ms + 10_000 })
}

describe('Faults: a frozen server', function () {
  this.timeout(sized(90_000, 300_000))

  together(
    Object.fromEntries(
      FREEZES.map(({ how, freeze, args = [] }): [string, () => Promise<void>] => [
        `${how}: nothing is lost, and nothing is begun twice but what was in flight for longer than its lease (F16)`,
        () => frozen(how, freeze, args),
      ]).filter(([title]) => isWanted(title)),
    ),
  )
})

/** How long the lease that ends first still lasts, by the server's clock. */
async function shortestLeaseMs({ redis, keys }: FaultRun): Promise<number> {
  const [[seconds, micros], [, until = NaN]] = await Promise.all([
    redis.time(),
    redis.zrange(keys.leases, 0, 0, 'WITHSCORES'),
  ])
  return Number(until) - (Number(seconds) * 1_000 + Number(micros) / 1_000)
}

async function frozen(how: string, freeze: Freeze, args: readonly string[]): Promise<void> {
  const concurrency = 4
  await using run = await FaultRun.start({
    server: { args },
    claimTimeoutSeconds: LEASE_SECONDS,
    concurrency,
  })
  const workers = await Promise.all([run.spawn(), run.spawn()])
  const inFlight = workers.length * concurrency

  // (a) Tasks run over the freeze, others wait behind them.
  await run.enqueue({}, [...lists(inFlight, SHORT_MS + 1_600), ...lists(20, 20)])
  await eventually(() => run.facts('begun').length >= inFlight, { timeoutMs: 20_000 })
  // Just before they are renewed, so that a renewal goes unanswered for longer than a call may take.
  await eventually(async () => (await shortestLeaseMs(run)) < 0.75 * LEASE_SECONDS * 1_000, { timeoutMs: 20_000 })
  await freeze(run, SHORT_MS)
  await run.drained()
  const begunShort = run.facts('begun').length
  expect(begunShort, 'begun after the short freeze').to.equal(run.acknowledged.size)
  expect(run.facts('aborted'), 'aborted by the short freeze').to.have.lengthOf(0)

  // (b) The same, for longer than the leases last; the first attempts end after those that take over.
  const overtaken = new Set(await run.enqueue({ name: 'overtaken' }, lists(inFlight, 0)))
  await run.enqueue({}, lists(20, 20))
  await eventually(() => run.facts('begun').length >= begunShort + inFlight, { timeoutMs: 20_000 })
  // It has slots for what nobody seems to hold any more.
  await run.spawn()
  await freeze(run, LONG_MS)
  await run.drained()
  const isLate = ({ id, attempt }: { id: string; attempt: number }): boolean => attempt === 1 && overtaken.has(id)
  await eventually(() => run.facts('settled').some(isLate), { message: 'nobody settles late' })

  const verdict = await run.verdict()
  // The third worker may have had its slots full of those that wait when everything stood still.
  verdict.assert('F16', { duplicates: inFlight + concurrency }, { how, aborted: run.facts('aborted').length })
  expect(verdict.stale, 'late settles that were refused').to.be.above(0)
  const begins = new Map<string, number>()
  for (const { id } of verdict.begun) begins.set(id, (begins.get(id) ?? 0) + 1)
  expect(Math.max(...begins.values())).to.be.at.most(2)
  expect((await run.counts())['FAILED']).to.equal(0)
}
