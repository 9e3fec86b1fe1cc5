/**
 * What keeps a backend in order, as plain functions of it: purge of old finished records, promotion, take-over of what dead
 * workers left. Runs by itself nowhere: workers call it by timer, a web process without workers before it takes a task.
 */
import { batchesOf } from './batches.ts'
import type { Logger } from './logger.ts'
import { FINAL_STATUSES } from './task-status.ts'
import type { FinalStatus } from './task-status.ts'
import { CALL_LIMITS } from './storage/storage.ts'
import type { Delivery, Storage } from './storage/storage.ts'
import { isDamaged } from './storage/stored-record.ts'
import type { FoundRecord } from './storage/stored-record.ts'
import type { ReclaimPosition, StreamQueue } from './stream-queue.ts'
import type { TaskBackend } from './task-backend.ts'

/** Records that are read at a time for listeners. */
const TOLD_AT_ONCE = 100

export interface PurgeOptions {
  /** Records that finished at least this long ago. */
  readonly finishedForMs: number
  readonly statuses?: readonly FinalStatus[]
  /** Records between two reports of progress. */
  readonly batchSize?: number
  /** Ends once so many matched: whoever waits for it waits for no more. */
  readonly limit?: number
  /** Count the same set, delete nothing. */
  readonly dryRun?: boolean
  readonly onProgress?: (progress: PurgeProgress) => void | Promise<void>
  /** Ends the purge between two steps; what was deleted stays deleted. */
  readonly signal?: AbortSignal
}

export interface PurgeProgress {
  readonly matched: number
  readonly deleted: number
}

export interface PurgeResult extends PurgeProgress {
  /** False when the limit or the signal ended it before everything was looked at. */
  readonly complete: boolean
}

/** Deletes old finished records, cell by cell from the oldest on; safe beside a second purge, and again after a stop. */
export async function purgeFinished(storage: Storage, options: PurgeOptions): Promise<PurgeResult> {
  const { finishedForMs, statuses = FINAL_STATUSES, batchSize = 1_000, limit = Infinity, dryRun = false } = options
  const { onProgress, signal } = options
  const { tasks } = await storage.catalog()
  let matched = 0
  let deleted = 0
  let reported = 0
  const ended = async (complete: boolean): Promise<PurgeResult> => {
    if (matched > reported) await onProgress?.({ matched, deleted })
    return { matched, deleted, complete }
  }
  for (const task of tasks) {
    for (const status of statuses) {
      let position = ''
      do {
        if (signal?.aborted || matched >= limit) return await ended(false)
        const step = Math.min(batchSize, CALL_LIMITS.purged, limit - matched)
        const answer = await storage.purge({ cell: { ...task, status }, finishedForMs, limit: step, position, dryRun })
        matched += answer.matched
        deleted += answer.deleted
        position = answer.next
        if (matched - reported >= batchSize) {
          reported = matched
          await onProgress?.({ matched, deleted })
        }
      } while (position !== '')
    }
  }
  return await ended(true)
}

/** Tells the listeners of a backend of records that have their end. Never rejects: their outcome is written all the same. */
export async function tellFinished(
  backend: TaskBackend,
  ids: readonly string[],
  logger: Logger = backend.logger,
): Promise<void> {
  if (!backend.hasListeners('taskFinished')) return
  for (const some of batchesOf(ids, TOLD_AT_ONCE)) {
    let found: readonly FoundRecord[]
    try {
      found = await backend.storage.find(some)
    } catch (error) {
      logger.warn({ ids: some, error }, 'finished records could not be read for their listeners')
      continue
    }
    found.forEach((record, index) => {
      if (record && !isDamaged(record)) backend.emit('taskFinished', backend.result(record))
      // Deleted or damaged since.
      else logger.warn({ id: some[index], ...record }, 'a finished record could not be read for its listeners')
    })
  }
}

