/**
 * Workers of a case, over memory and Redis: made here, stopped at its end before their backend is closed.
 * And what their tasks are made of: gates that a case opens, and facts about records.
 */
import type { StorageBackendOptions, TaskBackend, WorkerOptions } from '../../../lib/index.ts'
import { Worker } from '../../../lib/index.ts'
import type { SettledEvent } from '../../../lib/index.ts'
import type { StoredRecord } from '../../../lib/storage/stored-record.ts'
import { isDamaged } from '../../../lib/storage/stored-record.ts'
import type { AnyTask } from '../../../lib/task.ts'
import type { TaskStatus } from '../../../lib/task-status.ts'
import { BACKENDS, isolateProcessState } from '../../backends/backends-under-test.ts'
import type { BackendUnderTest, OpenedBackend } from '../../backends/backends-under-test.ts'
import { eventually } from '../../support/eventually.ts'
import type { EventuallyOptions } from '../../support/eventually.ts'

/** Short enough for a spec, long enough for a machine that is busy. */
const QUICK: WorkerOptions = { intervalSeconds: 0.1, drainTimeoutSeconds: 5 }

export interface WorkerBench extends OpenedBackend {
  readonly kind: BackendUnderTest
  /** A worker that is stopped at the end of the case, whether it was started or not. */
  make(options?: WorkerOptions, backend?: TaskBackend): Worker
  /** The same, started. */
  start(options?: WorkerOptions, backend?: TaskBackend): Promise<Worker>
  record(id: string): Promise<StoredRecord>
  /** Resolves when the record is in that status. */
  reached(id: string, status: TaskStatus, options?: EventuallyOptions): Promise<StoredRecord>
  counts(): Promise<Record<string, number>>
}

/** Runs cases over every backend, each with a backend of its own that is `default`. */
export function overEveryWorker(
  title: string,
  define: (bench: WorkerBench) => void,
  options: StorageBackendOptions = {},
): void {
  for (const kind of BACKENDS) describe(`${title} (${kind.name})`, () => defineOver(kind, options, define))
}

/** The same on Redis alone, where a case needs a hand in the server. */
export function overRedisWorker(
  title: string,
  define: (bench: WorkerBench) => void,
  options: StorageBackendOptions = {},
): void {
  for (const kind of BACKENDS) if (kind.name === 'redis') describe(title, () => defineOver(kind, options, define))
}

function defineOver(
  kind: BackendUnderTest,
  options: StorageBackendOptions,
  define: (bench: WorkerBench) => void,
): void {
  const workers: Worker[] = []
  // Before isolateProcessState: hooks run in the order in which they are declared, and it closes the backends.
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.stop({ drainTimeoutSeconds: 0 })))
  })
  isolateProcessState()
  let opened: OpenedBackend | undefined
  beforeEach(async () => {
    opened = await kind.open({ blockTimeoutMs: 1_000, ...options })
  })
  const current = (): OpenedBackend => {
    if (!opened) throw new Error('expected the bench to be used inside a case, got: outside')
    return opened
  }
  const bench: WorkerBench = {
    kind,
    get backend() {
      return current().backend
    },
    get raw() {
      return current().raw
    },
    get logged() {
      return current().logged
    },
    past: (ms, make) => current().past(ms, make),
    make(workerOptions = {}, backend = current().backend) {
      const worker = new Worker(backend, { ...QUICK, ...workerOptions })
      workers.push(worker)
      return worker
    },
    async start(workerOptions, backend) {
      const worker = bench.make(workerOptions, backend)
      await worker.start()
      return worker
    },
    async record(id) {
      const [record] = await current().backend.storage.find([id])
      if (!record || isDamaged(record))
        throw new Error(`expected record ${id} to be there, got: ${record?.damage ?? 'none'}`)
      return record
    },
    async reached(id, status, eventuallyOptions) {
      return await eventually(async () => {
        const record = await bench.record(id)
        return record.status === status && record
      }, eventuallyOptions)
    },
    counts: async () => await current().backend.records.filter({}).countBy('status'),
  }
  define(bench)
}

/** Holds tasks until a case lets them go on. */
export class Gate {
  readonly #opened: Promise<void>
  #open!: () => void
  /** How many came here so far. */
  arrived = 0

  constructor() {
    this.#opened = new Promise((resolve) => (this.#open = resolve))
  }

  async pass(): Promise<void> {
    this.arrived += 1
    await this.#opened
  }

  open(): void {
    this.#open()
  }
}

/** What a worker said of each settle, as it comes. */
export function settledBy(worker: Worker): SettledEvent[] {
  const events: SettledEvent[] = []
  worker.on('settled', (event) => void events.push(event))
  return events
}

/** Enqueues on a backend that need not be `default`. */
export async function enqueueOn(backend: TaskBackend, task: AnyTask, ...args: unknown[]): Promise<string> {
  return (await backend.enqueue(task, args)).id
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}
