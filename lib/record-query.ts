/**
 * RecordQuery: filters, order, pages and counts over records. A filter on status, queue, name or enqueued time becomes a set
 * of index cells and bounds, so counts are exact and nothing is scanned; the other keys are compared record by record, up to
 * a bound that is told. Moves nothing itself: delete and retry go through the storage, which judges each record again.
 */
import { v7 as uuid } from 'uuid'
import { TaskOptionError, TaskQueryLimitError } from './errors.ts'
import { anything, checkOptions, date, integer, NAME_PATTERN, oneOf, text } from './options.ts'
import type { Row } from './options.ts'
import { isDamaged } from './storage/storage.ts'
import type { Brief, Cell, DamagedRecord, FoundRecord, ListPosition, Storage, StoredRecord } from './storage/storage.ts'
import { TASK_STATUSES } from './task-status.ts'
import type { TaskStatus } from './task-status.ts'

/** What a filter may ask for. A list means *any of these*; keys together mean *all of these*. */
export interface RecordFilter {
  readonly status?: TaskStatus | readonly TaskStatus[] | undefined
  readonly queueName?: string | readonly string[] | undefined
  readonly name?: string | readonly string[] | undefined
  readonly priority?: number | readonly number[] | undefined
  /** At or after. */
  readonly enqueuedAfter?: Date | undefined
  /** Before, exclusive. */
  readonly enqueuedBefore?: Date | undefined
  readonly finishedAfter?: Date | undefined
  readonly finishedBefore?: Date | undefined
  /** Text in id, name, args or errors; upper and lower case are alike. */
  readonly search?: string | undefined
}

export type RecordOrder = 'enqueuedAt' | '-enqueuedAt'

export interface RecordPage<Item> {
  readonly records: readonly Item[]
  /** How many match in all; null when that is only known by looking at each (priority, finished times, search). */
  readonly total: number | null
  /** Where the next page starts; null when this was the last one. */
  readonly next: string | null
  /** Records on this page that cannot be read, with the reason. */
  readonly damaged: readonly DamagedRecord[]
  /** How many records were looked at to fill this page. */
  readonly looked: number
}

/** What a query needs of the backend it asks. */
export interface QuerySource<Item> {
  readonly storage: Storage
  readonly toItem: (record: StoredRecord) => Item
  readonly onDamaged: (record: DamagedRecord) => void
  /** Set where items need no more of a record than a list shows: payloads may be megabytes. */
  readonly brief?: Brief | undefined
}

export const PAGE_SIZE = 50
export const MAX_PAGE_SIZE = 1_000
/** Records that one page or count looks at, when each has to be compared. */
export const LOOK_LIMIT = 20_000
/** Records that one `await query` may bring. */
export const LIST_LIMIT = 10_000
const CHUNK = 500
/** What is read of a record where no more than its id is wanted, or a text is looked for in most records of usual size. */
const BRIEF: Brief = { argsBytes: 1 }
const SEARCHED: Brief = { argsBytes: 16_384 }
/** Payloads that are held at once when a text is looked for in those of large records. */
const HELD_BYTES = 8 * 1024 * 1024
const BATCH = 100
/** Values in one list of a filter. */
const MOST_VALUES = 1_000
/** Pairs of queue and task name that are looked up as they are given; of more, only those that ever held a record. */
const MOST_PAIRS = 20

/** One value or a list of them. The list is copied, and each value is in it once: twice would count twice. */
function oneOrMany<T>(facts: {
  readonly shape: string
  readonly is: (value: unknown) => value is T
  readonly description: string
}): Row<T | readonly T[]> {
  const { is, ...rest } = facts
  const isMany = (value: unknown): value is readonly T[] =>
    // `Array.from` reads holes as undefined.
    Array.isArray(value) && value.length <= MOST_VALUES && Array.from<unknown>(value).every(is)
  const row = anything({ ...rest, is: (value): value is T | readonly T[] => is(value) || isMany(value) })
  const read = (field: string, value: unknown): T | readonly T[] => {
    const kept = row.read(field, value)
    return isMany(kept) ? Object.freeze([...new Set(kept)]) : kept
  }
  return Object.freeze({ ...row, read })
}

