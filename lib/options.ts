/**
 * Options: one frozen table of rows for each set, and the one validator. A row holds shape, bounds, default and description;
 * commands, router and docs read the same rows. Also names.
 * Only own properties of what is given count, each is read once, and the object itself is never kept.
 */
import { types } from 'node:util'
import { didYouMean } from './did-you-mean.ts'
import { shown, TaskOptionError, verbatim } from './errors.ts'
import { pathOf } from './json.ts'
import { redactUrl } from './logger.ts'

/** One option: what it may be, and what `checkOptions` makes of it. */
export interface Row<T> {
  readonly kind: 'integer' | 'number' | 'text' | 'flag' | 'oneOf' | 'list' | 'date' | 'anything'
  /** The permitted values in words, as they follow "expected … to be". */
  readonly shape: string
  readonly description: string
  readonly default?: T
  /** The value as it is kept. @throws TaskOptionError it is not of this shape. */
  readonly read: (field: string, value: unknown) => T
  readonly min?: number
  readonly max?: number
  readonly maxLength?: number
  readonly pattern?: RegExp
  readonly values?: readonly string[]
  /** For a list: the row of an item. */
  readonly item?: Row<unknown>
}

export type RowWithDefault<T> = Row<T> & { readonly default: T }

export type OptionTable = Readonly<Record<string, Row<unknown>>>

type ValueOf<R> = R extends Row<infer T> ? T : never
type KeyWithDefault<T> = { [K in keyof T]: T[K] extends { readonly default: unknown } ? K : never }[keyof T]

/** What `checkOptions` answers: keys with a default are there, others only where they were given. */
export type OptionsOf<T extends OptionTable> = Readonly<
  { [K in KeyWithDefault<T>]: ValueOf<T[K]> } & { [K in Exclude<keyof T, KeyWithDefault<T>>]?: ValueOf<T[K]> }
>

/** What a caller may give: every key may be left out or `undefined`. */
export type GivenOptions<T extends OptionTable> = { readonly [K in keyof T]?: ValueOf<T[K]> | undefined }

/** What every row may say of itself. `secret` values are never shown; `cure` ends the message. */
interface Facts<T> {
  readonly description: string
  readonly default?: T
  readonly cure?: string
  readonly secret?: boolean
}

type Built<T, F> = F extends { readonly default: unknown } ? RowWithDefault<T> : Row<T>

type RowRest = Partial<Pick<Row<unknown>, 'min' | 'max' | 'maxLength' | 'pattern' | 'values' | 'item'>>

/** `parse` answers the value to keep, or a refusal: `undefined`, or the cure that fits this very value. */
function row<T, F extends Facts<T>>(
  kind: Row<T>['kind'],
  shape: string,
  facts: F,
  parse: (value: unknown, field: string) => { value: T } | { cure: string } | undefined,
  rest: RowRest = {},
): Built<T, F> {
  const { description, cure, secret = false } = facts
  const usualCure = cure ?? (facts.default === undefined ? `give ${shape}` : `leave it out for ${shown(facts.default)}`)
  const read = (field: string, value: unknown): T => {
    let parsed: ReturnType<typeof parse>
    try {
      parsed = parse(value, field)
    } catch (cause) {
      if (cause instanceof TaskOptionError) throw cause
      // A Proxy or a getter of the caller's.
      throw new TaskOptionError(field, shape, verbatim('a value that throws'), 'see the cause', { cause })
    }
    if (parsed && 'value' in parsed) return parsed.value
    const got = secret ? verbatim('a value that is not shown') : showable(value)
    throw new TaskOptionError(field, shape, got, parsed?.cure ?? usualCure)
  }
  // The default is held to the same shape, and kept in the same (frozen) form.
  const withDefault = facts.default === undefined ? {} : { default: read('default', facts.default) }
  return Object.freeze({ kind, shape, description, read, ...rest, ...withDefault }) as Row<T> as Built<T, F>
}

/** A value as a message may show it: no password of a URL, and of an object, which may hold others, only that it is one. */
function showable(value: unknown): unknown {
  if (typeof value === 'string') return redactUrl(value.slice(0, 1000))
  if (typeof value === 'function') return verbatim('a function')
  if (typeof value !== 'object' || value === null || types.isDate(value)) return value
  try {
    if (!Array.isArray(value)) return verbatim(`an object ${Object.prototype.toString.call(value)}`)
    const items: readonly unknown[] = value.slice(0, 10)
    return items.map((item) => (Array.isArray(item) ? verbatim('an array') : showable(item)))
  } catch {
    return verbatim('a value that throws')
  }
}

