/**
 * Those who wait in memory storage: consumers for an entry, callers for a record's end. Woken by the step that brings it,
 * never polling; a wait ends by its time limit, its signal, or the end of the storage, and leaves nothing behind.
 */
import type { Clock } from '../../clock.ts'
import type { BlockingTakeRequest, Taken } from '../storage.ts'

const NOTHING: Taken = Object.freeze({ begun: Object.freeze([]), passed: 0 })

export type Ended = 'FINISHED' | 'ABSENT'

interface TakeWait {
  readonly queueNames: readonly string[]
  /** Takes for this waiter; false when there was nothing to begin. */
  readonly tryTake: () => boolean
  readonly reject: (error: Error) => void
}

interface EndWait {
  readonly end: (word: Ended) => void
  readonly reject: (error: Error) => void
}

export class Waits {
  readonly #clock: Clock
  /** In the order in which they came: the longest waiting is served first. */
  readonly #takes = new Set<TakeWait>()
  readonly #ends = new Map<string, Set<EndWait>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** How many wait, for whatever. */
  get size(): number {
    return [...this.#ends.values()].reduce((sum, { size }) => sum + size, this.#takes.size)
  }

  /** Takes at once if it can, else waits until `take` begins something. A wait that its signal ends has taken nothing. */
  forEntry(request: BlockingTakeRequest, signal: AbortSignal, take: () => Taken): Promise<Taken> {
    if (signal.aborted) return Promise.resolve(NOTHING)
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#takes.delete(wait)
        this.#clock.clearTimeout(timer)
        signal.removeEventListener('abort', onEnd)
      }
      const onEnd = (): void => {
        end()
        resolve(NOTHING)
      }
      const wait: TakeWait = {
        queueNames: request.queueNames,
        tryTake: () => {
          let taken = take()
          while (taken.begun.length === 0 && taken.passed > 0) taken = take()
          if (taken.begun.length === 0) return false
          end()
          resolve(taken)
          return true
        },
        reject: (error) => {
          end()
          reject(error)
        },
      }
      const timer = this.#clock.setTimeout(onEnd, request.blockMs)
      signal.addEventListener('abort', onEnd, { once: true })
      this.#takes.add(wait)
      wait.tryTake()
    })
  }

  /** Waits until a record has ended, or for `timeoutMs`. */
  forEnd(id: string, timeoutMs: number): Promise<Ended | 'TIMEOUT'> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#clock.clearTimeout(timer)
        const others = this.#ends.get(id)
        others?.delete(wait)
        if (others?.size === 0) this.#ends.delete(id)
      }
      const wait: EndWait = {
        end: (word) => {
          leave()
          resolve(word)
        },
        reject: (error) => {
          leave()
          reject(error)
        },
      }
      const timer = this.#clock.setTimeout(() => {
        leave()
        resolve('TIMEOUT')
      }, timeoutMs)
      this.#ends.set(id, (this.#ends.get(id) ?? new Set()).add(wait))
    })
  }

  /** A queue got entries: serves those who wait for it until they or the entries run out. */
  pushed(queueName: string): void {
    for (const wait of this.#takes) {
      if (wait.queueNames.includes(queueName) && !wait.tryTake()) return
    }
  }

  /** A record has ended, one way or the other. */
  ended(id: string, word: Ended): void {
    for (const wait of this.#ends.get(id) ?? []) wait.end(word)
  }

  /** Ends every wait with an error. */
  close(error: Error): void {
    for (const wait of this.#takes) wait.reject(error)
    for (const waits of this.#ends.values()) for (const wait of waits) wait.reject(error)
  }
}
