/**
 * Storage on Redis or Valkey: one short method a verb. Each change is one script; this file only says it in their words
 * and reads their answers. Opens its own connections, at first use; a client that was handed in is only duplicated.
 */
import { StorageClientError } from '../../errors.ts'
import { silentLogger } from '../../logger.ts'
import type { Logger } from '../../logger.ts'
import { BANDS } from '../storage.ts'
import type {
  BlockingTakeRequest,
  Cell,
  Claim,
  Delivery,
  FoundRecord,
  Heartbeat,
  Lease,
  ListPosition,
  ListRequest,
  MinuteOfStats,
  NewRecord,
  Promoted,
  PurgeAnswer,
  PurgeRequest,
  QueueDepth,
  ReclaimAnswer,
  ReclaimRequest,
  RecordChanges,
  RecoverRequest,
  SeenWorker,
  ServerFacts,
  Settlement,
  SettleWord,
  Storage,
  Taken,
  TakeRequest,
} from '../storage.ts'
import type { TaskStatus } from '../../task-status.ts'
import { BlockingReader, entriesOf } from './blocking-reader.ts'
import type { ReadEntry } from './blocking-reader.ts'
import { mergeCells } from './cell-merge.ts'
import { Connection, storageError } from './connection.ts'
import { FinishListener } from './finish-listener.ts'
import { Keys, rootOf } from './keys.ts'
import { BEGUN_COLUMNS, deliveryOf, readRows, RECORD_FIELDS, recordOf } from './record-fields.ts'
import { longestWaits, readStats } from './queue-figures.ts'
import type { Row, RowsRead } from './record-fields.ts'
import { ConnectionFactory } from './redis-client.ts'
import type { RedisClientLike, RedisPipeline, ServerSettings } from './redis-client.ts'
import { ScriptRunner } from './scripts.ts'
import type { ScriptCall, ScriptName } from './scripts.ts'
import { parseServerFacts } from './server-probe.ts'

export interface RedisStorageOptions {
  /** A client of the caller's (it is duplicated, never used), or where the server is. */
  readonly server: { readonly client: RedisClientLike } | ServerSettings
  readonly keyPrefix: string
  readonly alias: string
  readonly consumerGroup: string
  readonly logger?: Logger
  /** False takes the path of servers before 6.0, which cannot read a stream inside a script. */
  readonly scriptedReads?: boolean
}

/** Entries of the own list that one call looks at. */
const OWN_PAGE = 100

export class RedisStorage implements Storage {
  readonly #keys: Keys
  readonly #group: string
  readonly #logger: Logger
  readonly #factory: ConnectionFactory
  readonly #scripts: ScriptRunner
  readonly #producer: Connection
  readonly #worker: Connection
  readonly #reader: Connection
  readonly #subscriber: Connection
  readonly #blocking: BlockingReader
  readonly #finished: FinishListener
  #scriptedReads: boolean

  constructor(options: RedisStorageOptions) {
    this.#logger = options.logger ?? silentLogger
    this.#factory = new ConnectionFactory(options.server)
    this.#keys = new Keys(rootOf(options.keyPrefix, options.alias))
    // The mock has no consumer groups; scripts leave out what needs one when the group has no name.
    this.#group = this.#factory.mocked ? '' : options.consumerGroup
    this.#scripts = new ScriptRunner(this.#keys, this.#group)
    this.#scriptedReads = options.scriptedReads ?? true
    this.#producer = new Connection(this.#factory, 'producer', this.#logger)
    this.#worker = new Connection(this.#factory, 'worker', this.#logger)
    this.#reader = new Connection(this.#factory, 'reader', this.#logger)
    this.#subscriber = new Connection(this.#factory, 'subscriber', this.#logger)
    this.#blocking = new BlockingReader(this.#reader, this.#worker)
    this.#finished = new FinishListener(this.#subscriber, this.#keys.finished)
  }

