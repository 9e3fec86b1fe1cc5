/** The rows that begin-entries.lua, reclaim.lua and run-by-id.lua answer, and the deliveries that they are. */
import type { Delivery, Taken } from '../storage.ts'
import { NONE } from '../stored-record.ts'
import type { StoredRecord } from '../stored-record.ts'
import { listOf, numberOf, timeOf } from './record-fields.ts'

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

/** A BEGUN row as a delivery. Damage that the script did not see (a malformed number) is shown as the field's empty value. */
export function deliveryOf(row: Row): Delivery {
  const [, id = '', entryId = '', token = '', fenceText, attempts, leaseUntil, queueName = '', name = ''] = row
  const record: StoredRecord = {
    id,
    name,
    queueName,
    priority: numberOf(row[9], 0),
    status: 'RUNNING',
    args: row[11] ?? '',
    enqueuedAt: numberOf(row[10], 0),
    runAfter: timeOf(row[12]),
    startedAt: numberOf(row[14], 0),
    lastAttemptedAt: numberOf(row[13], 0),
    finishedAt: null,
    attempts: numberOf(attempts, 1),
    workerIds: listOf(row[15] ?? '', ' '),
    errors: listOf(row[16] ?? '', '\n'),
    returnValue: null,
    crashes: numberOf(row[17], 0),
    handBacks: numberOf(row[18], 0),
    entryId,
    leaseToken: token,
    leaseUntil: numberOf(leaseUntil, 0),
    fence: numberOf(fenceText, 0),
  }
  return { lease: { id, token, entryId }, record }
}

/** Words of a FIRST row before its records, and for each of them. */
const FIRST_HEAD = 8
const FIRST_WORDS = 5

/** A FIRST row as deliveries: what it does not say follows from its fence, which is the time in µs, and from who claimed. */
function* firstDeliveries(row: Row, workerId: string): Iterable<Delivery> {
  const [, token = '', fenceText, leaseUntil, queueName = '', name = '', priority, runAfter] = row
  const fence = numberOf(fenceText, 0)
  const begunAt = Math.floor(fence / 1_000)
  const common = { name, queueName, priority: numberOf(priority, 0), leaseUntil: numberOf(leaseUntil, 0) }
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
      enqueuedAt: numberOf(row[at + 2], 0),
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
