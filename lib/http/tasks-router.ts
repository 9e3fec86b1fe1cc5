/**
 * tasksRouter: an express.Router with the API (and the admin) of one backend, mountable anywhere, in Express 4 and 5.
 * Each request goes the same way: headers, access, origin, body, fields, handler, and every error leaves as a problem document.
 * Sets nothing on the host's app, keeps no state of its own.
 */
import express from 'express'
import type { NextFunction, Request, RequestHandler, Response, Router } from 'express'
import { systemClock } from '../clock.ts'
import { TaskOptionError } from '../errors.ts'
import { executorOver } from '../executor.ts'
import { anything, checkOptions, integer, text } from '../options.ts'
import { taskBackends } from '../task-backends.ts'
import { TaskBackend } from '../task-backend.ts'
import { API_HANDLERS } from './api-handlers.ts'
import type { Action, Authorize } from './access.ts'
import { redactorOf } from './admin-redact.ts'
import type { Redact } from './admin-redact.ts'
import { adminRouter } from './admin-router.ts'
import { bodyFields, bodyReader, fieldChecker, queryFields } from './fields.ts'
import { allow, allowUndecoded, sameOrigin } from './guards.ts'
import { HEADERS } from './headers.ts'
import { HttpError, problemOf, sendProblem, setRetryAfter } from './problem.ts'
import { API_ROUTES } from './routes.ts'
import type { ApiRoute, OperationId } from './routes.ts'

export const ROUTER_OPTIONS = Object.freeze({
  authorize: anything({
    shape: 'a function of a request and an action',
    is: (value): value is Authorize => typeof value === 'function',
    description: 'who may do what; without it only requests of this machine are let in, and never in production',
  }),
  bodyLimitBytes: integer({ min: 1_024, max: 104_857_600, default: 262_144, description: 'largest body that is read' }),
  label: text({
    minLength: 0,
    maxLength: 40,
    default: '',
    description: 'names the environment on every page of the admin',
  }),
  redact: anything({
    shape: 'a function of { name, field, value, req }',
    is: (value): value is Redact => typeof value === 'function',
    description: 'what may be shown of arguments, results and errors',
  }),
})

export interface TasksRouterOptions {
  readonly authorize?: Authorize | undefined
  /** 262,144 when left out. */
  readonly bodyLimitBytes?: number | undefined
  /** Names the environment in title and header of the admin: so that nobody deletes in the wrong one. */
  readonly label?: string | undefined
  /** What the admin and the API may show in the place of arguments, return values and errors. If it throws, "hidden". */
  readonly redact?: Redact | undefined
}

/**
 * The routes of a backend.
 *
 * @param backend whose tasks are run and shown; a request may name another configured one by `backend_name`.
 * @throws TaskOptionError an option is unknown or not what it may be, or the backend stores nothing.
 */
export function tasksRouter(backend: TaskBackend, options: TasksRouterOptions = {}): Router {
  if (!(backend instanceof TaskBackend)) {
    throw new TaskOptionError('backend', 'a TaskBackend', backend, 'pass configureTasks(…).default')
  }
  const { authorize, bodyLimitBytes, label, redact } = checkOptions('options', ROUTER_OPTIONS, options)
  const router = express.Router({ strict: false })
  const allowed = (action: Action): RequestHandler => allow(action, authorize)

  router.use((_req, res, next) => {
    res.set(HEADERS)
    next()
  })
  const readBody = bodyReader(bodyLimitBytes)
  for (const route of API_ROUTES as readonly ApiRoute[]) {
    const steps = route.changes
      ? [sameOrigin, allowed(route.action), readBody, handle(route, backend, redact)]
      : [allowed(route.action), handle(route, backend, redact)]
    router[route.method](route.path, ...steps)
    router.all(route.path, allowed('view'), wrongMethod(route.method))
  }
  router.use('/admin', adminRouter({ backend, authorize, label, redact, bodyLimitBytes, clock: systemClock }))
  router.use(allowed('view'), (_req, _res, next) => {
    next(
      new HttpError(
        'ERR_TASKS_ROUTE',
        'expected a path of this API, got: another (GET openapi.json lists them, GET admin is for people)',
      ),
    )
  })
  router.use(allowUndecoded(authorize), answerError(backend))
  return router
}

