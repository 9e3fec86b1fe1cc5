/**
 * A walk over records in their order, from a place on. Ids come a list at a time, records in pieces: of small ones many, of large
 * ones as many as fit. Whoever walks stops when it has enough.
 */
import { StorageUnavailableError } from './errors.ts'
import { boundsOf, holds, matches } from './record-filter.ts'
import type { RecordFilter } from './record-filter.ts'
import type { Cell, ListPosition, Storage } from './storage/storage.ts'
import { isDamaged } from './storage/stored-record.ts'
import type { Brief, FoundRecord, StoredRecord } from './storage/stored-record.ts'

/** What is read of a record where no more than its id is wanted, or a text is looked for in most records of usual size. */
export const BRIEF: Brief = { argsBytes: 1 }
const SEARCHED: Brief = { argsBytes: 16_384 }
/** Ids of one list, and brief records of one piece. */
export const LIST_SIZE = 500
/** Payloads that are held at once, as soon as the walk has met one of their size. */
const HELD_BYTES = 8 * 1024 * 1024
/** Whole records of the first piece, when nothing is known of their size. */
const FIRST_PIECE = 16
/** Whole records of any: after small ones, the first large one may come with so many. */
export const LARGEST_PIECE = 100
const GROWTH = 4

export interface RecordWalk {
  readonly storage: Pick<Storage, 'list' | 'find'>
  readonly filter: RecordFilter
  readonly cells: readonly Cell[]
  readonly order: 'newest' | 'oldest'
  /** Ids of one list. */
  readonly size: number
  readonly after?: ListPosition | undefined
  /** Set where whole records are not wanted. */
  readonly brief?: Brief | undefined
  /** Whole records of the first piece: for who will have them all at once anyway. */
  readonly firstPiece?: number
}

/** One place that was looked at. */
export interface Look {
  readonly position: ListPosition
  /** undefined: it has gone since it was listed. */
  readonly found: FoundRecord
  /** What the filter asks is true of it. */
  readonly match: StoredRecord | undefined
}

/**
 * Every place of the cells that lies behind `after`, a piece at a time.
 *
 * @throws StorageUnavailableError there is no answer, not even to a call for one record.
 */
export async function* walkRecords(walk: RecordWalk): AsyncGenerator<readonly Look[], void, undefined> {
  const { storage, cells, order, size, filter } = walk
  if (cells.length === 0) return
  const brief = walk.brief && {
    argsBytes: Math.max(walk.brief.argsBytes, (filter.search ? SEARCHED : BRIEF).argsBytes),
  }
  const piece = brief ? undefined : new PieceSize(walk.firstPiece)
  let { after } = walk
  for (;;) {
    const positions = await storage.list({ cells, order, size, after, ...boundsOf(filter) })
    let start = 0
    while (start < positions.length) {
      const part = positions.slice(start, start + (piece?.records ?? LIST_SIZE))
      const ids = part.map(({ id }) => id)
      let found: readonly FoundRecord[]
      try {
        found = await storage.find(ids, brief)
      } catch (error) {
        // They may be more than comes over the wire in the time of a command; fewer may come.
        if (error instanceof StorageUnavailableError && piece?.shrink(part.length)) continue
        throw error
      }
      start += part.length
      piece?.learn(found)
      yield await looksAt(walk, part, found)
    }
    if (positions.length < size) return
    after = positions.at(-1)
  }
}

/** How many whole records the next read may bring. */
class PieceSize {
  #records: number

  constructor(first = FIRST_PIECE) {
    this.#records = first
  }

  get records(): number {
    return this.#records
  }

  /** So many did not come. False when fewer cannot be asked for. */
  shrink(records: number): boolean {
    this.#records = Math.max(1, Math.floor(records / GROWTH))
    return records > 1
  }

  /** The largest of these says how many of its size are held at once; after small ones it grows again. */
  learn(found: readonly FoundRecord[]): void {
    const largest = found.reduce((most, record) => Math.max(most, payloadLength(record)), 1)
    const fitting = Math.max(1, Math.floor(HELD_BYTES / largest))
    this.#records = Math.min(fitting, this.#records * GROWTH, LARGEST_PIECE)
  }
}

/** In characters, which is what the process holds. */
function payloadLength(record: FoundRecord): number {
  if (!record || isDamaged(record)) return 0
  const { args, returnValue, errors } = record
  return errors.reduce((sum, error) => sum + error.length, args.length + (returnValue?.length ?? 0))
}

async function looksAt(
  { storage, filter }: RecordWalk,
  positions: readonly ListPosition[],
  found: readonly FoundRecord[],
): Promise<Look[]> {
  const { search } = filter
  const matching = found.map((record) => (record && !isDamaged(record) && matches(filter, record) ? record : undefined))
  const searched = search ? await searchLarge(storage, search, matching) : undefined
  return positions.map((position, index) => {
    const record = matching[index]
    const match = !search || (record && (holds(record, search) || searched?.has(record.id))) ? record : undefined
    return { position, found: found[index], match }
  })
}

/** Of records that were not read whole those that hold the text, by id: they are read a few at a time, and not kept. */
async function searchLarge(
  storage: RecordWalk['storage'],
  search: string,
  records: readonly (StoredRecord | undefined)[],
): Promise<ReadonlySet<string>> {
  const ids = new Set<string>()
  let batch: string[] = []
  let bytes = 0
  const look = async (): Promise<void> => {
    for (const record of await storage.find(batch)) {
      if (record && !isDamaged(record) && holds(record, search)) ids.add(record.id)
    }
    batch = []
    bytes = 0
  }
  for (const record of records) {
    if (!record?.omittedBytes || holds(record, search)) continue
    batch.push(record.id)
    bytes += record.omittedBytes
    if (bytes >= HELD_BYTES) await look()
  }
  if (batch.length > 0) await look()
  return ids
}
