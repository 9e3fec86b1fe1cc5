/** From the answers of the inspecting scripts to evidence: each row checked, each text made a number where it stands for one. */
import { isTaskStatus } from '../../task-status.ts'
import { NAME_PATTERN } from '../../options.ts'
import type { EntryRow, EntryState, IndexRow, Named, RecordEvidence } from '../judgement.ts'
import { bandOf } from '../storage.ts'
import { isDamaged } from '../stored-record.ts'
import type { Keys } from './keys.ts'
import { BRIEF_FIELDS, RECORD_FIELDS, recordOf, SCRIPT_FIELDS, timeOf } from './record-fields.ts'

/** The fields that a script may read: all but the payloads, with those of the scripts. */
export const INSPECTED_FIELDS: readonly string[] = [...BRIEF_FIELDS, ...SCRIPT_FIELDS]

const WHOLE_NUMBER = /^-?\d+$/
const NUMBERS: readonly string[] = [
  ...['priority', 'enqueuedAt', 'runAfter', 'startedAt', 'lastAttemptedAt', 'finishedAt'],
  ...['attempts', 'crashes', 'handBacks', 'leaseUntil', 'fence'],
]

export interface ReadableRecord {
  readonly evidence: RecordEvidence
  /** Of args, returnValue and errors together. */
  readonly payloadBytes: number
  /** Fields that no record has. */
  readonly otherFields: string
}

/** What inspect-records.lua found of one id. */
export type RecordAnswer =
  | { readonly id: string; readonly word: 'GONE' }
  | { readonly id: string; readonly word: 'WRONG'; readonly type: string }
  | { readonly id: string; readonly word: 'DAMAGED'; readonly damage: string; readonly otherFields: string }
  | ({ readonly id: string; readonly word: 'FOUND' } & ReadableRecord)

const FIRST_FIELD = 14

export function recordAnswerOf(keys: Keys, now: number, row: readonly string[]): RecordAnswer {
  const [word, id = ''] = row
  if (word === 'GONE') return { id, word }
  if (word === 'WRONG') return { id, word, type: row[2] ?? '' }
  const [ttl, cellScore, delayedScore, leaseScore, knowsQueue, knowsTask, usable, state] = row.slice(2)
  const [argsBytes = '0', returnBytes = '0', errorsBytes = '0', otherFields = ''] = row.slice(10, FIRST_FIELD)
  const texts = new Map([...INSPECTED_FIELDS].map((name, index) => [name, row[FIRST_FIELD + index] ?? '']))
  const record = recordOf(
    id,
    // An empty list in the place of what was only measured; of the others nothing is asked here.
    RECORD_FIELDS.map((name) => (name === 'args' ? (argsBytes === '0' ? '' : '[]') : (texts.get(name) ?? ''))),
  )
  const damage = record === undefined ? 'no field of a record' : isDamaged(record) ? record.damage : oddText(texts)
  if (!record || isDamaged(record) || damage !== undefined) {
    return { id, word: 'DAMAGED', damage: damage ?? 'no field of a record', otherFields }
  }
  const { queueName, name, status, priority } = record
  const evidence: RecordEvidence = {
    record,
    now,
    ttlMs: Number(ttl) < 0 ? null : Number(ttl),
    cellScore: scoreOf(cellScore),
    delayedScore: scoreOf(delayedScore),
    leaseScore: scoreOf(leaseScore),
    // A list of a wrong type is said of its key, once.
    isQueueKnown: knowsQueue !== '0',
    isTaskKnown: knowsTask !== '0',
    isStreamUsable: usable === '1',
    entry: state as EntryState,
    keys: {
      record: keys.record(id),
      cell: keys.cell({ queueName, name, status }),
      delayed: keys.delayed(queueName),
      leases: keys.leases,
      stream: keys.stream(queueName, bandOf(priority)),
      queues: keys.queues,
      cells: keys.cells,
    },
  }
  return { id, word: 'FOUND', evidence, otherFields, payloadBytes: sum([argsBytes, returnBytes, errorsBytes]) }
}

/** What the readers of a record let pass, and scripts do not read as they do: `0x10`, ` 5`, a name with a colon. */
function oddText(texts: ReadonlyMap<string, string>): string | undefined {
  const read = (field: string): string => texts.get(field) ?? ''
  for (const field of NUMBERS) {
    if (read(field) !== '' && !WHOLE_NUMBER.test(read(field))) return `${field} is ${shownText(read(field))}`
  }
  for (const field of ['name', 'queueName']) {
    if (!NAME_PATTERN.test(read(field))) return `${field} is ${shownText(read(field))}`
  }
  for (const [field, text] of texts) if (text.includes('\uFFFD')) return `${field} is not UTF-8`
  return undefined
}

function shownText(text: string): string {
  return JSON.stringify(text.slice(0, 60))
}

/** null: no row; undefined: the key is of another type. */
function scoreOf(text: string | undefined): number | null | undefined {
  return text === '!' ? undefined : text === undefined || text === '' ? null : Number(text)
}

function sum(texts: readonly string[]): number {
  return texts.reduce((total, text) => total + Number(text), 0)
}

/** A record as look-up.lua has it. */
function namedOf([status, queueName = '', name = '', entryId = '', runAfter, leaseUntil]: readonly string[]): Named {
  if (status === 'ABSENT') return status
  if (!isTaskStatus(status)) return 'BROKEN'
  return { status, queueName, name, entryId, runAfter: timeOf(runAfter), leaseUntil: timeOf(leaseUntil) }
}

/** A row of inspect-index.lua. */
export function indexRowOf(key: string, now: number, [id = '', score, ...record]: readonly string[]): IndexRow {
  return { id, score: Number(score), named: namedOf(record), key, now }
}

/** A row of inspect-entries.lua. */
export function entryRowOf(key: string, row: readonly string[]): EntryRow {
  const [entryId = '', id = '', isNamed, isPending, ...record] = row
  const named = namedOf(record)
  return { entryId, id, named, isNamedBack: isNamed === 'NAMED', isPending: isPending === 'PENDING', key }
}