const isName = (value: unknown): value is string => typeof value === 'string' && NAME_PATTERN.test(value)
const isStatus = (value: unknown): value is TaskStatus => (TASK_STATUSES as readonly unknown[]).includes(value)
const isPriority = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= -100 && (value as number) <= 100

/** Every key of a filter: what it may be, and what it means. Router, admin and commands read these rows. */
export const FILTER_OPTIONS = Object.freeze({
  status: oneOrMany({
    shape: `one or a list of ${TASK_STATUSES.join(', ')}`,
    is: isStatus,
    description: 'state of the record',
  }),
  queueName: oneOrMany({ shape: 'a queue name or a list of them', is: isName, description: 'queue' }),
  name: oneOrMany({ shape: 'a task name or a list of them', is: isName, description: 'task name' }),
  priority: oneOrMany({
    shape: 'an integer from -100 to 100 or a list of them',
    is: isPriority,
    description: 'priority',
  }),
  enqueuedAfter: date({ description: 'enqueued at or after this time' }),
  enqueuedBefore: date({ description: 'enqueued before this time' }),
  finishedAfter: date({ description: 'finished at or after this time' }),
  finishedBefore: date({ description: 'finished before this time' }),
  search: text({ maxLength: 200, description: 'text in id, name, args or errors' }),
})

const PAGE_OPTIONS = Object.freeze({
  size: integer({ min: 1, max: MAX_PAGE_SIZE, default: PAGE_SIZE, description: 'records on a page' }),
  after: anything({
    shape: 'the `next` of an earlier page',
    is: (value): value is string | null => value === null || typeof value === 'string',
    description: 'where the page starts',
  }),
  lookLimit: integer({ min: 1, max: 1_000_000, default: LOOK_LIMIT, description: 'records looked at to fill a page' }),
})

const ORDER = oneOf(['enqueuedAt', '-enqueuedAt'], { description: 'by time of enqueue, oldest or newest first' })
const LIMIT = integer({ min: 1, max: LIST_LIMIT, description: 'records at most' })
const COUNT_BY = oneOf(['status', 'queueName', 'name'], { description: 'what is counted' })

export type CountField = 'status' | 'queueName' | 'name'

function many<T>(value: T | readonly T[] | undefined): readonly T[] | undefined {
  if (value === undefined) return undefined
  return Array.isArray(value) ? (value as readonly T[]) : [value as T]
}

/** `<enqueuedAt in base 36>.<id>`: opaque to callers, plain to a reader of a URL. */
export function cursorOf({ enqueuedAt, id }: ListPosition): string {
  return `${enqueuedAt.toString(36)}.${id}`
}

function positionOf(cursor: string): ListPosition {
  const [, time = '', id = ''] = /^([0-9a-z]{1,11})\.([0-9a-fA-F-]{1,64})$/.exec(cursor) ?? []
  const enqueuedAt = parseInt(time, 36)
  if (id === '' || !Number.isSafeInteger(enqueuedAt)) {
    throw new TaskOptionError('page.after', 'the `next` of an earlier page', cursor, 'start again without it')
  }
  return { enqueuedAt, id }
}

interface Walk {
  readonly wanted: number
  readonly lookLimit: number
  readonly after?: ListPosition | undefined
  /** Set where whole records are not wanted. */
  readonly brief?: Brief | undefined
}

