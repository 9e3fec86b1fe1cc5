/** The worker verbs of RedisStorage: heartbeats, consumers that ended, and the counts of the last minutes. */
import type { MinuteOfStats } from '../minute-counts.ts'
import type { CancelWatcher, ForgetWord, Heartbeat, SeenWorker, WorkerStorage } from '../storage.ts'
import { textsOf } from './pipeline.ts'
import { readStats, timeBeside } from './queue-figures.ts'
import type { RedisLink } from './redis-link.ts'

export class RedisWorkers implements WorkerStorage {
  readonly #link: RedisLink

  constructor(link: RedisLink) {
    this.#link = link
  }

  async heartbeat({ consumer, fields }: Heartbeat): Promise<void> {
    await this.#link.deliver({ name: 'heartbeat', args: [consumer, ...Object.entries(fields).flat()] })
  }

  watchCancels(watcher: CancelWatcher): () => void {
    // The mock runs no workers, and has one process.
    return this.#link.factory.mocked ? () => undefined : this.#link.cancelled.watch(watcher)
  }

  async workers(): Promise<readonly SeenWorker[]> {
    const { workers } = this.#link.keys
    const [rows, nowMs] = await this.#link.producer.send('list its workers', (client) =>
      Promise.all([client.zrange(workers, '0', '-1', 'WITHSCORES'), timeBeside(client, workers)]),
    )
    const consumers = rows.filter((_, index) => index % 2 === 0)
    const hashes = await this.#link.pipeline('read its workers', (pipeline) => {
      for (const consumer of consumers) pipeline.hgetall(this.#link.keys.worker(consumer))
    })
    return consumers.map((consumer, index) => ({
      consumer,
      ageMs: Math.max(0, Math.round(nowMs - Number(rows[index * 2 + 1]))),
      fields: textsOf(hashes[index]),
    }))
  }

  async forget(consumer: string): Promise<ForgetWord> {
    return (await this.#link.deliver({ name: 'forget-worker', args: [consumer, ''] })) as ForgetWord
  }

  async sweep(maxIdleMs: number): Promise<number> {
    this.#link.needGroups()
    const queueNames = await this.#link.producer.send('list its queues', (client) =>
      client.smembers(this.#link.keys.queues),
    )
    const workers = await this.workers()
    const alive = new Set(workers.filter(({ ageMs }) => ageMs < maxIdleMs).map(({ consumer }) => consumer))
    const candidates = new Set(workers.map(({ consumer }) => consumer).filter((consumer) => !alive.has(consumer)))
    const replies = await this.#link.pipeline('list consumers', (pipeline) => {
      for (const stream of this.#link.streams(queueNames)) pipeline.xinfo('CONSUMERS', stream, this.#link.group)
    })
    for (const reply of replies) {
      // A stream without its group has no consumers to sweep.
      for (const row of (reply ?? []) as unknown[]) {
        const consumer = textsOf(row)
        const name = consumer['name'] ?? ''
        if (Number(consumer['pending']) === 0 && Number(consumer['idle']) >= maxIdleMs && !alive.has(name)) {
          candidates.add(name)
        }
      }
    }
    let forgotten = 0
    for (const consumer of candidates) {
      const word = await this.#link.deliver({ name: 'forget-worker', args: [consumer, String(maxIdleMs)] })
      if (word === 'FORGOTTEN') forgotten += 1
    }
    return forgotten
  }

  async stats(minutes: number): Promise<readonly MinuteOfStats[]> {
    return await this.#link.producer.send('read its counts', (client) => readStats(client, this.#link.keys, minutes))
  }
}
