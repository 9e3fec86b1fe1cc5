/**
 * Confirm, act, result: a form says which records, the confirm page what would happen to how many, the action does it and
 * redirects, the result page counts and offers to go on. Every change passes here and is logged.
 */
import type { Response } from 'express'
import { TaskOptionError, verbatim } from '../errors.ts'
import type { StoredRecord } from '../storage/stored-record.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel, Verb } from './admin-context.ts'
import { preview, perform, remaining } from './admin-bulk.ts'
import type { Outcome, Preview, Target } from './admin-bulk.ts'
import { COUNTED, countsOf, formOf, wholeOf } from './admin-form.ts'
import type { Form } from './admin-form.ts'
import { count, counted, excerpt, time } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { statusModel } from './admin-models.ts'
import type { StatusModel } from './admin-models.ts'
import type { NoticeCode } from './admin-notices.ts'
import { sendPage } from './admin-page.ts'
import { seenWhole } from './admin-records.ts'
import { filterOf, filterWords, firstPage, frozen, queryText } from './admin-view.ts'
import { HttpError } from './problem.ts'

export interface ConfirmModel extends FrameModel {
  readonly verb: Verb
  readonly heading: string
  readonly what: string
  readonly consequence: string
  readonly filter: string | null
  readonly eligible: number
  readonly samples: readonly {
    id: string
    name: string
    status: StatusModel
    enqueued: ShownTime
    excerpt: string
    queueName: string
  }[]
  readonly leftAlone: readonly string[]
  readonly button: string
  readonly action: string
  readonly scope: Form['scope']
  readonly ids: readonly string[]
  readonly single: boolean
  readonly cutoff: string
  readonly back: string
}

const WORDS: Readonly<Record<Verb, { ask: string; button: string; past: string; consequence: string }>> = {
  run: {
    ask: 'Run',
    button: 'Run now',
    past: 'run',
    consequence:
      'They run in this process, one after the other, for ten seconds at most. What is not reached by then stays in its queue for the workers.',
  },
  retry: {
    ask: 'Retry',
    button: 'Put back into the queue',
    past: 'put back into the queue',
    consequence: 'They go back to READY, due at once. Their errors and attempts are kept.',
  },
  cancel: {
    ask: 'Cancel',
    button: 'Cancel for good',
    past: 'cancelled',
    consequence:
      'They end as FAILED, with TaskCancelledError. The signal of those that run is aborted within a second, and what they still return counts for nothing.',
  },
  delete: {
    ask: 'Delete',
    button: 'Delete',
    past: 'deleted',
    consequence: 'They are removed with their arguments, results and errors. This cannot be undone.',
  },
}

const LEFT_ALONE: Readonly<Record<Preview['leftAlone'][number]['status'], Readonly<Record<Verb, string>>>> = {
  READY: { run: '', retry: 'they wait already', cancel: '', delete: '' },
  RUNNING: {
    run: 'they run already',
    retry: 'they have not settled yet',
    cancel: '',
    delete: 'a running record cannot be deleted: wait until it has settled, or cancel it',
  },
  SUCCESSFUL: { run: 'they are done', retry: 'only failed records are retried', cancel: 'they are done', delete: '' },
  FAILED: { run: 'put them back with Retry', retry: '', cancel: 'they have failed already', delete: '' },
  ABSENT: {
    run: 'they are gone',
    retry: 'they are gone',
    cancel: 'they are gone',
    delete: 'they are gone already, or cannot be read',
  },
  UNKNOWN: {
    run: 'this process does not know their task; a worker that does will run them',
    retry: '',
    cancel: '',
    delete: '',
  },
}

const STATUS_WORDS: Readonly<Record<string, string>> = { ABSENT: 'not there', UNKNOWN: 'READY, but unknown here' }

