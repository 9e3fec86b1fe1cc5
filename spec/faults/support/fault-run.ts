/**
 * One run of a fault: a key prefix on a server, worker processes that may be killed, a producer that keeps account of what
 * was acknowledged, and the facts of all of them. Signals only the processes that it started, and leaves none behind.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { Cluster, Redis } from 'ioredis'
import { RedisTaskBackend, StorageUnavailableError } from '../../../lib/index.ts'
import type { RedisBackendOptions, TaskOptions, WorkerOptions } from '../../../lib/index.ts'
import { Keys, rootOf } from '../../../lib/storage/redis/keys.ts'
import { shardOf } from '../../../lib/storage/sharded/shards.ts'
import { isDamaged } from '../../../lib/storage/stored-record.ts'
import type { NewRecord, StoredRecord } from '../../../lib/storage/stored-record.ts'
import { eventually } from '../../support/eventually.ts'
import type { RedisCluster } from '../../support/redis-cluster.ts'
import { startRedisServer } from '../../support/redis-server.ts'
import type { RedisServer, RedisServerOptions } from '../../support/redis-server.ts'
import { Effects } from './effects.ts'
import type { EffectsAt } from './effects.ts'
import { serverFigures, togetherOf } from './figures.ts'
import { allOf, invariantsOf } from './invariants.ts'
import { PATIENCE_MS, randomOf } from './rows.ts'
import { Verdict } from './verdict.ts'

export { NIGHTLY, sized } from './rows.ts'

/** Arguments for so many records: how long each runs. */
export const lists = (count: number, ms: number): number[][] => Array.from({ length: count }, () => [ms])

/** What a worker process is told; it has to travel as JSON. */
export interface ChildOrders {
  readonly factsFile: string
  /** Where its tasks leave their effects. */
  readonly effects?: EffectsAt
  /** What it is: a worker (several beside each other), a web process that runs due tasks itself, or one with the endpoints. */
  readonly kind?: 'worker' | 'processTasks' | 'router'
  readonly workers?: number
  /** It collects its garbage every few seconds, so that the memory that it takes is what it holds. */
  readonly collectsGarbage?: boolean
  /** The worker runs in a thread of the process. */
  readonly inThread?: boolean
  /** Its clock is off by so much. */
  readonly clockOffMs?: number
  /** A package name: the client that it hands to its backend. */
  readonly driver?: 'ioredis' | 'ioredis6' | 'iovalkey'
  /** How long its `held` tasks run, and its `flaky` ones before they fail. */
  readonly heldMs?: number
  /** Says under which token each attempt began. */
  readonly tellTokens?: boolean
  readonly backend: Pick<
    RedisBackendOptions,
    'redisUrl' | 'keyPrefix' | 'claimTimeoutSeconds' | 'blockTimeoutMs' | 'completedTaskTtlSeconds' | 'shards'
  > & {
    /** Nodes of a cluster, in place of an URL. */
    readonly cluster?: readonly { readonly host: string; readonly port: number }[]
  }
  readonly worker: Omit<WorkerOptions, 'logger'>
  /** The tasks that it knows; all when left out. */
  readonly tasks?: readonly string[]
  readonly taskOptions?: Readonly<Record<string, Pick<TaskOptions, 'timeoutMs' | 'retry'>>>
  /** Where it kills itself: at the n-th call of a verb of the storage. */
  readonly dieAt?: { readonly verb: string; readonly call: number; readonly when: 'before' | 'sent' | 'after' }
}

interface FactOf {
  readonly pid: number
  /** Epoch milliseconds of the one machine that all processes run on. */
  readonly at: number
}

export type Fact = FactOf &
  (
    | { readonly fact: 'ready'; readonly workerId: string; readonly port?: number }
    | { readonly fact: 'token'; readonly id: string; readonly token: string }
    | {
        readonly fact: 'begun'
        readonly id: string
        readonly name: string
        readonly attempt: number
        readonly fence: number
      }
    | { readonly fact: 'aborted'; readonly id: string; readonly attempt: number; readonly code: string }
    | {
        readonly fact: 'settled'
        readonly id: string
        readonly attempt: number
        readonly outcome: 'SUCCESSFUL' | 'FAILED' | 'READY'
        readonly word: 'SETTLED' | 'LOST' | 'BROKEN'
      }
    | { readonly fact: 'error'; readonly text: string }
    /** A command on the client that the caller handed in. */
    | { readonly fact: 'theirs'; readonly command: string }
    | { readonly fact: 'dies'; readonly verb: string }
    | { readonly fact: 'stopped'; readonly handedBack: number }
  )

