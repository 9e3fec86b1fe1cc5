/**
 * Storage over several storages: every record lives in one of them, picked by its id (shards.ts), and every verb goes to that
 * one, or to all, and merges (sharded-records.ts, sharded-deliveries.ts, sharded-workers.ts). Knows nothing of what they are.
 * A verb is atomic on each shard; with an error, some shards may have done their part, and the call may be repeated.
 */
import { silentLogger } from '../../logger.ts'
import type { Logger } from '../../logger.ts'
import { isExaminable } from '../inspection.ts'
import type { Examinable, Inspection } from '../inspection.ts'
import type {
  BlockingTakeRequest,
  Brief,
  CancelWatcher,
  Cell,
  Claim,
  HandBackDelay,
  Heartbeat,
  Lease,
  ListRequest,
  NewRecord,
  PurgeRequest,
  ReclaimRequest,
  RecordChanges,
  RecoverRequest,
  ServerFacts,
  Settlement,
  Storage,
  TakeRequest,
} from '../storage.ts'
import { ShardedDeliveries } from './sharded-deliveries.ts'
import { ShardedRecords } from './sharded-records.ts'
import { ShardedWorkers } from './sharded-workers.ts'
import { shardAt, shardOf, together } from './shards.ts'

type Answer<Verb extends keyof Storage> = ReturnType<Storage[Verb]>

export class ShardedStorage implements Storage, Examinable {
  /** In the order of their numbers. */
  readonly shards: readonly Storage[]
  readonly #records: ShardedRecords
  readonly #deliveries: ShardedDeliveries
  readonly #workers: ShardedWorkers

  constructor(shards: readonly Storage[], logger: Logger = silentLogger) {
    if (shards.length === 0) throw new RangeError('expected at least one shard, got: none')
    this.shards = Object.freeze([...shards])
    this.#records = new ShardedRecords(this.shards)
    this.#deliveries = new ShardedDeliveries(this.shards, logger)
    this.#workers = new ShardedWorkers(this.shards)
  }

  /** They are on one server or in one cluster: the first speaks for all. */
  connect(): Promise<ServerFacts> {
    return shardAt(this.shards, 0).connect()
  }

  /** One for each shard, which is told what belongs there: nobody looks for a record anywhere else. */
  inspections(): readonly Inspection[] {
    return this.shards.flatMap((shard, index) => {
      if (!isExaminable(shard)) throw new TypeError(`expected shard ${index} to be one that can be examined`)
      const isOwn = (id: string): boolean => shardOf(id, this.shards.length) === index
      return shard
        .inspections()
        .map((inspection): Inspection => ({ inspect: (request) => inspection.inspect({ ...request, isOwn }) }))
    })
  }

  async close(): Promise<void> {
    await together(this.shards.map((shard) => shard.close()))
  }

  enqueue(records: readonly NewRecord[]): Answer<'enqueue'> {
    return this.#records.enqueue(records)
  }

  find(ids: readonly string[], brief?: Brief): Answer<'find'> {
    return this.#records.find(ids, brief)
  }

  list(request: ListRequest): Answer<'list'> {
    return this.#records.list(request)
  }

  count(cells: readonly Cell[], bounds?: { from?: number | undefined; to?: number | undefined }): Answer<'count'> {
    return this.#records.count(cells, bounds)
  }

  catalog(): Answer<'catalog'> {
    return this.#records.catalog()
  }

  save(id: string, changes: RecordChanges): Answer<'save'> {
    return this.#records.save(id, changes)
  }

  delete(ids: readonly string[]): Answer<'delete'> {
    return this.#records.delete(ids)
  }

  retry(ids: readonly string[], requestId: string): Answer<'retry'> {
    return this.#records.retry(ids, requestId)
  }

  cancel(ids: readonly string[], requestId: string, error: string): Answer<'cancel'> {
    return this.#records.cancel(ids, requestId, error)
  }

  purge(request: PurgeRequest): Answer<'purge'> {
    return this.#records.purge(request)
  }

  awaitFinished(id: string, timeoutMs: number): Answer<'awaitFinished'> {
    return this.#records.awaitFinished(id, timeoutMs)
  }

  take(request: TakeRequest): Answer<'take'> {
    return this.#deliveries.take(request)
  }

  takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Answer<'takeBlocking'> {
    return this.#deliveries.takeBlocking(request, signal)
  }

  recover(request: RecoverRequest): Answer<'recover'> {
    return this.#deliveries.recover(request)
  }

  runById(claim: Claim, id: string, allowRetry: boolean): Answer<'runById'> {
    return this.#deliveries.runById(claim, id, allowRetry)
  }

  settle(items: readonly Settlement[]): Answer<'settle'> {
    return this.#deliveries.settle(items)
  }

  settleAndTake(items: readonly Settlement[], request: TakeRequest): Answer<'settleAndTake'> {
    return this.#deliveries.settleAndTake(items, request)
  }

  requeue(leases: readonly Lease[], delay: HandBackDelay): Answer<'requeue'> {
    return this.#deliveries.requeue(leases, delay)
  }

  renew(consumer: string, leaseMs: number, leases: readonly Lease[]): Answer<'renew'> {
    return this.#deliveries.renew(consumer, leaseMs, leases)
  }

  reclaim(request: ReclaimRequest): Answer<'reclaim'> {
    return this.#deliveries.reclaim(request)
  }

  promote(queueName: string): Answer<'promote'> {
    return this.#deliveries.promote(queueName)
  }

  depth(queueNames: readonly string[]): Answer<'depth'> {
    return this.#deliveries.depth(queueNames)
  }

  longestWait(queueNames: readonly string[]): Answer<'longestWait'> {
    return this.#deliveries.longestWait(queueNames)
  }

  heartbeat(heartbeat: Heartbeat): Answer<'heartbeat'> {
    return this.#workers.heartbeat(heartbeat)
  }

  watchCancels(watcher: CancelWatcher): () => void {
    return this.#workers.watchCancels(watcher)
  }

  workers(): Answer<'workers'> {
    return this.#workers.workers()
  }

  forget(consumer: string): Answer<'forget'> {
    return this.#workers.forget(consumer)
  }

  sweep(maxIdleMs: number): Answer<'sweep'> {
    return this.#workers.sweep(maxIdleMs)
  }

  stats(minutes: number): Answer<'stats'> {
    return this.#workers.stats(minutes)
  }
}
