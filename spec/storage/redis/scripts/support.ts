/**
 * Runs one script on a real server: under a root of its own, and at a time that the spec sets.
 * A script reads the time in one line; that line alone is swapped for a key (`clock`, in µs). What a server keeps by its own
 * clock, how long a delivery has been idle, is moved along with it by `elapse`.
 */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { createHash, randomUUID } from 'node:crypto'
import { ARGS_FIELDS, cutArgs } from '../../../../lib/storage/redis/args-pieces.ts'
import { Keys, rootOf } from '../../../../lib/storage/redis/keys.ts'
import { BEGUN_COLUMNS } from '../../../../lib/storage/redis/delivery-rows.ts'
import { SCRIPT_NAMES, scriptOf } from '../../../../lib/storage/redis/scripts.ts'
import type { ScriptName } from '../../../../lib/storage/redis/scripts.ts'
import { BANDS } from '../../../../lib/storage/storage.ts'
import type { Band } from '../../../../lib/storage/storage.ts'
import { sharedRedisServer } from '../../../support/redis-server.ts'
import { difference, readKeyspace, violations } from '../keyspace.ts'
import type { Keyspace } from '../keyspace.ts'

/** The one line by which a script asks for the time. */
export const TIME_LINE = "local now = redis.call('TIME')"
/** What stands there in specs. It answers in the shape of TIME: two texts, seconds and microseconds. */
export const CLOCK_LINE = "local now = { string.match(redis.call('GET', ARGV[1] .. 'clock'), '^(%d+)(%d%d%d%d%d%d)$') }"

/** The text of a script as specs run it. */
export function withSpecClock(text: string): string {
  return text.replace(TIME_LINE, () => CLOCK_LINE)
}

export type ScriptTexts = ReadonlyMap<ScriptName, string>

/** Every script as it is shipped, but for the clock. */
export function scriptTexts(): ScriptTexts {
  return new Map(SCRIPT_NAMES.map((name) => [name, withSpecClock(scriptOf(name).text)]))
}

const AGE_DELIVERIES = `
  for i = 3, #ARGV do
    local pending = redis.pcall('XPENDING', ARGV[i], ARGV[1], '-', '+', 100000)
    for k = 1, pending.err and 0 or #pending do
      local row = pending[k]
      redis.call('XCLAIM', ARGV[i], ARGV[1], row[2], 0, row[1], 'IDLE', row[3] + ARGV[2], 'JUSTID')
    end
  end`

export const GROUP = 'express_tasks_workers'
export const START_MS = Date.UTC(2026, 0, 1)
/** The same, as scripts write it. */
export const NOW = String(START_MS)

export interface ScriptBenchOptions {
  readonly texts?: ScriptTexts
  /** '' is what a client without consumer groups gets. */
  readonly group?: string
}

type Argument = string | number

/** The scripts on one server, under one root. */
export class ScriptBench {
  readonly redis: Redis
  readonly keys: Keys
  readonly group: string
  /** Calls so far. */
  calls = 0
  #nowUs = START_MS * 1000
  readonly #texts: ScriptTexts
  readonly #shas = new Map<ScriptName, string>()

  constructor(url: string, { texts = scriptTexts(), group = GROUP }: ScriptBenchOptions = {}) {
    this.redis = new Redis(url)
    this.keys = new Keys(rootOf(`spec-${randomUUID()}`, 'default'))
    this.group = group
    this.#texts = texts
  }

  get nowMs(): number {
    return Math.floor(this.#nowUs / 1000)
  }

  get nowUs(): number {
    return this.#nowUs
  }

  async start(): Promise<this> {
    await this.#setClock(this.#nowUs)
    return this
  }

  close(): void {
    this.redis.disconnect()
  }

  /** Runs a script with `root, group` before the arguments, by its hash as the package does. */
  async run(name: ScriptName, ...args: readonly Argument[]): Promise<unknown> {
    this.calls += 1
    const text = this.text(name)
    let sha = this.#shas.get(name)
    if (sha === undefined) {
      sha = createHash('sha1').update(text).digest('hex')
      this.#shas.set(name, sha)
    }
    const words = [this.keys.leases, this.keys.root, this.group, ...args.map(String)]
    try {
      return await this.redis.evalsha(sha, 1, ...words)
    } catch (error) {
      if (!(error instanceof Error) || !error.message.includes('NOSCRIPT')) throw error
      return await this.redis.eval(text, 1, ...words)
    }
  }

  /** The script as this bench runs it. */
  text(name: ScriptName): string {
    const text = this.#texts.get(name)
    if (text === undefined) throw new Error(`expected the text of ${name}, got: none`)
    return text
  }

  /** Lets time pass, for the scripts and for deliveries. */
  async elapse(ms: number, streams: readonly string[] = this.streams('mail')): Promise<void> {
    await this.#setClock(this.#nowUs + ms * 1000)
    await this.redis.eval(AGE_DELIVERIES, 0, this.group, ms, ...streams)
  }

  /** The streams of queues, high to low. */
  streams(...queueNames: readonly string[]): string[] {
    return BANDS.flatMap((band) => queueNames.map((queueName) => this.keys.stream(queueName, band)))
  }

  stream(band: Band = 'normal', queueName = 'mail'): string {
    return this.keys.stream(queueName, band)
  }

  async keyspace(): Promise<Keyspace> {
    return await readKeyspace(this.redis, this.keys.root, this.group)
  }

  async #setClock(us: number): Promise<void> {
    this.#nowUs = us
    await this.redis.set(`${this.keys.root}clock`, String(us))
  }
}

