/**
 * doctor: walks over everything that a backend keeps, says what breaks an invariant, and mends it where that is asked for. Beside
 * live workers as well as at rest. What an invariant means and what a repair does stands in storage/invariants.ts; the judging
 * and the mending are the storage's.
 */
import { systemClock } from './clock.ts'
import { StorageDamagedError, TaskOptionError, verbatim } from './errors.ts'
import { anything, checkOptions, flag, number } from './options.ts'
import type { GivenOptions } from './options.ts'
import { isExaminable } from './storage/inspection.ts'
import type { Examinable, Finding, InspectionProgress, InspectionRequest } from './storage/inspection.ts'
import type { Invariant } from './storage/invariants.ts'
import type { SeenWorker, ServerFacts, Storage } from './storage/storage.ts'
import type { TaskBackend } from './task-backend.ts'
import { reportOf } from './worker-report.ts'

export type { Finding, InspectionProgress } from './storage/inspection.ts'
export type { Invariant } from './storage/invariants.ts'

/** Every option of the doctor. */
const DOCTOR_OPTIONS = Object.freeze({
  repair: flag({ default: false, description: 'mend what can be mended' }),
  claimIntervalSeconds: number({
    min: 0.01,
    max: 86_400,
    default: 60,
    description: "the workers' own: what may be overdue is counted in it",
  }),
  intervalSeconds: number({
    min: 0.01,
    max: 3_600,
    default: 1,
    description: "the workers' own: how often delayed tasks are looked at",
  }),
  signal: anything({
    shape: 'an AbortSignal',
    is: (value): value is AbortSignal => value instanceof AbortSignal,
    description: 'end between two batches once it aborts',
  }),
  onProgress: anything({
    shape: 'a function',
    is: (value): value is (progress: InspectionProgress) => void => typeof value === 'function',
    description: 'called after each batch with { done, total }',
  }),
})

export type DoctorOptions = GivenOptions<typeof DOCTOR_OPTIONS>

export interface InvariantCounts {
  readonly found: number
  readonly repaired: number
}

/** The end of an examination. */
export interface DoctorSummary {
  readonly backendName: string
  readonly server: ServerFacts
  /** False when a signal ended it, or who asked stopped listening: what was not looked at is not judged. */
  readonly complete: boolean
  readonly records: number
  /** Keys below the roots of the backend, on Redis. */
  readonly keys: number
  readonly entries: number
  readonly delayed: number
  readonly leases: number
  /** Violations found, those mended included. */
  readonly found: number
  readonly repaired: number
  /** Of those found, how many a repair could have mended and was not asked to. */
  readonly repairable: number
  /** Violations that are still there. */
  readonly left: number
  readonly byInvariant: Readonly<Partial<Record<Invariant, InvariantCounts>>>
  readonly tookMs: number
}

/** An examination, to be iterated once; `summary()` has the totals. */
export interface Examination extends AsyncIterable<Finding> {
  /**
   * Resolves at its end. Runs it to there, without telling the findings, if nobody iterates it.
   *
   * @throws StorageUnavailableError the storage went away meanwhile.
   */
  summary(): Promise<DoctorSummary>
}

/** Heartbeats come every 5 seconds: a worker that missed two is not counted on. */
const ALIVE_MS = 15_000

/**
 * Examines a backend. Nothing is sent before the examination is iterated, or its summary is asked for.
 *
 * @throws TaskOptionError an option is unknown or out of range, or the backend keeps no records (immediate, dummy, a custom
 *   storage without inspections): use a redis or memory backend.
 */
export function doctor(backend: TaskBackend, options: DoctorOptions = {}): Examination {
  const checked = checkOptions('options', DOCTOR_OPTIONS, options)
  const { storage } = backend
  if (!isExaminable(storage)) {
    const cure = 'use a redis or memory backend, or give the storage `inspections()`'
    throw new TaskOptionError(
      `backend "${backend.alias}"`,
      'one that can be examined',
      verbatim('a storage that cannot'),
      cure,
    )
  }
  return new BackendExamination(backend, storage, checked)
}

/** A storage that cannot tell its workers, as their key holds something else: that is a finding of its own (I1). */
function noneOf(error: unknown): readonly SeenWorker[] {
  if (error instanceof StorageDamagedError) return []
  throw error
}

type CheckedOptions = ReturnType<typeof checkOptions<typeof DOCTOR_OPTIONS>>

