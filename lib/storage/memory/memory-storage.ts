/**
 * Storage in the memory of this process: the same verbs, leases, pending lists and answers as on Redis, nothing kept
 * beyond the process. Each verb is one synchronous step, run when it is called; the promise only carries its answer.
 * Grows with its records alone: counts by minute are kept for 25 hours, and a wait leaves nothing behind.
 */
import { systemClock } from '../../clock.ts'
import type { Clock } from '../../clock.ts'
import { StorageClosedError } from '../../errors.ts'
import { isFinal } from '../../task-status.ts'
import type { Examinable, Inspection } from '../inspection.ts'
import type {
  BlockingTakeRequest,
  CancelWatcher,
  Cell,
  Claim,
  HandBackDelay,
  Heartbeat,
  Lease,
  ListRequest,
  PurgeRequest,
  ReclaimRequest,
  RecordChanges,
  RecoverRequest,
  RenewOptions,
  ServerFacts,
  Settlement,
  Storage,
  TakeRequest,
  Taken,
} from '../storage.ts'
import type { Brief, NewRecord } from '../stored-record.ts'
import { DeliveryVerbs } from './delivery-verbs.ts'
import { Keyspace } from './keyspace.ts'
import { MemoryInspection } from './memory-inspection.ts'
import { longestWaits, readStats } from './queue-figures.ts'
import { reclaim } from './reclaim.ts'
import { RecordVerbs } from './record-verbs.ts'
import { Waits } from './waits.ts'
import { WorkerVerbs } from './worker-verbs.ts'

/** Each verb answers what `Storage` says it does; the types are taken from there. */
type Answer<Verb extends keyof Storage> = ReturnType<Storage[Verb]>

export class MemoryStorage implements Storage, Examinable {
  readonly #clock: Clock
  readonly #keyspace = new Keyspace()
  readonly #records = new RecordVerbs(this.#keyspace)
  readonly #deliveries = new DeliveryVerbs(this.#keyspace)
  readonly #workers = new WorkerVerbs(this.#keyspace)
  readonly #waits: Waits
  #closed = false

  constructor({ clock = systemClock }: { readonly clock?: Clock } = {}) {
    this.#clock = clock
    this.#waits = new Waits(clock)
  }

