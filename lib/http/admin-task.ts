/**
 * The page of one record: facts, payloads, attempts, timeline, the raw record, and what may be done with it. What is stored
 * tells the start of the first and of the latest attempt only; nothing is guessed between them.
 */
import type { StoredRecord } from '../storage/storage.ts'
import type { TaskRecord } from '../task-record.ts'
import type { TaskAttemptError } from '../task-result.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { bytes, duration, readableJson, time, timeOrNull } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { statusModel } from './admin-models.ts'
import type { StatusModel } from './admin-models.ts'
import { noticeOf } from './admin-notices.ts'
import { queryText } from './admin-view.ts'
import { timelineChart } from './charts.ts'
import type { Span } from './charts.ts'

const PAYLOAD_SHOWN = 2_048
const STACK_SHOWN = 8_192

export interface Payload {
  readonly field: 'args' | 'result'
  readonly title: string
  readonly text: string
  readonly cut: boolean
  readonly size: string
  readonly allHref: string
  readonly downloadHref: string
}

export interface StackLine {
  readonly text: string
  /** A frame of Node or of an installed package. */
  readonly foreign: boolean
}

export interface AttemptModel {
  readonly number: number
  readonly worker: string
  readonly outcome: 'good' | 'bad' | 'running' | 'lost'
  readonly word: string
  readonly started: ShownTime | null
  readonly ended: ShownTime | null
  readonly took: string
  readonly error: {
    readonly name: string
    readonly message: string
    readonly stack: readonly StackLine[]
    readonly cut: boolean
  } | null
}