function bounds(noun: string, min: number, max: number): string {
  if (min > -Infinity && max < Infinity) return `${noun} from ${min} to ${max}`
  if (min > -Infinity) return `${noun} of at least ${min}`
  return max < Infinity ? `${noun} of at most ${max}` : noun
}

interface NumberFacts extends Facts<number> {
  readonly min?: number
  readonly max?: number
}

function numeric<F extends NumberFacts>(kind: 'integer' | 'number', facts: F): Built<number, F> {
  const { min = -Infinity, max = Infinity } = facts
  const is = kind === 'integer' ? Number.isSafeInteger : Number.isFinite
  const fits = (value: number): boolean => is(value) && value >= min && value <= max
  return row<number, F>(
    kind,
    bounds(kind === 'integer' ? 'an integer' : 'a number', min, max),
    facts,
    (value) => {
      // `+ 0` makes 0 of -0.
      if (typeof value === 'number') return fits(value) ? { value: value + 0 } : undefined
      const meant = typeof value === 'string' && value.trim() !== '' && value.length < 30 ? Number(value) : NaN
      return fits(meant) ? { cure: `give a number: ${meant}` } : undefined
    },
    { ...(min > -Infinity && { min }), ...(max < Infinity && { max }) },
  )
}

/** A whole number that doubles carry exactly; `3.0` is one, `"3"` is none. */
export function integer<const F extends NumberFacts>(facts: F): Built<number, F> {
  return numeric('integer', facts)
}

/** A finite number. */
export function number<const F extends NumberFacts>(facts: F): Built<number, F> {
  return numeric('number', facts)
}

interface TextFacts extends Facts<string> {
  /** Tested against the whole text: give it `^` and `$`. */
  readonly pattern?: RegExp
  /** In UTF-16 units; default 1. */
  readonly minLength?: number
  /** In UTF-16 units; default 1000. */
  readonly maxLength?: number
  /** The permitted texts in words. */
  readonly shape?: string
  /** What no pattern says: the cure of a text that is refused all the same, undefined for one that is fine. */
  readonly fault?: (value: string) => string | undefined
}

/** A text, by default of 1 to 1000 characters. */
export function text<const F extends TextFacts>(facts: F): Built<string, F> {
  const { pattern, minLength = 1, maxLength = 1000 } = facts
  const plain = `a text of ${minLength} to ${maxLength} characters`
  const matching = pattern === NAME_PATTERN ? NAME_SHAPE : `${plain} that matches ${String(pattern)}`
  return row<string, F>(
    'text',
    facts.shape ?? (pattern ? matching : plain),
    facts,
    (value) => {
      if (typeof value !== 'string' || value.length < minLength || value.length > maxLength) return undefined
      if (pattern && !pattern.test(value)) return undefined
      const fault = facts.fault?.(value)
      return fault === undefined ? { value } : { cure: fault }
    },
    { maxLength, ...(pattern && { pattern }) },
  )
}

/** true or false, and nothing that merely counts as such. */
export function flag<const F extends Facts<boolean>>(facts: F): Built<boolean, F> {
  return row<boolean, F>('flag', 'true or false', facts, (value) => {
    if (typeof value === 'boolean') return { value }
    return value === 'true' || value === 'false' ? { cure: `give ${value} without quotes` } : undefined
  })
}

/** One of some words. */
export function oneOf<const T extends string, const F extends Facts<NoInfer<T>>>(
  words: readonly T[],
  facts: F,
): Built<T, F> {
  const shape = words.length === 1 ? `"${words[0]}"` : `one of ${words.join(', ')}`
  return row<T, F>(
    'oneOf',
    shape,
    facts,
    (value) => {
      const word = words.find((candidate) => candidate === value)
      if (word !== undefined) return { value: word }
      const cure = typeof value === 'string' ? didYouMean(value, words) : undefined
      return cure === undefined ? undefined : { cure }
    },
    { values: Object.freeze([...words]) },
  )
}

interface ListFacts<T> extends Facts<readonly T[]> {
  /** Default 1000. */
  readonly maxLength?: number
}

