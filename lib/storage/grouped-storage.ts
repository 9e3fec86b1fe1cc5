/**
 * A storage out of the seam's three groups of verbs: each verb goes to the group that has it. Decides nothing.
 * What reaches and ends the storage itself is its subclass's own.
 */
import type {
  BlockingTakeRequest,
  CancelWatcher,
  Cell,
  Claim,
  DeliveryStorage,
  HandBackDelay,
  Heartbeat,
  Lease,
  ListRequest,
  PurgeRequest,
  ReclaimRequest,
  RecordChanges,
  RecordStorage,
  RecoverRequest,
  RenewOptions,
  ServerFacts,
  Settlement,
  Storage,
  TakeRequest,
  WorkerStorage,
} from './storage.ts'
import type { Brief, NewRecord } from './stored-record.ts'

/** Each verb answers what `Storage` says it does; the types are taken from there. */
type Answer<Verb extends keyof Storage> = ReturnType<Storage[Verb]>

export interface VerbGroups {
  readonly records: RecordStorage
  readonly deliveries: DeliveryStorage
  readonly workers: WorkerStorage
}

export abstract class GroupedStorage implements Storage {
  readonly #groups: VerbGroups

  constructor(groups: VerbGroups) {
    this.#groups = groups
  }

  abstract connect(): Promise<ServerFacts>

  abstract close(): Promise<void>

  enqueue(records: readonly NewRecord[]): Answer<'enqueue'> {
    return this.#groups.records.enqueue(records)
  }

  find(ids: readonly string[], brief?: Brief): Answer<'find'> {
    return this.#groups.records.find(ids, brief)
  }

  list(request: ListRequest): Answer<'list'> {
    return this.#groups.records.list(request)
  }

  count(cells: readonly Cell[], bounds?: { from?: number | undefined; to?: number | undefined }): Answer<'count'> {
    return this.#groups.records.count(cells, bounds)
  }

  catalog(): Answer<'catalog'> {
    return this.#groups.records.catalog()
  }

  save(id: string, changes: RecordChanges): Answer<'save'> {
    return this.#groups.records.save(id, changes)
  }

  delete(ids: readonly string[]): Answer<'delete'> {
    return this.#groups.records.delete(ids)
  }

  retry(ids: readonly string[], requestId: string): Answer<'retry'> {
    return this.#groups.records.retry(ids, requestId)
  }

  cancel(ids: readonly string[], requestId: string, error: string): Answer<'cancel'> {
    return this.#groups.records.cancel(ids, requestId, error)
  }

  purge(request: PurgeRequest): Answer<'purge'> {
    return this.#groups.records.purge(request)
  }

  awaitFinished(id: string, timeoutMs: number): Answer<'awaitFinished'> {
    return this.#groups.records.awaitFinished(id, timeoutMs)
  }

  take(request: TakeRequest): Answer<'take'> {
    return this.#groups.deliveries.take(request)
  }

  takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Answer<'takeBlocking'> {
    return this.#groups.deliveries.takeBlocking(request, signal)
  }

  recover(request: RecoverRequest): Answer<'recover'> {
    return this.#groups.deliveries.recover(request)
  }

  runById(claim: Claim, id: string, allowRetry: boolean): Answer<'runById'> {
    return this.#groups.deliveries.runById(claim, id, allowRetry)
  }

  settle(items: readonly Settlement[]): Answer<'settle'> {
    return this.#groups.deliveries.settle(items)
  }

  settleAndTake(items: readonly Settlement[], request: TakeRequest): Answer<'settleAndTake'> {
    return this.#groups.deliveries.settleAndTake(items, request)
  }

  requeue(leases: readonly Lease[], delay: HandBackDelay): Answer<'requeue'> {
    return this.#groups.deliveries.requeue(leases, delay)
  }

  renew(consumer: string, leaseMs: number, leases: readonly Lease[], options?: RenewOptions): Answer<'renew'> {
    return this.#groups.deliveries.renew(consumer, leaseMs, leases, options)
  }

  reclaim(request: ReclaimRequest): Answer<'reclaim'> {
    return this.#groups.deliveries.reclaim(request)
  }

  promote(queueName: string): Answer<'promote'> {
    return this.#groups.deliveries.promote(queueName)
  }

  depth(queueNames: readonly string[]): Answer<'depth'> {
    return this.#groups.deliveries.depth(queueNames)
  }

  longestWait(queueNames: readonly string[]): Answer<'longestWait'> {
    return this.#groups.deliveries.longestWait(queueNames)
  }

  heartbeat(heartbeat: Heartbeat): Answer<'heartbeat'> {
    return this.#groups.workers.heartbeat(heartbeat)
  }

  watchCancels(watcher: CancelWatcher): () => void {
    return this.#groups.workers.watchCancels(watcher)
  }

  workers(): Answer<'workers'> {
    return this.#groups.workers.workers()
  }

  forget(consumer: string): Answer<'forget'> {
    return this.#groups.workers.forget(consumer)
  }

  sweep(maxIdleMs: number): Answer<'sweep'> {
    return this.#groups.workers.sweep(maxIdleMs)
  }

  stats(minutes: number): Answer<'stats'> {
    return this.#groups.workers.stats(minutes)
  }
}
