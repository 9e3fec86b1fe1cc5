/**
 * LeaseTable: the leases that a process holds, in memory that it shares with the thread that renews them. The event loop that
 * runs user code writes, the thread reads, and neither wakes the other: a message for each attempt was the largest part of a
 * worker's CPU. Renews nothing, and knows no time.
 * Memory comes in pages of equal slots. A full table gets a further page, and one whose slots are longer for longer words; a
 * slot never moves.
 */
import type { HeldLease } from '../lease-keeper.ts'
import type { Lease } from '../storage/storage.ts'

/** A lease as both threads know it. */
export type SharedLease = Omit<HeldLease, 'lose'>

/** Slots of `slotBytes` each, from the beginning to the end. */
export interface LeasePage {
  readonly memory: SharedArrayBuffer
  readonly slotBytes: number
}

/** What a slot holds, and which of them was held last. */
interface SlotContent {
  readonly shared: SharedLease
  readonly order: number
}

/** Words of usual length, twice over. */
const SLOT_BYTES = 512
const PAGE_BYTES = 64 * SLOT_BYTES

/** A slot: version and length of its text (Int32), its order and times (Float64), and its words as JSON. */
const HEAD_BYTES = 32
const VERSION = 0
const LENGTH = 1
const ORDER = 0
const SENT_AT = 1
const STOP_AT = 2

/** The place of one lease. Its version is odd while it is written; a free one has no text. */
export class LeaseSlot {
  readonly bytes: number
  readonly #ints: Int32Array
  readonly #numbers: Float64Array
  readonly #text: Buffer

  constructor({ memory, slotBytes }: LeasePage, index: number) {
    const start = index * slotBytes
    this.bytes = slotBytes
    this.#ints = new Int32Array(memory, start, 2)
    this.#numbers = new Float64Array(memory, start + 8, 3)
    this.#text = Buffer.from(memory, start + HEAD_BYTES, slotBytes - HEAD_BYTES)
  }

  get version(): number {
    return Atomics.load(this.#ints, VERSION)
  }

  write(text: string, { sentAtMs, stopAtMs }: SharedLease, order: number): void {
    Atomics.add(this.#ints, VERSION, 1)
    this.#ints[LENGTH] = this.#text.write(text)
    this.#numbers[ORDER] = order
    this.#numbers[SENT_AT] = sentAtMs
    this.#numbers[STOP_AT] = stopAtMs
    Atomics.add(this.#ints, VERSION, 1)
  }

  /** The same lease with other times. */
  setTimes({ sentAtMs, stopAtMs }: SharedLease): void {
    Atomics.add(this.#ints, VERSION, 1)
    this.#numbers[SENT_AT] = sentAtMs
    this.#numbers[STOP_AT] = stopAtMs
    Atomics.add(this.#ints, VERSION, 1)
  }

  clear(): void {
    Atomics.add(this.#ints, VERSION, 1)
    this.#ints[LENGTH] = 0
    Atomics.add(this.#ints, VERSION, 1)
  }

  /** Its content and the version that had it; `undefined` when it was written meanwhile. */
  read(): { readonly version: number; readonly content: SlotContent | undefined } | undefined {
    const version = this.version
    if (version % 2 !== 0) return undefined
    const text = this.#text.toString('utf8', 0, this.#ints[LENGTH])
    const [order = NaN, sentAtMs = NaN, stopAtMs = NaN] = this.#numbers
    // Adds nothing. A load could come before the reads above, this cannot.
    if (Atomics.add(this.#ints, VERSION, 0) !== version) return undefined
    if (text === '') return { version, content: undefined }
    const [id, token, entryId, name] = JSON.parse(text) as [string, string, string, string]
    return { version, content: { shared: { lease: { id, token, entryId }, name, sentAtMs, stopAtMs }, order } }
  }
}

function slotsOf(page: LeasePage): LeaseSlot[] {
  return Array.from({ length: page.memory.byteLength / page.slotBytes }, (_, index) => new LeaseSlot(page, index))
}

export class LeaseTable {
  readonly #pages: LeasePage[] = []
  /** By their size in bytes. */
  readonly #free = new Map<number, LeaseSlot[]>()
  readonly #tellPage: (page: LeasePage) => void
  #order = 0

  /** @param tellPage told of each further page, before anything is in it. */
  constructor(tellPage: (page: LeasePage) => void) {
    this.#tellPage = tellPage
  }

  get pages(): readonly LeasePage[] {
    return this.#pages
  }

  add(shared: SharedLease): LeaseSlot {
    const { id, token, entryId } = shared.lease
    const text = JSON.stringify([id, token, entryId, shared.name])
    const slot = this.#take(Buffer.byteLength(text))
    slot.write(text, shared, (this.#order += 1))
    return slot
  }

  /** The lease of that slot, with other times. */
  change(slot: LeaseSlot, shared: SharedLease): void {
    slot.setTimes(shared)
  }

  remove(slot: LeaseSlot): void {
    slot.clear()
    this.#free.get(slot.bytes)?.push(slot)
  }

  /** A slot for a text of so many bytes. */
  #take(bytes: number): LeaseSlot {
    let slotBytes = SLOT_BYTES
    while (slotBytes - HEAD_BYTES < bytes) slotBytes *= 2
    return this.#free.get(slotBytes)?.pop() ?? this.#takeNew(slotBytes)
  }

  #takeNew(slotBytes: number): LeaseSlot {
    const page = { memory: new SharedArrayBuffer(Math.max(PAGE_BYTES, slotBytes)), slotBytes }
    this.#pages.push(page)
    this.#tellPage(page)
    const [slot, ...others] = slotsOf(page)
    if (!slot) throw new Error(`expected a page with slots of ${slotBytes} bytes, got: none`)
    this.#free.set(slotBytes, others)
    return slot
  }
}

/** What changed in a table since the last look at it; not what came and went in between. */
export interface LeaseChanges {
  /** Held now, or held anew with other times; in the order in which they were first held. */
  readonly held: readonly SharedLease[]
  readonly released: readonly Lease[]
}

interface Row {
  readonly slot: LeaseSlot
  /** The last one that was read. */
  version: number
  lease: Lease | undefined
}

/** The table as the other thread sees it. */
export class LeaseTableReader {
  readonly #rows: Row[] = []

  constructor(pages: readonly LeasePage[]) {
    for (const page of pages) this.addPage(page)
  }

  addPage(page: LeasePage): void {
    for (const slot of slotsOf(page)) this.#rows.push({ slot, version: 0, lease: undefined })
  }

  /** A slot that is being written at this moment is left for the next look. */
  look(): LeaseChanges {
    const held: SlotContent[] = []
    const released: Lease[] = []
    for (const row of this.#rows) {
      if (row.slot.version === row.version) continue
      const read = row.slot.read()
      if (!read) continue
      const { lease } = row
      const next = read.content?.shared.lease
      if (lease && !(next && isSame(lease, next))) released.push(lease)
      if (read.content) held.push(read.content)
      row.version = read.version
      row.lease = next
    }
    held.sort((one, other) => one.order - other.order)
    return { held: held.map(({ shared }) => shared), released }
  }
}

/** A token names one attempt of one record. */
const isSame = (one: Lease, other: Lease): boolean => one.id === other.id && one.token === other.token
