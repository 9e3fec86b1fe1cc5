/**
 * The delivery verbs of ShardedStorage. What has an id goes to the shard of that id; what is taken comes from all of them, in
 * turn. Within a shard high comes before normal before low; between shards no order holds.
 */
import { setMaxListeners } from 'node:events'
import { batchesOf } from '../../batches.ts'
import { systemClock } from '../../clock.ts'
import type { Logger } from '../../logger.ts'
import { CALL_LIMITS } from '../storage.ts'
import type {
  BlockingTakeRequest,
  Claim,
  Delivery,
  DeliveryStorage,
  HandBackDelay,
  Lease,
  Promoted,
  QueueDepth,
  ReclaimAnswer,
  ReclaimRequest,
  RecoverRequest,
  RenewOptions,
  RenewWord,
  RequeueWord,
  RunWord,
  SettledAndTaken,
  Settlement,
  SettleWord,
  Storage,
  Taken,
  TakeRequest,
} from '../storage.ts'
import { positionAt, positionIn } from './sharded-records.ts'
import { perShard, shardAt, shardOf, splitByShard, together } from './shards.ts'

const idOf = ({ id }: Lease): string => id
const idOfSettled = ({ lease }: Settlement): string => lease.id
/** What one shard is asked for in one step. */
interface Share {
  readonly shard: number
  readonly count: number
}

export class ShardedDeliveries implements DeliveryStorage {
  readonly #shards: readonly Storage[]
  readonly #logger: Logger
  /** The shard that is asked first; another one each time, so that none is preferred. */
  #turn: number

  constructor(shards: readonly Storage[], logger: Logger) {
    this.#shards = shards
    this.#logger = logger
    this.#turn = Math.floor(Math.random() * shards.length)
  }

  async take(request: TakeRequest): Promise<Taken> {
    return (await this.settleAndTake([], request)).taken
  }

