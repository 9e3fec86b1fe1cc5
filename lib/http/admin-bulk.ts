/**
 * Run, retry, cancel and delete: of ticked records, or of all that match what was previewed. Each request does as much as fits into
 * its time and says what is left. The storage judges each record again; whatever changed meanwhile is skipped and counted.
 */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import {
  reasonOf,
  TaskCancelledError,
  TaskNotFoundError,
  TaskNotRegisteredError,
  TaskQueryLimitError,
  TaskRecordDamagedError,
} from '../errors.ts'
import { tellFinished } from '../maintenance.ts'
import type { RecordFilter } from '../record-filter.ts'
import { CALL_LIMITS } from '../storage/storage.ts'
import { isDamaged } from '../storage/stored-record.ts'
import type { StoredRecord } from '../storage/stored-record.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import { TASK_STATUSES } from '../task-status.ts'
import type { TaskStatus } from '../task-status.ts'
import type { AdminContext, Verb } from './admin-context.ts'
import { briefQuery, SHOWN } from './admin-records.ts'
import { isKnownHere } from './admin-models.ts'
import { filterOf, looksAtRecords } from './admin-view.ts'

/** Where a verb may begin. */
export const ELIGIBLE: Readonly<Record<Verb, readonly TaskStatus[]>> = {
  run: ['READY'],
  retry: ['FAILED'],
  cancel: ['READY', 'RUNNING'],
  delete: ['READY', 'SUCCESSFUL', 'FAILED'],
}

/** How long one request works; what is left is shown with a way to go on. */
const BULK_MS = 10_000
/** Records that are read at once. */
const PAGE = 1_000
const SAMPLES = 5
/** Names that one filter takes. */
const MOST_NAMES = 1_000

/** What is acted on: some ids, or a filter up to a moment. */
export type Target =
  | { readonly scope: 'ticked'; readonly ids: readonly string[] }
  | { readonly scope: 'all'; readonly filter: RecordFilter; readonly cutoff: number }

export interface Preview {
  readonly target: Target
  /** How many the verb would act on. */
  readonly eligible: number
  /** False when that is only how many were found by looking at some. */
  readonly exact: boolean
  readonly leftAlone: readonly { readonly status: TaskStatus | 'ABSENT' | 'UNKNOWN'; readonly count: number }[]
  readonly samples: readonly StoredRecord[]
}

function among(verb: Verb, filter: RecordFilter): RecordFilter | null {
  const wanted = filter.status === undefined ? TASK_STATUSES : [filter.status].flat()
  const status = ELIGIBLE[verb].filter((each) => wanted.includes(each))
  if (status.length === 0) return null
  const known = taskRegistry.names()
  if (verb !== 'run' || known.length > MOST_NAMES) return { ...filter, status }
  // Only what this process can run.
  const names = filter.name === undefined ? known : [filter.name].flat().filter((name) => known.includes(name))
  return names.length === 0 ? null : { ...filter, status, name: names }
}

/** `before` is exclusive, and never later than what the filter itself says. */
function upTo(filter: RecordFilter, cutoff: number): RecordFilter {
  const own = filter.enqueuedBefore?.getTime() ?? Infinity
  return { ...filter, enqueuedBefore: new Date(Math.min(own, cutoff)) }
}

async function readStored(backend: TaskBackend, ids: readonly string[]): Promise<(StoredRecord | undefined)[]> {
  const found = ids.length === 0 ? [] : await backend.storage.find(ids, SHOWN)
  return ids.map((_, index) => {
    const record = found[index]
    return record && !isDamaged(record) ? record : undefined
  })
}

