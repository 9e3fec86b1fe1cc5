/**
 * XREADGROUP with BLOCK, on a connection of its own, and the watchdog that replaces that connection.
 * Brings entries; decides nothing about them. A read ends after BLOCK, on `signal`, or when the watchdog finds that the
 * server did not answer in time: a socket can be dead without a sign, and a driver's own retries never end.
 */
import { StorageUnavailableError } from '../../errors.ts'
import type { Connection } from './connection.ts'
import type { RedisConnection } from './redis-client.ts'

/** An entry as it was read: which stream, its id, and the record id in it ('' when it holds none). */
export interface ReadEntry {
  readonly stream: string
  readonly entryId: string
  readonly id: string
}

/** Added to BLOCK before the connection is given up. */
const WATCHDOG_MS = 2_000

/** [[stream, [[entryId, [field, value, …]]]]]: the reply of XREADGROUP on every client that speaks RESP2. */
export function entriesOf(reply: unknown): ReadEntry[] {
  const entries: ReadEntry[] = []
  for (const [stream, rows] of (reply ?? []) as [string, [string, string[] | null][]][]) {
    for (const [entryId, fields] of rows) entries.push({ stream, entryId, id: fields?.[1] ?? '' })
  }
  return entries
}

export class BlockingReader {
  readonly #connection: Connection
  readonly #others: Connection
  #clientId: { readonly of: RedisConnection; id?: unknown } | undefined

  /** `others` carries the word that wakes a blocked `connection`. */
  constructor(connection: Connection, others: Connection) {
    this.#connection = connection
    this.#others = others
  }

  async read(
    group: string,
    consumer: string,
    streams: readonly string[],
    blockMs: number,
    signal: AbortSignal,
  ): Promise<ReadEntry[]> {
    const client = this.#connection.client
    if (!client.xreadgroup) throw new TypeError('expected a client with consumer groups')
    this.#learnId(client)
    const reply = client.xreadgroup(
      ...['GROUP', group, consumer, 'COUNT', '1', 'BLOCK', String(blockMs), 'STREAMS'],
      ...streams,
      ...streams.map(() => '>'),
    )
    return entriesOf(await this.#guarded(client, reply, blockMs, signal))
  }

  /** The id by which the server can be told to wake this connection; another one after each reconnect. */
  #learnId(client: RedisConnection): void {
    if (client.isCluster || this.#clientId?.of === client) return
    const clientId: { of: RedisConnection; id?: unknown } = { of: client }
    this.#clientId = clientId
    client.client('ID').then(
      (id) => (clientId.id = id),
      () => undefined,
    )
    client.once('close', () => {
      if (this.#clientId === clientId) this.#clientId = undefined
    })
  }

  async #guarded(
    client: RedisConnection,
    reply: Promise<unknown>,
    blockMs: number,
    signal: AbortSignal,
  ): Promise<unknown> {
    let watchdog: ReturnType<typeof setTimeout> | undefined
    let over = false
    const onAbort = (): void => void this.#wake(client, () => over)
    try {
      return await Promise.race([
        reply,
        new Promise((_, reject) => {
          watchdog = setTimeout(() => {
            const cure = 'the connection is replaced and the read goes on'
            reject(new StorageUnavailableError('end a blocking read', `no answer in ${blockMs + WATCHDOG_MS} ms`, cure))
            this.#connection.replace(client)
            // What ended this socket without a sign has ended the other one as likely as not.
            this.#others.replace()
          }, blockMs + WATCHDOG_MS)
          signal.addEventListener('abort', onAbort, { once: true })
          if (signal.aborted) onAbort()
        }),
      ])
    } finally {
      over = true
      clearTimeout(watchdog)
      signal.removeEventListener('abort', onAbort)
      // Once the watchdog has spoken nobody listens to the old read any more.
      reply.catch(() => undefined)
    }
  }

  /** Without an id yet (the connection is just being made, or is dead) nothing is waited for: it goes. */
  async #wake(client: RedisConnection, isOver: () => boolean): Promise<void> {
    const id = this.#clientId?.of === client ? this.#clientId.id : undefined
    if (typeof id === 'number' || typeof id === 'string') {
      try {
        if ((await this.#others.client.client('UNBLOCK', String(id))) === 1) return
      } catch {
        // Not permitted, or out of reach: then the connection goes, and what it still got is found in the own list.
      }
    }
    if (!isOver()) this.#connection.replace(client)
  }
}