  /** The same server for another thread; undefined when that is not possible. */
  get server(): ServerSettings | undefined {
    return this.#factory.settings
  }

  // Storage

  async connect(): Promise<ServerFacts> {
    const address = this.#factory.address
    if (this.#factory.mocked) return { kind: 'mock', version: '', address }
    const info = await this.#producer.send('answer', (client) =>
      // Managed servers may refuse INFO; being reached is what counts here.
      client.info('server').catch(async (error: unknown) => {
        if (!(error instanceof Error) || !/NOPERM|unknown command/i.test(error.message)) throw error
        await client.time()
        return ''
      }),
    )
    return parseServerFacts(info, address)
  }

  close(): Promise<void> {
    for (const connection of [this.#producer, this.#worker, this.#reader, this.#subscriber]) connection.close()
    return Promise.resolve()
  }

  // RecordStorage

  async enqueue(
    records: readonly NewRecord[],
  ): Promise<readonly ({ word: 'ENQUEUED'; enqueuedAt: number } | { word: 'EXISTS' })[]> {
    const args: string[] = []
    for (const { id, queueName, name, priority, runAfter, args: json } of records) {
      args.push(id, queueName, name, String(priority), runAfter === null ? '' : String(runAfter), json)
    }
    const words = (await this.#produce('enqueue', args)) as string[]
    this.#noteIndexError(words[records.length * 2])
    return records.map((_, index) =>
      words[index * 2] === 'ENQUEUED'
        ? { word: 'ENQUEUED', enqueuedAt: Number(words[index * 2 + 1]) }
        : { word: 'EXISTS' },
    )
  }

  async find(ids: readonly string[]): Promise<readonly FoundRecord[]> {
    const replies = await this.#pipeline('read records', (pipeline) => {
      for (const id of ids) pipeline.hmget(this.#keys.record(id), ...RECORD_FIELDS)
    })
    return ids.map((id, index) => {
      const reply = replies[index]
      if (reply instanceof Error) {
        if (reply.message.includes('WRONGTYPE')) return { id, damage: 'its key is not a hash' }
        throw storageError(reply, 'read records', this.#factory.address)
      }
      return recordOf(id, reply as unknown[])
    })
  }

  async list(request: ListRequest): Promise<readonly ListPosition[]> {
    const keys = request.cells.map((cell) => this.#keys.cell(cell))
    return await this.#producer.send('list records', (client) => mergeCells(client, keys, request))
  }

  async count(
    cells: readonly Cell[],
    bounds: { from?: number | undefined; to?: number | undefined } = {},
  ): Promise<readonly number[]> {
    const all = bounds.from === undefined && bounds.to === undefined
    const replies = await this.#pipeline('count records', (pipeline) => {
      for (const cell of cells) {
        const key = this.#keys.cell(cell)
        if (all) pipeline.zcard(key)
        else pipeline.zcount(key, String(bounds.from ?? '-inf'), String(bounds.to ?? '+inf'))
      }
    })
    return replies.map((reply) => {
      if (!(reply instanceof Error)) return Number(reply)
      if (reply.message.includes('WRONGTYPE')) return 0
      throw storageError(reply, 'count records', this.#factory.address)
    })
  }

  async catalog(): Promise<{ queueNames: readonly string[]; tasks: readonly Omit<Cell, 'status'>[] }> {
    const [queueNames, pairs] = await this.#producer.send('list its queues', (client) =>
      Promise.all([client.smembers(this.#keys.queues), client.smembers(this.#keys.cells)]),
    )
    const tasks = pairs.flatMap((pair) => {
      const [queueName, name] = pair.split(':')
      return queueName && name ? [{ queueName, name }] : []
    })
    return { queueNames: queueNames.sort(), tasks }
  }

  async save(id: string, changes: RecordChanges): Promise<'SAVED' | 'RUNNING' | 'ABSENT' | 'BROKEN'> {
    const args = [id]
    if (changes.priority !== undefined) args.push('priority', String(changes.priority))
    if (changes.runAfter !== undefined) args.push('runAfter', changes.runAfter === null ? '' : String(changes.runAfter))
    if (changes.args !== undefined) args.push('args', changes.args)
    const [word] = this.#words(1, await this.#produce('save-record', args))
    return word as 'SAVED' | 'RUNNING' | 'ABSENT' | 'BROKEN'
  }

  async delete(ids: readonly string[]): Promise<readonly ('DELETED' | 'RUNNING' | 'ABSENT' | 'BROKEN')[]> {
    const words = this.#words(ids.length, await this.#produce('delete-record', ids))
    return words as ('DELETED' | 'RUNNING' | 'ABSENT' | 'BROKEN')[]
  }

  async retry(
    ids: readonly string[],
    requestId: string,
  ): Promise<readonly ('RETRIED' | TaskStatus | 'ABSENT' | 'BROKEN')[]> {
    const words = this.#words(ids.length, await this.#produce('retry', [requestId, ...ids]))
    return words as ('RETRIED' | TaskStatus | 'ABSENT' | 'BROKEN')[]
  }

  async purge(request: PurgeRequest): Promise<PurgeAnswer> {
    const { queueName, name, status } = request.cell
    const [score = '-inf', passed = '0'] = request.position === '' ? [] : request.position.split('/')
    const args = [queueName, name, status, String(request.finishedForMs), String(request.limit)]
    const answer = (await this.#produce('purge', [...args, request.dryRun ? '1' : '', score, passed])) as [
      number,
      number,
      string,
      number,
      string?,
    ]
    this.#noteIndexError(answer[4])
    return { matched: answer[0], deleted: answer[1], next: answer[2] === '' ? '' : `${answer[2]}/${answer[3]}` }
  }

  async awaitFinished(id: string, timeoutMs: number): Promise<'FINISHED' | 'ABSENT' | 'TIMEOUT'> {
    const { promise, resolve, reject } = promiseWithResolvers<'FINISHED' | 'ABSENT' | 'TIMEOUT'>()
    const look = (): void => {
      this.#produce('watch', [id]).then((word) => {
        if (word === 'FINISHED') resolve('FINISHED')
        else if (word !== 'WATCHED') resolve('ABSENT')
      }, reject)
    }
    const timer = setTimeout(() => resolve('TIMEOUT'), timeoutMs)
    // Not awaited: with the server away a subscription takes as long as the outage, and the time limit holds all the same.
    const listening = this.#finished.listen(id, look).then((stop) => {
      look()
      return stop
    })
    listening.catch(reject)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      listening.then(
        (stop) => stop(),
        () => undefined,
      )
    }
  }

