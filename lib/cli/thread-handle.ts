/**
 * One worker thread as the main thread knows it: whether it works, what it runs, and whether it still hears. Judges time limits
 * that the thread itself cannot keep, as its event loop may be blocked: those of imports, and of attempts.
 */
import { EventEmitter } from 'node:events'
import type { Worker as NodeWorker } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import type { Timer } from '../clock.ts'
import { startThread } from './thread-start.ts'
import type { MainMessage, Orders, Orphans, StartedMessage, ThreadMessage } from './thread-messages.ts'

/** An import that takes longer never ends. */
export const IMPORT_TIMEOUT_MS = 60_000
/** A thread that does not answer for so long, while a task of it is past its time limit, is blocked by that task. */
const ANSWER_MS = 500

export interface RunningTask {
  readonly id: string
  readonly name: string
  readonly sinceMs: number
}

interface Running extends RunningTask {
  readonly limit: Timer | undefined
  readonly endsAtMs: number
}

export interface ThreadEvents {
  /** After the handle took from it what it needs itself. */
  message: [ThreadMessage]
  /** An import of it does not end. */
  importStuck: [file: string]
  exit: [code: number]
}

export class ThreadHandle extends EventEmitter<ThreadEvents> {
  readonly index: number
  readonly #bornMs = systemClock.monotonicMs()
  readonly #worker: NodeWorker
  readonly #running = new Map<string, Running>()
  #importTimer: Timer | undefined
  #answerTimer: Timer | undefined
  state: 'starting' | 'working' | 'done' = 'starting'
  /** Tasks that it may still begin. */
  granted: number
  workerId = ''
  /** The last file whose import began; none once it works. */
  importing: string | undefined
  /** What ended it, if it was an error that nothing caught. */
  thrown: { readonly value: unknown } | undefined
  /** What it ran when it was found blocked past a task's time limit, and ended for that. */
  blockedWith: Orphans | undefined

  constructor(index: number, orders: Extract<Orders, { role: 'work' }>) {
    super()
    this.index = index
    this.granted = orders.granted ?? Infinity
    this.#worker = startThread(orders)
      .on('message', (message: ThreadMessage) => this.#heard(message))
      .on('error', (value: unknown) => (this.thrown = { value }))
      .on('exit', (code) => {
        this.#stopTimers()
        this.emit('exit', code)
      })
  }

  get livedMs(): number {
    return systemClock.monotonicMs() - this.#bornMs
  }

  get running(): RunningTask[] {
    return [...this.#running.values()].map(({ id, name, sinceMs }) => ({ id, name, sinceMs }))
  }

  /** What nobody runs any more once this thread is ended. */
  get orphans(): Orphans {
    const now = systemClock.monotonicMs()
    const running = [...this.#running.values()]
    const overdue = running.filter(({ endsAtMs }) => endsAtMs <= now).map(({ id }) => id)
    return { workerId: this.workerId, ids: running.map(({ id }) => id), overdue }
  }

  tell(message: MainMessage): void {
    this.#worker.postMessage(message)
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate()
  }

  /** Somebody else sees to what it ran. */
  forget(): void {
    for (const { limit } of this.#running.values()) if (limit) systemClock.clearTimeout(limit)
    this.#running.clear()
  }

  #heard(message: ThreadMessage): void {
    switch (message.type) {
      case 'importing':
        this.#watchImport(message.file)
        break
      case 'ready':
        this.#clear('import')
        this.importing = undefined
        this.state = 'working'
        this.workerId = message.workerId
        break
      case 'failed':
        this.#clear('import')
        break
      case 'started':
        this.granted -= 1
        this.#started(message)
        break
      case 'settled':
        for (const { id } of message.items) this.#ended(id)
        // What was handed back, or lost, has no event of its own.
        if (message.running === 0) this.forget()
        break
      case 'pong':
        this.#clear('answer')
        break
      case 'done':
        this.state = 'done'
        break
      default:
        break
    }
    this.emit('message', message)
    if (message.type === 'done') this.forget()
  }

  #started({ id, name, timeoutMs }: StartedMessage): void {
    this.#ended(id)
    const sinceMs = systemClock.monotonicMs()
    const limit = timeoutMs === null ? undefined : systemClock.setTimeout(() => this.#ask(), timeoutMs)
    this.#running.set(id, { id, name, sinceMs, limit, endsAtMs: sinceMs + (timeoutMs ?? Infinity) })
  }

  #ended(id: string): void {
    const limit = this.#running.get(id)?.limit
    if (limit) systemClock.clearTimeout(limit)
    this.#running.delete(id)
  }

  /** A task is past its limit: a thread that hears ends it by itself. */
  #ask(): void {
    if (this.#answerTimer !== undefined || this.state !== 'working') return
    this.#answerTimer = systemClock.setTimeout(() => {
      this.blockedWith = this.orphans
      this.forget()
      void this.terminate()
    }, ANSWER_MS)
    this.tell({ type: 'ping' })
  }

  #watchImport(file: string): void {
    this.#clear('import')
    this.importing = file
    this.#importTimer = systemClock.setTimeout(() => this.emit('importStuck', file), IMPORT_TIMEOUT_MS)
  }

  #clear(which: 'import' | 'answer'): void {
    const timer = which === 'import' ? this.#importTimer : this.#answerTimer
    if (timer !== undefined) systemClock.clearTimeout(timer)
    if (which === 'import') this.#importTimer = undefined
    else this.#answerTimer = undefined
  }

  #stopTimers(): void {
    this.#clear('import')
    this.#clear('answer')
    for (const { limit } of this.#running.values()) if (limit) systemClock.clearTimeout(limit)
  }
}
