/**
 * The blocking read of an idle worker: one at a time, on a slot of its own; what it brings begins at once. A read that is
 * refused is followed by a pause that grows. Ends early when asked to: at a stop, for other queues, for whoever has to run
 * alone.
 */
import { jittered, systemClock } from './clock.ts'
import type { WorkerHands } from './worker-hands.ts'
import type { WorkerParts } from './worker-parts.ts'

const FIRST_BACKOFF_MS = 250
const LAST_BACKOFF_MS = 5_000

export class WorkerReader {
  readonly #parts: WorkerParts
  readonly #hands: WorkerHands
  #reading: { readonly abort: AbortController; readonly done: Promise<void> } | undefined
  /** A read failed a moment ago: the next one waits. */
  #paused = false
  #backoffMs = FIRST_BACKOFF_MS

  constructor(parts: WorkerParts, hands: WorkerHands) {
    this.#parts = parts
    this.#hands = hands
  }

  /** A read is out, and owns a slot. */
  get reading(): boolean {
    return this.#reading !== undefined
  }

  /** Sends a read, unless one is out. */
  start(): void {
    if (this.#reading || this.#paused || !this.#parts.settings.continuous) return
    const abort = new AbortController()
    this.#reading = { abort, done: this.#read(abort.signal) }
  }

  /** Asks the read to end. What it still brought is handed back by the storage. */
  abort(): void {
    this.#reading?.abort.abort()
  }

  /** Asks the read to end; resolves when it has. */
  async end(): Promise<void> {
    this.abort()
    await this.#reading?.done
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { backend, queue, state, news } = this.#parts
    const { blockTimeoutMs: blockMs } = backend.limits
    const sentAtMs = systemClock.monotonicMs()
    try {
      const taken = await queue.takeBlocking({ queueNames: state.queueNames, blockMs, signal })
      this.#reading = undefined
      this.#backoffMs = FIRST_BACKOFF_MS
      // Ended by its connection, it may have been handed something that never came.
      if (signal.aborted && state.phase === 'running') state.mustRecover = true
      if (taken.begun.length > 0 || taken.passed > 0) {
        state.sign()
        this.#hands.begin(taken.begun, sentAtMs)
      }
    } catch (error) {
      // The next turn looks for what this read may have brought; the next read waits longer with each failure, except that
      // a read that had waited its time was not refused: its connection died.
      state.mustRecover = true
      if (systemClock.monotonicMs() - sentAtMs >= blockMs) this.#backoffMs = FIRST_BACKOFF_MS
      this.#pause()
      news.failed(error)
    } finally {
      this.#reading = undefined
      state.wakeUp()
    }
  }

  #pause(): void {
    this.#paused = true
    this.#parts.errands.after(jittered(this.#backoffMs), () => {
      this.#paused = false
      this.#parts.state.wakeUp()
    })
    this.#backoffMs = Math.min(this.#backoffMs * 2, LAST_BACKOFF_MS)
  }
}
