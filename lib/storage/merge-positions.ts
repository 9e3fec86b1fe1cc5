/**
 * One page out of many lists, by `enqueuedAt` and id. Asks each list for its part of the page and comes back only to those that ran
 * dry: the cost grows with the lists and the page, never with the records in them.
 */
import type { ListPosition, ListRequest } from './storage.ts'

/** A list that is read a part at a time. */
export interface PositionSource {
  /** What was fetched and is not in the page yet. */
  readonly waiting: ListPosition[]
  /** Nothing is left to fetch. */
  readonly done: boolean
}

/** Below zero when `a` comes first. */
export function comparePositions(a: ListPosition, b: ListPosition, order: ListRequest['order']): number {
  const ascending = a.enqueuedAt - b.enqueuedAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  return order === 'newest' ? -ascending : ascending
}

/** @param refill fetches so many more of each of these lists. */
export async function mergePositions<Source extends PositionSource>(
  sources: readonly Source[],
  { order, size }: Pick<ListRequest, 'order' | 'size'>,
  refill: (dry: readonly Source[], size: number) => Promise<unknown>,
): Promise<ListPosition[]> {
  const part = Math.min(size, Math.ceil((2 * size) / Math.max(sources.length, 1)) + 4)
  const page: ListPosition[] = []
  let open = sources
  while (page.length < size) {
    const dry = open.filter(({ waiting, done }) => waiting.length === 0 && !done)
    // Nothing is picked before each list has shown what it has next; one whose part held nothing new is asked again.
    if (dry.length > 0) {
      await refill(dry, part)
      continue
    }
    open = open.filter(({ waiting }) => waiting.length > 0)
    let next: Source | undefined
    for (const source of open) {
      const [head] = source.waiting
      const [first] = next?.waiting ?? []
      if (head && (!first || comparePositions(head, first, order) < 0)) next = source
    }
    const position = next?.waiting.shift()
    if (!position) break
    page.push(position)
  }
  return page
}
