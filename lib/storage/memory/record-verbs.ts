/**
 * The record verbs of memory storage: each one synchronous step over the keyspace, judged first and written then.
 * What a verb promises stands in storage.ts; here is only how.
 */
import { isFinal } from '../../task-status.ts'
import { bandOf } from '../storage.ts'
import type {
  CancelWord,
  Cell,
  DeleteWord,
  EnqueueAnswer,
  ListPosition,
  ListRequest,
  PurgeAnswer,
  PurgeRequest,
  RecordChanges,
  RetryWord,
  SaveWord,
} from '../storage.ts'
import type { Brief, FoundRecord, NewRecord } from '../stored-record.ts'
import type { Keyspace } from './keyspace.ts'
import { briefCopy, errorAt, forgive, newRecord, storedCopy } from './memory-record.ts'
import { compareMembers, type Member } from './sorted-set.ts'

/** A place in a cell as text: `<score>:<id>`, for the purge's position. */
function placeOf(position: string): Member | undefined {
  if (position === '') return undefined
  const colon = position.indexOf(':')
  return { score: Number(position.slice(0, colon)), member: position.slice(colon + 1) }
}

export class RecordVerbs {
  readonly #keyspace: Keyspace

  constructor(keyspace: Keyspace) {
    this.#keyspace = keyspace
  }

  enqueue(records: readonly NewRecord[], now: number): readonly EnqueueAnswer[] {
    return records.map((record) => {
      if (this.#keyspace.records.has(record.id)) return { word: 'EXISTS' }
      this.#keyspace.insert(newRecord(record, now), now)
      return { word: 'ENQUEUED', enqueuedAt: now }
    })
  }

  find(ids: readonly string[], brief?: Brief): readonly FoundRecord[] {
    return ids.map((id) => {
      const record = this.#keyspace.records.get(id)
      return record && (brief ? briefCopy(record, brief) : storedCopy(record))
    })
  }

  /** The first `size` of each cell, sorted together: cost grows with cells and size alone. */
  list({ cells, order, size, after, from, to }: ListRequest): readonly ListPosition[] {
    const range = {
      order: order === 'oldest' ? 'ascending' : 'descending',
      after: after && { score: after.enqueuedAt, member: after.id },
      limit: size,
      from,
      to,
    } as const
    const sign = order === 'oldest' ? 1 : -1
    return cells
      .flatMap((cell) => this.#keyspace.cell(cell)?.range(range) ?? [])
      .sort((a, b) => sign * compareMembers(a, b))
      .slice(0, size)
      .map(({ member, score }) => ({ id: member, enqueuedAt: score }))
  }

  count(
    cells: readonly Cell[],
    bounds: { from?: number | undefined; to?: number | undefined } = {},
  ): readonly number[] {
    const { from = -Infinity, to = Infinity } = bounds
    return cells.map((cell) => this.#keyspace.cell(cell)?.countBetween(from, to) ?? 0)
  }

  catalog(): { readonly queueNames: readonly string[]; readonly tasks: readonly Omit<Cell, 'status'>[] } {
    const queues = [...this.#keyspace.queues]
    return {
      queueNames: queues.map(([queueName]) => queueName),
      tasks: queues.flatMap(([queueName, { cells }]) => [...cells.keys()].map((name) => ({ queueName, name }))),
    }
  }

  save(id: string, changes: RecordChanges, now: number): SaveWord {
    const record = this.#keyspace.records.get(id)
    if (!record) return 'ABSENT'
    if (record.status === 'RUNNING') return 'RUNNING'
    const { priority = record.priority, runAfter = record.runAfter, args = record.args } = changes
    const isDue = runAfter === null || runAfter <= now
    const keepsPlace = record.entryId !== '' && isDue && bandOf(priority) === bandOf(record.priority)
    const moves = record.status === 'READY' && !keepsPlace
    if (moves) this.#keyspace.unplace(record)
    Object.assign(record, { priority, runAfter, args })
    if (moves) this.#keyspace.place(record, now)
    return 'SAVED'
  }

  delete(ids: readonly string[]): readonly DeleteWord[] {
    return ids.map((id) => {
      const record = this.#keyspace.records.get(id)
      if (!record) return 'ABSENT'
      if (record.status === 'RUNNING') return 'RUNNING'
      this.#keyspace.delete(record)
      return 'DELETED'
    })
  }

  retry(ids: readonly string[], requestId: string, now: number): readonly RetryWord[] {
    return ids.map((id) => {
      const record = this.#keyspace.records.get(id)
      if (!record) return 'ABSENT'
      if (record.requestId === requestId) return 'RETRIED'
      if (record.status !== 'FAILED') return record.status
      forgive(record)
      Object.assign(record, { requestId, runAfter: null })
      this.#keyspace.enter(record, 'READY')
      this.#keyspace.place(record, now)
      return 'RETRIED'
    })
  }

  cancel(ids: readonly string[], requestId: string, error: string, now: number): readonly CancelWord[] {
    return ids.map((id) => {
      const record = this.#keyspace.records.get(id)
      if (!record) return 'ABSENT'
      if (record.cancelId === requestId) return 'CANCELLED'
      const { status, leaseToken: token } = record
      if (isFinal(status)) return status
      record.cancelId = requestId
      record.errors.push(errorAt(now, error, record.attempts))
      this.#keyspace.finish(record, 'FAILED', null, now)
      if (status === 'RUNNING') {
        // By this a renewal knows why the token is gone.
        record.lastMove = `cancel ${token}`
        for (const watcher of this.#keyspace.cancelWatchers) watcher.cancelled({ id, token })
      }
      return 'CANCELLED'
    })
  }

  /** Ends at the first record enqueued after the cutoff: what finished before it was enqueued before it. */
  purge({ cell, finishedForMs, limit, position, dryRun }: PurgeRequest, now: number): PurgeAnswer {
    const cutoff = now - finishedForMs
    const looked = this.#keyspace.cell(cell)?.range({ after: placeOf(position), to: cutoff, limit }) ?? []
    let matched = 0
    for (const { member } of looked) {
      const record = this.#keyspace.records.get(member)
      if (!record || record.finishedAt === null || record.finishedAt > cutoff) continue
      matched += 1
      if (!dryRun) this.#keyspace.delete(record)
    }
    const last = looked.at(-1)
    const next = last && looked.length === limit ? `${last.score}:${last.member}` : ''
    return { matched, deleted: dryRun ? 0 : matched, next }
  }
}
