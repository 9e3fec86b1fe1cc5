/**
 * The verdict on a run, by its facts: lost (V1), unexpected (V2), outcomes (V3), fences (V4), duplicates (V6), the keyspace
 * (V7), recovery of orphans (V8), unplanned ends (V10). Counts only; a spec says what it allows.
 */
import { expect } from 'chai'
import type { Fact, FactNamed, FaultRun } from './fault-run.ts'
import type { KeyspaceFacts } from './invariants.ts'

/** From this attempt on a record may have waited to run alone, which no limit of time counts. */
const MAY_RUN_ALONE = 4

export interface RunFacts {
  readonly run: FaultRun
  readonly facts: readonly Fact[]
  readonly keyspace: KeyspaceFacts
  readonly unplanned: readonly string[]
  readonly wallMs: number
}

export interface Allowed {
  readonly duplicates: number
  /** Outcomes may be lost with the server's data, or their count by minute. */
  readonly uncounted?: boolean
  /** Ends of worker processes that a task caused. */
  readonly unplannedEnds?: number
  /** Added to the run's limit for the recovery of an orphan: nobody may have been there to look for it. */
  readonly nobodyThereMs?: number
}

export class Verdict {
  readonly #facts: RunFacts
  readonly begun: readonly FactNamed<'begun'>[]
  readonly settled: readonly FactNamed<'settled'>[]

  constructor(facts: RunFacts) {
    this.#facts = facts
    this.begun = facts.facts.filter((fact) => fact.fact === 'begun')
    this.settled = facts.facts.filter((fact) => fact.fact === 'settled')
  }

  get #begunIds(): Set<string> {
    return new Set(this.begun.map(({ id }) => id))
  }

  /** Acknowledged, and never begun or without an outcome. */
  get lost(): readonly string[] {
    const { run, keyspace } = this.#facts
    const begun = this.#begunIds
    const isFinal = (id: string): boolean => ['SUCCESSFUL', 'FAILED'].includes(keyspace.statuses.get(id) ?? '')
    return [...run.acknowledged].filter((id) => !begun.has(id) || !isFinal(id))
  }

  /** Begun, and never asked for. */
  get unexpected(): readonly string[] {
    const { acknowledged, unsure } = this.#facts.run
    return [...this.#begunIds].filter((id) => !acknowledged.has(id) && !unsure.has(id))
  }

  get duplicates(): number {
    return this.begun.length - this.#begunIds.size
  }

  /** Settles that were refused, as their token was no longer on the record. */
  get stale(): number {
    return this.settled.filter(({ word }) => word === 'LOST').length
  }

  /** Ids of which more than one final outcome was accepted. */
  get settledTwice(): readonly string[] {
    const seen = new Set<string>()
    return this.settled
      .filter(({ word, outcome }) => word === 'SETTLED' && outcome !== 'READY')
      .flatMap(({ id }) => (seen.has(id) ? [id] : (seen.add(id), [])))
  }

  /** Attempts that began later under a fence that is not higher. */
  get fencesBack(): readonly string[] {
    const last = new Map<string, number>()
    return this.begun.flatMap(({ id, fence }) => {
      const before = last.get(id) ?? 0
      last.set(id, Math.max(before, fence))
      return fence > before ? [] : [id]
    })
  }

  /** From each kill to the next begin of each attempt that the killed process had in hand. */
  get recoveriesMs(): readonly number[] {
    const settled = new Set(
      this.settled.flatMap(({ id, pid, attempt, word }) => (word === 'SETTLED' ? [`${id} ${pid} ${attempt}`] : [])),
    )
    return this.#facts.run.kills.flatMap(({ pid, at: killedAt }) =>
      this.begun
        .filter((fact) => fact.pid === pid && !settled.has(`${fact.id} ${pid} ${fact.attempt}`))
        .flatMap((orphan) => {
          const next = this.begun.find(
            ({ id, at, attempt }) => id === orphan.id && at >= killedAt && attempt > orphan.attempt,
          )
          return next && next.attempt < MAY_RUN_ALONE ? [next.at - killedAt] : []
        }),
    )
  }

  /** What a run must hold whatever its fault; `figures` go into the summary line. */
  assert(row: string, allowed: Allowed, figures: Readonly<Record<string, unknown>> = {}): void {
    const { run, keyspace, unplanned, wallMs } = this.#facts
    const recoveries = this.recoveriesMs.toSorted((a, b) => a - b)
    const recoveryLimitMs = Math.round(run.recoveryLimitMs + (allowed.nobodyThereMs ?? 0))
    console.log(
      `      ${row} ${JSON.stringify({
        server: `${run.server.product} ${run.server.version}`,
        calibration: Number(run.calibration.toFixed(2)),
        wallSeconds: Number((wallMs / 1_000).toFixed(1)),
        acknowledged: run.acknowledged.size,
        unsure: run.unsure.size,
        executed: this.begun.length,
        lost: this.lost.length,
        unexpected: this.unexpected.length,
        duplicates: this.duplicates,
        duplicatesAllowed: allowed.duplicates,
        stale: this.stale,
        kills: run.kills.length,
        ...(recoveries.length > 0 && {
          recoveryMs: { p50: recoveries[recoveries.length >> 1], max: recoveries.at(-1), allowed: recoveryLimitMs },
        }),
        ...figures,
        violations: keyspace.violations.length,
      })}`,
    )
    expect(this.lost, 'V1 lost').to.deep.equal([])
    expect(this.unexpected, 'V2 unexpected').to.deep.equal([])
    expect(this.settledTwice, 'V3 settled twice').to.deep.equal([])
    const final = [...keyspace.statuses.values()].filter(
      (status) => status === 'SUCCESSFUL' || status === 'FAILED',
    ).length
    if (!allowed.uncounted) expect(keyspace.counted, 'V3 outcomes counted').to.equal(final)
    expect(this.fencesBack, 'V4 fences').to.deep.equal([])
    expect(this.duplicates, 'V6 duplicates').to.be.at.most(allowed.duplicates)
    expect(keyspace.violations, 'V7 invariants').to.deep.equal([])
    expect(keyspace.leftovers, 'V7 leftovers').to.deep.equal([])
    expect(recoveries.at(-1) ?? 0, 'V8 recovery').to.be.at.most(recoveryLimitMs)
    if (unplanned.length > (allowed.unplannedEnds ?? 0)) expect(unplanned, 'V10 unplanned ends').to.deep.equal([])
  }
}
