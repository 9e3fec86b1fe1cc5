/**
 * What the two commands may be told, as tables: name of the flag, its row, and nothing else. Defaults and bounds are those of
 * the worker's and the executor's own options, so a flag can never mean something else than the option behind it.
 */
import { EXECUTOR_OPTIONS } from '../executor-options.ts'
import { LOG_LEVELS } from '../logger.ts'
import { flag, integer, oneOf, text } from '../options.ts'
import type { OptionsOf, Row } from '../options.ts'
import { WORKER_OPTIONS } from '../worker-options.ts'

export interface Flag {
  /** As it is typed, without the dashes. */
  readonly name: string
  readonly row: Row<unknown>
  /** What its number counts, for `--help`. */
  readonly unit?: 'seconds'
  /** A list that may also be given as one text: `SUCCESSFUL,FAILED`. */
  readonly commas?: true
}

export type FlagTable = Readonly<Record<string, Flag>>

/** The checked settings of a command, under the names of the options they stand for. */
export type Settings<T extends FlagTable> = OptionsOf<{ readonly [K in keyof T]: T[K]['row'] }>

/** Threads beyond this cost more than they bring: processes on further machines are the way on. */
const MAX_WORKERS = 256
/** The longest path that Linux takes. */
const MAX_PATH_LENGTH = 4_096

const SHARED = {
  backendName: { name: 'backend', row: EXECUTOR_OPTIONS.backend.backendName },
  config: {
    name: 'config',
    row: text({
      maxLength: MAX_PATH_LENGTH,
      shape: 'a file',
      description: 'the config file; tasks.config.{ts,mts,js,mjs,cjs} of the working directory when left out',
    }),
  },
  json: { name: 'json', row: flag({ default: false, description: 'print one JSON object a line, on stdout' }) },
  quiet: { name: 'quiet', row: flag({ default: false, description: 'print warnings and errors only' }) },
  logLevel: {
    name: 'log-level',
    row: oneOf([...LOG_LEVELS, 'silent'], { default: 'info', description: 'the lowest level of log lines' }),
  },
} as const satisfies FlagTable

/** The flags that every command has. */
export type CommandFlags = FlagTable & typeof SHARED

export const RUN_FLAGS = {
  queues: { name: 'queue', row: WORKER_OPTIONS.queues },
  continuous: { name: 'continuous', row: flag({ default: false, description: WORKER_OPTIONS.continuous.description }) },
  intervalSeconds: { name: 'interval', row: WORKER_OPTIONS.intervalSeconds, unit: 'seconds' },
  maxTasks: { name: 'max-tasks', row: WORKER_OPTIONS.maxTasks },
  workers: {
    name: 'workers',
    row: integer({
      min: 1,
      max: MAX_WORKERS,
      default: 1,
      description: 'worker threads, each with its own event loop and connections',
    }),
  },
  concurrency: { name: 'concurrency', row: WORKER_OPTIONS.concurrency },
  claimIntervalSeconds: { name: 'claim-interval', row: WORKER_OPTIONS.claimIntervalSeconds, unit: 'seconds' },
  drainTimeoutSeconds: { name: 'drain-timeout', row: WORKER_OPTIONS.drainTimeoutSeconds, unit: 'seconds' },
  doctor: {
    name: 'doctor',
    row: flag({ default: false, description: 'run nothing: check every invariant of the stored records, and end' }),
  },
  repair: { name: 'repair', row: flag({ default: false, description: 'with --doctor: mend what can be mended' }) },
  ...SHARED,
} as const satisfies FlagTable

const { days, statuses, batchSize, dryRun } = EXECUTOR_OPTIONS.purgeCompletedTasks

export const PURGE_FLAGS = {
  days: { name: 'days', row: days },
  statuses: { name: 'status', row: statuses, commas: true },
  batchSize: { name: 'batch-size', row: batchSize },
  dryRun: { name: 'dry-run', row: dryRun },
  ...SHARED,
} as const satisfies FlagTable

export type RunSettings = Settings<typeof RUN_FLAGS>
export type PurgeSettings = Settings<typeof PURGE_FLAGS>

const VARIABLE_PREFIX = 'EXPRESS_TASKS_'

/** The environment variable that stands for a flag. */
export function variableOf({ name }: Flag): string {
  return VARIABLE_PREFIX + name.toUpperCase().replaceAll('-', '_')
}

/** Every variable that one of the commands reads: both may run in one environment. */
export const VARIABLES: readonly string[] = [
  ...new Set([...Object.values(RUN_FLAGS), ...Object.values(PURGE_FLAGS)].map(variableOf)),
]

/** The variables of ours in an environment, known or not. */
export function ourVariables(environment: NodeJS.ProcessEnv): string[] {
  return Object.keys(environment).filter((name) => name.startsWith(VARIABLE_PREFIX))
}