interface Walked {
  readonly records: StoredRecord[]
  readonly damaged: DamagedRecord[]
  readonly looked: number
  /** The last place that was looked at; undefined when nothing was. */
  readonly last: ListPosition | undefined
  readonly exhausted: boolean
}

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
    this.#filter = checkOptions('filter', FILTER_OPTIONS, filter)
    this.#order = order
    this.#limit = limit
  }

  /** A narrower query: these keys replace those of the same name. */
  filter(filter: RecordFilter): RecordQuery<Item> {
    const added = checkOptions('filter', FILTER_OPTIONS, filter)
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

  /** All matching records, a page at a time: the memory of the process does not grow with them. */
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
  async page(options: { size?: number; after?: string | null; lookLimit?: number } = {}): Promise<RecordPage<Item>> {
    const { size, after, lookLimit } = checkOptions('page', PAGE_OPTIONS, options)
    const position = typeof after === 'string' ? positionOf(after) : undefined
    const cells = await this.#cells()
    const [walked, total] = await Promise.all([
      this.#walk(cells, { wanted: size, lookLimit, after: position, brief: this.#source.brief }),
      this.#comparesRecords() ? null : this.#sum(cells),
    ])
    return {
      records: walked.records.map((record) => this.#source.toItem(record)),
      total,
      next: walked.exhausted || !walked.last ? null : cursorOf(walked.last),
      damaged: walked.damaged,
      looked: walked.looked,
    }
  }

  /**
   * How many match. Exact: from the index where it knows, else by looking at up to 20,000 records.
   *
   * @throws TaskQueryLimitError more would have to be looked at.
   */
  async count(): Promise<number> {
    const cells = await this.#cells()
    if (!this.#comparesRecords()) return await this.#sum(cells)
    let count = 0
    let after: ListPosition | undefined
    let looked = 0
    for (;;) {
      const walked = await this.#walk(cells, { wanted: CHUNK, lookLimit: CHUNK, after, brief: BRIEF })
      count += walked.records.length
      looked += walked.looked
      if (this.#limit !== undefined && count >= this.#limit) return this.#limit
      if (walked.exhausted) return count
      if (looked >= LOOK_LIMIT) throw new TaskQueryLimitError(looked, this.#comparedKeys())
      after = walked.last
    }
  }

  /** Exact counts by status, queue or task name; every status is there, zero or not. */
  async countBy(field: CountField): Promise<Record<string, number>> {
    checkOptions('countBy', { field: COUNT_BY }, { field })
    if (this.#comparesRecords()) throw new TaskQueryLimitError(0, this.#comparedKeys())
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
    const requestId = uuid()
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
    const cells = await this.#cells()
    let left = this.#limit ?? Infinity
    let after: ListPosition | undefined
    while (left > 0) {
      const walked = await this.#walk(cells, { wanted: Math.min(left, CHUNK), lookLimit: CHUNK, after, brief })
      for (const damaged of walked.damaged) this.#source.onDamaged(damaged)
      yield* walked.records
      if (walked.exhausted) return
      left -= walked.records.length
      after = walked.last
    }
  }

  /** With a limit from the end that the order says; else newest first, as what is enqueued meanwhile lies behind that walk. */
  async #inBatches(move: (ids: string[]) => Promise<number>): Promise<number> {
    let moved = 0
    let batch: string[] = []
    const order = this.#limit === undefined ? '-enqueuedAt' : this.#order
    for await (const { id } of new RecordQuery(this.#source, this.#filter, order, this.#limit).#each(BRIEF)) {
      batch.push(id)
      if (batch.length < BATCH) continue
      moved += await move(batch)
      batch = []
    }
    return batch.length > 0 ? moved + (await move(batch)) : moved
  }

  async #walk(cells: readonly Cell[], { wanted, lookLimit, after, brief }: Walk): Promise<Walked> {
    const { storage } = this.#source
    const records: StoredRecord[] = []
    const damaged: DamagedRecord[] = []
    let looked = 0
    let last = after
    if (cells.length === 0) return { records, damaged, looked, last, exhausted: true }
    const order = this.#order === '-enqueuedAt' ? 'newest' : 'oldest'
    for (;;) {
      // One more than is wanted tells whether there is a next page.
      const size = Math.min(this.#comparesRecords() ? CHUNK : wanted - records.length + 1, lookLimit - looked + 1)
      const positions = await storage.list({ cells, order, size, after: last, ...this.#bounds() })
      const found = await this.#read(positions, brief)
      const searched = await this.#searchLarge(found)
      for (const [index, position] of positions.entries()) {
        if (records.length === wanted || looked === lookLimit)
          return { records, damaged, looked, last, exhausted: false }
        const record = found[index]
        looked += 1
        last = position
        if (!record) continue
        if (isDamaged(record)) damaged.push(record)
        else if (this.#matches(record, searched)) records.push(record)
      }
      if (positions.length < size) return { records, damaged, looked, last, exhausted: true }
    }
  }

  async #read(positions: readonly ListPosition[], brief: Brief | undefined): Promise<readonly FoundRecord[]> {
    if (positions.length === 0) return []
    const { search } = this.#filter
    const least = search ? SEARCHED : BRIEF
    const wanted = brief && { argsBytes: Math.max(brief.argsBytes, least.argsBytes) }
    return await this.#source.storage.find(
      positions.map(({ id }) => id),
      wanted,
    )
  }

  /** Of records that were not read whole those that hold the text, by id: they are read one after the other, and not kept. */
  async #searchLarge(found: readonly FoundRecord[]): Promise<ReadonlySet<string>> {
    const { search } = this.#filter
    const ids = new Set<string>()
    if (!search) return ids
    let batch: string[] = []
    let bytes = 0
    const look = async (): Promise<void> => {
      for (const record of await this.#source.storage.find(batch)) {
        if (record && !isDamaged(record) && holds(record, search)) ids.add(record.id)
      }
      batch = []
      bytes = 0
    }
    for (const record of found) {
      if (!record || isDamaged(record) || !record.omittedBytes || holds(record, search)) continue
      batch.push(record.id)
      bytes += record.omittedBytes
      if (bytes >= HELD_BYTES) await look()
    }
    if (batch.length > 0) await look()
    return ids
  }

  async #cells(): Promise<Cell[]> {
    const { queueName, name, status } = this.#filter
    const queueNames = many(queueName)
    const names = many(name)
    const statuses = many(status) ?? TASK_STATUSES
    const pairs =
      queueNames && names && queueNames.length * names.length <= MOST_PAIRS
        ? queueNames.flatMap((queue) => names.map((task) => ({ queueName: queue, name: task })))
        : (await this.#source.storage.catalog()).tasks.filter(
            (pair) => (!queueNames || queueNames.includes(pair.queueName)) && (!names || names.includes(pair.name)),
          )
    return pairs.flatMap((pair) => statuses.map((each) => ({ ...pair, status: each })))
  }

  #bounds(): { from?: number; to?: number } {
    const { enqueuedAfter, enqueuedBefore, finishedBefore } = this.#filter
    // What finished before a time was enqueued before it.
    const before = [enqueuedBefore, finishedBefore].flatMap((time) => (time ? [time.getTime() - 1] : []))
    return {
      ...(enqueuedAfter && { from: enqueuedAfter.getTime() }),
      ...(before.length > 0 && { to: Math.min(...before) }),
    }
  }

  async #counts(cells: readonly Cell[]): Promise<readonly number[]> {
    return cells.length === 0 ? [] : await this.#source.storage.count(cells, this.#bounds())
  }

  async #sum(cells: readonly Cell[]): Promise<number> {
    const sum = (await this.#counts(cells)).reduce((total, count) => total + count, 0)
    return this.#limit === undefined ? sum : Math.min(sum, this.#limit)
  }

  #comparedKeys(): string[] {
    return (['priority', 'finishedAfter', 'finishedBefore', 'search'] as const).filter(
      (key) => this.#filter[key] !== undefined && this.#filter[key] !== '',
    )
  }

  #comparesRecords(): boolean {
    return this.#comparedKeys().length > 0
  }

  /** Every key again, on the record itself: between the index and here it may have moved on. */
  #matches(record: StoredRecord, searched: ReadonlySet<string>): boolean {
    const { status, queueName, name, priority, finishedAfter, finishedBefore, search } = this.#filter
    const among = <T>(value: T, wanted: T | readonly T[] | undefined): boolean => many(wanted)?.includes(value) ?? true
    if (!among(record.status, status) || !among(record.queueName, queueName) || !among(record.name, name)) return false
    if (!among(record.priority, priority)) return false
    if (finishedAfter && (record.finishedAt ?? -Infinity) < finishedAfter.getTime()) return false
    if (finishedBefore && (record.finishedAt ?? Infinity) >= finishedBefore.getTime()) return false
    return !search || holds(record, search) || searched.has(record.id)
  }
}

function holds(record: StoredRecord, search: string): boolean {
  const wanted = search.toLowerCase()
  return [record.id, record.name, record.args, ...record.errors].some((text) => text.toLowerCase().includes(wanted))
}
