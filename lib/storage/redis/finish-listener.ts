/**
 * Wakes those who wait for a record to end: one subscription for the whole backend, no polling.
 * A message only says *look again*; what became of the record is always read from the record.
 */
import type { Connection } from './connection.ts'
import type { RedisConnection } from './redis-client.ts'

type Look = () => void

export class FinishListener {
  readonly #connection: Connection
  readonly #channel: string
  readonly #waiting = new Map<string, Set<Look>>()
  #subscribed: { readonly client: RedisConnection; readonly done: Promise<unknown> } | undefined

  constructor(connection: Connection, channel: string) {
    this.#connection = connection
    this.#channel = channel
  }

  /** Calls `look` whenever the record may have ended. Resolves once messages arrive; call the answer to stop. */
  async listen(id: string, look: Look): Promise<() => void> {
    const waiting = this.#waiting.get(id) ?? new Set<Look>()
    this.#waiting.set(id, waiting.add(look))
    const stop = (): void => {
      waiting.delete(look)
      if (waiting.size === 0) this.#waiting.delete(id)
    }
    try {
      await this.#connection.send('subscribe to finished records', (client) => this.#subscribe(client))
    } catch (error) {
      stop()
      throw error
    }
    return stop
  }

  async #subscribe(client: RedisConnection): Promise<unknown> {
    if (this.#subscribed?.client === client) return await this.#subscribed.done
    client.on('message', (_channel: string, message: string) => {
      for (const id of message.split(' ')) this.#wake(id)
    })
    // Messages of the time without a connection are gone: after each reconnect everybody looks.
    client.on('ready', () => {
      for (const id of this.#waiting.keys()) this.#wake(id)
    })
    const done = client.subscribe(this.#channel)
    this.#subscribed = { client, done }
    return await done
  }

  #wake(id: string): void {
    for (const look of this.#waiting.get(id) ?? []) look()
  }
}
