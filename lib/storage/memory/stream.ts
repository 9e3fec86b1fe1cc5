/**
 * One stream with its one consumer group, as Redis keeps it: entries in order, the ones nobody has read yet, and the
 * pending list of those that were handed to a consumer and are not acknowledged.
 * Whose pending list an entry sits in decides nothing here: who may settle is told by the record's token.
 * Takes the time from its caller, so that all of one step happens at one moment.
 */
import { SortedSet } from './sorted-set.ts'

export interface Entry {
  readonly entryId: string
  /** The record that the entry is for. */
  readonly id: string
}

/** An entry in the pending list. */
export interface PendingEntry extends Entry {
  readonly consumer: string
  readonly deliveredAt: number
}

export interface PendingPage {
  readonly rows: readonly PendingEntry[]
  /** Where the next page starts; `''` after the last one. */
  readonly next: string
}

interface StoredEntry extends Entry {
  readonly order: number
  consumer: string
  deliveredAt: number
}

export class Stream {
  readonly #entries = new Map<string, StoredEntry>()
  readonly #undelivered = new SortedSet()
  readonly #pending = new SortedSet()
  readonly #perConsumer = new Map<string, number>()
  #lastMs = 0
  #lastSequence = 0
  #appended = 0

  /** Entries, delivered ones included. */
  get length(): number {
    return this.#entries.size
  }

  /** The oldest entry that nobody has read. */
  firstUndelivered(): Entry | undefined {
    const [first] = this.#undelivered.range({ limit: 1 })
    return first && this.#entries.get(first.member)
  }

  /** Puts an entry at the end. Ids only grow, also when the clock was set back. */
  append(id: string, now: number): string {
    if (now > this.#lastMs) {
      this.#lastMs = now
      this.#lastSequence = 0
    } else {
      this.#lastSequence += 1
    }
    const entryId = `${this.#lastMs}-${this.#lastSequence}`
    this.#appended += 1
    this.#entries.set(entryId, { entryId, id, order: this.#appended, consumer: '', deliveredAt: 0 })
    this.#undelivered.add(entryId, this.#appended)
    return entryId
  }

  entryOf(entryId: string): Entry | undefined {
    return this.#entries.get(entryId)
  }

  isPending(entryId: string): boolean {
    return this.#pending.score(entryId) !== undefined
  }

  /** Every entry, as they stand now. */
  all(): readonly Entry[] {
    return [...this.#entries.values()]
  }

  /** Hands the oldest undelivered entries to a consumer: from here on they are pending. */
  read(consumer: string, count: number, now: number): readonly Entry[] {
    const read: Entry[] = []
    for (const { member } of this.#undelivered.range({ limit: count })) {
      const entry = this.#entries.get(member)
      if (!entry) continue
      this.#undelivered.remove(member)
      this.#pending.add(member, entry.order)
      this.#hand(entry, consumer, now)
      read.push(entry)
    }
    return read
  }

  /** What a consumer was handed and did not acknowledge, oldest entry first. */
  own(consumer: string): readonly Entry[] {
    if (this.pendingOf(consumer) === 0) return []
    return this.#rows(this.#pending.range({ limit: Infinity })).filter((row) => row.consumer === consumer)
  }

  /** A page of the pending list, oldest entry first, from a cursor on (`''` at first). */
  pending(cursor: string, limit: number): PendingPage {
    const page = this.#pending.range({ from: cursor === '' ? -Infinity : Number(cursor), limit })
    const last = page.at(-1)
    return { rows: this.#rows(page), next: last && page.length === limit ? String(last.score + 1) : '' }
  }

  /** Moves a pending entry to a consumer and counts its idle time anew. An undelivered one stays as it is. */
  claim(entryId: string, consumer: string, now: number): boolean {
    const entry = this.#entries.get(entryId)
    if (!entry || entry.consumer === '') return false
    this.#letGo(entry)
    this.#hand(entry, consumer, now)
    return true
  }

  /** Acknowledges and deletes an entry, whoever has it. */
  remove(entryId: string): boolean {
    const entry = this.#entries.get(entryId)
    if (!entry) return false
    this.#letGo(entry)
    this.#undelivered.remove(entryId)
    this.#pending.remove(entryId)
    return this.#entries.delete(entryId)
  }

  /** How many deliveries a consumer has. */
  pendingOf(consumer: string): number {
    return this.#perConsumer.get(consumer) ?? 0
  }

  #hand(entry: StoredEntry, consumer: string, now: number): void {
    entry.consumer = consumer
    entry.deliveredAt = now
    this.#perConsumer.set(consumer, this.pendingOf(consumer) + 1)
  }

  #letGo({ consumer }: StoredEntry): void {
    const left = this.pendingOf(consumer) - 1
    if (left > 0) this.#perConsumer.set(consumer, left)
    else this.#perConsumer.delete(consumer)
  }

  #rows(members: readonly { readonly member: string }[]): PendingEntry[] {
    return members.flatMap(({ member }) => {
      const entry = this.#entries.get(member)
      if (!entry) return []
      const { entryId, id, consumer, deliveredAt } = entry
      return [{ entryId, id, consumer, deliveredAt }]
    })
  }
}
