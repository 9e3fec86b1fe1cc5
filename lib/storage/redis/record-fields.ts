/**
 * From the words of Redis to records: the fields of a hash, and the rows that begin-entries.lua answers.
 * Everything read is checked; a record with a field out of range comes back as damaged, never as an exception.
 */
import { LAST_TIME_MS } from '../../clock.ts'
import { isFinal, isTaskStatus } from '../../task-status.ts'
import { NONE } from '../storage.ts'
import { ARGS_FIELDS } from './args-pieces.ts'
import type { Delivery, FoundRecord, SettledRecord, StoredRecord, Taken } from '../storage.ts'

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

type FieldName = (typeof RECORD_FIELDS)[number]

class Damage extends Error {}

function whole(field: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new Damage(`${field} is ${JSON.stringify(text.slice(0, 60))}`)
  }
  return value
}

const time = (field: string, text: string): number | null => (text === '' ? null : whole(field, text, 0, LAST_TIME_MS))
const count = (field: string, text: string): number =>
  text === '' ? 0 : whole(field, text, 0, Number.MAX_SAFE_INTEGER)
const list = (text: string, separator: string): string[] => (text === '' ? [] : text.split(separator))

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
    priority: whole('priority', read('priority') || '0', -100, 100),
    status,
    args: ARGS_FIELDS.map(read).join(''),
    enqueuedAt: whole('enqueuedAt', read('enqueuedAt') || 'missing', 0, LAST_TIME_MS),
    runAfter: time('runAfter', read('runAfter')),
    // Written with the second attempt: until then it is the time of the last one.
    startedAt: time('startedAt', read('startedAt')) ?? lastAttemptedAt,
    lastAttemptedAt,
    finishedAt: time('finishedAt', read('finishedAt')),
    attempts,
    workerIds: list(read('workerIds'), ' '),
    errors: list(read('errors'), '\n'),
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

/** What a settle needs to know: the fence says when a first attempt began. */
export const SETTLED_FIELDS = [
  ...(['queueName', 'name', 'priority', 'runAfter', 'lastAttemptedAt', 'fence'] as const),
] satisfies FieldName[]

/** The answer of HMGET with SETTLED_FIELDS; empty where it is none, odd numbers as if they were not there. */
export function settledRecordOf(reply: unknown): SettledRecord {
  const values: unknown[] = Array.isArray(reply) ? reply : []
  const [queueName = '', name = '', priority, runAfter, lastAttemptedAt, fence] = values.map((value) =>
    typeof value === 'string' ? value : '',
  )
  return {
    queueName,
    name,
    priority: number(priority, 0),
    runAfter: timeOf(runAfter),
    lastAttemptedAt: timeOf(lastAttemptedAt) ?? Math.floor(number(fence, 0) / 1_000),
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

/** The columns of a BEGUN row, as begin-entries.lua names them. */
export const BEGUN_COLUMNS = [
  'word',
  'id',
  'entryId',
  'leaseToken',
  'fence',
  'attempts',
  'leaseUntil',
  'queueName',
  'name',
  'priority',
  'enqueuedAt',
  'args',
  'runAfter',
  'lastAttemptedAt',
  'startedAt',
  'workerIds',
  'errors',
  'crashes',
  'handBacks',
] as const

/** A row of a take, begin, reclaim or run-by-id: a word, then its facts. */
export type Row = readonly string[]

const number = (text: string | undefined, otherwise: number): number => {
  const value = text === undefined || text === '' ? NaN : Number(text)
  return Number.isSafeInteger(value) ? value : otherwise
}

/** A BEGUN row as a delivery. Damage that the script did not see (an odd number) is shown as the field's empty value. */
export function deliveryOf(row: Row): Delivery {
  const [, id = '', entryId = '', token = '', fenceText, attempts, leaseUntil, queueName = '', name = ''] = row
  const record: StoredRecord = {
    id,
    name,
    queueName,
    priority: number(row[9], 0),
    status: 'RUNNING',
    args: row[11] ?? '',
    enqueuedAt: number(row[10], 0),
    runAfter: timeOf(row[12]),
    startedAt: number(row[14], 0),
    lastAttemptedAt: number(row[13], 0),
    finishedAt: null,
    attempts: number(attempts, 1),
    workerIds: list(row[15] ?? '', ' '),
    errors: list(row[16] ?? '', '\n'),
    returnValue: null,
    crashes: number(row[17], 0),
    handBacks: number(row[18], 0),
    entryId,
    leaseToken: token,
    leaseUntil: number(leaseUntil, 0),
    fence: number(fenceText, 0),
  }
  return { lease: { id, token, entryId }, record }
}

const timeOf = (text: string | undefined): number | null => (text ? number(text, 0) : null)

/** Words of a FIRST row before its records, and for each of them. */
const FIRST_HEAD = 8
const FIRST_WORDS = 5

/** A FIRST row as deliveries: what it does not say follows from its fence, which is the time in µs, and from who claimed. */
function* firstDeliveries(row: Row, workerId: string): Iterable<Delivery> {
  const [, token = '', fenceText, leaseUntil, queueName = '', name = '', priority, runAfter] = row
  const fence = number(fenceText, 0)
  const begunAt = Math.floor(fence / 1_000)
  const common = { name, queueName, priority: number(priority, 0), leaseUntil: number(leaseUntil, 0) }
  const dueAt = timeOf(runAfter)
  const workerIds = Object.freeze([workerId])
  for (let at = FIRST_HEAD; at < row.length; at += FIRST_WORDS) {
    const [id = '', entryId = ''] = [row[at], row[at + 1]]
    const record: StoredRecord = {
      id,
      name: common.name,
      queueName: common.queueName,
      priority: common.priority,
      status: 'RUNNING',
      args: (row[at + 3] ?? '') + (row[at + 4] ?? ''),
      enqueuedAt: number(row[at + 2], 0),
      runAfter: dueAt,
      startedAt: begunAt,
      lastAttemptedAt: begunAt,
      finishedAt: null,
      attempts: 1,
      workerIds,
      errors: NONE,
      returnValue: null,
      crashes: 0,
      handBacks: 0,
      entryId,
      leaseToken: token,
      leaseUntil: common.leaseUntil,
      fence,
    }
    yield { lease: { id, token, entryId }, record }
  }
}

/** What a list of rows says: the attempts begun, the entries passed over, and notes for the one who asked. */
export interface RowsRead extends Taken {
  readonly crashed: readonly string[]
  readonly brokenIds: readonly string[]
  /** A stream that lacks its consumer group. */
  readonly noGroup: boolean
  readonly indexError: string | undefined
}

export function readRows(rows: readonly Row[], workerId: string): RowsRead {
  const begun: Delivery[] = []
  const crashed: string[] = []
  const brokenIds: string[] = []
  let passed = 0
  let noGroup = false
  let indexError: string | undefined
  for (const row of rows) {
    switch (row[0]) {
      case 'FIRST':
        begun.push(...firstDeliveries(row, workerId))
        break
      case 'BEGUN':
        begun.push(deliveryOf(row))
        break
      case 'CRASHED':
        crashed.push(row[1] ?? '')
        break
      case 'NOGROUP':
        noGroup = true
        break
      case 'INDEX':
        indexError = row[1]
        break
      case 'BROKEN':
        brokenIds.push(row[1] ?? '')
        passed += 1
        break
      default:
        passed += 1
    }
  }
  return { begun, crashed, brokenIds, passed, noGroup, indexError }
}
