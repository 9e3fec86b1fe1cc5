/**
 * What a worker does by the clock: promotes what is due, looks for new queues, says that it is alive, and sweeps (retention,
 * consumers that are gone; the look for stale deliveries is only marked as due, the loop does it when a slot is free).
 */
import { hostname } from 'node:os'
import { systemClock } from './clock.ts'
import { purgeFinished } from './maintenance.ts'
import { packageVersion } from './package-version.ts'
import { DEFAULT_QUEUE } from './task-backend.ts'
import { taskRegistry } from './task-registry.ts'
import type { Timer } from './worker-errands.ts'
import type { WorkerParts } from './worker-parts.ts'
import { fieldsOf, NAMED_TASKS } from './worker-report.ts'

const HEARTBEAT_MS = 5_000
/** Consumers that were not heard of for so many claim intervals are removed, if nothing is theirs. */
const FORGET_AFTER_INTERVALS = 10

export class WorkerUpkeep {
  readonly #parts: WorkerParts
  readonly #running: () => number
  readonly #otherQueues: () => void
  readonly #startedAt = systemClock.now()
  #promotion: { readonly timer: Timer; readonly atMs: number } | undefined

  /**
   * @param running how many attempts are in hand, for the heartbeat.
   * @param otherQueues told when the queues that are served are others than before.
   */
  constructor(parts: WorkerParts, running: () => number, otherQueues: () => void) {
    this.#parts = parts
    this.#running = running
    this.#otherQueues = otherQueues
  }

  /** Everything by timer from here on; the errands' end stops it. */
  start(): void {
    const claimIntervalMs = this.#parts.settings.claimIntervalSeconds * 1_000
    this.#parts.errands.every(Math.min(HEARTBEAT_MS, claimIntervalMs), () => this.heartbeat())
    this.#parts.errands.every(claimIntervalMs, () => this.#sweep())
    // Apart from the sweep: after a long time without workers it may take minutes, and what dead ones left must not wait for it.
    this.#parts.errands.every(claimIntervalMs, () => this.#purge())
    this.planPromotion(0)
  }

  /** Which queues are served: those of the options, or all that there are. */
  async refreshQueues(): Promise<void> {
    const { settings, queue, state } = this.#parts
    const names = settings.queues ?? (await queue.queueNames())
    const next = names.length > 0 ? names : [DEFAULT_QUEUE]
    if (next.length === state.queueNames.length && next.every((name) => state.queueNames.includes(name))) return
    state.queueNames = next
    this.#otherQueues()
    state.sign()
    state.wakeUp()
  }

  /** The next promotion, in an interval at the latest; an earlier one that is planned stays. */
  planPromotion(dueInMs: number): void {
    const { settings, state, errands } = this.#parts
    if (state.phase !== 'running') return
    const waitMs = Math.min(dueInMs, settings.intervalSeconds * 1_000)
    const atMs = systemClock.monotonicMs() + waitMs
    if (this.#promotion) {
      if (this.#promotion.atMs <= atMs) return
      errands.cancel(this.#promotion.timer)
    }
    const timer = errands.after(waitMs, () => {
      this.#promotion = undefined
      errands.inBackground(this.#promote())
    })
    this.#promotion = { timer, atMs }
  }

  /** A worker that ends when nothing is due has to ask new queues and the delayed ones before it says so. */
  async promoteNow(): Promise<void> {
    await this.refreshQueues()
    const { queue, state } = this.#parts
    const { moved } = await queue.promote(state.queueNames)
    if (moved > 0) state.sign()
  }

  async #promote(): Promise<void> {
    const { settings, queue, state, news } = this.#parts
    let dueInMs = Infinity
    try {
      if (!settings.queues) await this.refreshQueues()
      const { moved, dueInMs: next } = await queue.promote(state.queueNames)
      dueInMs = next ?? Infinity
      if (moved > 0) {
        state.sign()
        state.wakeUp()
      }
    } catch (error) {
      news.failed(error)
    }
    this.planPromotion(dueInMs)
  }

  async #sweep(): Promise<void> {
    const { backend, settings, state } = this.#parts
    if (state.phase !== 'running') return
    state.mustRecover = true
    state.reclaimDue = true
    state.sign()
    state.wakeUp()
    await backend.storage.sweep(settings.claimIntervalSeconds * 1_000 * FORGET_AFTER_INTERVALS)
  }

  async #purge(): Promise<void> {
    const { backend, errands, state, news } = this.#parts
    if (state.phase !== 'running') return
    const finishedForMs = backend.limits.completedTaskTtlSeconds * 1_000
    const { deleted } = await purgeFinished(backend.storage, { finishedForMs, signal: errands.signal })
    if (deleted > 0) news.logger.info({ deleted }, 'finished records were removed; their retention ended')
  }

  async heartbeat(): Promise<void> {
    const { backend, settings, queue, leases, state } = this.#parts
    const report = {
      workerId: queue.workerId,
      host: hostname(),
      pid: String(process.pid),
      node: process.version,
      version: packageVersion(),
      startedAt: this.#startedAt,
      state: state.phase,
      concurrency: settings.concurrency,
      running: this.#running(),
      settled: state.settled,
      lost: state.lost,
      queues: settings.queues ?? [],
      tasks: taskRegistry.names().slice(0, NAMED_TASKS),
      memoryBytes: process.memoryUsage.rss(),
      longestBlock: leases.longestBlock,
    }
    leases.noteReport?.(report)
    await backend.storage.heartbeat({ consumer: queue.consumer, fields: fieldsOf(report) })
  }
}
