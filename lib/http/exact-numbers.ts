/**
 * Numbers that JSON.parse would round in silence: integers beyond 2^53, numbers beyond a double. Looks at the text of a body
 * before it is parsed, token by token, and names the first offender by a JSON Pointer. Builds no value.
 */

/** Strings and numbers with what surrounds them; anything else (true, null, white space) is passed over. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[[\]{},:]/g

interface Level {
  readonly list: boolean
  step: string | number
}

/** The pointer of the first number that a double cannot carry, and that number; undefined when all are exact. */
export function roundedNumber(text: string): { readonly pointer: string; readonly number: string } | undefined {
  const path: Level[] = []
  let key = ''
  for (const [token] of text.matchAll(TOKEN)) {
    const level = path.at(-1)
    if (token === '{' || token === '[') path.push({ list: token === '[', step: 0 })
    else if (token === '}' || token === ']') path.pop()
    else if (token === ':' && level) level.step = key
    else if (token === ',' && level?.list) level.step = Number(level.step) + 1
    else if (token.startsWith('"')) key = token.slice(1, -1)
    else if (/\d/.test(token) && !isExact(token)) {
      const pointer = path.map(({ step }) => `/${String(step).replace(/~/g, '~0').replace(/\//g, '~1')}`).join('')
      return { pointer, number: token.slice(0, 60) }
    }
  }
  return undefined
}

function isExact(token: string): boolean {
  const value = Number(token)
  if (!Number.isFinite(value)) return false
  return !/^-?\d+$/.test(token) || Number.isSafeInteger(value)
}
