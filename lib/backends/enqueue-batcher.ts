/**
 * Brings together what is enqueued in one tick: callers that do not wait for each other share calls of the storage.
 * Each caller gets its own answers and its own errors; records are sent in the order in which they came. Holds nothing back: what
 * one tick brought is sent before the next event is looked at.
 */
import { StorageUnavailableError } from '../errors.ts'
import type { EnqueueAnswer, Storage } from '../storage/storage.ts'
import type { NewRecord } from '../storage/stored-record.ts'

/**
 * Records of one call that callers share. More calls of fewer records let the server work on the first while the next is still
 * being written, and its answer wake the first callers while it works on the next.
 */
export const RECORDS_PER_CALL = 128
/** Characters of arguments of one call; one record alone may have more. */
const LENGTH_PER_CALL = 1_000_000

interface Waiting {
  readonly records: readonly NewRecord[]
  readonly resolve: (answers: readonly EnqueueAnswer[]) => void
  readonly reject: (error: unknown) => void
}

export class EnqueueBatcher {
  readonly #storage: Pick<Storage, 'enqueue'>
  #waiting: Waiting[] = []
  #count = 0
  #length = 0

  constructor(storage: Pick<Storage, 'enqueue'>) {
    this.#storage = storage
  }

  /** Stores these records in one call, shared or not; answered as `Storage.enqueue` answers. */
  add(records: readonly NewRecord[]): Promise<readonly EnqueueAnswer[]> {
    let length = 0
    for (const { args } of records) length += args.length
    if (this.#count + records.length > RECORDS_PER_CALL || this.#length + length > LENGTH_PER_CALL) this.#send()
    this.#count += records.length
    this.#length += length
    return new Promise((resolve, reject) => {
      // Behind all promises that are settled now: whoever they wake enqueues into the same call.
      if (this.#waiting.length === 0) queueMicrotask(() => process.nextTick(() => this.#send()))
      this.#waiting.push({ records, resolve, reject })
    })
  }

  #send(): void {
    const waiting = this.#waiting
    if (waiting.length === 0) return
    this.#waiting = []
    this.#count = 0
    this.#length = 0
    void this.#store(waiting)
  }

  async #store(waiting: readonly Waiting[]): Promise<void> {
    const [first] = waiting
    if (first && waiting.length === 1) {
      await this.#storeOne(first)
      return
    }
    let answers: readonly EnqueueAnswer[]
    try {
      answers = await this.#storage.enqueue(waiting.flatMap(({ records }) => records))
    } catch (error) {
      // That the storage is away or full is its own state. Anything else may be the fault of a single record.
      const shared = error instanceof StorageUnavailableError
      for (const each of waiting) {
        if (shared) each.reject(error)
        else await this.#storeOne(each)
      }
      return
    }
    let from = 0
    for (const { records, resolve } of waiting) {
      resolve(answers.slice(from, from + records.length))
      from += records.length
    }
  }

  async #storeOne({ records, resolve, reject }: Waiting): Promise<void> {
    try {
      resolve(await this.#storage.enqueue(records))
    } catch (error) {
      reject(error)
    }
  }
}
