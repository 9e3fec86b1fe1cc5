/**
 * What memory storage holds: records, and for each queue its streams, delayed rows and cells; the leases of all.
 * Its methods are the parts that several moves share: give and take a place, change the cell, open and close an attempt.
 * The verbs decide whether a move may be made; nothing here checks.
 */
import { isFinal, type FinalStatus, type TaskStatus } from '../../task-status.ts'
import { bandOf, type Band, type CancelWatcher, type Cell, type Claim } from '../storage.ts'
import { tokenOf, type MemoryRecord } from './memory-record.ts'
import { MinuteStats } from './minute-stats.ts'
import { SortedSet } from './sorted-set.ts'
import { Stream } from './stream.ts'

export interface Queue {
  readonly streams: Readonly<Record<Band, Stream>>
  /** Record id by `runAfter`. */
  readonly delayed: SortedSet
  /** By task name, then status: record id by `enqueuedAt`. */
  readonly cells: Map<string, Readonly<Record<TaskStatus, SortedSet>>>
}

export class Keyspace {
  readonly records = new Map<string, MemoryRecord>()
  readonly queues = new Map<string, Queue>()
  /** Record id by lease deadline. */
  readonly leases = new SortedSet()
  readonly stats = new MinuteStats()
  /** Told of each attempt that is cancelled. */
  readonly cancelWatchers = new Set<CancelWatcher>()
  #pushed = new Set<string>()
  #ended = new Set<string>()

  /** The queues that got an entry, and the records that were finished or deleted, since this was last asked. */
  takeNews(): { readonly pushed: ReadonlySet<string>; readonly ended: ReadonlySet<string> } {
    const news = { pushed: this.#pushed, ended: this.#ended }
    if (news.pushed.size > 0) this.#pushed = new Set()
    if (news.ended.size > 0) this.#ended = new Set()
    return news
  }

  stream(queueName: string, band: Band): Stream | undefined {
    return this.queues.get(queueName)?.streams[band]
  }

  streamOf({ queueName, priority }: MemoryRecord): Stream {
    return this.#queue(queueName).streams[bandOf(priority)]
  }

  /** A cell, or `undefined` where no record of that queue and task name was ever stored. */
  cell({ queueName, name, status }: Cell): SortedSet | undefined {
    return this.queues.get(queueName)?.cells.get(name)?.[status]
  }

  /** (nothing) -> READY, with index and place. */
  insert(record: MemoryRecord, now: number): void {
    this.records.set(record.id, record)
    this.place(record, now)
    this.#cellOf(record).add(record.id, record.enqueuedAt)
  }

  /** Takes a record that is not RUNNING out of everything. */
  delete(record: MemoryRecord): void {
    this.#cellOf(record).remove(record.id)
    this.unplace(record)
    this.records.delete(record.id)
    this.#ended.add(record.id)
  }

  /** Moves a record to another status, and to the cell of it. */
  enter(record: MemoryRecord, status: TaskStatus): void {
    this.#cellOf(record).remove(record.id)
    record.status = status
    this.#cellOf(record).add(record.id, record.enqueuedAt)
    if (isFinal(status)) this.#ended.add(record.id)
  }

  /** Gives a READY record its place: a row in `delayed` while its time has not come, else an entry. */
  place(record: MemoryRecord, now: number): void {
    if (record.runAfter !== null && record.runAfter > now) {
      this.#queue(record.queueName).delayed.add(record.id, record.runAfter)
      record.entryId = ''
    } else {
      this.push(record, now)
    }
  }

  /** Gives a record a new entry of its own. */
  push(record: MemoryRecord, now: number): void {
    record.entryId = this.streamOf(record).append(record.id, now)
    this.#pushed.add(record.queueName)
  }

  /** Takes a record's place away: its entry, acknowledged and deleted, or its row in `delayed`. */
  unplace(record: MemoryRecord): void {
    if (record.entryId === '') this.#queue(record.queueName).delayed.remove(record.id)
    else this.streamOf(record).remove(record.entryId)
    record.entryId = ''
  }

  /** -> RUNNING as a new attempt, under a new lease. The record has an entry. */
  startAttempt(record: MemoryRecord, claim: Claim, now: number): void {
    record.attempts += 1
    record.workerIds.push(claim.workerId)
    record.startedAt ??= now
    record.lastAttemptedAt = now
    if (record.status !== 'RUNNING') this.enter(record, 'RUNNING')
    this.grantLease(record, claim, now)
    // At its limit of crashes it waits to run alone, each time.
    if (record.waitToken !== '') record.waitToken = record.leaseToken
  }

  /** Another token, fence and deadline for the attempt that runs. */
  grantLease(record: MemoryRecord, claim: Claim, now: number): void {
    const token = tokenOf(record, claim)
    if (record.waitToken !== '' && record.waitToken === record.leaseToken) record.waitToken = token
    record.leaseToken = token
    record.fence = Math.max(record.fence + 1, now * 1000)
    this.moveDeadline(record, now + claim.leaseMs)
  }

  moveDeadline(record: MemoryRecord, deadline: number): void {
    record.leaseUntil = deadline
    this.leases.add(record.id, deadline)
  }

  /** RUNNING -> READY, without lease and entry: the caller gives it its next place. */
  endAttempt(record: MemoryRecord): void {
    this.#endLease(record)
    this.enter(record, 'READY')
  }

  /** RUNNING -> SUCCESSFUL or FAILED, counted; or READY -> FAILED, which no attempt made. `waitMs` as in MinuteStats. */
  finish(record: MemoryRecord, outcome: FinalStatus, waitMs: number | null, now: number): void {
    const wasRunning = record.status === 'RUNNING'
    this.#endLease(record)
    this.enter(record, outcome)
    record.finishedAt = now
    record.leaseUntil = null
    record.waitToken = ''
    if (!wasRunning) return
    const runMs = now - (record.lastAttemptedAt ?? now)
    this.stats.count({ queueName: record.queueName, outcome, runMs, waitMs }, now)
  }

  /** The deadline stays on a record that goes on, as what it was; that there is no token says that it no longer counts. */
  #endLease(record: MemoryRecord): void {
    this.leases.remove(record.id)
    this.unplace(record)
    record.leaseToken = ''
  }

  #queue(queueName: string): Queue {
    let queue = this.queues.get(queueName)
    if (!queue) {
      const streams = { high: new Stream(), normal: new Stream(), low: new Stream() }
      queue = { streams, delayed: new SortedSet(), cells: new Map() }
      this.queues.set(queueName, queue)
    }
    return queue
  }

  #cellOf({ queueName, name, status }: MemoryRecord): SortedSet {
    const { cells } = this.#queue(queueName)
    let byStatus = cells.get(name)
    if (!byStatus) {
      const empty = (): SortedSet => new SortedSet()
      byStatus = { READY: empty(), RUNNING: empty(), SUCCESSFUL: empty(), FAILED: empty() }
      cells.set(name, byStatus)
    }
    return byStatus[status]
  }
}
