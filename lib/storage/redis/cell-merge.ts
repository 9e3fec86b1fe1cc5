/**
 * A page over many cells: the newest (or oldest) members of each, merged by `enqueuedAt` and id.
 * Reads a few members of each cell and comes back only for the cells that ran dry, so the cost grows with the number of
 * cells and the page, never with the records in them.
 */
import type { ListPosition, ListRequest } from '../storage.ts'
import { readAll } from './pipeline.ts'
import type { RedisConnection, RedisPipeline } from './redis-client.ts'

/** One cell being read: its members in order, as far as they were fetched. */
class CellCursor {
  readonly key: string
  buffer: ListPosition[] = []
  done = false
  /** The bound the next fetch starts from, and how many members of that very score it passes over. */
  #score: string
  #offset = 0
  #last: ListPosition | undefined

  readonly #newest: boolean
  readonly #end: string

  constructor(key: string, request: ListRequest) {
    this.key = key
    this.#newest = request.order === 'newest'
    this.#last = request.after
    const start = this.#newest ? request.to : request.from
    const end = this.#newest ? request.from : request.to
    const after = request.after?.enqueuedAt
    const tighter = this.#newest ? Math.min : Math.max
    this.#score =
      after === undefined
        ? String(start ?? (this.#newest ? '+inf' : '-inf'))
        : String(start === undefined ? after : tighter(start, after))
    this.#end = String(end ?? (this.#newest ? '-inf' : '+inf'))
  }

  fetch(pipeline: RedisPipeline, size: number): void {
    const rest = ['WITHSCORES', 'LIMIT', String(this.#offset), String(size)]
    if (this.#newest) pipeline.zrevrangebyscore(this.key, this.#score, this.#end, ...rest)
    else pipeline.zrangebyscore(this.key, this.#score, this.#end, ...rest)
  }

  take(reply: readonly string[], size: number): void {
    for (let index = 0; index < reply.length; index += 2) {
      const position = { id: reply[index] ?? '', enqueuedAt: Number(reply[index + 1]) }
      const score = reply[index + 1] ?? ''
      this.#offset = score === this.#score ? this.#offset + 1 : 1
      this.#score = score
      if (this.#last && compare(position, this.#last, this.#newest) <= 0) continue
      this.#last = position
      this.buffer.push(position)
    }
    this.done = reply.length < size * 2
  }
}

/** Below zero when `a` comes first. */
function compare(a: ListPosition, b: ListPosition, newest: boolean): number {
  const ascending = a.enqueuedAt - b.enqueuedAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  return newest ? -ascending : ascending
}

export async function mergeCells(
  connection: RedisConnection,
  keys: readonly string[],
  request: ListRequest,
): Promise<ListPosition[]> {
  const newest = request.order === 'newest'
  const cursors = keys.map((key) => new CellCursor(key, request))
  const page: ListPosition[] = []
  const size = Math.min(request.size, Math.ceil((2 * request.size) / Math.max(cursors.length, 1)) + 4)
  let open = cursors
  while (page.length < request.size && open.length > 0) {
    const dry = open.filter((cursor) => cursor.buffer.length === 0 && !cursor.done)
    if (dry.length > 0) {
      const replies = await readAll(connection, (pipeline) => {
        for (const cursor of dry) cursor.fetch(pipeline, size)
      })
      dry.forEach((cursor, index) => cursor.take((replies[index] ?? []) as string[], size))
      continue
    }
    open = open.filter((cursor) => cursor.buffer.length > 0)
    let first: CellCursor | undefined
    let head: ListPosition | undefined
    for (const cursor of open) {
      const candidate = cursor.buffer[0]
      if (candidate && (!head || compare(candidate, head, newest) < 0)) {
        head = candidate
        first = cursor
      }
    }
    if (!head) break
    page.push(head)
    first?.buffer.shift()
  }
  return page
}
