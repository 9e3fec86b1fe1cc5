/**
 * The attempts of one record: each with its error and folded stack, and the timeline of all of them. What is stored tells the
 * start of the first and of the latest attempt only; nothing is guessed between them.
 */
import type { StoredRecord } from '../storage/stored-record.ts'
import type { TaskAttemptError } from '../task-result.ts'
import { duration, time, timeOrNull } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { timelineChart } from './charts.ts'
import type { Span } from './charts.ts'

const STACK_SHOWN = 8_192

/** Lines of a stack that stand together: one's own, or frames of Node and of installed packages, which are folded. */
export interface StackPart {
  readonly text: string
  readonly foreign: boolean
  readonly summary: string
}

export interface AttemptModel {
  /** Names it on the page; 0 for an error that names no attempt. */
  readonly number: number
  readonly title: string
  readonly worker: string
  readonly outcome: 'good' | 'bad' | 'running' | 'lost'
  readonly word: string
  readonly started: ShownTime | null
  readonly ended: ShownTime | null
  /** What is known of it, each a few words: the wait, the time it took, the worker. */
  readonly waited: string
  readonly took: string
  readonly error: {
    readonly name: string
    readonly message: string
    readonly stack: readonly StackPart[]
    readonly cut: boolean
  } | null
}

