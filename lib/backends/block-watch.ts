/**
 * Sees from another thread when an event loop does not turn. That loop moves a counter in shared memory while it has work in
 * hand; here the counter is looked at. Names candidates only: which of the functions in hand holds the loop, nobody can tell.
 */
import type { Clock } from '../clock.ts'
import type { Block } from '../worker-report.ts'

/** How often the loop moves the counter, and how often that is looked at. */
export const TICK_MS = 250
/** A loop that did not turn for so long is blocked. */
const BLOCKED_MS = 1_000
const NAMED = 10

export interface BlockNews {
  /** At each look while it lasts. */
  readonly lasts: (block: Block) => void
  readonly ended: (block: Block) => void
}

export class BlockWatch {
  readonly #ticks: Int32Array
  readonly #clock: Clock
  readonly #news: BlockNews
  /** Names by lease, in the order in which they began. */
  readonly #inHand = new Map<string, string>()
  #timer: ReturnType<Clock['setTimeout']> | undefined
  #seen = 0
  #movedMs = 0
  #lookedMs = 0
  #block: Block | undefined

  constructor(ticks: Int32Array, clock: Clock, news: BlockNews) {
    this.#ticks = ticks
    this.#clock = clock
    this.#news = news
  }

  begun(key: string, task: string): void {
    if (this.#inHand.size === 0) {
      this.#movedMs = this.#clock.monotonicMs()
      // It was seen a while after it began, and may have blocked the loop at once.
      this.#seen = Atomics.load(this.#ticks, 0)
      this.#plan()
    }
    // A lease that is held anew keeps its place.
    if (!this.#inHand.has(key)) this.#inHand.set(key, task)
  }

  ended(key: string): void {
    this.#inHand.delete(key)
    if (this.#inHand.size === 0) this.stop()
  }

  stop(): void {
    this.#look()
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #plan(): void {
    this.#lookedMs = this.#clock.monotonicMs()
    this.#timer ??= this.#clock.setTimeout(() => {
      this.#timer = undefined
      this.#look()
      if (this.#inHand.size > 0) this.#plan()
    }, TICK_MS)
  }

  #look(): void {
    const now = this.#clock.monotonicMs()
    const ticks = Atomics.load(this.#ticks, 0)
    // This thread was late itself: the whole process stood still, and that is nobody's function.
    const stoodStill = now - this.#lookedMs > TICK_MS + BLOCKED_MS
    if (ticks !== this.#seen || stoodStill) {
      this.#seen = ticks
      this.#movedMs = now
      if (this.#block) this.#news.ended(this.#block)
      this.#block = undefined
      return
    }
    const ms = Math.round(now - this.#movedMs)
    if (ms < BLOCKED_MS) return
    this.#block = { ms, tasks: this.#block?.tasks ?? [...this.#inHand.values()].reverse().slice(0, NAMED) }
    this.#news.lasts(this.#block)
  }
}
