/** What stands before every route of both routers, as middleware: who may, from which origin. Answers nothing itself. */
import type { ErrorRequestHandler, RequestHandler } from 'express'
import { checkAccess, checkSameOrigin } from './access.ts'
import type { Action, Authorize } from './access.ts'

/** Passes on only who may do this. */
export function allow(action: Action, authorize: Authorize | undefined): RequestHandler {
  return (req, _res, next) => {
    checkAccess(req, action, authorize).then(() => next(), next)
  }
}

/** A path that cannot be decoded (`%E0%A4%A`) fails before any route is met: who sends one may have to be refused as well. */
export function allowUndecoded(authorize: Authorize | undefined): ErrorRequestHandler {
  return (error: unknown, req, _res, next) => {
    if (error instanceof URIError) checkAccess(req, 'view', authorize).then(() => next(error), next)
    else next(error)
  }
}

/** Passes on only what no page of another site made a browser send. */
export const sameOrigin: RequestHandler = (req, _res, next) => {
  checkSameOrigin(req)
  next()
}
