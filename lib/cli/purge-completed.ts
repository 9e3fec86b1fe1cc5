/**
 * The command purge-completed: flags -> the same purge as everywhere, with a bar on a terminal. Pauses between batches, is safe
 * beside another purge, and can be stopped at any time: what was deleted is told, and the next run does the rest.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../clock.ts'
import { purgeFinished } from '../maintenance.ts'
import type { PurgeProgress } from '../maintenance.ts'
import type { TaskBackend } from '../task-backend.ts'
import type { Command } from './arguments.ts'
import { EXIT } from './failure.ts'
import { PURGE_FLAGS } from './flags.ts'
import type { PurgeSettings } from './flags.ts'
import { openConfigured } from './open-backend.ts'
import type { Output } from './output.ts'
import { onSignals } from './process.ts'
import { runCommand } from './run-command.ts'

export const PURGE_COMMAND: Command<typeof PURGE_FLAGS> = {
  name: 'purge-completed',
  summary: 'Deletes the records of tasks that finished some time ago.',
  flags: PURGE_FLAGS,
  examples: [
    ['$0 --dry-run', 'how many would go'],
    ['$0 --days 30 --status SUCCESSFUL', 'keep what failed'],
    ['$0 --days 1 --json --quiet', 'for a scheduler: { "matched", "deleted", "dry_run" }'],
  ],
  epilogue: [
    'Each option is also read from the environment: EXPRESS_TASKS_DAYS=30 is --days 30.',
    'A flag wins over the environment, that over the config file. REDIS_URL is where the default backend is.',
    '',
    'Ctrl-C ends it after the present step (exit code 0) and tells what was done; running it again does the rest.',
    '',
    'Exit codes: 0 ok, 1 unexpected error, 2 wrong usage or config, 3 Redis unreachable.',
  ].join('\n'),
}

const DAY_MS = 86_400_000
/** Between two batches the server's other clients get as much time as the batch took, up to this. */
const LONGEST_PAUSE_MS = 100

/** Runs the command; sets `process.exitCode`. */
export async function main(argv: string[]): Promise<void> {
  await runCommand(PURGE_COMMAND, argv, async (settings, _modules, output) => {
    await run(settings, output)
    return EXIT.ok
  })
}

async function run(settings: PurgeSettings, output: Output): Promise<void> {
  // Until the user's files are imported a signal ends the process, as nothing else could.
  const backend = await openConfigured(PURGE_COMMAND.name, settings, output)
  const abort = new AbortController()
  output.onClosed(() => abort.abort())
  const release = onSignals(() => {
    abort.abort()
    // The second one does not wait for the present step.
    release()
  })
  try {
    await backend.storage.connect()
    await purge(backend, settings, output, abort.signal)
  } finally {
    release()
    await backend.close()
  }
}

async function purge(
  backend: TaskBackend,
  settings: PurgeSettings,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const { days, statuses, batchSize, dryRun } = settings
  const wanted = { finishedForMs: days * DAY_MS, statuses, batchSize, signal }
  const facts = { days, statuses, backendName: backend.alias, dryRun }
  output.result(
    'purge',
    facts,
    `${dryRun ? 'DRY RUN: tasks' : 'Tasks'} that finished at least ${days} day(s) ago\nStatuses: ${statuses.join(', ')}`,
  )
  // Only a bar has to know its end beforehand: counting reads every record that will go.
  const counted =
    !dryRun && output.canDraw ? await purgeFinished(backend.storage, { ...wanted, dryRun: true }) : undefined
  const progress = output.progress(dryRun ? 'Counted' : 'Deleted', counted?.matched)
  let last: PurgeProgress = { matched: 0, deleted: 0 }
  let batchFrom = systemClock.monotonicMs()
  try {
    last = await purgeFinished(backend.storage, {
      ...wanted,
      dryRun,
      onProgress: async (done) => {
        last = done
        progress.update(dryRun ? done.matched : done.deleted)
        const tookMs = systemClock.monotonicMs() - batchFrom
        await sleep(Math.min(tookMs, LONGEST_PAUSE_MS))
        batchFrom = systemClock.monotonicMs()
      },
    })
  } finally {
    progress.stop()
    // Also when the storage went away half-way: what is gone is gone.
    tell(last, settings, output, signal.aborted)
  }
}

function tell(
  { matched, deleted }: PurgeProgress,
  { dryRun, json, quiet }: PurgeSettings,
  output: Output,
  interrupted: boolean,
): void {
  if (interrupted) output.note('warn', 'interrupted', { matched, deleted }, 'Interrupted: run it again for the rest')
  if (json) output.bare({ matched, deleted, dry_run: dryRun })
  else if (!quiet) output.text(dryRun ? `Would delete ${matched} task(s)` : `Deleted ${deleted} task(s)`)
}
