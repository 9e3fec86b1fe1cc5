/**
 * Clock: process time and timers, so that specs can bring their own. `systemClock` is the real one.
 * Never the source of a stored time: those come from the storage.
 */

/** What `setTimeout` of a clock hands out; only that clock's `clearTimeout` looks into it. */
export type Timer = object

export interface Clock {
  /** Epoch milliseconds; may jump when the machine's clock is set. */
  now(): number
  /** Milliseconds from an arbitrary start, the same for all threads of a machine; never goes back. For durations. */
  monotonicMs(): number
  /** Calls `fn` once, after `ms` at the earliest. Any length; 0 or less is the next turn of the event loop. */
  setTimeout(fn: () => void, ms: number): Timer
  /** Stops a timer; one that has fired or was stopped is fine. */
  clearTimeout(timer: Timer): void
}

/** The largest time that a Date can hold, in ms. Text that somebody else wrote may say more. */
export const LAST_TIME_MS = 8_640_000_000_000_000

/** Node fires a longer timer after 1 ms, with a warning. */
const LONGEST_MS = 2_147_483_647

class SystemTimer {
  #handle: NodeJS.Timeout

  constructor(fn: () => void, ms: number) {
    this.#handle = this.#arm(fn, ms)
  }

  #arm(fn: () => void, ms: number): NodeJS.Timeout {
    if (ms <= LONGEST_MS) return setTimeout(fn, ms)
    return setTimeout(() => {
      this.#handle = this.#arm(fn, ms - LONGEST_MS)
    }, LONGEST_MS)
  }

  clear(): void {
    clearTimeout(this.#handle)
  }
}

export const systemClock: Clock = Object.freeze({
  now: () => Date.now(),
  // Not performance.now(): that counts from the start of its own thread, and threads compare their times.
  monotonicMs: () => Number(process.hrtime.bigint() / 1_000n) / 1_000,
  setTimeout: (fn: () => void, ms: number): Timer => new SystemTimer(fn, ms),
  clearTimeout: (timer: Timer) => {
    if (timer instanceof SystemTimer) timer.clear()
  },
})

/** 75 to 125 % of it, so that workers started together do not come together. */
export const jittered = (ms: number): number => ms * (0.75 + Math.random() / 2)
