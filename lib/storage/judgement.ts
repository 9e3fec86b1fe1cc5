/**
 * Judges what was read at one moment: a record with everything that belongs to it, a row of an index, an entry. Pure functions
 * for every storage; they say what is wrong, and whether a repair can mend it. Read and mended by the storages.
 */
import type { Finding, InspectionRequest } from './inspection.ts'
import type { Invariant } from './invariants.ts'
import { isFinal } from '../task-status.ts'
import type { TaskStatus } from '../task-status.ts'
import type { StoredRecord } from './stored-record.ts'

/** What stands where a record's `entryId` points: nothing, an entry that nobody read, one that was handed out, one that nobody will ever be handed. */
export type EntryState = 'NONE' | 'UNDELIVERED' | 'PENDING' | 'ACKNOWLEDGED'

/** A record and all that belongs to it, read in one step. `null` for a score: no row; `undefined`: the key holds something else. */
export interface RecordEvidence {
  readonly record: Omit<StoredRecord, 'args' | 'errors' | 'returnValue'>
  /** The storage's own clock, epoch milliseconds. */
  readonly now: number
  /** Until the record expires; null = never. */
  readonly ttlMs: number | null
  readonly cellScore: number | null | undefined
  readonly delayedScore: number | null | undefined
  readonly leaseScore: number | null | undefined
  readonly isQueueKnown: boolean
  readonly isTaskKnown: boolean
  /** False when the key of its stream holds something else. */
  readonly isStreamUsable: boolean
  readonly entry: EntryState
  /** The keys of all these, for those who read findings. */
  readonly keys: Readonly<Record<'record' | 'cell' | 'delayed' | 'leases' | 'stream' | 'queues' | 'cells', string>>
}

/** What workers do at intervals, and whether there is one that does it. */
export type Upkeep = Pick<InspectionRequest, 'retentionMs' | 'claimIntervalMs' | 'intervalMs' | 'isAttended'>

/** What is done at intervals may be late by one, by its jitter, and by a second. */
const SWEEPS = 1.25
const GRACE_MS = 1_000

type Wrong = (invariant: Invariant, key: string, found: string, expected: string, repairable?: boolean) => void

/** How late a record may stand in `delayed` because its stream cannot be written: it is tried again after so long. */
const PARKED_MS = 60_000

