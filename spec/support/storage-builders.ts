/**
 * What storage specs are made of: records, claims and requests with everything filled in that a case does not care for.
 * Each claim is a new call; a case that sends a call again keeps the claim.
 */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { isDamaged } from '../../lib/storage/stored-record.ts'
import type {
  BlockingTakeRequest,
  Cell,
  Claim,
  Delivery,
  ReclaimRequest,
  RecoverRequest,
  Settlement,
  Storage,
  Taken,
  TakeRequest,
} from '../../lib/storage/storage.ts'
import type { NewRecord, StoredRecord } from '../../lib/storage/stored-record.ts'
import type { TaskStatus } from '../../lib/task-status.ts'
import { TASK_STATUSES } from '../../lib/task-status.ts'

export const QUEUE = 'mail'
export const TASK = 'send'

export function aRecord(fields: Partial<NewRecord> = {}): NewRecord {
  return { id: randomUUID(), name: TASK, queueName: QUEUE, priority: 0, runAfter: null, args: '[]', ...fields }
}

/** A batch under one task name: one call, so one `enqueuedAt`. */
export function someRecords(count: number, fields: Partial<NewRecord> = {}): NewRecord[] {
  return Array.from({ length: count }, () => aRecord(fields))
}

let calls = 0

/** A new call of a worker: `worker` names the worker, its holder and its consumer. */
export function aClaim(worker = 'first', fields: Partial<Claim> = {}): Claim {
  calls += 1
  return {
    consumer: `${worker}.holder`,
    workerId: worker,
    call: `${worker}_holder.${calls}`,
    leaseMs: 60_000,
    ...fields,
  }
}

export function aTake(worker?: string, fields: Partial<TakeRequest> = {}): TakeRequest {
  return { ...aClaim(worker), queueNames: [QUEUE], count: 1, ...fields }
}

export function aBlockingTake(worker?: string, fields: Partial<BlockingTakeRequest> = {}): BlockingTakeRequest {
  return { ...aTake(worker), blockMs: 5_000, ...fields }
}

export function aRecover(worker?: string, fields: Partial<RecoverRequest> = {}): RecoverRequest {
  return { ...aTake(worker, { count: 100 }), inHand: new Set<string>(), ...fields }
}

export function aReclaim(worker = 'reclaimer', fields: Partial<ReclaimRequest> = {}): ReclaimRequest {
  return {
    ...aClaim(worker),
    stream: { queueName: QUEUE, band: 'normal' },
    cursor: '',
    count: 100,
    crashLimit: 3,
    idleMs: 0,
    crashError: '{"name":"TaskCrashedError","message":"crashed","stack":""}',
    ...fields,
  }
}

export function success({ lease }: Delivery, payload = 'null'): Settlement {
  return { lease, outcome: 'SUCCESSFUL', payload, delayMs: 0 }
}

export function failure({ lease }: Delivery, payload = '{"name":"Error","message":"no"}'): Settlement {
  return { lease, outcome: 'FAILED', payload, delayMs: 0 }
}

export function later(
  { lease }: Delivery,
  delayMs: number,
  payload = '{"name":"Error","message":"not yet"}',
): Settlement {
  return { lease, outcome: 'READY', payload, delayMs }
}

export function cells(queueName = QUEUE, name = TASK): Cell[] {
  return TASK_STATUSES.map((status) => ({ queueName, name, status }))
}

export async function enqueueOne(storage: Storage, fields: Partial<NewRecord> = {}): Promise<string> {
  const record = aRecord(fields)
  const [answer] = await storage.enqueue([record])
  expect(answer?.word).to.equal('ENQUEUED')
  return record.id
}

/** Takes exactly one. */
export async function takeOne(storage: Storage, request: TakeRequest = aTake()): Promise<Delivery> {
  const { begun } = await storage.take({ ...request, count: 1 })
  return only(begun)
}

/** Enqueues one and takes it. The queue must be empty. */
export async function beginOne(storage: Storage, request: TakeRequest = aTake()): Promise<Delivery> {
  const id = await enqueueOne(storage, { queueName: request.queueNames[0] ?? QUEUE })
  const delivery = await takeOne(storage, request)
  expect(delivery.lease.id).to.equal(id)
  return delivery
}

export async function failOne(storage: Storage): Promise<string> {
  const delivery = await beginOne(storage)
  expect(await storage.settle([failure(delivery)])).to.deep.equal(['SETTLED'])
  return delivery.lease.id
}

/** A blocking take, sent again while it answers that it only passed something by. */
export async function takeWaiting(storage: Storage, request: BlockingTakeRequest, signal: AbortSignal): Promise<Taken> {
  for (;;) {
    const taken = await storage.takeBlocking(request, signal)
    if (taken.begun.length > 0 || taken.passed === 0 || signal.aborted) return taken
  }
}

export async function read(storage: Storage, id: string): Promise<StoredRecord> {
  const [record] = await storage.find([id])
  if (!record) throw new Error(`expected a record of id ${id}, got: none`)
  if (isDamaged(record)) throw new Error(`expected record ${id} to be readable, got: ${record.damage}`)
  return record
}

export async function statusOf(storage: Storage, id: string): Promise<TaskStatus> {
  return (await read(storage, id)).status
}

/** How many records of the one task are in each status, as the index says. */
export async function countsOf(storage: Storage, queueName = QUEUE): Promise<Record<TaskStatus, number>> {
  const counts = await storage.count(cells(queueName))
  return Object.fromEntries(TASK_STATUSES.map((status, index) => [status, counts[index] ?? 0])) as Record<
    TaskStatus,
    number
  >
}

/** Entries in the three streams of a queue, and its delayed rows. */
export async function depthOf(storage: Storage, queueName = QUEUE): Promise<{ entries: number; delayed: number }> {
  const depth = only(await storage.depth([queueName]))
  return { entries: depth.high + depth.normal + depth.low, delayed: depth.delayed }
}

/** The storage's own time, by a record of another queue. */
export async function timeOf(storage: Storage): Promise<number> {
  const [answer] = await storage.enqueue([aRecord({ queueName: 'probe', name: 'probe' })])
  if (answer?.word !== 'ENQUEUED') throw new Error('expected the probe to be new, got: an id that exists')
  return answer.enqueuedAt
}

export function only<T>(items: readonly T[]): T {
  expect(items).to.have.lengthOf(1)
  return items[0] as T
}

export function idsOf(taken: Taken): string[] {
  return taken.begun.map(({ lease }) => lease.id)
}
