/**
 * A random walk over the scripts: three workers, producers and a person do what they may do, in any order, with lost and
 * repeated replies, crashes, frozen workers, a lost `leases`, destroyed groups and a server set back to an earlier state.
 * An oracle looks after each step: the invariants of the keyspace, no token twice, fences that grow, no live attempt taken
 * away, no acknowledged record gone, no error forgotten, no outcome accepted twice. At the end one worker is left and must finish everything.
 */
import type { ScriptName } from '../../../lib/storage/redis/scripts.ts'
import { recordsOf, violations } from './keyspace.ts'
import type { Keyspace } from './keyspace.ts'
import { enqueueAnswers, enqueueWords, expandFirsts, settleAnswers, settleWords } from './scripts/support.ts'
import type { EnqueueReply, RecordFields, ScriptBench, SettleFields, SettleReply } from './scripts/support.ts'

const LEASE_MS = 1_000
/** Below a lease: a person may ask for a shorter limit, and a live lease is left alone all the same. */
const IDLE_LIMITS_MS = [300, 1_000]
const QUEUES = ['q1', 'q2']
const NAMES = ['t1', 't2']
const ERROR = '{"name":"E","message":"no"}'
const CRASH_ERROR = '{"name":"TaskAbandonedError","message":"crashed"}'

type Row = readonly string[]

/** An attempt that a worker was told of. */
interface Held {
  readonly token: string
  readonly entryId: string
  /** Until then nobody may take it away, as far as this worker knows. */
  deadlineMs: number
}

interface ReadEntry {
  readonly stream: string
  readonly entryId: string
  readonly id: string
}

class WalkWorker {
  readonly name: string
  readonly holder: string
  readonly consumer: string
  readonly inHand = new Map<string, Held>()
  /** Read, not begun. */
  delivered: ReadEntry[] = []
  /** A reply never came: something may have begun that this worker knows nothing of. */
  replyLost = false
  #calls = 0

  constructor(name: string, serial: number) {
    this.name = name
    this.holder = `${name}-${serial}`
    this.consumer = `${name}.${this.holder}`
  }

  nextCall(): string {
    this.#calls += 1
    return `${this.holder}.${this.#calls}`
  }

  claim(call = this.nextCall()): [consumer: string, call: string, leaseMs: number, workerId: string] {
    return [this.consumer, call, LEASE_MS, this.name]
  }
}

/** What went wrong in a walk, and how it came there. */
export class WalkFailure extends Error {
  constructor(reason: string, seed: number, steps: readonly string[]) {
    super(`${reason}\n  seed ${seed}, after: ${steps.slice(-12).join(', ')}`)
  }
}

/** The same numbers for the same seed, on every machine. */
function numbersOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

interface Step {
  readonly weight: number
  readonly run: (worker: WalkWorker) => Promise<void>
}

export class RandomWalk {
  readonly #bench: ScriptBench
  readonly #seed: number
  readonly #random: () => number
  readonly #crashLimit: number
  /** How often each answer came, for those who want to see that the walk goes everywhere. */
  readonly answers: Map<string, number>

  readonly #log: string[] = []
  readonly #workers: WalkWorker[]
  #serial = 0
  #ids = 0
  readonly #known: string[] = []
  /** Acknowledged, not deleted since: these must be there. */
  readonly #stored = new Set<string>()
  readonly #deleted = new Set<string>()
  readonly #fences = new Map<string, number>()
  readonly #tokens = new Map<string, Set<string>>()
  /** As they stood after the step before. */
  readonly #errors = new Map<string, string>()
  readonly #started = new Set<string>()
  readonly #settled = new Set<string>()
  #finals = 0
  #rewound = false
  #leasesLost = false
  #earlier: { readonly key: string; readonly dump: Buffer; readonly ttl: number }[] | undefined
  #space: Keyspace | undefined

  constructor(bench: ScriptBench, seed: number, answers = new Map<string, number>()) {
    this.#bench = bench
    this.#seed = seed
    this.#random = numbersOf(seed)
    // With the limit of the package few records of so short a walk reach it.
    this.#crashLimit = seed % 2 === 0 ? 3 : 1
    this.answers = answers
    this.#workers = ['A', 'B', 'C'].map((name) => this.#newWorker(name))
  }

