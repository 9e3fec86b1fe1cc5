/** Forms of the admin: urlencoded bodies only, up to the router's limit, also where the host's own parser came first. */
import express from 'express'
import type { Request, RequestHandler } from 'express'
import { TaskOptionError, verbatim } from '../errors.ts'
import { normalizeRecordId } from '../record-id.ts'
import { HttpError } from './problem.ts'

const FORM = /^application\/x-www-form-urlencoded\s*(;|$)/i
/** Rows of the largest page, and some. */
const MOST_IDS = 1_000

/** Reads the body of a form; any other type is refused before it is read. */
export function formReader(limit: number): RequestHandler {
  const read: RequestHandler = express.text({ limit, inflate: false, type: 'application/x-www-form-urlencoded' })
  return (req, res, next) => {
    if (FORM.test(req.headers['content-type'] ?? '')) {
      void read(req, res, next)
      return
    }
    const cure = 'send it as application/x-www-form-urlencoded'
    next(new HttpError('ERR_TASKS_BODY_TYPE', `expected the body of a form, got another type (${cure})`))
  }
}

/** The fields of a form. A parser of the host's that came first has made an object of them. */
function fieldsOf(req: Request): URLSearchParams {
  const body: unknown = req.body
  if (typeof body === 'string') return new URLSearchParams(body)
  const fields = new URLSearchParams()
  if (typeof body !== 'object' || body === null) return fields
  for (const [name, value] of Object.entries(body)) {
    const values: readonly unknown[] =
      typeof value === 'object' && value !== null ? Object.values(value as object) : [value]
    for (const each of values) if (typeof each === 'string') fields.append(name, each)
  }
  return fields
}

export interface Form {
  readonly scope: 'ticked' | 'all'
  /** Records by id; of one form each once. */
  readonly ids: readonly string[]
  /** True when it came from the page of one record. */
  readonly single: boolean
  /** The moment of the preview, in epoch milliseconds. */
  readonly cutoff: number | null
  /** What earlier requests of the same action did. */
  readonly before: Counts
}

/** Records of an action by how they ended; the words of a form and of a result's address. */
export const COUNTED = ['done', 'failed', 'skipped', 'unknown'] as const

export type Counts = Readonly<Record<(typeof COUNTED)[number], number>>

export function countsOf(fields: URLSearchParams): Counts {
  const entries = COUNTED.map((field) => [field, wholeOf(fields.get(field)) ?? 0])
  return Object.fromEntries(entries) as Record<keyof Counts, number>
}

/** @throws TaskOptionError a field is not what it may be. */
export function formOf(req: Request): Form {
  const fields = fieldsOf(req)
  const given = fields.getAll('id')
  if (given.length > MOST_IDS)
    throw new TaskOptionError('/id', `at most ${MOST_IDS} ids`, given.length, 'tick fewer rows')
  const ids = given.map((id) => {
    const normal = normalizeRecordId(id)
    if (normal !== undefined) return normal
    throw new TaskOptionError('/id', 'the id of a record', verbatim('another text'), 'tick rows of the list')
  })
  const scope = fields.get('scope') === 'all' ? 'all' : 'ticked'
  const cutoff = wholeOf(fields.get('cutoff'))
  return {
    scope,
    ids: [...new Set(ids)],
    single: fields.get('single') === '1',
    cutoff,
    before: countsOf(fields),
  }
}

/** A count or a time out of a form or a URL; null for anything else. */
export function wholeOf(text: string | null): number | null {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null
}
