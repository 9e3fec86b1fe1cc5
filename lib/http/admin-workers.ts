/** Workers as their heartbeats tell: the workers page, who could run what, and why a record does not run. */
import { StorageDamagedError } from '../errors.ts'
import type { SeenWorker } from '../storage/storage.ts'
import type { StoredRecord } from '../storage/stored-record.ts'
import { NAMED_TASKS, reportOf } from '../worker-report.ts'
import type { Block, WorkerReport } from '../worker-report.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { bytes, count, counted, duration, time } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { briefQuery } from './admin-records.ts'
import { queryText } from './admin-view.ts'

/** A worker that was not heard of for so long is not counted as one. */
const LIVE_MS = 60_000
/** Heartbeats come every few seconds: one that is this late is worth a word. */
const LATE_MS = 20_000
/** Workers on a page. */
const PAGE = 50
/** Running records that are looked at to say which worker has which. */
const LOOKED_AT = 500
const NAMED_RECORDS = 100

export interface WorkerFacts {
  readonly consumer: string
  readonly ageMs: number
  readonly report: WorkerReport
  readonly live: boolean
  readonly tasks: ReadonlySet<string>
}

export function factsOf(seen: SeenWorker): WorkerFacts {
  const { consumer, ageMs } = seen
  const report = reportOf(seen)
  return { consumer, ageMs, report, live: ageMs < LIVE_MS && report.state !== 'stopped', tasks: new Set(report.tasks) }
}

export const serves = ({ report: { queues } }: WorkerFacts, queueName: string): boolean =>
  queues.length === 0 || queues.includes(queueName)
export const knows = ({ tasks }: WorkerFacts, name: string): boolean => tasks.has(name) || tasks.size >= NAMED_TASKS

export interface WorkerRow {
  readonly id: string
  readonly consumer: string
  readonly host: string
  readonly pid: string
  readonly version: string
  readonly node: string
  readonly state: { readonly key: 'good' | 'info' | 'bad'; readonly word: string }
  /** What holds its event loop, or held it for longest lately. */
  readonly block: string | null
  readonly seen: string
  readonly started: ShownTime | null
  readonly up: string
  readonly slots: string
  /** What it has in hand, longest running first. */
  readonly current: readonly { readonly name: string; readonly href: string; readonly runs: string }[]
  readonly settled: string
  readonly lost: string
  readonly memory: string
  readonly queues: string
  readonly tasks: readonly string[]
  readonly otherVersion: boolean
}

export interface WorkersModel extends FrameModel {
  readonly workers: readonly WorkerRow[]
  readonly previous: string | null
  readonly next: string | null
  /** Said when there were more running records than were looked at. */
  readonly lookedAt: string | null
  readonly summary: string
  readonly mixed: string | null
}

function stateOf({ ageMs, report: { state, block }, live }: WorkerFacts): WorkerRow['state'] {
  if (!live) return { key: 'bad', word: state === 'stopped' ? 'stopped' : 'gone' }
  if (ageMs > LATE_MS) return { key: 'info', word: 'late' }
  if (block) return { key: 'bad', word: 'blocked' }
  return state === 'draining' ? { key: 'info', word: 'draining' } : { key: 'good', word: 'running' }
}

/** Which tasks block its event loop or did so, by name; several when nobody can tell which of them it is. */
function blockWords({ report: { block, longestBlock } }: WorkerFacts, nowMs: number): string | null {
  const names = ({ tasks }: Block): string => {
    const all = [...new Set(tasks.map((task) => task.split('/')[0] ?? ''))]
    return all.length > 1 ? `one of ${all.join(', ')}` : (all[0] ?? 'a task')
  }
  if (block) return `for ${duration(block.ms)} by ${names(block)}`
  if (!longestBlock) return null
  const ago = duration(Math.max(0, nowMs - longestBlock.endedAt))
  return `was blocked for ${duration(longestBlock.ms)} by ${names(longestBlock)}, ${ago} ago`
}

/** Names that stand still while heartbeats come in: live ones first, then by host and name. */
function inOrder(a: WorkerFacts, b: WorkerFacts): number {
  if (a.live !== b.live) return a.live ? -1 : 1
  const [left, right] = [a, b].map(({ report: { host }, consumer }) => `${host} ${consumer}`)
  return (left ?? '') < (right ?? '') ? -1 : 1
}

interface Current {
  readonly byWorker: ReadonlyMap<string, readonly StoredRecord[]>
  readonly looked: number
  readonly total: number
}

/** The records that run, by the worker that has them; of very many the first. */
async function currentRecords(context: AdminContext): Promise<Current> {
  const query = briefQuery(context, { status: 'RUNNING' }).orderBy('enqueuedAt')
  const { records, total } = await query.page({ size: LOOKED_AT })
  const started = ({ lastAttemptedAt, enqueuedAt }: StoredRecord): number => lastAttemptedAt ?? enqueuedAt
  const byWorker = new Map<string, StoredRecord[]>()
  for (const record of records.toSorted((a, b) => started(a) - started(b))) {
    const worker = record.workerIds.at(-1) ?? ''
    byWorker.set(worker, [...(byWorker.get(worker) ?? []), record])
  }
  return { byWorker, looked: records.length, total: total ?? records.length }
}

