/**
 * From a request to checked fields: reads the body or the query, checks it by ajv against the schemas of routes.ts, and names
 * the offender by a JSON Pointer. Text (urlencoded, query) is read as the number or flag that is wanted, JSON is taken as it is. Never merges what came into anything.
 */
import { isUtf8 } from 'node:buffer'
import { createRequire } from 'node:module'
import type * as Ajv from 'ajv/dist/2020.js'
import type { Ajv2020, ErrorObject, ValidateFunction } from 'ajv/dist/2020.js'
import type { FormatsPlugin } from 'ajv-formats'
import type { IncomingHttpHeaders } from 'node:http'
import express from 'express'
import type { NextFunction, Request, RequestHandler, Response } from 'express'
import { didYouMean } from '../did-you-mean.ts'
import { TaskOptionError, verbatim } from '../errors.ts'
import { inexactJson } from './exact-json.ts'
import { HttpError } from './problem.ts'
import type { ApiRoute, Schema } from './routes.ts'

/** Deeper JSON is refused before anything walks it. */
const MAX_DEPTH = 64

let ajv: Ajv2020 | undefined

function load(): Ajv2020 {
  if (ajv) return ajv
  const require = createRequire(import.meta.url)
  const { Ajv2020: Compiler } = require('ajv/dist/2020.js') as typeof Ajv
  const { default: addFormats } = require('ajv-formats') as { default: FormatsPlugin }
  ajv = new Compiler({ strict: true, useDefaults: true, ownProperties: true, allErrors: false })
  addFormats(ajv)
  return ajv
}

const DECIMAL = /^-?\d{1,16}(\.\d{1,16})?$/

/**
 * A text as the number or flag that its field wants; anything else stays what it is, and is refused as that. Not left to ajv,
 * which reads "Infinity" and "0x10" as numbers, and then finds the first within all bounds.
 */
