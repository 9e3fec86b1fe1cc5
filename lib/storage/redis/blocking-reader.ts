/**
 * XREADGROUP with BLOCK, on a connection of its own, and the watchdog that replaces that connection.
 * Brings entries; decides nothing about them. A read ends after BLOCK, on `signal`, or when the watchdog finds that the
 * server did not answer in time: a socket can be dead without a sign, and a driver's own retries never end.
 */
import { StorageUnavailableError } from '../../errors.ts'
import { inTime } from './connection.ts'
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

/** Waits for entries of some streams, and brings them. */
export interface EntryReader {
  read(
    group: string,
    consumer: string,
    streams: readonly string[],
    blockMs: number,
    signal: AbortSignal,
  ): Promise<ReadEntry[]>
}

/** The word that wakes a blocked read may come before the read itself has reached the server. */
const WAKE_TRIES = 5
const WAKE_AGAIN_MS = 10

export class BlockingReader implements EntryReader {
  readonly #connection: Connection
  readonly #others: Connection
  /** What the server calls this connection; on a cluster, what the node calls it that has the key. */
  #clientId: ClientId | undefined

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
    let client = this.#connection.client
    const learned = this.#learnId(client, streams[0] ?? '')
    // On a cluster the driver may send the read first, and then the id would come when the read has ended.
    if (client.isCluster) {
      await learned
      // It may have been replaced meanwhile, and then the old one is closed.
      client = this.#connection.client
    }
    const reply = client.xreadgroup(
      ...['GROUP', group, consumer, 'COUNT', '1', 'BLOCK', String(blockMs), 'STREAMS'],
      ...streams,
      ...streams.map(() => '>'),
    )
    try {
      return entriesOf(await this.#guarded(client, group, reply, blockMs, signal))
    } catch (error) {
      // On a cluster the next read may go to another node, where this connection has another id.
      if (client.isCluster) this.#clientId = undefined
      this.#connection.replaceDemoted(error, client)
      throw error
    }
  }

  /** The id by which the server can be told to wake this connection; another one after each reconnect. */
  async #learnId(client: RedisConnection, key: string): Promise<void> {
    if (this.#clientId?.of === client) return
    const clientId: ClientId = { of: client, key }
    this.#clientId = clientId
    client.once(client.isCluster ? '-node' : 'close', () => {
      if (this.#clientId === clientId) this.#clientId = undefined
    })
    try {
      clientId.id = await idOf(client, key)
    } catch {
      // Without it the connection is replaced where it would have been woken.
    }
  }

  async #guarded(
    client: RedisConnection,
    group: string,
    reply: Promise<unknown>,
    blockMs: number,
    signal: AbortSignal,
  ): Promise<unknown> {
    const beside = this.#others.client
    let watchdog: ReturnType<typeof setTimeout> | undefined
    let over = false
    const onAbort = (): void => void this.#wake(client, group, () => over)
    try {
      return await Promise.race([
        reply,
        new Promise((_, reject) => {
          watchdog = setTimeout(() => {
            const cure = 'the connection is replaced and the read goes on'
            reject(new StorageUnavailableError('end a blocking read', `no answer in ${blockMs + WATCHDOG_MS} ms`, cure))
            this.#connection.replace(client)
            // What ended this socket without a sign has ended the other one as likely as not, unless it is a new one by now.
            this.#others.replace(beside)
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
  async #wake(client: RedisConnection, group: string, isOver: () => boolean): Promise<void> {
    const clientId = this.#clientId
    if (clientId?.of === client && (typeof clientId.id === 'number' || typeof clientId.id === 'string')) {
      try {
        for (let tries = 0; tries < WAKE_TRIES && !isOver(); tries += 1) {
          if (await inTime(unblock(this.#others.client, clientId.key, group, String(clientId.id)))) return
          await new Promise((resolve) => setTimeout(resolve, WAKE_AGAIN_MS))
        }
      } catch {
        // Not permitted, or out of reach: then the connection goes, and what it still got is found in the own list.
      }
    }
    if (!isOver()) this.#connection.replace(client)
  }
}

interface ClientId {
  readonly of: RedisConnection
  readonly key: string
  id?: unknown
}

/**
 * CLIENT UNBLOCK. While writes are paused (CLIENT PAUSE, FAILOVER) the read is held back as a write is, and a server from before
 * July 2025 that is told to unblock it then ends itself (redis/redis#14164). So a write that does nothing goes first, in one
 * transaction: as long as the pause lasts it is held back itself, and the word with it.
 */
async function unblock(client: RedisConnection, key: string, group: string, clientId: string): Promise<boolean> {
  const replies = await client.multi().xack(key, group, '0-1').client('UNBLOCK', clientId).exec()
  return replies?.[1]?.[1] === 1
}

/** CLIENT ID; on a cluster of the connection to the node that has the key, in the company of a command that names it. */
async function idOf(client: RedisConnection, key: string): Promise<unknown> {
  if (!client.isCluster) return await client.client('ID')
  const replies = await client.pipeline().client('ID').xlen(key).exec()
  const [error, reply] = replies?.[0] ?? [new Error('the connection was closed before it answered'), undefined]
  if (error) throw error
  return reply
}
