/**
 * Runs one delivery to its settled end: for callers that run one at a time (the executor, record.run(), a web process).
 * The worker does the same in batches. Steps: known task or hand back, hold the lease, run, settle until the answer is known.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Attempt } from './attempt.ts'
import type { Ending, LossReason } from './attempt.ts'
import { jittered, systemClock } from './clock.ts'
import {
  StorageClosedError,
  StorageUnavailableError,
  TaskCancelledError,
  TaskNotFoundError,
  TaskRecordDamagedError,
} from './errors.ts'
import type { Leases } from './lease-keeper.ts'
import type { Delivery, Lease, RenewWord, SettleWord, Storage } from './storage/storage.ts'
import type { StoredRecord } from './storage/stored-record.ts'
import type { StreamQueue } from './stream-queue.ts'
import type { TaskBackend } from './task-backend.ts'
import { taskRegistry } from './task-registry.ts'
import type { TaskResult } from './task-result.ts'

/** Between two tries of a settle whose answer never came. */
const FIRST_PAUSE_MS = 100
const LAST_PAUSE_MS = 5_000

export interface DeliveryRun {
  readonly backend: TaskBackend
  readonly queue: StreamQueue
  readonly leases: Leases
  readonly delivery: Delivery
  /** The monotonic time before the request that began it was sent. */
  readonly sentAtMs: number
}

/** The record as it is after the run; null when no task of this process has its name and it was handed back. */
export async function runDelivery({
  backend,
  queue,
  leases,
  delivery,
  sentAtMs,
}: DeliveryRun): Promise<TaskResult | null> {
  const { lease, record } = delivery
  const task = taskRegistry.find(record.name)
  if (!task) {
    const facts = { code: 'ERR_TASKS_NOT_REGISTERED', id: record.id, name: record.name }
    backend.logger.warn(facts, 'no task of that name is known here; it is handed back')
    const [word] = await queue.requeueUnknown([lease], record.name)
    if (word !== 'FAILED') return null
    const result = await resultOf(backend, record)
    backend.logFinished(result)
    backend.emit('taskFinished', result)
    return result
  }
  const attempt = new Attempt(backend, delivery, task, systemClock)
  let closing = false
  let isLost = false
  const lose = (reason: LossReason): void => {
    isLost = true
    // Once the settle is sent its answer alone counts.
    if (!closing) attempt.lose(reason)
  }
  const stopAtMs = task.timeoutMs === undefined ? Infinity : systemClock.monotonicMs() + task.timeoutMs
  leases.hold([{ lease, name: record.name, sentAtMs, stopAtMs, lose }])
  const unwatch = watchFor(backend.storage, queue, lease, () => lose(new TaskCancelledError()))
  try {
    // From here on a crash of this process counts against the record.
    if (queue.isSuspect(record)) {
      // Whether a call without an answer was carried out is unknown: left alone, the record would be charged an attempt that never began.
      const starts = async (): Promise<RenewWord | undefined> =>
        isLost ? 'LOST' : (await queue.renew([lease], { starts: true }))[0]
      const word = await untilKnown(starts)
      if (word !== 'RENEWED') return await resultOf(backend, record)
    }
    const started = backend.result(record)
    backend.logStarted(started)
    backend.emit('taskStarted', started)
    const ending = await attempt.run()
    closing = true
    const word = await finish(queue, ending)
    const result = await resultOf(backend, record)
    backend.logFinished(result)
    if (word === 'SETTLED' && result.isFinished) backend.emit('taskFinished', result)
    return result
  } finally {
    unwatch()
    leases.release([lease])
  }
}

/** Calls `cancel` when a person cancels this attempt. */
function watchFor(storage: Storage, queue: StreamQueue, lease: Lease, cancel: () => void): () => void {
  return storage.watchCancels({
    cancelled: ({ id, token }) => {
      if (id === lease.id && token === lease.token) cancel()
    },
    missed: () => {
      queue.renew([lease]).then(
        ([word]) => {
          if (word === 'CANCELLED') cancel()
        },
        // The next renewal by the keeper of leases says the same.
        () => undefined,
      )
    },
  })
}

/** The record as it is now; as it was when the attempt began where it cannot be read any more. */
async function resultOf(backend: TaskBackend, record: StoredRecord): Promise<TaskResult> {
  try {
    return await backend.getResult(record.id)
  } catch (error) {
    if (!(error instanceof TaskNotFoundError) && !(error instanceof TaskRecordDamagedError)) throw error
    backend.logger.error({ id: record.id, code: error.code, error }, 'a record cannot be read after its run')
    return backend.result(record)
  }
}

async function finish(queue: StreamQueue, ending: Ending): Promise<SettleWord | 'REQUEUED'> {
  // Whoever cancelled it has written its end.
  if ('cancelled' in ending) return 'LOST'
  if ('settle' in ending) {
    // It may be written already, and the answer says so.
    const [word = 'LOST'] = await untilKnown(() => queue.settle([ending.settle]))
    return word
  }
  await queue.requeue([ending.requeue])
  return 'REQUEUED'
}

/** The same call, which may have been carried out already, again and again while the storage is away. */
async function untilKnown<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS)) {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof StorageUnavailableError) || error instanceof StorageClosedError) throw error
      await sleep(jittered(pauseMs))
    }
  }
}
