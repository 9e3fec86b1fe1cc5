/**
 * What a storage should answer, in the plainest code: one map of records, one list of entries, every search a scan.
 * Written from the rules of the protocol, not from a storage, so that the two can be compared after every step.
 * One queue and one task name; a time is whatever the caller says it is.
 */
import type { Claim, HandBackDelay, Lease, RecordChanges, Settlement } from '../../lib/storage/storage.ts'
import type { NewRecord, StoredRecord } from '../../lib/storage/stored-record.ts'
import { bandOf, BANDS } from '../../lib/storage/storage.ts'
import type { FinalStatus, TaskStatus } from '../../lib/task-status.ts'

export interface ModelRecord {
  id: string
  priority: number
  args: string
  runAfter: number | null
  status: TaskStatus
  enqueuedAt: number
  startedAt: number | null
  lastAttemptedAt: number | null
  finishedAt: number | null
  workers: string[]
  errors: string[]
  returnValue: string | null
  crashes: number
  handBacks: number
  token: string
  leaseUntil: number
  fence: number
  /** Its last settle, where that ended it. */
  settled: string
  lastMove: string
  requestId: string
  cancelId: string
  /** Of an attempt at the limit of crashes that has not started. */
  waits: string
  unknown: { readonly attempts: number; readonly since: number } | null
}

interface ModelEntry {
  readonly id: string
  readonly band: string
  consumer: string
  deliveredAt: number
}

/** `READY` whose time had not come at its last move, or an id that has no record. */
export type Situation = TaskStatus | 'DELAYED' | 'EXPIRED' | 'ABSENT'

export const SITUATIONS: readonly Situation[] = [
  'ABSENT',
  'READY',
  'DELAYED',
  'RUNNING',
  'EXPIRED',
  'SUCCESSFUL',
  'FAILED',
]

export class StorageModel {
  readonly records = new Map<string, ModelRecord>()
  /** In the order in which they were added. */
  entries: ModelEntry[] = []
  /** Every token and fence ever given out, by record: neither may come twice. */
  readonly #tokens = new Set<string>()

  situation(id: string, now: number): Situation {
    const record = this.records.get(id)
    if (!record) return 'ABSENT'
    if (record.status === 'RUNNING') return record.leaseUntil <= now ? 'EXPIRED' : 'RUNNING'
    return record.status === 'READY' && !this.entryOf(id) ? 'DELAYED' : record.status
  }

  entryOf(id: string): ModelEntry | undefined {
    return this.entries.find((entry) => entry.id === id)
  }

  withStatus(status: TaskStatus): ModelRecord[] {
    return [...this.records.values()].filter((record) => record.status === status)
  }

  delayed(): ModelRecord[] {
    return this.withStatus('READY').filter(({ id }) => !this.entryOf(id))
  }

  enqueue({ id, priority, runAfter, args }: NewRecord, now: number): string {
    if (this.records.has(id)) return 'EXISTS'
    const record: ModelRecord = {
      ...{ id, priority, runAfter, args, status: 'READY', enqueuedAt: now },
      ...{ startedAt: null, lastAttemptedAt: null, finishedAt: null, workers: [], errors: [], returnValue: null },
      ...{
        crashes: 0,
        handBacks: 0,
        token: '',
        leaseUntil: 0,
        fence: 0,
        settled: '',
        lastMove: '',
        requestId: '',
        cancelId: '',
        waits: '',
        unknown: null,
      },
    }
    this.records.set(id, record)
    this.#place(record, now)
    return 'ENQUEUED'
  }

  /** The ids begun, in order, and how many entries were passed over. */
  take(claim: Claim, count: number, now: number): { begun: string[]; passed: number } {
    const unread = this.#inBandOrder((entry) => entry.consumer === '').slice(0, count)
    const begun: string[] = []
    for (const entry of unread) {
      entry.consumer = claim.consumer
      entry.deliveredAt = now
      const record = this.#get(entry.id)
      if (record.status === 'READY') this.#begin(record, claim, now)
      else if (record.token !== `${record.workers.length}:${claim.call}`) continue
      begun.push(record.id)
    }
    return { begun, passed: unread.length - begun.length }
  }

  recover(claim: Claim, count: number, inHand: ReadonlySet<string>, now: number): { begun: string[]; passed: number } {
    const begun: string[] = []
    let passed = 0
    for (const { id } of this.#inBandOrder(({ consumer }) => consumer === claim.consumer)) {
      const record = this.#get(id)
      if (inHand.has(id)) continue
      if (!record.token.includes(`:${holderOf(claim)}.`)) {
        passed += 1
      } else if (begun.length === count) {
        this.#handBack(record, 'none', now)
      } else {
        if (record.token !== `${record.workers.length}:${claim.call}`) this.#lease(record, claim, now)
        begun.push(id)
      }
    }
    return { begun, passed }
  }

