/**
 * TaskRecord, the active record: find, filter, count, and save, delete, refresh, retry, run on one.
 * Changes what a person may change; states have verbs, and the storage judges each of them.
 */
import { randomUUID } from 'node:crypto'
import { refuseGone, TaskNotFoundError, TaskRecordDamagedError, TaskStateError } from './errors.ts'
import { encodeArgs } from './json.ts'
import type { Logger } from './logger.ts'
import { checkOptions, date, integer } from './options.ts'
import type { RecordFilter } from './record-filter.ts'
import { normalizeRecordId } from './record-id.ts'
import { RecordQuery } from './record-query.ts'
import type { CountField, QuerySource } from './record-query.ts'
import { PRIORITIES } from './storage/storage.ts'
import type { RecordChanges, Storage } from './storage/storage.ts'
import { isDamaged } from './storage/stored-record.ts'
import type { StoredRecord } from './storage/stored-record.ts'
import { taskBackends } from './task-backends.ts'
import { storedRecordOf, TaskResult } from './task-result.ts'

/** What records need of the backend they belong to. */
export interface RecordSource {
  readonly alias: string
  readonly storage: Storage
  readonly logger: Logger
  /** Runs a record here and now; null when its state does not allow it. */
  runById(id: string, options: { allowRetry?: boolean }): Promise<TaskResult | null>
}

const WRITABLE = Object.freeze({
  priority: integer({ ...PRIORITIES, description: 'priority' }),
  runAfter: date({ description: 'due at this time' }),
})

export class TaskRecord extends TaskResult {
  readonly #source: RecordSource
  #priority: number
  #runAfter: Date | null
  #newArgs: readonly unknown[] | undefined

  constructor(source: RecordSource, record: StoredRecord) {
    super(source, record)
    this.#source = source
    this.#priority = record.priority
    this.#runAfter = super.runAfter
  }

  override get priority(): number {
    return this.#priority
  }

  override set priority(value: number) {
    this.#priority = value
  }

  override get runAfter(): Date | null {
    return this.#runAfter
  }

  override set runAfter(value: Date | null) {
    this.#runAfter = value
  }

  override get args(): readonly unknown[] {
    return this.#newArgs ?? super.args
  }

  override set args(value: readonly unknown[]) {
    this.#newArgs = value
  }

  /** Leases of this record that ran out since its last retry by a person. */
  get crashes(): number {
    return storedRecordOf(this).crashes
  }

  /** Times it was handed back because no task of its name was known where it came to, since its last retry by a person. */
  get handBacks(): number {
    return storedRecordOf(this).handBacks
  }

  /** The fence of its latest attempt; grows with each. */
  get fence(): number {
    return storedRecordOf(this).fence
  }

  /** The record as it is stored: times in milliseconds, payloads as JSON text. */
  get stored(): StoredRecord {
    return storedRecordOf(this)
  }

  /**
   * Writes what changed of `priority`, `runAfter` and `args`, and reads the record again.
   *
   * @throws TaskOptionError, TaskArgumentError a value that may not be; nothing was written.
   * @throws TaskStateError the record is RUNNING.
   */
  async save(): Promise<this> {
    const changes = this.#changes()
    if (Object.keys(changes).length > 0) {
      const word = await this.#source.storage.save(this.id, changes)
      if (word === 'RUNNING') {
        throw new TaskStateError(this.id, 'READY, SUCCESSFUL or FAILED', word, 'save it after it has settled')
      }
      refuseGone(this.id, this.backendName, word)
    }
    return await this.refresh()
  }

  /** @throws TaskStateError the record is RUNNING. */
  async delete(): Promise<void> {
    const [word] = await this.#source.storage.delete([this.id])
    if (word === 'RUNNING') {
      throw new TaskStateError(this.id, 'READY, SUCCESSFUL or FAILED', word, 'delete it after it has settled')
    }
    if (word === 'BROKEN') refuseGone(this.id, this.backendName, word)
  }

