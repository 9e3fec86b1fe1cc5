/** The record verbs of RedisStorage: one short method each, in the words of its script. */
import { batchesOf } from '../../batches.ts'
import { StorageUnavailableError } from '../../errors.ts'
import type {
  CancelWord,
  Cell,
  DeleteWord,
  EnqueueAnswer,
  FinishWord,
  ListPosition,
  ListRequest,
  PurgeAnswer,
  PurgeRequest,
  RecordChanges,
  RecordStorage,
  RetryWord,
  SaveWord,
} from '../storage.ts'
import type { Brief, FoundRecord, NewRecord } from '../stored-record.ts'
import { ARGS_FIELDS, cutArgs } from './args-pieces.ts'
import { mergeCells } from './cell-merge.ts'
import { BRIEF_FIELDS, briefOf, NO_HASH, RECORD_FIELDS, recordOf } from './record-fields.ts'
import type { RedisLink } from './redis-link.ts'

/** Records that one call reads: a few milliseconds of the server. */
const BRIEF_BATCH = 250

export class RedisRecords implements RecordStorage {
  readonly #link: RedisLink

  constructor(link: RedisLink) {
    this.#link = link
  }

  async enqueue(records: readonly NewRecord[]): Promise<readonly EnqueueAnswer[]> {
    const [enqueuedAt, indexError, ...existing] = (await this.#link.produce('enqueue', runsOf(records))) as [
      string,
      string,
      ...number[],
    ]
    this.#link.noteIndexError(indexError === '' ? undefined : indexError)
    const enqueued = { word: 'ENQUEUED', enqueuedAt: Number(enqueuedAt) } as const
    const answers: EnqueueAnswer[] = records.map(() => enqueued)
    for (const position of existing) answers[position - 1] = { word: 'EXISTS' }
    return answers
  }