  /** The status it answers, or `BEGUN`. */
  runById(claim: Claim, id: string, allowRetry: boolean, now: number): string {
    const record = this.records.get(id)
    if (!record) return 'ABSENT'
    if (record.token === `${record.workers.length}:${claim.call}`) return 'BEGUN'
    if (record.requestId === claim.call) return record.status
    if (record.status !== 'READY' && !(record.status === 'FAILED' && allowRetry)) return record.status
    if (record.status === 'FAILED') this.#forgive(record)
    record.runAfter = null
    record.requestId = claim.call
    if (!this.entryOf(id)) this.#push(record)
    this.#begin(record, claim, now)
    return 'BEGUN'
  }

  settle({ lease: { id, token }, outcome, payload, delayMs }: Settlement, now: number): string {
    const record = this.records.get(id)
    if (!record) return 'LOST'
    if (record.token !== token)
      return [record.settled, record.lastMove].includes(`settle ${token}`) ? 'SETTLED' : 'LOST'
    if (outcome !== 'READY') record.settled = `settle ${token}`
    if (outcome === 'READY' || record.workers.length > 1) record.lastMove = `settle ${token}`
    if (outcome === 'SUCCESSFUL') record.returnValue = payload
    else record.errors.push(`{"at":${now},${payload.slice(1)}`)
    if (outcome === 'READY') {
      this.#leave(record, 'READY')
      record.runAfter = delayMs > 0 ? now + delayMs : null
      this.#place(record, now)
    } else {
      this.#leave(record, outcome)
      record.finishedAt = now
    }
    return 'SETTLED'
  }

  requeue(id: string, token: string, delay: HandBackDelay, now: number): string {
    const record = this.records.get(id)
    if (!record || record.token !== token) {
      const answers = { [`requeue ${token}`]: 'REQUEUED', [`unknown ${token}`]: 'FAILED' }
      return answers[record?.lastMove ?? ''] ?? 'LOST'
    }
    return this.#handBack(record, delay, now)
  }

  renew(consumer: string, leaseMs: number, starts: boolean, { id, token }: Lease, now: number): string {
    const record = this.records.get(id)
    if (!record || record.token !== token) return record?.lastMove === `cancel ${token}` ? 'CANCELLED' : 'LOST'
    record.leaseUntil = now + leaseMs
    if (starts) record.waits = 'started'
    this.#claim(id, consumer, now)
    return 'RENEWED'
  }

  reclaim(
    claim: Claim,
    count: number,
    crashLimit: number,
    error: string,
    now: number,
  ): { begun: string[]; crashed: string[] } {
    const begun: string[] = []
    const crashed: string[] = []
    // Every walk asks for the stream of the normal band: leases of the others wait for their own call.
    const due = this.withStatus('RUNNING').filter(({ leaseUntil, priority }) => leaseUntil <= now && priority === 0)
    for (const record of due.sort((a, b) => a.leaseUntil - b.leaseUntil || (a.id < b.id ? -1 : 1))) {
      const waited = record.crashes >= crashLimit && record.waits === record.token
      if (record.crashes >= crashLimit && !waited) {
        record.crashes += 1
        record.errors.push(`{"at":${now},"attempt":${record.workers.length},${error.slice(1)}`)
        this.#leave(record, 'FAILED')
        record.finishedAt = now
        crashed.push(record.id)
      } else if (begun.length < count) {
        if (waited) record.workers = record.workers.slice(0, -1)
        else record.crashes += 1
        if (record.crashes >= crashLimit) record.waits = 'at the limit'
        this.#claim(record.id, claim.consumer, now)
        this.#begin(record, claim, now)
        begun.push(record.id)
      }
    }
    return { begun, crashed }
  }

  promote(now: number): string[] {
    const due = this.delayed().filter(({ runAfter }) => (runAfter ?? 0) <= now)
    due.sort((a, b) => (a.runAfter ?? 0) - (b.runAfter ?? 0) || (a.id < b.id ? -1 : 1))
    for (const record of due) this.#push(record)
    return due.map(({ id }) => id)
  }

  retry(id: string, requestId: string, now: number): string {
    const record = this.records.get(id)
    if (!record) return 'ABSENT'
    if (record.requestId === requestId) return 'RETRIED'
    if (record.status !== 'FAILED') return record.status
    this.#forgive(record)
    record.runAfter = null
    record.requestId = requestId
    record.status = 'READY'
    this.#place(record, now)
    return 'RETRIED'
  }

  cancel(id: string, requestId: string, error: string, now: number): string {
    const record = this.records.get(id)
    if (!record) return 'ABSENT'
    if (record.cancelId === requestId) return 'CANCELLED'
    if (record.status === 'SUCCESSFUL' || record.status === 'FAILED') return record.status
    if (record.status === 'RUNNING') record.lastMove = `cancel ${record.token}`
    record.errors.push(`{"at":${now},"attempt":${record.workers.length},${error.slice(1)}`)
    record.cancelId = requestId
    record.finishedAt = now
    this.#leave(record, 'FAILED')
    return 'CANCELLED'
  }

  delete(id: string): string {
    const record = this.records.get(id)
    if (!record) return 'ABSENT'
    if (record.status === 'RUNNING') return 'RUNNING'
    this.#unplace(id)
    this.records.delete(id)
    return 'DELETED'
  }

