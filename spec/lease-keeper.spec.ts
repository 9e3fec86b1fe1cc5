/** LeaseKeeper, on a clock that the case moves: when it renews, and when it says that a lease is lost. */
import { expect } from 'chai'
import { setImmediate as turn } from 'node:timers/promises'
import { StorageUnavailableError, TaskLeaseLostError } from '../lib/index.ts'
import type { LossReason } from '../lib/attempt.ts'
import { LeaseKeeper } from '../lib/lease-keeper.ts'
import type { HeldLease, Renewer } from '../lib/lease-keeper.ts'
import { silentLogger } from '../lib/logger.ts'
import type { Lease } from '../lib/storage/storage.ts'
import { ManualClock } from './support/manual-clock.ts'

const LEASE_MS = 10_000
const RENEW_MS = 3_000

type Word = 'RENEWED' | 'LOST' | 'BROKEN'

/** Answers as the case says, and remembers what it was asked. */
class ScriptedRenewer implements Renewer {
  readonly leaseMs = LEASE_MS
  readonly calls: { readonly atMs: number; readonly ids: readonly string[] }[] = []
  answer: (id: string) => Word | Promise<Word> = () => 'RENEWED'
  readonly #clock: ManualClock

  constructor(clock: ManualClock) {
    this.#clock = clock
  }

