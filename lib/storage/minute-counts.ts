/** What ended within a minute, by queue, outcome and time taken: as settle counts it (count-in.lua), and as charts read it. */
import type { FinalStatus } from '../task-status.ts'

export const MINUTE_MS = 60_000
/** Holds all that took longer than the buckets before it. */
export const LAST_BUCKET = 24

/** Attempts of one queue that ended within a minute, by how they ended or how long the record had waited, and by time taken. */
export interface MinuteCount {
  readonly queueName: string
  /** `wait`: from due to begun, first attempts only; else the time that the attempt ran. */
  readonly kind: FinalStatus | 'wait'
  /** Bucket b holds times below 2^b milliseconds, and of 2^(b-1) at least. */
  readonly bucket: number
  readonly count: number
}

export interface MinuteOfStats {
  /** Where the minute began, in epoch milliseconds of the storage's clock. */
  readonly from: number
  readonly counts: readonly MinuteCount[]
}

export function bucketOf(ms: number): number {
  return ms < 1 ? 0 : Math.min(LAST_BUCKET, Math.floor(Math.log2(ms)) + 1)
}

/** A field of a minute's counts, `<queueName>:<kind>:<bucket>`; undefined for one that is none. */
export function minuteCountOf(field: string, text: string): MinuteCount | undefined {
  const [queueName = '', kind = '', bucketText = ''] = field.split(':')
  const bucket = Number(bucketText)
  const count = Number(text)
  if (queueName === '' || (kind !== 'SUCCESSFUL' && kind !== 'FAILED' && kind !== 'wait')) return undefined
  if (!Number.isInteger(bucket) || bucket < 0 || bucket > LAST_BUCKET) return undefined
  if (!Number.isSafeInteger(count) || count < 0) return undefined
  return { queueName, kind, bucket, count }
}