export type FactNamed<Name extends Fact['fact']> = Extract<Fact, { fact: Name }>

export interface FaultRunOptions {
  readonly claimTimeoutSeconds?: number
  readonly claimIntervalSeconds?: number
  readonly blockTimeoutMs?: number
  readonly concurrency?: number
  readonly server?: RedisServerOptions
  /** In place of a server of its own; whoever started it stops it. */
  readonly cluster?: RedisCluster
  readonly shards?: number
}

/** The lines that a process has written so far, each read once. */
class FactFile {
  readonly #path: string
  readonly #facts: Fact[] = []
  readonly #buffer = Buffer.alloc(65_536)
  #file: number | undefined
  #position = 0
  #rest = ''

  constructor(path: string) {
    this.#path = path
  }

  read(): readonly Fact[] {
    this.#file ??= openSync(this.#path, 'a+')
    for (;;) {
      const length = readSync(this.#file, this.#buffer, 0, this.#buffer.length, this.#position)
      if (length === 0) return this.#facts
      this.#position += length
      const lines = (this.#rest + this.#buffer.toString('latin1', 0, length)).split('\n')
      this.#rest = lines.pop() ?? ''
      for (const line of lines) this.#facts.push(JSON.parse(line) as Fact)
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }
}

/** As many as one call of the storage takes. */
const BATCH = 1_000

const CHILD = fileURLToPath(new URL('./worker-child.mjs', import.meta.url))
const THREADED_CHILD = fileURLToPath(new URL('./threaded-child.mjs', import.meta.url))
const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export class WorkerProcess {
  readonly child: ChildProcess
  readonly #ended: Promise<unknown>
  /** The run ended it; every other end is one too many. */
  expectedEnd = false
  readonly #file: FactFile
  readonly #spawnedAt = Date.now()
  #output = ''

  constructor(orders: ChildOrders) {
    this.#file = new FactFile(orders.factsFile)
    const file = orders.inThread ? THREADED_CHILD : CHILD
    this.child = spawn(process.execPath, [file, JSON.stringify(orders)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    running.add(this.child)
    this.#ended = once(this.child, 'exit').finally(() => running.delete(this.child))
    this.child.stderr
      ?.setEncoding('utf8')
      .on('data', (text: string) => (this.#output = (this.#output + text).slice(-4_000)))
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`expected a worker process to start, got: ${this.#output}`)
    return this.child.pid
  }

  /** What it said so far. */
  get facts(): readonly Fact[] {
    return this.#file.read()
  }

  /** Where it listens, for one with the endpoints. */
  get port(): number {
    return this.facts.find((fact) => fact.fact === 'ready')?.port ?? NaN
  }

  get hasBegun(): boolean {
    return this.facts.some(({ fact }) => fact === 'begun')
  }

  get isReady(): boolean {
    return this.readyAt !== undefined
  }

  /** Epoch milliseconds; undefined while it starts. */
  get readyAt(): number | undefined {
    return this.facts.find(({ fact }) => fact === 'ready')?.at
  }

  /** How long its start took; 0 for one that never got so far. */
  get startMs(): number {
    return (this.readyAt ?? this.#spawnedAt) - this.#spawnedAt
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  get unplannedEnd(): string | undefined {
    if (!this.hasEnded || this.expectedEnd) return undefined
    return `${this.pid} ended with ${this.child.exitCode ?? this.child.signalCode}: ${this.#output}`
  }

  /** SIGKILL and SIGTERM resolve when it has ended. */
  async signal(name: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    const ends = name === 'SIGKILL' || name === 'SIGTERM'
    if (ends) this.expectedEnd = true
    this.child.kill(name)
    if (ends) await this.ended()
  }

  async ended(): Promise<void> {
    await this.#ended
  }

  close(): void {
    this.#file.close()
  }
}

export class FaultRun implements AsyncDisposable {
  readonly server: RedisServer
  readonly redis: Redis
  readonly keyPrefix = `fault-${randomUUID()}`
  readonly keys = new Keys(rootOf(this.keyPrefix, 'default'))
  readonly options: Required<Omit<FaultRunOptions, 'server' | 'cluster' | 'shards'>>
  readonly workers: WorkerProcess[] = []
  /** Acknowledged, refused for sure, and those whose outcome is unknown. */
  readonly acknowledged = new Set<string>()
  readonly unsure = new Set<string>()
  readonly kills: { readonly pid: number; readonly at: number }[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), 'express-tasks-faults-'))
  readonly #backends: RedisTaskBackend[] = []
  #backend: RedisTaskBackend | undefined
  readonly #startedAt = performance.now()
  #spawned = 0

  /** Follows from the seed. */
  readonly random = randomOf('run')
  readonly effects: Effects
  readonly #cluster: RedisCluster | undefined
  readonly #shards: number
  readonly #pingP99Ms: number
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 })

  private constructor(
    server: RedisServer,
    redis: Redis,
    options: FaultRunOptions,
    { pingP99Ms, effects }: { pingP99Ms: number; effects: Effects },
  ) {
    this.server = server
    this.redis = redis
    this.effects = effects
    this.#cluster = options.cluster
    this.#shards = options.shards ?? 1
    this.#pingP99Ms = pingP99Ms
    this.#loopDelay.enable()
    this.options = {
      claimTimeoutSeconds: options.claimTimeoutSeconds ?? 2,
      claimIntervalSeconds: options.claimIntervalSeconds ?? 0.5,
      blockTimeoutMs: options.blockTimeoutMs ?? 500,
      concurrency: options.concurrency ?? 10,
    }
  }

  /** On a server of its own, which the run may kill. */
  static async start(options: FaultRunOptions = {}): Promise<FaultRun> {
    const server = options.cluster?.masters[0]?.server ?? (await startRedisServer(options.server))
    const redis = new Redis(server.url, { maxRetriesPerRequest: null })
    redis.on('error', () => {
      // The server goes away on purpose; the client comes back with it.
    })
    const effects = await Effects.open(`effects-${randomUUID()}`)
    return new FaultRun(server, redis, options, { pingP99Ms: await pingP99Ms(redis), effects })
  }

  /**
   * Time limits are multiplied by it: how much slower this machine is than an idle one, by how long a PING took before the
   * run and how late a timer of 10 ms was so far, each at p99.
   */
  get calibration(): number {
    return Math.max(1, this.#pingP99Ms / 2, this.#loopDelay.percentile(99) / 1e6 / 25)
  }

  /** How late a timer of this process was, at p99 and at most, in milliseconds. */
  get eventLoopDelayMs(): { readonly p99: number; readonly max: number } {
    const ms = (nanoseconds: number): number => Math.round(nanoseconds / 1e6)
    return { p99: ms(this.#loopDelay.percentile(99)), max: ms(this.#loopDelay.max) }
  }

  /** Milliseconds since the run began. */
  get wallMs(): number {
    return performance.now() - this.#startedAt
  }

  /** Within this time an orphan begins again: lease, claim interval with its jitter, and two seconds. */
  get recoveryLimitMs(): number {
    const { claimTimeoutSeconds, claimIntervalSeconds } = this.options
    return (claimTimeoutSeconds + 1.25 * claimIntervalSeconds + 2) * 1_000 * this.calibration
  }

  /** The settings of every backend of this run; `redisUrl` may be a proxy's. */
  backendOptions(redisUrl = this.server.url): ChildOrders['backend'] {
    const { claimTimeoutSeconds, blockTimeoutMs } = this.options
    const cluster = this.#cluster?.startNodes
    const where = cluster ? { cluster } : { redisUrl }
    return { ...where, shards: this.#shards, keyPrefix: this.keyPrefix, claimTimeoutSeconds, blockTimeoutMs }
  }

  /** A backend in this process, closed with the run. */
  openBackend(redisUrl?: string): RedisTaskBackend {
    const { cluster, ...options } = this.backendOptions(redisUrl)
    const client = cluster && new Cluster([...cluster], { lazyConnect: true })
    const backend = new RedisTaskBackend({ ...options, ...(client && { client }), queues: [] })
    this.#backends.push(backend)
    return backend
  }

  /** The run's own, never through a proxy. */
  get backend(): RedisTaskBackend {
    return (this.#backend ??= this.openBackend())
  }

  /** Starts a worker process; resolves when it takes tasks. */
  async spawn(orders: Partial<Omit<ChildOrders, 'factsFile'>> = {}): Promise<WorkerProcess> {
    const worker = this.spawnNow(orders)
    await eventually(() => worker.hasEnded || worker.isReady, {
      timeoutMs: 60_000,
      message: 'a worker process does not start',
    })
    if (worker.unplannedEnd !== undefined) throw new Error(worker.unplannedEnd)
    return worker
  }

  spawnNow(orders: Partial<Omit<ChildOrders, 'factsFile'>> = {}): WorkerProcess {
    const { claimIntervalSeconds, concurrency } = this.options
    this.#spawned += 1
    const worker = new WorkerProcess({
      effects: this.effects.at,
      ...orders,
      factsFile: join(this.#folder, `${this.#spawned}.jsonl`),
      backend: { ...this.backendOptions(), ...orders.backend },
      worker: { claimIntervalSeconds, concurrency, intervalSeconds: 0.5, drainTimeoutSeconds: 5, ...orders.worker },
    })
    this.workers.push(worker)
    return worker
  }

  async kill(worker: WorkerProcess): Promise<void> {
    this.kills.push({ pid: worker.pid, at: Date.now() })
    await worker.signal('SIGKILL')
  }

  /** Stores records and keeps account of the answers; a batch whose outcome is unknown is noted, and ends the call. */
  async enqueue(fields: Partial<NewRecord>, lists: readonly (readonly unknown[])[]): Promise<string[]> {
    const records = lists.map((args): NewRecord => ({
      ...{ id: randomUUID(), name: 'work', queueName: 'default', priority: 0, runAfter: null },
      ...fields,
      args: JSON.stringify(args),
    }))
    for (let start = 0; start < records.length; start += BATCH) await this.#enqueue(records.slice(start, start + BATCH))
    return records.map(({ id }) => id)
  }

  async #enqueue(batch: readonly NewRecord[]): Promise<void> {
    try {
      await this.backend.storage.enqueue(batch)
      for (const { id } of batch) this.acknowledged.add(id)
    } catch (error) {
      if (!(error instanceof StorageUnavailableError)) throw error
      for (const { id } of batch) this.unsure.add(id)
      throw error
    }
  }

  /** Everything that every worker process said, in the order of time. */
  facts(): Fact[]
  facts<Name extends Fact['fact']>(name: Name): FactNamed<Name>[]
  facts(name?: string): Fact[] {
    return this.workers
      .flatMap(({ facts }) => facts.filter(({ fact }) => name === undefined || fact === name))
      .sort((one, other) => one.at - other.at)
  }

  async record(id: string): Promise<StoredRecord> {
    const [record] = await this.backend.storage.find([id])
    if (!record || isDamaged(record))
      throw new Error(`expected record ${id} to be there, got: ${record?.damage ?? 'none'}`)
    return record
  }

  async counts(): Promise<Record<string, number>> {
    return await this.backend.records.filter({}).countBy('status')
  }

  /** Resolves when every record has an outcome. */
  async drained(timeoutMs = 60_000): Promise<void> {
    await eventually(
      async () => {
        const { READY = 0, RUNNING = 0 } = await this.counts()
        return READY + RUNNING === 0
      },
      { timeoutMs: Math.min(timeoutMs * this.calibration, PATIENCE_MS), message: 'the queues do not drain' },
    )
  }

  async stopWorkers(): Promise<void> {
    for (const worker of this.workers) if (!worker.hasEnded) await worker.signal('SIGTERM')
  }

  /** Stops the workers that are left, and judges what they and the server say. */
  async verdict(): Promise<Verdict> {
    await this.stopWorkers()
    const facts = this.facts()
    const ids = new Set([...this.acknowledged, ...this.unsure])
    for (const fact of facts) if (fact.fact === 'begun') ids.add(fact.id)
    const places = await this.#places([...ids])
    return new Verdict({
      run: this,
      facts,
      figures: togetherOf(await Promise.all(places.map(({ redis, keys, part }) => serverFigures(redis, keys, part)))),
      effects: await this.effects.values(),
      keyspace: allOf(await Promise.all(places.map(({ redis, keys }) => invariantsOf(redis, keys.root)))),
      unplanned: this.workers.flatMap(({ unplannedEnd }) => unplannedEnd ?? []),
      wallMs: this.wallMs,
    })
  }

  /** Where the records of each shard are now, and which of these ids are there. */
  async #places(ids: readonly string[]): Promise<{ redis: Redis; keys: Keys; part: string[] }[]> {
    return await Promise.all(
      Array.from({ length: this.#shards }, async (_, shard) => {
        const keys = this.#shards === 1 ? this.keys : new Keys(rootOf(this.keyPrefix, 'default', shard))
        const node = await this.#cluster?.slotOf(keys.leases).then((slot) => this.#cluster?.ownerOf(slot))
        const part = ids.filter((id) => shardOf(id, this.#shards) === shard)
        return { redis: node?.redis ?? this.redis, keys, part }
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.workers) {
      if (!worker.hasEnded) await worker.signal('SIGKILL')
      worker.close()
    }
    for (const backend of this.#backends) await backend.close()
    await this.effects.close()
    this.#loopDelay.disable()
    this.redis.disconnect()
    if (!this.#cluster) await this.server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function pingP99Ms(redis: Redis): Promise<number> {
  const times: number[] = []
  for (let count = 0; count < 300; count += 1) {
    const startedAt = performance.now()
    await redis.ping()
    times.push(performance.now() - startedAt)
  }
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0
}