  async renew(leases: readonly Lease[]): Promise<Word[]> {
    this.calls.push({ atMs: this.#clock.monotonicMs(), ids: leases.map(({ id }) => id) })
    return await Promise.all(leases.map(async ({ id }) => await this.answer(id)))
  }
}

describe('LeaseKeeper', () => {
  let clock: ManualClock
  let renewer: ScriptedRenewer
  let keeper: LeaseKeeper
  let lost: { readonly id: string; readonly atMs: number }[]

  beforeEach(() => {
    clock = new ManualClock()
    renewer = new ScriptedRenewer(clock)
    keeper = new LeaseKeeper(renewer, clock, silentLogger)
    lost = []
  })

  const leaseOf = (id: string): Lease => ({ id, token: `1:${id}`, entryId: '1-1' })

  function held(id: string, fields: Partial<HeldLease> = {}): HeldLease {
    const lose = (reason: LossReason): void => {
      if (!(reason instanceof TaskLeaseLostError)) throw new Error('expected a lost lease, got: a cancelled one')
      lost.push({ id: reason.id, atMs: clock.monotonicMs() })
    }
    return { lease: leaseOf(id), name: 'kept', sentAtMs: clock.monotonicMs(), stopAtMs: Infinity, lose, ...fields }
  }

  /** Moves the clock in steps, so that what a timer started can go on before the next. */
  async function pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 100) {
      clock.advance(100)
      await turn()
    }
  }

  const renewedAt = (): number[] => renewer.calls.map(({ atMs }) => atMs)

  it('is ready at once', async () => {
    await keeper.start()
    expect(clock.timers).to.equal(0)
  })

  it('renews all that it keeps every 0.3 of their length, together', async () => {
    keeper.hold([held('a')])
    await pass(1_000)
    keeper.hold([held('b')])
    await pass(9_000)
    expect(renewedAt()).to.deep.equal([3_000, 6_000, 9_000])
    expect(renewer.calls[0]?.ids).to.deep.equal(['a', 'b'])
    expect(lost).to.deep.equal([])
  })

  it('asks for a hundred at a time', async () => {
    keeper.hold(Array.from({ length: 250 }, (_, index) => held(`id-${index}`)))
    await pass(RENEW_MS)
    expect(renewer.calls.map(({ ids }) => ids.length)).to.deep.equal([100, 100, 50])
  })

  it('keeps no timer once all are released, and begins anew with the next', async () => {
    keeper.hold([held('a')])
    keeper.release([leaseOf('a')])
    expect(clock.timers).to.equal(0)
    await pass(LEASE_MS)
    expect(renewer.calls).to.deep.equal([])
    keeper.hold([held('b')])
    await pass(RENEW_MS)
    expect(renewedAt()).to.deep.equal([LEASE_MS + RENEW_MS])
  })

  it('keeps no timer after its stop, which may be called twice', async () => {
    keeper.hold([held('a')])
    await keeper.stop()
    await keeper.stop()
    expect(clock.timers).to.equal(0)
  })

  it('says once that a lease is lost when the storage says so, and renews it no more', async () => {
    renewer.answer = (id) => (id === 'b' ? 'LOST' : 'RENEWED')
    keeper.hold([held('a'), held('b')])
    await pass(4 * RENEW_MS)
    expect(lost).to.deep.equal([{ id: 'b', atMs: RENEW_MS }])
    expect(renewer.calls.map(({ ids }) => ids)).to.deep.equal([['a', 'b'], ['a'], ['a'], ['a']])
  })

  it('says nothing of a lease that was released while its renewal was out', async () => {
    let answer!: (word: Word) => void
    renewer.answer = () => new Promise((resolve) => (answer = resolve))
    keeper.hold([held('a')])
    await pass(RENEW_MS)
    keeper.release([leaseOf('a')])
    answer('LOST')
    await pass(LEASE_MS)
    expect(lost).to.deep.equal([])
  })

  it('tries again while renewals fail, and gives up at the deadline, not before', async () => {
    renewer.answer = () => Promise.reject(new StorageUnavailableError('renew', 'no answer', 'wait'))
    keeper.hold([held('a')])
    await pass(9_900)
    expect(renewedAt()).to.deep.equal([3_000, 6_000, 9_000])
    expect(lost).to.deep.equal([])
    await pass(200)
    expect(lost).to.deep.equal([{ id: 'a', atMs: LEASE_MS }])
  })

  it('gives up at the deadline also while a renewal still waits for its answer', async () => {
    renewer.answer = () => new Promise(() => {})
    keeper.hold([held('a')])
    await pass(LEASE_MS)
    expect(lost).to.deep.equal([{ id: 'a', atMs: LEASE_MS }])
  })

  it('counts the deadline from before the renewal was sent', async () => {
    let answer!: (word: Word) => void
    renewer.answer = () => new Promise((resolve) => (answer = resolve))
    keeper.hold([held('a')])
    await pass(RENEW_MS)
    await pass(2_000)
    answer('RENEWED')
    renewer.answer = () => new Promise(() => {})
    await pass(20_000)
    expect(lost).to.deep.equal([{ id: 'a', atMs: RENEW_MS + LEASE_MS }])
  })

  it('counts the renewal from before the begin was sent, however late it is told of it', async () => {
    keeper.hold([held('a', { sentAtMs: clock.monotonicMs() - 1_000 })])
    await pass(2_000)
    expect(renewedAt()).to.deep.equal([RENEW_MS - 1_000])
  })

  it('renews at once what took long to arrive, also when a renewal is planned for later', async () => {
    keeper.hold([held('a')])
    await pass(500)
    keeper.hold([held('late', { sentAtMs: clock.monotonicMs() - 6_000 })])
    await pass(100)
    expect(renewer.calls[0]).to.deep.equal({ atMs: 500, ids: ['a', 'late'] })
  })

  it('loses what a frozen process could not renew, as soon as it wakes', async () => {
    keeper.hold([held('a')])
    clock.advance(3 * LEASE_MS)
    await turn()
    expect(lost.map(({ id }) => id)).to.deep.equal(['a'])
    expect(renewer.calls.flatMap(({ ids, atMs }) => (atMs > LEASE_MS ? ids : []))).to.deep.equal([])
  })

  it('stops renewing at the attempt’s own limit, so that a hung function does not keep its lease for ever', async () => {
    keeper.hold([held('a', { stopAtMs: 4_000 })])
    await pass(20_000)
    expect(renewedAt()).to.deep.equal([3_000])
    expect(lost).to.deep.equal([{ id: 'a', atMs: 3_000 + LEASE_MS }])
  })

  it('takes a new limit for a lease that it keeps already, and keeps its deadline', async () => {
    const first = held('a')
    keeper.hold([first])
    await pass(5_000)
    keeper.hold([{ ...first, stopAtMs: 7_000 }])
    await pass(20_000)
    expect(renewedAt().filter((atMs) => atMs > 7_000)).to.deep.equal([])
    expect(lost).to.have.lengthOf(1)
    expect(lost[0]?.atMs).to.be.at.least(6_000 + LEASE_MS)
  })
})