export function judgeRecord(evidence: RecordEvidence, upkeep: Upkeep): Finding[] {
  const findings: Finding[] = []
  const { record, keys, now } = evidence
  const { id } = record
  const wrong: Wrong = (invariant, key, found, expected, repairable = true) => {
    findings.push({ invariant, id, key, found, expected, repairable })
  }
  const { cellScore } = evidence
  if (cellScore === null) wrong('I3', keys.cell, 'no row', `a row with score ${record.enqueuedAt}`)
  else if (cellScore !== undefined && cellScore !== record.enqueuedAt) {
    wrong('I3', keys.cell, `score ${cellScore}`, `score ${record.enqueuedAt}`)
  }
  if (record.status === 'READY') judgeReady(evidence, wrong)
  else if (record.status === 'RUNNING') judgeRunning(evidence, wrong)
  else judgeFinished(evidence, wrong)
  judgeNumbers(evidence, wrong)
  judgeLifetime(evidence, upkeep.retentionMs, wrong)
  if (!evidence.isQueueKnown) wrong('I12', keys.queues, `no ${record.queueName}`, 'every queue of a record')
  if (!evidence.isTaskKnown) {
    wrong('I12', keys.cells, `no ${record.queueName}:${record.name}`, 'every queue and name of a record')
  }
  const { finishedAt } = record
  if (isFinal(record.status) && finishedAt !== null) {
    const lateMs = now - finishedAt - upkeep.retentionMs
    if (isOverdue(lateMs, 'sweep', null, upkeep)) {
      wrong('I14', keys.record, `there ${seconds(lateMs)} after its retention`, 'removed by a worker', false)
    }
  }
  return findings
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`

function judgeReady({ record, keys, entry, delayedScore }: RecordEvidence, wrong: Wrong): void {
  const { leaseToken, entryId } = record
  if (leaseToken !== '') wrong('I4', keys.record, `READY with token ${leaseToken}`, 'no token')
  // The key of the delayed ones holds something else: that is said of the key (I1), once.
  if (delayedScore === undefined) return
  const isDelayed = delayedScore !== null
  const isWaiting = entry === 'UNDELIVERED' || entry === 'PENDING'
  if (isWaiting && isDelayed) wrong('I4', keys.delayed, `a row beside entry ${entryId}`, 'one of them')
  else if (!isWaiting && entryId !== '') {
    const entryFound = entry === 'ACKNOWLEDGED' ? `acknowledged entry ${entryId}` : `no entry ${entryId}`
    wrong('I4', keys.stream, isDelayed ? `${entryFound}, a row in delayed` : entryFound, 'an entry that can be begun')
  } else if (!isWaiting && !isDelayed) wrong('I4', keys.stream, 'no entry, no row in delayed', 'one of them')
}

function judgeRunning({ record, keys, entry, leaseScore, isStreamUsable }: RecordEvidence, wrong: Wrong): void {
  if (record.leaseToken === '') wrong('I5', keys.record, 'RUNNING without a token', 'a token')
  if (record.fence < 1) wrong('I5', keys.record, 'RUNNING without a fence', 'a fence')
  if (record.leaseUntil === null) wrong('I5', keys.record, 'RUNNING without a deadline', 'leaseUntil')
  else if (leaseScore === null) wrong('I5', keys.leases, 'no row', `a row with score ${record.leaseUntil}`)
  if (!isStreamUsable) return
  if (entry === 'NONE') wrong('I5', keys.stream, `no entry ${record.entryId}`.trimEnd(), 'one entry')
  else if (entry === 'ACKNOWLEDGED') {
    wrong('I5', keys.stream, `acknowledged entry ${record.entryId}`, 'one that is pending or undelivered')
  }
}

function judgeFinished({ record, keys, entry }: RecordEvidence, wrong: Wrong): void {
  const { status, finishedAt } = record
  if (entry !== 'NONE') wrong('I6', keys.stream, `${status} with an entry`, 'no entry')
  if (finishedAt === null) wrong('I6', keys.record, `${status} without finishedAt`, 'when it finished', false)
}

function judgeNumbers({ record, keys }: RecordEvidence, wrong: Wrong): void {
  const { attempts, workerIds, crashes, enqueuedAt, startedAt, lastAttemptedAt, finishedAt } = record
  const tell = (found: string, expected: string): void => wrong('I10', keys.record, found, expected, false)
  if (attempts !== workerIds.length) {
    tell(`${attempts} attempt(s), ${workerIds.length} worker id(s)`, 'one worker id an attempt')
  }
  if (crashes > attempts) tell(`${crashes} crash(es) in ${attempts} attempt(s)`, 'no more crashes than attempts')
  const times = Object.entries({ enqueuedAt, startedAt, lastAttemptedAt, finishedAt })
  let last: [name: string, time: number] = ['enqueuedAt', enqueuedAt]
  for (const [name, time] of times) {
    if (time === null) continue
    if (time < last[1]) tell(`${name} ${time}`, `not before ${last[0]} ${last[1]}`)
    last = [name, time]
  }
}

function judgeLifetime({ record, keys, now, ttlMs }: RecordEvidence, retentionMs: number, wrong: Wrong): void {
  if (ttlMs === null) return
  const expires = `expires in ${seconds(ttlMs)}`
  if (!isFinal(record.status)) wrong('I11', keys.record, `${record.status}, ${expires}`, 'no TTL before it finished')
  else if (ttlMs < retentionMs - (now - (record.finishedAt ?? now))) {
    wrong('I11', keys.record, expires, 'kept for its retention')
  }
}

// Payloads

export interface Payloads {
  readonly id: string
  readonly key: string
  readonly status: string
  readonly attempts: number
  readonly args: string
  readonly returnValue: string
  /** One JSON object a line. */
  readonly errors: string
}

/** The payloads of a record, with status and attempts as they were then. Reads them as JSON, and never shows any of them. */
export function judgePayloads({ id, key, status, attempts, args, returnValue, errors }: Payloads): Finding[] {
  const findings: Finding[] = []
  const wrong = (invariant: Invariant, found: string, expected: string): void => {
    findings.push({ invariant, id, key, found, expected, repairable: false })
  }
  if (!Array.isArray(parsed(args))) wrong('I2', 'args that are no JSON array', 'a JSON array')
  if (returnValue !== '' && parsed(returnValue) === undefined) wrong('I2', 'a returnValue that is no JSON', 'JSON')
  if (returnValue !== '' && status !== 'SUCCESSFUL') {
    wrong('I10', `${status} with a returnValue`, 'one only when SUCCESSFUL')
  }
  const lines = errors === '' ? [] : errors.split('\n').map(parsed)
  if (lines.some((line) => typeof line !== 'object' || line === null)) {
    wrong('I2', 'errors that are not one JSON object a line', 'one object a line')
  }
  if (status !== 'FAILED') return findings
  const attempt = (lines.at(-1) as { readonly attempt?: unknown } | null | undefined)?.attempt
  if (lines.length === 0) wrong('I10', 'FAILED without an error', 'an error for its last attempt')
  else if (typeof attempt === 'number' && attempt !== attempts) {
    wrong('I10', `last error of attempt ${attempt}`, `an error for attempt ${attempts}`)
  }
  return findings
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

// Rows and entries

/** The record that an index row or an entry names, as far as that row is concerned. Times as they stand, null where not set. */
export interface NamedRecord {
  readonly status: TaskStatus
  readonly queueName: string
  readonly name: string
  readonly entryId: string
  readonly runAfter: number | null
  readonly leaseUntil: number | null
}

/** ABSENT: there is none; BROKEN: it cannot be read, which is said of the record itself. */
export type Named = NamedRecord | 'ABSENT' | 'BROKEN'

export interface IndexRow {
  readonly id: string
  readonly score: number
  readonly named: Named
  readonly key: string
  readonly now: number
}

export function judgeCellRow(
  { id, key, named }: IndexRow,
  cell: { readonly queueName: string; readonly name: string; readonly status: string },
): Finding[] {
  if (named === 'BROKEN') return []
  const finding = { invariant: 'I3', id, key, repairable: true } as const
  if (named === 'ABSENT') return [{ ...finding, found: 'a row without a record', expected: 'no row' }]
  const { queueName, name, status } = named
  if (queueName === cell.queueName && name === cell.name && status === cell.status) return []
  return [{ ...finding, found: `a record that is ${status}, of ${queueName} and ${name}`, expected: 'no row here' }]
}

export function judgeLeaseRow({ id, key, named, score, now }: IndexRow, upkeep: Upkeep): Finding[] {
  if (named === 'BROKEN') return []
  const finding = { invariant: 'I9', id, key, repairable: true } as const
  if (named === 'ABSENT') return [{ ...finding, found: 'a row without a record', expected: 'no row' }]
  const { status, leaseUntil, queueName } = named
  if (status !== 'RUNNING') return [{ ...finding, found: `a record that is ${status}`, expected: 'no row' }]
  if (leaseUntil !== null && leaseUntil !== score) {
    return [{ ...finding, found: `score ${score}`, expected: `score ${leaseUntil}` }]
  }
  const isLate = isOverdue(now - score, 'sweep', queueName, upkeep)
  return isLate ? [overdue(id, key, now - score, 'taken over by a worker')] : []
}

export function judgeDelayedRow(
  { id, key, named, score, now }: IndexRow,
  queueName: string,
  upkeep: Upkeep,
): Finding[] {
  if (named === 'BROKEN') return []
  const finding = { invariant: 'I9', id, key, repairable: true } as const
  if (named === 'ABSENT') return [{ ...finding, found: 'a row without a record', expected: 'no row' }]
  if (named.status !== 'READY') return [{ ...finding, found: `a record that is ${named.status}`, expected: 'no row' }]
  if (named.queueName !== queueName) {
    return [{ ...finding, found: `a record of queue ${named.queueName}`, expected: 'no row here' }]
  }
  // It has an entry as well, or names one that is gone: said of the record (I4).
  if (named.entryId !== '') return []
  const dueAt = named.runAfter ?? 0
  const isParked = dueAt <= now && score <= now + PARKED_MS
  if (score !== named.runAfter && !isParked) {
    return [{ ...finding, found: `score ${score}`, expected: `score ${named.runAfter ?? 'of a due record'}` }]
  }
  const isLate = isOverdue(now - score, 'promotion', queueName, upkeep)
  return isLate ? [overdue(id, key, now - score, 'promoted by a worker')] : []
}

/** Whether a worker (of that queue; null: any) should have come to it by now. What nobody attends to is not overdue. */
function isOverdue(lateMs: number, work: 'sweep' | 'promotion', queueName: string | null, upkeep: Upkeep): boolean {
  const intervalMs = work === 'sweep' ? upkeep.claimIntervalMs * SWEEPS : upkeep.intervalMs
  const graceMs = intervalMs + GRACE_MS
  return lateMs > graceMs && upkeep.isAttended(queueName, graceMs)
}

function overdue(id: string, key: string, lateMs: number, expected: string): Finding {
  return { invariant: 'I14', id, key, found: `overdue by ${seconds(lateMs)}`, expected, repairable: false }
}

export interface EntryRow {
  readonly entryId: string
  /** The record that it names; empty for an entry without one. */
  readonly id: string
  readonly named: Named
  /** Whether that record names this entry, in this stream. */
  readonly isNamedBack: boolean
  readonly isPending: boolean
  readonly key: string
}

export function judgeEntry({ entryId, id, named, isNamedBack, isPending, key }: EntryRow): Finding[] {
  if (named === 'BROKEN' || isNamedBack) return []
  const finding = { id: id || entryId, key, repairable: true }
  if (id === '') return [{ ...finding, invariant: 'I7', found: `entry ${entryId} without an id`, expected: 'no entry' }]
  if (named === 'ABSENT') {
    return [{ ...finding, invariant: 'I7', found: `entry ${entryId} without a record`, expected: 'no entry' }]
  }
  if (isPending && isFinal(named.status)) {
    const found = `pending entry ${entryId} of a record that is ${named.status}`
    return [{ ...finding, invariant: 'I8', found, expected: 'no pending row' }]
  }
  const other = named.entryId === '' ? 'names none' : `names ${named.entryId}`
  return [
    { ...finding, invariant: 'I7', found: `entry ${entryId} of a record that ${other} here`, expected: 'no entry' },
  ]
}