/** A bench on the shared server. */
export async function openBench(options: ScriptBenchOptions = {}): Promise<ScriptBench> {
  return await new ScriptBench((await sharedRedisServer()).url, options).start()
}

/** A case with a bench of its own, for `it`. */
export function onBench(
  test: (bench: ScriptBench) => Promise<void>,
  options?: ScriptBenchOptions,
): () => Promise<void> {
  return async () => {
    const bench = await openBench(options)
    try {
      await test(bench)
    } finally {
      bench.close()
    }
  }
}

/** What a call changed under the root, fact by fact, and what it answered. */
export async function changesOf<Answer>(
  bench: ScriptBench,
  call: () => Promise<Answer>,
): Promise<{ answer: Answer; changes: Record<string, string> }> {
  const before = await bench.keyspace()
  const answer = await call()
  return { answer, changes: difference(before, await bench.keyspace()) }
}

/** A call that answers so, and changes nothing under the root. */
export async function expectUnchanged(
  bench: ScriptBench,
  call: () => Promise<unknown>,
  answer: unknown,
): Promise<void> {
  expect(await changesOf(bench, call)).to.deep.equal({ answer, changes: {} })
}

/** Nothing is wrong under the root. */
export async function expectWhole(bench: ScriptBench): Promise<void> {
  expect(violations(await bench.keyspace())).to.deep.equal([])
}

// What the scripts are given and answer, with everything filled in that a case does not care for.

export type Words = readonly string[]
export type Rows = readonly Words[]

export const ERROR = '{"name":"Error","message":"no","stack":""}'

/** Text that stands where a number should be. */
export const ODD_NUMBERS = [
  '',
  'x',
  'nan',
  'inf',
  '-1',
  '0x10',
  ' 5',
  '1.5',
  '1e400',
  '99999999999999999999',
  '9'.repeat(400),
]

export interface RecordFields {
  readonly id?: string
  readonly queueName?: string
  readonly name?: string
  readonly priority?: number
  readonly runAfter?: number | ''
  readonly args?: string
}

/** Arguments as save-record.lua takes them. */
export function argsWords(args: string): string[] {
  return cutArgs(args).flatMap((piece, index) => [ARGS_FIELDS[index] ?? '', piece])
}

/** A record as a run of its own, as enqueue.lua takes it. */
export function enqueueWords({
  id = 'a',
  queueName = 'mail',
  name = 'send',
  priority = 0,
  runAfter = '',
  args = '[]',
}: RecordFields): Argument[] {
  const pieces = cutArgs(args)
  return [queueName, name, priority, runAfter, pieces.length, 1, id, ...pieces]
}

export async function enqueue(bench: ScriptBench, ...records: readonly RecordFields[]): Promise<Words> {
  const reply = (await bench.run('enqueue', ...records.flatMap(enqueueWords))) as EnqueueReply
  return enqueueAnswers(records.length, reply)
}

export type EnqueueReply = [enqueuedAt: string, indexError: string, ...existing: number[]]

/** ENQUEUED enqueuedAt | EXISTS '' for each record, then an index error or nothing. */
export function enqueueAnswers(count: number, [enqueuedAt, indexError, ...existing]: EnqueueReply): Words {
  const answers = Array.from({ length: count }, (_, index) =>
    existing.includes(index + 1) ? ['EXISTS', ''] : ['ENQUEUED', enqueuedAt],
  )
  return [...answers.flat(), ...(indexError === '' ? [] : [indexError])]
}

export const LEASE_MS = 1_000

let calls = 0

/** consumer, call, leaseMs, workerId: a new call of a worker, whose holder is `<worker>-holder`. */
export function aClaim(worker = 'first', leaseMs = LEASE_MS): readonly [string, string, number, string] {
  calls += 1
  return [`${worker}.holder`, `${worker}-holder.${calls}`, leaseMs, worker]
}

export async function take(
  bench: ScriptBench,
  count: number,
  {
    claim = aClaim(),
    streams = bench.streams('mail'),
  }: { claim?: Words | ReturnType<typeof aClaim>; streams?: Words } = {},
): Promise<Rows> {
  return expandFirsts((await bench.run('take', ...claim, count, ...streams)) as Rows)
}

