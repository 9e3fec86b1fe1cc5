import { expect } from 'chai'
import fc from 'fast-check'
import { DoNotRetry, MAX_RETRY_DELAY_MS, RetryLater, TaskError, TaskOptionError } from '../lib/errors.ts'
import { checkRetryOptions, MAX_ATTEMPTS, NO_RETRY, retryDelayMs } from '../lib/retry-policy.ts'
import type { RetryOptions } from '../lib/retry-policy.ts'

const error = new Error('declined')

/** The delays after failures 1, 2, 3 …, until there is none. */
function delays(
  options: RetryOptions,
  thrown: unknown = error,
  random = (): number => 0,
  most = 20,
): (number | null)[] {
  const policy = checkRetryOptions(options)
  const found: (number | null)[] = []
  for (let attempt = 1; attempt <= most; attempt += 1) {
    found.push(retryDelayMs(policy, attempt, thrown, random))
    if (found.at(-1) === null) break
  }
  return found
}

describe('retryDelayMs', () => {
  it('answers null at once without options: one attempt', () => {
    expect(delays({})).to.deep.equal([null])
    expect(retryDelayMs(NO_RETRY, 1, error)).to.equal(null)
  })

  it('doubles the delay each time, up to maxDelayMs', () => {
    expect(delays({ maxAttempts: 5 })).to.deep.equal([1000, 2000, 4000, 8000, null])
    expect(delays({ maxAttempts: 5, delayMs: 300, maxDelayMs: 1000 })).to.deep.equal([300, 600, 1000, 1000, null])
    expect(delays({ maxAttempts: 3, delayMs: 0 })).to.deep.equal([0, 0, null])
    expect(delays({ maxAttempts: 3, delayMs: 10, maxDelayMs: 5 })).to.deep.equal([5, 5, null])
  })

  it('keeps the delay with "fixed"', () => {
    expect(delays({ maxAttempts: 4, backoff: 'fixed', delayMs: 250 })).to.deep.equal([250, 250, 250, null])
  })

  it('asks a function, with the number of failures and the error, and keeps its answer to maxDelayMs', () => {
    const seen: unknown[] = []
    const backoff = (attempt: number, thrown: unknown): number => {
      seen.push(attempt, thrown)
      return attempt * 400.5
    }
    expect(delays({ maxAttempts: 4, backoff, maxDelayMs: 1000, jitter: 1 }, error, () => 0.9)).to.deep.equal([
      401,
      801,
      1000,
      null,
    ])
    expect(seen).to.deep.equal([1, error, 2, error, 3, error])
    expect(delays({ maxAttempts: 2, backoff: () => Infinity, maxDelayMs: 7 })).to.deep.equal([7, null])
  })

  it('takes up to the share of jitter off', () => {
    const options = { maxAttempts: 2, delayMs: 1000 }
    expect(delays(options, error, () => 0.5)).to.deep.equal([950, null])
    expect(delays({ ...options, jitter: 0 }, error, () => 0.5)).to.deep.equal([1000, null])
    expect(delays({ ...options, jitter: 1 }, error, () => 0.25)).to.deep.equal([750, null])
    expect(delays({ ...options, maxDelayMs: 100 }, error, () => 0.5)).to.deep.equal([95, null])
  })

  it('stays a whole number between 0 and maxDelayMs, whatever the options and attempt', () => {
    const options = fc.record({
      maxAttempts: fc.constant(MAX_ATTEMPTS),
      backoff: fc.constantFrom('exponential' as const, 'fixed' as const),
      delayMs: fc.integer({ min: 0, max: MAX_RETRY_DELAY_MS }),
      maxDelayMs: fc.integer({ min: 0, max: MAX_RETRY_DELAY_MS }),
      jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    fc.assert(
      fc.property(
        options,
        fc.integer({ min: 1, max: MAX_ATTEMPTS - 1 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (given, attempt, share) => {
          const delay = retryDelayMs(checkRetryOptions(given), attempt, error, () => share)
          expect(delay).to.satisfy(Number.isSafeInteger).and.to.be.within(0, given.maxDelayMs)
        },
      ),
    )
  })

  it('ends when retryIf does not answer true', () => {
    const options = { maxAttempts: 3, jitter: 0 }
    expect(delays({ ...options, retryIf: (thrown) => thrown === error })).to.deep.equal([1000, 2000, null])
    expect(delays({ ...options, retryIf: () => false })).to.deep.equal([null])
    expect(delays({ ...options, retryIf: (async () => true) as never })).to.deep.equal([null])
    expect(delays({ ...options, retryIf: (() => 1) as never })).to.deep.equal([null])
  })

  it('ends when retryIf or backoff throws, or backoff answers no delay', () => {
    const throws = (): never => {
      throw new Error('from the policy')
    }
    expect(delays({ maxAttempts: 3, retryIf: throws })).to.deep.equal([null])
    expect(delays({ maxAttempts: 3, backoff: throws })).to.deep.equal([null])
    for (const answer of [NaN, -1, undefined, null, '5', {}]) {
      expect(delays({ maxAttempts: 3, backoff: () => answer as never })).to.deep.equal([null])
    }
  })

  it('takes any thrown value', () => {
    const traps = { get: () => expect.fail('read'), getPrototypeOf: () => expect.fail('asked') }
    for (const thrown of [undefined, null, 'text', 5, Symbol('s'), Object.create(null), Object.freeze({})]) {
      expect(delays({ maxAttempts: 2 }, thrown)).to.deep.equal([1000, null])
    }
    expect(delays({ maxAttempts: 2 }, new Proxy({}, traps))).to.deep.equal([null])
  })
})

describe('RetryLater', () => {
  it('runs again after its own delay, whatever the options say, up to the hard bound', () => {
    const later = new RetryLater({ delayMs: 7_200_000 })
    expect(delays({}, later, undefined, 3)).to.deep.equal([7_200_000, 7_200_000, 7_200_000])
    expect(delays({ maxAttempts: 2, maxDelayMs: 5, retryIf: () => false }, later, undefined, 3)).to.have.length(3)
    expect(retryDelayMs(NO_RETRY, MAX_ATTEMPTS - 1, later)).to.equal(7_200_000)
    expect(retryDelayMs(NO_RETRY, MAX_ATTEMPTS, later)).to.equal(null)
  })

  it('is a TaskError with its delay and cause', () => {
    const later = new RetryLater({ delayMs: 1100.0000000000002, cause: error })
    expect(later).to.be.instanceOf(TaskError)
    expect(later).to.include({ name: 'RetryLater', code: 'ERR_TASKS_RETRY_LATER', delayMs: 1101, cause: error })
    expect(later.message).to.equal('the task asked to run again in 1101 ms')
    expect(new RetryLater({ delayMs: 0 })).not.to.have.property('cause')
  })

  it('refuses a delay that is none', () => {
    for (const delayMs of [-1, NaN, Infinity, MAX_RETRY_DELAY_MS + 1, '5', null, undefined, new Date()]) {
      expect(() => new RetryLater({ delayMs: delayMs as never }))
        .to.throw(TaskOptionError)
        .that.has.property('field', 'delayMs')
    }
    expect(new RetryLater({ delayMs: MAX_RETRY_DELAY_MS }).delayMs).to.equal(MAX_RETRY_DELAY_MS)
  })
})

describe('DoNotRetry', () => {
  it('ends the record, whatever the options say', () => {
    const stop = new DoNotRetry('the address does not exist', { cause: error })
    expect(stop).to.include({ name: 'DoNotRetry', code: 'ERR_TASKS_DO_NOT_RETRY', cause: error })
    expect(stop.message).to.equal('the address does not exist')
    expect(delays({ maxAttempts: 5, retryIf: () => true }, stop)).to.deep.equal([null])
  })
})

describe('checkRetryOptions', () => {
  it('fills in the defaults', () => {
    expect({ ...checkRetryOptions({}) }).to.deep.equal({
      maxAttempts: 1,
      backoff: 'exponential',
      delayMs: 1000,
      maxDelayMs: 3_600_000,
      jitter: 0.1,
    })
    expect(checkRetryOptions({})).to.be.frozen
  })

  it('refuses the rest, with the field', () => {
    const bad: Record<string, unknown>[] = [
      { maxAttempts: 0 },
      { maxAttempts: 1.5 },
      { maxAttempts: MAX_ATTEMPTS + 1 },
      { maxAttempts: '3' },
      { backoff: 'linear' },
      { backoff: null },
      { delayMs: -1 },
      { delayMs: 0.5 },
      { maxDelayMs: MAX_RETRY_DELAY_MS + 1 },
      { jitter: 1.01 },
      { jitter: true },
      { retryIf: 'always' },
      { attempts: 3 },
    ]
    for (const given of bad) {
      expect(() => checkRetryOptions(given))
        .to.throw(TaskOptionError)
        .that.has.property('field', `options.retry.${Object.keys(given)[0] ?? ''}`)
    }
    expect(() => checkRetryOptions(5 as never, 'retry'))
      .to.throw(TaskOptionError)
      .that.has.property('field', 'retry')
  })
})
