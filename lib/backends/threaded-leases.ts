/**
 * ThreadedLeases: main's side of the thread that renews leases (lease-thread.ts). Starts it, at the first lease at the latest, writes
 * into a table what is to be kept, hears what was lost, and starts another when it dies. Renews nothing itself.
 * The thread looks at the table by its own timer, so an attempt costs no message. A task that ends before the next look is never
 * heard of.
 */
import { existsSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { lossOf, RENEW_AFTER } from '../lease-keeper.ts'
import type { HeldLease, Leases } from '../lease-keeper.ts'
import type { Logger } from '../logger.ts'
import type { ServerSettings } from '../storage/redis/redis-client.ts'
import type { Lease } from '../storage/storage.ts'
import { TurnoverMap } from '../turnover-map.ts'
import type { Block, PastBlock, WorkerReport } from '../worker-report.ts'
import { TICK_MS } from './block-watch.ts'
import { LeaseTable } from './lease-table.ts'
import type { LeasePage, LeaseSlot } from './lease-table.ts'

export interface LeaseThreadData {
  readonly server: ServerSettings
  readonly keyPrefix: string
  readonly alias: string
  readonly consumerGroup: string
  readonly shards: number
  readonly consumer: string
  readonly leaseMs: number
  /** One number, moved by the event loop that runs user code. */
  readonly ticks: Int32Array
  /** Of the table, as it is when the thread starts. */
  readonly pages: readonly LeasePage[]
  /** Between two looks at the table. */
  readonly lookMs: number
}

export type ToLeaseThread =
  /** At the table, now. */
  | { readonly look: true }
  /** Of the table too, from now on. */
  | { readonly page: LeasePage }
  /** What the worker last said of itself. */
  | { readonly report: WorkerReport }
  | { readonly stop: true }

export type FromLeaseThread =
  /** The first message of each. */
  | { readonly ready: true }
  | { readonly lost: Lease; readonly word: 'LOST' | 'CANCELLED' }
  /** `sentAtMs`: the monotonic time before the renewal was sent. */
  | { readonly renewed: readonly Lease[]; readonly sentAtMs: number }
  /** The event loop of the main thread turns again. */
  | { readonly block: Block }
  | { readonly log: keyof Logger; readonly facts: object; readonly message: string }

/** The built file also where this one runs as TypeScript: a thread starts without the loader of the thread that made it. */
function threadFile(): URL {
  const beside = new URL('./lease-thread.js', import.meta.url)
  return existsSync(beside) ? beside : new URL('../../dist/backends/lease-thread.js', import.meta.url)
}

const FIRST_RESTART_MS = 100
const LAST_RESTART_MS = 5_000

/** Of the thread's heap, in which next to nothing lasts: the default would let it grow to 16 MB before it clears up. */
const YOUNG_LIMIT = { maxYoungGenerationSizeMb: 2 }

/** How long the longest block is told of. */
const REMEMBERED_MS = 600_000

/** The part of a lease between two looks at the table: a renewal is due after three of them. At most as long as between two ticks. */
const LOOK_AFTER = 0.1

interface Held {
  lease: HeldLease
  readonly slot: LeaseSlot
  lost: boolean
}

const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

export class ThreadedLeases implements Leases {
  readonly #data: Omit<LeaseThreadData, 'pages'>
  readonly #lookMs: number
  readonly #table = new LeaseTable((page) => this.#thread?.postMessage({ page } satisfies ToLeaseThread))
  readonly #ticks = new Int32Array(new SharedArrayBuffer(4))
  #ticking: NodeJS.Timeout | undefined
  #report: WorkerReport | undefined
  #longest: PastBlock | undefined
  readonly #logger: Logger
  readonly #held = new TurnoverMap<string, Held>()
  #thread: Worker | undefined
  /** The thread listens, or has ended. */
  #opened: Promise<void> | undefined
  #restart: NodeJS.Timeout | undefined
  #restartMs = 0
  #stopped = false

  constructor(data: Omit<LeaseThreadData, 'ticks' | 'pages' | 'lookMs'>, logger: Logger) {
    this.#lookMs = Math.min(TICK_MS, data.leaseMs * LOOK_AFTER)
    this.#data = { ...data, ticks: this.#ticks, lookMs: this.#lookMs }
    this.#logger = logger
  }

  async start(): Promise<void> {
    if (this.#stopped || this.#restart !== undefined) return
    this.#thread ??= this.#open()
    await this.#opened
  }

  /** In the table before a function is called: a function that blocks this loop cannot tell any more. */
  hold(leases: readonly HeldLease[]): void {
    if (this.#stopped || leases.length === 0) return
    for (const lease of leases) this.#write(lease)
    this.#tick()
    // Without a thread all of them are there for the next one when it starts.
    if (this.#restart !== undefined) return
    this.#thread ??= this.#open()
    if (this.#isDueBeforeLook(leases)) this.#tell({ look: true })
  }

  /** The thread may renew such a lease once more; that only answers LOST, and nobody is told. */
  release(leases: readonly Lease[]): void {
    // Seen with the release: a block that these were in has ended.
    Atomics.add(this.#ticks, 0, 1)
    for (const lease of leases) {
      const key = keyOf(lease)
      const held = this.#held.get(key)
      if (!held) continue
      this.#held.delete(key)
      this.#table.remove(held.slot)
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#restart)
    this.#held.clear()
    this.#stopTicking()
    const thread = this.#thread
    if (!thread) return
    this.#thread = undefined
    const ended = new Promise<void>((resolve) => thread.once('exit', () => resolve()))
    thread.postMessage({ stop: true } satisfies ToLeaseThread)
    await ended
  }

  noteReport(report: WorkerReport): void {
    this.#report = report
    this.#tell({ report })
  }

  get longestBlock(): PastBlock | undefined {
    const longest = this.#longest
    return longest && systemClock.now() - longest.endedAt <= REMEMBERED_MS ? longest : undefined
  }

  #write(lease: HeldLease): void {
    const key = keyOf(lease.lease)
    const held = this.#held.get(key)
    if (!held) {
      this.#held.set(key, { lease, slot: this.#table.add(lease), lost: false })
      return
    }
    // It may have been renewed since.
    held.lease = { ...lease, sentAtMs: Math.max(lease.sentAtMs, held.lease.sentAtMs) }
    this.#table.change(held.slot, held.lease)
  }

  /** Their answer came late: they cannot wait for the next look. */
  #isDueBeforeLook(leases: readonly HeldLease[]): boolean {
    const dueMs = systemClock.monotonicMs() + this.#lookMs - this.#data.leaseMs * RENEW_AFTER
    return leases.some(({ sentAtMs }) => sentAtMs < dueMs)
  }

  #tell(message: ToLeaseThread): void {
    this.#thread?.postMessage(message)
  }

  /** Now, and from time to time while something is in hand: by this the thread sees that this loop turns. */
  #tick(): void {
    Atomics.add(this.#ticks, 0, 1)
    // Not stopped by the release of the last lease: between two short tasks nothing is in hand.
    this.#ticking ??= setInterval(() => {
      Atomics.add(this.#ticks, 0, 1)
      if (this.#held.size === 0) this.#stopTicking()
    }, TICK_MS)
  }

  #stopTicking(): void {
    clearInterval(this.#ticking)
    this.#ticking = undefined
  }

  #open(): Worker {
    // Without the loaders of the main thread it is there three times as fast; it needs none of them.
    const workerData = { ...this.#data, pages: this.#table.pages } satisfies LeaseThreadData
    const options = { workerData, name: 'express-tasks-redis leases', execArgv: [], resourceLimits: YOUNG_LIMIT }
    const thread = new Worker(threadFile(), options)
    this.#opened = new Promise((resolve) => {
      thread.once('message', () => resolve())
      thread.once('exit', () => resolve())
    })
    thread.on('message', (message: FromLeaseThread) => this.#hear(message))
    thread.on('error', (error) =>
      this.#logger.error({ error }, 'the thread that renews leases failed; another is started'),
    )
    thread.once('exit', () => {
      if (this.#thread !== thread) return
      this.#thread = undefined
      if (!this.#stopped && this.#held.size > 0) this.#startAnother()
    })
    const report = this.#report
    if (report) thread.postMessage({ report } satisfies ToLeaseThread)
    return thread
  }

  /** At once, but later each time when it ends before it has renewed anything: it may not be able to run at all. */
  #startAnother(): void {
    this.#restart = setTimeout(() => {
      this.#restart = undefined
      // A lease counts from its last renewal, not from its begin.
      for (const { slot, lease } of this.#held.values()) this.#table.change(slot, lease)
      this.#thread = this.#open()
    }, this.#restartMs)
    this.#restartMs = Math.min(Math.max(this.#restartMs * 2, FIRST_RESTART_MS), LAST_RESTART_MS)
  }

  #hear(message: FromLeaseThread): void {
    if ('lost' in message) {
      this.#lose(message.lost, message.word)
    } else if ('renewed' in message) {
      this.#restartMs = 0
      // For the next thread, should this one die.
      for (const lease of message.renewed) this.#noteRenewed(keyOf(lease), message.sentAtMs)
    } else if ('block' in message) {
      this.#noteBlock(message.block)
    } else if ('log' in message) {
      this.#logger[message.log](message.facts, message.message)
    }
  }

  /** Told once, also when another thread finds it lost again. Its token names it: what has its slot by now is another. */
  #lose(lease: Lease, word: 'LOST' | 'CANCELLED'): void {
    const held = this.#held.get(keyOf(lease))
    if (!held || held.lost) return
    held.lost = true
    held.lease.lose(lossOf(lease, word))
  }

  #noteBlock(block: Block): void {
    const endedAt = systemClock.now()
    const known = this.#longest
    if (!known || block.ms >= known.ms || endedAt - known.endedAt > REMEMBERED_MS) this.#longest = { ...block, endedAt }
    const message = 'a task held the event loop of this worker; its other tasks stood still meanwhile'
    this.#logger.warn({ blockedMs: block.ms, inHand: block.tasks }, message)
  }

  #noteRenewed(key: string, sentAtMs: number): void {
    const held = this.#held.get(key)
    if (held) held.lease = { ...held.lease, sentAtMs }
  }
}