/** The version that most live workers have, and whether there are others. */
function versionsOf(
  live: readonly WorkerFacts[],
  field: 'node' | 'version',
): { usual: string; all: readonly string[] } {
  const counts = new Map<string, number>()
  for (const { report } of live) {
    const version = report[field]
    if (version !== '') counts.set(version, (counts.get(version) ?? 0) + 1)
  }
  const all = [...counts].sort((a, b) => b[1] - a[1]).map(([version]) => version)
  return { usual: all[0] ?? '', all }
}

export async function workersModel(context: AdminContext): Promise<WorkersModel> {
  const { nowMs, base, view, query } = context
  const [seen, current] = await Promise.all([context.backend.storage.workers(), currentRecords(context)])
  const facts = seen.map(factsOf).sort(inOrder)
  const live = facts.filter((worker) => worker.live)
  const nodes = versionsOf(live, 'node')
  const packages = versionsOf(live, 'version')
  const pages = Math.max(1, Math.ceil(facts.length / PAGE))
  const asked = Number(query.get('page') ?? 1)
  const page = Number.isSafeInteger(asked) ? Math.min(pages, Math.max(1, asked)) : 1
  const link = (to: number): string => `${base}/workers${queryText(view, { page: to === 1 ? '' : String(to) })}`
  const differs = (value: string, { usual, all }: typeof nodes): boolean =>
    all.length > 1 && value !== '' && value !== usual
  const rows = facts.slice((page - 1) * PAGE, page * PAGE).map((worker): WorkerRow => {
    const { report, consumer, ageMs } = worker
    const { workerId: id, host, pid, version, node, startedAt } = report
    return {
      ...{ id, consumer, host, pid, version, node },
      state: stateOf(worker),
      block: blockWords(worker, nowMs),
      seen: `${duration(ageMs)} ago`,
      started: startedAt === null ? null : time(startedAt, nowMs),
      up: startedAt === null ? '–' : duration(nowMs - startedAt),
      slots: `${count(report.running)} / ${count(report.concurrency)}`,
      current: (current.byWorker.get(id) ?? []).slice(0, NAMED_RECORDS).map((record) => ({
        name: record.name,
        href: `${base}/tasks/${encodeURIComponent(record.id)}${queryText(view)}`,
        runs: duration(nowMs - (record.lastAttemptedAt ?? nowMs)),
      })),
      settled: count(report.settled),
      lost: count(report.lost),
      memory: bytes(report.memoryBytes),
      queues: report.queues.length === 0 ? 'all' : report.queues.join(', '),
      tasks: [...worker.tasks].slice(0, NAMED_TASKS),
      otherVersion: worker.live && (differs(node, nodes) || differs(version, packages)),
    }
  })
  const mixed = [
    ...(packages.all.length > 1 ? [`of this package: ${packages.all.join(', ')}`] : []),
    ...(nodes.all.length > 1 ? [`of Node: ${nodes.all.join(', ')}`] : []),
  ]
  const gone = facts.length - live.length
  return {
    ...frame(context, { title: 'Workers', section: 'workers', live: true, notice: null }),
    workers: rows,
    previous: page > 1 ? link(page - 1) : null,
    next: page < pages ? link(page + 1) : null,
    lookedAt:
      current.total > current.looked
        ? `Looked at ${count(current.looked)} of ${count(current.total)} running records to say which worker has which.`
        : null,
    summary: `${counted(live.length, 'live worker')}${gone > 0 ? `, ${count(gone)} not heard of` : ''}`,
    mixed: mixed.length > 0 ? `Live workers run on different versions ${mixed.join('; ')}.` : null,
  }
}

/** Why a record is not running: the first causes first. */
export async function whyNotRunning(record: StoredRecord, context: AdminContext): Promise<readonly string[]> {
  const { nowMs, backend } = context
  if (record.status === 'RUNNING' && record.leaseUntil !== null && record.leaseUntil < nowMs) {
    return [
      `Its lease ran out ${duration(nowMs - record.leaseUntil)} ago: its worker is gone or frozen, and another takes it over within its claim interval.`,
    ]
  }
  if (record.status !== 'READY') return []
  if (record.runAfter !== null && record.runAfter > nowMs)
    return [`It is delayed: due in ${duration(record.runAfter - nowMs)}.`]
  const seen = await backend.storage.workers().catch((error: unknown) => {
    // What is known of workers is beside the point of this page.
    if (error instanceof StorageDamagedError) return null
    throw error
  })
  if (seen === null) return ['What is known of workers cannot be read: run-redis-tasks --doctor names the key.']
  const live = seen.map(factsOf).filter((worker) => worker.live)
  if (live.length === 0)
    return ['No worker was heard of in the last minute. Start one: npx run-redis-tasks --continuous ./tasks.js']
  const here = live.filter((worker) => serves(worker, record.queueName))
  if (here.length === 0)
    return [`No live worker serves queue “${record.queueName}”. Start one with --queue ${record.queueName}.`]
  if (!here.some((worker) => knows(worker, record.name)))
    return [`No live worker knows the task “${record.name}”. Start one with the module that defines it.`]
  const busy = here.every(({ report: { running, concurrency } }) => running >= concurrency)
  return busy ? ['It waits for a free slot: every worker that serves its queue is busy.'] : []
}
