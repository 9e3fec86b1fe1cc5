/**
 * A connection for each blocking read that is out: the server answers the calls of one connection one after the other, so that
 * workers beside each other would wait for each other's BLOCK. A connection that has answered serves whoever reads next.
 */
import { BlockingReader } from './blocking-reader.ts'
import type { EntryReader, ReadEntry } from './blocking-reader.ts'
import type { Connection } from './connection.ts'

export class ReaderPool implements EntryReader {
  readonly #open: () => Connection
  readonly #others: Connection
  readonly #connections: Connection[] = []
  readonly #free: BlockingReader[] = []
  #closed = false

  /** `others` carries the word that wakes a blocked connection. */
  constructor(open: () => Connection, others: Connection) {
    this.#open = open
    this.#others = others
  }

  async read(...request: Parameters<EntryReader['read']>): Promise<ReadEntry[]> {
    const reader = this.#free.pop() ?? this.#another()
    try {
      return await reader.read(...request)
    } finally {
      this.#free.push(reader)
    }
  }

  close(): void {
    this.#closed = true
    for (const connection of this.#connections) connection.close()
  }

  #another(): BlockingReader {
    const connection = this.#open()
    this.#connections.push(connection)
    // It refuses like those that were open.
    if (this.#closed) connection.close()
    return new BlockingReader(connection, this.#others)
  }
}
