/** The options of the executor's verbs: every row with its bounds and default, and which backend, queue and worker id they choose. */
import { anything, flag, integer, listOf, NAME_PATTERN, oneOf, text } from './options.ts'
import { FINAL_STATUSES, TASK_STATUSES } from './task-status.ts'

/** What a worker id may be: it stands in lists joined by spaces. */
export const WORKER_ID_PATTERN = /^[A-Za-z0-9_:.@-]{1,128}$/
const MAX_DAYS = 36_500

const name = (description: string): ReturnType<typeof text> => text({ pattern: NAME_PATTERN, description })
const BACKEND = Object.freeze({
  backendName: text({ pattern: NAME_PATTERN, default: 'default', description: 'alias of the backend' }),
})
const QUEUE = Object.freeze({ ...BACKEND, queueName: name('only this queue; all when left out') })
const RUN = Object.freeze({
  ...QUEUE,
  workerId: text({ pattern: WORKER_ID_PATTERN, description: 'shown in workerIds' }),
})

/** Every option of the executor's verbs; the router's fields are these rows too. */
export const EXECUTOR_OPTIONS = Object.freeze({
  processOneTask: RUN,
  processTasks: Object.freeze({
    ...RUN,
    maxTasks: integer({ min: 0, max: 1_000_000, default: 0, description: 'stop after so many; 0 = no limit' }),
    signal: anything({
      shape: 'an AbortSignal',
      is: (value): value is AbortSignal => value instanceof AbortSignal,
      description: 'start no further task once it aborts',
    }),
  }),
  runTaskById: Object.freeze({
    ...BACKEND,
    workerId: RUN.workerId,
    allowRetry: flag({ default: false, description: 'run a FAILED record again' }),
  }),
  purgeCompletedTasks: Object.freeze({
    ...BACKEND,
    days: integer({ min: 0, max: MAX_DAYS, default: 7, description: 'finished at least so many days ago' }),
    statuses: listOf(oneOf(FINAL_STATUSES, { description: 'SUCCESSFUL or FAILED' }), {
      default: FINAL_STATUSES,
      description: 'only these states',
    }),
    batchSize: integer({ min: 1, max: 100_000, default: 1_000, description: 'records between two pauses' }),
    dryRun: flag({ default: false, description: 'count only' }),
  }),
  claimStaleTasks: Object.freeze({
    ...QUEUE,
    claimTimeoutSeconds: integer({
      min: 0,
      max: 86_400,
      description: "deliveries idle for less are left alone; the backend's own when left out",
    }),
  }),
  getTasks: Object.freeze({
    ...QUEUE,
    status: oneOf(TASK_STATUSES, { description: 'only this state' }),
    offset: integer({ min: 0, max: 100_000, default: 0, description: 'records to pass over' }),
    limit: integer({ min: 1, max: 1_000, default: 100, description: 'records at most' }),
  }),
  queue: QUEUE,
  backend: BACKEND,
})

export interface BackendChoice {
  /** `default` when left out. */
  readonly backendName?: string | undefined
}

export interface QueueChoice extends BackendChoice {
  /** All queues when left out. */
  readonly queueName?: string | undefined
}

export interface RunChoice extends QueueChoice {
  readonly workerId?: string | undefined
}
