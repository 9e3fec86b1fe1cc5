/**
 * The worker verbs of ShardedStorage. Every shard keeps its own rows about a worker, so that it can judge by itself which of
 * its consumers are gone; a worker is there as long as one shard still knows it.
 */
import type { MinuteOfStats } from '../minute-counts.ts'
import type { CancelWatcher, ForgetWord, Heartbeat, SeenWorker, Storage, WorkerStorage } from '../storage.ts'
import { together } from './shards.ts'

export class ShardedWorkers implements WorkerStorage {
  readonly #shards: readonly Storage[]

  constructor(shards: readonly Storage[]) {
    this.#shards = shards
  }

  async heartbeat(heartbeat: Heartbeat): Promise<void> {
    await together(this.#shards.map((shard) => shard.heartbeat(heartbeat)))
  }

  watchCancels(watcher: CancelWatcher): () => void {
    const stops = this.#shards.map((shard) => shard.watchCancels(watcher))
    return () => {
      for (const stop of stops) stop()
    }
  }

  /** Each once, by its last heartbeat. */
  async workers(): Promise<readonly SeenWorker[]> {
    const seen = new Map<string, SeenWorker>()
    for (const workers of await together(this.#shards.map((shard) => shard.workers()))) {
      for (const worker of workers) {
        const known = seen.get(worker.consumer)
        if (!known || worker.ageMs < known.ageMs) seen.set(worker.consumer, worker)
      }
    }
    return [...seen.values()]
  }

  async forget(consumer: string): Promise<ForgetWord> {
    const words = await together(this.#shards.map((shard) => shard.forget(consumer)))
    return words.includes('KEPT') ? 'KEPT' : 'FORGOTTEN'
  }

  /** Counts workers that no shard knows any more; a consumer that never sent a heartbeat goes uncounted. */
  async sweep(maxIdleMs: number): Promise<number> {
    const before = await this.workers()
    await together(this.#shards.map((shard) => shard.sweep(maxIdleMs)))
    const left = new Set((await this.workers()).map(({ consumer }) => consumer))
    return before.filter(({ consumer }) => !left.has(consumer)).length
  }

  /** By minute; nodes whose clocks differ may be a minute apart, and then the last `minutes` count. */
  async stats(minutes: number): Promise<readonly MinuteOfStats[]> {
    const all = await together(this.#shards.map((shard) => shard.stats(minutes)))
    const byMinute = new Map<number, MinuteOfStats['counts'][number][]>()
    for (const { from, counts } of all.flat()) byMinute.set(from, [...(byMinute.get(from) ?? []), ...counts])
    return [...byMinute]
      .sort(([a], [b]) => a - b)
      .slice(-minutes)
      .map(([from, counts]) => ({ from, counts: summed(counts) }))
  }
}

function summed(counts: MinuteOfStats['counts']): MinuteOfStats['counts'] {
  const sums = new Map<string, MinuteOfStats['counts'][number]>()
  for (const each of counts) {
    const key = `${each.queueName}:${each.kind}:${each.bucket}`
    sums.set(key, { ...each, count: each.count + (sums.get(key)?.count ?? 0) })
  }
  return [...sums.values()]
}
