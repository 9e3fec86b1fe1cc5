/**
 * What the address of an admin page says: backend, filters, order, page size, place, live interval. Reads it from the URL,
 * writes it into links, says it in words. One object for all pages, so that every link keeps what was chosen.
 * Judges values, asks no storage.
 */
import type { Request } from 'express'
import { TaskOptionError, verbatim } from '../errors.ts'
import { NAME_PATTERN } from '../options.ts'
import type { RecordFilter } from '../record-filter.ts'
import type { RecordOrder } from '../record-query.ts'
import { PRIORITIES } from '../storage/storage.ts'
import { isTaskStatus, TASK_STATUSES } from '../task-status.ts'
import type { TaskStatus } from '../task-status.ts'

export const PAGE_SIZES = [25, 50, 100, 200] as const
export const LIVE_SECONDS = [2, 5, 30] as const
const LONGEST_TEXT = 200
/** Values of one filter; more make a longer URL than servers take. */
const MOST_VALUES = 50

/** The filters that are times, with the words for them. */
export const TIME_FIELDS = ['enqueued_from', 'enqueued_to', 'finished_from', 'finished_to'] as const

export type TimeField = (typeof TIME_FIELDS)[number]

export interface AdminView {
  /** Alias of the backend; the router's own when empty. */
  readonly backend: string
  readonly status: readonly TaskStatus[]
  readonly queue: readonly string[]
  readonly name: readonly string[]
  readonly priority: string
  readonly text: string
  readonly times: Readonly<Record<TimeField, string>>
  readonly order: RecordOrder
  readonly size: (typeof PAGE_SIZES)[number]
  /** A cursor: the page that follows it (`after`) or comes before it (`before`). */
  readonly after: string
  readonly before: string
  readonly live: string
  /** Names in the query that mean nothing here. */
  readonly unknown: readonly string[]
}

const SINGLE = ['backend', 'priority', 'text', ...TIME_FIELDS, 'sort', 'size', 'after', 'before', 'live'] as const
const MANY = ['status', 'queue', 'name'] as const
const SORTS: ReadonlyMap<string, RecordOrder> = new Map([
  ['newest', '-enqueuedAt'],
  ['oldest', 'enqueuedAt'],
])

function refuse(field: string, shape: string, got: unknown, cure: string): never {
  throw new TaskOptionError(`/${field}`, shape, got, cure)
}

/** The query of a request, read from the URL: hosts differ in what they make of it. */
export function queryOf(req: Pick<Request, 'originalUrl'>): URLSearchParams {
  const start = req.originalUrl.indexOf('?')
  return new URLSearchParams(start < 0 ? '' : req.originalUrl.slice(start))
}

/**
 * @param more names that a page reads itself.
 * @throws TaskOptionError a value is not what its field may be.
 */
