/**
 * What one worker hands back to the queue: attempts that it will not run, or not to their end. Counts what a stop gave back, and
 * remembers when an answer never came. Which those are is decided elsewhere.
 */
import { tellFinished } from './maintenance.ts'
import type { Delivery, Lease, RequeueWord } from './storage/storage.ts'
import type { StreamQueue } from './stream-queue.ts'
import type { WorkerParts } from './worker-parts.ts'

export class WorkerHandBack {
  readonly #parts: WorkerParts

  constructor(parts: WorkerParts) {
    this.#parts = parts
  }

  /** Uncounted by their records. @returns one word for each, in order. */
  async requeue(
    leases: readonly Lease[],
    call = (all: readonly Lease[]): ReturnType<StreamQueue['requeue']> => this.#parts.queue.requeue(all),
  ): Promise<readonly RequeueWord[]> {
    const { state } = this.#parts
    let words: readonly RequeueWord[]
    try {
      words = await call(leases)
    } catch (error) {
      state.mustRecover = true
      throw error
    }
    if (state.phase !== 'running') state.handedBack += words.filter((word) => word === 'REQUEUED').length
    return words
  }

  /** Of tasks that are not known here; task by task, as their errors name them should nobody know them for too long. */
  async requeueUnknown(deliveries: readonly Delivery[]): Promise<void> {
    const { backend, queue, news, errands } = this.#parts
    for (const name of new Set(deliveries.map(({ record }) => record.name))) {
      const named = deliveries.filter(({ record }) => record.name === name)
      const facts = { code: 'ERR_TASKS_NOT_REGISTERED', name, ids: named.map(({ lease }) => lease.id) }
      news.logger.warn(facts, 'no task of that name is known here; it is handed back')
      const leases = named.map(({ lease }) => lease)
      const words = await this.requeue(leases, (all) => queue.requeueUnknown(all, name))
      const failed = facts.ids.filter((_, index) => words[index] === 'FAILED')
      if (failed.length === 0) continue
      news.logger.error({ ...facts, ids: failed }, 'records failed: no worker knew their task for too long')
      errands.inBackground(tellFinished(backend, failed, news.logger))
    }
  }
}
