/**
 * The command run-redis-tasks: flags -> worker threads; signals, drain, exit codes. Says what happens; the threads do it, and
 * hear no signal themselves.
 */
import { systemClock } from '../clock.ts'
import { TaskOptionError, verbatim } from '../errors.ts'
import { helpOf, parseArguments } from './arguments.ts'
import type { Command } from './arguments.ts'
import { EXIT, failureOf } from './failure.ts'
import { RUN_FLAGS } from './flags.ts'
import type { RunSettings } from './flags.ts'
import { coloured, duration, Output, short } from './output.ts'
import { onSignals, packageVersion } from './process.ts'
import { findSources } from './source-files.ts'
import type { Sources } from './source-files.ts'
import type { ReadyMessage, SettledItem } from './thread-messages.ts'
import { WorkerPool } from './worker-pool.ts'
import type { DeadThread, Outcome, PoolListener, RunningTask } from './worker-pool.ts'

export const RUN_COMMAND: Command<typeof RUN_FLAGS> = {
  name: 'run-redis-tasks',
  summary: 'Runs the tasks that wait in Redis or Valkey: what is due, or with --continuous until it is stopped.',
  modules: 'the modules that define the tasks; globs in quotes',
  flags: RUN_FLAGS,
  examples: [
    ['$0 tasks.js', 'run what is due, and end'],
    ["$0 'tasks/*.ts' --continuous --workers 4", 'four threads, until Ctrl-C'],
    ['$0 tasks.js --queue emails --queue reports --max-tasks 100', 'two queues only, and 100 tasks at most'],
    [
      '$0 --config tasks.config.js --json --quiet',
      'backends and modules from a file; warnings, errors and a summary as JSON',
    ],
  ],
  epilogue: [
    'modules: .js .mjs .cjs .ts files; every task that one exports or registers can run here.',
    '',
    'Each option is also read from the environment: EXPRESS_TASKS_MAX_TASKS=100 is --max-tasks 100.',
    'A flag wins over the environment, that over the config file. REDIS_URL is where the default backend is.',
    '',
    'The first SIGTERM or SIGINT (Ctrl-C) takes no more and waits --drain-timeout for what runs; the second stops at once.',
    'What still runs then is aborted and handed back: other workers run it, and the attempt is not counted.',
    '',
    'Exit codes: 0 ok, 1 unexpected error, 2 wrong usage, config or import, 3 Redis unreachable at start, 4 stopped with tasks handed back.',
  ].join('\n'),
}

/** How often a drain says what is left of it. */
const COUNTDOWN_MS = 5_000
const LISTED = 20
/** What a line shows of a task's error. */
const ERROR_LENGTH = 300

/** Runs the command; sets `process.exitCode`. */
export async function main(argv: string[]): Promise<void> {
  let output: Output | undefined
  try {
    const parsed = parseArguments(RUN_COMMAND, argv, process.env)
    output = new Output(parsed.wants === 'run' ? parsed.settings : { json: false, quiet: false, logLevel: 'info' })
    if (parsed.wants === 'help') output.text(await helpOf(RUN_COMMAND, process.stdout.columns || 100))
    else if (parsed.wants === 'version') output.text(packageVersion())
    else process.exitCode = await run(parsed.settings, sourcesOf(parsed.settings, parsed.modules), output)
  } catch (error) {
    const failure = failureOf(error)
    output ??= new Output({ json: false, quiet: false, logLevel: 'info' })
    output.fail(failure)
    process.exitCode = failure.exitCode
  }
}

function sourcesOf({ config }: RunSettings, modules: readonly string[]): Sources {
  const sources = findSources(process.cwd(), config, modules)
  if (sources.configFile === undefined && modules.length === 0 && !process.env['REDIS_URL']) {
    const cure = `for example: REDIS_URL=redis://localhost:6379/0 ${RUN_COMMAND.name} tasks.js; or write a tasks.config.js`
    throw new TaskOptionError(
      RUN_COMMAND.name,
      `told where the tasks are (looked for tasks.config.* in ${process.cwd()})`,
      verbatim('nothing'),
      cure,
    )
  }
  return sources
}

