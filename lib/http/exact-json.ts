/**
 * What JSON.parse would change in silence: integers beyond 2^53, numbers beyond a double, the first of two values under one
 * key. Looks at the text of a body before it is parsed, token by token, and names the first offender by a JSON Pointer.
 */
import { jsonTokens } from './json-tokens.ts'

interface Level {
  /** Of an object: the keys that were met. */
  readonly keys: Set<string> | undefined
  step: string | number
}

export interface Inexact {
  readonly pointer: string
  readonly kind: 'number' | 'key'
  /** As it stands in the text, shortened. */
  readonly token: string
}

const NUMBER = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const SHOWN = 60

/** The first number that a double cannot carry, or key that is there twice; undefined when all of it can be read. */
export function inexactJson(text: string): Inexact | undefined {
  const path: Level[] = []
  let key = ''
  for (const token of jsonTokens(text)) {
    const level = path.at(-1)
    if (token === '{' || token === '[') path.push({ keys: token === '{' ? new Set() : undefined, step: 0 })
    else if (token === '}' || token === ']') path.pop()
    else if (token === ':' && level?.keys) {
      level.step = decoded(key)
      if (level.keys.has(level.step)) return { pointer: pointerTo(path), kind: 'key', token: key.slice(0, SHOWN) }
      level.keys.add(level.step)
    } else if (token === ',' && level && !level.keys) level.step = Number(level.step) + 1
    else if (token.startsWith('"')) key = token
    else if (NUMBER.test(token) && !isExact(token)) {
      return { pointer: pointerTo(path), kind: 'number', token: token.slice(0, SHOWN) }
    }
  }
  return undefined
}

function pointerTo(path: readonly Level[]): string {
  return path.map(({ step }) => `/${String(step).replace(/~/g, '~0').replace(/\//g, '~1')}`).join('')
}

/** A key with its escapes read: `"\u0061"` is `"a"`. Text that is no JSON is refused by the parser afterwards. */
function decoded(token: string): string {
  if (!token.includes('\\')) return token.slice(1, -1)
  try {
    return String(JSON.parse(token))
  } catch {
    return token
  }
}

function isExact(token: string): boolean {
  const value = Number(token)
  // Beyond a double on either side: infinite, or nothing left of it.
  if (!Number.isFinite(value)) return false
  if (value === 0 && /[1-9]/.test(token.split(/e/i)[0] ?? '')) return false
  return !/^-?\d+$/.test(token) || Number.isSafeInteger(value)
}
