/** The rows of lost connections with each driver, through a client that the caller made with settings of its own (F35). */
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { nightlyRow } from './support/rows.ts'
import { TcpProxy } from './support/tcp-proxy.ts'

describe('Faults: drivers', function () {
  this.timeout(sized(240_000, 600_000))

  for (const driver of ['ioredis', 'ioredis6', 'iovalkey'] as const) {
    nightlyRow(`drains a backlog although connections die in every way, with a client of ${driver} (F35)`, async () => {
      await using run = await FaultRun.start({ server: { args: ['--appendonly', 'yes', '--appendfsync', 'always'] } })
      await using proxy = await TcpProxy.start(run.server, run.random)
      const orders = { driver, backend: run.backendOptions(proxy.url) }
      const workers = [run.spawnNow(orders), run.spawnNow(orders)]
      await eventually(() => workers.every(({ isReady, hasEnded }) => isReady || hasEnded), { timeoutMs: 60_000 })
      expect(run.facts('theirs'), "commands on the caller's own client").to.deep.equal([])
      const faults: Readonly<Record<string, () => Promise<unknown>>> = {
        'CLIENT KILL': () => run.redis.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes'),
        reset: async () => proxy.cut(),
        'half-open': async () => proxy.swallow(),
        restart: async () => {
          await run.server.kill('SIGKILL')
          await run.server.restart()
        },
        'cut replies': async () => {
          proxy.setPace({ cutShare: 0.05 })
          await eventually(() => proxy.cuts >= 3, { timeoutMs: 60_000 })
          proxy.setPace({})
        },
      }
      const tookMs: Record<string, number> = {}
      for (const [name, fault] of Object.entries(faults)) {
        await run.enqueue({}, lists(300, 20))
        const before = run.facts('begun').length
        await eventually(() => run.facts('begun').length > before + 50, { timeoutMs: 60_000 })
        await fault()
        const at = Date.now()
        await run.drained(30_000)
        tookMs[name] = Date.now() - at
      }
      const verdict = await run.verdict()
      const count = Object.keys(faults).length
      const duplicates = count * 2 * run.options.concurrency * 2
      const allowed = { duplicates, uncounted: true }
      verdict.assert('F35', allowed, { driver, faultsInjected: count, faultsThatBit: count, tookMs })
      expect(run.facts('theirs'), "commands on the caller's own client").to.deep.equal([])
      expect(workers.map(({ unplannedEnd }) => unplannedEnd)).to.deep.equal([undefined, undefined])
      expect(Math.max(...Object.values(tookMs))).to.be.at.most(15_000 * run.calibration)
    })
  }
})