export function viewOf(query: URLSearchParams, more: readonly string[] = []): AdminView {
  const single = new Map<string, string>()
  const many = new Map<string, Set<string>>(MANY.map((field) => [field, new Set<string>()]))
  const unknown = new Set<string>()
  for (const [field, value] of query) {
    if (value === '' || more.includes(field)) continue
    const values = many.get(field)
    if (values) values.add(value)
    else if (!(SINGLE as readonly string[]).includes(field)) unknown.add(field.slice(0, 40))
    else if (single.has(field)) refuse(field, 'given once', verbatim('twice'), 'give it once')
    else single.set(field, value)
  }
  const get = (field: (typeof SINGLE)[number]): string => single.get(field) ?? ''
  const names = (field: 'queue' | 'name'): string[] =>
    [...(many.get(field) ?? [])].map((value) =>
      NAME_PATTERN.test(value)
        ? value
        : refuse(
            field,
            `the name of a ${field === 'queue' ? 'queue' : 'task'}`,
            value,
            'letters, digits, "_", "." and "-"',
          ),
    )
  for (const [field, values] of many) {
    if (values.size > MOST_VALUES) refuse(field, `given at most ${MOST_VALUES} times`, values.size, 'choose fewer')
  }
  const size = PAGE_SIZES.find((each) => String(each) === (get('size') || '50'))
  const text = get('text')
  if (text.length > LONGEST_TEXT) refuse('text', `at most ${LONGEST_TEXT} characters`, text.length, 'search for less')
  const priority = get('priority')
  if (priority !== '') priorityOf(priority)
  const times = Object.fromEntries(TIME_FIELDS.map((field) => [field, get(field)])) as Record<TimeField, string>
  for (const field of TIME_FIELDS) timeOf(field, times[field], 0)
  const live = get('live')
  if (live !== '' && !LIVE_SECONDS.some((seconds) => String(seconds) === live)) {
    refuse('live', `one of ${LIVE_SECONDS.join(', ')}`, live, 'leave it out for a page that stands still')
  }
  const backend = get('backend')
  if (backend !== '' && !NAME_PATTERN.test(backend))
    refuse('backend', 'the alias of a backend', backend, 'leave it out for the usual one')
  return {
    backend,
    status: [...(many.get('status') ?? [])].map((value) =>
      isTaskStatus(value)
        ? value
        : refuse('status', `one of ${TASK_STATUSES.join(', ')}`, value, 'leave it out for all'),
    ),
    queue: names('queue'),
    name: names('name'),
    priority,
    text,
    times,
    order:
      SORTS.get(get('sort') || 'newest') ?? refuse('sort', 'newest or oldest', get('sort'), 'leave it out for newest'),
    size: size ?? refuse('size', `one of ${PAGE_SIZES.join(', ')}`, get('size'), 'leave it out for 50'),
    after: get('after'),
    before: get('before'),
    live,
    unknown: [...unknown].slice(0, 10),
  }
}

/** The query of a link: what is usual is left out. */
export function queryText(view: AdminView, more: Readonly<Record<string, string>> = {}): string {
  const query = new URLSearchParams()
  const set = (field: string, value: string): void => {
    if (value !== '') query.append(field, value)
  }
  set('backend', view.backend)
  for (const status of view.status) set('status', status)
  for (const queue of view.queue) set('queue', queue)
  for (const name of view.name) set('name', name)
  set('priority', view.priority)
  set('text', view.text)
  for (const field of TIME_FIELDS) set(field, view.times[field])
  set('sort', view.order === 'enqueuedAt' ? 'oldest' : '')
  set('size', view.size === 50 ? '' : String(view.size))
  set('after', view.after)
  set('before', view.before)
  set('live', view.live)
  for (const [field, value] of Object.entries(more)) set(field, value)
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}

/** Nothing chosen but the backend and the live interval. */
export function bareView(view: AdminView): AdminView {
  const empty = viewOf(new URLSearchParams())
  return { ...empty, backend: view.backend, live: view.live }
}

/** The first page of what is chosen. */
export function firstPage(view: AdminView): AdminView {
  return { ...view, after: '', before: '' }
}

function priorityOf(text: string): number {
  const value = Number(text)
  const { min, max } = PRIORITIES
  const fits = /^-?\d{1,3}$/.test(text) && value >= min && value <= max
  return fits ? value : refuse('priority', `an integer from ${min} to ${max}`, text, 'leave it out for all')
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, min: 60, h: 3_600, d: 86_400, w: 604_800 }
const AGO = /^(\d{1,5}) ?(s|m|min|h|d|w)$/
const MOMENT = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?) ?(Z|UTC|[+-]\d\d:\d\d)?)?$/

