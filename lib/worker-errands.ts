/**
 * What a worker does beside its loop: timers, and calls that nobody waits for before the end (hand-backs of unknown tasks,
 * news for listeners). A stop waits for the calls and clears the timers.
 */
import { jittered, systemClock } from './clock.ts'
import type { WorkerNews } from './worker-events.ts'

export type Timer = ReturnType<typeof systemClock.setTimeout>

export class WorkerErrands {
  readonly #news: WorkerNews
  readonly #timers = new Set<Timer>()
  readonly #calls = new Set<Promise<void>>()
  readonly #abort = new AbortController()

  constructor(news: WorkerNews) {
    this.#news = news
  }

  /** Aborted at the end: for a call that takes long. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** A call whose failure is told, and whose end only the stop waits for. */
  inBackground(work: Promise<unknown>): void {
    const done: Promise<void> = work
      .then(() => undefined)
      .catch((error: unknown) => this.#news.failed(error))
      .finally(() => this.#calls.delete(done))
    this.#calls.add(done)
  }

  after(ms: number, act: () => unknown): Timer {
    const timer = systemClock.setTimeout(() => {
      this.#timers.delete(timer)
      act()
    }, ms)
    this.#timers.add(timer)
    return timer
  }

  /** Every `ms`, jittered, until the end. */
  every(ms: number, act: () => Promise<void>): void {
    this.after(jittered(ms), () => {
      const again = (): void => {
        if (!this.signal.aborted) this.every(ms, act)
      }
      this.inBackground(act().finally(again))
    })
  }

  cancel(timer: Timer): void {
    systemClock.clearTimeout(timer)
    this.#timers.delete(timer)
  }

  /** Clears every timer, and resolves when the last call was answered. */
  async end(): Promise<void> {
    this.#abort.abort()
    for (const timer of this.#timers) systemClock.clearTimeout(timer)
    this.#timers.clear()
    while (this.#calls.size > 0) await Promise.all(this.#calls)
  }
}
