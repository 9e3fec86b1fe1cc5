/** The options of a worker: every row with its bounds and default, and what `new Worker(backend, options)` takes. */
import { WORKER_ID_PATTERN } from './executor-options.ts'
import { isLogger } from './logger.ts'
import type { Logger } from './logger.ts'
import { anything, checkOptions, flag, integer, listOf, NAME_PATTERN, number, text } from './options.ts'

/** Every option of a worker; the commands' flags are these rows too. */
export const WORKER_OPTIONS = Object.freeze({
  queues: listOf(text({ pattern: NAME_PATTERN, description: 'a queue name' }), {
    description: 'only these queues; left out = all, also ones that appear later',
  }),
  concurrency: integer({ min: 1, max: 1_000, default: 10, description: 'tasks at a time' }),
  continuous: flag({ default: true, description: 'keep running when nothing is due' }),
  intervalSeconds: number({
    min: 0.01,
    max: 3_600,
    default: 1,
    description: 'how often delayed tasks and new queues are looked at',
  }),
  maxTasks: integer({ min: 0, max: 1_000_000_000, default: 0, description: 'stop after so many; 0 = no limit' }),
  claimIntervalSeconds: number({
    min: 0.01,
    max: 86_400,
    default: 60,
    description: 'how often stale deliveries are looked for',
  }),
  drainTimeoutSeconds: number({
    min: 0,
    max: 86_400,
    default: 25,
    description: 'how long a stop waits for running tasks',
  }),
  workerId: text({ pattern: WORKER_ID_PATTERN, description: 'shown in workerIds' }),
  logger: anything({
    shape: 'a logger with debug, info, warn and error',
    is: isLogger,
    description: "where it logs; the backend's logger when left out",
  }),
  logTasks: flag({ default: false, description: 'log a line when a task starts and one when it has ended' }),
})

export interface WorkerOptions {
  readonly queues?: readonly string[] | undefined
  readonly concurrency?: number | undefined
  readonly continuous?: boolean | undefined
  readonly intervalSeconds?: number | undefined
  readonly maxTasks?: number | undefined
  readonly claimIntervalSeconds?: number | undefined
  readonly drainTimeoutSeconds?: number | undefined
  readonly workerId?: string | undefined
  readonly logger?: Logger | undefined
  readonly logTasks?: boolean | undefined
}

/** The options as a worker goes by them. */
export type WorkerSettings = ReturnType<typeof checkOptions<typeof WORKER_OPTIONS>>

/** @throws TaskOptionError an option is unknown or out of range. */
export function checkWorkerOptions(options: WorkerOptions): WorkerSettings {
  return checkOptions('options', WORKER_OPTIONS, options)
}