/** What was chosen: ticked ids, or null for all that match. */
function chosen(context: AdminContext, form: Form): readonly string[] | null {
  if (form.scope === 'ticked') {
    if (form.ids.length > 0) return form.ids
    throw new TaskOptionError(
      '/id',
      'at least one ticked row',
      verbatim('none'),
      'go back and tick rows, or choose all that match',
    )
  }
  if (context.redactor.active && context.view.text !== '') {
    throw new TaskOptionError(
      '/scope',
      'ticked',
      'all',
      'a text search over redacted values cannot be acted on as a whole: tick rows',
    )
  }
  return null
}

export async function confirmPage(context: AdminContext, res: Response, verb: Verb): Promise<void> {
  const form = formOf(context.req)
  const { base, nowMs, redactor } = context
  // `24h` means these 24 hours from here on, whatever time the answer takes.
  const view = frozen(context.view, nowMs)
  const ids = chosen(context, form)
  const shown = await preview(verb, { ...context, view }, ids)
  const words = WORDS[verb]
  const many = `${shown.exact ? '' : 'at least '}${counted(shown.eligible, 'record')}`
  const cutoff = shown.target.scope === 'all' ? String(shown.target.cutoff) : ''
  const single = form.single && ids?.length === 1
  const samples: StoredRecord[] = []
  for (const record of shown.samples) samples.push((await seenWhole(context, record)) ?? record)
  const model: ConfirmModel = {
    ...frame(context, { title: `${words.ask} ${many}?`, section: 'tasks', live: false, notice: null }),
    verb,
    heading: shown.eligible === 0 ? `Nothing to ${verb}` : `${words.ask} ${many}?`,
    what: ids ? `${counted(ids.length, 'record')} chosen` : 'All that match',
    consequence: words.consequence,
    filter: ids ? null : filterWords(view),
    eligible: shown.eligible,
    samples: samples.map((record) => ({
      id: record.id,
      name: record.name,
      queueName: record.queueName,
      status: statusModel(record.status, record.runAfter, nowMs),
      enqueued: time(record.enqueuedAt, nowMs),
      excerpt: excerpt(redactor.json(record.name, 'args', record.args), 80),
    })),
    leftAlone: shown.leftAlone.map(
      ({ status, count: left }) => `${count(left)} ${STATUS_WORDS[status] ?? status}: ${LEFT_ALONE[status][verb]}`,
    ),
    button: shown.eligible === 1 && verb !== 'retry' ? words.button : `${words.button} (${many})`,
    action: `${base}/act/${verb}${queryText(view)}`,
    scope: form.scope,
    ids: ids ?? [],
    single,
    cutoff,
    back: single
      ? `${base}/tasks/${encodeURIComponent(ids[0] ?? '')}${queryText(context.view)}`
      : `${base}/tasks${queryText(context.view)}`,
  }
  sendPage(res, 'confirm', model)
}

function targetOf(context: AdminContext, form: Form): Target {
  const ids = chosen(context, form)
  if (ids) return { scope: 'ticked', ids }
  if (form.cutoff === null) {
    throw new HttpError(
      'ERR_TASKS_BODY',
      'expected the form of a confirm page, got: one without the moment of its preview',
    )
  }
  return { scope: 'all', filter: filterOf(context.view, context.nowMs), cutoff: form.cutoff }
}

function noticeFor(verb: Verb, { done, unknown, lastStatus }: Outcome): NoticeCode {
  if (unknown > 0) return 'unknown'
  if (verb === 'run' && lastStatus !== null) {
    return lastStatus === 'SUCCESSFUL' ? 'succeeded' : lastStatus === 'READY' ? 'later' : 'failed'
  }
  if (done === 0) return 'state'
  return verb === 'delete' ? 'deleted' : verb === 'cancel' ? 'cancelled' : 'retried'
}