  async find(ids: readonly string[], brief?: Brief): Promise<readonly FoundRecord[]> {
    if (brief) return await this.#findBrief(ids, brief)
    const replies = await this.#link.pipeline('read records', (pipeline) => {
      for (const id of ids) pipeline.hmget(this.#link.keys.record(id), ...RECORD_FIELDS)
    })
    return ids.map((id, index) => {
      // HMGET answers a key that is not there, too: null is one of another type.
      const reply = replies[index] as unknown[] | null
      return reply === null ? { id, damage: NO_HASH } : recordOf(id, reply)
    })
  }

  async #findBrief(ids: readonly string[], { argsBytes }: Brief): Promise<readonly FoundRecord[]> {
    const head = [String(argsBytes), String(BRIEF_FIELDS.length), ...BRIEF_FIELDS]
    const found: FoundRecord[] = []
    for (const batch of batchesOf(ids, BRIEF_BATCH)) {
      const rows = (await this.#link.produce('brief', [...head, ...batch])) as string[][]
      found.push(...batch.map((id, index) => briefOf(id, rows[index] ?? [])))
    }
    return found
  }

  async list(request: ListRequest): Promise<readonly ListPosition[]> {
    const keys = request.cells.map((cell) => this.#link.keys.cell(cell))
    return await this.#link.producer.send('list records', (client) => mergeCells(client, keys, request))
  }

  async count(
    cells: readonly Cell[],
    bounds: { from?: number | undefined; to?: number | undefined } = {},
  ): Promise<readonly number[]> {
    const all = bounds.from === undefined && bounds.to === undefined
    const replies = await this.#link.pipeline('count records', (pipeline) => {
      for (const cell of cells) {
        const key = this.#link.keys.cell(cell)
        if (all) pipeline.zcard(key)
        else pipeline.zcount(key, String(bounds.from ?? '-inf'), String(bounds.to ?? '+inf'))
      }
    })
    return replies.map((reply) => Number(reply ?? 0))
  }

  async catalog(): Promise<{ queueNames: readonly string[]; tasks: readonly Omit<Cell, 'status'>[] }> {
    const [queueNames, pairs] = await this.#link.producer.send('list its queues', (client) =>
      Promise.all([client.smembers(this.#link.keys.queues), client.smembers(this.#link.keys.cells)]),
    )
    const tasks = pairs.flatMap((pair) => {
      const [queueName, name] = pair.split(':')
      return queueName && name ? [{ queueName, name }] : []
    })
    return { queueNames: queueNames.sort(), tasks }
  }

  async save(id: string, changes: RecordChanges): Promise<SaveWord> {
    const args = [id]
    if (changes.priority !== undefined) args.push('priority', String(changes.priority))
    if (changes.runAfter !== undefined) args.push('runAfter', changes.runAfter === null ? '' : String(changes.runAfter))
    if (changes.args !== undefined) {
      for (const [index, piece] of cutArgs(changes.args).entries()) args.push(ARGS_FIELDS[index] ?? '', piece)
    }
    const [word] = this.#link.words(1, await this.#link.produce('save-record', args))
    return word as SaveWord
  }

  async delete(ids: readonly string[]): Promise<readonly DeleteWord[]> {
    const words = this.#link.words(ids.length, await this.#link.produce('delete-record', ids))
    return words as DeleteWord[]
  }

  async retry(ids: readonly string[], requestId: string): Promise<readonly RetryWord[]> {
    const words = this.#link.words(ids.length, await this.#link.produce('retry', [requestId, ...ids]))
    return words as RetryWord[]
  }

  async cancel(ids: readonly string[], requestId: string, error: string): Promise<readonly CancelWord[]> {
    const words = this.#link.words(ids.length, await this.#link.produce('cancel', [requestId, error, ...ids]))
    return words as CancelWord[]
  }

  async purge(request: PurgeRequest): Promise<PurgeAnswer> {
    const { queueName, name, status } = request.cell
    const [score = '-inf', passed = '0'] = request.position === '' ? [] : request.position.split('/')
    const args = [queueName, name, status, String(request.finishedForMs), String(request.limit)]
    const answer = (await this.#link.produce('purge', [...args, request.dryRun ? '1' : '', score, passed])) as [
      number,
      number,
      string,
      number,
      string?,
    ]
    this.#link.noteIndexError(answer[4])
    return { matched: answer[0], deleted: answer[1], next: answer[2] === '' ? '' : `${answer[2]}/${answer[3]}` }
  }

  async awaitFinished(id: string, timeoutMs: number): Promise<FinishWord> {
    const { promise, resolve, reject } = promiseWithResolvers<FinishWord>()
    const watch = async (): Promise<void> => {
      const word = await this.#link.produce('watch', [id])
      if (word === 'FINISHED') resolve('FINISHED')
      else if (word !== 'WATCHED') resolve('ABSENT')
    }
    const look = (): void => {
      watch()
        // Twice: a connection that is dead without a sign is made anew by the call that it did not answer.
        .catch((error: unknown) =>
          error instanceof StorageUnavailableError ? watch() : Promise.reject(error as Error),
        )
        .catch(reject)
    }
    // A last look, as the message may have been lost a moment ago; with the server away the time is over all the same.
    const lookAtEnd = (): void => {
      watch().then(
        () => resolve('TIMEOUT'),
        (error: unknown) => (error instanceof StorageUnavailableError ? resolve('TIMEOUT') : reject(error)),
      )
    }
    const timer = setTimeout(lookAtEnd, timeoutMs)
    const stop = this.#link.finished.listen(id, look)
    // Not awaited: with the server away a subscription takes as long as the outage, and the time limit holds all the same.
    this.#link.finished.subscribed().then(look, reject)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      stop()
    }
  }
}

/** Records as enqueue.lua takes them: what neighbours have in common is said once. */
function runsOf(records: readonly NewRecord[]): string[] {
  const words: string[] = []
  let from = 0
  for (const [index, record] of records.entries()) {
    const first = records[from] ?? record
    if (haveInCommon(first, record)) continue
    pushRun(words, first, records.slice(from, index))
    from = index
  }
  const first = records[from]
  if (first) pushRun(words, first, records.slice(from))
  return words
}

function haveInCommon(a: NewRecord, b: NewRecord): boolean {
  const isOneTask = a.queueName === b.queueName && a.name === b.name
  return isOneTask && a.priority === b.priority && a.runAfter === b.runAfter
}

function pushRun(words: string[], { queueName, name, priority, runAfter }: NewRecord, run: readonly NewRecord[]): void {
  const cut = run.map(({ args }) => cutArgs(args))
  const pieces = cut.reduce((most, { length }) => Math.max(most, length), 1)
  words.push(queueName, name, String(priority), String(runAfter ?? ''), String(pieces), String(run.length))
  run.forEach(({ id }, index) => {
    const own = cut[index] ?? []
    words.push(id)
    for (let piece = 0; piece < pieces; piece += 1) words.push(own[piece] ?? '')
  })
}

/** Promise.withResolvers, which Node 20 does not have. */
function promiseWithResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (e: unknown) => void } {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
