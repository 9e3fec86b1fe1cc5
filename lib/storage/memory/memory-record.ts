/**
 * A record as memory storage keeps it: the public fields, open for change, and what tells a repeat from a stale call.
 * Frozen copies go out, texts come in; nothing here knows of streams or indexes.
 */
import type { Claim, Delivery } from '../storage.ts'
import { newStoredRecord } from '../stored-record.ts'
import type { Brief, NewRecord, StoredRecord } from '../stored-record.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** The one form of a record inside memory storage. */
export interface MemoryRecord extends Omit<Mutable<StoredRecord>, 'workerIds' | 'errors'> {
  workerIds: string[]
  errors: string[]
  /** The token of the attempt that ended it, until the next one begins. */
  settledToken: string
  /** The last move and the token that it ended: how a repeat is told from a stale call. */
  lastMove: `${'settle' | 'requeue' | 'unknown' | 'cancel'} ${string}` | ''
  /** The last request of a person that was carried out. */
  requestId: string
  /** The last request to cancel that was carried out. */
  cancelId: string
  /** The number of the attempt that was handed back as unknown, and when the run of such hand-backs began. */
  unknown: { readonly attempts: number; readonly since: number } | undefined
  /** At the limit of crashes: the token of an attempt that waits to run alone, or that it has started. Empty before. */
  waitToken: string
}

export function newRecord(record: NewRecord, now: number): MemoryRecord {
  // Assigned, not spread: a copy by `...` took 16 µs on Node 20, this one 0.2.
  const own = {
    workerIds: [],
    errors: [],
    settledToken: '',
    lastMove: '' as const,
    requestId: '',
    cancelId: '',
    unknown: undefined,
    waitToken: '',
  }
  return Object.assign(newStoredRecord(record, now), own)
}

/** FAILED -> READY or RUNNING by a person's wish. The token that ended it makes room for the next one. */
export function forgive(record: MemoryRecord): void {
  Object.assign(record, { finishedAt: null, crashes: 0, handBacks: 0 })
  if (record.settledToken !== '') record.lastMove = `settle ${record.settledToken}`
  record.settledToken = ''
}

/** True for a settle that is sent again. */
export function wasSettledBy({ settledToken, lastMove }: MemoryRecord, token: string): boolean {
  return settledToken === token || lastMove === `settle ${token}`
}

/** What callers get: a copy that no later move changes. */
export function storedCopy(record: MemoryRecord): StoredRecord {
  const {
    settledToken: _settledToken,
    lastMove: _lastMove,
    requestId: _requestId,
    cancelId: _cancelId,
    unknown: _unknown,
    waitToken: _waitToken,
    ...fields
  } = record
  return Object.freeze({
    ...fields,
    workerIds: Object.freeze([...record.workerIds]),
    errors: Object.freeze([...record.errors]),
  })
}

/** What a list shows of it. */
export function briefCopy(record: MemoryRecord, { argsBytes }: Brief): StoredRecord {
  const whole = storedCopy(record)
  const bytes = Buffer.byteLength(record.args)
  const args = bytes <= argsBytes ? record.args : startOf(record.args, argsBytes)
  const earlier = record.errors.slice(0, -1)
  const last = record.errors.slice(-1)
  // Every earlier error, and the sign between it and the next.
  const left = earlier.reduce((sum, error) => sum + Buffer.byteLength(error) + 1, 0)
  const omittedBytes = bytes - Buffer.byteLength(args) + left
  return Object.freeze({ ...whole, args, errors: Object.freeze(last), returnValue: null, omittedBytes })
}

/** As much of the start as fits into so many bytes. Decoding as a stream leaves half a character out. */
function startOf(text: string, bytes: number): string {
  const start = Buffer.from(text.slice(0, bytes)).subarray(0, bytes)
  return new TextDecoder().decode(start, { stream: true })
}

export function deliveryOf(record: MemoryRecord): Delivery {
  const { id, leaseToken: token, entryId } = record
  return { lease: { id, token, entryId }, record: storedCopy(record) }
}

/** The token that a call makes of the attempt that runs now: the same call sent again yields the same. */
export function tokenOf({ attempts }: MemoryRecord, { call }: Claim): string {
  return `${attempts}:${call}`
}

/** True when the record runs under a token of the holder that calls, whichever of its calls it was. */
export function isHeldBy({ leaseToken }: MemoryRecord, { call }: Claim): boolean {
  const holder = /^\d+:(.*)\.\d+$/.exec(leaseToken)?.[1]
  return holder !== undefined && holder === /^(.*)\.\d+$/.exec(call)?.[1]
}

/** An error with its time put behind the first brace: the text itself stays as the caller wrote it. */
export function errorAt(now: number, error: string, attempt?: number): string {
  const attemptText = attempt === undefined ? '' : `"attempt":${attempt},`
  return `{"at":${now},${attemptText}${error.slice(1)}`
}
