/**
 * The loop of a worker, turn by turn: settle what ended and take what fits, in one write; send the blocking read only when
 * nothing was there. What dead workers left, and what this one was handed and never learned of, comes before anything new.
 */
import { systemClock } from './clock.ts'
import type { Taken } from './storage/storage.ts'
import { jittered } from './worker-errands.ts'
import type { WorkerHands } from './worker-hands.ts'
import type { WorkerOutcomes } from './worker-outcomes.ts'
import type { WorkerParts } from './worker-parts.ts'
import type { WorkerReader } from './worker-reader.ts'
import type { WorkerUpkeep } from './worker-upkeep.ts'

/** What one call brings at most. */
const TAKE_BATCH = 100
const FIRST_BACKOFF_MS = 250
const LAST_BACKOFF_MS = 5_000

export interface LoopParts {
  readonly hands: WorkerHands
  readonly outcomes: WorkerOutcomes
  readonly reader: WorkerReader
  readonly upkeep: WorkerUpkeep
}

export class WorkerLoop {
  readonly #parts: WorkerParts
  readonly #hands: WorkerHands
  readonly #outcomes: WorkerOutcomes
  readonly #reader: WorkerReader
  readonly #upkeep: WorkerUpkeep

  constructor(parts: WorkerParts, { hands, outcomes, reader, upkeep }: LoopParts) {
    this.#parts = parts
    this.#hands = hands
    this.#outcomes = outcomes
    this.#reader = reader
    this.#upkeep = upkeep
  }

  /** Resolves when `maxTasks` are done or, not continuous, when nothing is due; after a stop when nothing is in hand. */
  async run(): Promise<void> {
    const { state, news } = this.#parts
    let backoffMs = FIRST_BACKOFF_MS
    while (state.phase === 'running' || this.#holdsWork) {
      state.beginTurn()
      try {
        const busy = (await this.#turn()) || (await this.#promoteBeforeEnd())
        backoffMs = FIRST_BACKOFF_MS
        news.recovered()
        if (busy) continue
      } catch (error) {
        news.failed(error)
        state.mustRecover = true
        if (state.gaveUp) {
          this.#outcomes.abandon()
          continue
        }
        await state.pause(jittered(backoffMs))
        backoffMs = Math.min(backoffMs * 2, LAST_BACKOFF_MS)
        continue
      }
      if (this.#finished()) return
      await state.pause()
    }
  }

  get #holdsWork(): boolean {
    return this.#hands.size > 0 || this.#hands.ended.length > 0
  }

  /** One turn. False when there was nothing to do. */
  async #turn(): Promise<boolean> {
    const { state } = this.#parts
    if (this.#hands.suspect) return await this.#turnOfSuspect()
    if (state.mustRecover) await this.#recover()
    if (state.reclaimDue && this.#free() > 0) await this.#reclaim(this.#free())
    const ended = this.#outcomes.take()
    // Slots that this settle frees are taken again in the same write, unless one of those two waits for a slot: under a
    // backlog none would ever be left for it.
    const count = state.mustRecover || state.reclaimDue ? 0 : Math.min(this.#free(ended.length), TAKE_BATCH)
    const wanted = count > 0 && !(state.dry && ended.length === 0)
    if (ended.length === 0 && !wanted) {
      if (state.dry && count > 0) this.#reader.start()
      return false
    }
    if (!wanted) {
      await this.#outcomes.settle(ended)
      return true
    }
    const [sentAtMs, signs] = [systemClock.monotonicMs(), state.signs]
    const taken = ended.length === 0 ? await this.#take(count) : await this.#outcomes.settleAndTake(ended, count)
    state.dry = taken.begun.length === 0 && taken.passed === 0 && signs === state.signs
    this.#hands.begin(taken.begun, sentAtMs)
    return true
  }

  /** Settles what still ends; then one runs alone. */
  async #turnOfSuspect(): Promise<boolean> {
    const ended = this.#outcomes.take()
    if (ended.length === 0) return this.#hands.startSuspect()
    await this.#outcomes.settle(ended)
    return true
  }

  /** Slots for further attempts, once so many more have ended; one belongs to the blocking read while it is out. */
  #free(ending = 0): number {
    const reserved = this.#reader.reading ? 1 : 0
    return Math.min(this.#parts.settings.concurrency - this.#hands.size + ending, this.#left()) - reserved
  }

  /** How many more may begin. */
  #left(): number {
    const { state, settings } = this.#parts
    if (state.phase !== 'running') return 0
    return settings.maxTasks === 0 ? Infinity : settings.maxTasks - state.begun
  }

  #finished(): boolean {
    const { state, settings, news } = this.#parts
    if (this.#holdsWork) return false
    if (state.phase !== 'running') return true
    if (this.#left() <= 0) return true
    if (!state.dry) return false
    if (!state.saidIdle) news.tell('idle')
    state.saidIdle = true
    return !settings.continuous
  }

  async #take(count: number): Promise<Taken> {
    const { queue, state } = this.#parts
    return await queue.take(count, { queueNames: state.queueNames })
  }

  async #promoteBeforeEnd(): Promise<boolean> {
    const { state, settings } = this.#parts
    if (settings.continuous || !state.dry || this.#hands.size > 0 || state.phase !== 'running') return false
    await this.#upkeep.promoteNow()
    return !state.dry
  }

  async #reclaim(free: number): Promise<void> {
    const { queue, state, news } = this.#parts
    const sentAtMs = systemClock.monotonicMs()
    const { begun, crashed, done } = await queue.reclaim(free, { queueNames: state.queueNames })
    // A pass cut short by the slots goes on when the next are free.
    state.reclaimDue = !done
    if (begun.length > 0) state.sign()
    this.#hands.begin(begun, sentAtMs)
    if (crashed.length > 0) {
      news.logger.error({ code: 'ERR_TASKS_ABANDONED', ids: crashed }, 'records failed: their workers died too often')
      this.#outcomes.tellFinished(crashed)
    }
  }

  async #recover(): Promise<void> {
    const { queue, state } = this.#parts
    // Its own list names what the blocking read was handed a moment ago, too: that read has to end first.
    await this.#reader.end()
    const free = this.#free()
    if (free <= 0) return
    const sentAtMs = systemClock.monotonicMs()
    // Before the call: whatever fails meanwhile wants another one.
    state.mustRecover = false
    const { begun } = await queue.recover(free, this.#hands.ids, state.queueNames)
    this.#hands.begin(begun, sentAtMs)
  }
}
