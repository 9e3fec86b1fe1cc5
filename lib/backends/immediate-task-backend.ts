/**
 * ImmediateTaskBackend: runs each task inside enqueue, stores nothing. For users' tests and for development.
 * A task that fails makes a FAILED result, never a rejected enqueue.
 */
import { randomBytes } from 'node:crypto'
import { Attempt } from '../attempt.ts'
import { systemClock } from '../clock.ts'
import { TaskOptionError } from '../errors.ts'
import { silentLogger } from '../logger.ts'
import { checkOptions } from '../options.ts'
import { newStoredRecord } from '../storage/stored-record.ts'
import type { NewRecord, StoredRecord } from '../storage/stored-record.ts'
import { TaskBackend } from '../task-backend.ts'
import { TaskResult, unchanging } from '../task-result.ts'
import type { AnyTask } from '../task.ts'
import { PLAIN_BACKEND_OPTIONS } from './backend-options.ts'
import type { PlainBackendOptions } from './backend-options.ts'

export class ImmediateTaskBackend extends TaskBackend {
  readonly supportsRunAfter = false
  readonly #workerId = `immediate-${process.pid}-${randomBytes(3).toString('hex')}`

  constructor(options: PlainBackendOptions = {}) {
    const checked = checkOptions('options', PLAIN_BACKEND_OPTIONS, options)
    super({ alias: checked.alias, queues: checked.queues, logger: checked.logger ?? silentLogger })
  }

  protected override async store(task: AnyTask, records: readonly NewRecord[]): Promise<TaskResult[]> {
    const results: TaskResult[] = []
    for (const record of records) results.push(await this.#run(task, record))
    return results
  }

  override getResult(id: string): Promise<TaskResult> {
    const cure = 'keep what enqueue() answers; this backend stores nothing'
    return Promise.reject(new TaskOptionError(`backend "${this.alias}"`, 'one that stores records', id, cure))
  }

  async #run(task: AnyTask, record: NewRecord): Promise<TaskResult> {
    const ready = newStoredRecord(record, systemClock.now())
    this.emit('taskEnqueued', this.result(ready))
    const startedAt = systemClock.now()
    const running: StoredRecord = {
      ...ready,
      ...{ status: 'RUNNING', startedAt, lastAttemptedAt: startedAt, attempts: 1, workerIds: [this.#workerId] },
      fence: startedAt * 1_000,
    }
    const started = this.result(running)
    this.logStarted(started)
    this.emit('taskStarted', started)
    const delivery = { lease: { id: record.id, token: '', entryId: '' }, record: running }
    const ending = await new Attempt(this, delivery, task, systemClock).run()
    const finishedAt = systemClock.now()
    const settled = 'settle' in ending ? ending.settle : undefined
    const finished: StoredRecord =
      settled?.outcome === 'SUCCESSFUL'
        ? { ...running, status: 'SUCCESSFUL', finishedAt, returnValue: settled.payload }
        : // A retry would need a queue to wait in: here the first failure is the last.
          {
            ...running,
            status: 'FAILED',
            finishedAt,
            errors: [`{"at":${finishedAt},${(settled?.payload ?? '{"name":"Error"}').slice(1)}`],
          }
    const result = this.result(finished)
    this.logFinished(result)
    this.emit('taskFinished', result)
    return result
  }

  override result(record: StoredRecord): TaskResult {
    return new TaskResult(unchanging(this.alias, record), record)
  }
}