/** `24h` is 24 hours before now; a date or time without a zone is UTC. */
export function timeOf(field: TimeField, text: string, nowMs: number): Date | undefined {
  if (text === '') return undefined
  const [, amount, unit = ''] = AGO.exec(text) ?? []
  if (amount !== undefined) return new Date(nowMs - Number(amount) * (UNITS[unit] ?? 0) * 1_000)
  const [, day, clock = '00:00', zone = 'Z'] = MOMENT.exec(text) ?? []
  const time = new Date(`${day}T${clock}${zone === 'UTC' ? 'Z' : zone}`)
  // `2026-02-30` is no day, though Date would make one of it in some spellings.
  const real =
    day !== undefined && !Number.isNaN(time.getTime()) && new Date(`${day}T00:00Z`).toISOString().startsWith(day)
  return real ? time : refuse(field, 'a time', text, 'for example 24h, 7d, 2030-01-31 or 2030-01-31 12:00 (UTC)')
}

/** What is asked of the records. */
export function filterOf(view: AdminView, nowMs: number): RecordFilter {
  const times = Object.fromEntries(
    TIME_FIELDS.map((field) => [field, timeOf(field, view.times[field], nowMs)]),
  ) as Record<TimeField, Date | undefined>
  return {
    ...(view.status.length > 0 && { status: view.status }),
    ...(view.queue.length > 0 && { queueName: view.queue }),
    ...(view.name.length > 0 && { name: view.name }),
    ...(view.priority !== '' && { priority: priorityOf(view.priority) }),
    ...(view.text !== '' && { search: view.text }),
    ...(times.enqueued_from && { enqueuedAfter: times.enqueued_from }),
    ...(times.enqueued_to && { enqueuedBefore: times.enqueued_to }),
    ...(times.finished_from && { finishedAfter: times.finished_from }),
    ...(times.finished_to && { finishedBefore: times.finished_to }),
  }
}

/** True when records have to be looked at one by one, so that no total is known. */
export function looksAtRecords(view: AdminView): boolean {
  return view.text !== '' || view.priority !== '' || view.times.finished_from !== '' || view.times.finished_to !== ''
}

/** The same view with `24h` and the like written as the moments they mean now. */
export function frozen(view: AdminView, nowMs: number): AdminView {
  const times = Object.fromEntries(
    TIME_FIELDS.map((field) => [field, timeOf(field, view.times[field], nowMs)?.toISOString() ?? '']),
  ) as Record<TimeField, string>
  return { ...view, times }
}

export interface Chip {
  readonly label: string
  readonly value: string
  /** The view without it. */
  readonly without: AdminView
}

const TIME_WORDS: Readonly<Record<TimeField, string>> = {
  enqueued_from: 'enqueued since',
  enqueued_to: 'enqueued before',
  finished_from: 'finished since',
  finished_to: 'finished before',
}

/** Every filter that is on, in the order of the form. */
export function chipsOf(given: AdminView): readonly Chip[] {
  const view = firstPage(given)
  const lists = (['status', 'queue', 'name'] as const).flatMap((field) =>
    view[field].map((value) => ({
      label: field === 'name' ? 'task' : field,
      value,
      without: { ...view, [field]: (view[field] as readonly string[]).filter((each) => each !== value) },
    })),
  )
  const texts = (['text', 'priority'] as const).flatMap((field) =>
    view[field] === '' ? [] : [{ label: field, value: view[field], without: { ...view, [field]: '' } }],
  )
  const times = TIME_FIELDS.flatMap((field) => {
    const value = view.times[field]
    if (value === '') return []
    const shownValue = AGO.test(value) ? `${value} ago` : value
    return [
      { label: TIME_WORDS[field], value: shownValue, without: { ...view, times: { ...view.times, [field]: '' } } },
    ]
  })
  return [...lists, ...texts, ...times]
}

/** The filter as one line: `status FAILED, queue mail or reports, enqueued since 24h ago`. */
export function filterWords(view: AdminView): string {
  const words = new Map<string, string[]>()
  for (const { label, value } of chipsOf(view)) {
    words.set(label, [...(words.get(label) ?? []), label === 'text' ? `“${value}”` : value])
  }
  if (words.size === 0) return 'no filter: every record of this backend'
  return [...words].map(([label, values]) => `${label} ${values.join(' or ')}`).join(', ')
}
