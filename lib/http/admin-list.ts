/**
 * The task list: one page of records, exact counts beside every filter value, chips, and links to the pages around it.
 * Counts come from the index in one pipeline; a page is a merge of index cells: neither grows with the number of records.
 */
import { cursorOf } from '../record-page.ts'
import type { RecordPage } from '../record-page.ts'
import { PRIORITIES } from '../storage/storage.ts'
import type { Cell } from '../storage/storage.ts'
import type { StoredRecord } from '../storage/stored-record.ts'
import { TASK_STATUSES } from '../task-status.ts'
import { ELIGIBLE } from './admin-bulk.ts'
import { frame, VERB_LABELS, VERBS } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { count, counted } from './admin-format.ts'
import { rowOf } from './admin-models.ts'
import type { RowModel } from './admin-models.ts'
import { noticeOf } from './admin-notices.ts'
import { briefQuery, seenWhole } from './admin-records.ts'
import {
  bareView,
  chipsOf,
  filterOf,
  firstPage,
  looksAtRecords,
  PAGE_SIZES,
  queryText,
  TIME_FIELDS,
} from './admin-view.ts'
import type { AdminView, TimeField } from './admin-view.ts'

/** Filter values that are listed with their counts; there may be thousands of task names. */
const LISTED_VALUES = 60
/** Records that one page looks at when each has to be compared: half a second of a server that is on its own machine. */
const LOOKED_AT = 10_000

export interface FacetValue {
  readonly value: string
  readonly count: string
  readonly checked: boolean
  readonly href: string
}

export interface Facet {
  readonly field: 'status' | 'queue' | 'name'
  readonly title: string
  readonly values: readonly FacetValue[]
  /** Values that are not listed. */
  readonly more: number
  readonly chosen: number
}

export interface ListModel extends FrameModel {
  readonly rows: readonly RowModel[]
  readonly damaged: readonly { readonly id: string; readonly reason: string }[]
  readonly facets: readonly Facet[]
  readonly anyStatus: { readonly href: string; readonly count: string; readonly current: boolean }
  readonly names: readonly string[]
  readonly chips: readonly { label: string; value: string; href: string }[]
  readonly unknown: readonly string[]
  readonly clearHref: string
  readonly fields: Readonly<Record<TimeField, string>> & {
    readonly text: string
    readonly priority: string
    readonly size: string
    readonly sort: string
    readonly live: string
    readonly backend: string
  }
  readonly moreOpen: boolean
  readonly sizes: readonly number[]
  readonly priorities: { readonly min: number; readonly max: number }
  readonly summary: string
  readonly looked: string | null
  readonly total: number | null
  readonly totalText: string | null
  readonly sort: { readonly href: string; readonly aria: 'ascending' | 'descending'; readonly words: string }
  readonly first: string | null
  readonly previous: string | null
  readonly next: string | null
  readonly nextWords: string
  readonly verbs: readonly { readonly verb: string; readonly label: string; readonly action: string }[]
  readonly canBulk: boolean
  readonly empty: 'none' | 'nothing' | 'page' | 'failed' | null
}

interface Index {
  readonly cells: readonly Cell[]
  readonly counts: readonly number[]
}

/** Every cell with its count within the enqueued bounds: all facets and the total are sums of these. */
async function readIndex({ backend }: AdminContext, filter: ReturnType<typeof filterOf>): Promise<Index> {
  const { tasks } = await backend.storage.catalog()
  const cells = tasks.flatMap((task) => TASK_STATUSES.map((status): Cell => ({ ...task, status })))
  const bounds = {
    ...(filter.enqueuedAfter && { from: filter.enqueuedAfter.getTime() }),
    ...(filter.enqueuedBefore && { to: filter.enqueuedBefore.getTime() - 1 }),
  }
  return { cells, counts: cells.length === 0 ? [] : await backend.storage.count(cells, bounds) }
}

const FACETS = [
  { field: 'status', title: 'Status', of: (cell: Cell): string => cell.status },
  { field: 'queue', title: 'Queue', of: (cell: Cell): string => cell.queueName },
  { field: 'name', title: 'Task', of: (cell: Cell): string => cell.name },
] as const

