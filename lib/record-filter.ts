/**
 * RecordFilter: what is asked of records, as rows that are checked, as cells and bounds of the index, and as a comparison with
 * one record. What the index cannot answer is told by `comparedKeys`. Reads no record.
 */
import { anything, checkOptions, date, NAME_PATTERN, text } from './options.ts'
import type { Row } from './options.ts'
import { PRIORITIES } from './storage/storage.ts'
import type { Cell, Storage } from './storage/storage.ts'
import type { StoredRecord } from './storage/stored-record.ts'
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
  Number.isInteger(value) && (value as number) >= PRIORITIES.min && (value as number) <= PRIORITIES.max

/** Every key of a filter: what it may be, and what it means. */
const FILTER_OPTIONS = Object.freeze({
  status: oneOrMany({
    shape: `one or a list of ${TASK_STATUSES.join(', ')}`,
    is: isStatus,
    description: 'state of the record',
  }),
  queueName: oneOrMany({ shape: 'a queue name or a list of them', is: isName, description: 'queue' }),
  name: oneOrMany({ shape: 'a task name or a list of them', is: isName, description: 'task name' }),
  priority: oneOrMany({
    shape: `an integer from ${PRIORITIES.min} to ${PRIORITIES.max} or a list of them`,
    is: isPriority,
    description: 'priority',
  }),
  enqueuedAfter: date({ description: 'enqueued at or after this time' }),
  enqueuedBefore: date({ description: 'enqueued before this time' }),
  finishedAfter: date({ description: 'finished at or after this time' }),
  finishedBefore: date({ description: 'finished before this time' }),
  search: text({ maxLength: 200, description: 'text in id, name, args or errors' }),
})

/** @throws TaskOptionError an unknown key (the message names the nearest), or a value that it may not have. */
export function checkFilter(filter: RecordFilter): RecordFilter {
  return checkOptions('filter', FILTER_OPTIONS, filter)
}

export function many<T>(value: T | readonly T[] | undefined): readonly T[] | undefined {
  if (value === undefined) return undefined
  return Array.isArray(value) ? (value as readonly T[]) : [value as T]
}

/** Every set of the index that records of this filter may stand in. */
export async function cellsOf(filter: RecordFilter, storage: Pick<Storage, 'catalog'>): Promise<Cell[]> {
  const queueNames = many(filter.queueName)
  const names = many(filter.name)
  const statuses = many(filter.status) ?? TASK_STATUSES
  const pairs =
    queueNames && names && queueNames.length * names.length <= MOST_PAIRS
      ? queueNames.flatMap((queueName) => names.map((name) => ({ queueName, name })))
      : (await storage.catalog()).tasks.filter(
          (pair) => (!queueNames || queueNames.includes(pair.queueName)) && (!names || names.includes(pair.name)),
        )
  return pairs.flatMap((pair) => statuses.map((status) => ({ ...pair, status })))
}

/** Times of enqueue between which all of them lie, both inclusive. */
export function boundsOf({ enqueuedAfter, enqueuedBefore, finishedBefore }: RecordFilter): {
  from?: number
  to?: number
} {
  // What finished before a time was enqueued before it.
  const before = [enqueuedBefore, finishedBefore].flatMap((time) => (time ? [time.getTime() - 1] : []))
  return {
    ...(enqueuedAfter && { from: enqueuedAfter.getTime() }),
    ...(before.length > 0 && { to: Math.min(...before) }),
  }
}

/** The keys that only a look at each record can tell. */
export function comparedKeys(filter: RecordFilter): string[] {
  return (['priority', 'finishedAfter', 'finishedBefore', 'search'] as const).filter(
    (key) => filter[key] !== undefined && filter[key] !== '',
  )
}

/** Every key but the text, on the record itself: between the index and here it may have moved on. */
export function matches(filter: RecordFilter, record: StoredRecord): boolean {
  const { status, queueName, name, priority, finishedAfter, finishedBefore } = filter
  const among = <T>(value: T, wanted: T | readonly T[] | undefined): boolean => many(wanted)?.includes(value) ?? true
  if (!among(record.status, status) || !among(record.queueName, queueName) || !among(record.name, name)) return false
  if (!among(record.priority, priority)) return false
  if (finishedAfter && (record.finishedAt ?? -Infinity) < finishedAfter.getTime()) return false
  return !finishedBefore || (record.finishedAt ?? Infinity) < finishedBefore.getTime()
}

/** Whether the text is in what was read of a record. */
export function holds(record: StoredRecord, search: string): boolean {
  const wanted = search.toLowerCase()
  return [record.id, record.name, record.args, ...record.errors].some((text) => text.toLowerCase().includes(wanted))
}
