/**
 * What a thread does for a worker that cannot do it any more, because its event loop is blocked: settles the attempts that ran past
 * their own time limit, and hands the others back uncounted. Goes by the storage, which knows more than was told: of what one
 * take brought, the rest waits behind the task that blocks. The worker must have been ended before.
 */
import { failureOf } from '../attempt.ts'
import { TaskTimeoutError } from '../errors.ts'
import { NO_RETRY } from '../retry-policy.ts'
import type { Claim, Delivery, Settlement } from '../storage/storage.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import type { HandedBackMessage, Orphans, SettledItem } from './thread-messages.ts'

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
    const isOverdue = ({ lease }: Delivery): boolean => overdue.includes(lease.id)
    settled.push(...(await settle(backend, begun.filter(isOverdue))))
    const others = begun.filter((delivery) => !isOverdue(delivery))
    count += await requeue(backend, others)
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
  const endings = deliveries.map((delivery) => ({ delivery, ...endingOf(backend, delivery) }))
  const words = await backend.queue.settle(endings.map(({ settlement }) => settlement))
  return endings.map(({ delivery: { record }, settlement, error }, index) => ({
    ...{ id: record.id, name: record.name, queueName: record.queueName, attempt: record.attempts },
    ...{ outcome: settlement.outcome, word: words[index] ?? 'LOST', durationMs: error.timeoutMs },
    error: { name: error.name, message: error.message },
  }))
}

function endingOf(backend: TaskBackend, delivery: Delivery): { settlement: Settlement; error: TaskTimeoutError } {
  const { name } = delivery.record
  const task = taskRegistry.find(name)
  const cure = 'it blocked its event loop, so its thread was ended; do less at a time, or await in between'
  const error = new TaskTimeoutError(`an attempt of ${name}`, task?.timeoutMs ?? 0, cure)
  return { settlement: failureOf(delivery, task?.retryPolicy(backend.retry) ?? NO_RETRY, error), error }
}