export async function actPage(context: AdminContext, res: Response, verb: Verb): Promise<void> {
  const { backend, base, view, req } = context
  const form = formOf(req)
  const target = targetOf(context, form)
  const left = new AbortController()
  res.once('close', () => left.abort())
  const outcome = await perform(verb, backend, target, { clock: context.settings.clock, signal: left.signal })
  const { lastStatus: _lastStatus, ...tally } = outcome
  const facts =
    target.scope === 'ticked' ? { ids: target.ids.slice(0, 20) } : { filter: filterWords(view), cutoff: target.cutoff }
  backend.logger.info({ verb, backend: backend.alias, scope: target.scope, ...facts, ...tally }, 'an admin action')
  if (res.destroyed) return
  const [single] = form.ids
  if (form.single && form.ids.length === 1 && single !== undefined) {
    const notice = noticeFor(verb, outcome)
    const gone = verb === 'delete' && notice === 'deleted'
    const path = gone ? '/tasks' : `/tasks/${encodeURIComponent(single)}`
    res.redirect(303, `${base}${path}${queryText(view, { notice })}`)
    return
  }
  const numbers = {
    scope: target.scope,
    ...Object.fromEntries(COUNTED.map((field) => [field, String(form.before[field] + tally[field])])),
    left: String(tally.left),
    cutoff: target.scope === 'all' ? String(target.cutoff) : '',
  }
  res.redirect(303, `${base}/done/${verb}${queryText(firstPage(view), numbers)}`)
}

export interface DoneModel extends FrameModel {
  readonly verb: Verb
  readonly heading: string
  readonly lines: readonly string[]
  readonly left: number
  readonly leftText: string
  readonly filter: string | null
  readonly button: string
  readonly action: string
  readonly canContinue: boolean
  /** What was done so far, for the next request of the same action. */
  readonly carried: readonly { readonly name: string; readonly value: string }[]
  readonly cutoff: string
  readonly back: string
}

export async function donePage(context: AdminContext, res: Response, verb: Verb): Promise<void> {
  const { query, base, view, backend, rights } = context
  const words = WORDS[verb]
  const cutoff = wholeOf(query.get('cutoff'))
  const all = query.get('scope') === 'all' && cutoff !== null
  const left = wholeOf(query.get('left')) ?? 0
  // Counted anew only where the time was over: what failed again since matches once more, and nobody left it out.
  const rest =
    all && left > 0
      ? await remaining(verb, backend, { scope: 'all', filter: filterOf(view, context.nowMs), cutoff })
      : { count: left, exact: true }
  const counts = countsOf(query)
  const { done, failed, skipped, unknown } = counts
  const lines = [
    ...(failed > 0 ? [`${counted(failed, 'record')} ran and failed again or wait for another attempt.`] : []),
    ...(skipped > 0
      ? [`${counted(skipped, 'record was', 'records were')} skipped: gone, or in another state since you chose.`]
      : []),
    ...(unknown > 0
      ? [`${counted(unknown, 'record was', 'records were')} left to the workers: this process does not know the task.`]
      : []),
  ]
  const total = done + rest.count
  const leftText =
    rest.count === 0
      ? ''
      : verb === 'run'
        ? `${rest.exact ? '' : 'At least '}${counted(rest.count, 'record is', 'records are')} left to the workers.`
        : `${count(done)} of ${rest.exact ? '' : 'at least '}${count(total)} ${words.past}; the time of one request was over.`
  const model: DoneModel = {
    ...frame(context, { title: `${count(done)} ${words.past}`, section: 'tasks', live: false, notice: null }),
    verb,
    heading: `${counted(done, 'record')} ${words.past}`,
    lines,
    left: rest.count,
    leftText,
    filter: all ? filterWords(view) : null,
    button: verb === 'run' ? `Run more (${count(rest.count)} left)` : `Continue (${count(rest.count)} left)`,
    action: `${base}/act/${verb}${queryText(view)}`,
    canContinue: all && rest.count > 0 && rights[verb],
    carried: COUNTED.map((name) => ({ name, value: String(counts[name]) })),
    cutoff: cutoff === null ? '' : String(cutoff),
    back: `${base}/tasks${queryText(view)}`,
  }
  sendPage(res, 'done', model)
}
