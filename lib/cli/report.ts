/**
 * What run-redis-tasks says of the work: the banner, a line a task, what happens to threads and storage, and the sum at the end.
 * Counts outcomes and finds the exit code; decides nothing else.
 */
import { systemClock } from '../clock.ts'
import { packageVersion } from '../package-version.ts'
import { EXIT } from './failure.ts'
import type { RunSettings } from './flags.ts'
import { coloured, duration, short } from './output.ts'
import type { Output } from './output.ts'
import type { ReadyMessage, SettledItem } from './thread-messages.ts'
import type { RunningTask } from './thread-handle.ts'
import type { DeadThread, Outcome, PoolListener } from './worker-pool.ts'

/** What a line shows of a task's error. */
const ERROR_LENGTH = 300

export class Report implements PoolListener {
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

  died({ index, exitCode, wasBlocked, details, ran, respawnMs }: DeadThread): void {
    const facts = { code: 'WARN_TASKS_THREAD_ENDED', thread: index + 1, exitCode, details, running: listed(ran) }
    const what = wasBlocked ? 'a task blocked its thread past its time limit' : 'a worker thread ended by itself'
    const next = respawnMs === null ? '' : `; a new one starts in ${duration(respawnMs)}`
    this.#output.log('error', facts, what + next)
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

/** What runs, as a record shows it. */
export function listed(running: readonly RunningTask[]): object[] {
  const now = systemClock.monotonicMs()
  return running.map(({ id, name, sinceMs }) => ({ id, name, running_ms: Math.round(now - sinceMs) }))
}
