/** MemoryTaskBackend: the same queue inside this process, gone when it ends. For trying things out, tests and small apps. */
import { silentLogger } from '../logger.ts'
import { checkOptions } from '../options.ts'
import { MemoryStorage } from '../storage/memory/memory-storage.ts'
import { limitsOf, STORAGE_BACKEND_OPTIONS } from './backend-options.ts'
import type { StorageBackendOptions } from './backend-options.ts'
import { StorageTaskBackend } from './storage-task-backend.ts'

export class MemoryTaskBackend extends StorageTaskBackend {
  /** @throws TaskOptionError an option is unknown or out of range. */
  constructor(options: StorageBackendOptions = {}) {
    const checked = checkOptions('options', STORAGE_BACKEND_OPTIONS, options)
    super(
      { alias: checked.alias, queues: checked.queues, logger: checked.logger ?? silentLogger, retry: checked.retry },
      new MemoryStorage(),
      limitsOf(checked),
    )
  }
}
