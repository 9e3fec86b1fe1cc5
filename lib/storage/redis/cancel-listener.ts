/**
 * Tells those who run attempts of the ones that a person cancelled: one subscription for each backend or shard, on the
 * connection that news come by. A message may be lost, so the renewal of a lease says the same; after each gap everybody looks.
 */
import type { CancelWatcher } from '../storage.ts'
import type { RedisConnection } from './redis-client.ts'
import type { RedisLink } from './redis-link.ts'

/** On a cluster the driver changes the node that it listens to without a word: there everybody looks this often, too. */
const CLUSTER_LOOK_MS = 5_000

export class CancelListener {
  readonly #link: RedisLink
  readonly #watchers = new Set<CancelWatcher>()
  #subscribed: RedisConnection | undefined
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(link: RedisLink) {
    this.#link = link
  }

  /** Tells `watcher` from soon on, until the answer is called. The subscription is made behind its back, and kept. */
  watch(watcher: CancelWatcher): () => void {
    // The mock runs no workers, and has one process.
    if (this.#link.factory.mocked) return () => undefined
    this.#watchers.add(watcher)
    this.#subscribe()
    return () => {
      this.#watchers.delete(watcher)
      if (this.#watchers.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }

  #subscribe(): void {
    const { cancelled: channel } = this.#link.keys
    const failed = (error: unknown): void => {
      // The next one who watches tries again; until then leases are renewed all the same.
      this.#subscribed = undefined
      const message = 'cancelled attempts are noticed at the renewal of their lease only'
      if (this.#watchers.size > 0) this.#link.logger.warn({ error }, message)
    }
    let client: RedisConnection
    try {
      client = this.#link.subscriber.client
    } catch (error) {
      failed(error)
      return
    }
    if (client === this.#subscribed) return
    this.#subscribed = client
    if (client.isCluster) this.#timer ??= setInterval(() => this.#missed(), CLUSTER_LOOK_MS)
    const subscribe = (): Promise<unknown> =>
      this.#link.subscriber.send('subscribe to cancelled records', () => client.subscribe(channel))
    client.on('message', (from: string, message: string) => {
      if (from === channel) this.#hear(message.split(' '))
    })
    // What was said before, or while there was no connection, is gone.
    subscribe().then(() => {
      client.on('ready', () => void subscribe().then(() => this.#missed(), failed))
      this.#missed()
    }, failed)
    client.once('end', () => {
      if (this.#subscribed !== client) return
      this.#subscribed = undefined
      if (this.#watchers.size > 0) this.#subscribe()
    })
  }

  #hear(words: readonly string[]): void {
    for (let index = 0; index < words.length; index += 2) {
      const attempt = { id: words[index] ?? '', token: words[index + 1] ?? '' }
      for (const watcher of this.#watchers) watcher.cancelled(attempt)
    }
  }

  #missed(): void {
    for (const watcher of this.#watchers) watcher.missed()
  }
}
