/** MemoryTaskBackend: the same queue inside this process, gone when it ends. For trying things out, tests and small apps. */
import { silentLogger } from '../logger.ts'
import { checkOptions } from '../options.ts'
import { MemoryStorage } from '../storage/memory/memory-storage.ts'
import { STORAGE_BACKEND_OPTIONS } from './redis-task-backend.ts'
import type { StorageBackendOptions } from './redis-task-backend.ts'
import { StorageTaskBackend } from './storage-task-backend.ts'

export class MemoryTaskBackend extends StorageTaskBackend {
  /** @throws TaskOptionError an option is unknown or out of range. */
  constructor(options: StorageBackendOptions = {}) {
    const checked = checkOptions('options', STORAGE_BACKEND_OPTIONS, options)
    super(
      { alias: checked.alias, queues: checked.queues, logger: checked.logger ?? silentLogger, retry: checked.retry },
      new MemoryStorage(),
      {
        claimTimeoutSeconds: checked.claimTimeoutSeconds,
        maxCrashes: checked.maxCrashes,
        unknownTaskTimeoutSeconds: checked.unknownTaskTimeoutSeconds,
        blockTimeoutMs: checked.blockTimeoutMs,
        completedTaskTtlSeconds: checked.completedTaskTtlSeconds ?? checked.resultTtlSeconds,
      },
    )
  }
}
