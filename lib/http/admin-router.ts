/**
 * The admin: pages at `<mount>/admin`, made of one table of routes. Each request goes the same way: origin (for what changes),
 * access, body, page; every error leaves as a page in the same frame. Keeps no state, sets no cookie, needs no script.
 */
import express from 'express'
import type { ErrorRequestHandler, Request, RequestHandler, Response, Router } from 'express'
import type { Action } from './access.ts'
import { actPage, confirmPage, donePage } from './admin-actions.ts'
import { actionOf, bareFrame, contextOf, VERBS } from './admin-context.ts'
import type { AdminContext, AdminSettings, Section, Verb } from './admin-context.ts'
import { duration } from './admin-format.ts'
import { formReader } from './admin-form.ts'
import { listModel } from './admin-list.ts'
import { overviewModel } from './admin-overview.ts'
import { sendPage } from './admin-page.ts'
import { payloadPage } from './admin-payload.ts'
import { payloadOf, taskModel } from './admin-task.ts'
import { LIVE_SECONDS, queryOf } from './admin-view.ts'
import { whyNotRunning, workersModel } from './admin-workers.ts'
import { allow, allowUndecoded, sameOrigin } from './guards.ts'
import { headersWithStyles } from './headers.ts'
import { HttpError, problemOf, setRetryAfter } from './problem.ts'
import type { Problem } from './problem.ts'
import { assetOf, assetText } from './render.ts'

export interface AdminRoute {
  readonly method: 'get' | 'post'
  readonly path: string
  readonly action: Action
  readonly changes: boolean
  /** Names of the query that only this page reads. */
  readonly query: readonly string[]
  readonly handle: (context: AdminContext, res: Response) => Promise<void>
}

function page(path: string, handle: AdminRoute['handle'], query: readonly string[] = []): AdminRoute {
  return { method: 'get', path, action: 'view', changes: false, query, handle }
}

function form(path: string, verb: Verb, handle: AdminRoute['handle']): AdminRoute {
  return { method: 'post', path: `${path}/${verb}`, action: actionOf(verb), changes: true, query: ['notice'], handle }
}

const task = async (context: AdminContext): Promise<Awaited<ReturnType<typeof context.backend.records.find>>> =>
  await context.backend.records.find(String(context.req.params['id'] ?? ''))

export const ADMIN_ROUTES: readonly AdminRoute[] = [
  page('/', async (context, res) => sendPage(res, 'overview', await overviewModel(context))),
  page('/tasks', async (context, res) => sendPage(res, 'tasks', await listModel(context)), ['notice']),
  page(
    '/tasks/:id',
    async (context, res) => {
      const record = await task(context)
      sendPage(res, 'task', taskModel(record, context, await whyNotRunning(record.stored, context)))
    },
    ['notice'],
  ),
  ...(['args', 'result'] as const).map((field) =>
    page(
      `/tasks/:id/${field}`,
      async (context, res) => {
        const { stored } = await task(context)
        const payload = payloadOf(stored, field, context)
        if (!payload) throw new HttpError('ERR_TASKS_ROUTE', 'expected a record with a result, got: one without')
        payloadPage(context, res, stored, field, payload)
      },
      ['download'],
    ),
  ),
  page('/workers', async (context, res) => sendPage(res, 'workers', await workersModel(context)), ['page']),
  ...VERBS.map((verb) => form('/confirm', verb, (context, res) => confirmPage(context, res, verb))),
  ...VERBS.map((verb) => form('/act', verb, (context, res) => actPage(context, res, verb))),
  ...VERBS.map((verb) =>
    page(`/done/${verb}`, (context, res) => donePage(context, res, verb), [
      'done',
      'skipped',
      'failed',
      'unknown',
      'left',
      'cutoff',
      'scope',
    ]),
  ),
]

const YEAR_SECONDS = 31_536_000

const sendAsset: RequestHandler = (req, res, next) => {
  const asset = assetOf(String(req.params['file'] ?? ''))
  if (!asset) {
    next(notThere())
    return
  }
  // Its name changes with its content. `private`: only who may see the admin got it.
  res.set('Cache-Control', `private, max-age=${YEAR_SECONDS}, immutable`).type(asset.type).send(asset.body)
}

const notThere = (): HttpError => new HttpError('ERR_TASKS_ROUTE', 'expected the path of a page, got: another')

export function adminRouter(settings: AdminSettings): Router {
  const router = express.Router({ strict: false })
  const allowed = (action: Action): RequestHandler => allow(action, settings.authorize)
  const readForm = formReader(settings.bodyLimitBytes)
  for (const route of ADMIN_ROUTES) {
    const handle: RequestHandler = (req, res, next) => {
      // Express 4 does not catch what an async handler throws.
      const act = async (): Promise<void> => await route.handle(await contextOf(req, settings, route.query), res)
      act().catch(next)
    }
    if (route.changes) router[route.method](route.path, sameOrigin, allowed(route.action), readForm, handle)
    else router[route.method](route.path, allowed(route.action), handle)
    router.all(route.path, allowed('view'), wrongMethod(route.method))
  }
  router.get('/assets/:file', allowed('view'), sendAsset)
  router.use(allowed('view'), (_req, _res, next) => next(notThere()))
  router.use(allowUndecoded(settings.authorize), answerError(settings))
  return router
}