  // DeliveryStorage

  async take(request: TakeRequest): Promise<Taken> {
    this.#needGroups()
    if (!this.#scriptedReads) return await this.#readAndBegin(request)
    try {
      return await this.#noted(request, await this.#deliver(this.#takeCall(request)))
    } catch (error) {
      if (!refusesScriptedReads(error)) throw error
      this.#scriptedReads = false
      return await this.#readAndBegin(request)
    }
  }

  async takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Promise<Taken> {
    this.#needGroups()
    const streams = this.#streams(request.queueNames)
    let entries: ReadEntry[]
    try {
      entries = await this.#blocking.read(this.#group, request.consumer, streams, request.blockMs, signal)
    } catch (error) {
      // Woken to stop: what the read still brought waits in this consumer's own list.
      if (signal.aborted) return { begun: [], passed: 0 }
      if (!isNoGroup(error)) throw storageError(error, 'wait for entries', this.#factory.address)
      await this.#ensureQueues(request.queueNames)
      return { begun: [], passed: 1 }
    }
    const kept = signal.aborted ? 0 : request.count
    await this.#handBack(entries.slice(kept))
    return await this.#begin(request, entries.slice(0, kept), false)
  }

  async recover(request: RecoverRequest): Promise<Taken> {
    this.#needGroups()
    const found: ReadEntry[] = []
    for (const stream of this.#streams(request.queueNames)) {
      let from = '0'
      for (;;) {
        const page = await this.#readEntries(request.consumer, stream, from, OWN_PAGE)
        found.push(...page.filter((entry) => !request.inHand.has(entry.id)))
        if (page.length < OWN_PAGE) break
        from = page[page.length - 1]?.entryId ?? from
      }
    }
    const begun: Delivery[] = []
    let passed = 0
    const kept = found.slice(0, request.count)
    for (let index = 0; index < kept.length; index += 100) {
      const taken = await this.#begin(request, kept.slice(index, index + 100), true)
      begun.push(...taken.begun)
      passed += taken.passed
    }
    const rest = found.slice(request.count)
    for (let index = 0; index < rest.length; index += 100) {
      // Begun again under a token of this call, so that they can be handed back whatever state they are in.
      const taken = await this.#begin(request, rest.slice(index, index + 100), true)
      if (taken.begun.length > 0)
        await this.requeue(
          taken.begun.map(({ lease }) => lease),
          'none',
        )
    }
    return { begun, passed }
  }

  async runById(claim: Claim, id: string, allowRetry: boolean): Promise<Delivery | TaskStatus | 'ABSENT' | 'BROKEN'> {
    const row = (await this.#deliver({
      name: 'run-by-id',
      args: [...claimArgs(claim), id, allowRetry ? '1' : ''],
    })) as Row
    if (row[0] === 'BEGUN') {
      this.#noteIndexError(row[BEGUN_COLUMNS.length])
      return deliveryOf(row)
    }
    return (row[0] === 'STATE' ? row[1] : row[0]) as TaskStatus | 'ABSENT' | 'BROKEN'
  }

