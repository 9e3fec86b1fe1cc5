/**
 * What the parts of one worker know of each other: its phase, its counts, what is due, and the sign that wakes its loop.
 * Holds and counts only; who acts on it is the loop.
 */
import { systemClock } from './clock.ts'

export type WorkerPhase = 'new' | 'running' | 'draining' | 'stopped'

export class WorkerState {
  phase: WorkerPhase = 'new'
  /** Attempts begun here, as `maxTasks` counts them. */
  begun = 0
  settled = 0
  lost = 0
  /** Handed back since the stop began. */
  handedBack = 0
  /** The queues that are served now. */
  queueNames: readonly string[] = []
  /** The own pending list may hold what this process never learned of. */
  mustRecover = false
  /** Others may have died: their deliveries are looked for before anything new is taken. */
  reclaimDue = true
  /** The drain time is over: what the storage does not take now is left to run out. */
  gaveUp = false
  /** The last take found nothing: block, or be idle. */
  dry = false
  saidIdle = false
  #signs = 0
  /** Something changed since the last turn began: no pause before the next. */
  #woken = false
  #wake: (() => void) | undefined

  /** Grows with every sign that something may wait; a take that was sent before such a sign proves nothing. */
  get signs(): number {
    return this.#signs
  }

  /** Something may wait: take, do not block. */
  sign(): void {
    this.dry = false
    this.#signs += 1
  }

  /** Ends the pause of the loop, or the next one. */
  wakeUp(): void {
    this.#woken = true
    this.#wake?.()
  }

  /** A turn begins: what changes from here on is seen by the next one only. */
  beginTurn(): void {
    this.#woken = false
  }

  /** Until something ended, came, or changed; or for `ms`, whatever happens (except a stop). */
  async pause(ms?: number): Promise<void> {
    if (ms === undefined && this.#woken) return
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        if (timer !== undefined) systemClock.clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
      const timer = ms === undefined ? undefined : systemClock.setTimeout(wake, ms)
      this.#wake = ms === undefined ? wake : () => this.phase !== 'running' && wake()
    })
  }
}
