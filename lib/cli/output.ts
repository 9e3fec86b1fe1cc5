/**
 * What the commands print. For people: results on stdout, everything else on stderr. With `json`: one object a line on stdout,
 * and nothing else there. No control characters and no passwords get out; a reader that goes away is no error.
 */
import cliProgress from 'cli-progress'
import { styleText } from 'node:util'
import { systemClock } from '../clock.ts'
import { cleanFacts, cleanText, consoleLogger, LOG_LEVELS } from '../logger.ts'
import type { Logger, LogLevel } from '../logger.ts'
import type { Failure } from './failure.ts'

export interface OutputOptions {
  readonly json: boolean
  readonly quiet: boolean
  readonly logLevel: LogLevel | 'silent'
}

/** How often something is said of work that goes on, where there is no terminal to draw on. */
const PROGRESS_INTERVAL_MS = 10_000

export class Output {
  readonly options: OutputOptions
  readonly #logger: Logger
  #closed = false
  #onClosed: (() => void) | undefined

  constructor(options: OutputOptions) {
    this.options = options
    this.#logger = consoleLogger({ level: options.logLevel, write: (line) => this.#stderr(line) })
    process.stdout.on('error', (error: NodeJS.ErrnoException) => this.#stdoutFailed(error))
    // Nobody reads what is said beside the results: they go on.
    process.stderr.on('error', () => {})
  }

  /** Calls `act` once stdout has no reader any more (`… | head -1`). */
  onClosed(act: () => void): void {
    this.#onClosed = act
  }

  /** What the command was asked for: on stdout. */
  result(event: string, facts: object, line: string): void {
    if (this.options.json) this.record('info', event, facts)
    else if (!this.options.quiet) this.#stdout(`${line}\n`)
  }

  /** About the run itself, for people on stderr. */
  note(level: LogLevel, event: string, facts: object, lines: string | readonly string[]): void {
    if (this.options.quiet && (level === 'info' || level === 'debug')) return
    if (this.options.json) this.record(level, event, facts)
    else for (const line of typeof lines === 'string' ? [lines] : lines) this.#stderr(`${line}\n`)
  }

  /** A line of the log, here or of a worker thread. */
  log(level: LogLevel, facts: object, message: string): void {
    const { json, quiet, logLevel } = this.options
    const lowest = quiet && (logLevel === 'debug' || logLevel === 'info') ? 'warn' : logLevel
    if (lowest === 'silent' || LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(lowest)) return
    if (json) this.record(level, 'log', { message, ...facts })
    else this.#logger[level](facts, message)
  }

  /** Why the command ends: in words on stderr, with `json` as a record too. */
  fail({ code, message, details, exitCode }: Failure): void {
    if (this.options.json) this.record('error', 'error', { code, message, details, exit_code: exitCode })
    this.#stderr([`${code}: ${message}`, ...details, ''].join('\n'))
  }

  /** A line on stdout, whatever the options say. */
  text(line: string): void {
    this.#stdout(`${line}\n`)
  }

  record(level: LogLevel, event: string, facts: object): void {
    this.bare({ at: new Date(systemClock.now()).toISOString(), level, event, ...snakeCase(cleanFacts(facts)) })
  }

  /** One object as it stands: for a last line whose form is fixed. */
  bare(object: object): void {
    this.#stdout(`${JSON.stringify(object)}\n`)
  }

  /** Whether a bar can be drawn: on a terminal, for a person. */
  get canDraw(): boolean {
    return process.stderr.isTTY && !this.options.json && !this.options.quiet
  }

  /** A bar up to `total` where one can be drawn, else a line now and then. */
  progress(verb: string, total: number | undefined): Progress {
    if (total !== undefined && this.canDraw) return new BarProgress(verb, total)
    return new LineProgress((done, perSecond) => {
      this.note('info', 'progress', { done, perSecond }, `${verb} ${done} so far, ${perSecond}/s`)
    })
  }

  #stdout(text: string): void {
    if (!this.#closed) process.stdout.write(text)
  }

  #stderr(text: string): void {
    if (process.stderr.writable) process.stderr.write(text)
  }

  #stdoutFailed(error: NodeJS.ErrnoException): void {
    if (this.#closed) return
    this.#closed = true
    if (error.code !== 'EPIPE') this.log('error', { code: error.code }, 'stdout cannot be written any more')
    this.#onClosed?.()
  }
}

/** How far a piece of work is. */
export interface Progress {
  update(done: number): void
  stop(): void
}

class BarProgress implements Progress {
  readonly #bar: cliProgress.SingleBar
  readonly #rate = new Rate()

  constructor(verb: string, total: number) {
    this.#bar = new cliProgress.SingleBar(
      {
        format: `${verb} {bar} {value} of {total} | {rate}/s | {eta_formatted} left`,
        stream: process.stderr,
        hideCursor: true,
      },
      cliProgress.Presets.rect,
    )
    this.#bar.start(total, 0, { rate: 0 })
  }

  update(done: number): void {
    // New ones come of age meanwhile: the bar never shows more than all.
    this.#bar.setTotal(Math.max(this.#bar.getTotal(), done))
    this.#bar.update(done, { rate: this.#rate.of(done) })
  }

  stop(): void {
    this.#bar.stop()
  }
}

class LineProgress implements Progress {
  readonly #print: (done: number, perSecond: number) => void
  readonly #rate = new Rate()
  #saidMs = systemClock.monotonicMs()

  constructor(print: (done: number, perSecond: number) => void) {
    this.#print = print
  }

  update(done: number): void {
    if (systemClock.monotonicMs() - this.#saidMs < PROGRESS_INTERVAL_MS) return
    this.#saidMs = systemClock.monotonicMs()
    this.#print(done, this.#rate.of(done))
  }

  stop(): void {}
}

class Rate {
  readonly #sinceMs = systemClock.monotonicMs()

  of(done: number): number {
    return Math.round((done * 1_000) / Math.max(systemClock.monotonicMs() - this.#sinceMs, 1))
  }
}

/** The keys as the HTTP API spells them. */
function snakeCase(facts: Record<string, unknown>): Record<string, unknown> {
  const spelled = Object.entries(facts).map(([key, value]) => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ])
  return Object.fromEntries(spelled) as Record<string, unknown>
}

const COLOURS: Readonly<Record<string, 'green' | 'red' | 'yellow'>> = {
  SUCCESSFUL: 'green',
  FAILED: 'red',
  READY: 'yellow',
}

/** A status, coloured where stdout is a terminal and NO_COLOR does not say otherwise. */
export function coloured(status: string): string {
  const colour = COLOURS[status]
  return colour === undefined ? status : styleText(colour, status)
}

/** At most so many characters, on one clean line. */
export function short(text: string, length: number): string {
  const clean = cleanText(text)
  return clean.length > length ? `${clean.slice(0, length - 1)}…` : clean
}

export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  return ms < 60_000
    ? `${(ms / 1_000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`
}
