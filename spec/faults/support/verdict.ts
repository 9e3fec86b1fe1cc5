/**
 * The verdict on a run, by its facts: lost (V1), unexpected (V2), outcomes (V3), fences (V4), fenced effects (V5), duplicates
 * (V6), the keyspace (V7), recovery of orphans (V8), due times (V9), unplanned ends (V10). A spec says what it allows.
 */
import { expect } from 'chai'
import type { RedisServer } from '../../support/redis-server.ts'
import type { Fact, FactNamed, FaultRun } from './fault-run.ts'
import { percentile } from './figures.ts'
import type { ServerFigures } from './figures.ts'
import type { KeyspaceFacts } from './invariants.ts'
import { report } from './rows.ts'
import type { Figures } from './rows.ts'

/** From this attempt on a record may have waited to run alone, which no limit of time counts. */
const MAY_RUN_ALONE = 4

/** Tasks that leave an effect, whose value is what they return. */
const WITH_EFFECT = new Set(['work', 'first', 'overtaken', 'block', 'held'])

export interface RunFacts {
  readonly run: FaultRun
  readonly facts: readonly Fact[]
  readonly keyspace: KeyspaceFacts
  readonly figures: ServerFigures
  /** The values that stand behind the highest fence, by record. */
  readonly effects: ReadonlyMap<string, string>
  readonly unplanned: readonly string[]
  readonly wallMs: number
}

export interface Allowed {
  readonly duplicates: number
  /** Outcomes may be lost with the server's data, or their count by minute. */
  readonly uncounted?: boolean
  /** The server forgot outcomes: what it forgot runs again, and its outcome is accepted again. */
  readonly forgotten?: boolean
  /** Records that a person had run again: so many outcomes more are theirs. */
  readonly runAgain?: ReadonlyMap<string, number>
  /** Records run by id, whatever their due time. */
  readonly runById?: ReadonlySet<string>
  /** Records that the row itself damaged: that they are found damaged is right. */
  readonly damaged?: readonly string[]
  /** Ends of worker processes that a task caused. */
  readonly unplannedEnds?: number
  /** Added to the run's limit for the recovery of an orphan: nobody may have been there to look for it. */
  readonly nobodyThereMs?: number
}

/** The facts of each key, in their order. */
function grouped<Key, Each extends Fact>(facts: readonly Each[], keyOf: (fact: Each) => Key): Map<Key, Each[]> {
  const groups = new Map<Key, Each[]>()
  for (const fact of facts) {
    const group = groups.get(keyOf(fact))
    if (group) group.push(fact)
    else groups.set(keyOf(fact), [fact])
  }
  return groups
}

export class Verdict {
  readonly #facts: RunFacts
  readonly #names: ReadonlyMap<string, string>
  readonly #begunById: ReadonlyMap<string, readonly FactNamed<'begun'>[]>
  readonly #orphansByPid: ReadonlyMap<number, readonly FactNamed<'begun'>[]>
  readonly begun: readonly FactNamed<'begun'>[]
  readonly settled: readonly FactNamed<'settled'>[]

