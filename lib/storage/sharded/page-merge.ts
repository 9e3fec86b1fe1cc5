/** One page out of the pages of all shards: little more than one shard alone would cost. */
import { mergePositions } from '../merge-positions.ts'
import type { PositionSource } from '../merge-positions.ts'
import type { ListPosition, ListRequest, Storage } from '../storage.ts'
import { together } from './shards.ts'

interface ShardPage extends PositionSource {
  readonly shard: Storage
  /** Behind the last one that was fetched. */
  after: ListPosition | undefined
  done: boolean
}

export async function mergePages(shards: readonly Storage[], request: ListRequest): Promise<ListPosition[]> {
  const pages = shards.map((shard): ShardPage => ({ shard, waiting: [], after: request.after, done: false }))
  return await mergePositions(pages, request, (dry, size) => together(dry.map((page) => fetch(page, request, size))))
}

async function fetch(page: ShardPage, request: ListRequest, size: number): Promise<void> {
  const found = await page.shard.list({ ...request, size, after: page.after })
  page.waiting.push(...found)
  page.after = found.at(-1) ?? page.after
  page.done = found.length < size
}
