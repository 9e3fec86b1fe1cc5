/**
 * The seam between the queue and whatever keeps it: types, doc comments, and the few facts that every storage shares.
 * Three groups of verbs: records (what is stored), deliveries (what runs), workers (who is there).
 * Every verb is atomic per record, may be sent again after a lost reply, takes all times from the storage's own clock, and no more
 * at once than `CALL_LIMITS` says.
 * No type of a driver crosses this line. Rejections are `StorageUnavailableError` (outcome unknown: send the same call
 * again; as `StorageFullError` nothing was written) or `StorageDamagedError` (a key of the storage holds something else), said once
 * here for every verb.
 */
import type { FinalStatus, TaskStatus } from '../task-status.ts'
import type { MinuteOfStats } from './minute-counts.ts'
import type { Brief, FoundRecord, NewRecord, StoredRecord } from './stored-record.ts'

/** The three streams of a queue, in the order in which workers empty them. */
export const BANDS = ['high', 'normal', 'low'] as const

export type Band = (typeof BANDS)[number]

/** What a priority may be. */
export const PRIORITIES = { min: -100, max: 100 } as const

/** The stream that a priority picks. */
export function bandOf(priority: number): Band {
  return priority > 0 ? 'high' : priority < 0 ? 'low' : 'normal'
}

/** What one call takes at most: it holds up everyone else, and the stack of a script has room for some 8,000 words. */
export const CALL_LIMITS = {
  /** Records that are new, found `brief`, or taken. */
  records: 1_000,
  /** Records that are deleted, retried, cancelled or promoted; attempts that are settled, handed back or renewed. */
  moves: 100,
  /** Index rows that a purge looks at. */
  purged: 200,
  /** Queues that a take looks at. */
  queues: 20,
} as const

/** One stream of one queue. */
export interface StreamName {
  readonly queueName: string
  readonly band: Band
}

/** One index sorted set: every record of one queue, task name and status, by `enqueuedAt`. */
export interface Cell {
  readonly queueName: string
  readonly name: string
  readonly status: TaskStatus
}

/** What an enqueue did with a record: stored it, or found one with its id, which stays as it is. */
export type EnqueueAnswer = { readonly word: 'ENQUEUED'; readonly enqueuedAt: number } | { readonly word: 'EXISTS' }

// What a call did with a record, or the state that kept it from that; BROKEN: its key is no record.
export type SaveWord = 'SAVED' | 'RUNNING' | 'ABSENT' | 'BROKEN'
export type DeleteWord = 'DELETED' | 'RUNNING' | 'ABSENT' | 'BROKEN'
export type RetryWord = 'RETRIED' | TaskStatus | 'ABSENT' | 'BROKEN'
export type CancelWord = 'CANCELLED' | FinalStatus | 'ABSENT' | 'BROKEN'
export type RunWord = TaskStatus | 'ABSENT' | 'BROKEN'

/** How a wait for a record ended. */
export type FinishWord = 'FINISHED' | 'ABSENT' | 'TIMEOUT'

/** Whether a consumer was removed; one with deliveries stays. */
export type ForgetWord = 'FORGOTTEN' | 'KEPT'

/** A place in a list of records: the next page starts behind it. */
export interface ListPosition {
  readonly enqueuedAt: number
  readonly id: string
}

/** Records of some cells by `enqueuedAt`, and by id where that is equal. Bounds are inclusive, in epoch milliseconds. */
export interface ListRequest {
  readonly cells: readonly Cell[]
  readonly order: 'newest' | 'oldest'
  readonly size: number
  readonly after?: ListPosition | undefined
  readonly from?: number | undefined
  readonly to?: number | undefined
}

export interface PurgeRequest {
  readonly cell: Cell & { readonly status: FinalStatus }
  /** Only records that finished at least this long ago. */
  readonly finishedForMs: number
  /** How many members one call looks at (`CALL_LIMITS.purged`). */
  readonly limit: number
  /** `''` at first, then the `next` of the answer before. */
  readonly position: string
  readonly dryRun: boolean
}