  async settle(items: readonly Settlement[]): Promise<readonly SettleWord[]> {
    return this.#words(items.length, await this.#deliver(settleCall(items))) as SettleWord[]
  }

  async settleAndTake(
    items: readonly Settlement[],
    request: TakeRequest,
  ): Promise<{ words: readonly SettleWord[]; taken: Taken }> {
    const apart = async (): Promise<{ words: readonly SettleWord[]; taken: Taken }> => ({
      words: await this.settle(items),
      taken: await this.take(request),
    })
    if (!this.#scriptedReads) return await apart()
    const calls = [settleCall(items), this.#takeCall(request)]
    let replies: readonly unknown[]
    try {
      replies = await this.#worker.send('settle and take', async (client) => {
        const answers = await this.#scripts.runTogether(client, calls)
        const failed = answers.find((answer) => answer.status === 'rejected')
        if (failed) throw failed.reason as Error
        return answers.map((answer) => (answer as PromiseFulfilledResult<unknown>).value)
      })
    } catch (error) {
      // Sent again, the settle answers what it answered.
      if (!refusesScriptedReads(error)) throw error
      this.#scriptedReads = false
      return await apart()
    }
    const [settled, taken] = replies
    const words = this.#words(items.length, settled) as SettleWord[]
    return { words, taken: await this.#noted(request, taken) }
  }

  async requeue(
    leases: readonly Lease[],
    delay: 'none' | 'growing',
  ): Promise<readonly ('REQUEUED' | 'LOST' | 'BROKEN')[]> {
    const args = [delay === 'growing' ? '1' : '']
    for (const { id, token, entryId } of leases) args.push(id, token, entryId)
    const words = this.#words(leases.length, await this.#deliver({ name: 'requeue', args }))
    return words as ('REQUEUED' | 'LOST' | 'BROKEN')[]
  }

  async renew(
    consumer: string,
    leaseMs: number,
    leases: readonly Lease[],
  ): Promise<readonly ('RENEWED' | 'LOST' | 'BROKEN')[]> {
    const args = [consumer, String(leaseMs)]
    for (const { id, token } of leases) args.push(id, token)
    const words = this.#words(leases.length, await this.#deliver({ name: 'renew', args }))
    return words as ('RENEWED' | 'LOST' | 'BROKEN')[]
  }

  async reclaim(request: ReclaimRequest): Promise<ReclaimAnswer> {
    this.#needGroups()
    const [next, ...rows] = (await this.#deliver({
      name: 'reclaim',
      args: [
        ...claimArgs(request),
        ...[request.count, request.crashLimit, request.idleMs].map(String),
        request.crashError,
        this.#keys.stream(request.stream.queueName, request.stream.band),
        request.cursor === '' ? '-' : request.cursor,
      ],
    })) as [string, ...Row[]]
    const read = readRows(rows)
    await this.#note(read, [request.stream.queueName])
    return { begun: read.begun, passed: read.passed, crashed: read.crashed, next: next === '-' ? '' : next }
  }

  async promote(queueName: string): Promise<Promoted> {
    const answer = (await this.#deliver({ name: 'promote', args: [queueName] })) as [number, string, string?]
    const [moved, dueIn, indexError] = answer
    this.#noteIndexError(indexError)
    return { moved, dueInMs: dueIn === '' ? null : Number(dueIn) }
  }

  async depth(queueNames: readonly string[]): Promise<readonly QueueDepth[]> {
    const replies = await this.#pipeline('measure queues', (pipeline) => {
      for (const queueName of queueNames) {
        for (const band of BANDS) pipeline.xlen(this.#keys.stream(queueName, band))
        pipeline.zcard(this.#keys.delayed(queueName))
      }
    })
    const number = (index: number): number => {
      const reply = replies[index]
      if (!(reply instanceof Error)) return Number(reply)
      if (reply.message.includes('WRONGTYPE')) return 0
      throw storageError(reply, 'measure queues', this.#factory.address)
    }
    return queueNames.map((queueName, index) => ({
      queueName,
      high: number(index * 4),
      normal: number(index * 4 + 1),
      low: number(index * 4 + 2),
      delayed: number(index * 4 + 3),
    }))
  }

  async longestWait(queueNames: readonly string[]): Promise<readonly (number | null)[]> {
    return await this.#producer.send('find its oldest waiting records', (client) =>
      longestWaits(client, this.#keys, this.#group, queueNames),
    )
  }

  // WorkerStorage

  async heartbeat({ consumer, fields }: Heartbeat): Promise<void> {
    await this.#deliver({ name: 'heartbeat', args: [consumer, ...Object.entries(fields).flat()] })
  }

  async workers(): Promise<readonly SeenWorker[]> {
    const [rows, now] = await this.#producer.send('list its workers', (client) =>
      Promise.all([client.zrange(this.#keys.workers, '0', '-1', 'WITHSCORES'), client.time()]),
    )
    const nowMs = Number((now as string[])[0]) * 1000 + Number((now as string[])[1]) / 1000
    const consumers = rows.filter((_, index) => index % 2 === 0)
    const hashes = await this.#pipeline('read its workers', (pipeline) => {
      for (const consumer of consumers) pipeline.hgetall(this.#keys.worker(consumer))
    })
    return consumers.map((consumer, index) => ({
      consumer,
      ageMs: Math.max(0, Math.round(nowMs - Number(rows[index * 2 + 1]))),
      fields: fieldsOf(hashes[index]),
    }))
  }

  async forget(consumer: string): Promise<'FORGOTTEN' | 'KEPT'> {
    return (await this.#deliver({ name: 'forget-worker', args: [consumer, ''] })) as 'FORGOTTEN' | 'KEPT'
  }

  async sweep(maxIdleMs: number): Promise<number> {
    this.#needGroups()
    const { queueNames } = await this.catalog()
    const workers = await this.workers()
    const alive = new Set(workers.filter(({ ageMs }) => ageMs < maxIdleMs).map(({ consumer }) => consumer))
    const candidates = new Set(workers.map(({ consumer }) => consumer).filter((consumer) => !alive.has(consumer)))
    const replies = await this.#pipeline('list consumers', (pipeline) => {
      for (const stream of this.#streams(queueNames)) pipeline.xinfo('CONSUMERS', stream, this.#group)
    })
    for (const reply of replies) {
      // A stream without its group has no consumers to sweep.
      if (reply instanceof Error) continue
      for (const row of reply as unknown[]) {
        const consumer = fieldsOf(row)
        const name = consumer['name'] ?? ''
        if (Number(consumer['pending']) === 0 && Number(consumer['idle']) >= maxIdleMs && !alive.has(name)) {
          candidates.add(name)
        }
      }
    }
    let forgotten = 0
    for (const consumer of candidates) {
      const word = await this.#deliver({ name: 'forget-worker', args: [consumer, String(maxIdleMs)] })
      if (word === 'FORGOTTEN') forgotten += 1
    }
    return forgotten
  }

  async stats(minutes: number): Promise<readonly MinuteOfStats[]> {
    return await this.#producer.send('read its counts', (client) => readStats(client, this.#keys, minutes))
  }

  // What the verbs share

  #produce(name: ScriptName, args: readonly string[]): Promise<unknown> {
    return this.#producer.send(`run ${name}`, (client) => this.#scripts.run(client, { name, args }))
  }

  #deliver(call: ScriptCall): Promise<unknown> {
    return this.#worker.send(`run ${call.name}`, (client) => this.#scripts.run(client, call))
  }

  async #pipeline(action: string, fill: (pipeline: RedisPipeline) => void): Promise<readonly unknown[]> {
    return await this.#producer.send(action, async (client) => {
      const pipeline = client.pipeline()
      fill(pipeline)
      const replies = await pipeline.exec()
      if (!replies) throw new Error('the connection was closed before it answered')
      return replies.map(([error, value]) => error ?? value)
    })
  }

  #needGroups(): void {
    if (this.#group !== '') return
    throw new StorageClientError(
      'one with consumer groups',
      'ioredis-mock, which has none',
      "to run workers without a server use the memory backend: { backend: 'memory' }",
    )
  }

  /** High of every queue, then normal, then low. */
  #streams(queueNames: readonly string[]): string[] {
    return BANDS.flatMap((band) => queueNames.map((queueName) => this.#keys.stream(queueName, band)))
  }

  #takeCall(request: TakeRequest): ScriptCall {
    return { name: 'take', args: [...claimArgs(request), String(request.count), ...this.#streams(request.queueNames)] }
  }

  /** The words of an answer, one for each item; behind them may stand an index error. */
  #words(count: number, reply: unknown): readonly string[] {
    const words = reply as string[]
    this.#noteIndexError(words[count])
    return words.slice(0, count)
  }

  async #noted(request: TakeRequest, reply: unknown): Promise<Taken> {
    const read = readRows(reply as Row[])
    await this.#note(read, request.queueNames)
    return { begun: read.begun, passed: read.passed }
  }

  async #note(read: RowsRead, queueNames: readonly string[]): Promise<void> {
    this.#noteIndexError(read.indexError)
    for (const id of read.brokenIds) {
      this.#logger.error({ code: 'ERR_TASKS_RECORD_DAMAGED', id }, 'a stored record cannot be read; it is left alone')
    }
    if (read.noGroup) await this.#ensureQueues(queueNames)
  }

  #noteIndexError(text: string | undefined): void {
    if (text === undefined) return
    const facts = { code: 'ERR_TASKS_INDEX', reason: text, root: this.#keys.root }
    this.#logger.error(facts, 'an index key could not be written; the records are whole, the index needs mending')
  }

  async #ensureQueues(queueNames: readonly string[]): Promise<void> {
    const [, indexError] = (await this.#deliver({ name: 'ensure-queue', args: queueNames })) as [string, string?]
    this.#noteIndexError(indexError)
  }

  async #readEntries(consumer: string, stream: string, from: string, count: number): Promise<ReadEntry[]> {
    return await this.#worker.send('read entries', async (client) => {
      const read = client.xreadgroup?.bind(client)
      if (!read) throw new TypeError('expected a client with consumer groups')
      try {
        return entriesOf(await read('GROUP', this.#group, consumer, 'COUNT', String(count), 'STREAMS', stream, from))
      } catch (error) {
        if (isNoGroup(error)) return []
        // One broken stream must not hide what waits in the others.
        if (!isWrongType(error)) throw error
        this.#noteIndexError(`${error.message} ${stream}`)
        return []
      }
    })
  }

  async #begin(claim: Claim, entries: readonly ReadEntry[], own: boolean): Promise<Taken> {
    if (entries.length === 0) return { begun: [], passed: 0 }
    const args = [...claimArgs(claim), own ? '1' : '']
    for (const { stream, entryId, id } of entries) args.push(stream, entryId, id)
    const read = readRows((await this.#deliver({ name: 'begin', args })) as Row[])
    await this.#note(read, [])
    return { begun: read.begun, passed: read.passed }
  }

  /** Delivered, but not begun. */
  async #handBack(entries: readonly ReadEntry[]): Promise<void> {
    if (entries.length === 0) return
    await this.requeue(
      entries.map(({ id, entryId }) => ({ id, entryId, token: '' })),
      'none',
    )
  }

  /** Before Redis 6.0: one stream after the other from here, then one begin. */
  async #readAndBegin(request: TakeRequest): Promise<Taken> {
    const entries: ReadEntry[] = []
    let noGroup = false
    for (const stream of this.#streams(request.queueNames)) {
      const left = request.count - entries.length
      if (left === 0) break
      try {
        entries.push(
          ...(await this.#worker.send('read entries', async (client) =>
            entriesOf(
              await client.xreadgroup?.(
                ...['GROUP', this.#group, request.consumer, 'COUNT', String(left), 'STREAMS', stream, '>'],
              ),
            ),
          )),
        )
      } catch (error) {
        if (isWrongType(error)) this.#noteIndexError(`${error.message} ${stream}`)
        else if (isNoGroup(error)) noGroup = true
        else throw error
      }
    }
    if (noGroup) await this.#ensureQueues(request.queueNames)
    return await this.#begin(request, entries, false)
  }
}

