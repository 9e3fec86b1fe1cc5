/**
 * Logger: the shape we log to (pino's call shape), a silent one, one for a console, and what keeps secrets and control
 * characters out of a line: `redactUrl`, `cleanText`, `cleanFacts`.
 * Never throws into its caller (`guardedLogger` sees to that for loggers that others bring), never writes more than a line a call.
 */
import { systemClock } from './clock.ts'
import type { Clock } from './clock.ts'

/** What a logger has to have; pino, bunyan and the like fit. Facts first, then the message. */
export interface Logger {
  debug(facts: object, message: string): void
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export type LogLevel = (typeof LOG_LEVELS)[number]

/** True for something that can be logged to. */
export function isLogger(value: unknown): value is Logger {
  return (
    typeof value === 'object' &&
    value !== null &&
    LOG_LEVELS.every((level) => typeof (value as Partial<Logger>)[level] === 'function')
  )
}

/** A logger by one function, which is told the level of each line. */
export function loggerOf(log: (level: LogLevel, facts: object, message: string) => void): Logger {
  return Object.freeze({
    debug: (facts: object, message: string) => log('debug', facts, message),
    info: (facts: object, message: string) => log('info', facts, message),
    warn: (facts: object, message: string) => log('warn', facts, message),
    error: (facts: object, message: string) => log('error', facts, message),
  })
}

/** Says nothing. The default of the library; the commands bring a logger of their own. */
export const silentLogger: Logger = loggerOf(() => {})

/** The same logger, whose calls neither throw nor reject: a full disk must not fail a task. */
export function guardedLogger(logger: Logger): Logger {
  return loggerOf((level, facts, message) => {
    try {
      const answer: unknown = logger[level](facts, message)
      if (answer instanceof Promise) answer.catch(() => {})
    } catch {
      // There is nowhere left to tell it.
    }
  })
}

export interface ConsoleLoggerOptions {
  /** The lowest level that is written; default `info`. */
  readonly level?: LogLevel | 'silent'
  /** Where lines go; default stderr. */
  readonly write?: (line: string) => void
  readonly clock?: Pick<Clock, 'now'>
}

/** Writes a line a call: `2026-01-31T12:00:00.000Z WARN  message key="value" other=1`. */
export function consoleLogger(options: ConsoleLoggerOptions = {}): Logger {
  const { level: lowest = 'info', write = (line: string) => process.stderr.write(line), clock = systemClock } = options
  const from = lowest === 'silent' ? LOG_LEVELS.length : LOG_LEVELS.indexOf(lowest)
  return guardedLogger(
    loggerOf((level, facts, message) => {
      if (LOG_LEVELS.indexOf(level) < from) return
      const shown = Object.entries(cleanFacts(facts)).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`)
      const head = `${new Date(clock.now()).toISOString()} ${level.toUpperCase().padEnd(5)} ${cleanText(message)}`
      write(`${cut(head + shown.join(''), LINE_LENGTH)}\n`)
    }),
  )
}

const TEXT_LENGTH = 2_000
const LINE_LENGTH = 8_000
const MOST_ENTRIES = 50
const MOST_LEVELS = 4
const HIDDEN = '[redacted]'

// Escape sequences as a whole, so that no "[31m" stays behind.
// eslint-disable-next-line no-control-regex -- control characters are what it looks for
const ANSI = /(?:\u001b\[|\u009b)[0-?]{0,64}[ -/]{0,8}[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g
// C0 without tab and line ends, DEL and C1, line and paragraph separators, everything that turns or hides direction.
const UNSEEN =
  // eslint-disable-next-line no-control-regex -- control characters are what it looks for
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g
const SECRET_KEY = /authorization|cookie|passw|secret|api[-_]?key/i
const HEADER =
  /\b((?:proxy-)?authorization|(?:set-)?cookie)(["']?[\t ]{0,8}[:=][\t ]{0,8})(?:"[^"\n]*"|'[^'\n]*'|[^\n]*)/gi
const CREDENTIALS = /\b(bearer|basic)[\t ]{1,8}[\w.~+/=-]{6,}/gi

/** One line without control characters, terminal sequences, bidi controls and secrets; at most 2,000 characters. */
export function cleanText(text: string): string {
  // Cut with room to spare: a URL must not lose its "@host" before its password was found.
  const short = text
    .slice(0, 4 * TEXT_LENGTH)
    .replace(ANSI, '')
    .replace(UNSEEN, '')
  const safe = redactUrl(short).replace(HEADER, `$1$2${HIDDEN}`).replace(CREDENTIALS, `$1 ${HIDDEN}`)
  return cut(safe.replace(/\s+/g, ' '), TEXT_LENGTH)
}

/** A plain copy of facts that may be shown: texts cleaned, secrets by key hidden, big things cut. For any logger. */
export function cleanFacts(facts: object): Record<string, unknown> {
  const copy = cleanValue(facts, 0)
  return typeof copy === 'object' && copy !== null ? (copy as Record<string, unknown>) : { facts: copy }
}

function cleanValue(value: unknown, level: number): unknown {
  try {
    switch (typeof value) {
      case 'string':
        return cleanText(value)
      case 'number':
        return Number.isFinite(value) ? value : String(value)
      case 'boolean':
        return value
      case 'object':
        return value === null ? null : cleanObject(value, level)
      case 'function':
        return '[function]'
      default:
        return cleanText(String(value))
    }
  } catch {
    // A getter, a Proxy or a toString of the caller's threw.
    return `[${typeof value} that cannot be shown]`
  }
}

function cleanObject(value: object, level: number): unknown {
  if (value instanceof Date || value instanceof URL) return cleanText(String(JSON.parse(JSON.stringify(value))))
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (level >= MOST_LEVELS) return Array.isArray(value) ? '[array]' : '[object]'
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value
    const first = items.slice(0, MOST_ENTRIES).map((item) => cleanValue(item, level + 1))
    return items.length > MOST_ENTRIES ? [...first, `… ${items.length - MOST_ENTRIES} more`] : first
  }
  const keys = Object.keys(value)
  const shown = keys.slice(0, MOST_ENTRIES)
  if (value instanceof Error) shown.unshift('name', 'message', 'stack', ...('cause' in value ? ['cause'] : []))
  // Made from entries, so that a key such as `__proto__` is a key like any other.
  const entries = [...new Set(shown)].map((key): [string, unknown] => {
    if (SECRET_KEY.test(key)) return [cleanText(key), HIDDEN]
    return [cleanText(key), cleanValue(readOf(value, key), level + 1)]
  })
  if (keys.length > MOST_ENTRIES) entries.push(['…', `${keys.length - MOST_ENTRIES} more`])
  return Object.fromEntries(entries)
}

function readOf(value: object, key: string): unknown {
  try {
    return (value as Record<string, unknown>)[key]
  } catch {
    return '[a getter that throws]'
  }
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text
}

const REDIS_SCHEME = /^(?:redis|valkey)s?$/i
const SECRET_PARAMETER = /([?&](?:password|passwd|auth|token|access_token|secret|api_key)=)[^&#]+/gi

/** The text with the password of every URL in it replaced by `***`, also of URLs whose password was not encoded. */
export function redactUrl(text: string): string {
  if (!text.includes('://')) return text
  // Word by word and by position instead of with one pattern: time stays linear in the text, whatever it holds.
  return text.replace(/[^\s"'<>`]+/g, (word) => (word.includes('://') ? redactWord(word) : word))
}

function redactWord(word: string): string {
  const parts = word.split('://')
  for (let i = 1; i < parts.length; i += 1) {
    const [before, rest] = [parts[i - 1] ?? '', parts[i] ?? '']
    const scheme = /[a-z][a-z0-9+.-]{0,20}$/i.exec(before.slice(-21))?.[0] ?? ''
    // Elsewhere an "@" may stand in the path; in a Redis URL it can only follow the password, which may hold a "/".
    const end = REDIS_SCHEME.test(scheme) ? rest.length : rest.search(/[/?#]|$/)
    const at = rest.lastIndexOf('@', end - 1)
    const colon = rest.indexOf(':')
    const host = at === -1 || end === 0 ? rest : rest.slice(at + 1)
    const user =
      host === rest ? '' : colon === -1 || colon + 1 >= at ? rest.slice(0, at + 1) : `${rest.slice(0, colon)}:***@`
    parts[i] = user + host.replace(SECRET_PARAMETER, '$1***')
  }
  return parts.join('://')
}