  /** Settles on every shard that has something to settle, each with its share of the take; then asks further where room is left. */
  async settleAndTake(items: readonly Settlement[], request: TakeRequest): Promise<SettledAndTaken> {
    const order = this.#nextOrder()
    const parts = splitByShard(items, idOfSettled, this.#shards.length)
    const words: SettleWord[] = []
    const begun: Delivery[] = []
    let passed = 0
    // A shard that brought less than its share has no more; the others may.
    let open = order
    for (let first = true; first || (open.length > 0 && begun.length < request.count); first = false) {
      const shares = sharesOf(request.count - begun.length, open)
      const calls = shares.filter(({ shard, count }) => count > 0 || (first && parts.has(shard)))
      const answers = await together(
        calls.map(async ({ shard, count }) => {
          const part = first ? parts.get(shard) : undefined
          const answer = await settleAndTakeOne(shardAt(this.#shards, shard), part?.items ?? [], { ...request, count })
          part?.places.forEach((place, index) => (words[place] = answer.words[index] ?? 'LOST'))
          return await this.#own(shard, answer.taken)
        }),
      )
      answers.forEach((taken) => {
        begun.push(...taken.begun)
        passed += taken.passed
      })
      const unasked = shares.filter(({ count }) => count === 0).map(({ shard }) => shard)
      const filled = calls.filter(({ count }, index) => count > 0 && answers[index]?.begun.length === count)
      open = [...unasked, ...filled.map(({ shard }) => shard)]
    }
    return { words, taken: { begun, passed } }
  }

  /**
   * Waits on all shards at the same time. The first that brings something ends the others; what those still brought beyond
   * `count` is handed back. Rejects when one of them failed, whatever the others brought: that is in the consumer's own list.
   */
  async takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Promise<Taken> {
    const endsAtMs = systemClock.monotonicMs() + request.blockMs
    const taken = await this.#waitForAny(request, signal, endsAtMs)
    if (taken.begun.length > 0 || taken.passed === 0 || signal.aborted) return taken
    // A shard where the queue was not known yet has made it now: without another look the rest would have waited in vain.
    const blockMs = Math.max(1, Math.ceil(endsAtMs - systemClock.monotonicMs()))
    return await this.#waitForAny({ ...request, blockMs }, signal, endsAtMs)
  }

  async #waitForAny(request: BlockingTakeRequest, signal: AbortSignal, endsAtMs: number): Promise<Taken> {
    const first = new AbortController()
    const either = AbortSignal.any([signal, first.signal])
    // Every shard listens to it, and more than ten are no leak.
    setMaxListeners(0, either)
    const order = this.#nextOrder()
    const answers = await together(
      order.map(async (index) => {
        try {
          const taken = await shardAt(this.#shards, index).takeBlocking(request, either)
          // At the end of their time the others come back by themselves.
          if (taken.begun.length > 0 || taken.passed > 0 || systemClock.monotonicMs() < endsAtMs) first.abort()
          return await this.#own(index, taken)
        } catch (error) {
          first.abort()
          throw error
        }
      }),
    )
    const begun = answers.flatMap((taken) => taken.begun)
    const kept = begun.slice(0, signal.aborted ? 0 : request.count)
    const surplus = begun.slice(kept.length)
    if (surplus.length > 0) await this.requeue(surplus.map(leaseOf), 'none')
    // Handed back is there again: whoever asks has to take once more.
    return { begun: kept, passed: answers.reduce((sum, { passed }) => sum + passed, surplus.length) }
  }

  async recover(request: RecoverRequest): Promise<Taken> {
    const begun: Delivery[] = []
    let passed = 0
    for (const index of this.#shards.keys()) {
      const part = { ...request, count: request.count - begun.length }
      const taken = await this.#own(index, await shardAt(this.#shards, index).recover(part))
      begun.push(...taken.begun)
      passed += taken.passed
    }
    return { begun, passed }
  }

  async runById(claim: Claim, id: string, allowRetry: boolean): Promise<Delivery | RunWord> {
    return await shardAt(this.#shards, shardOf(id, this.#shards.length)).runById(claim, id, allowRetry)
  }

  async settle(items: readonly Settlement[]): Promise<readonly SettleWord[]> {
    return await perShard(this.#shards, items, idOfSettled, (shard, part) => shard.settle(part))
  }

  async requeue(leases: readonly Lease[], delay: HandBackDelay): Promise<readonly RequeueWord[]> {
    return await perShard(this.#shards, leases, idOf, (shard, part) => shard.requeue(part, delay))
  }

  async renew(
    consumer: string,
    leaseMs: number,
    leases: readonly Lease[],
    options?: RenewOptions,
  ): Promise<readonly RenewWord[]> {
    return await perShard(this.#shards, leases, idOf, (shard, part) => shard.renew(consumer, leaseMs, part, options))
  }

  /** From shard to shard, as far as `count` reaches; `cursor` is `<shard>|<cursor in it>`. */
  async reclaim(request: ReclaimRequest): Promise<ReclaimAnswer> {
    const shards = this.#shards.length
    let { shard, inner } = positionIn(request.cursor)
    const begun: Delivery[] = []
    const crashed: string[] = []
    let passed = 0
    do {
      const count = request.count - begun.length
      const answer = await shardAt(this.#shards, shard).reclaim({ ...request, cursor: inner, count })
      const own = await this.#own(shard, answer)
      begun.push(...own.begun)
      passed += own.passed
      crashed.push(...answer.crashed)
      // With no room left there may be more in this very place.
      if (answer.begun.length < count || count === 0) {
        inner = answer.next
        if (inner === '') shard += 1
      }
    } while (shard < shards && inner === '' && (request.count === 0 || begun.length < request.count))
    return { begun, crashed, passed, next: positionAt(shard, inner, shards) }
  }

  async promote(queueName: string): Promise<Promoted> {
    const answers = await together(this.#shards.map((shard) => shard.promote(queueName)))
    const due = answers.flatMap(({ dueInMs }) => dueInMs ?? [])
    return {
      moved: answers.reduce((sum, { moved }) => sum + moved, 0),
      dueInMs: due.length === 0 ? null : Math.min(...due),
    }
  }

  async depth(queueNames: readonly string[]): Promise<readonly QueueDepth[]> {
    const answers = await together(this.#shards.map((shard) => shard.depth(queueNames)))
    return queueNames.map((queueName, index) => {
      const sum = { high: 0, normal: 0, low: 0, delayed: 0 }
      for (const depths of answers) {
        for (const key of ['high', 'normal', 'low', 'delayed'] as const) sum[key] += depths[index]?.[key] ?? 0
      }
      return { queueName, ...sum }
    })
  }

  async longestWait(queueNames: readonly string[]): Promise<readonly (number | null)[]> {
    const answers = await together(this.#shards.map((shard) => shard.longestWait(queueNames)))
    return queueNames.map((_, index) => {
      const waits = answers.flatMap((each) => each[index] ?? [])
      return waits.length === 0 ? null : Math.max(...waits)
    })
  }

  #nextOrder(): number[] {
    const shards = [...this.#shards.keys()]
    const start = this.#turn % shards.length
    this.#turn = start + 1
    return [...shards.slice(start), ...shards.slice(0, start)]
  }

  /**
   * What a shard brought, without what belongs elsewhere: a record stored under another number of shards. No verb by id would
   * find it here, so it is handed back for workers of that number, with a growing delay.
   */
  async #own(index: number, taken: Taken): Promise<Taken> {
    const strays = taken.begun.filter(({ lease }) => shardOf(lease.id, this.#shards.length) !== index)
    if (strays.length === 0) return taken
    const facts = { code: 'ERR_TASKS_SHARDS', shard: index, shards: this.#shards.length, ids: strays.map(idOfDelivery) }
    this.#logger.error(facts, 'records of another number of shards are handed back; run workers of that number, too')
    for (const part of batchesOf(strays, CALL_LIMITS.moves)) {
      await shardAt(this.#shards, index).requeue(part.map(leaseOf), 'growing')
    }
    return { begun: taken.begun.filter((delivery) => !strays.includes(delivery)), passed: taken.passed + strays.length }
  }
}

const leaseOf = ({ lease }: Delivery): Lease => lease
const idOfDelivery = ({ lease }: Delivery): string => lease.id

/** `count` dealt out over shards, one more to the first ones where it does not divide. */
function sharesOf(count: number, shards: readonly number[]): Share[] {
  const each = Math.floor(count / shards.length)
  const more = count % shards.length
  return shards.map((shard, index) => ({ shard, count: each + (index < more ? 1 : 0) }))
}

async function settleAndTakeOne(
  shard: Storage,
  items: readonly Settlement[],
  request: TakeRequest,
): Promise<SettledAndTaken> {
  if (items.length > 0 && request.count > 0) return await shard.settleAndTake(items, request)
  if (items.length > 0) return { words: await shard.settle(items), taken: { begun: [], passed: 0 } }
  return { words: [], taken: await shard.take(request) }
}
