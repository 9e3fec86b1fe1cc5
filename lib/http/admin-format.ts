/**
 * How the admin writes things: durations, counts, times, and stored JSON as readable text.
 * JSON is laid out by its tokens and never parsed, so 2^53 + 1 stays what was stored. Escapes nothing: templates do.
 */
import { jsonTokens } from './json-tokens.ts'

/** Made when first used: it took a tenth of the import of this package, for processes that show no page, too. */
let numbers: Intl.NumberFormat | undefined

/** `1,204`. */
export function count(value: number): string {
  numbers ??= new Intl.NumberFormat('en-US')
  return numbers.format(value)
}

/** `1 record`, `2 records`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

const SECOND_MS = 1_000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

const UNITS: readonly (readonly [letter: string, ms: number])[] = [
  ['d', DAY_MS],
  ['h', HOUR_MS],
  ['min', MINUTE_MS],
  ['s', SECOND_MS],
]

/** `0 s`, `12 ms`, `1.5 s`, `4 min 5 s`, `3 d 2 h`: never negative, two units at most. */
export function duration(ms: number): string {
  if (!(ms > 0)) return '0 s'
  if (ms < SECOND_MS) return `${Math.max(1, Math.round(ms))} ms`
  if (ms < 10 * SECOND_MS) return `${Math.round(ms / 100) / 10} s`
  for (const [index, [letter, unit]] of UNITS.entries()) {
    if (ms < unit) continue
    const whole = Math.floor(ms / unit)
    const next = UNITS[index + 1]
    const rest = next ? Math.floor((ms - whole * unit) / next[1]) : 0
    return next && rest > 0 ? `${whole} ${letter} ${rest} ${next[0]}` : `${whole} ${letter}`
  }
  return '0 s'
}

/** A time as pages show it: for a machine, for a reader (UTC), and how far it is from now. */
export interface ShownTime {
  readonly iso: string
  readonly utc: string
  readonly relative: string
}

export function time(ms: number, nowMs: number): ShownTime {
  const iso = new Date(ms).toISOString()
  const away = ms - nowMs
  const relative = away > SECOND_MS ? `in ${duration(away)}` : `${duration(-away)} ago`
  return { iso, utc: `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`, relative }
}

export function timeOrNull(ms: number | null, nowMs: number): ShownTime | null {
  return ms === null ? null : time(ms, nowMs)
}

/** `1.4 MB`. */
export function bytes(size: number): string {
  if (size < 1_024) return `${size} bytes`
  const units = ['kB', 'MB', 'GB', 'TB']
  let value = size
  let unit = -1
  do {
    value /= 1_024
    unit += 1
  } while (value >= 1_024 && unit < units.length - 1)
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit] ?? ''}`
}

/** A share as `0 %`, `0.4 %`, `12 %`; nothing of nothing is `–`. */
export function share(part: number, whole: number): string {
  if (whole === 0) return '–'
  const percent = (part / whole) * 100
  return `${percent > 0 && percent < 10 ? Math.max(0.1, Math.round(percent * 10) / 10) : Math.round(percent)} %`
}

/** The first `length` characters on one line; never half of a surrogate pair. */
export function excerpt(text: string, length: number): string {
  const line = text
    .slice(0, length * 4 + 4)
    .replace(/\s+/g, ' ')
    .trim()
  if (line.length <= length) return line
  const cut = line.slice(0, length)
  return `${/[\uD800-\uDBFF]$/.test(cut) ? cut.slice(0, -1) : cut}…`
}

/** Deeper levels are written without further indentation, or hostile nesting would grow the text with its square. */
const DEEPEST_INDENT = 24
/** Short values stay on one line. */
const ONE_LINE = 72

export interface Readable {
  readonly text: string
  /** There is more than is shown. */
  readonly cut: boolean
}

/** Where the array or object that begins at `start` ends, if it is short enough for a line; else -1. */
function shortEnd(json: string, start: number): number {
  let depth = 0
  let quoted = false
  for (let at = start; at < Math.min(json.length, start + ONE_LINE); at++) {
    const sign = json[at]
    if (quoted) {
      if (sign === '\\') at += 1
      else if (sign === '"') quoted = false
    } else if (sign === '"') quoted = true
    else if (sign === '[' || sign === '{') depth += 1
    else if (sign === ']' || sign === '}') {
      depth -= 1
      if (depth === 0) return at + 1
    }
  }
  return -1
}

/**
 * Stored JSON with line breaks and indentation, its tokens untouched, up to about `limit` characters. What fits on a line
 * stays on one.
 */
export function readableJson(json: string, limit = Infinity): Readable {
  if (json.length <= ONE_LINE) return { text: spaced(json), cut: false }
  let text = ''
  let depth = 0
  let opened = false
  let at = 0
  /** Up to here the JSON was written already, as a part that fits on a line. */
  let written = 0
  const newLine = (): string => `\n${'  '.repeat(Math.min(depth, DEEPEST_INDENT))}`
  for (const token of jsonTokens(json)) {
    // Between tokens stands nothing but white space, so this finds the token itself.
    const start = json.indexOf(token, at)
    at = start + token.length
    if (start < written) continue
    if (text.length > limit) return { text: whole(text.slice(0, limit)), cut: true }
    const closes = token === ']' || token === '}'
    if (closes) {
      depth = Math.max(0, depth - 1)
      if (!opened) text += newLine()
    } else if (opened) {
      text += newLine()
    }
    opened = token === '[' || token === '{'
    const end = opened ? shortEnd(json, start) : -1
    if (end !== -1) {
      text += spaced(json.slice(start, end))
      written = end
      opened = false
      continue
    }
    if (opened) depth += 1
    text += token === ':' ? ': ' : token
    if (token === ',') text += newLine()
  }
  return text.length > limit ? { text: whole(text.slice(0, limit)), cut: true } : { text, cut: false }
}

/** One line, with a space behind each comma and colon that separates. */
function spaced(json: string): string {
  let text = ''
  for (const token of jsonTokens(json)) text += token === ',' || token === ':' ? `${token} ` : token
  return text
}

function whole(text: string): string {
  return /[\uD800-\uDBFF]$/.test(text) ? text.slice(0, -1) : text
}
