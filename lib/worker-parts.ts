/** What every part of one worker is given. Types only; worker.ts makes it. */
import type { Leases } from './lease-keeper.ts'
import type { StreamQueue } from './stream-queue.ts'
import type { TaskBackend } from './task-backend.ts'
import type { WorkerErrands } from './worker-errands.ts'
import type { WorkerNews } from './worker-events.ts'
import type { WorkerSettings } from './worker-options.ts'
import type { WorkerState } from './worker-state.ts'

export interface WorkerParts {
  readonly backend: TaskBackend
  readonly settings: WorkerSettings
  readonly queue: StreamQueue
  readonly leases: Leases
  readonly state: WorkerState
  readonly news: WorkerNews
  readonly errands: WorkerErrands
}