  save(id: string, changes: RecordChanges, now: number): string {
    const record = this.records.get(id)
    if (!record) return 'ABSENT'
    if (record.status === 'RUNNING') return 'RUNNING'
    const entry = this.entryOf(id)
    Object.assign(record, changes)
    const stays = entry?.band === bandOf(record.priority) && (record.runAfter ?? 0) <= now
    if (record.status === 'READY' && !stays) {
      this.#unplace(id)
      this.#place(record, now)
    }
    return 'SAVED'
  }

  purge(status: FinalStatus, finishedForMs: number, dryRun: boolean, now: number): number {
    const old = this.withStatus(status).filter(({ finishedAt }) => (finishedAt ?? Infinity) <= now - finishedForMs)
    if (!dryRun) for (const { id } of old) this.records.delete(id)
    return old.length
  }

  /** The record as a storage should show it, but for the id of its entry. */
  expected(record: ModelRecord, found: StoredRecord): StoredRecord {
    const {
      token,
      workers,
      leaseUntil: _until,
      settled: _settled,
      lastMove: _move,
      requestId: _request,
      cancelId: _cancel,
      waits: _waits,
      unknown: _unknown,
      ...fields
    } = record
    return {
      ...fields,
      name: found.name,
      queueName: found.queueName,
      attempts: workers.length,
      workerIds: workers,
      leaseToken: token,
      // The deadline counts while it runs; what it was before is nobody's business.
      leaseUntil: record.status === 'RUNNING' ? record.leaseUntil : found.leaseUntil,
      entryId: found.entryId,
    }
  }

  #get(id: string): ModelRecord {
    const record = this.records.get(id)
    if (!record) throw new Error(`the model lost record ${id}`)
    return record
  }

  #inBandOrder(which: (entry: ModelEntry) => boolean): ModelEntry[] {
    return BANDS.flatMap((band) => this.entries.filter((entry) => entry.band === band && which(entry)))
  }

  #push(record: ModelRecord): void {
    this.entries.push({ id: record.id, band: bandOf(record.priority), consumer: '', deliveredAt: 0 })
  }

  #place(record: ModelRecord, now: number): void {
    if (record.runAfter === null || record.runAfter <= now) this.#push(record)
  }

  #unplace(id: string): void {
    this.entries = this.entries.filter((entry) => entry.id !== id)
  }

  #claim(id: string, consumer: string, now: number): void {
    const entry = this.entryOf(id)
    if (entry && entry.consumer !== '') Object.assign(entry, { consumer, deliveredAt: now })
  }

  #begin(record: ModelRecord, claim: Claim, now: number): void {
    record.workers = [...record.workers, claim.workerId]
    record.startedAt ??= now
    record.lastAttemptedAt = now
    record.status = 'RUNNING'
    this.#lease(record, claim, now)
    if (record.waits !== '') record.waits = record.token
  }

  #lease(record: ModelRecord, claim: Claim, now: number): void {
    const waited = record.waits !== '' && record.waits === record.token
    record.token = `${record.workers.length}:${claim.call}`
    if (waited) record.waits = record.token
    record.leaseUntil = now + claim.leaseMs
    record.fence = Math.max(record.fence + 1, now * 1000)
    const issued = `${record.id} ${record.token}`
    if (this.#tokens.has(issued)) throw new Error(`the token of ${issued} was given out twice`)
    this.#tokens.add(issued)
  }

  #leave(record: ModelRecord, status: TaskStatus): void {
    this.#unplace(record.id)
    record.token = ''
    record.status = status
    if (status !== 'READY') record.waits = ''
  }

  #handBack(record: ModelRecord, delay: HandBackDelay, now: number): string {
    const { token } = record
    const attempts = record.workers.length
    const since = record.handBacks > 0 && record.unknown?.attempts === attempts ? record.unknown.since : now
    const gaveUp = typeof delay === 'object' && now - since >= delay.failAfterMs
    this.#leave(record, gaveUp ? 'FAILED' : 'READY')
    record.workers = record.workers.slice(0, -1)
    if (record.workers.length === 0) record.startedAt = record.lastAttemptedAt = null
    if (gaveUp) {
      record.lastMove = `unknown ${token}`
      record.finishedAt = now
      record.errors.push(`{"at":${now},"attempt":${attempts - 1},${delay.error.slice(1)}`)
      return 'FAILED'
    }
    record.lastMove = `requeue ${token}`
    if (delay !== 'none') {
      record.unknown = { attempts, since }
      record.runAfter = now + Math.min(60_000, 250 * 2 ** record.handBacks)
      record.handBacks += 1
    }
    this.#place(record, now)
    return 'REQUEUED'
  }

  #forgive(record: ModelRecord): void {
    Object.assign(record, { crashes: 0, handBacks: 0, finishedAt: null })
    if (record.settled !== '') record.lastMove = record.settled
    record.settled = ''
  }
}

function holderOf({ call }: Claim): string {
  return call.slice(0, call.lastIndexOf('.'))
}
