/**
 * What of a payload may be shown: the hook `redact` of the router, applied before a template or an answer sees the value.
 * Without a hook the stored text goes through untouched. A hook that throws hides the value.
 */
import type { Request } from 'express'
import { readError } from '../task-result.ts'
import type { TaskAttemptError } from '../task-result.ts'

export type RedactedField = 'args' | 'returnValue' | 'error'

export interface RedactRequest {
  /** Name of the task. */
  readonly name: string
  readonly field: RedactedField
  /** The value as it is stored; of an error `{ name, message, stack }`. */
  readonly value: unknown
  readonly req: Request
}

/** Answers what may be shown in the place of `value`. */
export type Redact = (given: RedactRequest) => unknown

export const HIDDEN = 'hidden'

export interface Redactor {
  /** False when values are shown as they are stored. */
  readonly active: boolean
  /** JSON text of `args` or of a return value. */
  json(name: string, field: 'args' | 'returnValue', json: string): string
  /** One of a record's errors, stored or read. */
  error(name: string, error: string | TaskAttemptError): TaskAttemptError
  /** A decoded value, for the API. */
  value(name: string, field: RedactedField, value: unknown): unknown
}

export function redactorOf(redact: Redact | undefined, req: Request): Redactor {
  const value = (name: string, field: RedactedField, given: unknown): unknown => {
    if (!redact) return given
    try {
      return redact({ name, field, value: given, req })
    } catch {
      return HIDDEN
    }
  }
  return {
    active: redact !== undefined,
    value,
    json(name, field, json) {
      if (!redact) return json
      try {
        const shown = value(name, field, JSON.parse(json))
        // A hook may answer nothing, and JSON has no word for that.
        return shown === undefined ? 'null' : JSON.stringify(shown)
      } catch {
        return JSON.stringify(HIDDEN)
      }
    },
    error(name, given) {
      const error = typeof given === 'string' ? readError(given) : given
      if (!redact) return error
      const shown = value(name, 'error', { name: error.name, message: error.message, stack: error.stack })
      const fields = (typeof shown === 'object' && shown !== null ? shown : {}) as Record<string, unknown>
      const text = (field: string): string | null => (typeof fields[field] === 'string' ? fields[field] : null)
      return { ...error, name: text('name') ?? HIDDEN, message: text('message') ?? HIDDEN, stack: text('stack') }
    },
  }
}