const FOREIGN_FRAME = /^\s+at .*(\(|\s)(node:|.*[/\\]node_modules[/\\])/

/** A single foreign frame between one's own is not worth a click. */
const FOLDED_FRAMES = 2

export function stackParts(stack: string): readonly StackPart[] {
  const runs: { lines: string[]; foreign: boolean }[] = []
  for (const line of stack.slice(0, STACK_SHOWN).split('\n')) {
    const foreign = FOREIGN_FRAME.test(line)
    const last = runs.at(-1)
    if (last?.foreign === foreign) last.lines.push(line)
    else runs.push({ lines: [line], foreign })
  }
  const parts: { lines: string[]; foreign: boolean }[] = []
  for (const { lines, foreign } of runs) {
    const folds = foreign && lines.length >= FOLDED_FRAMES
    const last = parts.at(-1)
    if (last && !folds && !last.foreign) last.lines.push(...lines)
    else parts.push({ lines: [...lines], foreign: folds })
  }
  return parts.map(({ lines, foreign }) => ({
    text: lines.join('\n'),
    foreign,
    summary: foreign ? `${lines.length} frames of Node and packages` : '',
  }))
}

/** When the first attempt was due. A later time than its start is that of another attempt: the first one's was not kept. */
export function firstDue({ enqueuedAt, runAfter, startedAt }: StoredRecord): number {
  return runAfter !== null && runAfter > enqueuedAt && (startedAt === null || runAfter <= startedAt)
    ? runAfter
    : enqueuedAt
}

const OUTCOME_WORDS = {
  bad: 'failed',
  running: 'running',
  good: 'succeeded',
  lost: 'ended without an outcome: its lease ran out',
} as const

/** Attempts that are listed; a record that is retried for ever has more. */
const LISTED_ATTEMPTS = 200

function shownError(error: TaskAttemptError): NonNullable<AttemptModel['error']> {
  return {
    name: error.name,
    message: error.message,
    stack: error.stack === null ? [] : stackParts(error.stack),
    cut: (error.stack?.length ?? 0) > STACK_SHOWN,
  }
}

const isCancel = (error: TaskAttemptError | null): boolean => error?.name === 'TaskCancelledError'

/** The error of each attempt; a cancel that came while the next was waited for is not the end of the one before. */
function byNumber(errors: readonly TaskAttemptError[]): ReadonlyMap<number, TaskAttemptError> {
  const last = [...errors.filter(isCancel), ...errors.filter((error) => !isCancel(error))]
  return new Map(last.map((error) => [error.attempt, error]))
}

/** `status`: the record's, for its last attempt. */
function outcomeOf(error: TaskAttemptError | null, status: StoredRecord['status'] | null): keyof typeof OUTCOME_WORDS {
  if (isCancel(error)) return 'lost'
  if (error) return 'bad'
  if (status === 'RUNNING') return 'running'
  return status === 'SUCCESSFUL' ? 'good' : 'lost'
}

/** Attempts, latest first, as far as what is stored tells of them: a start is kept for the first and the latest. */
export function attemptsOf(
  record: StoredRecord,
  errors: readonly TaskAttemptError[],
  nowMs: number,
): readonly AttemptModel[] {
  const { attempts, workerIds, status, startedAt, lastAttemptedAt, finishedAt } = record
  const byAttempt = byNumber(errors)
  const shown: AttemptModel[] = []
  for (let number = attempts; number > Math.max(0, attempts - LISTED_ATTEMPTS); number--) {
    const error = byAttempt.get(number) ?? null
    const isLast = number === attempts
    const start = number === 1 ? startedAt : isLast ? lastAttemptedAt : null
    const over = isLast && status !== 'RUNNING' ? finishedAt : null
    const end = error?.at?.getTime() ?? over
    const outcome = outcomeOf(error, isLast ? status : null)
    const due = number === 1 ? firstDue(record) : null
    shown.push({
      number,
      title: `Attempt ${number}`,
      worker: workerIds[number - 1] ?? '',
      outcome,
      word: isCancel(error) ? 'cancelled by a person' : OUTCOME_WORDS[outcome],
      started: timeOrNull(start, nowMs),
      ended: timeOrNull(end, nowMs),
      waited: start === null || due === null ? '' : duration(start - due),
      took: start === null || (end === null && outcome !== 'running') ? '' : duration((end ?? nowMs) - start),
      error: error && shownError(error),
    })
  }
  return shown
}

/** Errors that belong to no attempt of the list: lines that cannot be read, or a second one of the same attempt. */
export function otherErrors(
  record: StoredRecord,
  errors: readonly TaskAttemptError[],
  nowMs: number,
): readonly AttemptModel[] {
  const shown = byNumber(errors)
  return errors
    .filter((error) => shown.get(error.attempt) !== error || error.attempt < 1 || error.attempt > record.attempts)
    .slice(-20)
    .map((error, index) => ({
      number: 0,
      title: isCancel(error) ? 'Cancelled' : `Another error (${index + 1})`,
      worker: '',
      outcome: isCancel(error) ? 'lost' : 'bad',
      word: isCancel(error) ? 'by a person, while it waited' : 'of no attempt above',
      started: null,
      ended: error.at && time(error.at.getTime(), nowMs),
      waited: '',
      took: '',
      error: shownError(error),
    }))
}

export interface Timeline {
  readonly chart: string
  /** What it shows, in words. */
  readonly spans: readonly { readonly kind: Span['kind']; readonly text: string }[]
  readonly spansLeftOut: number
}

/** Spans that are said in words beside the chart. */
const TOLD_SPANS = 12

export function timelineOf(record: StoredRecord, errors: readonly TaskAttemptError[], nowMs: number): Timeline {
  const { enqueuedAt, startedAt, lastAttemptedAt, finishedAt, status, attempts, runAfter } = record
  const spans: Span[] = []
  const end = finishedAt ?? nowMs
  const wait = (from: number, to: number): void => {
    if (to > from) spans.push({ kind: 'waiting', from, to, text: `waited ${duration(to - from)}` })
  }
  const due = Math.min(firstDue(record), startedAt ?? end)
  if (due > enqueuedAt)
    spans.push({ kind: 'delayed', from: enqueuedAt, to: due, text: `delayed for ${duration(due - enqueuedAt)}` })
  wait(due, startedAt ?? end)
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
  if (status === 'READY' && runAfter !== null && runAfter > nowMs)
    spans.push({ kind: 'due', from: nowMs, to: runAfter, text: `due in ${duration(runAfter - nowMs)}` })
  const to = spans.reduce((last, span) => Math.max(last, span.to), Math.max(end, enqueuedAt + 1))
  const from = spans.reduce((least, span) => Math.min(least, span.from), enqueuedAt)
  return {
    chart: timelineChart('timeline', spans, from, to),
    spans: spans.slice(-TOLD_SPANS).map(({ kind, text }) => ({ kind, text })),
    spansLeftOut: Math.max(0, spans.length - TOLD_SPANS),
  }
}