const FOREIGN_FRAME = /^\s+at .*(\(|\s)(node:|.*[/\\]node_modules[/\\])/

function stackLines(stack: string): readonly StackLine[] {
  return stack
    .slice(0, STACK_SHOWN)
    .split('\n')
    .map((text) => ({ text, foreign: FOREIGN_FRAME.test(text) }))
}

/** Attempts, latest first, as far as what is stored tells of them: a start is kept for the first and the latest. */
function attemptsOf(record: StoredRecord, errors: readonly TaskAttemptError[], nowMs: number): readonly AttemptModel[] {
  const { attempts, workerIds, status, startedAt, lastAttemptedAt, finishedAt } = record
  const shown: AttemptModel[] = []
  for (let number = attempts; number > Math.max(0, attempts - 200); number--) {
    const error = errors.findLast((each) => each.attempt === number) ?? null
    const isLast = number === attempts
    const start = number === 1 ? startedAt : isLast ? lastAttemptedAt : null
    const over = isLast && status !== 'RUNNING' ? finishedAt : null
    const end = error?.at?.getTime() ?? over
    const outcome = error
      ? 'bad'
      : isLast && status === 'RUNNING'
        ? 'running'
        : isLast && status === 'SUCCESSFUL'
          ? 'good'
          : 'lost'
    const words = {
      bad: 'failed',
      running: 'running',
      good: 'succeeded',
      lost: 'ended without an outcome: its lease ran out',
    } as const
    const took =
      start === null
        ? '–'
        : outcome === 'running'
          ? duration(nowMs - start)
          : end === null
            ? '–'
            : duration(end - start)
    shown.push({
      number,
      worker: workerIds[number - 1] ?? '',
      outcome,
      word: words[outcome],
      started: timeOrNull(start, nowMs),
      ended: timeOrNull(end, nowMs),
      took,
      error: error && {
        name: error.name,
        message: error.message,
        stack: error.stack === null ? [] : stackLines(error.stack),
        cut: (error.stack?.length ?? 0) > STACK_SHOWN,
      },
    })
  }
  return shown
}

function timelineOf(record: StoredRecord, errors: readonly TaskAttemptError[], nowMs: number): string {
  const { enqueuedAt, startedAt, lastAttemptedAt, finishedAt, status, attempts } = record
  const spans: Span[] = []
  const end = finishedAt ?? nowMs
  const wait = (from: number, to: number): void => {
    if (to > from) spans.push({ kind: 'waiting', from, to, text: `waited ${duration(to - from)}` })
  }
  wait(enqueuedAt, startedAt ?? end)
  let at = startedAt ?? end
  const ends = errors.flatMap((error) => (error.at ? [{ attempt: error.attempt, at: error.at.getTime() }] : []))
  for (const { attempt, at: failedAt } of ends) {
    const start = attempt === 1 ? at : attempt === attempts ? Math.max(at, lastAttemptedAt ?? at) : null
    if (start !== null) {
      wait(at, start)
      spans.push({
        kind: 'bad',
        from: start,
        to: failedAt,
        text: `attempt ${attempt} ran ${duration(failedAt - start)} and failed`,
      })
    } else {
      spans.push({ kind: 'bad', from: failedAt, to: failedAt, text: `attempt ${attempt} failed` })
    }
    at = Math.max(at, failedAt)
  }
  if (status === 'RUNNING' || status === 'SUCCESSFUL') {
    const start = Math.max(at, lastAttemptedAt ?? at)
    wait(at, start)
    const kind = status === 'RUNNING' ? 'running' : 'good'
    const word = status === 'RUNNING' ? 'has run for' : 'ran'
    if (lastAttemptedAt !== null)
      spans.push({ kind, from: start, to: end, text: `attempt ${attempts} ${word} ${duration(end - start)}` })
  } else if (status === 'READY' && attempts > 0) {
    wait(at, nowMs)
  }
  return timelineChart(
    'timeline',
    spans,
    Math.min(enqueuedAt, ...spans.map(({ from }) => from)),
    Math.max(end, enqueuedAt + 1),
  )
}

export interface TaskModel extends FrameModel {
  readonly id: string
  readonly name: string
  readonly status: StatusModel
  readonly facts: readonly {
    readonly label: string
    readonly value: string
    readonly time: ShownTime | null
    readonly href: string | null
  }[]
  readonly why: readonly string[]
  readonly payloads: readonly Payload[]
  readonly attempts: readonly AttemptModel[]
  readonly attemptsLeftOut: number
  readonly timeline: string
  readonly timelineEnds: { readonly from: string; readonly to: string }
  readonly timelineRows: readonly { readonly what: string; readonly when: ShownTime }[]
  readonly raw: string
  readonly verbs: readonly { readonly verb: string; readonly label: string; readonly action: string }[]
  readonly noVerbs: string
  readonly curls: readonly { readonly label: string; readonly text: string }[]
  readonly back: string
}

/** What may be done with a record in its state, if who asks may do it. */
function verbsOf(record: StoredRecord, { rights, base, view }: AdminContext): TaskModel['verbs'] {
  const fits = {
    run: record.status === 'READY',
    retry: record.status === 'FAILED',
    delete: record.status !== 'RUNNING',
  }
  const labels = { run: 'Run now', retry: 'Retry', delete: 'Delete' } as const
  return (['run', 'retry', 'delete'] as const)
    .filter((verb) => fits[verb] && rights[verb])
    .map((verb) => ({ verb, label: labels[verb], action: `${base}/confirm/${verb}${queryText(view)}` }))
}

const quoted = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`

function curlsOf(record: StoredRecord, { req, base, settings, backend, redactor }: AdminContext): TaskModel['curls'] {
  const host = /^[\w.:[\]-]+$/.test(req.headers.host ?? '') ? (req.headers.host ?? '') : 'localhost'
  const mount = base.replace(/\/admin$/, '')
  const url = (path: string): string =>
    quoted(`${req.protocol === 'https' ? 'https' : 'http'}://${host}${mount}${path}`)
  const query = backend.alias === settings.backend.alias ? '' : `?backend_name=${encodeURIComponent(backend.alias)}`
  const args = redactor.json(record.name, 'args', record.args)
  const body = args.length > 1_000 ? '' : quoted(`{"args":${args},"queue_name":${JSON.stringify(record.queueName)}}`)
  return [
    { label: 'Status', text: `curl ${url(`/status/${record.id}/${query}`)}` },
    ...(body === '' || redactor.active
      ? []
      : [
          {
            label: 'Enqueue again',
            text: `curl -X POST -H 'Content-Type: application/json' -d ${body} ${url(`/enqueue/${encodeURIComponent(record.name)}/`)}`,
          },
        ]),
  ]
}

/** The stored record as JSON, with its payloads as they may be shown. */
function rawOf(record: StoredRecord, { redactor }: AdminContext): string {
  const cut = (text: string): string =>
    text.length > PAYLOAD_SHOWN ? `${excerptOf(text)} (${bytes(Buffer.byteLength(text))} in all)` : text
  const errors = redactor.active
    ? record.errors.map((line) => JSON.stringify(redactor.error(record.name, line)))
    : record.errors
  const shown = {
    ...record,
    args: cut(redactor.json(record.name, 'args', record.args)),
    returnValue:
      record.returnValue === null ? null : cut(redactor.json(record.name, 'returnValue', record.returnValue)),
    errors: errors.slice(-20).map(cut),
  }
  return JSON.stringify(shown, null, 2)
}

const excerptOf = (text: string): string => `${text.slice(0, 200)}…`

export function payloadOf(
  record: StoredRecord,
  field: 'args' | 'result',
  context: AdminContext,
): { readonly json: string; readonly title: string } | null {
  const { redactor } = context
  if (field === 'args') return { json: redactor.json(record.name, 'args', record.args), title: 'Arguments' }
  if (record.returnValue === null) return null
  return { json: redactor.json(record.name, 'returnValue', record.returnValue), title: 'Result' }
}

