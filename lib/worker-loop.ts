/**
 * The loop of a worker, turn by turn: settle what ended and take what fits, in one write; send the blocking read only when
 * nothing was there. What dead workers left, and what this one was handed and never learned of, comes before anything new.
 * Up to two such writes are under way at a time, each for half of the slots: the server works on one while this process runs
 * what the other brought. Everything else waits until none is.
 */
import { jittered, systemClock } from './clock.ts'
import { tellAbandoned } from './maintenance.ts'
import { CALL_LIMITS } from './storage/storage.ts'
import type { Taken } from './storage/storage.ts'
import type { ReclaimPosition } from './stream-queue.ts'
import type { Ended, WorkerHands } from './worker-hands.ts'
import type { WorkerOutcomes } from './worker-outcomes.ts'
import type { WorkerParts } from './worker-parts.ts'
import type { WorkerReader } from './worker-reader.ts'
import type { WorkerUpkeep } from './worker-upkeep.ts'

const CALLS_UNDER_WAY = 2
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
  /** Calls that settle and take, and were not answered yet. */
  readonly #underWay = new Set<Promise<void>>()
  /** How many attempts these calls asked for. */
  #asked = 0
  /** The last take brought all that it asked for: there is more. */
  #plenty = false
  #backoffMs = FIRST_BACKOFF_MS
  /** Where the look for stale deliveries was cut short. */
  #reclaimFrom: ReclaimPosition | null = null
  /** Why one of these calls failed. */
  #failure: { readonly error: unknown } | undefined

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
    while (state.phase === 'running' || this.#holdsWork) {
      state.beginTurn()
      try {
        if ((await this.#turn()) || (await this.#promoteBeforeEnd())) continue
      } catch (error) {
        news.failed(error)
        state.mustRecover = true
        if (state.gaveUp) {
          this.#outcomes.abandon()
          continue
        }
        await state.pause(jittered(this.#backoffMs))
        this.#backoffMs = Math.min(this.#backoffMs * 2, LAST_BACKOFF_MS)
        continue
      }
      if (this.#finished()) return
      await state.pause()
    }
  }

  get #holdsWork(): boolean {
    return this.#hands.size > 0 || this.#hands.ended.length > 0 || this.#underWay.size > 0
  }

  /** One turn. False when there was nothing to do. */
  async #turn(): Promise<boolean> {
    const { state } = this.#parts
    if (this.#failure || this.#hands.suspect || state.mustRecover || (state.reclaimDue && this.#free() > 0)) {
      await Promise.all(this.#underWay)
      if (this.#failure) {
        const { error } = this.#failure
        this.#failure = undefined
        throw error
      }
      if (this.#hands.suspect) return await this.#turnOfSuspect()
      // What ended first: after a long outage its lease has run out, and the look for stale ones would begin it anew.
      await this.#settleEnded()
      if (state.mustRecover) await this.#recover()
      if (state.reclaimDue && this.#free() > 0) await this.#reclaim(this.#free())
      this.#answered()
    }
    return this.#settleAndTake()
  }

  /** Sends what ended and asks for what fits; answers before the storage does. False when there was nothing to send. */
  #settleAndTake(): boolean {
    const { state } = this.#parts
    if (this.#underWay.size === CALLS_UNDER_WAY) return false
    const ended = this.#outcomes.take(this.#half)
    // Slots that this settle frees are taken again in the same write, unless one of those two waits for a slot: under a
    // backlog none would ever be left for it.
    const count = state.mustRecover || state.reclaimDue ? 0 : Math.min(this.#free(ended.length), this.#half)
    // A second take beside one whose answer is not known brings nothing, unless there was plenty a moment ago.
    const wanted = count > 0 && (ended.length > 0 || (!state.dry && (this.#underWay.size === 0 || this.#plenty)))
    if (ended.length === 0 && !wanted) {
      if (state.dry && count > 0 && this.#underWay.size === 0) this.#reader.start()
      return false
    }
    const call = this.#send(ended, wanted ? count : 0).finally(() => {
      this.#underWay.delete(call)
      state.wakeUp()
    })
    this.#underWay.add(call)
    return true
  }

  /** Never rejects: a failure is kept until no call is under way any more. */
  async #send(ended: readonly Ended[], count: number): Promise<void> {
    const { state } = this.#parts
    const [sentAtMs, signs] = [systemClock.monotonicMs(), state.signs]
    let taken: Taken | undefined
    this.#asked += count
    try {
      if (count === 0) await this.#outcomes.settle(ended)
      else taken = ended.length === 0 ? await this.#take(count) : await this.#outcomes.settleAndTake(ended, count)
      this.#answered()
    } catch (error) {
      this.#failure ??= { error }
    } finally {
      this.#asked -= count
    }
    if (!taken) return
    this.#plenty = taken.begun.length === count
    state.dry = taken.begun.length === 0 && taken.passed === 0 && signs === state.signs
    this.#hands.begin(taken.begun, sentAtMs)
  }

  /** The storage is there. */
  #answered(): void {
    this.#backoffMs = FIRST_BACKOFF_MS
    this.#parts.news.recovered()
  }

  /** What one call settles and takes: half of all slots, so that two calls share them. */
  get #half(): number {
    return Math.min(CALL_LIMITS.moves, Math.ceil(this.#parts.settings.concurrency / CALLS_UNDER_WAY))
  }

  async #settleEnded(): Promise<boolean> {
    let ended = this.#outcomes.take(CALL_LIMITS.moves)
    const isAny = ended.length > 0
    for (; ended.length > 0; ended = this.#outcomes.take(CALL_LIMITS.moves)) await this.#outcomes.settle(ended)
    return isAny
  }

  /** Settles what still ends; then one runs alone. */
  async #turnOfSuspect(): Promise<boolean> {
    return (await this.#settleEnded()) || (await this.#hands.serveSuspect())
  }

  /** Slots for further attempts, once so many more have ended; one belongs to the blocking read while it is out. */
  #free(ending = 0): number {
    const reserved = this.#reader.reading ? 1 : 0
    const held = this.#hands.size - this.#outcomes.closing - ending + this.#asked
    return Math.min(this.#parts.settings.concurrency - held, this.#left()) - reserved
  }

  /** How many more may begin. */
  #left(): number {
    const { state, settings } = this.#parts
    if (state.phase !== 'running') return 0
    return settings.maxTasks === 0 ? Infinity : settings.maxTasks - state.begun - this.#asked
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
    if (settings.continuous || !state.dry || this.#holdsWork || state.phase !== 'running') return false
    await this.#upkeep.promoteNow()
    return !state.dry
  }

  async #reclaim(free: number): Promise<void> {
    const { backend, queue, state, news, errands } = this.#parts
    const sentAtMs = systemClock.monotonicMs()
    const { begun, crashed, next } = await queue.reclaim(free, {
      queueNames: state.queueNames,
      from: this.#reclaimFrom,
    })
    // What was cut short by the slots goes on when the next are free.
    this.#reclaimFrom = next
    state.reclaimDue = next !== null
    if (begun.length > 0) state.sign()
    this.#hands.begin(begun, sentAtMs)
    errands.inBackground(tellAbandoned(backend, crashed, news.logger))
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
