/**
 * One blocking read for all who ask at the same moment: the shards on one server wait together, on one connection. Each is
 * answered with the entries of its own streams; when one of them brings something, the read of all has ended.
 */
import type { EntryReader, ReadEntry } from './blocking-reader.ts'

interface Asked {
  readonly streams: readonly string[]
  readonly resolve: (entries: ReadEntry[]) => void
  readonly reject: (error: unknown) => void
}

/** A read that is not sent yet. */
interface Gathering {
  readonly group: string
  readonly consumer: string
  readonly blockMs: number
  readonly end: AbortController
  readonly asked: Asked[]
}

export class JointReader implements EntryReader {
  readonly #reader: EntryReader
  #gathering: Gathering | undefined

  constructor(reader: EntryReader) {
    this.#reader = reader
  }

  async read(
    group: string,
    consumer: string,
    streams: readonly string[],
    blockMs: number,
    signal: AbortSignal,
  ): Promise<ReadEntry[]> {
    const current = this.#gathering
    const fits = current?.group === group && current.consumer === consumer && current.blockMs === blockMs
    const gathering = fits ? current : this.#gather({ group, consumer, blockMs, end: new AbortController(), asked: [] })
    const end = (): void => gathering.end.abort()
    signal.addEventListener('abort', end, { once: true })
    if (signal.aborted) end()
    try {
      return await new Promise((resolve, reject) => gathering.asked.push({ streams, resolve, reject }))
    } finally {
      signal.removeEventListener('abort', end)
    }
  }

  /** Sent at the end of this turn of the event loop: who asks until then waits with it. */
  #gather(gathering: Gathering): Gathering {
    this.#gathering = gathering
    queueMicrotask(() => {
      if (this.#gathering === gathering) this.#gathering = undefined
      void this.#send(gathering)
    })
    return gathering
  }

  async #send({ group, consumer, blockMs, end, asked }: Gathering): Promise<void> {
    try {
      const streams = asked.flatMap((each) => each.streams)
      const entries = await this.#reader.read(group, consumer, streams, blockMs, end.signal)
      for (const each of asked) each.resolve(entries.filter(({ stream }) => each.streams.includes(stream)))
    } catch (error) {
      for (const each of asked) each.reject(error)
    }
  }
}
