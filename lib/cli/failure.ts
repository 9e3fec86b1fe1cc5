/**
 * Why a command ends before its time: an error as plain data, with the exit code that it means. Plain, because it also comes
 * out of worker threads, where classes do not survive.
 */
import { inspect } from 'node:util'
import { TaskError } from '../errors.ts'
import { cleanText } from '../logger.ts'

/** What the commands end with; documented in their `--help`. */
export const EXIT = { ok: 0, unexpected: 1, usage: 2, unreachable: 3, handedBack: 4 } as const

export interface Failure {
  readonly exitCode: number
  readonly code: string
  /** One clean line. */
  readonly message: string
  /** Further clean lines: the user's own error, with its stack. */
  readonly details: readonly string[]
}

const EXIT_CODES: Readonly<Record<string, number>> = {
  ERR_TASKS_OPTION: EXIT.usage,
  ERR_TASKS_IMPORT: EXIT.usage,
  ERR_TASKS_TS_LOADER: EXIT.usage,
  ERR_TASKS_STORAGE_CLIENT: EXIT.usage,
  ERR_TASKS_STORAGE_UNAVAILABLE: EXIT.unreachable,
  ERR_TASKS_STORAGE_UNFIT: EXIT.unreachable,
}

const MAX_DETAILS = 30

export function failureOf(error: unknown): Failure {
  if (!(error instanceof TaskError)) {
    const [message = '', ...details] = linesOf(error)
    return { exitCode: EXIT.unexpected, code: 'ERR_TASKS_UNEXPECTED', message, details }
  }
  const exitCode = EXIT_CODES[error.code] ?? EXIT.unexpected
  // The cause of an import is the user's own error; that of an outage says nothing that the message does not.
  const details = exitCode === EXIT.usage && error.cause !== undefined ? linesOf(error.cause) : []
  return { exitCode, code: error.code, message: cleanText(error.message), details }
}

/** Whatever was thrown, as clean lines: its text first, then its stack. Never throws itself. */
export function linesOf(thrown: unknown): string[] {
  let text: string
  try {
    text = thrown instanceof Error && typeof thrown.stack === 'string' ? withCause(thrown) : inspect(thrown)
  } catch {
    text = `(a ${typeof thrown} that cannot be shown)`
  }
  const lines = text.slice(0, 20_000).split('\n')
  const shown = lines
    .slice(0, MAX_DETAILS)
    .map((line) => `${/^ */.exec(line)?.[0] ?? ''}${cleanText(line).trimStart()}`)
  return lines.length > MAX_DETAILS ? [...shown, `… ${lines.length - MAX_DETAILS} more lines`] : shown
}

/** A stack names its error only as it was when it was made; `inspect` shows code, fields and cause as well. */
function withCause(error: Error): string {
  const stack = error.stack ?? ''
  // A syntax error of an imported file has its place in front of its name: inspect would add the name once more.
  return stack.startsWith(error.name) || stack.startsWith('Error') ? inspect(error) : stack
}
