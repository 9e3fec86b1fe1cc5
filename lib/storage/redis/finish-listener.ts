/**
 * Wakes those who wait for a record to end: one subscription for each backend or shard, on one connection, no polling.
 * A message only says *look again*; what became of the record is always read from the record.
 */
import type { Connection } from './connection.ts'
import type { RedisConnection } from './redis-client.ts'

type Look = () => void

/**
 * On a cluster the driver changes the node that it listens to without a word, and what was published meanwhile is gone: there
 * everybody looks this often, too.
 */
const CLUSTER_LOOK_MS = 5_000

export class FinishListener {
  readonly #connection: Connection
  readonly #clustered: boolean
  readonly #waiting = new Map<string, Set<Look>>()
  #client: RedisConnection | undefined
  /** Of that client, by channel. */
  #subscribed = new Map<string, Promise<unknown>>()
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(connection: Connection, clustered: boolean) {
    this.#connection = connection
    this.#clustered = clustered
  }

  /** Calls `look` whenever the record may have ended. Resolves once messages arrive; call the answer to stop. */
  async listen(channel: string, id: string, look: Look): Promise<() => void> {
    const waiting = this.#waiting.get(id) ?? new Set<Look>()
    this.#waiting.set(id, waiting.add(look))
    if (this.#clustered) this.#timer ??= setInterval(() => this.#wakeAll(), CLUSTER_LOOK_MS)
    const stop = (): void => {
      waiting.delete(look)
      if (waiting.size === 0 && this.#waiting.get(id) === waiting) this.#waiting.delete(id)
      if (this.#waiting.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    try {
      await this.#connection.send('subscribe to finished records', (client) => this.#subscribe(client, channel))
    } catch (error) {
      stop()
      throw error
    }
    return stop
  }

  async #subscribe(client: RedisConnection, channel: string): Promise<unknown> {
    if (this.#client !== client) {
      this.#client = client
      this.#subscribed = new Map()
      client.on('message', (_channel: string, message: string) => {
        for (const id of message.split(' ')) this.#wake(id)
      })
      // Messages of the time without a connection are gone: after each reconnect everybody looks.
      client.on('ready', () => this.#wakeAll())
    }
    const done = this.#subscribed.get(channel) ?? client.subscribe(channel)
    this.#subscribed.set(channel, done)
    return await done
  }

  #wakeAll(): void {
    for (const id of this.#waiting.keys()) this.#wake(id)
  }

  #wake(id: string): void {
    for (const look of this.#waiting.get(id) ?? []) look()
  }
}