/** Tells of records that became FAILED because their workers died too often: nobody ran them who could. */
export async function tellAbandoned(
  backend: TaskBackend,
  ids: readonly string[],
  logger: Logger = backend.logger,
): Promise<void> {
  if (ids.length === 0) return
  logger.error({ code: 'ERR_TASKS_ABANDONED', ids }, 'records failed: their workers died too often')
  await tellFinished(backend, ids, logger)
}

/** When a web process last looked after a backend: it must do so itself, but not with every task it takes. */
const looked = new WeakMap<TaskBackend, LastLook>()
const PROMOTE_EVERY_MS = 1_000
const RECLAIM_EVERY_MS = 60_000
const PURGE_EVERY_MS = 60_000
/** Whoever calls waits for a task and not for this; more go with the next call. */
const PURGE_AT_ONCE = 1_000

interface LastLook {
  promotedAt: number
  reclaimedAt: number
  /** Where a look for stale deliveries was cut short. */
  reclaimFrom: ReclaimPosition | null
  /** The look that is under way, if one is. */
  reclaiming: Promise<unknown>
  purgedAt: number
}

function lastLookAt(backend: TaskBackend): LastLook {
  const never = { promotedAt: -Infinity, reclaimedAt: -Infinity, purgedAt: -Infinity }
  const last = looked.get(backend) ?? { ...never, reclaimFrom: null, reclaiming: Promise.resolve() }
  looked.set(backend, last)
  return last
}

/** Promotes what is due in every queue, unless that was done a moment ago. */
export async function promoteDue(backend: TaskBackend, queue: StreamQueue, nowMs: number): Promise<void> {
  const last = lastLookAt(backend)
  if (nowMs - last.promotedAt < PROMOTE_EVERY_MS) return
  last.promotedAt = nowMs
  await queue.promote()
}

/** Removes finished records whose retention has ended, unless that was done a moment ago. */
async function purgeDue(backend: TaskBackend, nowMs: number): Promise<void> {
  const last = lastLookAt(backend)
  if (nowMs - last.purgedAt < PURGE_EVERY_MS) return
  // Before the call: one of those who ask at the same time is enough.
  last.purgedAt = nowMs
  const finishedForMs = backend.limits.completedTaskTtlSeconds * 1_000
  const { complete } = await purgeFinished(backend.storage, { finishedForMs, limit: PURGE_AT_ONCE })
  if (!complete) last.purgedAt = -Infinity
}

/**
 * Promotes, removes what has been kept for long enough, and takes over up to `count` of what dead workers left, unless that was
 * done a moment ago. All three look at every queue, whichever is asked for: that moment is one for all, and a busy queue would keep
 * the others from their turn. Of what it takes over only the named queue's attempts are kept and answered, begun; the rest is handed
 * back.
 */
export async function lookAfter(
  backend: TaskBackend,
  queue: StreamQueue,
  count: number,
  { queueName, workerId }: { queueName?: string | undefined; workerId?: string | undefined },
  nowMs: number,
): Promise<readonly Delivery[]> {
  await promoteDue(backend, queue, nowMs)
  await purgeDue(backend, nowMs)
  const last = lastLookAt(backend)
  const look = async (): Promise<readonly Delivery[]> => {
    if (nowMs - last.reclaimedAt < RECLAIM_EVERY_MS) return []
    const keepOnly = queueName === undefined ? undefined : [queueName]
    const { begun, crashed, next } = await queue.reclaim(count, { keepOnly, from: last.reclaimFrom, workerId })
    // What was cut short by `count` goes on with the next call.
    last.reclaimFrom = next
    if (next === null) last.reclaimedAt = nowMs
    await tellAbandoned(backend, crashed)
    return begun
  }
  // One after the other: each goes on where the last one ended, and what it finds is its caller's.
  const looking = last.reclaiming.then(look)
  last.reclaiming = looking
  try {
    return await looking
  } catch (error) {
    // Those who waited are told the same at once; whoever comes later begins anew.
    if (last.reclaiming === looking) last.reclaiming = Promise.resolve()
    throw error
  }
}
