/**
 * The worker threads of one command: starts them, hands out what --max-tasks allows, starts a thread anew that ended by itself,
 * and stops them within a deadline. Runs nothing and prints nothing itself.
 */
import { systemClock } from '../clock.ts'
import type { Timer } from '../clock.ts'
import { TaskImportError } from '../errors.ts'
import type { LogLevel } from '../logger.ts'
import { EXIT, failureOf, linesOf } from './failure.ts'
import type { Failure } from './failure.ts'
import { IMPORT_TIMEOUT_MS, ThreadHandle } from './thread-handle.ts'
import type { RunningTask } from './thread-handle.ts'
import type {
  DoneMessage,
  Orphans,
  Place,
  ReadyMessage,
  SettledItem,
  ThreadMessage,
  WorkSettings,
} from './thread-messages.ts'
import { failureAtStart, handBackFromOutside } from './thread-start.ts'

/** What a thread may take to hand back and close, past the drain time; then it is ended from outside. */
const GRACE_MS = 600
/** What ending a thread from outside may take: a native call cannot be interrupted. */
const TERMINATE_MS = 300
const FIRST_RESPAWN_MS = 250
const LAST_RESPAWN_MS = 30_000
/** A thread that lived for so long begins with the first delay again. */
const HEALTHY_AFTER_MS = 60_000

export interface PoolOptions {
  readonly place: Place
  readonly settings: WorkSettings
  readonly workers: number
  /** 0 = no limit. */
  readonly maxTasks: number
}

/** What the pool tells whoever started it. */
export interface PoolListener {
  /** The first thread is connected. */
  ready(facts: ReadyMessage): void
  settled(item: SettledItem): void
  log(level: LogLevel, facts: Record<string, unknown>, message: string): void
  /** Once a change, whatever the number of threads. */
  storage(isUp: boolean, reason: string): void
  /** A thread ended by itself, or had to be ended. */
  died(thread: DeadThread): void
}

export interface DeadThread {
  readonly index: number
  readonly exitCode: number
  /** A task blocked it past the task's own time limit. */
  readonly wasBlocked: boolean
  /** What it threw, as lines. */
  readonly details: readonly string[]
  readonly ran: readonly RunningTask[]
  /** When another takes its place; null where --max-tasks leaves it nothing to do. */
  readonly respawnMs: number | null
}

export interface Outcome {
  readonly reason: DoneMessage['reason'] | 'failed'
  readonly failure: Failure | undefined
  readonly handedBack: number
  /** Cut off, and not handed back: taken over when their leases run out. */
  readonly abandoned: number
  readonly delayed: DoneMessage['delayed']
  readonly begun: number
}

export class WorkerPool {
  readonly #options: PoolOptions
  readonly #listener: PoolListener
  readonly #threads = new Set<ThreadHandle>()
  readonly #respawns = new Set<Timer>()
  /** Hand-backs from outside that are under way. */
  readonly #handBacks = new Set<Promise<void>>()
  /** Deaths of each place in a row. */
  readonly #deaths = new Map<number, number>()
  /** Those whose storage is away. */
  readonly #away = new Set<ThreadHandle>()
  #saidAway = false
  readonly #ended: Promise<void>
  #end: () => void = () => {}
  /** Tasks that nobody was granted yet. */
  #left: number
  #isReady = false
  #isStopping = false
  #deadline: { readonly timer: Timer; readonly atMs: number } | undefined
  #failure: Failure | undefined
  #reason: DoneMessage['reason'] = 'idle'
  #delayed: DoneMessage['delayed'] = null
  #handedBack = 0
  #abandoned = 0
  #begun = 0

  constructor(options: PoolOptions, listener: PoolListener) {
    this.#options = options
    this.#listener = listener
    this.#left = options.maxTasks === 0 ? Infinity : options.maxTasks
    this.#ended = new Promise((resolve) => (this.#end = resolve))
  }

