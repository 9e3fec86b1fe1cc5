/**
 * The only poller of the specs: asks again every 5 ms until the answer is there, never waits a fixed time.
 * Uses the timers and the clock that were there at load, so fake timers of a spec do not stop it.
 */
import { inspect } from 'node:util'

const POLL_INTERVAL_MS = 5
const { setTimeout } = globalThis
const now = performance.now.bind(performance)

export interface EventuallyOptions {
  /** How long it may take, in milliseconds. Default 5000. */
  readonly timeoutMs?: number
  /** What was waited for: put before the last error. */
  readonly message?: string
}

/** An answer that may be `undefined` beside other values is refused, as `undefined` is what a block of assertions answers. */
// eslint-disable-next-line @typescript-eslint/no-invalid-void-type -- `void` is the very type that a block of assertions answers
type NoUndefined<T> = [T] extends [void] ? unknown : undefined extends T ? never : unknown

/**
 * Calls `fn` until it does not throw and answers something: `false`, `null`, `0` and `''` mean "not yet".
 * A block of assertions answers nothing (`undefined`), and is done as soon as it does not throw.
 *
 * @returns what `fn` answered
 * @throws the last error of `fn`, or one that shows its last answer, once `timeoutMs` are over
 */
export async function eventually<T>(
  fn: (() => T | Promise<T>) & NoUndefined<T>,
  { timeoutMs = 5000, message }: EventuallyOptions = {},
): Promise<Exclude<T, false | null | 0 | ''>> {
  const deadline = now() + timeoutMs
  for (;;) {
    let failure: unknown
    try {
      const answer = await fn()
      if (answer === undefined || Boolean(answer)) return answer as Exclude<T, false | null | 0 | ''>
      failure = new Error(`expected an answer within ${timeoutMs} ms, got: ${inspect(answer)}`)
    } catch (error) {
      failure = error
    }
    if (now() >= deadline) {
      if (message === undefined) throw failure
      throw new Error(`${message}: ${failure instanceof Error ? failure.message : inspect(failure)}`, {
        cause: failure,
      })
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS))
  }
}
