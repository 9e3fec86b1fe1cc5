/** The hint of an error message: which of the known words was probably meant. Knows letters, not what the words are of. */

const LONGEST_WORD = 64

const quoted = (word: string): string => `"${word}"`

/** `did you mean "queueName"?`, the word as `shownAs` writes it; `undefined` when no candidate is near. */
export function didYouMean(word: string, candidates: readonly string[], shownAs = quoted): string | undefined {
  const near = nearest(word, candidates)
  return near === undefined ? undefined : `did you mean ${shownAs(near)}?`
}

/** A cure, behind the hint where there is one. */
export function hinted(word: string, candidates: readonly string[], cure: string): string {
  const hint = didYouMean(word, candidates)
  return hint === undefined ? cure : `${hint} ${cure}`
}

/**
 * The candidate that was probably meant; `undefined` when none is near. Case, `_` and `-` are passed over, a beginning of three
 * letters or more counts as near, else a third of the letters may be wrong.
 */
function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > LONGEST_WORD) return undefined
  const wanted = plainWord(word)
  let found: string | undefined
  let least = Infinity
  for (const candidate of candidates) {
    if (candidate.length > 2 * LONGEST_WORD) continue
    const plain = plainWord(candidate)
    const longer = Math.max(wanted.length, plain.length)
    const bound = Math.max(1, Math.floor(longer / 3))
    const starts = wanted.length >= 3 && plain.startsWith(wanted)
    const distance = Math.min(starts ? bound : Infinity, wordDistance(wanted, plain, bound))
    if (distance <= bound && distance < longer && distance < least) {
      found = candidate
      least = distance
    }
  }
  return found
}

function plainWord(word: string): string {
  return word.toLowerCase().replace(/[_-]/g, '')
}

/** Letters to add, drop, change or swap with their neighbour (Damerau-Levenshtein, restricted); Infinity when surely above the bound. */
function wordDistance(a: string, b: string, bound: number): number {
  if (Math.abs(a.length - b.length) > bound) return Infinity
  let [before, above]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)]
  const at = (cells: readonly number[], j: number): number => cells[j] ?? Infinity
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const changed = at(above, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(before, j - 2) + 1 : Infinity
      current.push(Math.min(at(above, j) + 1, at(current, j - 1) + 1, changed, swapped))
    }
    before = above
    above = current
  }
  return at(above, b.length)
}