  /** @throws WalkFailure something does not hold. */
  async run(steps: number): Promise<void> {
    const table = this.#steps()
    const total = table.reduce((sum, [, { weight }]) => sum + weight, 0)
    await this.#enqueue()
    await this.#look()
    for (let count = 0; count < steps; count += 1) {
      let left = this.#random() * total
      const [name, step] = table.find(([, { weight }]) => (left -= weight) < 0) ?? this.#fail('no step')
      const worker = this.#pick(this.#workers)
      this.#log.push(`${name} ${worker.name}`)
      await step.run(worker)
      await this.#look()
    }
    await this.#drain()
  }

  #steps(): [string, Step][] {
    const step = (weight: number, run: Step['run']): Step => ({ weight, run })
    const table: Record<string, Step> = {
      enqueue: step(8, () => this.#enqueue()),
      take: step(13, (worker) => this.#take(worker)),
      read: step(9, (worker) => this.#read(worker)),
      begin: step(13, (worker) => this.#begin(worker)),
      own: step(7, (worker) => this.#own(worker)),
      surplus: step(4, (worker) => this.#handSurplusBack(worker)),
      settle: step(13, (worker) => this.#settle(worker)),
      late: step(7, () => this.#late()),
      renew: step(7, (worker) => this.#renew(worker)),
      requeue: step(4, (worker) => this.#requeue(worker)),
      reclaim: step(7, (worker) => this.#reclaim(worker)),
      promote: step(7, () => this.#promote()),
      runById: step(5, (worker) => this.#runById(worker)),
      retry: step(5, () => this.#retry()),
      cancel: step(3, () => this.#cancel()),
      delete: step(2, () => this.#delete()),
      save: step(5, () => this.#save()),
      purge: step(2, () => this.#purge()),
      heartbeat: step(2, (worker) => this.#heartbeat(worker)),
      forget: step(2, () => this.#forget()),
      advance: step(7, () => this.#advance()),
      crash: step(2, () => this.#crash()),
    }
    // Faults that loosen what the oracle may ask for are in some walks only.
    if (this.#seed % 3 === 0) table['rewind'] = step(10, () => this.#rewind())
    if (this.#seed % 4 === 0) {
      table['loseLeases'] = step(1, () => this.#loseLeases())
      table['destroyGroup'] = step(1, () => this.#destroyGroup())
    }
    return Object.entries(table)
  }

  // What workers do

  async #take(worker: WalkWorker): Promise<void> {
    if (worker.inHand.size > 4) return
    const args = [...worker.claim(), 1 + this.#below(4), ...this.#bench.streams(...QUEUES)]
    let rows = await this.#rows('take', args)
    const chance = this.#random()
    if (chance < 0.15) {
      worker.replyLost = true
      return
    }
    if (chance < 0.25) {
      // The first reply was lost and the call is sent again: it takes further entries.
      worker.replyLost = true
      rows = await this.#rows('take', args)
    }
    await this.#told(worker, rows, 'take')
  }

  /** A blocking read, or a server without reads in scripts: entries are delivered and not begun. */
  async #read(worker: WalkWorker): Promise<void> {
    const streams = this.#bench.streams(...QUEUES)
    try {
      const reply = (await this.#bench.redis.xreadgroup(
        ...(['GROUP', this.#bench.group, worker.consumer, 'COUNT', 1, 'STREAMS'] as const),
        ...streams,
        ...streams.map(() => '>'),
      )) as [string, [string, string[]][]][] | null
      if (this.#random() < 0.15) {
        worker.replyLost = true
        return
      }
      for (const [stream, entries] of reply ?? []) {
        for (const [entryId, fields] of entries) worker.delivered.push({ stream, entryId, id: fields[1] ?? '' })
      }
    } catch (error) {
      if (!String(error).includes('NOGROUP')) throw error
      await this.#ensureQueues()
    }
  }

  async #begin(worker: WalkWorker): Promise<void> {
    const entries = worker.delivered.splice(0, 3).filter(({ id }) => !worker.inHand.has(id))
    if (entries.length === 0) return
    const args = [...worker.claim(), '', ...entries.flatMap(({ stream, entryId, id }) => [stream, entryId, id])]
    const rows = await this.#rows('begin', args)
    const chance = this.#random()
    if (chance < 0.15) {
      worker.replyLost = true
      return
    }
    if (chance < 0.4) {
      const again = await this.#rows('begin', args)
      const tokens = (answer: readonly Row[]): string =>
        answer.flatMap(([word, id, , token, fence]) => (word === 'BEGUN' ? [`${id} ${token} ${fence}`] : [])).join()
      if (tokens(rows) !== tokens(again)) this.#fail(`begin sent again: ${tokens(rows)}, then ${tokens(again)}`)
    }
    await this.#told(worker, rows, 'begin')
  }

  /** The consumer's own pending list, after a reply that never came. */
  async #own(worker: WalkWorker): Promise<void> {
    if (!worker.replyLost && this.#random() < 0.7) return
    worker.replyLost = false
    const found: ReadEntry[] = []
    for (const stream of this.#bench.streams(...QUEUES)) {
      const reply = (await this.#bench.redis
        .xreadgroup('GROUP', this.#bench.group, worker.consumer, 'COUNT', 100, 'STREAMS', stream, '0')
        .catch(() => null)) as [string, [string, string[] | null][]][] | null
      for (const [entryId, fields] of reply?.[0]?.[1] ?? []) found.push({ stream, entryId, id: fields?.[1] ?? '' })
    }
    const unknown = found.filter(
      ({ stream, id, entryId }) =>
        !worker.inHand.has(id) &&
        !worker.delivered.some((entry) => entry.stream === stream && entry.entryId === entryId),
    )
    if (unknown.length === 0) return
    const args = unknown.flatMap(({ stream, entryId, id }) => [stream, entryId, id])
    await this.#told(worker, await this.#rows('begin', [...worker.claim(), '1', ...args]), 'own')
  }

  /** More was delivered than there are free slots. */
  async #handSurplusBack(worker: WalkWorker): Promise<void> {
    const entries = worker.delivered.splice(0, 2).filter(({ id }) => !worker.inHand.has(id))
    if (entries.length === 0) return
    const args = ['', ...entries.flatMap(({ id, entryId }) => [id, '', entryId])]
    await this.#words('requeue', args)
    if (this.#chance(0.3)) await this.#words('requeue', args)
  }

  async #settle(worker: WalkWorker): Promise<void> {
    const chosen = [...worker.inHand].filter(() => this.#chance(0.6))
    if (chosen.length === 0) return
    const outcomes = chosen.map(() => this.#pick(['SUCCESSFUL', 'FAILED', 'FAILED', 'READY'] as const))
    const items = chosen.map(([id, { token }], index): SettleFields => {
      const outcome = outcomes[index] ?? 'READY'
      const payload = outcome === 'SUCCESSFUL' ? '"done"' : ERROR
      return { id, leaseToken: token, outcome, payload, delayMs: this.#pick([0, 500]) }
    })
    const words = await this.#settleItems(items)
    if (this.#chance(0.2)) {
      // The reply was lost. Others may take what was put back before the call is sent again.
      for (const [, held] of chosen) held.deadlineMs = 0
      if (this.#chance(0.5)) await this.#take(this.#pick(this.#workers.filter((other) => other !== worker)))
      const again = await this.#settleItems(items)
      if (words.join() !== again.join()) this.#fail(`settle sent again: ${words.join()}, then ${again.join()}`)
    }
    chosen.forEach(([id, { token, deadlineMs }], index) => {
      if (worker.inHand.get(id)?.token === token) worker.inHand.delete(id)
      if (words[index] === 'SETTLED') {
        if (this.#settled.has(`${id} ${token}`)) this.#fail(`two outcomes of one token: ${id} ${token}`)
        this.#settled.add(`${id} ${token}`)
        if (outcomes[index] !== 'READY') this.#finals += 1
      } else if (deadlineMs > this.#bench.nowMs && !this.#faulty && !this.#deleted.has(id)) {
        this.#fail(`${words[index]} for a live lease: ${id} ${token}`)
      }
    })
  }

  /** A worker that was thought dead sends what it still has: nothing may move. */
  async #late(): Promise<void> {
    const all = [...this.#tokens].flatMap(([id, tokens]) => [...tokens].map((token) => ({ id, token })))
    if (all.length === 0) return
    const { id, token } = this.#pick(all)
    const record = recordsOf(this.#space ?? this.#fail('no keyspace')).get(id)
    if (record?.['status'] === 'RUNNING' && record['leaseToken'] === token) return
    const before = await this.#record(id)
    const calls: (() => Promise<readonly string[]>)[] = [
      () => this.#settleItems([{ id, leaseToken: token, payload: '"late"' }]),
      () => this.#words('requeue', ['', id, token, '']),
      () => this.#words('renew', ['late', LEASE_MS, '', id, token]),
    ]
    for (const call of calls) {
      const [word] = await call()
      if (word === 'RENEWED') this.#fail(`a late renew moved ${id}`)
      if (word === 'SETTLED' && !this.#settled.has(`${id} ${token}`))
        this.#fail(`a late settle passed for ${id} ${token}`)
    }
    const after = await this.#record(id)
    if (before !== after) this.#fail(`a late call changed ${id}: ${before}, then ${after}`)
  }

  async #renew(worker: WalkWorker): Promise<void> {
    const held = [...worker.inHand]
    if (held.length === 0) return
    const args = [worker.consumer, LEASE_MS, this.#pick(['', '1']), ...held.flatMap(([id, { token }]) => [id, token])]
    const words = await this.#words('renew', args)
    held.forEach(([id, attempt], index) => {
      if (words[index] === 'RENEWED') attempt.deadlineMs = this.#bench.nowMs + LEASE_MS
      else {
        if (attempt.deadlineMs > this.#bench.nowMs && !this.#faulty)
          this.#fail(`renew: ${words[index]} for a live ${id}`)
        worker.inHand.delete(id)
      }
    })
  }

  async #requeue(worker: WalkWorker): Promise<void> {
    const chosen = [...worker.inHand].slice(0, 1 + this.#below(2))
    if (chosen.length === 0) return
    const growing = this.#pick(['', '1', `300 ${ERROR}`, `0 ${ERROR}`])
    const args = [growing, ...chosen.flatMap(([id, { token, entryId }]) => [id, token, entryId])]
    const words = await this.#words('requeue', args)
    this.#finals += words.filter((word) => word === 'FAILED').length
    if (this.#chance(0.3)) {
      const again = await this.#words('requeue', args)
      if (words.join() !== again.join()) this.#fail(`requeue sent again: ${words.join()}, then ${again.join()}`)
    }
    chosen.forEach(([id, { deadlineMs }], index) => {
      worker.inHand.delete(id)
      const isAccepted = words[index] === 'REQUEUED' || words[index] === 'FAILED'
      if (!isAccepted && deadlineMs > this.#bench.nowMs && !this.#faulty && !this.#deleted.has(id)) {
        this.#fail(`requeue: ${words[index]} for a live ${id}`)
      }
    })
  }

  async #reclaim(worker: WalkWorker, replies: 'some are lost' | 'all arrive' = 'some are lost'): Promise<void> {
    for (const stream of this.#bench.streams(...QUEUES)) {
      let cursor = '-'
      do {
        const count = Math.max(0, 6 - worker.inHand.size)
        const args = [
          ...worker.claim(),
          count,
          this.#crashLimit,
          this.#pick(IDLE_LIMITS_MS),
          CRASH_ERROR,
          stream,
          cursor,
        ]
        const [next, ...found] = (await this.#bench.run('reclaim', ...args)) as [string, ...Row[]]
        const rows = expandFirsts(found)
        this.#countRows('reclaim', rows)
        this.#finals += rows.filter(([word]) => word === 'CRASHED').length
        if (replies === 'some are lost' && this.#chance(0.1)) worker.replyLost = true
        else {
          // The worker's own lease ran out and it took the record over itself: the old attempt is aborted.
          for (const [word, id = ''] of rows) if (word === 'BEGUN') worker.inHand.delete(id)
          await this.#told(worker, rows, 'reclaim')
        }
        cursor = next
      } while (cursor !== '-')
    }
  }

  async #promote(): Promise<void> {
    for (const queueName of QUEUES) {
      const [moved] = (await this.#bench.run('promote', queueName)) as [number, string]
      this.#count('promote', moved > 0 ? 'moved' : 'nothing')
    }
  }

  async #heartbeat(worker: WalkWorker): Promise<void> {
    await this.#bench.run('heartbeat', worker.consumer, 'workerId', worker.name)
  }

  /** Somebody sweeps: the dead go when they have no deliveries; whoever has any stays. */
  async #forget(): Promise<void> {
    const live = new Set(this.#workers.map(({ consumer }) => consumer))
    const space = await this.#bench.keyspace()
    const pending = new Set(
      Object.values(space.streams).flatMap(({ pending: rows = [] }) => rows.map((row) => row.consumer)),
    )
    const consumers = new Set<string>([...Object.keys(space.sortedSets['workers'] ?? {}), ...pending])
    for (const stream of this.#bench.streams(...QUEUES)) {
      const rows = (await this.#bench.redis
        .xinfo('CONSUMERS', stream, this.#bench.group)
        .catch(() => [])) as unknown[][]
      for (const row of rows) consumers.add(String(row[row.indexOf('name') + 1]))
    }
    for (const consumer of consumers) {
      if (live.has(consumer)) continue
      const word = String(await this.#bench.run('forget-worker', consumer, ''))
      this.#count('forget-worker', word)
      if ((word === 'KEPT') !== pending.has(consumer)) this.#fail(`forget-worker: ${word} for ${consumer}`)
    }
  }

  // What producers and people do

  async #enqueue(): Promise<void> {
    const ids = Array.from({ length: 1 + this.#below(3) }, () =>
      this.#chance(0.15) && this.#known.length > 0 ? this.#someId() : `id${++this.#ids}`,
    )
    const records = ids.map((id): RecordFields => {
      const runAfter = this.#chance(0.3) ? this.#bench.nowMs + this.#below(3000) : ''
      const kind = { queueName: this.#pick(QUEUES), name: this.#pick(NAMES), priority: this.#pick([-5, 0, 5]) }
      return { id, ...kind, runAfter, args: '[1]' }
    })
    const words = await this.#store(records)
    if (this.#chance(0.2)) {
      const again = await this.#store(records)
      if (again.some((word, index) => index % 2 === 0 && word !== 'EXISTS'))
        this.#fail(`enqueue again: ${again.join()}`)
    }
    ids.forEach((id, index) => {
      if (words[index * 2] !== 'ENQUEUED') return
      if (!this.#known.includes(id)) this.#known.push(id)
      this.#stored.add(id)
      this.#deleted.delete(id)
      // An id used again: its fence goes on from the clock, which stands still here.
      this.#fences.delete(id)
    })
  }

  async #runById(worker: WalkWorker): Promise<void> {
    const id = this.#someId()
    if (worker.inHand.has(id)) return
    const args = [...worker.claim(), id, this.#pick(['', '1'])]
    const row = (await this.#bench.run('run-by-id', ...args)) as Row
    this.#count('run-by-id', row.slice(0, row[0] === 'STATE' ? 2 : 1).join(' '))
    if (this.#chance(0.2)) {
      const again = (await this.#bench.run('run-by-id', ...args)) as Row
      if (row.join() !== again.join()) this.#fail(`run-by-id sent again: ${row.join()}, then ${again.join()}`)
    }
    if (row[0] !== 'BEGUN') return
    if (this.#chance(0.25)) {
      // It ends at once, and only then the request comes in again.
      this.#begun(worker, row, 'run-by-id')
      worker.inHand.delete(id)
      await this.#settleItems([{ id, leaseToken: row[3] ?? '', outcome: 'FAILED', payload: ERROR }])
      this.#settled.add(`${id} ${row[3] ?? ''}`)
      this.#finals += 1
      const again = (await this.#bench.run('run-by-id', ...args)) as Row
      if (again[0] !== 'STATE') this.#fail(`one request ran ${id} twice: ${again.join()}`)
    } else if (!this.#chance(0.1)) this.#begun(worker, row, 'run-by-id')
  }

  async #retry(): Promise<void> {
    const ids = [...new Set([this.#someId(), this.#someId()])]
    const args = [`request-${++this.#serial}`, ...ids]
    const words = await this.#words('retry', args)
    if (!this.#chance(0.3)) return
    if (this.#chance(0.5)) await this.#take(this.#workers[0] ?? this.#fail('no worker'))
    const again = await this.#words('retry', args)
    words.forEach((word, index) => {
      if (word === 'RETRIED' && again[index] !== 'RETRIED')
        this.#fail(`retry sent again: ${words.join()}, ${again.join()}`)
    })
  }

  async #cancel(): Promise<void> {
    const ids = [...new Set([this.#someId(), this.#someId()])]
    const before = recordsOf(this.#space ?? this.#fail('no keyspace'))
    const args = [`cancel-${++this.#serial}`, ERROR, ...ids]
    const words = await this.#words('cancel', args)
    for (const [index, id] of ids.entries()) {
      if (words[index] !== 'CANCELLED') continue
      const { status = '', leaseToken: token = '' } = before.get(id) ?? {}
      if (status === 'RUNNING') {
        this.#finals += 1
        const [word] = await this.#words('renew', ['told', LEASE_MS, '', id, token])
        if (word !== 'CANCELLED') this.#fail(`a renew of ${id}, which was cancelled: ${word}`)
      } else if (status !== 'READY') this.#fail(`cancel ended ${id}, which was ${status}`)
      // Whoever runs it has lost it, told or not.
      for (const { inHand } of this.#workers) {
        const held = inHand.get(id)
        if (held) held.deadlineMs = 0
      }
    }
    if (!this.#chance(0.3)) return
    if (this.#chance(0.5)) await this.#words('retry', [`request-${++this.#serial}`, ...ids])
    const again = await this.#words('cancel', args)
    words.forEach((word, index) => {
      if (word === 'CANCELLED' && again[index] !== 'CANCELLED')
        this.#fail(`cancel sent again: ${words.join()}, ${again.join()}`)
    })
  }

  async #delete(): Promise<void> {
    const id = this.#someId()
    const [word] = await this.#words('delete-record', [id])
    if (word === 'DELETED') {
      this.#deleted.add(id)
      this.#stored.delete(id)
      for (const { inHand, name } of this.#workers) {
        if ((inHand.get(id)?.deadlineMs ?? 0) > this.#bench.nowMs && !this.#faulty)
          this.#fail(`deleted while ${name} runs ${id}`)
      }
    }
    if (this.#chance(0.2)) await this.#words('delete-record', [id])
  }

  async #save(): Promise<void> {
    const args: (string | number)[] = [this.#someId()]
    if (this.#chance(0.7)) args.push('priority', this.#pick([-5, 0, 5, 6]))
    if (this.#chance(0.7))
      args.push('runAfter', this.#pick(['', this.#bench.nowMs + this.#below(2000), this.#bench.nowMs - 5]))
    for (const repeats of this.#chance(0.2) ? [1, 2] : [1]) {
      const answer = [await this.#bench.run('save-record', ...args)].flat()
      this.#count('save-record', `${String(answer[0])}${repeats === 2 ? ' again' : ''}`)
    }
  }

  async #purge(): Promise<void> {
    const before = recordsOf(this.#space ?? this.#fail('no keyspace'))
    const finishedForMs = this.#pick([0, 500, 2_000])
    let deleted = 0
    const cells = QUEUES.flatMap((queueName) => NAMES.map((name) => [queueName, name]))
    for (const cell of cells.flatMap((pair) => ['SUCCESSFUL', 'FAILED'].map((status) => [...pair, status]))) {
      let position = ['-inf', '0']
      while (position[0] !== '') {
        const args = [...cell, finishedForMs, 2, '', ...position]
        const answer = (await this.#bench.run('purge', ...args)) as [number, number, string, number]
        deleted += answer[1]
        position = [answer[2], String(answer[3])]
      }
    }
    const after = recordsOf(await this.#bench.keyspace())
    const gone = [...before].filter(([id]) => !after.has(id))
    if (gone.length !== deleted) this.#fail(`purge says ${deleted} of ${gone.length}`)
    for (const [id, record] of gone) {
      if (!(
        Number(record['finishedAt'] ?? '') > 0 && Number(record['finishedAt']) <= this.#bench.nowMs - finishedForMs
      )) {
        this.#fail(`purge took ${id}: ${JSON.stringify(record)}`)
      }
      this.#stored.delete(id)
      this.#deleted.add(id)
    }
    this.#count('purge', deleted > 0 ? 'deleted' : 'nothing')
  }

  // What goes wrong

  async #advance(): Promise<void> {
    await this.#bench.elapse(this.#pick([10, 300, 700, 1500]), this.#bench.streams(...QUEUES))
  }

  #crash(): Promise<void> {
    const index = this.#below(3)
    this.#workers[index] = this.#newWorker(this.#workers[index]?.name ?? '')
    return Promise.resolve()
  }

  async #loseLeases(): Promise<void> {
    await this.#bench.redis.del(this.#bench.keys.leases)
    this.#leasesLost = true
  }

  async #destroyGroup(): Promise<void> {
    await this.#bench.redis
      .xgroup('DESTROY', this.#pick(this.#bench.streams(...QUEUES)), this.#bench.group)
      .catch(() => undefined)
    if (this.#chance(0.5)) await this.#ensureQueues()
  }

  /** The server lost its last moments: back to an earlier state. The workers remember. */
  async #rewind(): Promise<void> {
    const { redis, keys } = this.#bench
    const all = (await redis.keys(`${keys.root}*`)).filter((key) => !key.endsWith('clock'))
    if (!this.#earlier) {
      this.#earlier = []
      for (const key of all) {
        this.#earlier.push({ key, dump: await redis.dumpBuffer(key), ttl: Math.max(0, await redis.pttl(key)) })
      }
      return
    }
    this.#count('server', 'rewind')
    this.#rewound = true
    const pipeline = redis.pipeline()
    if (all.length > 0) pipeline.del(...all)
    for (const { key, dump, ttl } of this.#earlier) pipeline.restore(key, ttl, dump)
    await pipeline.exec()
    this.#earlier = undefined
    await this.#bench.elapse(1, [])
    this.#stored.clear()
    this.#deleted.clear()
    this.#errors.clear()
    for (const id of recordsOf(await this.#bench.keyspace()).keys()) this.#stored.add(id)
    for (const worker of this.#workers) worker.replyLost = true
  }

  /** Everybody dies; one worker is left and must bring every record to its end. */
  async #drain(): Promise<void> {
    this.#workers.forEach((worker, index) => (this.#workers[index] = this.#newWorker(worker.name)))
    const worker = this.#workers[0] ?? this.#fail('no worker')
    const isOver = (): boolean =>
      [...recordsOf(this.#space ?? this.#fail('no keyspace')).values()].every(
        ({ finishedAt = '' }) => finishedAt !== '',
      )
    for (let round = 1; !isOver(); round += 1) {
      if (round > 60) this.#fail(`never ends: ${JSON.stringify([...recordsOf(await this.#bench.keyspace())])}`)
      this.#log.push('drain')
      await this.#bench.elapse(1_500, this.#bench.streams(...QUEUES))
      await this.#promote()
      await this.#reclaim(worker, 'all arrive')
      await this.#told(
        worker,
        await this.#rows('take', [...worker.claim(), 20, ...this.#bench.streams(...QUEUES)]),
        'take',
      )
      const held = [...worker.inHand]
      worker.inHand.clear()
      const words = await this.#settleItems(
        held.map(([id, { token }]) => ({ id, leaseToken: token, payload: '"done"' })),
      )
      this.#finals += words.filter((word) => word === 'SETTLED').length
      await this.#look()
    }
    const counted = Object.entries(this.#space?.hashes ?? {})
      .filter(([key]) => key.startsWith('stats:'))
      .flatMap(([, hash]) => Object.entries(hash))
      .filter(([field]) => !field.includes(':wait:'))
      .reduce((sum, [, count]) => sum + Number(count), 0)
    if (!this.#rewound && counted !== this.#finals) this.#fail(`${this.#finals} outcomes accepted, ${counted} in stats`)
  }

  // The oracle

  /** After these, a worker may be overtaken before its deadline. */
  get #faulty(): boolean {
    return this.#rewound || this.#leasesLost
  }

  async #look(): Promise<void> {
    this.#space = await this.#bench.keyspace()
    const found = violations(this.#space, { leasesLost: this.#leasesLost })
    if (found.length > 0) this.#fail(found.join('\n  '))
    const records = recordsOf(this.#space)
    for (const id of this.#stored) if (!records.has(id)) this.#fail(`an acknowledged record is gone: ${id}`)
    for (const [id, before] of this.#errors) {
      const errors = records.get(id)?.['errors'] ?? before
      if (errors !== before && !errors.startsWith(`${before}\n`)) this.#fail(`errors of ${id} are gone: ${before}`)
    }
    this.#errors.clear()
    for (const [id, { errors = '' }] of records) if (errors !== '') this.#errors.set(id, errors)
  }

  async #told(worker: WalkWorker, rows: readonly Row[], how: string): Promise<void> {
    for (const row of rows) if (row[0] === 'BEGUN') this.#begun(worker, row, how)
    if (rows.some(([word]) => word === 'NOGROUP')) await this.#ensureQueues()
  }

  #begun(worker: WalkWorker, row: Row, how: string): void {
    const [, id = '', entryId = '', token = '', fence = '', , until = ''] = row
    const tokens = this.#tokens.get(id) ?? new Set<string>()
    this.#tokens.set(id, tokens)
    if (!tokens.has(token)) {
      const last = this.#fences.get(id) ?? 0
      if (!(Number(fence) > last)) this.#fail(`the fence of ${id} went from ${last} to ${fence} by ${how}`)
      this.#fences.set(id, Number(fence))
      tokens.add(token)
    }
    const own = worker.inHand.get(id)
    if (own?.token === token) return
    if (own && own.deadlineMs > this.#bench.nowMs && !this.#faulty)
      this.#fail(`${how} begins ${id}, which its worker runs`)
    for (const other of this.#workers) {
      const held = other.inHand.get(id)
      if (other !== worker && held && held.deadlineMs > this.#bench.nowMs && !this.#faulty) {
        this.#fail(`${how} takes ${id} away from ${other.name}, who has a live lease`)
      }
    }
    if (this.#started.has(`${id} ${token}`)) this.#fail(`${how} hands out ${id} ${token} a second time`)
    this.#started.add(`${id} ${token}`)
    worker.inHand.set(id, { token, entryId, deadlineMs: Number(until) })
  }

  // Small things

  #newWorker(name: string): WalkWorker {
    this.#serial += 1
    return new WalkWorker(name, this.#serial)
  }

  /** Rather one of the last few, or one that was just delivered: so that several hands meet at one record. */
  #someId(): string {
    const delivered = this.#workers.flatMap((worker) => worker.delivered.map(({ id }) => id))
    if (delivered.length > 0 && this.#chance(0.3)) return this.#pick(delivered)
    return this.#pick(this.#chance(0.7) ? this.#known.slice(-4) : this.#known)
  }

  async #rows(name: ScriptName, args: readonly (string | number)[]): Promise<readonly Row[]> {
    const rows = expandFirsts((await this.#bench.run(name, ...args)) as Row[])
    this.#countRows(name, rows)
    return rows
  }

  async #store(records: readonly RecordFields[]): Promise<readonly string[]> {
    const reply = (await this.#bench.run('enqueue', ...records.flatMap(enqueueWords))) as EnqueueReply
    const words = enqueueAnswers(records.length, reply)
    for (const word of words) if (/^[A-Z]+$/.test(word)) this.#count('enqueue', word)
    return words
  }

  async #settleItems(items: readonly SettleFields[]): Promise<readonly string[]> {
    const said: (string | number)[] = []
    for (const item of items) said.push(...settleWords({ ...(await this.#factsOf(item.id)), ...item }))
    const reply = (await this.#bench.run('settle', ...said)) as SettleReply
    const words = settleAnswers(items.length, reply)
    for (const word of words) if (/^[A-Z]+$/.test(word)) this.#count('settle', word)
    return words
  }

  async #words(name: ScriptName, args: readonly (string | number)[]): Promise<readonly string[]> {
    const words = (await this.#bench.run(name, ...args)) as string[]
    for (const word of words) if (/^[A-Z]+$/.test(word)) this.#count(name, word)
    return words
  }

  /** What a worker knows of a record that runs. */
  async #factsOf(id: string): Promise<Partial<SettleFields>> {
    const record = await this.#bench.redis.hgetall(this.#bench.keys.record(id))
    const names = ['queueName', 'name', 'priority', 'runAfter', 'lastAttemptedAt', 'fence'] as const
    return Object.fromEntries(names.flatMap((name) => (record[name] ? [[name, record[name]]] : [])))
  }

  /** A record as text, to be compared; the order of a hash's fields is the server's own affair. */
  async #record(id: string): Promise<string> {
    return JSON.stringify(Object.entries(await this.#bench.redis.hgetall(this.#bench.keys.record(id))).sort())
  }

  async #ensureQueues(): Promise<void> {
    await this.#bench.run('ensure-queue', ...QUEUES)
  }

  #countRows(name: string, rows: readonly Row[]): void {
    for (const [word = ''] of rows) this.#count(name, word)
  }

  #count(name: string, word: string): void {
    const key = `${name} ${word}`
    this.answers.set(key, (this.answers.get(key) ?? 0) + 1)
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #chance(probability: number): boolean {
    return this.#random() < probability
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[this.#below(items.length)] ?? this.#fail('nothing to pick from')
  }

  #fail(reason: string): never {
    throw new WalkFailure(reason, this.#seed, this.#log)
  }
}
