/**
 * Retry policy: whether and when a failed attempt runs again. Pure: the answer is a delay, the settle script does the rest.
 * Counts failures only; crashes (leases that ran out) have their own limit (`maxCrashes`), and hand-backs count as nothing.
 */
import { DoNotRetry, MAX_RETRY_DELAY_MS, RetryLater } from './errors.ts'
import { anything, checkOptions, integer, number } from './options.ts'
import type { GivenOptions, OptionsOf } from './options.ts'

/** No record fails more often than this, whatever asks for another attempt. */
export const MAX_ATTEMPTS = 1_000

/** `attempt` is the number of failures so far, 1 after the first; the answer is a delay in milliseconds. */
export type BackoffFunction = (attempt: number, error: unknown) => number

export type Backoff = 'exponential' | 'fixed' | BackoffFunction

const isBackoff = (value: unknown): value is Backoff =>
  value === 'exponential' || value === 'fixed' || typeof value === 'function'

const isRetryIf = (value: unknown): value is (error: unknown) => boolean => typeof value === 'function'

/** Every option of `retry`: bounds, default and meaning. */
export const RETRY_OPTIONS = Object.freeze({
  maxAttempts: integer({
    min: 1,
    max: MAX_ATTEMPTS,
    default: 1,
    description: 'attempts in all, the first one included',
  }),
  backoff: anything({
    shape: '"exponential", "fixed" or a function of (attempt, error)',
    is: isBackoff,
    default: 'exponential',
    description: 'how the delay grows: doubled each time, the same each time, or what the function answers in ms',
  }),
  delayMs: integer({
    min: 0,
    max: MAX_RETRY_DELAY_MS,
    default: 1_000,
    description: 'delay after the first failure, in ms',
  }),
  maxDelayMs: integer({ min: 0, max: MAX_RETRY_DELAY_MS, default: 3_600_000, description: 'longest delay, in ms' }),
  jitter: number({
    min: 0,
    max: 1,
    default: 0.1,
    description: 'up to this share of a delay is taken off at random, so that failures do not come back together',
  }),
  retryIf: anything({
    shape: 'a function of (error)',
    is: isRetryIf,
    description: 'answers true for an error that may pass; without it every error may',
  }),
})

/** What `task({ retry })` takes. */
export type RetryOptions = GivenOptions<typeof RETRY_OPTIONS>

export type RetryPolicy = OptionsOf<typeof RETRY_OPTIONS>

/** The policy of a task. @throws TaskOptionError an option is not what it may be. */
export function checkRetryOptions(given: RetryOptions | undefined, where = 'options.retry'): RetryPolicy {
  return checkOptions(where, RETRY_OPTIONS, given)
}

/** One attempt, no retry: the policy of a task without `retry`. */
export const NO_RETRY: RetryPolicy = checkRetryOptions(undefined)

/**
 * How long to wait until the record runs again, in whole milliseconds; null when it is FAILED.
 *
 * - `DoNotRetry` was thrown: null.
 * - `RetryLater` was thrown: its own delay, whatever `maxAttempts`, `maxDelayMs` and `retryIf` say, up to MAX_ATTEMPTS failures.
 * - Otherwise null once `attempt` reaches `maxAttempts`, or unless `retryIf` answers exactly true (a promise does not).
 * - A `retryIf` or `backoff` that throws, and a backoff that is no number from 0 on, mean null: the record is FAILED with the
 *   error of the attempt, which is the one to look at.
 *
 * Jitter is for the two named backoffs; a function's answer is kept to `maxDelayMs` only.
 *
 * @param attempt failures so far, this one included: 1 for the first.
 */
export function retryDelayMs(
  policy: RetryPolicy,
  attempt: number,
  error: unknown,
  random: () => number = Math.random,
): number | null {
  if (attempt >= MAX_ATTEMPTS) return null
  try {
    if (error instanceof DoNotRetry) return null
    if (error instanceof RetryLater) return error.delayMs
    if (attempt >= policy.maxAttempts) return null
    const mayPass: unknown = policy.retryIf ? policy.retryIf(error) : true
    if (mayPass !== true) return null
    return backoffMs(policy, attempt, error, random)
  } catch {
    // Code of the user's threw: `retryIf`, `backoff`, or a Proxy that was thrown. The attempt's own error is the one that is kept.
    return null
  }
}

function backoffMs(policy: RetryPolicy, attempt: number, error: unknown, random: () => number): number | null {
  const { backoff, delayMs, maxDelayMs, jitter } = policy
  if (typeof backoff === 'function') {
    const answer: unknown = backoff(attempt, error)
    return typeof answer === 'number' && answer >= 0 ? Math.min(Math.ceil(answer), maxDelayMs) : null
  }
  // 2^40 ms are 35 years: beyond every maxDelayMs, and far from what a double loses.
  const grown = backoff === 'fixed' ? delayMs : delayMs * 2 ** Math.min(attempt - 1, 40)
  return Math.round(Math.min(grown, maxDelayMs) * (1 - jitter * random()))
}
