/**
 * A clock that stands still until a spec moves it. Timers fire while it is moved, each at its own time, in their order.
 * `setBack` is what happens to a machine's clock; the monotonic time never follows it.
 */
import type { Clock, Timer } from '../../lib/clock.ts'

const START = Date.UTC(2026, 0, 1)

class ManualTimer {
  readonly dueAt: number
  readonly fn: () => void

  constructor(dueAt: number, fn: () => void) {
    this.dueAt = dueAt
    this.fn = fn
  }
}

export class ManualClock implements Clock {
  #monotonicMs = 0
  #startedAt = START
  readonly #timers = new Set<ManualTimer>()

  now(): number {
    return this.#startedAt + this.#monotonicMs
  }

  monotonicMs(): number {
    return this.#monotonicMs
  }

  /** Timers that neither fired nor were stopped. */
  get timers(): number {
    return this.#timers.size
  }

  setTimeout(fn: () => void, ms: number): Timer {
    const timer = new ManualTimer(this.#monotonicMs + Math.max(0, ms), fn)
    this.#timers.add(timer)
    return timer
  }

  clearTimeout(timer: Timer): void {
    this.#timers.delete(timer as ManualTimer)
  }

  advance(ms: number): void {
    const end = this.#monotonicMs + ms
    for (;;) {
      const due = [...this.#timers].filter(({ dueAt }) => dueAt <= end).sort((a, b) => a.dueAt - b.dueAt)[0]
      if (!due) break
      this.#timers.delete(due)
      this.#monotonicMs = Math.max(this.#monotonicMs, due.dueAt)
      due.fn()
    }
    this.#monotonicMs = end
  }

  setBack(ms: number): void {
    this.#startedAt -= ms
  }
}
