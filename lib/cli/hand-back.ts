/**
 * What a thread does for a worker that cannot do it any more, because its event loop is blocked: settles the attempts that ran past
 * their own time limit, and hands the others back uncounted. Touches only what that worker still holds.
 */
import { TaskTimeoutError } from '../errors.ts'
import { encodeError } from '../json.ts'
import { NO_RETRY, retryDelayMs } from '../retry-policy.ts'
import { isDamaged } from '../storage/storage.ts'
import type { Lease, Settlement, StoredRecord } from '../storage/storage.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import type { HandedBackMessage, Orphans, SettledItem } from './thread-messages.ts'

/** One call carries so many at most. */
const BATCH = 100

export async function handBack(
  backend: TaskBackend,
  orphans: readonly Orphans[],
): Promise<Pick<HandedBackMessage, 'count' | 'settled'>> {
  let count = 0
  const settled: SettledItem[] = []
  for (const { workerId, ids, overdue } of orphans) {
    for (let start = 0; start < ids.length; start += BATCH) {
      const records = await held(backend, workerId, ids.slice(start, start + BATCH))
      settled.push(
        ...(await settle(
          backend,
          records.filter(({ id }) => overdue.includes(id)),
        )),
      )
      const others = records.filter(({ id }) => !overdue.includes(id)).map(leaseOf)
      const words = others.length > 0 ? await backend.queue.requeue(others) : []
      count += words.filter((word) => word === 'REQUEUED').length
    }
  }
  return { count, settled }
}

/** Those records that the worker runs still: another may have taken them over. */
async function held(backend: TaskBackend, workerId: string, ids: readonly string[]): Promise<StoredRecord[]> {
  const found = await backend.storage.find(ids)
  return found.flatMap((record) => {
    return record && !isDamaged(record) && record.status === 'RUNNING' && record.workerIds.at(-1) === workerId
      ? [record]
      : []
  })
}

function leaseOf({ id, leaseToken, entryId }: StoredRecord): Lease {
  return { id, token: leaseToken, entryId }
}

/** As the worker would have settled them, had its timers run. */
async function settle(backend: TaskBackend, records: readonly StoredRecord[]): Promise<SettledItem[]> {
  const ended = records.map((record) => ({ record, ...endingOf(record) }))
  const words = ended.length > 0 ? await backend.queue.settle(ended.map(({ settlement }) => settlement)) : []
  return ended.map(({ record, settlement, error }, index) => ({
    ...{ id: record.id, name: record.name, queueName: record.queueName, attempt: record.attempts },
    ...{ outcome: settlement.outcome, word: words[index] ?? 'LOST', durationMs: error.timeoutMs },
    error: { name: error.name, message: error.message },
  }))
}

function endingOf(record: StoredRecord): { settlement: Settlement; error: TaskTimeoutError } {
  const task = taskRegistry.find(record.name)
  const cure = 'it blocked its event loop, so its thread was ended; do less at a time, or await in between'
  const error = new TaskTimeoutError(`an attempt of ${record.name}`, task?.timeoutMs ?? 0, cure)
  const delayMs = retryDelayMs(task?.retry ?? NO_RETRY, record.errors.length + 1, error)
  const payload = encodeError(error, { attempt: record.attempts })
  const lease = leaseOf(record)
  const settlement: Settlement =
    delayMs === null ? { lease, outcome: 'FAILED', payload, delayMs: 0 } : { lease, outcome: 'READY', payload, delayMs }
  return { settlement, error }
}
