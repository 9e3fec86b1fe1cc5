/**
 * Random walks over all scripts, judged after each step (random-walk.ts), and mutants that the walk must catch.
 * WALK_RUNS and WALK_SEED choose how many walks and which (60 from seed 1); REDIS_SERVER the server. WALK_MUTANTS=1 walks
 * the mutants too; without it only their texts are looked at.
 */
import { expect } from 'chai'
import { startRedisServer } from '../../support/redis-server.ts'
import type { RedisServer } from '../../support/redis-server.ts'
import { RandomWalk, WalkFailure } from './random-walk.ts'
import { MUTANTS, mutated } from './random-walk.mutants.ts'
import { ScriptBench, scriptTexts } from './scripts/support.ts'
import type { ScriptTexts } from './scripts/support.ts'

const RUNS = Number(process.env['WALK_RUNS'] ?? 60)
const FIRST_SEED = Number(process.env['WALK_SEED'] ?? 1)
const STEPS = 80
const MUTANT_RUNS = 200
/** Generous: a walk takes about 60 ms on two quiet cores. */
const TIMEOUT_PER_WALK_MS = 1_000

/** Each answer that walks of this length come to see; a walk that no longer does has lost its way. */
const ANSWERS = [
  ...['enqueue ENQUEUED', 'enqueue EXISTS', 'take BEGUN', 'take HELD', 'take NOGROUP'],
  ...['begin BEGUN', 'begin HELD', 'begin DROPPED', 'settle SETTLED', 'settle LOST', 'renew RENEWED', 'renew LOST'],
  ...[
    'requeue REQUEUED',
    'requeue FAILED',
    'requeue LOST',
    'reclaim BEGUN',
    'reclaim CRASHED',
    'promote moved',
    'purge deleted',
  ],
  ...['run-by-id BEGUN', 'run-by-id STATE RUNNING', 'run-by-id ABSENT'],
  ...['retry RETRIED', 'retry READY', 'retry RUNNING', 'save-record SAVED', 'save-record RUNNING'],
  ...['cancel CANCELLED', 'cancel FAILED', 'cancel SUCCESSFUL', 'cancel ABSENT', 'renew CANCELLED'],
  ...['delete-record DELETED', 'delete-record RUNNING', 'delete-record ABSENT'],
  ...['forget-worker FORGOTTEN', 'forget-worker KEPT', 'server rewind'],
]

describe('random walks over the scripts', () => {
  let server: RedisServer

  before(async () => {
    server = await startRedisServer()
  })

  after(async () => {
    await server.stop()
  })

  async function walk(seed: number, texts: ScriptTexts, answers?: Map<string, number>): Promise<number> {
    const bench = await new ScriptBench(server.url, { texts }).start()
    try {
      await new RandomWalk(bench, seed, answers).run(STEPS)
      return bench.calls
    } finally {
      await bench.redis.flushall()
      bench.close()
    }
  }

  it(`break no invariant in ${RUNS} walks of ${STEPS} steps, from seed ${FIRST_SEED} on`, async function () {
    this.timeout(10_000 + RUNS * TIMEOUT_PER_WALK_MS)
    const answers = new Map<string, number>()
    const texts = scriptTexts()
    let calls = 0
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed += 1) calls += await walk(seed, texts, answers)
    console.log(
      `      ${server.product} ${server.version}: ${RUNS} walks from seed ${FIRST_SEED}, ${calls} script calls`,
    )
    if (RUNS >= 60) expect(ANSWERS.filter((answer) => !answers.has(answer))).to.deep.equal([])
  })

  for (const mutant of MUTANTS) {
    if (process.env['WALK_MUTANTS'] !== '1') {
      it(`know where to take out a rule: ${mutant.name}`, () => {
        mutated(mutant)
      })
      continue
    }
    it(`notice a missing rule: ${mutant.name}`, async function () {
      this.timeout(MUTANT_RUNS * TIMEOUT_PER_WALK_MS)
      const texts = mutated(mutant)
      for (let seed = 1; seed <= MUTANT_RUNS; seed += 1) {
        try {
          await walk(seed, texts)
        } catch (error) {
          if (!(error instanceof WalkFailure)) throw error
          console.log(`      walk ${seed}: ${error.message.split('\n')[0]?.slice(0, 150) ?? ''}`)
          return
        }
      }
      throw new Error(`expected one of ${MUTANT_RUNS} walks to fail without this rule, got: none`)
    })
  }
})