function coerced(value: unknown, { type }: Schema = {}): unknown {
  if (typeof value !== 'string') return value
  if ((type === 'integer' || type === 'number') && DECIMAL.test(value)) return Number(value)
  if (type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true'
  return value
}

/** The object schema of a route's fields: it knows them all. */
export function schemaOf({ fields, required = [] }: Pick<ApiRoute, 'fields' | 'required'>): Schema {
  return { type: 'object', properties: fields, required, additionalProperties: false }
}

/** Checks the fields of one route. Compiled once, when the router is made. */
export function fieldChecker(route: ApiRoute): (given: Given) => Readonly<Record<string, unknown>> {
  const check: ValidateFunction = load().compile(schemaOf(route))
  const known = Object.keys(route.fields)
  return ({ fields, text }) => {
    // A copy without prototype: defaults are written into it, and nothing is read through `__proto__`.
    const copy = Object.create(null) as Record<string, unknown>
    for (const [name, value] of Object.entries(fields)) {
      copy[name] = text && Object.hasOwn(route.fields, name) ? coerced(value, route.fields[name]) : value
    }
    if (check(copy)) return copy
    throw fieldError(check.errors?.[0], copy, known)
  }
}

function fieldError(
  error: ErrorObject | undefined,
  given: Record<string, unknown>,
  known: readonly string[],
): TaskOptionError {
  const parameters = error?.params as Record<string, unknown> | undefined
  const unknown = parameters?.['additionalProperty']
  if (typeof unknown === 'string') {
    const cure = didYouMean(unknown, known) ?? `known are: ${known.join(', ') || 'none'}`
    return new TaskOptionError(`/${escapeStep(unknown)}`, 'a known field', verbatim('an unknown one'), cure)
  }
  const pointer = error?.instancePath ?? ''
  const value = pointer
    .split('/')
    .slice(1)
    .reduce<unknown>((at, step) => (typeof at === 'object' && at !== null ? at[step as never] : undefined), given)
  return new TaskOptionError(pointer || '/', `valid: it ${error?.message ?? 'is not'}`, value, 'see openapi.json')
}

const escapeStep = (step: string): string => step.slice(0, 200).replace(/~/g, '~0').replace(/\//g, '~1')

/** What came, and whether it came as text. */
export interface Given {
  readonly fields: Readonly<Record<string, unknown>>
  readonly text: boolean
}

/** How the text of a form or a query becomes fields: which are lists (`a,b` or given twice), which hold JSON. */
export interface TextForm {
  readonly lists: readonly string[]
  readonly json: readonly string[]
}

/** Fields of a query. Read from the URL: hosts differ in what they make of it. */
export function queryFields(req: Request, form: TextForm): Given {
  const start = req.originalUrl.indexOf('?')
  return { fields: textFields(new URLSearchParams(start < 0 ? '' : req.originalUrl.slice(start)), form), text: true }
}

function textFields(params: URLSearchParams, { lists, json }: TextForm): Record<string, unknown> {
  const fields = Object.create(null) as Record<string, unknown>
  for (const [key, value] of params) {
    const pointer = `/${escapeStep(key)}`
    const list = fields[key]
    if (Array.isArray(list) && lists.includes(key)) for (const each of value.split(',')) list.push(each)
    else if (key in fields) throw new TaskOptionError(pointer, 'given once', verbatim('twice'), 'give it once')
    else if (lists.includes(key)) fields[key] = value.split(',')
    else fields[key] = json.includes(key) ? parsed(pointer, value) : value
  }
  return fields
}

/** @param pointer of the field that holds the text; empty for the whole body. */
function parsed(pointer: string, text: string): unknown {
  refuseInexact(text, pointer)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    if (pointer === '') throw new HttpError('ERR_TASKS_BODY', 'expected the body to be JSON, got another text')
    throw new TaskOptionError(pointer, 'JSON', text, 'for example ["user@example.com"]')
  }
  refuseDeep(value, pointer)
  return value
}

/** @throws TaskOptionError a number or a key in the text of JSON that parsing would change in silence. */
function refuseInexact(text: string, at: string): void {
  const found = inexactJson(text)
  if (!found) return
  const pointer = at + found.pointer || '/'
  if (found.kind === 'key') throw new TaskOptionError(pointer, 'given once', verbatim('twice'), 'give it once')
  throw new TaskOptionError(pointer, 'a number that a double carries', verbatim(found.token), 'send it as text')
}

/** @throws HttpError it is nested deeper than anything that is walked here. */
function refuseDeep(value: unknown, pointer: string): void {
  if (depthOf(value, MAX_DEPTH + 1) <= MAX_DEPTH) return
  throw new HttpError(
    'ERR_TASKS_BODY',
    `expected the body to be nested no deeper than ${MAX_DEPTH}, got: deeper`,
    pointer,
  )
}

/** Text of JSON or of a form has come in UTF-8, or not at all: another reading would change it in silence. */
function refuseOtherText(body: Buffer): void {
  if (!isUtf8(body)) throw new HttpError('ERR_TASKS_BODY', 'expected the body to be UTF-8, got: other bytes')
}

/** Reads JSON and urlencoded bodies up to `limit`; anything else is refused by type before it is read. */
export function bodyReader(limit: number): RequestHandler {
  const json: RequestHandler = express.json({
    limit,
    strict: true,
    inflate: false,
    type: ['application/json', 'application/*+json'],
    verify: (_req, _res, body) => {
      refuseOtherText(body)
      refuseInexact(body.toString('utf8'), '')
    },
  })
  const form: RequestHandler = express.text({
    limit,
    inflate: false,
    type: 'application/x-www-form-urlencoded',
    verify: (_req, _res, body) => refuseOtherText(body),
  })
  return (req: Request, res: Response, next: NextFunction) => {
    const cure = 'set Content-Type: application/json'
    const wrongType = `expected a body of JSON or a form, got another type (${cure})`
    if (!hasBody(req)) next()
    else if (!isJson(req.headers) && !isForm(req.headers)) next(new HttpError('ERR_TASKS_BODY_TYPE', wrongType))
    else if (!isInUtf8(req.headers)) next(new HttpError('ERR_TASKS_BODY_TYPE', 'expected a body in UTF-8'))
    // A parser of the host's that came first may have read more than is taken here.
    else if (Number(req.headers['content-length'] ?? 0) > limit) {
      next(new HttpError('ERR_TASKS_BODY_SIZE', 'expected a smaller body (bodyLimitBytes sets the limit)'))
    } else if (isJson(req.headers)) void json(req, res, next)
    else void form(req, res, next)
  }
}

function hasBody({ headers }: Pick<Request, 'headers'>): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

const typeOf = (headers: IncomingHttpHeaders): string => headers['content-type'] ?? ''
const isJson = (headers: IncomingHttpHeaders): boolean =>
  /^application\/(json|[\w.-]+\+json)\s*(;|$)/i.test(typeOf(headers))
const isForm = (headers: IncomingHttpHeaders): boolean =>
  /^application\/x-www-form-urlencoded\s*(;|$)/i.test(typeOf(headers))
/** Both types are UTF-8 where they name nothing; parsers would take UTF-16 too, and its numbers could not be looked at. */
const isInUtf8 = (headers: IncomingHttpHeaders): boolean => {
  const [, charset] = /;\s*charset\s*=\s*"?([^\s;"]*)/i.exec(typeOf(headers)) ?? []
  return charset === undefined || /^(utf-?8|us-ascii)$/i.test(charset)
}

/** The fields of a body that `bodyReader`, or the host's own parser before it, has read. Without a body: none. */
export function bodyFields(req: Request, form: TextForm): Given {
  if (!hasBody(req)) return { fields: {}, text: false }
  const body: unknown = Buffer.isBuffer(req.body) ? req.body.toString('utf8') : req.body
  if (isForm(req.headers)) {
    const params = typeof body === 'string' ? new URLSearchParams(body) : pairsOf(body)
    return { fields: textFields(params, form), text: true }
  }
  // Text is what a parser of the host's has left to us.
  const value = typeof body === 'string' ? parsed('', body) : body
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new HttpError('ERR_TASKS_BODY', 'expected the body to be a JSON object, got another value', '')
  }
  refuseDeep(value, '')
  return { fields: value as Record<string, unknown>, text: false }
}

/** The pairs of a form that a parser of the host's has made an object of. */
function pairsOf(body: unknown): URLSearchParams {
  const params = new URLSearchParams()
  for (const [key, value] of Object.entries(typeof body === 'object' && body !== null ? body : {})) {
    const values: readonly unknown[] = Array.isArray(value) ? value : [value]
    for (const each of values) {
      if (typeof each === 'string') params.append(key, each)
      else
        throw new TaskOptionError(`/${escapeStep(key)}`, 'a text', verbatim('a nested value'), 'give it as JSON text')
    }
  }
  return params
}

/** How deep a value is nested, as far as `limit`. */
function depthOf(value: unknown, limit: number): number {
  if (typeof value !== 'object' || value === null || limit === 0) return 0
  let deepest = 0
  for (const each of Object.values(value)) {
    deepest = Math.max(deepest, depthOf(each, limit - 1))
    if (deepest >= limit - 1) break
  }
  return deepest + 1
}