/** An array whose items all are of one row. The answer is a frozen copy. */
export function listOf<T, const F extends ListFacts<NoInfer<T>>>(item: Row<T>, facts: F): Built<readonly T[], F> {
  const { maxLength = 1000 } = facts
  return row<readonly T[], F>(
    'list',
    `a list of at most ${maxLength} items, each ${item.shape}`,
    facts,
    (value, field) => {
      if (!Array.isArray(value)) return { cure: 'put it into a list: [value]' }
      const given: readonly unknown[] = value
      if (given.length > maxLength) return undefined
      // `Array.from` reads holes as undefined, which no row takes.
      return { value: Object.freeze(Array.from(given, (each, i) => item.read(`${field}[${i}]`, each))) }
    },
    { item, maxLength },
  )
}

/** A valid Date; the answer is a copy. */
export function date<const F extends Facts<Date>>(facts: F): Built<Date, F> {
  return row<Date, F>('date', 'a valid Date', facts, (value) => {
    if (types.isDate(value)) {
      const ms = Date.prototype.getTime.call(value)
      return Number.isNaN(ms) ? { cure: 'the text it was made from was no date' } : { value: new Date(ms) }
    }
    if (typeof value === 'number') return { cure: 'seconds or milliseconds? give new Date(milliseconds)' }
    return { cure: typeof value === 'string' ? 'give new Date(text)' : 'give a Date' }
  })
}

/** Whatever `is` says yes to. The value itself is kept: for functions, clients and loggers. */
export function anything<T, const F extends Facts<NoInfer<T>>>(
  facts: F & { readonly shape: string; readonly is: (value: unknown) => value is T },
): Built<T, F> {
  return row<T, F>('anything', facts.shape, facts, (value) => (facts.is(value) ? { value } : undefined))
}

/** What an option may be, and its default, in words for `--help` and docs. */
export function describeRow({ shape, default: usual }: Row<unknown>): string {
  return usual === undefined ? shape : `${shape} (default ${shown(usual)})`
}

/**
 * A frozen, typed copy of the options given, with the defaults. It has no prototype: nothing comes in from there either.
 *
 * @param where names them in messages: `options` makes `options.priority`.
 * @throws TaskOptionError not an object, a key that the table lacks (the nearest one is named), or a value not of its shape.
 */
export function checkOptions<const T extends OptionTable>(where: string, table: T, given: unknown): OptionsOf<T> {
  const options = ownProperties(where, given)
  for (const key of options.keys()) if (!Object.hasOwn(table, key)) throw unknownOption(where, table, key)
  const checked = Object.create(null) as Record<string, unknown>
  for (const [key, option] of Object.entries(table)) {
    const value = options.get(key)
    const kept = value === undefined ? option.default : option.read(`${where}.${key}`, value)
    if (kept !== undefined) checked[key] = kept
  }
  return Object.freeze(checked) as OptionsOf<T>
}

function ownProperties(where: string, given: unknown): ReadonlyMap<string, unknown> {
  if (given === undefined) return new Map()
  try {
    if (isPlain(given)) return new Map(Object.entries(given))
  } catch (cause) {
    throw new TaskOptionError(where, 'an object that can be read', verbatim('one that throws'), 'see the cause', {
      cause,
    })
  }
  throw new TaskOptionError(where, 'a plain object', showable(given), 'give { name: value, … }')
}

/** Object.prototype is told by having no prototype itself: options may come from another realm (vm, jest). */
function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

function unknownOption(where: string, table: OptionTable, key: string): TaskOptionError {
  const known = Object.keys(table)
  const cure = didYouMean(key, known) ?? `known are: ${known.join(', ')}`
  return new TaskOptionError(pathOf(where, [key]), 'a known option', verbatim('an unknown one'), cure)
}

/** Letters, digits, `_`, `.` and `-`, 1 to 128 of them, a letter or digit first: names of tasks, queues and backends. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/
const NAME_SHAPE = 'a name of 1 to 128 letters, digits, "_", "." or "-", the first a letter or digit'

/** The name itself. @throws TaskOptionError it does not match NAME_PATTERN. */
export function checkName(field: string, value: unknown): string {
  if (typeof value === 'string' && NAME_PATTERN.test(value)) return value
  throw new TaskOptionError(field, NAME_SHAPE, showable(value), 'give it another name: "reports.build"')
}
