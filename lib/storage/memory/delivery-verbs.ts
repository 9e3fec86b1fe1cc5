/**
 * The delivery verbs of memory storage but for reclaim: each one synchronous step, judged first and written then.
 * The judgement of a delivered entry (begun, held or dropped) is the table of the protocol: a record owns the entry that
 * its `entryId` names, an entry that no record names is deleted, and RUNNING is never taken over by a delivery.
 */
import type { TaskStatus } from '../../task-status.ts'
import { BANDS, CALL_LIMITS } from '../storage.ts'
import type {
  Claim,
  Delivery,
  HandBackDelay,
  Lease,
  Promoted,
  QueueDepth,
  RecoverRequest,
  RenewOptions,
  Settlement,
  SettleWord,
  TakeRequest,
  Taken,
} from '../storage.ts'
import type { Keyspace } from './keyspace.ts'
import { deliveryOf, errorAt, forgive, isHeldBy, tokenOf, wasSettledBy, type MemoryRecord } from './memory-record.ts'
import type { Entry, Stream } from './stream.ts'

const FIRST_HAND_BACK_DELAY_MS = 250
const LONGEST_HAND_BACK_DELAY_MS = 60_000

export class DeliveryVerbs {
  readonly #keyspace: Keyspace

  constructor(keyspace: Keyspace) {
    this.#keyspace = keyspace
  }

  take(request: TakeRequest, now: number): Taken {
    const begun: Delivery[] = []
    let left = request.count
    for (const stream of this.#streams(request.queueNames)) {
      const entries = stream.read(request.consumer, left, now)
      left -= entries.length
      for (const entry of entries) {
        const record = this.ownerOf(stream, entry)
        if (record?.status === 'READY') begun.push(this.#begin(record, request, now))
        else if (record && record.leaseToken === tokenOf(record, request)) begun.push(deliveryOf(record))
      }
    }
    return { begun, passed: request.count - left - begun.length }
  }

  recover(request: RecoverRequest, now: number): Taken {
    const begun: Delivery[] = []
    let passed = 0
    for (const stream of this.#streams(request.queueNames)) {
      for (const entry of stream.own(request.consumer)) {
        if (request.inHand.has(entry.id)) continue
        const record = this.ownerOf(stream, entry)
        const isTheirs = record?.status === 'RUNNING' && !isHeldBy(record, request)
        if (!record || isTheirs) passed += 1
        else if (begun.length < request.count) begun.push(this.#beginOwn(record, request, now))
        else if (record.status === 'RUNNING') this.#handBack(record, 'none', now)
        else this.#replace(record, now)
      }
    }
    return { begun, passed }
  }

  runById(claim: Claim, id: string, allowRetry: boolean, now: number): Delivery | TaskStatus | 'ABSENT' {
    const record = this.#keyspace.records.get(id)
    if (!record) return 'ABSENT'
    if (record.status === 'RUNNING' && record.leaseToken === tokenOf(record, claim)) return deliveryOf(record)
    const mayRun = record.status === 'READY' || (record.status === 'FAILED' && allowRetry)
    if (!mayRun || record.requestId === claim.call) return record.status
    if (record.status === 'FAILED') forgive(record)
    record.runAfter = null
    record.requestId = claim.call
    // An undelivered entry stays where it is: a worker that reads it finds the record RUNNING and leaves it alone.
    if (record.entryId === '') {
      this.#keyspace.unplace(record)
      this.#keyspace.push(record, now)
    }
    return this.#begin(record, claim, now)
  }

  settle(items: readonly Settlement[], now: number): readonly SettleWord[] {
    return items.map((item) => {
      const { id, token } = item.lease
      const record = this.#keyspace.records.get(id)
      if (token === '' || !record) return 'LOST'
      if (record.leaseToken !== token) return wasSettledBy(record, token) ? 'SETTLED' : 'LOST'
      if (item.outcome !== 'READY') record.settledToken = token
      if (item.outcome === 'READY' || record.attempts > 1) record.lastMove = `settle ${token}`
      this.#settle(record, item, now)
      return 'SETTLED'
    })
  }

  requeue(leases: readonly Lease[], delay: HandBackDelay, now: number): readonly ('REQUEUED' | 'FAILED' | 'LOST')[] {
    return leases.map(({ id, token, entryId }) => {
      const record = this.#keyspace.records.get(id)
      if (!record) return 'LOST'
      if (token === '') {
        if (record.status !== 'READY' || entryId === '' || record.entryId !== entryId) return 'LOST'
        this.#replace(record, now)
      } else if (record.leaseToken === token) {
        return this.#handBack(record, delay, now)
      } else if (record.lastMove !== `requeue ${token}`) {
        return record.lastMove === `unknown ${token}` ? 'FAILED' : 'LOST'
      }
      return 'REQUEUED'
    })
  }

  renew(
    { consumer, leaseMs, starts }: RenewOptions & { consumer: string; leaseMs: number },
    leases: readonly Lease[],
    now: number,
  ): readonly ('RENEWED' | 'CANCELLED' | 'LOST')[] {
    return leases.map(({ id, token }) => {
      const record = this.#keyspace.records.get(id)
      if (!record || token === '') return 'LOST'
      if (record.leaseToken !== token) return record.lastMove === `cancel ${token}` ? 'CANCELLED' : 'LOST'
      this.#keyspace.moveDeadline(record, now + leaseMs)
      this.#keyspace.streamOf(record).claim(record.entryId, consumer, now)
      if (starts) record.waitToken = 'started'
      return 'RENEWED'
    })
  }

  promote(queueName: string, now: number): Promoted {
    const delayed = this.#keyspace.queues.get(queueName)?.delayed
    const due = delayed?.range({ to: now, limit: CALL_LIMITS.moves }) ?? []
    for (const { member } of due) {
      delayed?.remove(member)
      const record = this.#keyspace.records.get(member)
      if (record) this.#keyspace.push(record, now)
    }
    const first = delayed?.first()
    return { moved: due.length, dueInMs: first ? Math.max(first.score - now, 0) : null }
  }

  depth(queueNames: readonly string[]): readonly QueueDepth[] {
    return queueNames.map((queueName) => {
      const queue = this.#keyspace.queues.get(queueName)
      if (!queue) return { queueName, high: 0, normal: 0, low: 0, delayed: 0 }
      const { high, normal, low } = queue.streams
      return { queueName, high: high.length, normal: normal.length, low: low.length, delayed: queue.delayed.size }
    })
  }

  /** The record that names a delivered entry. An entry that no record names is acknowledged and deleted here. */
  ownerOf(stream: Stream, { id, entryId }: Entry): MemoryRecord | undefined {
    const record = this.#keyspace.records.get(id)
    if (record?.entryId === entryId && this.#keyspace.streamOf(record) === stream) return record
    stream.remove(entryId)
    return undefined
  }

  /** Band by band, and within a band in the order of the queues. */
  #streams(queueNames: readonly string[]): readonly Stream[] {
    return BANDS.flatMap((band) => queueNames.map((queueName) => this.#keyspace.stream(queueName, band))).filter(
      (stream) => stream !== undefined,
    )
  }

  #begin(record: MemoryRecord, claim: Claim, now: number): Delivery {
    this.#keyspace.startAttempt(record, claim, now)
    return deliveryOf(record)
  }

  /** What this consumer was handed before: a new attempt of READY, the same attempt of RUNNING under a new token. */
  #beginOwn(record: MemoryRecord, claim: Claim, now: number): Delivery {
    if (record.status === 'READY') return this.#begin(record, claim, now)
    if (record.leaseToken !== tokenOf(record, claim)) this.#keyspace.grantLease(record, claim, now)
    return deliveryOf(record)
  }

  #settle(record: MemoryRecord, { outcome, payload, delayMs }: Settlement, now: number): void {
    if (outcome === 'SUCCESSFUL') record.returnValue = payload
    else record.errors.push(errorAt(now, payload))
    if (outcome !== 'READY') {
      const due = Math.max(record.enqueuedAt, record.runAfter ?? 0)
      const waitMs = record.attempts === 1 ? (record.lastAttemptedAt ?? now) - due : null
      this.#keyspace.finish(record, outcome, waitMs, now)
      return
    }
    this.#keyspace.endAttempt(record)
    record.runAfter = delayMs > 0 ? now + delayMs : null
    this.#keyspace.place(record, now)
  }