  connect(): Promise<ServerFacts> {
    return this.#step('answer', () => ({
      kind: 'memory',
      version: process.version,
      address: 'this process',
      warnings: [],
    }))
  }

  inspections(): readonly Inspection[] {
    return [new MemoryInspection(this.#keyspace, () => this.#clock.now())]
  }

  close(): Promise<void> {
    this.#closed = true
    this.#waits.close(new StorageClosedError('wait'))
    return Promise.resolve()
  }

  enqueue(records: readonly NewRecord[]): Answer<'enqueue'> {
    return this.#step('enqueue', (now) => this.#records.enqueue(records, now))
  }

  find(ids: readonly string[], brief?: Brief): Answer<'find'> {
    return this.#step('read records', () => this.#records.find(ids, brief))
  }

  list(request: ListRequest): Answer<'list'> {
    return this.#step('list records', () => this.#records.list(request))
  }

  count(cells: readonly Cell[], bounds?: { from?: number | undefined; to?: number | undefined }): Answer<'count'> {
    return this.#step('count records', () => this.#records.count(cells, bounds))
  }

  catalog(): Answer<'catalog'> {
    return this.#step('list its queues', () => this.#records.catalog())
  }

  save(id: string, changes: RecordChanges): Answer<'save'> {
    return this.#step('save a record', (now) => this.#records.save(id, changes, now))
  }

  delete(ids: readonly string[]): Answer<'delete'> {
    return this.#step('delete records', () => this.#records.delete(ids))
  }

  retry(ids: readonly string[], requestId: string): Answer<'retry'> {
    return this.#step('retry records', (now) => this.#records.retry(ids, requestId, now))
  }

  cancel(ids: readonly string[], requestId: string, error: string): Answer<'cancel'> {
    return this.#step('cancel records', (now) => this.#records.cancel(ids, requestId, error, now))
  }

  purge(request: PurgeRequest): Answer<'purge'> {
    return this.#step('purge a cell', (now) => this.#records.purge(request, now))
  }

  awaitFinished(id: string, timeoutMs: number): Answer<'awaitFinished'> {
    return this.#step('wait for a record', () => {
      const status = this.#keyspace.records.get(id)?.status
      if (status === undefined) return 'ABSENT'
      return isFinal(status) ? 'FINISHED' : this.#waits.forEnd(id, timeoutMs)
    })
  }

  take(request: TakeRequest): Answer<'take'> {
    return this.#step('take entries', (now) => this.#deliveries.take(request, now))
  }

  takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Answer<'takeBlocking'> {
    return this.#step('wait for entries', () => {
      const take = (): Taken => this.#deliveries.take(request, this.#clock.now())
      return this.#waits.forEntry(request, signal, take)
    })
  }

  recover(request: RecoverRequest): Answer<'recover'> {
    return this.#step('recover deliveries', (now) => this.#deliveries.recover(request, now))
  }

  runById(claim: Claim, id: string, allowRetry: boolean): Answer<'runById'> {
    return this.#step('begin a record', (now) => this.#deliveries.runById(claim, id, allowRetry, now))
  }

  settle(items: readonly Settlement[]): Answer<'settle'> {
    return this.#step('settle attempts', (now) => this.#deliveries.settle(items, now))
  }

  settleAndTake(items: readonly Settlement[], request: TakeRequest): Answer<'settleAndTake'> {
    return this.#step('settle and take', (now) => {
      const words = this.#deliveries.settle(items, now)
      return { words, taken: this.#deliveries.take(request, now) }
    })
  }

  requeue(leases: readonly Lease[], delay: HandBackDelay): Answer<'requeue'> {
    return this.#step('hand attempts back', (now) => this.#deliveries.requeue(leases, delay, now))
  }

  renew(consumer: string, leaseMs: number, leases: readonly Lease[], options?: RenewOptions): Answer<'renew'> {
    return this.#step('renew leases', (now) => this.#deliveries.renew({ consumer, leaseMs, ...options }, leases, now))
  }

  reclaim(request: ReclaimRequest): Answer<'reclaim'> {
    return this.#step('reclaim', (now) => reclaim(this.#keyspace, this.#deliveries, request, now))
  }

  promote(queueName: string): Answer<'promote'> {
    return this.#step('promote delayed records', (now) => this.#deliveries.promote(queueName, now))
  }

  depth(queueNames: readonly string[]): Answer<'depth'> {
    return this.#step('measure queues', () => this.#deliveries.depth(queueNames))
  }

  longestWait(queueNames: readonly string[]): Answer<'longestWait'> {
    return this.#step('find its oldest waiting records', (now) => longestWaits(this.#keyspace, queueNames, now))
  }

  heartbeat(heartbeat: Heartbeat): Answer<'heartbeat'> {
    return this.#step('keep a heartbeat', (now) => this.#workers.heartbeat(heartbeat, now))
  }

  watchCancels(watcher: CancelWatcher): () => void {
    this.#keyspace.cancelWatchers.add(watcher)
    return () => void this.#keyspace.cancelWatchers.delete(watcher)
  }

  workers(): Answer<'workers'> {
    return this.#step('list its workers', (now) => this.#workers.list(now))
  }

  forget(consumer: string): Answer<'forget'> {
    return this.#step('forget a worker', () => this.#workers.forget(consumer))
  }

  sweep(maxIdleMs: number): Answer<'sweep'> {
    return this.#step('sweep workers', (now) => this.#workers.sweep(maxIdleMs, now))
  }

  stats(minutes: number): Answer<'stats'> {
    return this.#step('read its counts', (now) => readStats(this.#keyspace, minutes, now))
  }

  /** Runs a verb at one moment, then serves those who waited for what it brought. */
  #step<T>(action: string, verb: (now: number) => T | Promise<T>): Promise<T> {
    return new Promise((resolve) => {
      if (this.#closed) throw new StorageClosedError(action)
      const answer = verb(this.#clock.now())
      this.#wake()
      resolve(answer)
    })
  }

  #wake(): void {
    const { pushed, ended } = this.#keyspace.takeNews()
    for (const queueName of pushed) this.#waits.pushed(queueName)
    for (const id of ended) this.#waits.ended(id, this.#keyspace.records.has(id) ? 'FINISHED' : 'ABSENT')
  }
}