async function run(settings: RunSettings, sources: Sources, output: Output): Promise<number> {
  const { backendName, logLevel, workers, maxTasks } = settings
  const { queues, concurrency, continuous, intervalSeconds, claimIntervalSeconds, drainTimeoutSeconds } = settings
  const report = new Report(settings, output)
  const pool = new WorkerPool(
    {
      place: { cwd: process.cwd(), sources, backendName, logLevel },
      settings: { queues, concurrency, continuous, intervalSeconds, claimIntervalSeconds, drainTimeoutSeconds },
      workers,
      maxTasks,
    },
    report,
  )
  const drain = new Drain(pool, settings, output)
  // A reader that went away wants no more results.
  output.onClosed(() => pool.stop(drainTimeoutSeconds))
  const release = onSignals(() => drain.begin())
  try {
    const outcome = await pool.run()
    return report.end(outcome)
  } finally {
    drain.end()
    release()
  }
}

/** The end that was asked for: first in peace, then at once. */
class Drain {
  readonly #pool: WorkerPool
  readonly #seconds: number
  readonly #output: Output
  #countdown: NodeJS.Timeout | undefined
  #begun = 0

  constructor(pool: WorkerPool, { drainTimeoutSeconds }: RunSettings, output: Output) {
    this.#pool = pool
    this.#seconds = drainTimeoutSeconds
    this.#output = output
  }

  begin(): void {
    this.#begun += 1
    if (this.#begun > 1) {
      this.end()
      this.#output.note(
        'warn',
        'stopping',
        { running: listed(this.#pool.running) },
        'Stopping now: what runs is handed back',
      )
      this.#pool.stop(0)
      return
    }
    const deadlineMs = systemClock.monotonicMs() + this.#seconds * 1_000
    this.#say(this.#seconds, true)
    this.#countdown = setInterval(() => {
      const secondsLeft = Math.round((deadlineMs - systemClock.monotonicMs()) / 1_000)
      if (secondsLeft > 0) this.#say(secondsLeft, false)
    }, COUNTDOWN_MS)
    this.#pool.stop(this.#seconds)
  }

  end(): void {
    clearInterval(this.#countdown)
  }

  #say(secondsLeft: number, all: boolean): void {
    const { running } = this.#pool
    const head = `Draining: ${running.length} task(s) still run, ${secondsLeft} s left (Ctrl-C again stops now)`
    const rest = running.length > LISTED ? [`  and ${running.length - LISTED} more`] : []
    const names = running.slice(0, LISTED).map(({ name, id, sinceMs }) => {
      return `  ${name} ${id} for ${duration(systemClock.monotonicMs() - sinceMs)}`
    })
    const lines = running.length === 0 ? 'Draining: nothing runs any more' : all ? [head, ...names, ...rest] : head
    this.#output.note('info', 'draining', { secondsLeft, running: listed(running) }, lines)
  }
}

function listed(running: readonly RunningTask[]): object[] {
  const now = systemClock.monotonicMs()
  return running.map(({ id, name, sinceMs }) => ({ id, name, running_ms: Math.round(now - sinceMs) }))
}

/** What is said of the work, and counted for the last line. */
class Report implements PoolListener {
  readonly #settings: RunSettings
  readonly #output: Output
  readonly #counts = { SUCCESSFUL: 0, FAILED: 0, READY: 0, LOST: 0 }

  constructor(settings: RunSettings, output: Output) {
    this.#settings = settings
    this.#output = output
  }