  /** RUNNING -> READY as if the attempt had never been; FAILED past the limit of an unknown task. */
  #handBack(record: MemoryRecord, delay: HandBackDelay, now: number): 'REQUEUED' | 'FAILED' {
    const { attempts, leaseToken: token, unknown } = record
    const goesOn = record.handBacks > 0 && unknown?.attempts === attempts
    const since = goesOn ? unknown.since : now
    const forget = (): void => {
      record.attempts -= 1
      record.workerIds.pop()
      if (record.attempts === 0) Object.assign(record, { startedAt: null, lastAttemptedAt: null })
    }
    if (typeof delay === 'object' && now - since >= delay.failAfterMs) {
      record.lastMove = `unknown ${token}`
      record.errors.push(errorAt(now, delay.error, attempts - 1))
      this.#keyspace.finish(record, 'FAILED', null, now)
      forget()
      return 'FAILED'
    }
    record.lastMove = `requeue ${token}`
    this.#keyspace.endAttempt(record)
    forget()
    if (delay !== 'none') {
      record.unknown = { attempts, since }
      record.runAfter = now + Math.min(LONGEST_HAND_BACK_DELAY_MS, FIRST_HAND_BACK_DELAY_MS * 2 ** record.handBacks)
      record.handBacks += 1
    }
    this.#keyspace.place(record, now)
    return 'REQUEUED'
  }

  /** A delivery that was not begun goes to the end of its band. */
  #replace(record: MemoryRecord, now: number): void {
    this.#keyspace.unplace(record)
    this.#keyspace.place(record, now)
  }
}