function wrongMethod(method: AdminRoute['method']): RequestHandler {
  const allowed = method === 'get' ? 'GET, HEAD' : 'POST'
  return (_req, res, next) => {
    res.set('Allow', allowed)
    next(new HttpError('ERR_TASKS_METHOD', `expected the method to be ${allowed}, got: another`))
  }
}

/** The interval in the URL, if it is one; the rest of the query may be what failed. */
function liveOf(req: Request): string {
  const given = queryOf(req).get('live') ?? ''
  return LIVE_SECONDS.some((seconds) => String(seconds) === given) ? given : ''
}

/** Which page of the navigation an address belongs to. */
function sectionOf(path: string): Section {
  const [, first] = path.split('/')
  return first === undefined || first === '' ? 'overview' : first === 'tasks' || first === 'workers' ? first : ''
}

/** What an error page says beside the error itself. */
function helpOf(problem: Problem, settings: AdminSettings): string {
  if (problem.code === 'ERR_TASKS_NOT_FOUND') {
    const kept = duration(settings.backend.limits.completedTaskTtlSeconds * 1_000)
    return `It may have been deleted, or purged: finished records of this backend are kept for ${kept} after their end.`
  }
  if (problem.status === 503) {
    return 'Tasks that run go on; workers settle them and take more by themselves once the storage is back. Until then nothing can be enqueued or shown. With its script this page asks again every few seconds.'
  }
  if (problem.code === 'ERR_TASKS_CROSS_SITE') return 'Nothing was changed. Open the page here and send its form again.'
  if (problem.status === 403) return 'Nothing was shown or changed.'
  if (problem.status === 400)
    return 'Nothing was changed. Change the address or the form, or start again from the list.'
  return ''
}

/** The message of an error as a sentence of a page. */
function sentence({ code, detail: said }: Problem): string {
  if (code === 'ERR_TASKS_NOT_FOUND') return 'No record of this backend has that id.'
  if (code === 'ERR_TASKS_ROUTE') return 'There is nothing at this address.'
  // A field of a form is no pointer into JSON.
  const detail = said.replace(/^expected \/(?=\w+ )/, 'expected ')
  return `${detail.slice(0, 1).toUpperCase()}${detail.slice(1)}${detail.endsWith('.') ? '' : '.'}`
}

/** Sentences for readers; the message of our errors names fields and cures, and never an address or a password. */
function answerError(settings: AdminSettings): ErrorRequestHandler {
  return (given: unknown, req: Request, res: Response, next) => {
    if (res.headersSent) {
      next(given)
      return
    }
    const error = typeof given === 'object' && given !== null && 'type' in given ? bodyError(given) : given
    const problem = problemOf(error instanceof URIError ? notThere() : error)
    if (problem.status >= 500) {
      settings.backend.logger.error({ code: problem.code, detail: problem.detail, error }, 'a page failed')
    }
    setRetryAfter(res, problem)
    if (problem.status === 403) res.set(headersWithStyles(assetText('frame.css')))
    const frame = bareFrame(req, settings, problem.title)
    const path = req.originalUrl.split('?')[0] ?? ''
    const isGet = req.method === 'GET' || req.method === 'HEAD'
    const asked = req.originalUrl.slice(path.length)
    const model = {
      ...frame,
      section: sectionOf(req.path),
      // Live mode follows by itself once the storage is back, and ends then where nobody had asked for it.
      ...(problem.status === 503 &&
        isGet && { live: { now: liveOf(req), choices: LIVE_SECONDS, untilBack: liveOf(req) === '' } }),
      // Denied: who asks need not learn what is configured here, and may not have the files of a page.
      ...(problem.status === 403 && { label: '', backends: [], assets: { styles: assetText('frame.css') } }),
      problem: { status: problem.status, title: problem.title, detail: sentence(problem), code: problem.code },
      help: helpOf(problem, settings),
      retryHref: problem.status === 503 && isGet ? `${frame.base}${req.path === '/' ? '' : req.path}${asked}` : null,
      // The query of a form is the filter that it was sent from; that of a page may be what is wrong.
      backHref: problem.status === 403 ? null : `${frame.base}/tasks${isGet ? '' : asked}`,
    }
    sendPage(res, 'error', model, problem.status)
  }
}

/** The errors of body-parser, by the type that it puts on them. */
function bodyError(error: object): unknown {
  const type = String((error as { type: unknown }).type)
  if (type === 'entity.too.large')
    return new HttpError('ERR_TASKS_BODY_SIZE', 'expected a smaller form (bodyLimitBytes sets the limit)')
  if (type === 'encoding.unsupported' || type === 'charset.unsupported')
    return new HttpError('ERR_TASKS_BODY_TYPE', 'expected an uncompressed form in UTF-8')
  if (type.startsWith('request.')) return new HttpError('ERR_TASKS_BODY', 'expected the whole form')
  return error
}
