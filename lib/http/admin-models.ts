/**
 * From a record to a row of a list, and its status as an icon and a word. Texts and numbers are made here, so that templates
 * only print them. Every key is there, empty or not.
 */
import type { StoredRecord } from '../storage/stored-record.ts'
import { taskRegistry } from '../task-registry.ts'
import type { TaskStatus } from '../task-status.ts'
import type { AdminContext } from './admin-context.ts'
import { duration, excerpt, time, timeOrNull } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { queryText } from './admin-view.ts'

const EXCERPT_LENGTH = 120

export interface StatusModel {
  readonly key: 'ready' | 'delayed' | 'running' | 'successful' | 'failed'
  readonly word: string
}

const STATUS_KEYS = { READY: 'ready', RUNNING: 'running', SUCCESSFUL: 'successful', FAILED: 'failed' } as const

export function statusModel(status: TaskStatus, runAfter: number | null, nowMs: number): StatusModel {
  if (status === 'READY' && runAfter !== null && runAfter > nowMs) return { key: 'delayed', word: 'READY, delayed' }
  return { key: STATUS_KEYS[status], word: status }
}

export interface RowModel {
  readonly id: string
  readonly href: string
  readonly name: string
  readonly status: StatusModel
  readonly queueName: string
  readonly priority: number
  readonly enqueued: ShownTime
  readonly started: ShownTime | null
  readonly took: string
  readonly attempts: number
  readonly worker: string
  readonly excerpt: string
  readonly isError: boolean
}

/** How long it waited, runs, or ran: the one number that a row has room for. */
function tookOf(record: StoredRecord, nowMs: number): string {
  const { status, lastAttemptedAt, finishedAt, runAfter, enqueuedAt } = record
  if (status === 'READY') {
    if (runAfter !== null && runAfter > nowMs) return `due in ${duration(runAfter - nowMs)}`
    return record.attempts > 0 ? 'waits again' : `waits ${duration(nowMs - Math.max(enqueuedAt, runAfter ?? 0))}`
  }
  if (lastAttemptedAt === null) return '–'
  if (status === 'RUNNING') return `runs ${duration(nowMs - lastAttemptedAt)}`
  return finishedAt === null ? '–' : duration(finishedAt - lastAttemptedAt)
}

export function rowOf(stored: StoredRecord, context: AdminContext): RowModel {
  const { redactor, base, view, nowMs } = context
  const last = stored.errors.at(-1)
  const error = stored.status === 'FAILED' && last !== undefined ? redactor.error(stored.name, last) : null
  const text = error ? `${error.name}: ${error.message}` : redactor.json(stored.name, 'args', stored.args)
  return {
    id: stored.id,
    href: `${base}/tasks/${encodeURIComponent(stored.id)}${queryText(view)}`,
    name: stored.name,
    status: statusModel(stored.status, stored.runAfter, nowMs),
    queueName: stored.queueName,
    priority: stored.priority,
    enqueued: time(stored.enqueuedAt, nowMs),
    started: timeOrNull(stored.startedAt, nowMs),
    took: tookOf(stored, nowMs),
    attempts: stored.attempts,
    worker: stored.workerIds.at(-1) ?? '',
    excerpt: excerpt(text, EXCERPT_LENGTH),
    isError: error !== null,
  }
}

/** True when this process could run it. */
export function isKnownHere(name: string): boolean {
  return taskRegistry.find(name) !== undefined
}