  constructor(facts: RunFacts) {
    this.#facts = facts
    this.begun = facts.facts.filter((fact) => fact.fact === 'begun')
    this.settled = facts.facts.filter((fact) => fact.fact === 'settled')
    this.#names = new Map(this.begun.map(({ id, name }) => [id, name]))
    this.#begunById = grouped(this.begun, ({ id }) => id)
    const accepted = new Set(
      this.settled.flatMap((fact) => (fact.word === 'SETTLED' ? [`${fact.pid} ${fact.id} ${fact.attempt}`] : [])),
    )
    const unsettled = this.begun.filter(({ pid, id, attempt }) => !accepted.has(`${pid} ${id} ${attempt}`))
    this.#orphansByPid = grouped(unsettled, ({ pid }) => pid)
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

  /** Ids of which more final outcomes were accepted than runs were asked for. */
  settledTwice(runAgain: ReadonlyMap<string, number> = new Map()): readonly string[] {
    const counts = new Map<string, number>()
    for (const { id, word, outcome } of this.settled)
      if (word === 'SETTLED' && outcome !== 'READY') counts.set(id, (counts.get(id) ?? 0) + 1)
    return [...counts].flatMap(([id, count]) => (count > 1 + (runAgain.get(id) ?? 0) ? [id] : []))
  }

  /** Records whose outcome is not what stands behind the highest fence: an overtaken attempt wrote one of the two. */
  get overtaken(): readonly string[] {
    const { figures, effects } = this.#facts
    return [...figures.records].flatMap(([id, { status, returnValue }]) => {
      if (status !== 'SUCCESSFUL' || !WITH_EFFECT.has(this.#nameOf(id))) return []
      return returnValue === JSON.stringify(effects.get(id)) ? [] : [id]
    })
  }

  /** Begun by a worker before their due time; a record that ran again has another due time than the one it began at. */
  tooEarly(runById: ReadonlySet<string> = new Set()): readonly string[] {
    const first = new Map<string, number>()
    for (const { id, at } of this.begun) if (!first.has(id)) first.set(id, at)
    return [...first].flatMap(([id, at]) => {
      const record = this.#facts.figures.records.get(id)
      return record && record.attempts === 1 && !runById.has(id) && at < record.runAfter ? [id] : []
    })
  }

  /** From enqueued and due to the first begin. */
  get waitsMs(): readonly number[] {
    const seen = new Set<string>()
    return this.begun.flatMap(({ id, at }) => {
      const record = this.#facts.figures.records.get(id)
      if (!record || seen.has(id)) return []
      seen.add(id)
      return [Math.max(0, at - Math.max(record.enqueuedAt, record.attempts === 1 ? record.runAfter : 0))]
    })
  }

  /**
   * Attempts that began later under a fence that is not higher. One that was overtaken before its function was called may come
   * late, so that only those with an attempt number as high are compared.
   */
  get fencesBack(): readonly string[] {
    return [...this.#begunById.values()].flatMap((facts) =>
      facts.flatMap((fact, index) => {
        const before = facts.slice(0, index)
        return before.some(({ attempt, fence }) => attempt <= fact.attempt && fence >= fact.fence) ? [fact.id] : []
      }),
    )
  }

  /** Attempts that a killed process had in hand: begun there, and no settle of it accepted. */
  #orphansOf(pid: number): readonly FactNamed<'begun'>[] {
    return this.#orphansByPid.get(pid) ?? []
  }

  #beginsOf(id: string): readonly FactNamed<'begun'>[] {
    return this.#begunById.get(id) ?? []
  }

  /** From each kill to the next begin of each attempt that the killed process had in hand. */
  get recoveriesMs(): readonly number[] {
    return this.#facts.run.kills.flatMap(({ pid, at: killedAt }) =>
      this.#orphansOf(pid).flatMap((orphan) => {
        const next = this.#beginsOf(orphan.id).find(({ at, attempt }) => at >= killedAt && attempt > orphan.attempt)
        return next && next.attempt < MAY_RUN_ALONE ? [next.at - killedAt] : []
      }),
    )
  }

  /** Attempts that a killed process had in hand, that nobody began again and that did not end there either. */
  get abandoned(): readonly string[] {
    return this.#facts.run.kills.flatMap(({ pid }) =>
      this.#orphansOf(pid).flatMap(({ id, attempt }) => {
        const record = this.#facts.figures.records.get(id)
        if (!record || attempt >= MAY_RUN_ALONE - 1 || !WITH_EFFECT.has(this.#nameOf(id))) return []
        // Its outcome was written, and only the answer never read
        if (record.attempts === attempt && record.status !== 'READY') return []
        return this.#beginsOf(id).some((fact) => fact.attempt > attempt) ? [] : [id]
      }),
    )
  }

  /** FAILED although their tasks never fail, and before the limit of crashes: the fault was taken for a failure of theirs. */
  get failedForNothing(): readonly string[] {
    return [...this.#facts.figures.records].flatMap(([id, { status, attempts }]) =>
      status === 'FAILED' && attempts < MAY_RUN_ALONE && WITH_EFFECT.has(this.#nameOf(id)) ? [id] : [],
    )
  }

  #nameOf(id: string): string {
    return this.#names.get(id) ?? ''
  }

  /** Kills that hit a process with something in hand. */
  get killsThatBit(): number {
    return this.#facts.run.kills.filter(({ pid }) => this.#orphansOf(pid).length > 0).length
  }

  /** What a run must hold whatever its fault; `figures` go into the summary line, and win over those found here. */
  assert(row: string, allowed: Allowed, figures: Figures = {}): void {
    const found = this.#figures(allowed)
    try {
      this.#judge(allowed)
    } catch (error) {
      report(row, { ...found, ...figures, verdict: 'failed' })
      throw error
    }
    report(row, { ...found, ...figures, verdict: 'passed' })
  }

  #figures(allowed: Allowed): Figures {
    const { run, keyspace, figures, wallMs } = this.#facts
    const ordered = (values: readonly number[]): readonly number[] => values.toSorted((a, b) => a - b)
    const recoveries = ordered(this.recoveriesMs)
    const waits = ordered(this.waitsMs)
    const byInvariant: Record<string, number> = {}
    for (const line of keyspace.violations) {
      const [invariant = ''] = line.split(' ')
      byInvariant[invariant] = (byInvariant[invariant] ?? 0) + 1
    }
    return {
      server: `${run.server.product} ${run.server.version}`,
      driver: 'ioredis 5',
      calibration: Number(run.calibration.toFixed(2)),
      wallSeconds: Number((wallMs / 1_000).toFixed(1)),
      acknowledged: run.acknowledged.size,
      unsure: run.unsure.size,
      executed: this.begun.length,
      lost: this.lost.length,
      unexpected: this.unexpected.length,
      duplicates: this.duplicates,
      duplicatesAllowed: allowed.duplicates,
      staleSettlesRejected: this.stale,
      fencedEffectsOvertaken: this.overtaken.length,
      tooEarly: this.tooEarly(allowed.runById).length,
      faultsInjected: run.kills.length,
      faultsThatBit: this.killsThatBit,
      ...(recoveries.length > 0 && {
        recoveryMs: {
          ...{ p50: percentile(recoveries, 0.5), p99: percentile(recoveries, 0.99), max: recoveries.at(-1) },
          allowed: this.#recoveryLimitMs(allowed),
        },
      }),
      enqueueToBeginMs: { p50: percentile(waits, 0.5), p99: percentile(waits, 0.99) },
      eventLoopDelayMs: run.eventLoopDelayMs,
      connections: figures.connectionsReceived,
      slowlogMaxMs: Number(figures.slowlogMaxMs.toFixed(1)),
      commandsPerTask: Number((figures.commands / this.begun.length).toFixed(1)),
      doctor: { violations: keyspace.violations.length, byInvariant },
    }
  }

  #recoveryLimitMs(allowed: Allowed): number {
    return Math.round(this.#facts.run.recoveryLimitMs + (allowed.nobodyThereMs ?? 0))
  }

  #judge(allowed: Allowed): void {
    const { keyspace, unplanned } = this.#facts
    expect(this.lost, 'V1 lost').to.deep.equal([])
    expect(this.unexpected, 'V2 unexpected').to.deep.equal([])
    expect(this.failedForNothing, 'V3 failed for nothing').to.deep.equal([])
    if (!allowed.forgotten) expect(this.settledTwice(allowed.runAgain), 'V3 settled twice').to.deep.equal([])
    const final = [...keyspace.statuses.values()].filter(
      (status) => status === 'SUCCESSFUL' || status === 'FAILED',
    ).length
    const again = [...(allowed.runAgain?.values() ?? [])].reduce((sum, count) => sum + count, 0)
    if (!allowed.uncounted) expect(keyspace.counted, 'V3 outcomes counted').to.equal(final + again)
    expect(this.fencesBack, 'V4 fences').to.deep.equal([])
    expect(this.overtaken, 'V5 fenced effects').to.deep.equal([])
    expect(this.duplicates, 'V6 duplicates').to.be.at.most(allowed.duplicates)
    const damage = (line: string): boolean => allowed.damaged?.some((id) => line.startsWith(`I2 ${id} `)) ?? false
    expect(
      keyspace.violations.filter((line) => !damage(line)),
      'V7 invariants',
    ).to.deep.equal([])
    expect(keyspace.leftovers, 'V7 leftovers').to.deep.equal([])
    expect(this.abandoned, 'V8 never begun again').to.deep.equal([])
    expect(Math.max(0, ...this.recoveriesMs), 'V8 recovery').to.be.at.most(this.#recoveryLimitMs(allowed))
    expect(this.tooEarly(allowed.runById), 'V9 begun before it was due').to.deep.equal([])
    if (unplanned.length > (allowed.unplannedEnds ?? 0)) expect(unplanned, 'V10 unplanned ends').to.deep.equal([])
  }
}

/** The figures of a row whose worker is in this process: what every row has, and its own. Say it before what they must be. */
export function reportOwn(run: FaultRun, row: string, figures: Figures & { readonly executed: number }): void {
  reportAlone(run.server, row, {
    calibration: Number(run.calibration.toFixed(2)),
    wallSeconds: Number((run.wallMs / 1_000).toFixed(1)),
    acknowledged: run.acknowledged.size,
    unsure: run.unsure.size,
    ...figures,
  })
}

/** The same for a row that has no run: its limits of time are what they are. */
export function reportAlone(
  { product, version }: RedisServer,
  row: string,
  figures: Figures & { readonly wallSeconds: number; readonly acknowledged: number; readonly executed: number },
): void {
  const server = `${product} ${version}`
  report(row, { server, driver: 'ioredis 5', calibration: 1, lost: 0, duplicates: 0, verdict: 'passed', ...figures })
}
