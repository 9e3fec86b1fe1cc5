/** The record verbs of ShardedStorage: one record is asked for where it is, a list or a count is merged. */
import type {
  CancelWord,
  Cell,
  DeleteWord,
  EnqueueAnswer,
  FinishWord,
  ListPosition,
  ListRequest,
  PurgeAnswer,
  PurgeRequest,
  RecordChanges,
  RecordStorage,
  RetryWord,
  SaveWord,
  Storage,
} from '../storage.ts'
import type { Brief, FoundRecord, NewRecord } from '../stored-record.ts'
import { mergePages } from './page-merge.ts'
import { perShard, shardAt, shardOf, together } from './shards.ts'

const itself = (id: string): string => id

/** `<shard>|<position in it>`: where a walk over all shards goes on; `''` is its start and its end. */
export function positionIn(text: string): { readonly shard: number; readonly inner: string } {
  const bar = text.indexOf('|')
  return bar < 0 ? { shard: 0, inner: '' } : { shard: Number(text.slice(0, bar)), inner: text.slice(bar + 1) }
}

export function positionAt(shard: number, inner: string, count: number): string {
  return shard === count ? '' : `${shard}|${inner}`
}

export class ShardedRecords implements RecordStorage {
  readonly #shards: readonly Storage[]

  constructor(shards: readonly Storage[]) {
    this.#shards = shards
  }

  /** Atomic on each shard: with an error, some shards may have stored their part. */
  async enqueue(records: readonly NewRecord[]): Promise<readonly EnqueueAnswer[]> {
    return await perShard(
      this.#shards,
      records,
      ({ id }) => id,
      (shard, part) => shard.enqueue(part),
    )
  }

  async find(ids: readonly string[], brief?: Brief): Promise<readonly FoundRecord[]> {
    return await perShard(this.#shards, ids, itself, (shard, part) => shard.find(part, brief))
  }

  async list(request: ListRequest): Promise<readonly ListPosition[]> {
    return await mergePages(this.#shards, request)
  }

  async count(
    cells: readonly Cell[],
    bounds?: { from?: number | undefined; to?: number | undefined },
  ): Promise<readonly number[]> {
    const answers = await together(this.#shards.map((shard) => shard.count(cells, bounds)))
    return cells.map((_, index) => answers.reduce((sum, counts) => sum + (counts[index] ?? 0), 0))
  }

  async catalog(): Promise<{ queueNames: readonly string[]; tasks: readonly Omit<Cell, 'status'>[] }> {
    const catalogs = await together(this.#shards.map((shard) => shard.catalog()))
    const queueNames = new Set(catalogs.flatMap((catalog) => catalog.queueNames))
    const tasks = new Map(
      catalogs.flatMap((catalog) => catalog.tasks.map((task) => [`${task.queueName}:${task.name}`, task] as const)),
    )
    return { queueNames: [...queueNames].sort(), tasks: [...tasks.values()] }
  }

  async save(id: string, changes: RecordChanges): Promise<SaveWord> {
    return await this.#of(id).save(id, changes)
  }

  async delete(ids: readonly string[]): Promise<readonly DeleteWord[]> {
    return await perShard(this.#shards, ids, itself, (shard, part) => shard.delete(part))
  }

  async retry(ids: readonly string[], requestId: string): Promise<readonly RetryWord[]> {
    return await perShard(this.#shards, ids, itself, (shard, part) => shard.retry(part, requestId))
  }

  async cancel(ids: readonly string[], requestId: string, error: string): Promise<readonly CancelWord[]> {
    return await perShard(this.#shards, ids, itself, (shard, part) => shard.cancel(part, requestId, error))
  }

  /** From shard to shard until `limit` records matched; a call looks at `limit` members of each shard at most. */
  async purge(request: PurgeRequest): Promise<PurgeAnswer> {
    const count = this.#shards.length
    let { shard, inner } = positionIn(request.position)
    let matched = 0
    let deleted = 0
    while (shard < count && matched < request.limit) {
      const part = { ...request, limit: request.limit - matched, position: inner }
      const answer = await shardAt(this.#shards, shard).purge(part)
      matched += answer.matched
      deleted += answer.deleted
      inner = answer.next
      if (inner !== '') break
      shard += 1
    }
    return { matched, deleted, next: positionAt(shard, inner, count) }
  }

  async awaitFinished(id: string, timeoutMs: number): Promise<FinishWord> {
    return await this.#of(id).awaitFinished(id, timeoutMs)
  }

  #of(id: string): Storage {
    return shardAt(this.#shards, shardOf(id, this.#shards.length))
  }
}