/** A FIRST row as a BEGUN row for each of its records; it ends at `runAfter`. */
export function expandFirsts(rows: Rows): Rows {
  return rows.flatMap((row) => {
    const [word, token = '', fence = '', leaseUntil = '', queueName = '', name = '', priority = ''] = row
    if (word !== 'FIRST') return [row]
    const [runAfter = '', ...words] = row.slice(7)
    return Array.from({ length: words.length / 5 }, (_, index) => {
      const [id = '', entryId = '', enqueuedAt = '', args = '', more = ''] = words.slice(index * 5, index * 5 + 5)
      const kind = [queueName, name, priority, enqueuedAt, args + more, runAfter]
      return ['BEGUN', id, entryId, token, fence, '1', leaseUntil, ...kind]
    })
  })
}

/** A BEGUN row by the names of its columns. What a first attempt's row leaves out is 0, or not known here. */
export function begunOf(row: Words | undefined): Record<(typeof BEGUN_COLUMNS)[number], string> {
  expect(row?.[0], JSON.stringify(row)).to.equal('BEGUN')
  const otherwise = (name: string): string => (name === 'crashes' || name === 'handBacks' ? '0' : '')
  return Object.fromEntries(BEGUN_COLUMNS.map((name, index) => [name, row?.[index] ?? otherwise(name)])) as Record<
    (typeof BEGUN_COLUMNS)[number],
    string
  >
}

/** Enqueues a record and takes it; every other queue entry must be gone before. */
export async function beginOne(
  bench: ScriptBench,
  fields: RecordFields = {},
  claim: ReturnType<typeof aClaim> = aClaim(),
): Promise<ReturnType<typeof begunOf>> {
  await enqueue(bench, fields)
  const streams = bench.streams(fields.queueName ?? 'mail')
  const rows = await take(bench, 1, { claim, streams })
  expect(rows).to.have.lengthOf(1)
  return begunOf(rows[0])
}

export interface SettleFields {
  readonly id: string
  readonly leaseToken: string
  readonly outcome?: 'SUCCESSFUL' | 'FAILED' | 'READY'
  readonly payload?: string
  readonly delayMs?: number
  readonly queueName?: string
  readonly name?: string
  readonly priority?: string
  readonly runAfter?: string
  readonly lastAttemptedAt?: string
  readonly fence?: string
}

export async function settle(bench: ScriptBench, ...items: readonly SettleFields[]): Promise<Words> {
  const reply = (await bench.run('settle', ...items.flatMap(settleWords))) as SettleReply
  return settleAnswers(items.length, reply)
}

/** An outcome as a run of its own, as settle-items.lua takes it. */
export function settleWords({
  id,
  leaseToken,
  outcome = 'SUCCESSFUL',
  payload,
  delayMs = 0,
  queueName = 'mail',
  name = 'send',
  priority = '0',
  runAfter = '',
  lastAttemptedAt = '',
  fence = `${NOW}000`,
}: SettleFields): Argument[] {
  const begunMs = lastAttemptedAt || String(Math.floor(Number(fence) / 1_000))
  const record = [queueName, name, priority, runAfter, begunMs]
  const own = payload ?? (outcome === 'SUCCESSFUL' ? 'null' : ERROR)
  return [leaseToken, outcome, delayMs, ...record, ...(own === 'null' ? [own, 1, id] : ['', 1, id, own])]
}

export type SettleReply = [indexError: string, ...refused: (number | string)[]]

/** SETTLED | LOST | BROKEN for each item, then an index error or nothing. */
export function settleAnswers(count: number, [indexError, ...refused]: SettleReply): Words {
  const answers = Array.from({ length: count }, (_, index) => {
    const at = refused.indexOf(index + 1)
    return at === -1 ? 'SETTLED' : String(refused[at + 1])
  })
  return [...answers, ...(indexError === '' ? [] : [indexError])]
}

/** Enqueues, takes and fails a record. */
export async function failOne(bench: ScriptBench, fields: RecordFields = {}): Promise<ReturnType<typeof begunOf>> {
  const begun = await beginOne(bench, fields)
  expect(await settle(bench, { ...begun, outcome: 'FAILED' })).to.deep.equal(['SETTLED'])
  return begun
}

/** A record of each state, its id the word for it: `ready`, `running`, `done`, `failed`; and `text`, a key that is no record. */
export async function oneOfEach(bench: ScriptBench): Promise<void> {
  await failOne(bench, { id: 'failed' })
  await settle(bench, await beginOne(bench, { id: 'done' }))
  await beginOne(bench, { id: 'running' })
  await enqueue(bench, { id: 'ready' })
  await spoil(bench, bench.keys.record('text'))
}

export async function recordOf(bench: ScriptBench, id = 'a'): Promise<Record<string, string>> {
  return await bench.redis.hgetall(bench.keys.record(id))
}

/** What a record with an outcome has no longer. */
export const LEASE_FIELDS = ['entryId', 'leaseToken', 'leaseUntil'] as const

/** Puts a text where another type belongs. */
export async function spoil(bench: ScriptBench, key: string): Promise<void> {
  await bench.redis.set(key, 'not what belongs here')
}
