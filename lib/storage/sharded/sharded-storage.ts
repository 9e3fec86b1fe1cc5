/**
 * Storage over several storages: every record lives in one of them, picked by its id (shards.ts), and every verb goes to that
 * one, or to all, and merges (sharded-records.ts, sharded-deliveries.ts, sharded-workers.ts). Knows nothing of what they are.
 * A verb is atomic on each shard; with an error, some shards may have done their part, and the call may be repeated.
 */
import { silentLogger } from '../../logger.ts'
import type { Logger } from '../../logger.ts'
import { GroupedStorage } from '../grouped-storage.ts'
import { isExaminable } from '../inspection.ts'
import type { Examinable, Inspection } from '../inspection.ts'
import type { ServerFacts, Storage } from '../storage.ts'
import { ShardedDeliveries } from './sharded-deliveries.ts'
import { ShardedRecords } from './sharded-records.ts'
import { ShardedWorkers } from './sharded-workers.ts'
import { shardAt, shardOf, together } from './shards.ts'

export class ShardedStorage extends GroupedStorage implements Examinable {
  /** In the order of their numbers. */
  readonly shards: readonly Storage[]

  constructor(shards: readonly Storage[], logger: Logger = silentLogger) {
    if (shards.length === 0) throw new RangeError('expected at least one shard, got: none')
    const own = Object.freeze([...shards])
    super({
      records: new ShardedRecords(own),
      deliveries: new ShardedDeliveries(own, logger),
      workers: new ShardedWorkers(own),
    })
    this.shards = own
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
}
