/**
 * The worker threads of one command: starts them, hands out what --max-tasks allows, starts a thread anew that ended by itself,
 * and stops them within a deadline. Keeps who runs what; runs nothing and prints nothing itself.
 */
import type { Worker as NodeWorker } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import type { Timer } from '../clock.ts'
import { TaskImportError } from '../errors.ts'
import { EXIT, failureOf, linesOf } from './failure.ts'
import type { Failure } from './failure.ts'
import type { LogLevel } from '../logger.ts'
import { failureAtStart, handBackFromOutside, startThread } from './thread-start.ts'
import type {
  DoneMessage,
  MainMessage,
  Orphans,
  Place,
  ReadyMessage,
  SettledItem,
  ThreadMessage,
  WorkSettings,
} from './thread-messages.ts'

/** An import that takes longer never ends. */
const IMPORT_TIMEOUT_MS = 60_000
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
  /** A thread ended by itself. */
  died(thread: DeadThread): void
}

export interface DeadThread {
  readonly index: number
  readonly exitCode: number
  /** What it threw, as lines. */
  readonly details: readonly string[]
  readonly ran: readonly RunningTask[]
  /** When another takes its place; null where --max-tasks leaves it nothing to do. */
  readonly respawnMs: number | null
}

export interface RunningTask {
  readonly id: string
  readonly name: string
  readonly sinceMs: number
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

interface Thread {
  readonly index: number
  readonly worker: NodeWorker
  readonly bornMs: number
  readonly running: Map<string, RunningTask>
  state: 'starting' | 'working' | 'done'
  workerId: string
  importing: string | undefined
  importTimer: Timer | undefined
  thrown: { readonly value: unknown } | undefined
  /** What is left of its grant. */
  granted: number
}

export class WorkerPool {
  readonly #options: PoolOptions
  readonly #listener: PoolListener
  readonly #threads = new Set<Thread>()
  readonly #respawns = new Map<Timer, number>()
  /** Deaths of each place in a row. */
  readonly #deaths = new Map<number, number>()
  /** Those whose storage is away. */
  readonly #away = new Set<Thread>()
  #saidAway = false
  readonly #ended: Promise<void>
  #end: () => void = () => {}
  /** Tasks that nobody was granted yet. */
  #left: number
  #isReady = false
  #isStopping = false
  #deadline: { readonly timer: Timer; readonly atMs: number } | undefined
  #cutting: Promise<void> | undefined
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
    return [...this.#threads].flatMap(({ running }) => [...running.values()]).sort((a, b) => a.sinceMs - b.sinceMs)
  }