function facetsOf({ cells, counts }: Index, view: AdminView, link: (view: AdminView) => string): readonly Facet[] {
  return FACETS.map(({ field, title, of }) => {
    const others = FACETS.filter((facet) => facet.field !== field)
    const sums = new Map<string, number>(field === 'status' ? TASK_STATUSES.map((status) => [status, 0]) : [])
    for (const chosen of view[field]) sums.set(chosen, 0)
    cells.forEach((cell, index) => {
      const among = others.every((facet) => {
        const wanted = view[facet.field] as readonly string[]
        return wanted.length === 0 || wanted.includes(facet.of(cell))
      })
      const value = of(cell)
      sums.set(value, (sums.get(value) ?? 0) + (among ? (counts[index] ?? 0) : 0))
    })
    const chosen = view[field] as readonly string[]
    const sorted = [...sums]
    if (field !== 'status') {
      const rank = ([value]: [string, number]): number => (chosen.includes(value) ? 1 : 0)
      sorted.sort((a, b) => rank(b) - rank(a) || b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
    }
    const values = sorted.slice(0, LISTED_VALUES).map(([value, sum]) => ({
      value,
      count: count(sum),
      checked: chosen.includes(value),
      href: link({ ...firstPage(view), [field]: chosen.length === 1 && chosen[0] === value ? [] : [value] }),
    }))
    return { field, title, values, more: sorted.length - values.length, chosen: chosen.length }
  })
}

function totalOf({ cells, counts }: Index, view: AdminView): number {
  const chosen = (cell: Cell): boolean =>
    FACETS.every(({ field, of }) => {
      const wanted = view[field] as readonly string[]
      return wanted.length === 0 || wanted.includes(of(cell))
    })
  return cells.reduce((sum, cell, index) => sum + (chosen(cell) ? (counts[index] ?? 0) : 0), 0)
}

interface Paged {
  readonly page: RecordPage<StoredRecord>
  readonly records: readonly StoredRecord[]
  readonly hasPrevious: boolean
  readonly next: string | null
}

/** A page behind a place, or the page before one: that is read backwards and turned round. */
async function readPage(context: AdminContext, filter: ReturnType<typeof filterOf>): Promise<Paged> {
  const { view } = context
  const query = briefQuery(context, filter)
  if (view.before !== '') {
    const reversed = view.order === 'enqueuedAt' ? '-enqueuedAt' : 'enqueuedAt'
    const page = await query.orderBy(reversed).page({ size: view.size, after: view.before, lookLimit: LOOKED_AT })
    const records = [...page.records].reverse()
    const last = records.at(-1)
    return { page, records, hasPrevious: page.next !== null, next: last ? cursorOf(last) : null }
  }
  const page = await query.orderBy(view.order).page({
    size: view.size,
    lookLimit: LOOKED_AT,
    ...(view.after !== '' && { after: view.after }),
  })
  return { page, records: page.records, hasPrevious: view.after !== '', next: page.next }
}

/** With a redacting hook, text is looked for in what may be shown: else a search would tell what is hidden. */
function visible(context: AdminContext, record: StoredRecord): boolean {
  const { view, redactor } = context
  if (!redactor.active || view.text === '') return true
  const { id, name, args, errors } = record
  const wanted = view.text.toLowerCase()
  const texts = [id, name, redactor.json(name, 'args', args)]
  for (const line of errors) {
    const error = redactor.error(name, line)
    texts.push(error.name, error.message, error.stack ?? '')
  }
  return texts.some((text) => text.toLowerCase().includes(wanted))
}

export async function listModel(context: AdminContext): Promise<ListModel> {
  const { view, base, nowMs, rights, redactor } = context
  const filter = filterOf(view, nowMs)
  const [index, paged] = await Promise.all([readIndex(context, filter), readPage(context, filter)])
  const rows: RowModel[] = []
  for (const record of paged.records) {
    const seen = await seenWhole(context, record)
    if (seen && visible(context, seen)) rows.push(rowOf(seen, context))
  }
  const link = (to: AdminView, more: Readonly<Record<string, string>> = {}): string =>
    `${base}/tasks${queryText(to, more)}`
  const first = paged.records[0]
  const compares = looksAtRecords(view)
  const indexed = totalOf(index, view)
  const total = compares ? null : indexed
  const chips = chipsOf(view).map(({ label, value, without }) => ({ label, value, href: link(without) }))
  const everything = index.counts.reduce((sum, each) => sum + each, 0)
  const newest = view.order === '-enqueuedAt'
  const looked = compares
    ? `Looked at ${count(paged.page.looked)} of ${count(indexed)} on this page, ${count(rows.length)} found.`
    : null
  return {
    ...frame(context, { title: 'Tasks', section: 'tasks', live: true, notice: noticeOf(context) }),
    rows,
    damaged: paged.page.damaged.map(({ id, damage }) => ({ id, reason: damage })),
    facets: facetsOf(index, view, link),
    anyStatus: {
      href: link({ ...firstPage(view), status: [] }),
      count: count(totalOf(index, { ...view, status: [] })),
      current: view.status.length === 0,
    },
    names: [...new Set(index.cells.map(({ name }) => name))].sort().slice(0, 1_000),
    chips,
    unknown: view.unknown,
    clearHref: link({ ...bareView(view), order: view.order, size: view.size }),
    fields: {
      ...view.times,
      text: view.text,
      priority: view.priority,
      size: String(view.size),
      sort: newest ? 'newest' : 'oldest',
      live: view.live,
      backend: view.backend,
    },
    moreOpen: view.priority !== '' || TIME_FIELDS.some((field) => view.times[field] !== ''),
    sizes: PAGE_SIZES,
    priorities: PRIORITIES,
    summary: total === null ? `${counted(rows.length, 'record')} on this page` : counted(total, 'record'),
    looked,
    total,
    totalText: total === null ? null : count(total),
    sort: {
      href: link({ ...firstPage(view), order: newest ? 'enqueuedAt' : '-enqueuedAt' }),
      aria: newest ? 'descending' : 'ascending',
      words: newest ? 'newest first; sort oldest first' : 'oldest first; sort newest first',
    },
    first: view.after !== '' || view.before !== '' ? link(firstPage(view)) : null,
    previous: paged.hasPrevious && first ? link({ ...firstPage(view), before: cursorOf(first) }) : null,
    next: paged.next === null ? null : link({ ...firstPage(view), after: paged.next }),
    nextWords: compares && rows.length < view.size ? 'Continue looking' : 'Next',
    verbs: VERBS.filter(
      (verb) => rights[verb] && (view.status.length === 0 || view.status.some((each) => ELIGIBLE[verb].includes(each))),
    ).map((verb) => ({
      verb,
      label: VERB_LABELS[verb],
      action: `${base}/confirm/${verb}${queryText(view)}`,
    })),
    // A search that looks at what is hidden must not count it either.
    canBulk: !(redactor.active && view.text !== ''),
    empty: rows.length > 0 ? null : emptyOf(view, everything, chips.length),
  }
}

function emptyOf(view: AdminView, everything: number, filters: number): ListModel['empty'] {
  if (view.after !== '' || view.before !== '') return 'page'
  if (filters === 1 && view.status.length === 1 && view.status[0] === 'FAILED') return 'failed'
  return everything === 0 && filters === 0 ? 'none' : 'nothing'
}
