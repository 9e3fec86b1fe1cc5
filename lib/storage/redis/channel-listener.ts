/**
 * Messages of channels, on the one connection of a backend that only listens. Subscribes when somebody wants to hear, again on
 * every new connection, and again where a subscription was refused. A connection that only listens would never notice that the
 * other side is gone, so it is asked, and made anew when it does not answer. Means nothing by any message.
 */
import type { Connection } from './connection.ts'
import type { RedisConnection } from './redis-client.ts'

/** Between two questions to a connection. On a cluster the driver changes the node it listens to without a word: there, between two looks. */
const ASK_EVERY_MS = 5_000
/** A server that answers nothing for so long is gone, as far as we can tell. */
const ANSWER_WITHIN_MS = 2_000

export interface ChannelEar {
  heard(message: string): void
  /** Messages may have been lost: look for yourself. */
  missed(): void
  /** Nothing can be heard for now; it is tried again. */
  failed(error: unknown): void
}

interface Subscription {
  readonly made: Promise<unknown>
  isMade: boolean
}

export class ChannelListener {
  readonly #connection: Connection
  /** False where nothing can be asked: a cluster, which has no connection of its own to listen on, or a mock. */
  readonly #canAsk: boolean
  readonly #ears = new Map<string, Set<ChannelEar>>()
  #client: RedisConnection | undefined
  /** Of that client, by channel. */
  #subscriptions = new Map<string, Subscription>()
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(connection: Connection, canAsk: boolean) {
    this.#connection = connection
    this.#canAsk = canAsk
  }

  /** Tells `ear` from soon on, until the answer is called. */
  listen(channel: string, ear: ChannelEar): () => void {
    const ears = this.#ears.get(channel) ?? new Set<ChannelEar>()
    this.#ears.set(channel, ears.add(ear))
    this.#timer ??= setInterval(() => this.#look(), ASK_EVERY_MS)
    return () => {
      ears.delete(ear)
      if (ears.size === 0 && this.#ears.get(channel) === ears) this.#ears.delete(channel)
      if (this.#ears.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }

  /** Resolves once messages of that channel arrive: to true when they did not before. Rejects when this try was refused. */
  async subscribed(channel: string): Promise<boolean> {
    return await this.#connection.send('subscribe to its news', async (client) => {
      if (this.#client !== client) this.#use(client)
      const known = this.#subscriptions.get(channel)
      await (known ?? this.#make(client, channel)).made
      return !known
    })
  }

  /** Nobody is told anything any more. */
  close(): void {
    this.#ears.clear()
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #make(client: RedisConnection, channel: string): Subscription {
    const all = this.#subscriptions
    const subscription: Subscription = { made: client.subscribe(channel), isMade: false }
    all.set(channel, subscription)
    subscription.made.then(
      () => (subscription.isMade = true),
      () => {
        // A refusal is not for ever.
        if (all.get(channel) === subscription) all.delete(channel)
      },
    )
    return subscription
  }

  #use(client: RedisConnection): void {
    this.#client = client
    this.#subscriptions = new Map()
    client.on('message', (channel: string, message: string) => {
      for (const ear of this.#ears.get(channel) ?? []) ear.heard(message)
    })
    // What was said while there was no connection is gone.
    client.on('ready', () => {
      if (this.#client === client) this.#again()
    })
    client.once('end', () => {
      if (this.#client === client) this.#renew()
    })
  }

  /** Subscribes anew to all that somebody wants to hear. What was asked for and not answered yet is sent again by the driver. */
  #again(): void {
    for (const [channel, { isMade }] of this.#subscriptions) if (isMade) this.#subscriptions.delete(channel)
    this.#resumeMissing()
  }

  /** The connection is gone, and with it what it was asked for. */
  #renew(): void {
    this.#client = undefined
    this.#subscriptions = new Map()
    this.#resumeMissing()
  }

  #resumeMissing(): void {
    for (const channel of this.#ears.keys()) if (!this.#subscriptions.has(channel)) this.#resume(channel)
  }

  #resume(channel: string): void {
    this.subscribed(channel).then(
      () => this.#ears.get(channel)?.forEach((ear) => ear.missed()),
      (error: unknown) => this.#ears.get(channel)?.forEach((ear) => ear.failed(error)),
    )
  }

  #look(): void {
    this.#resumeMissing()
    const client = this.#client
    if (!this.#canAsk) for (const ears of this.#ears.values()) ears.forEach((ear) => ear.missed())
    else if (client?.status === 'ready') void this.#ask(client)
  }

  /** Any answer will do, a refusal too. */
  async #ask(client: RedisConnection): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined
    const silence = new Promise<'silence'>((resolve) => {
      timer = setTimeout(() => resolve('silence'), ANSWER_WITHIN_MS)
    })
    const answer = client.ping().catch(() => undefined)
    const first = await Promise.race([answer, silence])
    clearTimeout(timer)
    if (first !== 'silence' || this.#client !== client) return
    this.#connection.replace(client)
    // A socket that is dead without a sign may never say that it ended.
    if (this.#client === client) this.#renew()
  }
}
