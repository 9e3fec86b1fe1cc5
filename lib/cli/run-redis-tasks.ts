/**
 * The command run-redis-tasks: flags -> worker threads; signals, drain, exit codes. Says what happens; the threads do it, and
 * hear no signal themselves.
 */
import { systemClock } from '../clock.ts'
import { TaskOptionError, verbatim } from '../errors.ts'
import type { Command } from './arguments.ts'
import { checkDoctorFlags, examine } from './doctor.ts'
import { RUN_FLAGS } from './flags.ts'
import type { RunSettings } from './flags.ts'
import { duration } from './output.ts'
import type { Output } from './output.ts'
import { onSignals } from './process.ts'
import { listed, Report } from './report.ts'
import { runCommand } from './run-command.ts'
import { findSources } from './source-files.ts'
import type { Sources } from './source-files.ts'
import { WorkerPool } from './worker-pool.ts'

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
    ['$0 --doctor', 'run nothing: check what is stored; --doctor --repair mends it'],
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
    'Exit codes: 0 ok, 1 unexpected error or violations that --doctor left, 2 wrong usage, config or import, 3 Redis unreachable at start, 4 stopped with tasks handed back.',
  ].join('\n'),
}

/** How often a drain says what is left of it; a short one says so three times. */
const COUNTDOWN_MS = 5_000
const LISTED = 20

/** Runs the command; sets `process.exitCode`. */
export async function main(argv: string[]): Promise<void> {
  await runCommand(RUN_COMMAND, argv, begin)
}

async function begin(settings: RunSettings, modules: readonly string[], output: Output): Promise<number> {
  checkDoctorFlags(settings)
  if (settings.doctor) return await examine(RUN_COMMAND.name, settings, output)
  return await run(settings, sourcesOf(settings, modules), output)
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
    this.#countdown = setInterval(
      () => {
        const secondsLeft = Math.round((deadlineMs - systemClock.monotonicMs()) / 100) / 10
        if (secondsLeft > 0) this.#say(secondsLeft, false)
      },
      Math.min(COUNTDOWN_MS, (this.#seconds * 1_000) / 3),
    )
    this.#pool.stop(this.#seconds)
  }

  end(): void {
    clearInterval(this.#countdown)
  }

  #say(secondsLeft: number, all: boolean): void {
    const { running } = this.#pool
    const head = `Draining: ${running.length} task(s) still run, ${secondsLeft} s left (again stops now)`
    const rest = running.length > LISTED ? [`  and ${running.length - LISTED} more`] : []
    const names = running.slice(0, LISTED).map(({ name, id, sinceMs }) => {
      return `  ${name} ${id} for ${duration(systemClock.monotonicMs() - sinceMs)}`
    })
    const lines = running.length === 0 ? 'Draining: nothing runs any more' : all ? [head, ...names, ...rest] : head
    this.#output.note('info', 'draining', { secondsLeft, running: listed(running) }, lines)
  }
}
