/** The public door, in the order of a task's life. Imported by nobody in lib/. */
export { Task, task } from './task.ts'
export type { AnyTask, ArgsSchema, TaskOptions, UsingOptions } from './task.ts'
export type { TaskContext } from './task-context.ts'
export { configureTasks } from './configure-tasks.ts'
export type { BackendClass, BackendConfig, BackendKind, ConfiguredBackends, TasksConfig } from './configure-tasks.ts'
export { taskBackends } from './task-backends.ts'
export { taskRegistry } from './task-registry.ts'
export { TaskBackend } from './task-backend.ts'
export type { BackendEvents, BackendLimits } from './task-backend.ts'
export { RedisTaskBackend } from './backends/redis-task-backend.ts'
export type { RedisBackendOptions } from './backends/redis-task-backend.ts'
export type { StorageBackendOptions } from './backends/backend-options.ts'
export { MemoryTaskBackend } from './backends/memory-task-backend.ts'
export { ImmediateTaskBackend } from './backends/immediate-task-backend.ts'
export { DummyTaskBackend } from './backends/dummy-task-backend.ts'
export type { RedisClientLike } from './storage/redis/redis-client.ts'
export { StreamQueue } from './stream-queue.ts'
export type { Delivery, Lease, Settlement, Storage } from './storage/storage.ts'
export type { StoredRecord } from './storage/stored-record.ts'
export { Worker } from './worker.ts'
export type { SettledEvent, WorkerEvents } from './worker-events.ts'
export type { WorkerOptions } from './worker-options.ts'
export { executor } from './executor.ts'
export type { QueueStats } from './executor.ts'
export { doctor } from './doctor.ts'
export type { DoctorOptions, DoctorSummary, Examination, Finding, Invariant } from './doctor.ts'
export { tasksRouter } from './http/tasks-router.ts'
export type { TasksRouterOptions } from './http/tasks-router.ts'
export { ACTIONS, bearerToken } from './http/access.ts'
export type { Action, Authorize } from './http/access.ts'
export { TaskResult } from './task-result.ts'
export type { TaskAttemptError } from './task-result.ts'
export { TaskRecord, TaskRecords } from './task-record.ts'
export { RecordQuery } from './record-query.ts'
export type { RecordOrder } from './record-query.ts'
export type { RecordFilter } from './record-filter.ts'
export type { RecordPage } from './record-page.ts'
export { FINAL_STATUSES, TASK_STATUSES } from './task-status.ts'
export type { FinalStatus, TaskStatus } from './task-status.ts'
export { consoleLogger, silentLogger } from './logger.ts'
export type { Logger } from './logger.ts'
export type { RetryOptions } from './retry-policy.ts'
export {
  DoNotRetry,
  RetryLater,
  StorageClientError,
  StorageClosedError,
  StorageDamagedError,
  StorageFullError,
  StorageUnavailableError,
  StorageUnfitError,
  TaskAbandonedError,
  TaskArgumentError,
  TaskCancelledError,
  TaskError,
  TaskHandedBackError,
  TaskImportError,
  TaskLeaseLostError,
  TaskNotFoundError,
  TaskNotRegisteredError,
  TaskOptionError,
  TaskQueryLimitError,
  TaskRecordDamagedError,
  TaskResultMismatchError,
  TaskStateError,
  TaskTimeoutError,
} from './errors.ts'
