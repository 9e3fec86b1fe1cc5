/**
 * What the doctor asks of a storage: walk over what you keep, judge each record at one moment, say what breaks an invariant,
 * and mend it where that was asked for. One inspection for each shard.
 * Types, and the question whether a storage has one.
 */
import type { Invariant } from './invariants.ts'
import type { Storage } from './storage.ts'

/** One broken invariant. */
export interface Finding {
  readonly invariant: Invariant
  /** Of the record, entry or consumer that it is about; empty where it is about a key as a whole. */
  readonly id: string
  /** Where it was found. */
  readonly key: string
  readonly found: string
  readonly expected: string
  /** Whether a repair can mend it. */
  readonly repairable: boolean
  /** Only with `repair`: whether it was mended. A repair judges anew, so false also says that it was gone by then. */
  readonly repaired?: boolean
}

export interface InspectionProgress {
  /** Rows looked at so far: records, and rows of indexes. */
  readonly done: number
  /** How many there were at the start. */
  readonly total: number
}

export interface InspectionRequest {
  readonly repair: boolean
  /** Ends the inspection between two batches. */
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: InspectionProgress) => void) | undefined
  /** How long finished records are kept. */
  readonly retentionMs: number
  /** The workers' intervals: how often they look for what others left, and how often they promote. */
  readonly claimIntervalMs: number
  readonly intervalMs: number
  /** Of a shard: whether a record of that id belongs there. */
  readonly isOwn?: (id: string) => boolean
  /** Consumers that sent a heartbeat and were not forgotten. */
  readonly consumers: ReadonlySet<string>
  /** Whether a worker has been there for so long that reads this queue (null: any). What nobody attends to is not overdue. */
  readonly isAttended: (queueName: string | null, forMs: number) => boolean
}

export interface InspectionTotals {
  readonly records: number
  /** All keys below the root, those of records included. */
  readonly keys: number
  readonly entries: number
  readonly delayed: number
  readonly leases: number
  /** False when a signal ended it early. */
  readonly complete: boolean
}

/** A storage that can be examined: beside the seam, as a storage need not be. */
export interface Examinable {
  /** One for each shard. */
  inspections(): readonly Inspection[]
}

export function isExaminable(storage: Storage): storage is Storage & Examinable {
  return 'inspections' in storage && typeof storage.inspections === 'function'
}

export interface Inspection {
  /**
   * Walks once over everything, in batches of bounded size. Each record is judged by one read, so it may run beside live
   * workers. Without `repair` it writes nothing.
   */
  inspect(request: InspectionRequest): AsyncGenerator<Finding, InspectionTotals, undefined>
}
