/**
 * What a thread does for a worker that cannot do it any more, because its event loop is blocked: settles the attempts that ran past
 * their own time limit, and hands the others back uncounted. Goes by the storage, which knows more than was told: of what one
 * take brought, the rest waits behind the task that blocks. The worker must have been ended before.
 */
import { TaskTimeoutError } from '../errors.ts'
import { encodeError } from '../json.ts'
import { NO_RETRY, retryDelayMs } from '../retry-policy.ts'
import type { Claim, Delivery, Settlement } from '../storage/storage.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import type { HandedBackMessage, Orphans, SettledItem } from './thread-messages.ts'

/** One call carries so many at most. */
const BATCH = 100
/** The most tasks that a worker has in hand. */
const MOST = 1_000

/** @returns what became of them: those settled, and how many were handed back. */
export async function handBack(
  backend: TaskBackend,
  orphans: readonly Orphans[],
): Promise<Pick<HandedBackMessage, 'count' | 'settled'>> {
  const { queueNames } = await backend.storage.catalog()
  const workers = await backend.storage.workers()
  let count = 0
  const settled: SettledItem[] = []
  for (const { workerId, overdue } of orphans) {
    const consumer = workers.find(({ fields }) => fields['workerId'] === workerId)?.consumer
    if (consumer === undefined) continue
    const claim = claimOf(backend, workerId, consumer)
    const { begun } = await backend.storage.recover({ ...claim, queueNames, count: MOST, inHand: new Set() })
    for (let start = 0; start < begun.length; start += BATCH) {
      const batch = begun.slice(start, start + BATCH)
      settled.push(
        ...(await settle(
          backend,
          batch.filter(({ lease }) => overdue.includes(lease.id)),
        )),
      )
      count += await requeue(
        backend,
        batch.filter(({ lease }) => !overdue.includes(lease.id)),
      )
    }
    await backend.storage.forget(consumer)
  }
  return { count, settled }
}

/** A call in that worker's name: its holder with a number that it never came to. */
function claimOf(backend: TaskBackend, workerId: string, consumer: string): Claim {
  const holder = consumer.slice(workerId.length + 1)
  return { consumer, workerId, call: `${holder}.${Date.now()}`, leaseMs: backend.limits.claimTimeoutSeconds * 1_000 }
}

async function requeue(backend: TaskBackend, deliveries: readonly Delivery[]): Promise<number> {
  if (deliveries.length === 0) return 0
  const words = await backend.queue.requeue(deliveries.map(({ lease }) => lease))
  return words.filter((word) => word === 'REQUEUED').length
}

/** As the worker would have settled them, had its timers run. */
async function settle(backend: TaskBackend, deliveries: readonly Delivery[]): Promise<SettledItem[]> {
  if (deliveries.length === 0) return []
  const endings = deliveries.map((delivery) => ({ delivery, ...endingOf(delivery) }))
  const words = await backend.queue.settle(endings.map(({ settlement }) => settlement))
  return endings.map(({ delivery: { record }, settlement, error }, index) => ({
    ...{ id: record.id, name: record.name, queueName: record.queueName, attempt: record.attempts },
    ...{ outcome: settlement.outcome, word: words[index] ?? 'LOST', durationMs: error.timeoutMs },
    error: { name: error.name, message: error.message },
  }))
}

function endingOf({ lease, record }: Delivery): { settlement: Settlement; error: TaskTimeoutError } {
  const task = taskRegistry.find(record.name)
  const cure = 'it blocked its event loop, so its thread was ended; do less at a time, or await in between'
  const error = new TaskTimeoutError(`an attempt of ${record.name}`, task?.timeoutMs ?? 0, cure)
  const payload = encodeError(error, { attempt: record.attempts })
  const delayMs = retryDelayMs(task?.retry ?? NO_RETRY, record.errors.length + 1, error)
  const outcome = delayMs === null ? 'FAILED' : 'READY'
  return { settlement: { lease, outcome, payload, delayMs: delayMs ?? 0 }, error }
}
