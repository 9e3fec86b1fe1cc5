/**
 * ThreadedLeases: main's side of the thread that renews leases (lease-thread.ts). Starts it, at the first lease at the latest, tells it
 * what to keep, hears what was lost, and starts another when it dies. Renews nothing itself.
 */
import { existsSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { lossOf } from '../lease-keeper.ts'
import type { HeldLease, Leases } from '../lease-keeper.ts'
import type { Logger } from '../logger.ts'
import type { Heartbeat, Lease } from '../storage/storage.ts'
import type { ServerSettings } from '../storage/redis/redis-client.ts'
import { TICK_MS } from './block-watch.ts'
import type { Block } from './block-watch.ts'

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
}

export interface ToLeaseThread {
  readonly hold: readonly Omit<HeldLease, 'lose'>[]
  readonly release: readonly Lease[]
  readonly stop: boolean
  /** What the worker last said of itself. */
  readonly heartbeat?: Heartbeat['fields']
}

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

/** How long the longest block is told of. */
const REMEMBERED_MS = 600_000

const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

export class ThreadedLeases implements Leases {
  readonly #data: LeaseThreadData
  readonly #ticks = new Int32Array(new SharedArrayBuffer(4))
  #ticking: NodeJS.Timeout | undefined
  #heartbeat: Heartbeat['fields'] | undefined
  #longest: (Block & { readonly endedAt: number }) | undefined
  readonly #logger: Logger
  readonly #held = new Map<string, HeldLease>()
  #released: Lease[] = []
  #thread: Worker | undefined
  /** The thread listens, or has ended. */
  #opened: Promise<void> | undefined
  #flushing: NodeJS.Immediate | undefined
  #restart: NodeJS.Timeout | undefined
  #restartMs = 0
  #stopped = false

  constructor(data: Omit<LeaseThreadData, 'ticks'>, logger: Logger) {
    this.#data = { ...data, ticks: this.#ticks }
    this.#logger = logger
  }

  async start(): Promise<void> {
    if (this.#stopped || this.#restart !== undefined) return
    this.#thread ??= this.#open()
    await this.#opened
  }

  /** Told before a function is called: a function that blocks this loop cannot tell any more. */
  hold(leases: readonly HeldLease[]): void {
    for (const held of leases) this.#held.set(keyOf(held.lease), held)
    this.#tick()
    // Without a thread all of them go to the next one when it starts.
    if (this.#restart === undefined) this.#post(leases)
  }

  /** Told with the next message: a lease renewed once more after its settle only answers LOST. */
  release(leases: readonly Lease[]): void {
    for (const lease of leases) this.#held.delete(keyOf(lease))
    if (this.#held.size === 0) this.#stopTicking()
    this.#released.push(...leases)
    this.#flushing ??= setImmediate(() => this.#post([]))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearImmediate(this.#flushing)
    clearTimeout(this.#restart)
    this.#held.clear()
    this.#stopTicking()
    const thread = this.#thread
    if (!thread) return
    this.#thread = undefined
    const ended = new Promise<void>((resolve) => thread.once('exit', () => resolve()))
    thread.postMessage({ hold: [], release: [], stop: true } satisfies ToLeaseThread)
    await ended
  }

  noteHeartbeat(fields: Heartbeat['fields']): void {
    this.#heartbeat = fields
    this.#thread?.postMessage({ hold: [], release: [], stop: false, heartbeat: fields } satisfies ToLeaseThread)
  }

  get blockFields(): Heartbeat['fields'] {
    const longest = this.#longest
    if (!longest || systemClock.now() - longest.endedAt > REMEMBERED_MS) return {}
    const { ms, tasks, endedAt } = longest
    return { longestBlockMs: String(ms), longestBlockTasks: tasks.join(' '), longestBlockAt: String(endedAt) }
  }

  /** Now, and from time to time while something is in hand: by this the thread sees that this loop turns. */
  #tick(): void {
    Atomics.add(this.#ticks, 0, 1)
    this.#ticking ??= setInterval(() => Atomics.add(this.#ticks, 0, 1), TICK_MS)
  }

  #stopTicking(): void {
    clearInterval(this.#ticking)
    this.#ticking = undefined
  }

  #post(leases: readonly HeldLease[]): void {
    clearImmediate(this.#flushing)
    this.#flushing = undefined
    const release = this.#released
    this.#released = []
    if (this.#stopped || (leases.length === 0 && !this.#thread)) return
    const thread = (this.#thread ??= this.#open())
    thread.postMessage({ hold: leases.map(withoutLose), release, stop: false } satisfies ToLeaseThread)
  }

  #open(): Worker {
    // Without the loaders of the main thread it is there three times as fast; it needs none of them.
    const options = { workerData: this.#data, name: 'express-tasks-redis leases', execArgv: [] }
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
    const heartbeat = this.#heartbeat
    if (heartbeat) thread.postMessage({ hold: [], release: [], stop: false, heartbeat } satisfies ToLeaseThread)
    return thread
  }

  /** At once, but later each time when it ends before it has renewed anything: it may not be able to run at all. */
  #startAnother(): void {
    this.#restart = setTimeout(() => {
      this.#restart = undefined
      this.#post([...this.#held.values()])
    }, this.#restartMs)
    this.#restartMs = Math.min(Math.max(this.#restartMs * 2, FIRST_RESTART_MS), LAST_RESTART_MS)
  }

  #hear(message: FromLeaseThread): void {
    if ('lost' in message) {
      this.#held.get(keyOf(message.lost))?.lose(lossOf(message.lost, message.word))
    } else if ('renewed' in message) {
      this.#restartMs = 0
      // For the next thread, should this one die: a lease counts from its last renewal, not from its begin.
      for (const lease of message.renewed) this.#noteRenewed(keyOf(lease), message.sentAtMs)
    } else if ('block' in message) {
      this.#noteBlock(message.block)
    } else if ('log' in message) {
      this.#logger[message.log](message.facts, message.message)
    }
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
    if (held) this.#held.set(key, { ...held, sentAtMs })
  }
}

function withoutLose({ lease, name, sentAtMs, stopAtMs }: HeldLease): Omit<HeldLease, 'lose'> {
  return { lease, name, sentAtMs, stopAtMs }
}
