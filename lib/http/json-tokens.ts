/**
 * JSON text as tokens: strings with their quotes, brackets, commas, colons, and each other word. Builds no value, judges nothing.
 * Linear in the length of whatever it is given. A pattern for whole strings is not: where the closing quote is missing it goes
 * back over the rest of the text at every quote, and 240 kB of `\"` held the process for 20 s.
 */

const TOKEN = /["[\]{},:]|[^\s"[\]{},:]+/g

/** The tokens in their order. A string without its closing quote is the last one. */
export function* jsonTokens(text: string): Generator<string, void, undefined> {
  for (let at = 0; ;) {
    // The pattern is shared: its place is set before each use, as the reader of this generator may stop or start another.
    TOKEN.lastIndex = at
    const [token] = TOKEN.exec(text) ?? []
    if (token === undefined) return
    const start = TOKEN.lastIndex - token.length
    at = token === '"' ? endOfString(text, start) : start + token.length
    yield text.slice(start, at)
  }
}

/** Behind the quote that closes the string at `start`: one that an even number of backslashes precedes. */
function endOfString(text: string, start: number): number {
  for (let from = start + 1; ;) {
    const quote = text.indexOf('"', from)
    if (quote === -1) return text.length
    let backslashes = 0
    while (quote - 1 - backslashes >= from && text[quote - 1 - backslashes] === '\\') backslashes += 1
    if (backslashes % 2 === 0) return quote + 1
    from = quote + 1
  }
}
