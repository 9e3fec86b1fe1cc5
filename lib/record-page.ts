/**
 * RecordPage: one page of records, what may be asked of it, and the cursor between it and the next.
 */
import { TaskOptionError } from './errors.ts'
import { anything, checkOptions, integer } from './options.ts'
import type { ListPosition } from './storage/storage.ts'
import type { DamagedRecord } from './storage/stored-record.ts'

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

const PAGE_SIZE = 50
const MAX_PAGE_SIZE = 1_000
/** Records that one page or count looks at, when each has to be compared. */
export const LOOK_LIMIT = 20_000

const PAGE_OPTIONS = Object.freeze({
  size: integer({ min: 1, max: MAX_PAGE_SIZE, default: PAGE_SIZE, description: 'records on a page' }),
  after: anything({
    shape: 'the `next` of an earlier page',
    is: (value): value is string | null => value === null || typeof value === 'string',
    description: 'where the page starts',
  }),
  lookLimit: integer({ min: 1, max: 1_000_000, default: LOOK_LIMIT, description: 'records looked at to fill a page' }),
})

export interface PageOptions {
  readonly size?: number
  readonly after?: string | null
  readonly lookLimit?: number
}

/** @throws TaskOptionError an option is unknown or out of range, or `after` was never a cursor. */
export function checkPage(options: PageOptions): { size: number; after: ListPosition | undefined; lookLimit: number } {
  const { size, after, lookLimit } = checkOptions('page', PAGE_OPTIONS, options)
  return { size, after: typeof after === 'string' ? positionOf(after) : undefined, lookLimit }
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
