/**
 * StreamQueue: the streams and the consumer group of one backend, as one consumer sees them.
 * Brings what the storage's verbs leave to the caller: who the consumer is, the number of each call, which streams come
 * next. Holds no attempt: what is taken belongs to whoever took it.
 */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { batchesOf, inBatches } from './batches.ts'
import { reasonOf, TaskAbandonedError, TaskNotRegisteredError } from './errors.ts'
import { BANDS, CALL_LIMITS } from './storage/storage.ts'
import type {
  Claim,
  Delivery,
  Lease,
  QueueDepth,
  RenewOptions,
  RunWord,
  SettledAndTaken,
  Settlement,
  SettleWord,
  Storage,
  StreamName,
  Taken,
} from './storage/storage.ts'
import type { NewRecord, StoredRecord } from './storage/stored-record.ts'

/** Leases that may run out before a record becomes FAILED. */
export const MAX_CRASHES = 3
/** How long no worker may know the task of a record before it becomes FAILED: a day. */
export const UNKNOWN_TASK_TIMEOUT_SECONDS = 86_400

export interface StreamQueueOptions {
  /** Shown in `workerIds`; host, process and a random part when left out. */
  readonly workerId?: string | undefined
  /** The lease of an attempt. */
  readonly leaseMs: number
  readonly maxCrashes?: number
  readonly unknownTaskTimeoutMs?: number
}

/** How far a look for stale deliveries has come: the stream that is next, and the place in it. */
export interface ReclaimPosition {
  readonly stream: StreamName
  readonly cursor: string
}

export interface ReclaimOptions {
  readonly queueNames?: readonly string[]
  readonly keepOnly?: readonly string[] | undefined
  readonly idleMs?: number
  readonly from?: ReclaimPosition | null | undefined
  readonly workerId?: string | undefined
}

export interface Reclaimed extends Taken {
  readonly crashed: readonly string[]
  /** Where the next call goes on; null when every stream was looked through. */
  readonly next: ReclaimPosition | null
}

export class StreamQueue {
  readonly workerId: string
  /** `<workerId>.<holder>`: no other process has it. */
  readonly consumer: string
  readonly leaseMs: number
  readonly maxCrashes: number
  readonly #storage: Storage
  readonly #holder = randomBytes(9).toString('base64url')
  readonly #crashError: string
  readonly #unknownTaskTimeoutMs: number
  #calls = 0
  #turn = 0

  constructor(storage: Storage, options: StreamQueueOptions) {
    this.#storage = storage
    const host = hostname().replace(/[^A-Za-z0-9_-]/g, '-')
    this.workerId = options.workerId ?? `${host}-${process.pid}-${this.#holder.slice(0, 4)}`
    this.consumer = `${this.workerId}.${this.#holder}`
    this.leaseMs = options.leaseMs
    this.maxCrashes = options.maxCrashes ?? MAX_CRASHES
    const error = new TaskAbandonedError(this.maxCrashes)
    this.#crashError = reasonOf(error)
    this.#unknownTaskTimeoutMs = options.unknownTaskTimeoutMs ?? UNKNOWN_TASK_TIMEOUT_SECONDS * 1_000
  }

