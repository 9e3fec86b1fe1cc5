/**
 * ThreadedLeases: main's side of the thread that renews leases (lease-thread.ts). Starts it, at the first lease at the latest, tells it
 * what to keep, hears what was lost, and starts another when it dies. Renews nothing itself.
 */
import { existsSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { lossOf } from '../lease-keeper.ts'
import type { HeldLease, Leases } from '../lease-keeper.ts'
import type { Logger } from '../logger.ts'
import type { Lease } from '../storage/storage.ts'
import type { ServerSettings } from '../storage/redis/redis-client.ts'

export interface LeaseThreadData {
  readonly server: ServerSettings
  readonly keyPrefix: string
  readonly alias: string
  readonly consumerGroup: string
  readonly shards: number
  readonly consumer: string
  readonly leaseMs: number
}

export interface ToLeaseThread {
  readonly hold: readonly Omit<HeldLease, 'lose'>[]
  readonly release: readonly Lease[]
  readonly stop: boolean
}

export type FromLeaseThread =
  /** The first message of each. */
  | { readonly ready: true }
  | { readonly lost: Lease; readonly word: 'LOST' | 'CANCELLED' }
  /** `sentAtMs`: the monotonic time before the renewal was sent. */
  | { readonly renewed: readonly Lease[]; readonly sentAtMs: number }
  | { readonly log: keyof Logger; readonly facts: object; readonly message: string }

/** The built file also where this one runs as TypeScript: a thread starts without the loader of the thread that made it. */
function threadFile(): URL {
  const beside = new URL('./lease-thread.js', import.meta.url)
  return existsSync(beside) ? beside : new URL('../../dist/backends/lease-thread.js', import.meta.url)
}

const FIRST_RESTART_MS = 100
const LAST_RESTART_MS = 5_000

const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

export class ThreadedLeases implements Leases {
  readonly #data: LeaseThreadData
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

  constructor(data: LeaseThreadData, logger: Logger) {
    this.#data = data
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
    // Without a thread all of them go to the next one when it starts.
    if (this.#restart === undefined) this.#post(leases)
  }

  /** Told with the next message: a lease renewed once more after its settle only answers LOST. */
  release(leases: readonly Lease[]): void {
    for (const lease of leases) this.#held.delete(keyOf(lease))
    this.#released.push(...leases)
    this.#flushing ??= setImmediate(() => this.#post([]))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearImmediate(this.#flushing)
    clearTimeout(this.#restart)
    this.#held.clear()
    const thread = this.#thread
    if (!thread) return
    this.#thread = undefined
    const ended = new Promise<void>((resolve) => thread.once('exit', () => resolve()))
    thread.postMessage({ hold: [], release: [], stop: true } satisfies ToLeaseThread)
    await ended
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
    } else if ('log' in message) {
      this.#logger[message.log](message.facts, message.message)
    }
  }

  #noteRenewed(key: string, sentAtMs: number): void {
    const held = this.#held.get(key)
    if (held) this.#held.set(key, { ...held, sentAtMs })
  }
}

function withoutLose({ lease, sentAtMs, stopAtMs }: HeldLease): Omit<HeldLease, 'lose'> {
  return { lease, sentAtMs, stopAtMs }
}
