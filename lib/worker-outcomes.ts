/**
 * Writes how attempts ended: takes what waits in hand, settles it (and takes more in the same write), and tells of the
 * answers. An outcome whose answer never came goes back to the front: the same call again, until it is SETTLED or LOST.
 */
import { systemClock } from './clock.ts'
import { tellFinished } from './maintenance.ts'
import type { SettleWord, Taken } from './storage/storage.ts'
import type { Ended, WorkerHands } from './worker-hands.ts'
import type { WorkerParts } from './worker-parts.ts'

/** Characters that one call carries at most. */
const SETTLE_LENGTH = 2_000_000

export class WorkerOutcomes {
  readonly #parts: WorkerParts
  readonly #hands: WorkerHands
  readonly #dueAgain: (inMs: number) => void
  #closing = 0

  /** @param dueAgain told of each attempt that failed and runs again, with the time until then. */
  constructor(parts: WorkerParts, hands: WorkerHands, dueAgain: (inMs: number) => void) {
    this.#parts = parts
    this.#hands = hands
    this.#dueAgain = dueAgain
  }

  /** Attempts in hand whose settle is under way. */
  get closing(): number {
    return this.#closing
  }

  /** What ended first, as much as one settle carries: a hundred large results would not be answered in time, ever. */
  take(most: number): Ended[] {
    const { ended } = this.#hands
    if (ended.length === 0) return []
    let length = 0
    const tooMany = ended.findIndex(({ settlement: { payload } }, index) => {
      length += payload.length
      return index === most || (index > 0 && length > SETTLE_LENGTH)
    })
    return ended.splice(0, tooMany === -1 ? ended.length : tooMany)
  }

  async settle(ended: readonly Ended[]): Promise<void> {
    await this.#close(ended, async () => {
      const words = await this.#parts.queue.settle(ended.map(({ settlement }) => settlement))
      return { words, answer: undefined }
    })
  }

  /** The same, and up to `count` more in the same write. */
  async settleAndTake(ended: readonly Ended[], count: number): Promise<Taken> {
    const { queue, state } = this.#parts
    return await this.#close(ended, async () => {
      const settlements = ended.map(({ settlement }) => settlement)
      const { words, taken } = await queue.settleAndTake(settlements, count, state.queueNames)
      return { words, answer: taken }
    })
  }

  /** The storage took no outcome until the end of the drain time: the leases run out, and others run them again. */
  abandon(): void {
    const hands = this.#hands.ended.splice(0).map(({ hand }) => hand)
    if (hands.length === 0) return
    const facts = { code: 'ERR_TASKS_STORAGE_UNAVAILABLE', ids: hands.map((hand) => hand.delivery.lease.id) }
    this.#parts.news.logger.error(facts, 'outcomes could not be written; these tasks run again elsewhere')
    this.#hands.release(hands)
  }

  async #close<T>(
    ended: readonly Ended[],
    call: () => Promise<{ words: readonly SettleWord[]; answer: T }>,
  ): Promise<T> {
    for (const { hand } of ended) hand.closing = true
    this.#closing += ended.length
    let words: readonly SettleWord[]
    let answer: T
    try {
      ;({ words, answer } = await call())
    } catch (error) {
      this.#hands.ended.unshift(...ended)
      throw error
    } finally {
      // In one step with their release: whoever counts free slots in between would count these twice.
      this.#closing -= ended.length
    }
    this.#answered(ended, words)
    return answer
  }

  #answered(ended: readonly Ended[], words: readonly SettleWord[]): void {
    const { backend, state, news, errands } = this.#parts
    const finished: string[] = []
    const now = systemClock.monotonicMs()
    this.#hands.release(ended.map(({ hand }) => hand))
    ended.forEach(({ hand, settlement }, index) => {
      const word = words[index] ?? 'LOST'
      const { record, lease } = hand.delivery
      if (word === 'SETTLED') {
        state.settled += 1
        news.ended(record, settlement.outcome, settlement.payload)
        if (settlement.outcome === 'READY') this.#dueAgain(settlement.delayMs)
        else finished.push(record.id)
      } else {
        this.#hands.noteLost(hand)
        const facts = { code: 'ERR_TASKS_LEASE_LOST', id: record.id, token: lease.token, word }
        if (!hand.cancelled) news.logger.warn(facts, 'a settle was refused')
      }
      if (news.isHeard('settled')) {
        news.tell('settled', {
          id: record.id,
          name: record.name,
          queueName: record.queueName,
          attempt: record.attempts,
          outcome: settlement.outcome,
          word,
          durationMs: now - (hand.startedAtMs ?? now),
          error: settlement.outcome === 'SUCCESSFUL' ? null : settlement.payload,
        })
      }
    })
    if (finished.length > 0) errands.inBackground(tellFinished(backend, finished, news.logger))
  }
}
