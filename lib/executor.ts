/**
 * executor: runs tasks where no worker is (a scheduler's request, a script), and asks about them. Same verbs as the worker's
 * life, one at a time. In a web process without workers nobody else would, so these verbs promote and take over first.
 */
import { inBatches } from './batches.ts'
import { systemClock } from './clock.ts'
import { runDelivery } from './delivery-run.ts'
import { TaskNotFoundError, TaskOptionError, TaskStateError } from './errors.ts'
import { EXECUTOR_OPTIONS } from './executor-options.ts'
import type { BackendChoice, QueueChoice, RunChoice } from './executor-options.ts'
import { lookAfter, promoteDue, purgeFinished, tellAbandoned } from './maintenance.ts'
import { checkOptions } from './options.ts'
import type { RecordFilter } from './record-filter.ts'
import { normalizeRecordId } from './record-id.ts'
import { CALL_LIMITS } from './storage/storage.ts'
import type { Delivery } from './storage/storage.ts'
import type { ReclaimPosition, StreamQueue } from './stream-queue.ts'
import type { TaskBackend } from './task-backend.ts'
import { taskBackends } from './task-backends.ts'
import type { TaskRecord } from './task-record.ts'
import type { TaskResult } from './task-result.ts'
import type { FinalStatus, TaskStatus } from './task-status.ts'

const DAY_MS = 86_400_000

export interface QueueStats {
  /** READY and due. */
  readonly pendingCount: number
  readonly runningCount: number
  readonly successfulCount: number
  readonly failedCount: number
  /** READY, but not yet due. */
  readonly delayedCount: number
}

async function queuesOf(queue: StreamQueue, queueName: string | undefined): Promise<readonly string[]> {
  return queueName === undefined ? await queue.queueNames() : [queueName]
}

/** One delivery that is due, what dead workers left first; undefined when there is none. */
async function takeOne(
  backend: TaskBackend,
  queue: StreamQueue,
  { queueName, workerId }: Pick<RunChoice, 'queueName' | 'workerId'>,
): Promise<Delivery | undefined> {
  const queueNames = await queuesOf(queue, queueName)
  const [orphan] = await lookAfter(backend, queue, 1, { queueName, workerId }, systemClock.monotonicMs())
  if (orphan) return orphan
  for (;;) {
    const { begun, passed } = await queue.take(1, { queueNames, workerId })
    if (begun[0] || passed === 0) return begun[0]
    // Only entries that could not be begun: there may be more behind them.
  }
}

/** Runs deliveries until `next` has none; answers how each ended. Those handed back (unknown here) are left out. */
async function runEach(
  backend: TaskBackend,
  limit: number,
  next: () => Promise<Delivery | undefined>,
): Promise<TaskResult[]> {
  const { queue, leases } = backend
  const results: TaskResult[] = []
  while (results.length < limit) {
    const sentAtMs = systemClock.monotonicMs()
    // Before a function is called that may block this loop somebody else can renew its lease.
    const [delivery] = await Promise.all([next(), leases.start()])
    if (!delivery) break
    const result = await runDelivery({ backend, queue, leases, delivery, sentAtMs })
    if (result) results.push(result)
  }
  return results
}

/**
 * The executor's verbs over backends that are found by `backendOf`: `executor` asks taskBackends, a router those it was given.
 *
 * @throws TaskOptionError by every verb: an option is unknown or out of range, or no backend has that alias.
 */
