/**
 * What a task costs the server, in commands: enqueue, take and settle, alone and in batches of a hundred. More than half of a
 * script's time is Lua, but commands can be counted exactly, on any machine.
 */
import { expect } from 'chai'
import { startRedisServer } from '../../support/redis-server.ts'
import type { RedisServer } from '../../support/redis-server.ts'
import { aClaim, begunOf, enqueue, ScriptBench, settle, take } from './scripts/support.ts'

/** Measured: 24 for one task and 6.2 for each of a hundred. One more is a decision, not an accident. */
const LIMIT_ALONE = 24
const LIMIT_IN_BATCH = 6.3

const NOT_THE_SCRIPTS = new Set(['evalsha', 'eval', 'info', 'config|resetstat', 'config', 'client|setinfo', 'client'])

describe('the hot path', () => {
  let server: RedisServer
  let bench: ScriptBench

  before(async () => {
    server = await startRedisServer()
    // At a time that stands still every run falls into one bucket of the counts; the GET of the clock is the TIME of the package.
    bench = await new ScriptBench(server.url).start()
  })

  after(async () => {
    bench.close()
    await server.stop()
  })

  /** Commands that a call makes the server carry out, by name. */
  async function commandsOf(call: () => Promise<unknown>): Promise<Record<string, number>> {
    await bench.redis.config('RESETSTAT')
    await call()
    const info = await bench.redis.info('commandstats')
    const found: Record<string, number> = {}
    for (const [, name = '', count = ''] of info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
      if (!NOT_THE_SCRIPTS.has(name)) found[name] = Number(count)
    }
    return found
  }

  const sum = (counts: Record<string, number>): number =>
    Object.values(counts).reduce((total, count) => total + count, 0)

  /** Enqueue, take and settle of `size` tasks, each in one call, after one task of the kind has gone through. */
  async function costsOf(size: number): Promise<Record<'enqueue' | 'take' | 'settle', Record<string, number>>> {
    await enqueue(bench, { id: `first-${size}` })
    await settle(bench, ...(await take(bench, 1)).map(begunOf))
    const records = Array.from({ length: size }, (_, index) => ({ id: `r${size}-${index}` }))
    const claim = aClaim()
    let begun: ReturnType<typeof begunOf>[] = []
    const costs = {
      enqueue: await commandsOf(() => enqueue(bench, ...records)),
      take: await commandsOf(async () => {
        begun = (await take(bench, size, { claim, streams: [bench.stream('high'), bench.stream('normal')] })).map(
          begunOf,
        )
      }),
      settle: await commandsOf(() => settle(bench, ...begun)),
    }
    expect(begun).to.have.lengthOf(size)
    return costs
  }

  it(`takes at most ${LIMIT_ALONE} commands for a single task`, async () => {
    const costs = await costsOf(1)
    console.log(`      ${JSON.stringify(costs)}`)
    expect(
      Object.values(costs)
        .map(sum)
        .reduce((a, b) => a + b),
    ).to.be.at.most(LIMIT_ALONE)
  })

  it(`takes at most ${LIMIT_IN_BATCH} commands for each of a hundred tasks`, async () => {
    const costs = await costsOf(100)
    console.log(`      ${JSON.stringify(costs)}`)
    expect(
      Object.values(costs)
        .map(sum)
        .reduce((a, b) => a + b) / 100,
    ).to.be.at.most(LIMIT_IN_BATCH)
  })
})
