/** A retry that is written just when somebody else takes the record over (F31). */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Claim, Delivery } from '../../lib/storage/storage.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { invariantsOf } from './support/invariants.ts'
import { row } from './support/rows.ts'
import { reportOwn } from './support/verdict.ts'

const LEASE_MS = 1_000
const queueNames = ['default']

/** One that takes, with a holder and a count of calls of its own. */
function aClaimer(name: string): () => Claim {
  const holder = randomUUID()
  let calls = 0
  return () => ({ consumer: `${name}.${holder}`, workerId: name, call: `${holder}.${(calls += 1)}`, leaseMs: LEASE_MS })
}

describe('Faults: the end of a lease', function () {
  this.timeout(sized(240_000, 600_000))

  row('has one waiting copy at most when an attempt fails as its lease ends (F31)', async () => {
    await using run = await FaultRun.start()
    const rounds = sized(2, 20)
    const mostRounds = rounds + 10
    const begins = new Map<string, number>()
    const [words, waiting]: [Record<string, number>, string[]] = [{}, []]
    const note = (begun: readonly Delivery[]): void => {
      for (const { lease } of begun) begins.set(lease.id, (begins.get(lease.id) ?? 0) + 1)
    }
    const { storage } = run.backend
    // On a machine that is busy one of the two may win a whole round
    for (let round = 0; round < rounds || (Object.keys(words).length < 2 && round < mostRounds); round += 1) {
      await run.enqueue({}, lists(100, 0))
      const first = aClaimer('first')
      const { begun } = await storage.take({ ...first(), queueNames, count: 100 })
      note(begun)
      expect(begun).to.have.lengthOf(100)
      // Each fails within 50 ms of the end of its lease, and is to run again
      let failing = begun.length
      const fail = async ({ lease, record }: Delivery): Promise<void> => {
        await sleep(Math.max(0, (record.leaseUntil ?? 0) - Date.now() + (run.random() - 0.5) * 100))
        const settlement = { lease, outcome: 'READY', payload: '{"message":"late"}', delayMs: 0 } as const
        const [word = ''] = await storage.settle([settlement])
        words[word] = (words[word] ?? 0) + 1
        failing -= 1
      }
      // while others look for leases that ran out, and for what waits
      const second = aClaimer('second')
      const stream = { queueName: 'default', band: 'normal' } as const
      const takeOver = async (): Promise<void> => {
        do {
          const reclaim = { stream, cursor: '', count: 100, crashLimit: 100, idleMs: LEASE_MS, crashError: '{}' }
          const held = (await storage.reclaim({ ...second(), ...reclaim })).begun
          const taken = (await storage.take({ ...second(), queueNames, count: 100 })).begun
          note(held)
          note(taken)
          const settlements = [...held, ...taken].map(({ lease }) => ({
            ...{ lease, outcome: 'SUCCESSFUL' as const, payload: 'null', delayMs: 0 },
          }))
          for (let start = 0; start < settlements.length; start += 100)
            await storage.settle(settlements.slice(start, start + 100))
          waiting.push(...(await invariantsOf(run.redis, run.keys.root)).violations)
        } while (failing > 0 || ((await run.counts())['READY'] ?? 0) > 0)
      }
      await Promise.all([...begun.map(fail), takeOver()])
    }
    const ids = [...begins.keys()]
    const records = await Promise.all(ids.map((id) => run.record(id)))
    const executed = [...begins.values()].reduce((sum, count) => sum + count, 0)
    reportOwn(run, 'F31', {
      executed,
      duplicates: executed - ids.length,
      words,
      doctor: { violations: waiting.length },
    })
    expect(waiting).to.deep.equal([])
    expect(records.map(({ attempts }) => attempts)).to.deep.equal(ids.map((id) => begins.get(id)))
    expect(new Set(records.map(({ status }) => status))).to.deep.equal(new Set(['SUCCESSFUL']))
    // Both orders came to pass, else nothing was proven
    expect(Object.keys(words).sort()).to.deep.equal(['LOST', 'SETTLED'])
  })
})