  /**
   * FAILED -> READY, due at once; errors and attempts stay.
   *
   * @throws TaskStateError it is in another state.
   * @throws TaskNotFoundError it is gone, be it that it ran again and was removed before this could read it.
   */
  async retry(): Promise<this> {
    const [word = 'ABSENT'] = await this.#source.storage.retry([this.id], randomUUID())
    if (word !== 'RETRIED') {
      refuseGone(this.id, this.backendName, word)
      throw new TaskStateError(this.id, 'FAILED', word, 'only a failed record can be retried')
    }
    return await this.refresh()
  }

  /**
   * Runs it here and now, whatever its place in the queue; resolves when it has settled.
   *
   * @param options.allowRetry also when it is FAILED.
   * @throws TaskStateError its state does not allow it.
   */
  async run(options: { allowRetry?: boolean } = {}): Promise<this> {
    const result = await this.#source.runById(this.id, options)
    await this.refresh()
    if (result === null) {
      const wanted = options.allowRetry ? 'READY or FAILED' : 'READY'
      throw new TaskStateError(this.id, wanted, this.status, 'run({ allowRetry: true }) runs a failed record again')
    }
    return this
  }

  override async refresh(): Promise<this> {
    await super.refresh()
    const record = storedRecordOf(this)
    this.#priority = record.priority
    this.#runAfter = record.runAfter === null ? null : new Date(record.runAfter)
    this.#newArgs = undefined
    return this
  }

  #changes(): RecordChanges {
    const stored = storedRecordOf(this)
    const given = { priority: this.#priority, ...(this.#runAfter !== null && { runAfter: this.#runAfter }) }
    const { priority, runAfter } = checkOptions('record', WRITABLE, given)
    const args = this.#newArgs === undefined ? stored.args : encodeArgs(this.#newArgs)
    const due = runAfter === undefined ? null : runAfter.getTime()
    return {
      ...(priority !== undefined && priority !== stored.priority && { priority }),
      ...(due !== stored.runAfter && { runAfter: due }),
      ...(args !== stored.args && { args }),
    }
  }

  // The same verbs without a backend in hand: those of `default`.

  static async find(id: string): Promise<TaskRecord> {
    return await TaskRecord.using('default').find(id)
  }

  static filter(filter: RecordFilter = {}): RecordQuery<TaskRecord> {
    return TaskRecord.using('default').filter(filter)
  }

  static async countBy(field: CountField): Promise<Record<string, number>> {
    return await TaskRecord.using('default').countBy(field)
  }

  /** The records of another backend. @throws TaskOptionError no backend has that alias. */
  static using(alias: string): TaskRecords {
    return taskBackends.get(alias).records
  }
}

/** TaskRecord bound to one backend: `backend.records`, `TaskRecord.using(alias)`. */
export class TaskRecords {
  readonly #source: RecordSource

  constructor(source: RecordSource) {
    this.#source = source
  }

  /**
   * @throws TaskNotFoundError no record has that id.
   * @throws TaskRecordDamagedError it has one that cannot be read.
   */
  async find(id: string): Promise<TaskRecord> {
    return new TaskRecord(this.#source, await findStored(this.#source, id))
  }

  filter(filter: RecordFilter = {}): RecordQuery<TaskRecord> {
    return new RecordQuery(this.#query(), filter)
  }

  async countBy(field: CountField): Promise<Record<string, number>> {
    return await this.filter().countBy(field)
  }

  #query(): QuerySource<TaskRecord> {
    const source = this.#source
    return {
      storage: source.storage,
      toItem: (record) => new TaskRecord(source, record),
      onDamaged: ({ id, damage }) => {
        const facts = { code: 'ERR_TASKS_RECORD_DAMAGED', id, backend: source.alias, damage }
        source.logger.error(facts, 'a stored record cannot be read; it is passed over')
      },
    }
  }
}

/** The stored record of an id, or the error that says why there is none. */
export async function findStored(source: Pick<RecordSource, 'alias' | 'storage'>, id: string): Promise<StoredRecord> {
  const where = `backend "${source.alias}"`
  // What cannot be an id never reaches the storage: there it would become part of a key.
  const normal = normalizeRecordId(id)
  if (normal === undefined) throw new TaskNotFoundError(id, where)
  const [found] = await source.storage.find([normal])
  if (!found) throw new TaskNotFoundError(id, where)
  if (isDamaged(found)) throw new TaskRecordDamagedError(id, found.damage)
  return found
}