export function taskModel(record: TaskRecord, context: AdminContext, why: readonly string[]): TaskModel {
  const { stored } = record
  const { base, view, nowMs, redactor } = context
  const errors = stored.errors.map((line) => redactor.error(stored.name, line))
  const path = `${base}/tasks/${encodeURIComponent(stored.id)}`
  const payloads = (['args', 'result'] as const).flatMap((field): Payload[] => {
    const payload = payloadOf(stored, field, context)
    if (!payload) return []
    const { text, cut } = readableJson(payload.json, PAYLOAD_SHOWN)
    const query = queryText(view)
    return [
      {
        field,
        title: payload.title,
        text,
        cut,
        size: bytes(Buffer.byteLength(payload.json)),
        allHref: `${path}/${field}${query}`,
        downloadHref: `${path}/${field}${queryText(view, { download: '1' })}`,
      },
    ]
  })
  const fact = (label: string, value: string, href: string | null = null): TaskModel['facts'][number] => ({
    label,
    value,
    time: null,
    href,
  })
  const timeFact = (label: string, ms: number | null): TaskModel['facts'] =>
    ms === null ? [] : [{ label, value: '', time: time(ms, nowMs), href: null }]
  const due = Math.max(stored.enqueuedAt, stored.runAfter ?? 0)
  const listOf = (more: Partial<AdminContext['view']>): string =>
    `${base}/tasks${queryText({ ...view, status: [], queue: [], name: [], text: '', after: '', before: '', ...more })}`
  const facts = [
    fact('Task', stored.name, listOf({ name: [stored.name] })),
    fact('Queue', stored.queueName, listOf({ queue: [stored.queueName] })),
    fact('Priority', String(stored.priority)),
    fact('Backend', context.backend.alias),
    ...timeFact('Enqueued', stored.enqueuedAt),
    ...timeFact('Due', stored.runAfter),
    ...timeFact('First started', stored.startedAt),
    ...(stored.attempts > 1 ? timeFact('Last started', stored.lastAttemptedAt) : []),
    ...timeFact('Finished', stored.finishedAt),
    ...(stored.startedAt === null
      ? []
      : [fact('Waited', duration(stored.startedAt - Math.min(due, stored.startedAt)))]),
    ...(stored.finishedAt === null || stored.lastAttemptedAt === null
      ? []
      : [fact('Ran', duration(stored.finishedAt - stored.lastAttemptedAt))]),
    fact('Attempts', String(stored.attempts)),
    ...(stored.crashes > 0 ? [fact('Leases that ran out', String(stored.crashes))] : []),
    ...(stored.status === 'RUNNING' ? timeFact('Lease until', stored.leaseUntil) : []),
  ]
  const verbs = verbsOf(stored, context)
  const attempts = attemptsOf(stored, errors, nowMs)
  const rows = [
    { what: 'enqueued', when: time(stored.enqueuedAt, nowMs) },
    ...(stored.startedAt === null ? [] : [{ what: 'first started', when: time(stored.startedAt, nowMs) }]),
    ...errors.flatMap((error) =>
      error.at ? [{ what: `attempt ${error.attempt} failed`, when: time(error.at.getTime(), nowMs) }] : [],
    ),
    ...(stored.attempts > 1 && stored.lastAttemptedAt !== null
      ? [{ what: 'last started', when: time(stored.lastAttemptedAt, nowMs) }]
      : []),
    ...(stored.finishedAt === null ? [] : [{ what: 'finished', when: time(stored.finishedAt, nowMs) }]),
  ]
  return {
    ...frame(context, { title: stored.name, section: 'tasks', live: true, notice: noticeOf(context) }),
    id: stored.id,
    name: stored.name,
    status: statusModel(stored.status, stored.runAfter, nowMs),
    facts,
    why,
    payloads,
    attempts,
    attemptsLeftOut: stored.attempts - attempts.length,
    timeline: timelineOf(stored, errors, nowMs),
    timelineEnds: {
      from: `enqueued ${time(stored.enqueuedAt, nowMs).utc}`,
      to:
        stored.finishedAt === null ? `now ${time(nowMs, nowMs).utc}` : `finished ${time(stored.finishedAt, nowMs).utc}`,
    },
    timelineRows: rows,
    raw: rawOf(stored, context),
    verbs,
    noVerbs: stored.status === 'RUNNING' ? 'It is running: nothing can be changed until it has settled.' : '',
    curls: curlsOf(stored, context),
    back: `${base}/tasks${queryText(view)}`,
  }
}