export function executorOver(backendOf: (alias: string) => TaskBackend) {
  const chosen = (options: BackendChoice): TaskBackend =>
    backendOf(checkOptions('options', EXECUTOR_OPTIONS.backend, options).backendName)

  const verbs = {
    /** Runs the next task that is due. @returns its result; null when none was due. */
    async processOneTask(options: RunChoice = {}): Promise<TaskResult | null> {
      const checked = checkOptions('options', EXECUTOR_OPTIONS.processOneTask, options)
      const [result] = await verbs.processTasks({ ...checked, maxTasks: 1 })
      return result ?? null
    },

    /** Runs due tasks one after the other until none is left, `maxTasks` have run, or `signal` aborts. */
    async processTasks(
      options: RunChoice & { readonly maxTasks?: number; readonly signal?: AbortSignal | undefined } = {},
    ): Promise<TaskResult[]> {
      const checked = checkOptions('options', EXECUTOR_OPTIONS.processTasks, options)
      const backend = backendOf(checked.backendName)
      const limit = checked.maxTasks === 0 ? Infinity : checked.maxTasks
      const next = (): Promise<Delivery | undefined> =>
        checked.signal?.aborted ? Promise.resolve(undefined) : takeOne(backend, backend.queue, checked)
      return await runEach(backend, limit, next)
    },

    /**
     * Runs one record here and now, whatever its place in the queue.
     *
     * @returns null when it is RUNNING or SUCCESSFUL, or FAILED without `allowRetry`.
     * @throws TaskNotFoundError no record has that id.
     */
    async runTaskById(
      id: string,
      options: BackendChoice & { readonly workerId?: string | undefined; readonly allowRetry?: boolean } = {},
    ): Promise<TaskResult | null> {
      const checked = checkOptions('options', EXECUTOR_OPTIONS.runTaskById, options)
      const { allowRetry, workerId } = checked
      return await backendOf(checked.backendName).runById(id, {
        allowRetry,
        ...(workerId !== undefined && { workerId }),
      })
    },

    /** READY and due: what a worker could take now. */
    async getPendingTaskCount(options: QueueChoice = {}): Promise<number> {
      return (await verbs.getQueueStats(options)).pendingCount
    },

    /** Deletes finished records that ended at least `days` ago. @returns how many; with `dryRun` how many would go. */
    async purgeCompletedTasks(
      options: BackendChoice & {
        readonly days?: number
        readonly statuses?: readonly FinalStatus[]
        readonly batchSize?: number
        readonly dryRun?: boolean
      } = {},
    ): Promise<number> {
      const checked = checkOptions('options', EXECUTOR_OPTIONS.purgeCompletedTasks, options)
      const { days, statuses, batchSize, dryRun } = checked
      const { storage } = backendOf(checked.backendName)
      const answer = await purgeFinished(storage, { finishedForMs: days * DAY_MS, statuses, batchSize, dryRun })
      return dryRun ? answer.matched : answer.deleted
    },

    /**
     * Takes over what dead workers left, and runs it. A live lease is never taken, whatever `claimTimeoutSeconds` says.
     *
     * @returns how many were taken over.
     */
    async claimStaleTasks(options: QueueChoice & { readonly claimTimeoutSeconds?: number } = {}): Promise<number> {
      const checked = checkOptions('options', EXECUTOR_OPTIONS.claimStaleTasks, options)
      const backend = backendOf(checked.backendName)
      const { queue } = backend
      const queueNames = await queuesOf(queue, checked.queueName)
      const idleMs = (checked.claimTimeoutSeconds ?? backend.limits.claimTimeoutSeconds) * 1_000
      await queue.promote(queueNames)
      let claimed = 0
      // Undefined at first, null at the end.
      let from: ReclaimPosition | null | undefined
      const next = async (): Promise<Delivery | undefined> => {
        while (from !== null) {
          const answer = await queue.reclaim(1, { queueNames, idleMs, from })
          from = answer.next
          claimed += answer.begun.length + answer.crashed.length
          await tellAbandoned(backend, answer.crashed)
          if (answer.begun[0]) return answer.begun[0]
        }
        return undefined
      }
      await runEach(backend, Infinity, next)
      return claimed
    },

    /** Records, newest first, and how many there are in all. */
    async getTasks(
      options: QueueChoice & { readonly status?: TaskStatus; readonly offset?: number; readonly limit?: number } = {},
    ): Promise<{ tasks: TaskRecord[]; total: number }> {
      const { backendName, queueName, status, offset, limit } = checkOptions(
        'options',
        EXECUTOR_OPTIONS.getTasks,
        options,
      )
      const filter: RecordFilter = { ...(queueName !== undefined && { queueName }), ...(status && { status }) }
      const query = backendOf(backendName).records.filter(filter)
      const total = await query.count()
      const tasks: TaskRecord[] = []
      let left = offset
      let after: string | null = null
      do {
        const page: Awaited<ReturnType<typeof query.page>> = await query.page({
          size: Math.min(1_000, left + limit),
          after,
        })
        tasks.push(...page.records.slice(left).slice(0, limit - tasks.length))
        left = Math.max(0, left - page.records.length)
        after = page.next
      } while (after !== null && tasks.length < limit)
      return { tasks, total }
    },

    /** @throws TaskNotFoundError no record has that id. */
    async getTaskById(id: string, options: BackendChoice = {}): Promise<TaskRecord> {
      return await chosen(options).records.find(id)
    },

    /** @returns false when there was none. @throws TaskStateError it is RUNNING. */
    async deleteTask(id: string, options: BackendChoice = {}): Promise<boolean> {
      try {
        const record = await chosen(options).records.find(id)
        await record.delete()
        return true
      } catch (error) {
        if (error instanceof TaskNotFoundError) return false
        throw error
      }
    },

    /** Deletes those of them that are not RUNNING. @returns how many went. */
    async deleteTasks(ids: readonly string[], options: BackendChoice = {}): Promise<number> {
      if (!Array.isArray(ids) || ids.some((id) => typeof id !== 'string')) {
        throw new TaskOptionError('ids', 'a list of record ids', ids, 'pass an array of strings')
      }
      const { storage } = chosen(options)
      // What cannot be an id is no record's, and never reaches the storage.
      const normal = ids.flatMap((id) => normalizeRecordId(id) ?? [])
      const words = await inBatches(normal, CALL_LIMITS.moves, (batch) => storage.delete(batch))
      return words.filter((word) => word === 'DELETED').length
    },

    /** FAILED -> READY. @returns false when it is in another state. @throws TaskNotFoundError no record has that id. */
    async resetTaskForRetry(id: string, options: BackendChoice = {}): Promise<boolean> {
      const record = await chosen(options).records.find(id)
      if (record.status !== 'FAILED') return false
      try {
        await record.retry()
        return true
      } catch (error) {
        // Somebody else was quicker.
        if (error instanceof TaskStateError) return false
        throw error
      }
    },

    /** Exact counts by status. */
    async getTaskCounts(options: QueueChoice = {}): Promise<Record<TaskStatus, number>> {
      const { backendName, queueName } = checkOptions('options', EXECUTOR_OPTIONS.queue, options)
      const query = backendOf(backendName).records.filter(queueName === undefined ? {} : { queueName })
      return await query.countBy('status')
    },

    async getQueueStats(options: QueueChoice = {}): Promise<QueueStats> {
      const { backendName, queueName } = checkOptions('options', EXECUTOR_OPTIONS.queue, options)
      const backend = backendOf(backendName)
      // A record that is due counts as pending, also where no worker has promoted it.
      await promoteDue(backend, backend.queue, systemClock.monotonicMs())
      const [counts, depths] = await Promise.all([
        verbs.getTaskCounts(options),
        queuesOf(backend.queue, queueName).then((names) => backend.queue.depth(names)),
      ])
      const delayedCount = Math.min(
        counts.READY,
        depths.reduce((total, { delayed }) => total + delayed, 0),
      )
      return {
        pendingCount: counts.READY - delayedCount,
        runningCount: counts.RUNNING,
        successfulCount: counts.SUCCESSFUL,
        failedCount: counts.FAILED,
        delayedCount,
      }
    },
  }
  return verbs
}

export type Executor = ReturnType<typeof executorOver>

export const executor: Executor = executorOver((alias) => taskBackends.get(alias))
