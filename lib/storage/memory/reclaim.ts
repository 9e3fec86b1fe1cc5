/**
 * Reclaim on memory: what a dead worker left, found from both sides as on Redis. The lease side takes the first 100
 * leases that ran out, and of these the stream's own; the idle side looks at one page of one stream's pending list.
 * A live lease is never touched, however long its delivery has been idle.
 */
import { bandOf } from '../storage.ts'
import type { Delivery, ReclaimAnswer, ReclaimRequest } from '../storage.ts'
import type { DeliveryVerbs } from './delivery-verbs.ts'
import type { Keyspace } from './keyspace.ts'
import { deliveryOf, errorAt, type MemoryRecord } from './memory-record.ts'

const LEASES_PER_CALL = 100
const PAGE_SIZE = 100

export function reclaim(
  keyspace: Keyspace,
  deliveries: DeliveryVerbs,
  request: ReclaimRequest,
  now: number,
): ReclaimAnswer {
  const begun: Delivery[] = []
  const crashed: string[] = []
  let passed = 0

  function begin(record: MemoryRecord): void {
    keyspace.streamOf(record).claim(record.entryId, request.consumer, now)
    keyspace.startAttempt(record, request, now)
    begun.push(deliveryOf(record))
  }

  /** An attempt whose lease ran out: over the limit it ends here, else it begins anew if there is room. */
  function takeOver(record: MemoryRecord): void {
    const isAtLimit = record.crashes >= request.crashLimit
    // It still waited to run alone, and was not there to crash.
    const waited = isAtLimit && record.waitToken === record.leaseToken
    if (isAtLimit && !waited) {
      record.crashes += 1
      record.errors.push(errorAt(now, request.crashError, record.attempts))
      keyspace.finish(record, 'FAILED', null, now)
      crashed.push(record.id)
    } else if (begun.length < request.count) {
      if (waited) {
        record.attempts -= 1
        record.workerIds.pop()
      } else {
        record.crashes += 1
      }
      if (record.crashes >= request.crashLimit) record.waitToken = 'at the limit'
      begin(record)
    }
  }

  for (const { member } of keyspace.leases.range({ to: now, limit: LEASES_PER_CALL })) {
    const record = keyspace.records.get(member)
    // Those of other streams wait for their own call: a worker of some queues begins nothing of the others.
    if (record?.queueName === request.stream.queueName && bandOf(record.priority) === request.stream.band)
      takeOver(record)
  }

  const stream = keyspace.stream(request.stream.queueName, request.stream.band)
  const page = stream?.pending(request.cursor, PAGE_SIZE)
  for (const row of page?.rows ?? []) {
    if (!stream || now - row.deliveredAt < request.idleMs) continue
    const record = deliveries.ownerOf(stream, row)
    if (!record) passed += 1
    else if (record.status === 'READY' && begun.length < request.count) begin(record)
    else if (record.status === 'RUNNING' && (record.leaseUntil ?? 0) <= now) takeOver(record)
  }
  return { begun, crashed, passed, next: page?.next ?? '' }
}