  /** What runs now, the longest first. */
  get running(): RunningTask[] {
    return [...this.#threads].flatMap(({ running }) => running).sort((a, b) => a.sinceMs - b.sinceMs)
  }

  /** Starts the threads, the first one alone: what is wrong with the user's files is said once. Resolves when all have ended. */
  async run(): Promise<Outcome> {
    this.#spawn(0, this.#size)
    await this.#ended
    return {
      reason: this.#failure ? 'failed' : this.#isStopping ? 'stopped' : this.#reason,
      failure: this.#failure,
      handedBack: this.#handedBack,
      abandoned: this.#abandoned,
      delayed: this.#delayed,
      begun: this.#begun,
    }
  }

  /** Takes no more, and ends within the time given (and a moment for handing back). Called again, the shorter time holds. */
  stop(drainTimeoutSeconds: number): void {
    this.#isStopping = true
    for (const timer of this.#respawns) systemClock.clearTimeout(timer)
    this.#respawns.clear()
    for (const thread of this.#threads) {
      // Nothing has begun there, and its import may hear nothing.
      if (thread.state === 'starting') void thread.terminate()
      else thread.tell({ type: 'stop', drainTimeoutSeconds })
    }
    const inMs = drainTimeoutSeconds * 1_000 + GRACE_MS
    const atMs = systemClock.monotonicMs() + inMs
    if (!this.#deadline || this.#deadline.atMs > atMs) {
      if (this.#deadline) systemClock.clearTimeout(this.#deadline.timer)
      this.#deadline = { atMs, timer: systemClock.setTimeout(() => this.#inBackground(this.#cutOff()), inMs) }
    }
    this.#endIfOver()
  }

  /** No more threads than tasks. */
  get #size(): number {
    return Math.min(this.#options.workers, this.#options.maxTasks === 0 ? Infinity : this.#options.maxTasks)
  }

  #spawn(index: number, sharers: number): void {
    const { place, settings } = this.#options
    const granted = this.#left === Infinity ? null : this.#share(sharers)
    const thread = new ThreadHandle(index, { role: 'work', place, settings, granted })
    this.#threads.add(thread)
    thread
      .on('message', (message) => this.#heard(thread, message))
      .on('importStuck', (file) => {
        const reason = `no end within ${IMPORT_TIMEOUT_MS / 1_000} s`
        this.#failed(
          thread,
          failureOf(new TaskImportError(file, reason, 'look for a loop, or an await that nothing settles')),
        )
      })
      .on('exit', (code) => this.#exited(thread, code))
  }

  /** A part of what is left, so that no thread sits on more than its share. */
  #share(sharers: number): number {
    const share = Math.ceil(this.#left / sharers)
    this.#left -= share
    return share
  }

  #heard(thread: ThreadHandle, message: ThreadMessage): void {
    switch (message.type) {
      case 'ready':
        this.#storage(thread, true, '')
        if (!this.#isReady) this.#firstIsReady(message)
        break
      case 'failed':
        // Once the command is up, an outage is waited out: the thread ends, and another takes its place.
        if (!this.#isReady || message.failure.exitCode !== EXIT.unreachable) this.#failed(thread, message.failure)
        break
      case 'log':
        this.#listener.log(message.level, message.facts, message.message)
        break
      case 'started':
        this.#begun += 1
        break
      case 'settled':
        for (const item of message.items) this.#listener.settled(item)
        break
      case 'storage':
        this.#storage(thread, message.isUp, message.reason)
        break
      case 'more':
        thread.granted = this.#isStopping ? 0 : this.#share(this.#size)
        thread.tell({ type: 'grant', maxTasks: thread.granted })
        break
      case 'done':
        this.#done(thread, message)
        break
      default:
        break
    }
  }

  #firstIsReady(message: ReadyMessage): void {
    this.#isReady = true
    this.#listener.ready(message)
    if (this.#isStopping) return
    for (let index = 1; index < this.#size; index += 1) this.#spawn(index, this.#size - index)
  }

  #done(thread: ThreadHandle, { reason, handedBack, delayed }: DoneMessage): void {
    this.#reason = reason
    this.#delayed = delayed ?? this.#delayed
    this.#handedBack += handedBack
    if (reason === 'stopped') this.#abandoned += Math.max(0, thread.running.length - handedBack)
  }

  #storage(thread: ThreadHandle, isUp: boolean, reason: string): void {
    if (isUp) this.#away.delete(thread)
    else this.#away.add(thread)
    const isAway = this.#away.size > 0
    if (isAway === this.#saidAway) return
    this.#saidAway = isAway
    this.#listener.storage(!isAway, reason)
  }

  // Ends

  #failed(thread: ThreadHandle, failure: Failure): void {
    this.#failure ??= failure
    const { state } = thread
    thread.state = 'done'
    if (state === 'starting') void thread.terminate()
    if (!this.#isStopping) this.stop(this.#options.settings.drainTimeoutSeconds)
  }

  #exited(thread: ThreadHandle, code: number): void {
    this.#threads.delete(thread)
    // It says nothing about the storage any more.
    this.#away.delete(thread)
    // `Infinity` is the grant of those that have no limit.
    if (thread.granted !== Infinity) this.#left += thread.granted
    if (thread.state === 'starting' && !this.#isReady && !this.#isStopping) {
      this.#failed(thread, failureAtStart(thread.importing, thread.thrown, code))
    } else if (thread.blockedWith) {
      this.#inBackground(this.#handBack([thread.blockedWith]).then(() => this.#replace(thread, code)))
    } else if (thread.state !== 'done') {
      this.#abandoned += this.#isStopping ? thread.running.length : 0
      this.#replace(thread, code)
    }
    this.#endIfOver()
  }

  #replace(thread: ThreadHandle, exitCode: number): void {
    if (this.#isStopping) return
    const { index, running, blockedWith, thrown } = thread
    const deaths = thread.livedMs >= HEALTHY_AFTER_MS ? 0 : (this.#deaths.get(index) ?? 0)
    this.#deaths.set(index, deaths + 1)
    const respawnMs = this.#left === 0 ? null : Math.min(FIRST_RESPAWN_MS * 2 ** deaths, LAST_RESPAWN_MS)
    const details = thrown ? linesOf(thrown.value) : []
    this.#listener.died({ index, exitCode, wasBlocked: blockedWith !== undefined, details, ran: running, respawnMs })
    if (respawnMs === null) return
    const timer = systemClock.setTimeout(() => {
      this.#respawns.delete(timer)
      this.#spawn(index, 1 + this.#respawns.size)
    }, respawnMs)
    this.#respawns.add(timer)
  }

  /** The deadline is over: threads that still live are blocked, and are ended from outside. */
  async #cutOff(): Promise<void> {
    const threads = [...this.#threads]
    const orphans = threads.filter(({ state }) => state !== 'done').map((thread) => thread.orphans)
    // They are no loss any more that `#exited` has to count.
    for (const thread of threads) thread.forget()
    const ended = Promise.all(threads.map((thread) => thread.terminate()))
    let timer: Timer | undefined
    const late = new Promise<void>((resolve) => (timer = systemClock.setTimeout(resolve, TERMINATE_MS)))
    await Promise.race([ended, late])
    if (timer) systemClock.clearTimeout(timer)
    await this.#handBack(orphans.map((each) => ({ ...each, overdue: [] })))
    // One that is in a native call ends with it, and then without having run on.
    this.#threads.clear()
  }

  async #handBack(orphans: readonly Orphans[]): Promise<void> {
    const all = orphans.reduce((total, { ids }) => total + ids.length, 0)
    if (all === 0) return
    const { count, settled } = await handBackFromOutside(this.#options.place, orphans)
    for (const item of settled) this.#listener.settled(item)
    if (!this.#isStopping) return
    this.#handedBack += count
    // The storage may have known of more than the threads had told.
    this.#abandoned += Math.max(0, all - count - settled.length)
  }

  #inBackground(work: Promise<void>): void {
    const done = work.finally(() => {
      this.#handBacks.delete(done)
      this.#endIfOver()
    })
    this.#handBacks.add(done)
  }

  #endIfOver(): void {
    if (this.#threads.size > 0 || this.#respawns.size > 0 || this.#handBacks.size > 0) return
    if (this.#deadline) systemClock.clearTimeout(this.#deadline.timer)
    this.#end()
  }
}
