/**
 * One page out of the pages of all shards, by `enqueuedAt` and id. Asks each shard for its part of the page and comes back only
 * to those that ran dry, so that a page costs little more than one shard alone would.
 */
import type { ListPosition, ListRequest, Storage } from '../storage.ts'
import { together } from './shards.ts'

interface ShardPage {
  readonly shard: Storage
  readonly rest: ListPosition[]
  /** Behind the last one that was fetched. */
  after: ListPosition | undefined
  done: boolean
}

function compare(a: ListPosition, b: ListPosition): number {
  return a.enqueuedAt - b.enqueuedAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

export async function mergePages(shards: readonly Storage[], request: ListRequest): Promise<ListPosition[]> {
  const sign = request.order === 'newest' ? -1 : 1
  const size = Math.min(request.size, Math.ceil((2 * request.size) / shards.length) + 4)
  const pages = shards.map((shard): ShardPage => ({ shard, rest: [], after: request.after, done: false }))
  const merged: ListPosition[] = []
  while (merged.length < request.size) {
    const dry = pages.filter((page) => page.rest.length === 0 && !page.done)
    await together(dry.map((page) => fetch(page, request, size)))
    let next: ShardPage | undefined
    for (const page of pages) {
      const [head] = page.rest
      const [first] = next?.rest ?? []
      if (head && (!first || sign * compare(head, first) < 0)) next = page
    }
    const position = next?.rest.shift()
    if (!position) break
    merged.push(position)
  }
  return merged
}

async function fetch(page: ShardPage, request: ListRequest, size: number): Promise<void> {
  const found = await page.shard.list({ ...request, size, after: page.after })
  page.rest.push(...found)
  page.after = found.at(-1) ?? page.after
  page.done = found.length < size
}
