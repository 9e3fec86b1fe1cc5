/**
 * RecordQuery: order, pages, counts and bulk changes of the records of one filter. A filter on status, queue, name or enqueued
 * time is answered by the index, so counts are exact and nothing is scanned; the other keys are compared record by record, up to
 * a bound that is told. Moves nothing itself: delete and retry go through the storage, which judges each record again.
 */
import { randomUUID } from 'node:crypto'
import { TaskQueryLimitError } from './errors.ts'
import { checkOptions, integer, oneOf } from './options.ts'
import { boundsOf, cellsOf, checkFilter, comparedKeys, many } from './record-filter.ts'
import type { RecordFilter } from './record-filter.ts'
import { checkPage, cursorOf, LOOK_LIMIT } from './record-page.ts'
import type { PageOptions, RecordPage } from './record-page.ts'
import { BRIEF, LARGEST_PIECE, LIST_SIZE, walkRecords } from './record-walk.ts'
import type { Look, RecordWalk } from './record-walk.ts'
import { CALL_LIMITS } from './storage/storage.ts'
import type { Cell, ListPosition, Storage } from './storage/storage.ts'
import { isDamaged } from './storage/stored-record.ts'
import type { Brief, DamagedRecord, StoredRecord } from './storage/stored-record.ts'
import { TASK_STATUSES } from './task-status.ts'

export type RecordOrder = 'enqueuedAt' | '-enqueuedAt'

/** What a query needs of the backend it asks. */
export interface QuerySource<Item> {
  readonly storage: Storage
  readonly toItem: (record: StoredRecord) => Item
  readonly onDamaged: (record: DamagedRecord) => void
  /** Set where items need no more of a record than a list shows: payloads may be megabytes. */
  readonly brief?: Brief | undefined
}

/** Records that one `await query` may bring. */
export const LIST_LIMIT = 10_000

const ORDER = oneOf(['enqueuedAt', '-enqueuedAt'], { description: 'by time of enqueue, oldest or newest first' })
const LIMIT = integer({ min: 1, max: LIST_LIMIT, description: 'records at most' })
const COUNT_BY = oneOf(['status', 'queueName', 'name'], { description: 'what is counted' })

export type CountField = 'status' | 'queueName' | 'name'

export class RecordQuery<Item> implements PromiseLike<Item[]>, AsyncIterable<Item> {
  readonly #source: QuerySource<Item>
  readonly #filter: RecordFilter
  readonly #order: RecordOrder
  readonly #limit: number | undefined

  /** @throws TaskOptionError an unknown key (the message names the nearest), or a value that it may not have. */
  constructor(
    source: QuerySource<Item>,
    filter: RecordFilter = {},
    order: RecordOrder = '-enqueuedAt',
    limit?: number,
  ) {
    this.#source = source
    this.#filter = checkFilter(filter)
    this.#order = order
    this.#limit = limit
  }

