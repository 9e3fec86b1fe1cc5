/** Power that is lost: the server's log ends at any byte, and the server starts on what is left (F13, F14). */
import { expect } from 'chai'
import { readdirSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { invariantsOf } from './support/invariants.ts'
import { nightlyRow, row } from './support/rows.ts'

/** The file that the server appends to. */
async function logFile(run: FaultRun): Promise<string> {
  const [, folder = ''] = (await run.redis.config('GET', 'dir')) as string[]
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /\.aof$/.test(name))
  const name = names.find((one) => one.endsWith('.incr.aof')) ?? names[0]
  if (name === undefined) throw new Error(`expected a log below ${folder}, got: none`)
  return join(folder, name)
}

/** Cuts the log behind `from` of its growth in each round, and goes on with the workers that there were. */
async function losesPower(name: string, rounds: number, behindTheLastAnswer: boolean): Promise<void> {
  await using run = await FaultRun.start({
    server: { args: ['--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0'] },
    claimTimeoutSeconds: 1,
  })
  let file = await logFile(run)
  const size = (): number => statSync(file).size
  const workers = await Promise.all([run.spawn({ tellTokens: true }), run.spawn({ tellTokens: true })])
  let [lostAcknowledged, cutBytes, violations] = [0, 0, 0]
  for (let round = 0; round < rounds; round += 1) {
    const startedAt = size()
    const before = run.facts('begun').length
    /** How long the log was when each of them was acknowledged, at the most. */
    const sizes = new Map<string, number>()
    for (let batch = 0; batch < 30; batch += 1) {
      const ids = await run.enqueue({}, lists(10, 20))
      for (const id of ids) sizes.set(id, size())
    }
    await eventually(() => run.facts('begun').length > before + 100, { timeoutMs: 60_000 })
    const answeredAt = size()
    await eventually(() => run.facts('begun').length > before + 140, { timeoutMs: 60_000 })
    // When everybody stops at one moment
    for (const worker of workers) await worker.signal('SIGSTOP')
    await run.server.kill('SIGKILL')
    // What was acknowledged stood in the log by then, so that no cut behind its answer can take it
    const log = readFileSync(file)
    const late = [...sizes].filter(([id, size]) => log.subarray(0, size).indexOf(id) === -1)
    expect(late, 'acknowledged before it was written').to.deep.equal([])
    const from = behindTheLastAnswer ? answeredAt : startedAt
    const cutAt = from + Math.floor(run.random() * (size() - from))
    cutBytes += size() - cutAt
    truncateSync(file, cutAt)
    await run.server.restart()
    // Then what is left agrees with itself, before anybody mends anything
    const keyspace = await invariantsOf(run.redis, run.keys.root)
    violations += keyspace.violations.length
    expect(keyspace.violations, `round ${round}, cut at ${cutAt}`).to.deep.equal([])
    const gone = [...sizes.keys()].filter((id) => !keyspace.statuses.has(id))
    const within = gone.filter((id) => (sizes.get(id) ?? 0) <= cutAt)
    expect(within, 'acknowledged before the cut').to.deep.equal([])
    lostAcknowledged += gone.length
    for (const id of gone) {
      run.acknowledged.delete(id)
      run.unsure.add(id)
    }
    // A server keeps the front half of the call that was torn, for the next start to stumble over: a new log has none of it
    await run.redis.bgrewriteaof()
    await eventually(
      async () => /aof_rewrite_(in_progress|scheduled):1/.exec(await run.redis.info('persistence')) === null,
    )
    file = await logFile(run)
    for (const worker of workers) await worker.signal('SIGCONT')
  }
  await run.drained()
  const tokens = run.facts('token').map(({ id, token }) => `${id} ${token}`)
  const verdict = await run.verdict()
  verdict.assert(
    name,
    { duplicates: rounds * 300, uncounted: true, forgotten: true },
    {
      ...{
        faultsInjected: rounds,
        faultsThatBit: rounds,
        cutBytes,
        lostAcknowledged,
        violationsBeforeRepair: violations,
      },
      tokensTwice: tokens.length - new Set(tokens).size,
    },
  )
  expect(tokens.length).to.be.at.least(verdict.begun.length)
  expect(new Set(tokens).size, 'a token twice').to.equal(tokens.length)
}

describe('Faults: power loss', function () {
  this.timeout(sized(240_000, 1_800_000))

  row('starts on a log that ends at any byte: whole records, no token twice, fences that grow (F13)', async () => {
    await losesPower('F13', sized(3, 50), false)
  })

  nightlyRow('loses nothing that was answered when the log is written through, wherever it ends (F14)', async () => {
    await losesPower('F14', 50, true)
  })
})