  ready({ server, tasks, keyPrefix, warnings }: ReadyMessage): void {
    const { queues, backendName, workers, concurrency, drainTimeoutSeconds, continuous, maxTasks } = this.#settings
    const version = packageVersion()
    const facts = {
      ...{ version, nodeVersion: process.version, pid: process.pid, backendName },
      ...{ serverKind: server.kind, serverVersion: server.version, serverAddress: server.address },
      ...{ keyPrefix: keyPrefix ?? null, queueNames: queues ?? null, tasks },
      ...{ workers, concurrency, continuous, maxTasks, drainTimeoutSeconds },
    }
    const queueNames = queues?.join(', ') ?? 'all'
    this.#output.note('info', 'banner', facts, [
      `Starting Redis task worker ${version} (Node.js ${process.version}, pid ${process.pid})`,
      `  Server: ${server.kind} ${server.version} at ${server.address}, backend "${backendName}"`,
      ...(keyPrefix === undefined ? [] : [`  Key prefix: ${keyPrefix}`]),
      `  ${queues?.length === 1 ? 'Queue' : 'Queues'}: ${queueNames}`,
      `  Tasks: ${short(tasks.join(', ') || 'none', 2_000)}`,
      `  Workers: ${workers}, each with ${concurrency} task(s) at a time${maxTasks === 0 ? '' : `; ${maxTasks} task(s) in all`}`,
      `  Ctrl-C drains ${drainTimeoutSeconds} s, again stops now`,
    ])
    for (const { code, message } of warnings) this.#output.log('warn', { code }, message)
  }

  settled({ id, name, queueName, attempt, outcome, word, durationMs, error }: SettledItem): void {
    if (word !== 'SETTLED') {
      // The worker's own log says why.
      this.#counts.LOST += 1
      return
    }
    this.#counts[outcome] += 1
    const facts = { id, name, queueName, status: outcome, attempt, durationMs: Math.round(durationMs), error }
    const why = error === null ? '' : ` ${short(`${error.name}: ${error.message}`, ERROR_LENGTH)}`
    const again = outcome === 'READY' ? ` (attempt ${attempt} failed, it runs again)` : ''
    if (this.#output.options.quiet) return
    this.#output.result('settled', facts, `${coloured(outcome)} ${name} ${id} ${duration(durationMs)}${why}${again}`)
  }

  log(level: 'debug' | 'info' | 'warn' | 'error', facts: Record<string, unknown>, message: string): void {
    this.#output.log(level, facts, message)
  }

  storage(isUp: boolean, reason: string): void {
    if (isUp) this.#output.log('info', { code: 'WARN_TASKS_STORAGE' }, 'the storage is back')
    else
      this.#output.log(
        'warn',
        { code: 'WARN_TASKS_STORAGE', reason },
        'the storage is away; it is tried until it is back',
      )
  }

  died({ index, exitCode, details, ran, respawnMs }: DeadThread): void {
    const facts = { code: 'WARN_TASKS_THREAD_ENDED', thread: index + 1, exitCode, details, running: listed(ran) }
    const next = respawnMs === null ? '' : `; a new one starts in ${duration(respawnMs)}`
    this.#output.log('error', facts, `a worker thread ended by itself${next}`)
  }

  /** The last lines. @returns the exit code. */
  end({ reason, failure, handedBack, abandoned, delayed, begun }: Outcome): number {
    const { json, quiet } = this.#output.options
    const { SUCCESSFUL, FAILED, READY, LOST } = this.#counts
    const processed = SUCCESSFUL + FAILED + READY
    const cutOff = handedBack + abandoned
    const exitCode = failure ? failure.exitCode : cutOff > 0 ? EXIT.handedBack : EXIT.ok
    if (failure) this.#output.fail(failure)
    const { maxTasks } = this.#settings
    const limited = maxTasks > 0 && begun >= maxTasks
    const nextDueAt = dueAt(delayed?.dueInMs ?? null)
    const facts = {
      ...{ reason: reason === 'idle' && limited ? 'limit' : reason, processed, successful: SUCCESSFUL, failed: FAILED },
      ...{ retried: READY, lost: LOST, handedBack, abandoned, delayed: delayed?.count ?? null, nextDueAt, exitCode },
    }
    if (cutOff > 0) {
      const lost =
        abandoned === 0 ? '' : `; ${abandoned} could not be, and will be taken over when their leases run out`
      this.#output.note('warn', 'handed_back', { handedBack, abandoned }, `Handed back ${handedBack} task(s)${lost}`)
    }
    if (json) {
      this.#output.record(exitCode === EXIT.ok ? 'info' : 'warn', 'summary', facts)
    } else if (!quiet && !failure) {
      const lines = [
        ...(limited ? [`Reached max tasks limit (${maxTasks})`] : []),
        ...(reason === 'idle' && !limited ? [`No tasks available${delayedInWords(delayed, nextDueAt)}`] : []),
        `Processed ${processed} task(s)${FAILED + READY === 0 ? '' : `: ${SUCCESSFUL} successful, ${FAILED} failed, ${READY} to run again`}`,
      ]
      for (const line of lines) this.#output.text(line)
    }
    return exitCode
  }
}

function dueAt(dueInMs: number | null): string | null {
  return dueInMs === null ? null : new Date(systemClock.now() + dueInMs).toISOString()
}

function delayedInWords(delayed: Outcome['delayed'], nextDueAt: string | null): string {
  if (!delayed || delayed.count === 0) return ''
  return `; ${delayed.count} delayed${nextDueAt === null ? '' : `, the next is due at ${nextDueAt}`}`
}
