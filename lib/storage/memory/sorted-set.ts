/**
 * Members by score, and by their bytes where scores are equal: the order in which Redis keeps a sorted set.
 * Kept in sorted chunks of at most 512, so that a hundred thousand members cost an insertion no long move.
 * Knows nothing of records or time; numbers and names come from the caller.
 */

export interface Member {
  readonly score: number
  readonly member: string
}

/** A stretch of the set. Scores are inclusive bounds; `after` starts strictly behind a place, member present or not. */
export interface Range {
  readonly from?: number | undefined
  readonly to?: number | undefined
  readonly after?: Member | undefined
  readonly order?: 'ascending' | 'descending'
  readonly limit: number
}

interface Spot {
  readonly chunk: number
  readonly index: number
}

const CHUNK_SIZE = 512

/** UTF-16 sorts surrogates below U+E000..U+FFFF, UTF-8 above them: this puts a code unit where its bytes belong. */
function byteRank(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit
}

/** Below zero when the first comes first; texts compare as their UTF-8 bytes do. */
export function compareMembers(a: Member, b: Member): number {
  if (a.score !== b.score) return a.score - b.score
  const shared = Math.min(a.member.length, b.member.length)
  for (let i = 0; i < shared; i++) {
    const left = a.member.charCodeAt(i)
    const right = b.member.charCodeAt(i)
    if (left !== right) return byteRank(left) - byteRank(right)
  }
  return a.member.length - b.member.length
}

export class SortedSet {
  readonly #scores = new Map<string, number>()
  readonly #chunks: Member[][] = []

  get size(): number {
    return this.#scores.size
  }

  score(member: string): number | undefined {
    return this.#scores.get(member)
  }

  /** Adds a member, or moves it to another score. */
  add(member: string, score: number): void {
    const old = this.#scores.get(member)
    if (old === score) return
    if (old !== undefined) this.remove(member)
    const added = { score, member }
    this.#scores.set(member, score)
    const spot = this.#firstNot((other) => compareMembers(other, added) < 0)
    const behindAll = spot.chunk === this.#chunks.length
    const at = behindAll ? spot.chunk - 1 : spot.chunk
    const chunk = this.#chunks[at]
    if (!chunk) {
      this.#chunks.push([added])
      return
    }
    chunk.splice(behindAll ? chunk.length : spot.index, 0, added)
    if (chunk.length > CHUNK_SIZE) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK_SIZE / 2))
  }

  /** True when the member was there. */
  remove(member: string): boolean {
    const score = this.#scores.get(member)
    if (score === undefined) return false
    const removed = { score, member }
    const spot = this.#firstNot((other) => compareMembers(other, removed) < 0)
    const chunk = this.#chunks[spot.chunk]
    chunk?.splice(spot.index, 1)
    if (chunk?.length === 0) this.#chunks.splice(spot.chunk, 1)
    return this.#scores.delete(member)
  }

  first(): Member | undefined {
    return this.#chunks[0]?.[0]
  }

  /** How many members have a score between two bounds, both inclusive. */
  countBetween(from: number, to: number): number {
    const start = this.#firstNot((other) => other.score < from)
    const end = this.#firstNot((other) => other.score <= to)
    return Math.max(0, this.#rank(end) - this.#rank(start))
  }

  /** Up to `limit` members of a stretch, in its order. */
  range({ from = -Infinity, to = Infinity, after, order = 'ascending', limit }: Range): Member[] {
    const found: Member[] = []
    const members =
      order === 'ascending'
        ? this.#forwards(
            this.#firstNot((m) => m.score < from || (after !== undefined && compareMembers(m, after) <= 0)),
          )
        : this.#backwards(this.#firstNot((m) => m.score <= to && (after === undefined || compareMembers(m, after) < 0)))
    for (const member of members) {
      if (found.length >= limit || member.score < from || member.score > to) break
      found.push(member)
    }
    return found
  }

  /** The place of the first member for which `before` is false; it must be true for all that come before that. */
  #firstNot(before: (member: Member) => boolean): Spot {
    let low = 0
    let high = this.#chunks.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const last = this.#chunks[middle]?.at(-1)
      if (last && before(last)) low = middle + 1
      else high = middle
    }
    const chunk = this.#chunks[low]
    if (!chunk) return { chunk: low, index: 0 }
    let from = 0
    let to = chunk.length
    while (from < to) {
      const middle = (from + to) >>> 1
      const member = chunk[middle]
      if (member && before(member)) from = middle + 1
      else to = middle
    }
    return { chunk: low, index: from }
  }

  #rank(spot: Spot): number {
    let rank = spot.index
    for (let i = 0; i < spot.chunk; i++) rank += this.#chunks[i]?.length ?? 0
    return rank
  }

  *#forwards(start: Spot): Generator<Member, void> {
    for (let at = start.chunk; at < this.#chunks.length; at++) {
      const chunk = this.#chunks[at] ?? []
      for (let index = at === start.chunk ? start.index : 0; index < chunk.length; index++) {
        const member = chunk[index]
        if (member) yield member
      }
    }
  }

  *#backwards(end: Spot): Generator<Member, void> {
    for (let at = end.chunk; at >= 0; at--) {
      const chunk = this.#chunks[at] ?? []
      for (let index = (at === end.chunk ? end.index : chunk.length) - 1; index >= 0; index--) {
        const member = chunk[index]
        if (member) yield member
      }
    }
  }
}
