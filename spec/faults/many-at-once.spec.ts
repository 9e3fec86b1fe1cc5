/** Very many records at one moment: due in the same millisecond, or pending beside a few that are stale (F28, F29). */
import { expect } from 'chai'
import { scriptOf } from '../../lib/storage/redis/scripts.ts'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { nightlyRow, PATIENCE_MS, row } from './support/rows.ts'
import { reportOwn } from './support/verdict.ts'

type SlowCall = [id: number, at: number, us: number, args: string[], ...rest: unknown[]]

/** How long each slow call of one script took, in milliseconds. */
async function slowCalls(run: FaultRun, name: 'promote' | 'reclaim'): Promise<number[]> {
  const sha = scriptOf(name).sha
  const calls = (await run.redis.slowlog('GET', -1)) as SlowCall[]
  return calls.flatMap(([, , us, args]) => (args[1] === sha ? [us / 1_000] : [])).sort((a, b) => b - a)
}

describe('Faults: many at once', function () {
  this.timeout(sized(240_000, 1_800_000))

  row('runs each of thousands once that are due in the same millisecond, in short steps (F28)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 20 })
    const count = sized(5_000, 100_000)
    // Eight workers, in as many processes as this machine can feed
    await Promise.all([run.spawn({ workers: 4 }), run.spawn({ workers: 4 })])
    // In microseconds: what moves a hundred is slower, the commands of which every script is made are not
    await run.redis.config('SET', 'slowlog-log-slower-than', '50')
    await run.redis.config('SET', 'slowlog-max-len', '1000000')
    const due = Date.now() + sized(2_500, 30_000)
    for (let done = 0; done < count; done += 1_000) await run.enqueue({ runAfter: due }, lists(1_000, 0))
    expect(Date.now(), 'all were stored before they were due').to.be.below(due)
    await run.drained(sized(60_000, 600_000))
    const promotions = await slowCalls(run, 'promote')
    const verdict = await run.verdict()
    // As many as it takes to move them all, a hundred a call: the others found nothing
    const moves = promotions.slice(0, count / 100)
    const promoteMs = { max: moves[0] ?? 0, p50: moves[moves.length >> 1] ?? 0 }
    const startErrorMs = Math.max(...verdict.begun.map(({ at }) => at - due))
    verdict.assert('F28', { duplicates: 0 }, { faultsInjected: 1, faultsThatBit: 1, promoteMs, startErrorMs })
    // None of them moves more than a hundred
    expect(promotions.length).to.be.at.least(count / 100)
    // Eight workers want the same two cores: a call that the system interrupts counts the time of others, half of them do not
    expect(promoteMs.p50).to.be.at.most(5 * run.calibration)
  })

  nightlyRow('finds ten stale deliveries behind a million that are not (F29)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 3_600 })
    const stream = run.keys.stream('default', 'normal')
    await run.enqueue({}, lists(1, 0))
    await run.redis.xgroup('SETID', stream, 'express_tasks_workers', '$')
    const [others, stale] = [1_000_000, 10]
    // Entries of nobody, as only the pages of the pending list matter: their idle time is that of now
    const fill = `for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'id', 'filler') end
      redis.call('XREADGROUP', 'GROUP', ARGV[2], 'busy', 'COUNT', ARGV[1], 'STREAMS', KEYS[1], '>')`
    for (let done = 0; done < others; done += 10_000) {
      await run.redis.eval(fill, 1, stream, '10000', 'express_tasks_workers')
    }
    const ids = await run.enqueue({}, lists(stale, 0))
    const read = await run.redis.xreadgroup(
      ...(['GROUP', 'express_tasks_workers', 'dead', 'COUNT', '100', 'STREAMS', stream, '>'] as const),
    )
    const [[, entries]] = read as [[string, [string, string[]][]]]
    const entryIds = entries.map(([entryId]) => entryId)
    const idle = String(2 * 3_600_000)
    await run.redis.call('XCLAIM', stream, 'express_tasks_workers', 'dead', '0', ...entryIds, 'IDLE', idle, 'JUSTID')
    await run.redis.config('SET', 'slowlog-log-slower-than', '100')
    await run.redis.config('SET', 'slowlog-max-len', '100000')
    // Fewer slots than there are stale ones: a look that is cut short has to go on where it was
    await run.spawn({ worker: { claimIntervalSeconds: 3_600, concurrency: 2 } })
    await eventually(
      async () => (await Promise.all(ids.map((id) => run.record(id)))).every(({ status }) => status === 'SUCCESSFUL'),
      { timeoutMs: Math.min(600_000, PATIENCE_MS) },
    )
    const calls = await slowCalls(run, 'reclaim')
    const stats = await run.redis.info('commandstats')
    const pages = Number(/^cmdstat_xpending:calls=(\d+)/m.exec(stats)?.[1])
    const reclaimMs = { max: calls[0] ?? 0, p99: calls[Math.floor(pages / 100)] ?? 0 }
    reportOwn(run, 'F29', { executed: stale, pendingRows: others + stale, pages, reclaimMs })
    // One pass whatever the slots, and a hundred rows a call: that a thousand are too many shows on a slow machine only
    expect(pages).to.be.within(others / 100, (1.1 * others) / 100)
    expect(reclaimMs.p99).to.be.at.most(10 * run.calibration)
  })
})
