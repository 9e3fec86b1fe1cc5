/** A page over many cells: the newest (or oldest) members of each, merged. */
import { comparePositions, mergePositions } from '../merge-positions.ts'
import type { PositionSource } from '../merge-positions.ts'
import type { ListPosition, ListRequest } from '../storage.ts'
import { readAll } from './pipeline.ts'
import type { RedisConnection, RedisPipeline } from './redis-client.ts'

/** One cell being read: its members in order, as far as they were fetched. */
class CellCursor implements PositionSource {
  readonly key: string
  readonly waiting: ListPosition[] = []
  done = false
  /** The bound the next fetch starts from, and how many members of that very score it passes over. */
  #score: string
  #offset = 0
  #last: ListPosition | undefined

  readonly #order: ListRequest['order']
  readonly #end: string

  constructor(key: string, request: ListRequest) {
    this.key = key
    this.#order = request.order
    const isNewest = request.order === 'newest'
    this.#last = request.after
    const start = isNewest ? request.to : request.from
    const end = isNewest ? request.from : request.to
    const after = request.after?.enqueuedAt
    const tighter = isNewest ? Math.min : Math.max
    this.#score =
      after === undefined
        ? String(start ?? (isNewest ? '+inf' : '-inf'))
        : String(start === undefined ? after : tighter(start, after))
    this.#end = String(end ?? (isNewest ? '-inf' : '+inf'))
  }

  fetch(pipeline: RedisPipeline, size: number): void {
    const rest = ['WITHSCORES', 'LIMIT', String(this.#offset), String(size)]
    if (this.#order === 'newest') pipeline.zrevrangebyscore(this.key, this.#score, this.#end, ...rest)
    else pipeline.zrangebyscore(this.key, this.#score, this.#end, ...rest)
  }

  take(reply: readonly string[], size: number): void {
    for (let index = 0; index < reply.length; index += 2) {
      const position = { id: reply[index] ?? '', enqueuedAt: Number(reply[index + 1]) }
      const score = reply[index + 1] ?? ''
      this.#offset = score === this.#score ? this.#offset + 1 : 1
      this.#score = score
      if (this.#last && comparePositions(position, this.#last, this.#order) <= 0) continue
      this.#last = position
      this.waiting.push(position)
    }
    this.done = reply.length < size * 2
  }
}

export async function mergeCells(
  connection: RedisConnection,
  keys: readonly string[],
  request: ListRequest,
): Promise<ListPosition[]> {
  const cursors = keys.map((key) => new CellCursor(key, request))
  return await mergePositions(cursors, request, async (dry, size) => {
    const replies = await readAll(connection, (pipeline) => {
      for (const cursor of dry) cursor.fetch(pipeline, size)
    })
    dry.forEach((cursor, index) => cursor.take((replies[index] ?? []) as string[], size))
  })
}
