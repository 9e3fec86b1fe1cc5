/** The options that backends have in common, and what workers and maintenance read of them. Makes no backend, knows no storage. */
import { isLogger } from '../logger.ts'
import type { Logger } from '../logger.ts'
import { anything, integer, listOf, NAME_PATTERN, text } from '../options.ts'
import type { OptionsOf } from '../options.ts'
import type { RetryOptions } from '../retry-policy.ts'
import { MAX_CRASHES, UNKNOWN_TASK_TIMEOUT_SECONDS } from '../stream-queue.ts'
import type { BackendLimits } from '../task-backend.ts'

const WEEK_SECONDS = 604_800
const YEARS_SECONDS = 10 * 365 * 86_400

/** Options that every backend with a storage has. */
export const STORAGE_BACKEND_OPTIONS = Object.freeze({
  alias: text({ pattern: NAME_PATTERN, default: 'default', description: 'name of the backend' }),
  queues: listOf(text({ pattern: NAME_PATTERN, description: 'a queue name' }), {
    description: 'allowed queues; left out = only default, [] = any',
  }),
  resultTtlSeconds: integer({
    min: 0,
    max: YEARS_SECONDS,
    default: WEEK_SECONDS,
    description: 'how long results are kept',
  }),
  completedTaskTtlSeconds: integer({
    min: 0,
    max: YEARS_SECONDS,
    description: 'how long finished records are kept; resultTtlSeconds when left out',
  }),
  claimTimeoutSeconds: integer({
    min: 1,
    max: 86_400,
    default: 300,
    description: 'lease of an attempt, renewed every 0.3 of it',
  }),
  maxCrashes: integer({
    min: 0,
    max: 1_000,
    default: MAX_CRASHES,
    description: 'leases of a record that may run out before it is FAILED with TaskAbandonedError',
  }),
  unknownTaskTimeoutSeconds: integer({
    min: 0,
    max: YEARS_SECONDS,
    default: UNKNOWN_TASK_TIMEOUT_SECONDS,
    description: 'how long no worker may know the task of a record before it is FAILED',
  }),
  retry: anything({
    shape: 'an object of retry options',
    is: (value): value is RetryOptions => typeof value === 'object' && value !== null,
    description: 'whether and when failed attempts run again, for what a task leaves out of its own',
  }),
  blockTimeoutMs: integer({ min: 10, max: 5_000, default: 5_000, description: 'how long one blocking read waits' }),
  logger: anything({ shape: 'a logger with debug, info, warn and error', is: isLogger, description: 'where it logs' }),
})

/** What a backend without a storage can be told. */
export const PLAIN_BACKEND_OPTIONS = Object.freeze({
  alias: STORAGE_BACKEND_OPTIONS.alias,
  queues: STORAGE_BACKEND_OPTIONS.queues,
  logger: STORAGE_BACKEND_OPTIONS.logger,
})

export interface StorageBackendOptions {
  readonly alias?: string
  readonly queues?: readonly string[] | undefined
  readonly resultTtlSeconds?: number | undefined
  readonly completedTaskTtlSeconds?: number | undefined
  readonly claimTimeoutSeconds?: number | undefined
  readonly maxCrashes?: number | undefined
  readonly unknownTaskTimeoutSeconds?: number | undefined
  readonly retry?: RetryOptions | undefined
  readonly blockTimeoutMs?: number | undefined
  readonly logger?: Logger | undefined
}

export type PlainBackendOptions = Pick<StorageBackendOptions, 'alias' | 'queues' | 'logger'>

/** Finished records are kept for as long as results, unless told otherwise. */
export function limitsOf(checked: OptionsOf<typeof STORAGE_BACKEND_OPTIONS>): BackendLimits {
  const { claimTimeoutSeconds, maxCrashes, unknownTaskTimeoutSeconds, blockTimeoutMs, resultTtlSeconds } = checked
  const completedTaskTtlSeconds = checked.completedTaskTtlSeconds ?? resultTtlSeconds
  return { claimTimeoutSeconds, maxCrashes, unknownTaskTimeoutSeconds, blockTimeoutMs, completedTaskTtlSeconds }
}