  /** Starts the threads, the first one alone: what is wrong with the user's files is said once. Resolves when all have ended. */
  async run(): Promise<Outcome> {
    this.#spawn(0, this.#size)
    await this.#ended
    await this.#cutting
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
    for (const timer of this.#respawns.keys()) systemClock.clearTimeout(timer)
    this.#respawns.clear()
    for (const thread of this.#threads) {
      // Nothing has begun there, and its import may hear nothing.
      if (thread.state === 'starting') void thread.worker.terminate()
      else this.#tell(thread, { type: 'stop', drainTimeoutSeconds })
    }
    const inMs = drainTimeoutSeconds * 1_000 + GRACE_MS
    const atMs = systemClock.monotonicMs() + inMs
    if (this.#deadline && this.#deadline.atMs <= atMs) return
    if (this.#deadline) systemClock.clearTimeout(this.#deadline.timer)
    this.#deadline = { atMs, timer: systemClock.setTimeout(() => this.#cutOff(), inMs) }
    this.#endIfOver()
  }

  /** No more threads than tasks. */
  get #size(): number {
    return Math.min(this.#options.workers, this.#options.maxTasks === 0 ? Infinity : this.#options.maxTasks)
  }

  #spawn(index: number, sharers: number): void {
    const { place, settings } = this.#options
    const share = Math.ceil(this.#left / sharers)
    this.#left -= share === Infinity ? 0 : share
    const granted = share === Infinity ? null : share
    const thread: Thread = {
      ...{ index, worker: startThread({ role: 'work', place, settings, granted }), bornMs: systemClock.monotonicMs() },
      ...{ running: new Map(), state: 'starting', workerId: '', importing: undefined, importTimer: undefined },
      ...{ thrown: undefined, granted: share },
    }
    this.#threads.add(thread)
    thread.worker
      .on('message', (message: ThreadMessage) => this.#heard(thread, message))
      .on('error', (value: unknown) => (thread.thrown = { value }))
      .on('exit', (code) => this.#exited(thread, code))
  }

  #tell(thread: Thread, message: MainMessage): void {
    thread.worker.postMessage(message)
  }

  #heard(thread: Thread, message: ThreadMessage): void {
    switch (message.type) {
      case 'importing':
        this.#watchImport(thread, message.file)
        break
      case 'ready':
        this.#nowWorks(thread, message)
        break
      case 'failed':
        this.#clearImport(thread)
        // Once the command is up, an outage is waited out: the thread ends, and another takes its place.
        if (!this.#isReady || message.failure.exitCode !== EXIT.unreachable) this.#failed(message.failure, thread)
        break
      case 'log':
        this.#listener.log(message.level, message.facts, message.message)
        break
      case 'started':
        this.#begun += 1
        thread.granted -= 1
        thread.running.set(message.id, { id: message.id, name: message.name, sinceMs: systemClock.monotonicMs() })
        break
      case 'settled':
        for (const item of message.items) {
          thread.running.delete(item.id)
          this.#listener.settled(item)
        }
        // What was handed back, or lost, has no event of its own.
        if (message.running === 0) thread.running.clear()
        break
      case 'storage':
        this.#storage(thread, message.isUp, message.reason)
        break
      case 'more':
        this.#grant(thread)
        break
      case 'done':
        thread.state = 'done'
        this.#handedBack += message.handedBack
        if (message.reason === 'stopped') this.#abandoned += Math.max(0, thread.running.size - message.handedBack)
        thread.running.clear()
        this.#reason = message.reason
        this.#delayed = message.delayed ?? this.#delayed
        break
      case 'handed-back':
        break
    }
  }

  #nowWorks(thread: Thread, message: ReadyMessage): void {
    this.#clearImport(thread)
    thread.state = 'working'
    thread.workerId = message.workerId
    this.#storage(thread, true, '')
    if (this.#isReady) return
    this.#isReady = true
    this.#listener.ready(message)
    for (let index = 1; index < this.#size; index += 1) this.#spawn(index, this.#size - index)
  }

  /** A part of what is left, so that no thread sits on more than its share. */
  #grant(thread: Thread): void {
    const share = this.#isStopping ? 0 : Math.ceil(this.#left / this.#size)
    this.#left -= share
    thread.granted = share
    this.#tell(thread, { type: 'grant', maxTasks: share })
  }

  #storage(thread: Thread, isUp: boolean, reason: string): void {
    if (isUp) this.#away.delete(thread)
    else this.#away.add(thread)
    const isAway = this.#away.size > 0
    if (isAway === this.#saidAway) return
    this.#saidAway = isAway
    this.#listener.storage(!isAway, reason)
  }

  // Imports that never end

  #watchImport(thread: Thread, file: string): void {
    this.#clearImport(thread)
    thread.importing = file
    thread.importTimer = systemClock.setTimeout(() => {
      const reason = `no end within ${IMPORT_TIMEOUT_MS / 1_000} s`
      this.#failed(
        failureOf(new TaskImportError(file, reason, 'look for a loop, or an await that nothing settles')),
        thread,
      )
      void thread.worker.terminate()
    }, IMPORT_TIMEOUT_MS)
  }

  #clearImport(thread: Thread): void {
    if (thread.importTimer !== undefined) systemClock.clearTimeout(thread.importTimer)
    thread.importTimer = undefined
  }

  // Ends

  #failed(failure: Failure, thread: Thread): void {
    thread.state = 'done'
    this.#failure ??= failure
    if (!this.#isStopping) this.stop(this.#options.settings.drainTimeoutSeconds)
  }

  #exited(thread: Thread, code: number): void {
    this.#clearImport(thread)
    this.#threads.delete(thread)
    // It says nothing about the storage any more.
    this.#away.delete(thread)
    // `Infinity` is the grant of those that have no limit.
    if (thread.granted !== Infinity) this.#left += thread.granted
    if (thread.state === 'starting' && !this.#isReady && !this.#isStopping)
      this.#failed(failureAtStart(thread.importing, thread.thrown, code), thread)
    else if (thread.state !== 'done' && !this.#isStopping) this.#respawn(thread, code)
    else if (thread.state !== 'done') this.#abandoned += thread.running.size
    this.#endIfOver()
  }

  #respawn(thread: Thread, exitCode: number): void {
    const { index, running } = thread
    const livedMs = systemClock.monotonicMs() - thread.bornMs
    const deaths = livedMs >= HEALTHY_AFTER_MS ? 0 : (this.#deaths.get(index) ?? 0)
    this.#deaths.set(index, deaths + 1)
    const respawnMs = this.#left === 0 ? null : Math.min(FIRST_RESPAWN_MS * 2 ** deaths, LAST_RESPAWN_MS)
    const details = thread.thrown ? linesOf(thread.thrown.value) : []
    this.#listener.died({ index, exitCode, details, ran: [...running.values()], respawnMs })
    if (respawnMs === null) return
    const timer = systemClock.setTimeout(() => {
      this.#respawns.delete(timer)
      this.#spawn(index, 1 + this.#respawns.size)
    }, respawnMs)
    this.#respawns.set(timer, index)
  }

  #endIfOver(): void {
    if (this.#threads.size > 0 || this.#respawns.size > 0) return
    if (this.#deadline) systemClock.clearTimeout(this.#deadline.timer)
    this.#end()
  }

  /** The deadline is over: threads that still live are blocked, and are ended from outside. */
  #cutOff(): void {
    this.#cutting ??= this.#cut()
  }

  async #cut(): Promise<void> {
    const blocked = [...this.#threads].filter(({ state }) => state !== 'done')
    const orphans = blocked
      .map(({ workerId, running }) => ({ workerId, ids: [...running.keys()] }))
      .filter(({ ids }) => ids.length > 0)
    // They are no loss any more that `#exited` has to count.
    for (const thread of blocked) thread.running.clear()
    const ended = Promise.all([...this.#threads].map(({ worker }) => worker.terminate()))
    await Promise.race([ended, new Promise<void>((resolve) => systemClock.setTimeout(resolve, TERMINATE_MS))])
    if (orphans.length > 0) await this.#handBack(orphans)
    // One that is in a native call ends with it, and then without having run on.
    this.#threads.clear()
    this.#endIfOver()
  }

  async #handBack(orphans: readonly Orphans[]): Promise<void> {
    const count = await handBackFromOutside({ role: 'hand-back', place: this.#options.place, orphans })
    this.#handedBack += count
    this.#abandoned += orphans.reduce((total, { ids }) => total + ids.length, 0) - count
  }
}
