/** DummyTaskBackend: runs nothing and remembers what was enqueued, for users' tests: `backend.results`, `clear()`. */
import { systemClock } from '../clock.ts'
import { TaskNotFoundError } from '../errors.ts'
import { silentLogger } from '../logger.ts'
import { checkOptions } from '../options.ts'
import { normalizeRecordId } from '../record-id.ts'
import { newStoredRecord } from '../storage/stored-record.ts'
import type { NewRecord, StoredRecord } from '../storage/stored-record.ts'
import { TaskBackend } from '../task-backend.ts'
import { storedRecordOf, TaskResult, unchanging } from '../task-result.ts'
import type { AnyTask } from '../task.ts'
import { PLAIN_BACKEND_OPTIONS } from './backend-options.ts'
import type { PlainBackendOptions } from './backend-options.ts'

export class DummyTaskBackend extends TaskBackend {
  readonly supportsRunAfter = true
  /** What was enqueued, in order; all of it READY. */
  readonly results: TaskResult[] = []
  readonly #ids = new Set<string>()

  constructor(options: PlainBackendOptions = {}) {
    const checked = checkOptions('options', PLAIN_BACKEND_OPTIONS, options)
    super({ alias: checked.alias, queues: checked.queues, logger: checked.logger ?? silentLogger })
  }

  clear(): void {
    this.results.length = 0
    this.#ids.clear()
  }

  override getResult(id: string): Promise<TaskResult> {
    const result = this.#find(normalizeRecordId(id))
    return result ? Promise.resolve(result) : Promise.reject(new TaskNotFoundError(id, `backend "${this.alias}"`))
  }

  override result(record: StoredRecord): TaskResult {
    return new TaskResult(unchanging(this.alias, record), record)
  }

  protected override store(_task: AnyTask, records: readonly NewRecord[]): Promise<TaskResult[]> {
    const results = records.map((record) => {
      const known = this.#ids.has(record.id) ? this.#find(record.id) : undefined
      if (known) return this.result(storedRecordOf(known))
      const stored = newStoredRecord(record, systemClock.now())
      this.results.push(this.result(stored))
      this.#ids.add(record.id)
      // A copy of its own: whatever the caller does with it, `results` stays as it was.
      const copy = this.result(stored)
      this.emit('taskEnqueued', copy)
      return copy
    })
    return Promise.resolve(results)
  }

  #find(id: string | undefined): TaskResult | undefined {
    return this.results.find((known) => known.id === id)
  }
}
