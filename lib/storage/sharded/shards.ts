/**
 * Which shard a record belongs to, and calls that are split by it: to several storages at the same time, answers in the order
 * of the items. Decides nothing about records.
 */
import { StorageFullError, StorageUnavailableError } from '../../errors.ts'
import type { Storage } from '../storage.ts'

const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/**
 * The shard of a record id: FNV-1a (32 bits) over its characters, modulo the number of shards. All processes have to agree on
 * it, and for ever: another hash would lose sight of every record that is stored.
 */
export function shardOf(id: string, count: number): number {
  let hash = FNV_OFFSET
  for (let index = 0; index < id.length; index += 1) {
    hash = Math.imul(hash ^ id.charCodeAt(index), FNV_PRIME)
  }
  return (hash >>> 0) % count
}

/** Items by shard, each with its place in the batch. */
export function splitByShard<Item>(
  items: readonly Item[],
  idOf: (item: Item) => string,
  count: number,
): ReadonlyMap<number, { readonly items: readonly Item[]; readonly places: readonly number[] }> {
  const parts = new Map<number, { items: Item[]; places: number[] }>()
  items.forEach((item, place) => {
    const shard = shardOf(idOf(item), count)
    const part = parts.get(shard) ?? { items: [], places: [] }
    parts.set(shard, part)
    part.items.push(item)
    part.places.push(place)
  })
  return parts
}

/** Sends each item to its own shard, and answers in the order of the items. */
export async function perShard<Item, Answer>(
  shards: readonly Storage[],
  items: readonly Item[],
  idOf: (item: Item) => string,
  call: (shard: Storage, items: readonly Item[]) => Promise<readonly Answer[]>,
): Promise<readonly Answer[]> {
  const parts = [...splitByShard(items, idOf, shards.length)]
  const answers = await together(parts.map(([index, part]) => call(shardAt(shards, index), part.items)))
  const ordered: Answer[] = []
  parts.forEach(([, { places }], part) => {
    places.forEach((place, index) => (ordered[place] = answers[part]?.[index] as Answer))
  })
  return ordered
}

export function shardAt(shards: readonly Storage[], index: number): Storage {
  const shard = shards[index]
  if (!shard) throw new RangeError(`expected a shard from 0 to ${shards.length - 1}, got: ${index}`)
  return shard
}

/**
 * All answers, once every shard has answered: a call that rejects leaves nothing under way.
 *
 * @throws StorageUnavailableError a shard did not answer, or some were full and others not: repeat the call.
 * @throws StorageFullError every shard that was asked is full: nothing was written.
 */
export async function together<Answer>(calls: readonly Promise<Answer>[]): Promise<Answer[]> {
  const results = await Promise.allSettled(calls)
  const answers: Answer[] = []
  const errors: unknown[] = []
  for (const result of results) {
    if (result.status === 'fulfilled') answers.push(result.value)
    else errors.push(result.reason)
  }
  if (errors.length === 0) return answers
  const full = errors.filter((error) => error instanceof StorageFullError)
  const other = errors.filter((error) => !(error instanceof StorageFullError))
  // What nobody expected first: it must not hide behind an outage.
  const worst = other.find((error) => !(error instanceof StorageUnavailableError)) ?? other[0]
  if (worst !== undefined) throw worst as Error
  if (answers.length === 0) throw full[0] as Error
  throw new StorageUnavailableError(
    'write to every shard',
    `${full.length} of ${results.length} without memory`,
    'raise maxmemory there, then repeat the call: what was written stays as it is',
    { cause: full[0] },
  )
}