export interface PurgeAnswer {
  readonly matched: number
  readonly deleted: number
  /** Where to go on; `''` when the cell is done. */
  readonly next: string
}

/** What a record's owner may change. A key that is absent stays as it is; `runAfter: null` means due at once. */
export interface RecordChanges {
  readonly priority?: number
  readonly runAfter?: number | null
  readonly args?: string
}

/** Who begins attempts: a consumer of the group, the worker id that the record shows, and one call of one holder. */
export interface Claim {
  /** `<workerId>.<holder>`: no two processes share one. */
  readonly consumer: string
  readonly workerId: string
  /** `<holder>.<n>`: the same call sent again yields the same token. */
  readonly call: string
  readonly leaseMs: number
}

/** The right of one worker to settle one attempt. */
export interface Lease {
  readonly id: string
  /** `<attempt>:<holder>.<n>`. */
  readonly token: string
  readonly entryId: string
}

/** An attempt that has begun: its lease, and the record as it now is. */
export interface Delivery {
  readonly lease: Lease
  readonly record: StoredRecord
}

/** What a take brought. `passed`: entries that were held by another, dropped or broken; with none begun, take again. */
export interface Taken {
  readonly begun: readonly Delivery[]
  readonly passed: number
}

export interface TakeRequest extends Claim {
  /** Looked at band by band, in this order within a band; at most `CALL_LIMITS.queues`. */
  readonly queueNames: readonly string[]
  readonly count: number
}

export interface BlockingTakeRequest extends TakeRequest {
  readonly blockMs: number
}

export interface RecoverRequest extends Claim {
  readonly queueNames: readonly string[]
  readonly count: number
  /** Ids that this process has in hand; their entries are left as they are. */
  readonly inHand: ReadonlySet<string>
}

/** What a settle needs to know of a record that runs. */
export type SettledRecord = Pick<StoredRecord, 'queueName' | 'name' | 'priority' | 'runAfter' | 'lastAttemptedAt'>

/** How an attempt ended. `payload` is JSON text: the return value, or one error as an object. */
export interface Settlement {
  readonly lease: Lease
  /** As the delivery has it: a storage is spared a look at what cannot change while the attempt runs. It looks itself without. */
  readonly record?: SettledRecord
  readonly outcome: 'SUCCESSFUL' | 'FAILED' | 'READY'
  readonly payload: string
  /** For READY (retry later): due after this long. */
  readonly delayMs: number
}

export interface SettledAndTaken {
  readonly words: readonly SettleWord[]
  readonly taken: Taken
}

export interface RenewOptions {
  /** Attempts of records whose crashes are at the limit: they waited to run alone, and start now. */
  readonly starts?: boolean
}

/** CANCELLED: a person ended the attempt; LOST: another one took it over. */
export type RenewWord = 'RENEWED' | 'CANCELLED' | 'LOST' | 'BROKEN'

/**
 * How attempts are handed back: due at once, or, where nobody here knows the task, after a delay that doubles each time. With a
 * limit the record is FAILED with `error` (a JSON object) when the first of such hand-backs, with no attempt between, lies
 * `failAfterMs` back.
 */
export type HandBackDelay = 'none' | 'growing' | { readonly failAfterMs: number; readonly error: string }

export type RequeueWord = 'REQUEUED' | 'FAILED' | 'LOST' | 'BROKEN'

export type SettleWord = 'SETTLED' | 'LOST' | 'BROKEN'

export interface ReclaimRequest extends Claim {
  readonly stream: StreamName
  /** `''` at first, then the `next` of the answer before. */
  readonly cursor: string
  readonly count: number
  readonly crashLimit: number
  /** Deliveries idle for less are left alone; a live lease always is. */
  readonly idleMs: number
  /** The error (JSON object) of a record that crashed once too often. */
  readonly crashError: string
}

