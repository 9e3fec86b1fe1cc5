import { expect } from 'chai'
import sinon from 'sinon'
import { eventually } from './eventually.ts'

describe('eventually', () => {
  it('answers what the function answers', async () => {
    expect(await eventually(() => 'here')).to.equal('here')
  })

  it('asks again until the function stops throwing', async () => {
    let calls = 0
    await eventually(() => {
      calls += 1
      expect(calls).to.equal(3)
    })
    expect(calls).to.equal(3)
  })

  it('takes false, null, zero and an empty string for "not yet"', async () => {
    const answers = [false, null, 0, '', 'there']
    expect(await eventually(() => Promise.resolve(answers.shift() ?? null))).to.equal('there')
  })

  it('throws the last error once the time is over', async () => {
    const error = new Error('still not there')
    const outcome = await eventually(() => Promise.reject(error), { timeoutMs: 15 }).catch((caught: unknown) => caught)
    expect(outcome).to.equal(error)
  })

  it('shows the last answer once the time is over', async () => {
    const outcome = await eventually(() => null, { timeoutMs: 1 }).catch((caught: unknown) => caught)
    expect(outcome).to.be.an('error').with.property('message', 'expected an answer within 1 ms, got: null')
  })

  it('puts the message before the last error and keeps it as the cause', async () => {
    const error = new Error('3 left')
    const fails = (): void => {
      throw error
    }
    const outcome = await eventually(fails, { timeoutMs: 1, message: 'the queue is empty' }).catch(
      (caught: unknown) => caught,
    )
    expect(outcome).to.be.an('error').that.includes({ message: 'the queue is empty: 3 left', cause: error })
  })

  it('goes on under fake timers', async () => {
    const clock = sinon.useFakeTimers()
    try {
      let calls = 0
      expect(await eventually(() => ++calls === 3)).to.equal(true)
    } finally {
      clock.restore()
    }
  })

  it('refuses, for the compiler, an answer that may be undefined', async () => {
    const values = new Map([['a', 1]])
    // @ts-expect-error: Map.get answers undefined for "not yet", which would pass for an assertion block that is done
    expect(await eventually(() => values.get('a'))).to.equal(1)
  })
})
