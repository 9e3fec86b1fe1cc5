/**
 * Storage on Redis or Valkey. Each change is one script; the verbs say it in their words and read their answers
 * (redis-records.ts, redis-deliveries.ts, redis-workers.ts). Opens its own connections, at first use; a client that was handed
 * in is only duplicated.
 */
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
import { probeAccess } from './access-probe.ts'
import type { ServerSettings } from './redis-client.ts'
import { RedisDeliveries } from './redis-deliveries.ts'
import { RedisInspection } from './redis-inspection.ts'
import { RedisLink } from './redis-link.ts'
import type { RedisStorageOptions } from './redis-link.ts'
import { RedisRecords } from './redis-records.ts'
import { RedisWorkers } from './redis-workers.ts'
import { probeServer } from './server-probe.ts'

export type { RedisStorageOptions } from './redis-link.ts'

/** Each verb answers what `Storage` says it does; the types are taken from there. */
type Answer<Verb extends keyof Storage> = ReturnType<Storage[Verb]>

export class RedisStorage implements Storage, Examinable {
  readonly #link: RedisLink
  readonly #records: RedisRecords
  readonly #deliveries: RedisDeliveries
  readonly #workers: RedisWorkers
  /** The user may do what the scripts do: asked until it was true once. */
  #permitted = false
  /** Codes of what was said to the log. */
  readonly #warned = new Set<string>()

  /** With a link, it is one shard of several over the same connections. */
  constructor(options: RedisStorageOptions | RedisLink) {
    this.#link = options instanceof RedisLink ? options : new RedisLink(options)
    this.#records = new RedisRecords(this.#link)
    this.#deliveries = new RedisDeliveries(this.#link)
    this.#workers = new RedisWorkers(this.#link)
  }

  /** The same server for another thread; undefined when that is not possible. */
  get server(): ServerSettings | undefined {
    return this.#link.factory.settings
  }

  async connect(): Promise<ServerFacts> {
    const { factory, producer, keys, logger } = this.#link
    const { address } = factory
    if (factory.mocked) return { kind: 'mock', version: '', address, warnings: [] }
    const facts = await producer.send('answer', async (client) => {
      const answer = await probeServer(client, address)
      if (!this.#permitted) await probeAccess(client, keys)
      this.#permitted = true
      return answer
    })
    for (const { code, message } of facts.warnings) {
      // Once a storage, however often somebody asks after its health.
      if (!this.#warned.has(code)) logger.warn({ code }, message)
      this.#warned.add(code)
    }
    return facts
  }

  inspections(): readonly Inspection[] {
    return [new RedisInspection(this.#link)]
  }

  close(): Promise<void> {
    this.#link.close()
    return Promise.resolve()
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