  /** Stores records and their entries, a thousand in one step. */
  async push(records: readonly NewRecord[]): ReturnType<Storage['enqueue']> {
    return await inBatches(records, CALL_LIMITS.records, (batch) => this.#storage.enqueue(batch))
  }

  /**
   * Begins up to `count` attempts, and a thousand at most, of what waits in these queues (all known ones when left out); answers
   * at once.
   *
   * @param options.workerId shown in `workerIds` instead of this queue's own; the consumer stays the same.
   */
  async take(
    count: number,
    options: { queueNames?: readonly string[]; workerId?: string | undefined } = {},
  ): Promise<Taken> {
    const queueNames = options.queueNames ?? (await this.queueNames())
    const most = Math.min(count, CALL_LIMITS.records)
    // A round of its own: with one shared by all who take at the same time, each would pass over what the others looked at.
    for (const some of this.#round(queueNames)) {
      const taken = await this.#storage.take({ ...this.#claim(options.workerId), count: most, queueNames: some })
      if (taken.begun.length > 0 || taken.passed > 0) return taken
    }
    return { begun: [], passed: 0 }
  }

  /** The same, waiting up to `blockMs` for a first one. */
  async takeBlocking(options: {
    queueNames: readonly string[]
    blockMs: number
    signal: AbortSignal
    count?: number
  }): Promise<Taken> {
    const { queueNames, blockMs, signal, count = 1 } = options
    return await this.#storage.takeBlocking({ ...this.#claim(), count, queueNames, blockMs }, signal)
  }

  /** Settles what ended, a hundred at most, and takes up to `count` more, in one write. */
  async settleAndTake(
    items: readonly Settlement[],
    count: number,
    queueNames: readonly string[],
  ): Promise<SettledAndTaken> {
    const most = Math.min(count, CALL_LIMITS.records)
    const [first = []] = this.#round(queueNames)
    const request = { ...this.#claim(), count: most, queueNames: first }
    const answer = await this.#storage.settleAndTake(items, request)
    const { begun, passed } = answer.taken
    if (begun.length > 0 || passed > 0 || queueNames.length <= CALL_LIMITS.queues) return answer
    return { words: answer.words, taken: await this.take(count, { queueNames }) }
  }

  async settle(items: readonly Settlement[]): Promise<readonly SettleWord[]> {
    return await inBatches(items, CALL_LIMITS.moves, (batch) => this.#storage.settle(batch))
  }

  /** Hands attempts back uncounted, due at once. */
  async requeue(leases: readonly Lease[]): ReturnType<Storage['requeue']> {
    return await inBatches(leases, CALL_LIMITS.moves, (batch) => this.#storage.requeue(batch, 'none'))
  }

  /**
   * Hands attempts of a task back that nobody here knows: uncounted, with a growing delay. FAILED is answered for a record whose
   * task was known to nobody for `unknownTaskTimeoutSeconds`; its error is TaskNotRegisteredError.
   */
  async requeueUnknown(leases: readonly Lease[], taskName: string): ReturnType<Storage['requeue']> {
    const failAfterMs = this.#unknownTaskTimeoutMs
    const cure = `no worker knew it for ${failAfterMs / 1_000} s; import its module in a worker, then retry the record`
    const delay = { failAfterMs, error: reasonOf(new TaskNotRegisteredError(taskName, cure)) }
    return await inBatches(leases, CALL_LIMITS.moves, (batch) => this.#storage.requeue(batch, delay))
  }

  /** Its crashes are at the limit: `reclaim` began it to run alone, and charges it another only once `renew` said that it starts. */
  isSuspect({ crashes }: Pick<StoredRecord, 'crashes'>): boolean {
    return crashes > 0 && crashes >= this.maxCrashes
  }

  async renew(leases: readonly Lease[], options?: RenewOptions): ReturnType<Storage['renew']> {
    const renew = (batch: readonly Lease[]): ReturnType<Storage['renew']> =>
      this.#storage.renew(this.consumer, this.leaseMs, batch, options)
    return await inBatches(leases, CALL_LIMITS.moves, renew)
  }

  /** What this consumer was handed and never learned of; beyond `count` it goes back. */
  async recover(count: number, inHand: ReadonlySet<string>, queueNames: readonly string[]): Promise<Taken> {
    return await this.#storage.recover({ ...this.#claim(), count, inHand, queueNames })
  }

  async runById(id: string, allowRetry: boolean, workerId?: string): Promise<Delivery | RunWord> {
    return await this.#storage.runById(this.#claim(workerId), id, allowRetry)
  }

  /**
   * Takes over up to `count` attempts whose worker died.
   *
   * @param options.queueNames whose streams are looked through; all known ones when left out.
   * @param options.keepOnly of which queues attempts are kept, all that are found when left out; those of others are handed back
   *   at once, for those who serve them.
   * @param options.idleMs deliveries idle for less are left alone; the lease when left out.
   * @param options.from `next` of the answer before; begins with the first stream when left out, or when that one is not looked
   *   through any more.
   * @param options.workerId as in `take`.
   */
  async reclaim(count: number, options: ReclaimOptions = {}): Promise<Reclaimed> {
    const queueNames = options.queueNames ?? (await this.queueNames())
    const { keepOnly, from } = options
    const streams: StreamName[] = BANDS.flatMap((band) => queueNames.map((queueName) => ({ queueName, band })))
    const at = streams.findIndex(
      ({ queueName, band }) => queueName === from?.stream.queueName && band === from.stream.band,
    )
    let cursor = at === -1 ? '' : (from?.cursor ?? '')
    const begun: Delivery[] = []
    const crashed: string[] = []
    let passed = 0
    for (const stream of streams.slice(Math.max(0, at))) {
      for (;;) {
        const room = count - begun.length
        const answer = await this.#storage.reclaim({
          ...this.#claim(options.workerId),
          ...{ stream, cursor, count: room },
          crashLimit: this.maxCrashes,
          idleMs: options.idleMs ?? this.leaseMs,
          crashError: this.#crashError,
        })
        const mine = answer.begun.filter(({ record }) => keepOnly?.includes(record.queueName) ?? true)
        const others = answer.begun.filter((delivery) => !mine.includes(delivery))
        if (others.length > 0) await this.requeue(others.map(({ lease }) => lease))
        begun.push(...mine)
        crashed.push(...answer.crashed)
        passed += answer.passed
        // There may be more in this very place: it is looked at again.
        if (begun.length >= count) return { begun, crashed, passed, next: { stream, cursor } }
        if (answer.begun.length === room) continue
        cursor = answer.next
        if (cursor === '') break
      }
    }
    return { begun, crashed, passed, next: null }
  }

  /** Gives due delayed records of these queues their entries. */
  async promote(queueNames?: readonly string[]): Promise<{ moved: number; dueInMs: number | null }> {
    let moved = 0
    let dueInMs: number | null = null
    const names = queueNames ?? (await this.queueNames())
    const promote = async (queueName: string): Promise<void> => {
      for (;;) {
        const answer = await this.#storage.promote(queueName)
        moved += answer.moved
        if (answer.moved >= CALL_LIMITS.moves) continue
        if (answer.dueInMs !== null) dueInMs = Math.min(dueInMs ?? Infinity, answer.dueInMs)
        return
      }
    }
    await Promise.all(names.map(promote))
    return { moved, dueInMs }
  }

  /** How many entries (delivered ones included) and delayed records each queue holds; a due one is delayed until promoted. */
  async depth(queueNames?: readonly string[]): Promise<readonly QueueDepth[]> {
    return await this.#storage.depth(queueNames ?? (await this.queueNames()))
  }

  async queueNames(): Promise<readonly string[]> {
    return (await this.#storage.catalog()).queueNames
  }

  /** Says that this consumer ends. */
  async forget(): ReturnType<Storage['forget']> {
    return await this.#storage.forget(this.consumer)
  }

  /** Whether that is the token of an attempt that was begun for this consumer. */
  isOwn(token: string): boolean {
    return token.slice(token.indexOf(':') + 1).startsWith(`${this.#holder}.`)
  }

  /** A new claim, with a call number of its own. */
  #claim(workerId = this.workerId): Claim {
    this.#calls += 1
    return {
      consumer: this.consumer,
      workerId,
      call: `${this.#holder}.${this.#calls}`,
      leaseMs: this.leaseMs,
    }
  }

  /** All of them, in parts that one take may look at; each round begins further on, so that none is always last. */
  #round(queueNames: readonly string[]): readonly (readonly string[])[] {
    if (queueNames.length <= CALL_LIMITS.queues) return queueNames.length === 0 ? [] : [queueNames]
    const start = this.#turn % queueNames.length
    this.#turn = start + CALL_LIMITS.queues
    return [...batchesOf([...queueNames.slice(start), ...queueNames.slice(0, start)], CALL_LIMITS.queues)]
  }
}