export interface ReclaimAnswer extends Taken {
  /** Records that became FAILED at the crash limit. */
  readonly crashed: readonly string[]
  /** Where to go on in this stream; `''` when its pending list is done. */
  readonly next: string
}

export interface Promoted {
  readonly moved: number
  /** Until the next delayed record of the queue is due; `null` when there is none. */
  readonly dueInMs: number | null
}

export interface QueueDepth extends Readonly<Record<Band, number>> {
  readonly queueName: string
  /** Records whose time has not come, or that nobody promoted yet. */
  readonly delayed: number
}

/** A worker's heartbeat: flat text, so that any storage can keep it. */
export interface Heartbeat {
  readonly consumer: string
  readonly fields: Readonly<Record<string, string>>
}

export interface SeenWorker extends Heartbeat {
  /** How long ago the last heartbeat was. */
  readonly ageMs: number
}

/** Something about a server that may cost tasks, and its cure in brackets. Holds neither address nor password. */
export interface ServerWarning {
  /** Stable, for a filter. */
  readonly code: string
  readonly message: string
}

/** What answers, in words for a banner. Never holds a password. */
export interface ServerFacts {
  readonly kind: 'redis' | 'valkey' | 'memory' | 'mock'
  readonly version: string
  readonly address: string
  readonly warnings: readonly ServerWarning[]
}

/** Who runs attempts, and wants to know of those that a person cancels. */
export interface CancelWatcher {
  /** The attempt of that token ended: its record is FAILED. */
  cancelled(attempt: Pick<Lease, 'id' | 'token'>): void
  /** Messages may have been lost: look whether what runs is still wanted (`renew` says so). */
  missed(): void
}

export interface RecordStorage {
  /** (nothing) -> READY: record, index and entry (or delayed row) together. An id that exists stays as it is: EXISTS. */
  enqueue(records: readonly NewRecord[]): Promise<readonly EnqueueAnswer[]>
  /** Records by id, in order; `undefined` where there is none. With `brief` only what a list shows of them. */
  find(ids: readonly string[], brief?: Brief): Promise<readonly FoundRecord[]>
  /** Ids of a page, by `enqueuedAt` then id; cost grows with cells and size, not with records. */
  list(request: ListRequest): Promise<readonly ListPosition[]>
  /** The exact number of records in each cell, in order; with bounds, those enqueued between them. */
  count(
    cells: readonly Cell[],
    bounds?: { from?: number | undefined; to?: number | undefined },
  ): Promise<readonly number[]>
  /** Every queue, and every (queue, task name) that a record was ever stored under. */
  catalog(): Promise<{ readonly queueNames: readonly string[]; readonly tasks: readonly Omit<Cell, 'status'>[] }>
  /** Not RUNNING -> same state, another place if priority or due time say so. Last writer wins. */
  save(id: string, changes: RecordChanges): Promise<SaveWord>
  /** Not RUNNING -> (nothing), with index and entry. */
  delete(ids: readonly string[]): Promise<readonly DeleteWord[]>
  /** FAILED -> READY, due at once, crashes forgotten, errors kept. `requestId` makes a repeat harmless. */
  retry(ids: readonly string[], requestId: string): Promise<readonly RetryWord[]>
  /**
   * READY (delayed too), RUNNING -> FAILED, with `error` (a JSON object) as its last one. Whoever runs it is told
   * (`watchCancels`), and what it settles is LOST. `requestId` makes a repeat harmless.
   */
  cancel(ids: readonly string[], requestId: string, error: string): Promise<readonly CancelWord[]>
  /** SUCCESSFUL, FAILED -> (nothing), from the oldest of one cell on. */
  purge(request: PurgeRequest): Promise<PurgeAnswer>
  /** Resolves when the record has an outcome (FINISHED), is gone (ABSENT), or after `timeoutMs`; woken, never polling. */
  awaitFinished(id: string, timeoutMs: number): Promise<FinishWord>
}