class BackendExamination implements Examination {
  readonly #backend: TaskBackend
  readonly #storage: Storage & Examinable
  readonly #options: CheckedOptions
  readonly #byInvariant: Partial<Record<Invariant, { found: number; repaired: number }>> = {}
  #repairable = 0
  #run: AsyncGenerator<Finding, void> | undefined
  #end: DoctorSummary | undefined
  #error: { readonly reason: unknown } | undefined

  constructor(backend: TaskBackend, storage: Storage & Examinable, options: CheckedOptions) {
    this.#backend = backend
    this.#storage = storage
    this.#options = options
  }

  [Symbol.asyncIterator](): AsyncIterator<Finding> {
    return (this.#run ??= this.#examine())
  }

  async summary(): Promise<DoctorSummary> {
    this.#run ??= this.#examine()
    while (!this.#end && !this.#error) if ((await this.#run.next()).done) break
    if (this.#error) throw this.#error.reason
    if (!this.#end) throw new TypeError('expected an examination to end with a summary, got: none')
    return this.#end
  }

  async *#examine(): AsyncGenerator<Finding, void> {
    const storage = this.#storage
    const { alias } = this.#backend
    const startedMs = systemClock.monotonicMs()
    const sums = { records: 0, keys: 0, entries: 0, delayed: 0, leases: 0 }
    let server: ServerFacts | undefined
    let isWhole = true
    let complete = false
    try {
      server = await storage.connect()
      const inspections = storage.inspections()
      const request = this.#request(await storage.workers().catch(noneOf))
      for (const [index, inspection] of inspections.entries()) {
        const part = { index, count: inspections.length }
        const run = inspection.inspect({ ...request, onProgress: this.#progressOf(part) })
        let step = await run.next()
        while (!step.done) {
          this.#count(step.value)
          yield step.value
          step = await run.next()
        }
        for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += step.value[name]
        isWhole &&= step.value.complete
      }
      complete = isWhole
    } catch (reason) {
      this.#error = { reason }
      throw reason
    } finally {
      // Also when nobody listens any more: `break` in a loop ends the generator here.
      if (server && !this.#error) {
        const tookMs = Math.round(systemClock.monotonicMs() - startedMs)
        this.#end = { backendName: alias, server, complete, ...sums, ...this.#sums, tookMs }
      }
    }
  }

  #request(workers: readonly SeenWorker[]): InspectionRequest {
    const { repair, signal, claimIntervalSeconds, intervalSeconds } = this.#options
    const alive = workers.filter(({ ageMs }) => ageMs <= ALIVE_MS)
    return {
      ...{ repair, signal },
      retentionMs: this.#backend.limits.completedTaskTtlSeconds * 1_000,
      claimIntervalMs: claimIntervalSeconds * 1_000,
      intervalMs: intervalSeconds * 1_000,
      consumers: new Set(workers.map(({ consumer }) => consumer)),
      isAttended: (queueName, forMs) => alive.some((worker) => attends(worker, queueName, forMs)),
    }
  }

  #progressOf({ index, count }: { index: number; count: number }): InspectionRequest['onProgress'] {
    const { onProgress } = this.#options
    // Shards are about equally full.
    return onProgress && (({ done, total }) => onProgress({ done: index * total + done, total: count * total }))
  }

  #count({ invariant, repairable, repaired }: Finding): void {
    const counts = (this.#byInvariant[invariant] ??= { found: 0, repaired: 0 })
    counts.found += 1
    if (repaired) counts.repaired += 1
    else if (repairable) this.#repairable += 1
  }

  get #sums(): Pick<DoctorSummary, 'found' | 'repaired' | 'repairable' | 'left' | 'byInvariant'> {
    const counts = Object.values(this.#byInvariant)
    const found = counts.reduce((sum, one) => sum + one.found, 0)
    const repaired = counts.reduce((sum, one) => sum + one.repaired, 0)
    const repairable = this.#options.repair ? 0 : this.#repairable
    return { found, repaired, repairable, left: found - repaired, byInvariant: this.#byInvariant }
  }
}

/** Whether a worker takes tasks of a queue (null: of any), and has done so for that long by its own word. */
function attends(worker: SeenWorker, queueName: string | null, forMs: number): boolean {
  const { state, queues, startedAt } = reportOf(worker)
  if (state !== 'running' || startedAt === null) return false
  if (queueName !== null && queues.length > 0 && !queues.includes(queueName)) return false
  return systemClock.now() - startedAt > forMs
}