function wrongMethod(method: string): RequestHandler {
  const allowed = method === 'get' ? 'GET, HEAD' : method.toUpperCase()
  return (_req, res, next) => {
    res.set('Allow', allowed)
    next(new HttpError('ERR_TASKS_METHOD', `expected the method to be ${allowed}, got: another`))
  }
}

function handle(route: ApiRoute, own: TaskBackend, redact: Redact | undefined): RequestHandler {
  const checkFields = fieldChecker(route)
  const checkParams = fieldChecker({ ...route, fields: route.params, required: Object.keys(route.params) })
  const arrays = Object.keys(route.fields).filter((name) => route.fields[name]?.['type'] === 'array')
  const form = { lists: arrays.filter((name) => name !== 'args'), json: arrays.filter((name) => name === 'args') }
  const handler = API_HANDLERS[route.operationId as OperationId]
  const backendOf = (alias: string): TaskBackend => (alias === own.alias ? own : taskBackends.get(alias))
  const executor = executorOver(backendOf)
  return (req, res, next) => {
    // Express 4 does not catch what an async handler throws.
    const act = async (): Promise<void> => {
      const params = paramsOf(req, route)
      checkParams({ fields: params, text: true })
      const fields = checkFields(route.method === 'get' ? queryFields(req, form) : bodyFields(req, form))
      const { backend_name: alias = own.alias } = fields as { backend_name?: string }
      await handler({
        req,
        res,
        fields,
        params,
        backend: chosen(backendOf, alias),
        executor,
        redactor: redactorOf(redact, req),
      })
    }
    act().catch(next)
  }
}

/** An id that is no id is nobody's: 404 like any other that is not there. */
function paramsOf(req: Request, route: ApiRoute): Record<string, string> {
  const names = Object.keys(route.params)
  return Object.fromEntries(names.map((name) => [name, String(req.params[name] ?? '')]))
}

function chosen(backendOf: (alias: string) => TaskBackend, alias: string): TaskBackend {
  try {
    return backendOf(alias)
  } catch (error) {
    if (!(error instanceof TaskOptionError)) throw error
    throw new TaskOptionError(
      '/backend_name',
      'the alias of a configured backend',
      alias,
      'leave it out for the usual one',
    )
  }
}

/** The errors of body-parser, by the type that it puts on them. */
const BODY_ERRORS: Readonly<Record<string, readonly [code: `ERR_TASKS_${string}`, message: string]>> = {
  'entity.too.large': ['ERR_TASKS_BODY_SIZE', 'expected a smaller body (bodyLimitBytes sets the limit)'],
  'entity.parse.failed': ['ERR_TASKS_BODY', 'expected the body to be JSON, got another text'],
  'encoding.unsupported': ['ERR_TASKS_BODY_TYPE', 'expected an uncompressed body'],
  'charset.unsupported': ['ERR_TASKS_BODY_TYPE', 'expected a body in UTF-8'],
  'request.aborted': ['ERR_TASKS_BODY', 'expected the whole body'],
  'request.size.invalid': ['ERR_TASKS_BODY', 'expected as many bytes as Content-Length says'],
}

function translated(error: unknown): unknown {
  const type = typeof error === 'object' && error !== null && 'type' in error ? String(error.type) : ''
  const known = BODY_ERRORS[type]
  if (known) return new HttpError(known[0], known[1])
  if (error instanceof URIError) return new HttpError('ERR_TASKS_ROUTE', 'expected a path that can be decoded')
  return error
}

function answerError(backend: TaskBackend): express.ErrorRequestHandler {
  return (given: unknown, req: Request, res: Response, next: NextFunction) => {
    if (res.headersSent) {
      next(given)
      return
    }
    const error = translated(given)
    const problem = problemOf(error)
    if (problem.status >= 500)
      backend.logger.error({ code: problem.code, detail: problem.detail, error }, 'a request failed')
    res.set(HEADERS)
    const isRead = req.method === 'GET' || req.method === 'HEAD'
    if (isRead && req.path.startsWith('/health') && problem.status === 503) {
      setRetryAfter(res, problem)
      res.status(503).json({ status: 'unavailable' })
      return
    }
    sendProblem(res, problem)
  }
}