function claimArgs({ consumer, call, leaseMs, workerId }: Claim): string[] {
  return [consumer, call, String(leaseMs), workerId]
}

function settleCall(items: readonly Settlement[]): ScriptCall {
  const args: string[] = []
  for (const { lease, outcome, payload, delayMs } of items) {
    args.push(lease.id, lease.token, outcome, payload, String(delayMs))
  }
  return { name: 'settle', args }
}

function isNoGroup(error: unknown): boolean {
  return error instanceof Error && error.message.includes('NOGROUP')
}

function isWrongType(error: unknown): error is Error {
  return error instanceof Error && error.message.includes('WRONGTYPE')
}

function refusesScriptedReads(error: unknown): boolean {
  return error instanceof Error && error.message.includes('not allowed from script')
}

/** A hash or an info row, flat or already an object, as text by name. */
function fieldsOf(reply: unknown): Record<string, string> {
  const fields = Object.create(null) as Record<string, string>
  if (reply instanceof Error || typeof reply !== 'object' || reply === null) return fields
  if (Array.isArray(reply)) {
    for (let index = 0; index < reply.length; index += 2) fields[String(reply[index])] = String(reply[index + 1])
    return fields
  }
  for (const [name, value] of Object.entries(reply)) fields[name] = String(value)
  return fields
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
