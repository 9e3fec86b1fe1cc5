/** Workers as their heartbeats tell: the workers page, who could run what, and why a record does not run. */
import type { SeenWorker, StoredRecord } from '../storage/storage.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { bytes, count, counted, duration, time } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'

/** A worker that was not heard of for so long is not counted as one. */
const LIVE_MS = 60_000
/** Heartbeats come every few seconds: one that is this late is worth a word. */
const LATE_MS = 20_000
/** A heartbeat names so many tasks at most; a worker that names that many may know more. */
const NAMED_TASKS = 1_000
const LISTED_WORKERS = 200

export interface WorkerFacts {
  readonly seen: SeenWorker
  readonly live: boolean
  readonly queues: readonly string[]
  readonly tasks: ReadonlySet<string>
}

const words = (text: string | undefined): readonly string[] => (text ?? '').split(' ').filter(Boolean)

export function factsOf(seen: SeenWorker): WorkerFacts {
  const { fields, ageMs } = seen
  const live = ageMs < LIVE_MS && fields['state'] !== 'stopped'
  return { seen, live, queues: words(fields['queues']), tasks: new Set(words(fields['tasks'])) }
}

export const serves = ({ queues }: WorkerFacts, queueName: string): boolean =>
  queues.length === 0 || queues.includes(queueName)
export const knows = ({ tasks }: WorkerFacts, name: string): boolean => tasks.has(name) || tasks.size >= NAMED_TASKS

export interface WorkerRow {
  readonly id: string
  readonly consumer: string
  readonly host: string
  readonly pid: string
  readonly node: string
  readonly state: { readonly key: 'good' | 'info' | 'bad'; readonly word: string }
  readonly seen: string
  readonly started: ShownTime | null
  readonly up: string
  readonly slots: string
  readonly settled: string
  readonly lost: string
  readonly memory: string
  readonly queues: string
  readonly tasks: readonly string[]
  readonly otherVersion: boolean
}

export interface WorkersModel extends FrameModel {
  readonly workers: readonly WorkerRow[]
  readonly leftOut: number
  readonly summary: string
  readonly mixed: string | null
}

function whole(text: string | undefined): number {
  const value = Number(text)
  return Number.isSafeInteger(value) && value >= 0 ? value : 0
}

/** A time that a Date can hold: heartbeats are text that anybody with the server could have written. */
const LAST_TIME = 8_640_000_000_000_000

function stateOf({ seen: { ageMs, fields }, live }: WorkerFacts): WorkerRow['state'] {
  if (!live) return { key: 'bad', word: fields['state'] === 'stopped' ? 'stopped' : 'gone' }
  if (ageMs > LATE_MS) return { key: 'info', word: 'late' }
  return fields['state'] === 'draining' ? { key: 'info', word: 'draining' } : { key: 'good', word: 'running' }
}

export async function workersModel(context: AdminContext): Promise<WorkersModel> {
  const { nowMs } = context
  const seen = await context.backend.storage.workers()
  const facts = seen.map(factsOf).sort((a, b) => a.seen.ageMs - b.seen.ageMs)
  const live = facts.filter((worker) => worker.live)
  const versions = new Map<string, number>()
  for (const { seen: worker } of live) {
    const version = worker.fields['node'] ?? ''
    versions.set(version, (versions.get(version) ?? 0) + 1)
  }
  const [usual = ''] = [...versions].sort((a, b) => b[1] - a[1]).map(([version]) => version)
  const rows = facts.slice(0, LISTED_WORKERS).map((worker): WorkerRow => {
    const { fields, consumer, ageMs } = worker.seen
    const startedAt = whole(fields['startedAt'])
    const known = startedAt > 0 && startedAt <= LAST_TIME
    return {
      id: fields['workerId'] ?? consumer,
      consumer,
      host: fields['host'] ?? '',
      pid: fields['pid'] ?? '',
      node: fields['node'] ?? '',
      state: stateOf(worker),
      seen: `${duration(ageMs)} ago`,
      started: known ? time(startedAt, nowMs) : null,
      up: known ? duration(nowMs - startedAt) : '–',
      slots: `${count(whole(fields['running']))} / ${count(whole(fields['concurrency']))}`,
      settled: count(whole(fields['settled'])),
      lost: count(whole(fields['lost'])),
      memory: bytes(whole(fields['memoryBytes'])),
      queues: worker.queues.length === 0 ? 'all' : worker.queues.join(', '),
      tasks: [...worker.tasks].slice(0, NAMED_TASKS),
      otherVersion: worker.live && versions.size > 1 && (fields['node'] ?? '') !== usual,
    }
  })
  return {
    ...frame(context, { title: 'Workers', section: 'workers', live: true, notice: null }),
    workers: rows,
    leftOut: facts.length - rows.length,
    summary: `${counted(live.length, 'live worker')}${facts.length > live.length ? `, ${count(facts.length - live.length)} not heard of` : ''}`,
    mixed: versions.size > 1 ? `Live workers run on different versions: ${[...versions.keys()].join(', ')}.` : null,
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
  const live = (await backend.storage.workers()).map(factsOf).filter((worker) => worker.live)
  if (live.length === 0)
    return ['No worker was heard of in the last minute. Start one: npx run-redis-tasks --continuous ./tasks.js']
  const here = live.filter((worker) => serves(worker, record.queueName))
  if (here.length === 0)
    return [`No live worker serves queue “${record.queueName}”. Start one with --queue ${record.queueName}.`]
  if (!here.some((worker) => knows(worker, record.name)))
    return [`No live worker knows the task “${record.name}”. Start one with the module that defines it.`]
  const busy = here.every(({ seen: { fields } }) => whole(fields['running']) >= whole(fields['concurrency']))
  return busy ? ['It waits for a free slot: every worker that serves its queue is busy.'] : []
}