export interface DeliveryStorage {
  /** READY -> RUNNING for up to `count` undelivered entries, high before normal before low; answers at once. */
  take(request: TakeRequest): Promise<Taken>
  /** The same, waiting up to `blockMs` for a first entry. `signal` ends the wait early; what it still brought is handed back. */
  takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Promise<Taken>
  /** READY or RUNNING -> RUNNING under a new token: what this consumer was handed but never learned of. Beyond `count`: handed back. */
  recover(request: RecoverRequest): Promise<Taken>
  /** READY (delayed too) or, with `allowRetry`, FAILED -> RUNNING by id, whatever its place in the queue. */
  runById(claim: Claim, id: string, allowRetry: boolean): Promise<Delivery | RunWord>
  /**
   * RUNNING -> SUCCESSFUL, FAILED or READY (retry later) while `lease.token` is on the record: outcome, index, lease,
   * acknowledgement and deletion of the entry. Otherwise writes nothing for it and answers LOST.
   * A repeat answers SETTLED again, also when the record has begun anew since.
   */
  settle(items: readonly Settlement[]): Promise<readonly SettleWord[]>
  /** `settle`, then `take`, in one write to the storage: a busy worker's turn. */
  settleAndTake(items: readonly Settlement[], request: TakeRequest): Promise<SettledAndTaken>
  /** RUNNING -> READY with the attempt not counted, or FAILED where `delay` has a limit. LOST as in settle. */
  requeue(leases: readonly Lease[], delay: HandBackDelay): Promise<readonly RequeueWord[]>
  /**
   * RUNNING -> RUNNING: moves the deadlines of leases whose token is still on the record. An attempt that `reclaim`
   * began at the limit of crashes counts as one only once this said that it `starts`.
   */
  renew(
    consumer: string,
    leaseMs: number,
    leases: readonly Lease[],
    options?: RenewOptions,
  ): Promise<readonly RenewWord[]>
  /** RUNNING whose lease ran out -> RUNNING under a new lease (crashes + 1), or FAILED over the limit; idle READY -> RUNNING. */
  reclaim(request: ReclaimRequest): Promise<ReclaimAnswer>
  /** READY and due -> READY with an entry, `CALL_LIMITS.moves` a call and of each shard: with so many moved, or more, call again. */
  promote(queueName: string): Promise<Promoted>
  /** Entries in each stream (delivered ones included) and delayed records of each queue, in order. */
  depth(queueNames: readonly string[]): Promise<readonly QueueDepth[]>
  /**
   * For how many milliseconds the oldest waiting record of each queue has been due, in order; `null` where none waits.
   * Looks at the head of each stream and of the delayed records; cost grows with queues, not with records.
   */
  longestWait(queueNames: readonly string[]): Promise<readonly (number | null)[]>
}

export interface WorkerStorage {
  /** Says that a consumer is alive and what it does. */
  heartbeat(heartbeat: Heartbeat): Promise<void>
  /** Tells of attempts that are cancelled from now on, by whichever process; the answer ends that. Never throws. */
  watchCancels(watcher: CancelWatcher): () => void
  /** Every worker that said so and was not forgotten. */
  workers(): Promise<readonly SeenWorker[]>
  /** Removes a consumer that ends, unless it still has deliveries. */
  forget(consumer: string): Promise<ForgetWord>
  /** Removes consumers without deliveries that were not heard of for that long; answers how many. */
  sweep(maxIdleMs: number): Promise<number>
  /** What ended in each of the last `minutes` (1..60), the running one last. */
  stats(minutes: number): Promise<readonly MinuteOfStats[]>
}

export interface Storage extends RecordStorage, DeliveryStorage, WorkerStorage {
  /**
   * Reaches the storage once and says what it is, and what about it may cost tasks.
   *
   * @throws StorageUnfitError it answers, but cannot serve: a replica, too old, or not permitting what is needed.
   */
  connect(): Promise<ServerFacts>
  /** Ends every connection this storage opened. May be called twice. */
  close(): Promise<void>
}