async function previewTicked(verb: Verb, ids: readonly string[], backend: TaskBackend): Promise<Preview> {
  const records = await readStored(backend, ids)
  const counts = new Map<TaskStatus | 'ABSENT' | 'UNKNOWN', number>()
  const eligible: StoredRecord[] = []
  for (const record of records) {
    if (record && ELIGIBLE[verb].includes(record.status)) {
      if (verb !== 'run' || isKnownHere(record.name)) {
        eligible.push(record)
        continue
      }
      counts.set('UNKNOWN', (counts.get('UNKNOWN') ?? 0) + 1)
      continue
    }
    const reason = record?.status ?? 'ABSENT'
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return {
    target: { scope: 'ticked', ids },
    eligible: eligible.length,
    exact: true,
    leftAlone: [...counts].map(([status, count]) => ({ status, count })),
    samples: eligible.slice(0, SAMPLES),
  }
}

async function countOf(backend: TaskBackend, filter: RecordFilter | null): Promise<{ count: number; exact: boolean }> {
  if (filter === null) return { count: 0, exact: true }
  const query = briefQuery({ backend }, filter)
  try {
    return { count: await query.count(), exact: true }
  } catch (error) {
    if (!(error instanceof TaskQueryLimitError)) throw error
    const { records } = await query.page({ size: PAGE })
    return { count: records.length, exact: false }
  }
}

/**
 * What an action would meet. The moment of the preview is the newest record that it saw, in the storage's own time: what is
 * enqueued later is not acted on.
 */
export async function preview(verb: Verb, context: AdminContext, ids: readonly string[] | null): Promise<Preview> {
  const { backend, view, nowMs } = context
  if (ids) return await previewTicked(verb, ids, backend)
  const filter = filterOf(view, nowMs)
  const [newest] = (
    await briefQuery(context, filter.enqueuedAfter ? { enqueuedAfter: filter.enqueuedAfter } : {}).page({ size: 1 })
  ).records
  const cutoff = (newest?.enqueuedAt ?? 0) + 1
  const bounded = upTo(filter, cutoff)
  const eligible = among(verb, bounded)
  const [{ count, exact }, samples, byStatus] = await Promise.all([
    countOf(backend, eligible),
    eligible ? briefQuery(context, eligible).page({ size: SAMPLES }) : { records: [] },
    looksAtRecords(view) ? null : backend.records.filter(bounded).countBy('status'),
  ])
  const leftAlone: Preview['leftAlone'][number][] = TASK_STATUSES.filter(
    (status) => !ELIGIBLE[verb].includes(status),
  ).flatMap((status) => {
    const left = byStatus?.[status] ?? 0
    return left > 0 ? [{ status, count: left }] : []
  })
  const ready = byStatus?.READY ?? 0
  if (verb === 'run' && exact && ready > count) leftAlone.push({ status: 'UNKNOWN', count: ready - count })
  return {
    target: { scope: 'all', filter, cutoff },
    eligible: count,
    exact,
    leftAlone,
    samples: samples.records,
  }
}

export interface Tally {
  done: number
  /** Run, and failed again. */
  failed: number
  /** Gone into another state, or gone, since it was chosen. */
  skipped: number
  /** Tasks that this process does not know. */
  unknown: number
  /** Not reached in the time; of a filter at least so many. */
  left: number
}

/** How one record ended. */
type Word = 'done' | 'failed' | 'skipped' | 'unknown'

/** The last outcome, for an action on a single record. */
export interface Outcome extends Tally {
  readonly lastStatus: TaskStatus | null
}

class Work {
  readonly tally: Tally = { done: 0, failed: 0, skipped: 0, unknown: 0, left: 0 }
  lastStatus: TaskStatus | null = null
  readonly #verb: Verb
  readonly #backend: TaskBackend
  readonly #clock: Clock
  readonly #deadlineMs: number
  readonly #signal: AbortSignal
  /** Of the whole request: a repeat by the client library is the same retry. */
  readonly #requestId = randomUUID()

  constructor(verb: Verb, backend: TaskBackend, clock: Clock, signal: AbortSignal) {
    this.#verb = verb
    this.#backend = backend
    this.#clock = clock
    this.#deadlineMs = clock.monotonicMs() + BULK_MS
    this.#signal = signal
  }

  get isOver(): boolean {
    return this.#signal.aborted || this.#clock.monotonicMs() >= this.#deadlineMs
  }

  async act(ids: readonly string[], names: readonly (string | undefined)[]): Promise<void> {
    const step = this.#verb === 'run' ? 1 : CALL_LIMITS.moves
    for (let start = 0; start < ids.length; start += step) {
      if (this.isOver) {
        this.tally.left += ids.length - start
        return
      }
      const batch = ids.slice(start, start + step)
      if (this.#verb === 'run') this.tally[await this.#run(batch[0] ?? '', names[start])] += 1
      else for (const word of await this.#move(batch)) this.tally[word] += 1
    }
  }

  async #move(ids: readonly string[]): Promise<readonly Word[]> {
    const { storage } = this.#backend
    if (this.#verb === 'cancel') return await this.#cancel(ids)
    const answers = this.#verb === 'delete' ? await storage.delete(ids) : await storage.retry(ids, this.#requestId)
    return answers.map((word) => (word === 'DELETED' || word === 'RETRIED' ? 'done' : 'skipped'))
  }

  async #cancel(ids: readonly string[]): Promise<readonly Word[]> {
    const backend = this.#backend
    const answers = await backend.storage.cancel(ids, this.#requestId, reasonOf(new TaskCancelledError()))
    const words = answers.map((word) => (word === 'CANCELLED' ? 'done' : 'skipped'))
    const cancelled = ids.filter((_, index) => words[index] === 'done')
    await tellFinished(backend, cancelled)
    return words
  }

  async #run(id: string, name: string | undefined): Promise<Word> {
    if (name !== undefined && !isKnownHere(name)) return 'unknown'
    try {
      const result = await this.#backend.runById(id)
      if (result === null) return 'skipped'
      this.lastStatus = result.status
      return result.status === 'FAILED' || result.status === 'READY' ? 'failed' : 'done'
    } catch (error) {
      if (error instanceof TaskNotRegisteredError) return 'unknown'
      if (error instanceof TaskNotFoundError || error instanceof TaskRecordDamagedError) return 'skipped'
      throw error
    }
  }
}

/** Acts until all is done, the time is over or the caller has left. */
export async function perform(
  verb: Verb,
  backend: TaskBackend,
  target: Target,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<Outcome> {
  const work = new Work(verb, backend, clock, signal)
  if (target.scope === 'ticked') {
    await work.act(target.ids, [])
    return { ...work.tally, lastStatus: work.lastStatus }
  }
  const filter = among(verb, upTo(target.filter, target.cutoff))
  if (filter) {
    const query = briefQuery({ backend }, filter)
    let after: string | null = null
    do {
      // Newest first, as the list shows them; what was acted on lies behind the walk, and is not met again.
      const page: Awaited<ReturnType<typeof query.page>> = await query.page({ size: PAGE, after, lookLimit: PAGE })
      await work.act(
        page.records.map(({ id }) => id),
        page.records.map(({ name }) => name),
      )
      after = page.next
    } while (after !== null && !work.isOver)
    if (after !== null) work.tally.left = Math.max(work.tally.left, 1)
  }
  return { ...work.tally, lastStatus: work.lastStatus }
}

/** How many of a target are still to be acted on. */
export async function remaining(
  verb: Verb,
  backend: TaskBackend,
  target: Target & { scope: 'all' },
): Promise<{ count: number; exact: boolean }> {
  return await countOf(backend, among(verb, upTo(target.filter, target.cutoff)))
}
