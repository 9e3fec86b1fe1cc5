/**
 * Cancels that a worker heard of before the answer that begins their attempt: the message may be faster. Remembered until the
 * attempt comes; where it never does, the oldest is forgotten.
 */
import type { Lease } from './storage/storage.ts'

/** Each is a token of this worker, so in fact they are few. */
const MOST = 100

type AttemptName = Pick<Lease, 'id' | 'token'>

export class WorkerEarlyCancels {
  readonly #attempts = new Set<string>()

  remember(attempt: AttemptName): void {
    for (const oldest of this.#attempts) {
      if (this.#attempts.size < MOST) break
      this.#attempts.delete(oldest)
    }
    this.#attempts.add(nameOf(attempt))
  }

  /** Whether that attempt was cancelled; it is asked once. */
  take(attempt: AttemptName): boolean {
    return this.#attempts.size > 0 && this.#attempts.delete(nameOf(attempt))
  }
}

const nameOf = ({ id, token }: AttemptName): string => `${id} ${token}`
