/** The page of one record: facts, payloads, attempts, timeline, the raw record, and what may be done with it. */
import type { StoredRecord } from '../storage/stored-record.ts'
import type { TaskRecord } from '../task-record.ts'
import type { TaskAttemptError } from '../task-result.ts'
import { attemptsOf, firstDue, otherErrors, timelineOf } from './admin-attempts.ts'
import type { AttemptModel, Timeline } from './admin-attempts.ts'
import { ELIGIBLE } from './admin-bulk.ts'
import { frame, VERB_LABELS, VERBS } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { bytes, duration, excerpt, readableJson, time } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { statusModel } from './admin-models.ts'
import type { StatusModel } from './admin-models.ts'
import { noticeOf } from './admin-notices.ts'
import { queryText } from './admin-view.ts'

const PAYLOAD_SHOWN = 2_048

export interface Payload {
  readonly field: 'args' | 'result'
  readonly title: string
  readonly text: string
  readonly cut: boolean
  readonly size: string
  readonly allHref: string
  readonly downloadHref: string
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
  /** Of a record that failed: what a reader came for. */
  readonly lastError: { readonly name: string; readonly message: string } | null
  readonly payloads: readonly Payload[]
  readonly attempts: readonly AttemptModel[]
  readonly attemptsLeftOut: number
  readonly timeline: string
  readonly spans: Timeline['spans']
  readonly spansLeftOut: number
  readonly timelineEnds: { readonly from: string; readonly to: string }
  readonly timelineRows: readonly { readonly what: string; readonly when: ShownTime }[]
  readonly raw: string
  readonly verbs: readonly { readonly verb: string; readonly label: string; readonly action: string }[]
  readonly noVerbs: string
  readonly curls: readonly { readonly label: string; readonly text: string }[]
  readonly back: string
}

/** Where the timeline ends, in words. */
function endOf({ status, runAfter, finishedAt }: StoredRecord, nowMs: number): string {
  if (finishedAt !== null) return `finished ${time(finishedAt, nowMs).utc}`
  if (status === 'READY' && runAfter !== null && runAfter > nowMs) return `due ${time(runAfter, nowMs).utc}`
  return `now ${time(nowMs, nowMs).utc}`
}

const LAST_ERROR_LENGTH = 300

function lastErrorOf({ status }: StoredRecord, errors: readonly TaskAttemptError[]): TaskModel['lastError'] {
  const last = errors.at(-1)
  if (status !== 'FAILED' || !last) return null
  return { name: last.name, message: excerpt(last.message, LAST_ERROR_LENGTH) }
}

/** What may be done with a record in its state, if who asks may do it. */
function verbsOf(record: StoredRecord, { rights, base, view }: AdminContext): TaskModel['verbs'] {
  return VERBS.filter((verb) => ELIGIBLE[verb].includes(record.status) && rights[verb]).map((verb) => ({
    verb,
    label: VERB_LABELS[verb],
    action: `${base}/confirm/${verb}${queryText(view)}`,
  }))
}

const quoted = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`

function curlOfRun(record: StoredRecord, url: (path: string) => string, backendName: string | null): string {
  const fields = {
    ...(backendName !== null && { backend_name: backendName }),
    ...(record.status === 'FAILED' && { allow_retry: true }),
  }
  const body = quoted(JSON.stringify(fields))
  return `curl -X POST -H 'Content-Type: application/json' -d ${body} ${url(`/execute/${record.id}/`)}`
}

function curlsOf(record: StoredRecord, { req, base, settings, backend, redactor }: AdminContext): TaskModel['curls'] {
  const host = /^[\w.:[\]-]+$/.test(req.headers.host ?? '') ? (req.headers.host ?? '') : 'localhost'
  const mount = base.replace(/\/admin$/, '')
  const url = (path: string): string =>
    quoted(`${req.protocol === 'https' ? 'https' : 'http'}://${host}${mount}${path}`)
  const backendName = backend.alias === settings.backend.alias ? null : backend.alias
  const query = backendName === null ? '' : `?backend_name=${encodeURIComponent(backendName)}`
  const args = redactor.json(record.name, 'args', record.args)
  const body =
    args.length > 1_000
      ? ''
      : quoted(
          `{"args":${args},"queue_name":${JSON.stringify(record.queueName)}${backendName === null ? '' : `,"backend_name":${JSON.stringify(backendName)}`}}`,
        )
  return [
    { label: 'Status', text: `curl ${url(`/status/${record.id}/${query}`)}` },
    ...(record.status === 'READY' || record.status === 'FAILED'
      ? [{ label: record.status === 'READY' ? 'Run now' : 'Run again', text: curlOfRun(record, url, backendName) }]
      : []),
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
    ...(stored.startedAt === null ? [] : [fact('Waited', duration(stored.startedAt - firstDue(stored)))]),
    ...(stored.finishedAt === null || stored.lastAttemptedAt === null
      ? []
      : [fact('Ran', duration(stored.finishedAt - stored.lastAttemptedAt))]),
    fact('Attempts', String(stored.attempts)),
    ...(stored.crashes > 0 ? [fact('Leases that ran out', String(stored.crashes))] : []),
    ...(stored.status === 'RUNNING' ? timeFact('Lease until', stored.leaseUntil) : []),
  ]
  const verbs = verbsOf(stored, context)
  const attempts = attemptsOf(stored, errors, nowMs)
  const timeline = timelineOf(stored, errors, nowMs)
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
    lastError: lastErrorOf(stored, errors),
    payloads,
    attempts: [...attempts, ...otherErrors(stored, errors, nowMs)],
    attemptsLeftOut: stored.attempts - attempts.length,
    timeline: timeline.chart,
    spans: timeline.spans,
    spansLeftOut: timeline.spansLeftOut,
    timelineEnds: {
      from: `enqueued ${time(stored.enqueuedAt, nowMs).utc}`,
      to: endOf(stored, nowMs),
    },
    timelineRows: rows,
    raw: rawOf(stored, context),
    verbs,
    noVerbs:
      stored.status !== 'RUNNING'
        ? ''
        : `It is running: until it has settled ${verbs.length > 0 ? 'it can only be cancelled' : 'nothing can be changed'}.`,
    curls: curlsOf(stored, context),
    back: `${base}/tasks${queryText(view)}`,
  }
}
