/** Networks that are slow, cut replies, or are away for a while (F10, F11). */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { eventually } from '../support/eventually.ts'
import type { Fact } from './support/fault-run.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { nightlyRow, randomOf } from './support/rows.ts'
import { TcpProxy } from './support/tcp-proxy.ts'
import type { Pace } from './support/tcp-proxy.ts'

/** The most attempts that one process had begun and not settled at any time. */
function mostInFlight(facts: readonly Fact[]): number {
  const open = new Set<string>()
  let most = 0
  for (const fact of facts) {
    if (fact.fact === 'begun') open.add(`${fact.id} ${fact.attempt}`)
    if (fact.fact === 'settled') open.delete(`${fact.id} ${fact.attempt}`)
    most = Math.max(most, open.size)
  }
  return most
}

const PACES: Readonly<Record<string, Pace>> = {
  delay: { delayMs: 200 },
  trickle: { bytesPerSecond: 20_000 },
  bytes: { byteAPacket: true },
  cuts: { cutShare: 0.02 },
}

describe('Faults: slow networks', function () {
  this.timeout(sized(240_000, 1_800_000))

  for (const [name, pace] of Object.entries(PACES)) {
    nightlyRow(`never has more in flight than asked for, and runs everything (${name}) (F10)`, async () => {
      await using run = await FaultRun.start({ claimTimeoutSeconds: 5 })
      await using proxy = await TcpProxy.start(run.server, randomOf('cuts'))
      const backend = run.backendOptions(proxy.url)
      const workers = await Promise.all([run.spawn({ backend }), run.spawn({ backend })])
      proxy.setPace(pace)
      await run.enqueue({}, lists(300, 20))
      await run.drained(300_000)
      proxy.setPace({})
      const verdict = await run.verdict()
      const inFlight = workers.map(({ facts }) => mostInFlight(facts))
      const duplicates = proxy.cuts * run.options.concurrency
      verdict.assert('F10', { duplicates }, { case: name, cuts: proxy.cuts, inFlight })
      expect(Math.max(...inFlight)).to.be.at.most(run.options.concurrency)
      // What a call returns is what that task's process returned: no reply went to another command
      expect((await run.counts())['SUCCESSFUL']).to.equal(300)
    })
  }

  nightlyRow('goes on while five hundred clients connect again at once (F10)', async () => {
    await using run = await FaultRun.start()
    await Promise.all([run.spawn(), run.spawn()])
    const clients = Array.from({ length: 500 }, () => {
      const client = new Redis(run.server.url, { retryStrategy: () => 1 })
      client.on('error', () => {})
      return client
    })
    try {
      await Promise.all(clients.map((client) => client.ping()))
      await run.enqueue({}, lists(2_000, 20))
      for (let round = 0; round < 5; round += 1) {
        await run.redis.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        await Promise.all(clients.map((client) => client.ping()))
      }
      await run.drained()
    } finally {
      for (const client of clients) client.disconnect()
    }
    const verdict = await run.verdict()
    verdict.assert('F10', { duplicates: 5 * 2 * run.options.concurrency }, { case: 'reconnects', faultsInjected: 5 })
  })

  nightlyRow('tells a worker that is cut off before anybody else begins what it runs (F11)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 2 })
    await using proxy = await TcpProxy.start(run.server)
    const cutOff = await run.spawn({ backend: run.backendOptions(proxy.url) })
    await run.enqueue({ name: 'first' }, lists(10, 12_000))
    await eventually(() => cutOff.facts.filter(({ fact }) => fact === 'begun').length === 10, { timeoutMs: 60_000 })
    await run.spawn()
    proxy.hold()
    const heldAt = Date.now()
    run.kills.push({ pid: cutOff.pid, at: heldAt })
    await eventually(() => Date.now() - heldAt > 6_000, { timeoutMs: 60_000 })
    proxy.release()
    await run.drained()
    await eventually(() => cutOff.facts.filter(({ fact }) => fact === 'settled').length >= 10, { timeoutMs: 60_000 })
    const verdict = await run.verdict()
    const marginsMs = verdict.begun
      .filter(({ pid }) => pid !== cutOff.pid)
      .map(({ id, at }) => {
        const aborted = run.facts('aborted').find((fact) => fact.id === id)
        return at - (aborted?.at ?? Infinity)
      })
    verdict.assert(
      'F11',
      { duplicates: 10 },
      { marginsMs: { min: Math.min(...marginsMs), max: Math.max(...marginsMs) } },
    )
    expect(marginsMs).to.have.lengthOf(10)
    expect(Math.min(...marginsMs)).to.be.at.least(0)
    expect(verdict.stale).to.equal(10)
  })
})