  /** A narrower query: these keys replace those of the same name. */
  filter(filter: RecordFilter): RecordQuery<Item> {
    const added = checkFilter(filter)
    return new RecordQuery(this.#source, { ...this.#filter, ...added }, this.#order, this.#limit)
  }

  /** Oldest first (`enqueuedAt`) or newest first (`-enqueuedAt`, the default): the orders that are exact over all matches. */
  orderBy(order: RecordOrder): RecordQuery<Item> {
    const { order: checked } = checkOptions('orderBy', { order: ORDER }, { order })
    return new RecordQuery(this.#source, this.#filter, checked, this.#limit)
  }

  /** No more than `count` (1..10,000) records. */
  limit(count: number): RecordQuery<Item> {
    const { limit } = checkOptions('limit', { limit: LIMIT }, { limit: count })
    return new RecordQuery(this.#source, this.#filter, this.#order, limit)
  }

  /** `await query`: all its records, as a list. @throws TaskQueryLimitError over 10,000 match: iterate, or set a limit. */
  then<A = Item[], B = never>(
    resolved?: ((items: Item[]) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#list().then(resolved, rejected)
  }

  /** All matching records, a piece at a time: few large ones, or many small ones, so memory does not grow with them. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined> {
    for await (const record of this.#each()) yield this.#source.toItem(record)
  }

  async first(): Promise<Item | null> {
    for await (const item of this.limit(1)) return item
    return null
  }

  /** The ids of all its records; bounded like `await query`. */
  async ids(): Promise<string[]> {
    const ids: string[] = []
    for await (const { id } of this.#bounded(BRIEF)) ids.push(id)
    return ids
  }

  /**
   * A page, the exact total where the index knows it, and where the next page starts. Pages stay right while records arrive.
   *
   * @param options.size 1..1000, 50 when left out.
   * @param options.after the `next` of an earlier page of the same order.
   * @throws TaskOptionError `after` was never a cursor.
   */
  async page(options: PageOptions = {}): Promise<RecordPage<Item>> {
    const { size, after, lookLimit } = checkPage(options)
    const cells = await this.#cells()
    const [page, total] = await Promise.all([
      this.#lookFor(cells, { size, lookLimit, after }),
      this.#comparesRecords ? null : this.#sum(cells),
    ])
    return { ...page, total }
  }

  /**
   * How many match. Exact: from the index where it knows, else by looking at up to 20,000 records.
   *
   * @throws TaskQueryLimitError more would have to be looked at.
   */
  async count(): Promise<number> {
    const cells = await this.#cells()
    if (!this.#comparesRecords) return await this.#sum(cells)
    let count = 0
    let looked = 0
    for await (const looks of this.#walk(cells, { size: LIST_SIZE, brief: BRIEF })) {
      for (const { match } of looks) {
        if (looked === LOOK_LIMIT) throw new TaskQueryLimitError(looked, comparedKeys(this.#filter))
        looked += 1
        if (match) count += 1
        if (count === this.#limit) return count
      }
    }
    return count
  }

  /** Exact counts by status, queue or task name; every status is there, zero or not. */
  async countBy(field: CountField): Promise<Record<string, number>> {
    checkOptions('countBy', { field: COUNT_BY }, { field })
    if (this.#comparesRecords) throw new TaskQueryLimitError(0, comparedKeys(this.#filter))
    const cells = await this.#cells()
    const counts = await this.#counts(cells)
    const sums = Object.create(null) as Record<string, number>
    if (field === 'status') for (const status of many(this.#filter.status) ?? TASK_STATUSES) sums[status] = 0
    cells.forEach((cell, index) => {
      sums[cell[field]] = (sums[cell[field]] ?? 0) + (counts[index] ?? 0)
    })
    return { ...sums }
  }

  /** Deletes what matches and is not RUNNING; answers how many went. Each record is judged again as it goes. */
  async delete(): Promise<number> {
    return await this.#inBatches(async (ids) => {
      const words = await this.#source.storage.delete(ids)
      return words.filter((word) => word === 'DELETED').length
    })
  }

  /** Puts what matches and is FAILED back to READY; answers how many went. */
  async retry(): Promise<number> {
    const requestId = randomUUID()
    return await this.#inBatches(async (ids) => {
      const words = await this.#source.storage.retry(ids, requestId)
      return words.filter((word) => word === 'RETRIED').length
    })
  }

  async #list(): Promise<Item[]> {
    const items: Item[] = []
    for await (const record of this.#bounded()) items.push(this.#source.toItem(record))
    return items
  }

  async *#bounded(brief = this.#source.brief): AsyncGenerator<StoredRecord, void, undefined> {
    let count = 0
    for await (const record of this.#each(brief)) {
      if (++count > LIST_LIMIT) throw new TaskQueryLimitError(LIST_LIMIT, ['records without a limit'])
      yield record
    }
  }

  async *#each(brief = this.#source.brief): AsyncGenerator<StoredRecord, void, undefined> {
    let left = this.#limit ?? Infinity
    const size = this.#comparesRecords ? LIST_SIZE : Math.min(left, LIST_SIZE)
    for await (const looks of this.#walk(await this.#cells(), { size, brief })) {
      for (const { found, match } of looks) {
        if (found && isDamaged(found)) this.#source.onDamaged(found)
        if (!match) continue
        yield match
        left -= 1
        if (left === 0) return
      }
    }
  }

  /** With a limit from the end that the order says; else newest first, as what is enqueued meanwhile lies behind that walk. */
  async #inBatches(move: (ids: string[]) => Promise<number>): Promise<number> {
    let moved = 0
    let batch: string[] = []
    const order = this.#limit === undefined ? '-enqueuedAt' : this.#order
    for await (const { id } of new RecordQuery(this.#source, this.#filter, order, this.#limit).#each(BRIEF)) {
      batch.push(id)
      if (batch.length < CALL_LIMITS.moves) continue
      moved += await move(batch)
      batch = []
    }
    return batch.length > 0 ? moved + (await move(batch)) : moved
  }

  /** A page, but for its total. */
  async #lookFor(
    cells: readonly Cell[],
    { size, lookLimit, after }: { size: number; lookLimit: number; after: ListPosition | undefined },
  ): Promise<Omit<RecordPage<Item>, 'total'>> {
    const records: Item[] = []
    const damaged: DamagedRecord[] = []
    let looked = 0
    let last = after
    // One more than is wanted tells whether there is a next page.
    const listed = Math.min(this.#comparesRecords ? LIST_SIZE : size + 1, lookLimit + 1)
    const firstPiece = Math.min(listed, LARGEST_PIECE)
    for await (const looks of this.#walk(cells, { size: listed, after, brief: this.#source.brief, firstPiece })) {
      for (const { position, found, match } of looks) {
        if (records.length === size || looked === lookLimit) {
          return { records, next: last ? cursorOf(last) : null, damaged, looked }
        }
        looked += 1
        last = position
        if (found && isDamaged(found)) damaged.push(found)
        if (match) records.push(this.#source.toItem(match))
      }
    }
    return { records, next: null, damaged, looked }
  }

  #walk(
    cells: readonly Cell[],
    wanted: Pick<RecordWalk, 'size' | 'after' | 'brief' | 'firstPiece'>,
  ): AsyncIterable<readonly Look[]> {
    const order = this.#order === '-enqueuedAt' ? 'newest' : 'oldest'
    return walkRecords({ storage: this.#source.storage, filter: this.#filter, cells, order, ...wanted })
  }

  async #cells(): Promise<Cell[]> {
    return await cellsOf(this.#filter, this.#source.storage)
  }

  async #counts(cells: readonly Cell[]): Promise<readonly number[]> {
    return cells.length === 0 ? [] : await this.#source.storage.count(cells, boundsOf(this.#filter))
  }

  async #sum(cells: readonly Cell[]): Promise<number> {
    const sum = (await this.#counts(cells)).reduce((total, count) => total + count, 0)
    return this.#limit === undefined ? sum : Math.min(sum, this.#limit)
  }

  get #comparesRecords(): boolean {
    return comparedKeys(this.#filter).length > 0
  }
}
