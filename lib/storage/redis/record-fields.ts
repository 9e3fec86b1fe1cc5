/**
 * The fields of a record's hash, and the record that they are. Everything read is checked; a record with a field out of range comes
 * back as damaged, never as an exception.
 */
import { LAST_TIME_MS } from '../../clock.ts'
import { isFinal, isTaskStatus } from '../../task-status.ts'
import { PRIORITIES } from '../storage.ts'
import { ARGS_FIELDS } from './args-pieces.ts'
import type { FoundRecord, StoredRecord } from '../stored-record.ts'

/** The fields of a record, in the order in which they are read. Arguments may stand in up to four pieces (args-pieces.ts). */
export const RECORD_FIELDS = [
  'name',
  'queueName',
  'priority',
  'status',
  'args',
  'args2',
  'args3',
  'args4',
  'enqueuedAt',
  'runAfter',
  'startedAt',
  'lastAttemptedAt',
  'finishedAt',
  'attempts',
  'workerIds',
  'errors',
  'returnValue',
  'crashes',
  'handBacks',
  'entryId',
  'leaseToken',
  'leaseUntil',
  'fence',
] as const

/** Fields that only scripts read and write: no caller sees them. */
export const SCRIPT_FIELDS = ['lastMove', 'requestId', 'cancelId', 'unknownSince', 'waitToken', 'watched'] as const

export type FieldName = (typeof RECORD_FIELDS)[number]

class Damage extends Error {}

function whole(field: string, text: string, min: number, max: number): number {
  const value = Number(text)
  // Digits only, as the scripts read it: Number() also takes 0x1, 1e3 and spaces.
  if (!/^-?\d+$/.test(text) || value < min || value > max) {
    throw new Damage(`${field} is ${JSON.stringify(text.slice(0, 60))}`)
  }
  return value
}

const time = (field: string, text: string): number | null => (text === '' ? null : whole(field, text, 0, LAST_TIME_MS))
const count = (field: string, text: string): number =>
  text === '' ? 0 : whole(field, text, 0, Number.MAX_SAFE_INTEGER)

/** What a field holds, for those to whom damage means nothing: what is no whole number is as if it were not there. */
export function numberOf(text: string | undefined, otherwise: number): number {
  const value = text === undefined || text === '' ? NaN : Number(text)
  return Number.isSafeInteger(value) ? value : otherwise
}

export function timeOf(text: string | undefined): number | null {
  const ms = numberOf(text, -1)
  return ms < 0 ? null : ms
}

export function listOf(text: string, separator: string): string[] {
  return text === '' ? [] : text.split(separator)
}

function toRecord(id: string, read: (field: FieldName) => string): StoredRecord {
  const status = read('status')
  if (!isTaskStatus(status)) throw new Damage(`status is ${JSON.stringify(status.slice(0, 60))}`)
  for (const field of ['name', 'queueName', 'args'] as const) {
    if (read(field) === '') throw new Damage(`${field} is missing`)
  }
  const fence = count('fence', read('fence'))
  // A first attempt writes neither: that it began is told by its fence, which is that time in microseconds.
  const attempts = read('attempts') === '' && fence > 0 ? 1 : count('attempts', read('attempts'))
  const lastAttemptedAt =
    time('lastAttemptedAt', read('lastAttemptedAt')) ?? (attempts === 1 && fence > 0 ? Math.floor(fence / 1_000) : null)
  return {
    id,
    name: read('name'),
    queueName: read('queueName'),
    // Written when it is another than 0.
    priority: whole('priority', read('priority') || '0', PRIORITIES.min, PRIORITIES.max),
    status,
    args: ARGS_FIELDS.map(read).join(''),
    enqueuedAt: whole('enqueuedAt', read('enqueuedAt') || 'missing', 0, LAST_TIME_MS),
    runAfter: time('runAfter', read('runAfter')),
    // Written with the second attempt: until then it is the time of the last one.
    startedAt: time('startedAt', read('startedAt')) ?? lastAttemptedAt,
    lastAttemptedAt,
    finishedAt: time('finishedAt', read('finishedAt')),
    attempts,
    workerIds: listOf(read('workerIds'), ' '),
    errors: listOf(read('errors'), '\n'),
    // Not written for a task that returned nothing.
    returnValue: read('returnValue') || (status === 'SUCCESSFUL' ? 'null' : null),
    crashes: count('crashes', read('crashes')),
    handBacks: count('handBacks', read('handBacks')),
    // On a finished record they stay as they were, and mean nothing (settle-items.lua).
    entryId: isFinal(status) ? '' : read('entryId'),
    leaseToken: isFinal(status) ? '' : read('leaseToken'),
    leaseUntil: isFinal(status) ? null : time('leaseUntil', read('leaseUntil')),
    fence,
  }
}

export const NO_HASH = 'its key is not a hash'

/** The answer of HMGET with RECORD_FIELDS. */
export function recordOf(id: string, values: readonly unknown[]): FoundRecord {
  const texts = values.map((value) => (typeof value === 'string' ? value : ''))
  if (texts.every((text) => text === '')) return undefined
  try {
    return toRecord(id, (field) => texts[RECORD_FIELDS.indexOf(field)] ?? '')
  } catch (error) {
    if (error instanceof Damage) return { id, damage: error.message }
    throw error
  }
}

/** Fields of up to 5 MB. */
const PAYLOAD_FIELDS: readonly FieldName[] = [...ARGS_FIELDS, 'returnValue', 'errors']

/** The fields that a brief read takes as they are. */
export const BRIEF_FIELDS = RECORD_FIELDS.filter((field) => !PAYLOAD_FIELDS.includes(field))

/** A row of brief.lua. */
export function briefOf(
  id: string,
  [args = '', lastError = '', omitted = '', ...others]: readonly string[],
): FoundRecord {
  if (args === 'BROKEN' && omitted === '') return { id, damage: NO_HASH }
  const values = new Map<FieldName, string>(BRIEF_FIELDS.map((field, index) => [field, others[index] ?? '']))
  values.set('args', args)
  const found = recordOf(
    id,
    RECORD_FIELDS.map((field) => values.get(field) ?? ''),
  )
  if (!found || 'damage' in found) return found
  // One error is one line: it stands here whole.
  return { ...found, errors: lastError === '' ? [] : [lastError], returnValue: null, omittedBytes: Number(omitted) }
}
