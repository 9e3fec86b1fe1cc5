/** The delivery verbs of RedisStorage: from an entry to its settled record, and back when a worker died. */
import { batchesOf } from '../../batches.ts'
import { BANDS, CALL_LIMITS } from '../storage.ts'
import type {
  BlockingTakeRequest,
  Claim,
  Delivery,
  DeliveryStorage,
  HandBackDelay,
  Lease,
  Promoted,
  QueueDepth,
  ReclaimAnswer,
  ReclaimRequest,
  RecoverRequest,
  RenewOptions,
  RenewWord,
  RequeueWord,
  RunWord,
  SettledAndTaken,
  SettledRecord,
  Settlement,
  SettleWord,
  Taken,
  TakeRequest,
} from '../storage.ts'
import { entriesOf } from './blocking-reader.ts'
import type { ReadEntry } from './blocking-reader.ts'
import { BEGUN_COLUMNS, deliveryOf, readRows } from './delivery-rows.ts'
import type { Row, RowsRead } from './delivery-rows.ts'
import { isNoGroup, isWrongType, refusesScriptedReads, storageError } from './driver-errors.ts'
import { longestWaits } from './queue-figures.ts'
import type { RedisLink } from './redis-link.ts'
import type { ScriptCall } from './scripts.ts'
import { settleAnswerOf, settleArgs, SETTLED_FIELDS, settledRecordOf } from './settlements.ts'

/** Entries of the own list that one call looks at. */
const OWN_PAGE = 100

export class RedisDeliveries implements DeliveryStorage {
  readonly #link: RedisLink
  /** False takes the path of servers before 6.0, which cannot read a stream inside a script. */
  #scriptedReads: boolean

  constructor(link: RedisLink) {
    this.#link = link
    this.#scriptedReads = link.scriptedReads
  }

  async take(request: TakeRequest): Promise<Taken> {
    this.#link.needGroups()
    if (!this.#scriptedReads) return await this.#readAndBegin(request)
    try {
      return await this.#noted(request, await this.#link.deliver(this.#takeCall(request)))
    } catch (error) {
      if (!refusesScriptedReads(error)) throw error
      this.#scriptedReads = false
      return await this.#readAndBegin(request)
    }
  }

  async takeBlocking(request: BlockingTakeRequest, signal: AbortSignal): Promise<Taken> {
    this.#link.needGroups()
    const streams = this.#link.streams(request.queueNames)
    let entries: ReadEntry[]
    try {
      entries = await this.#link.blocking.read(this.#link.group, request.consumer, streams, request.blockMs, signal)
    } catch (error) {
      // Woken to stop: what the read still brought waits in this consumer's own list.
      if (signal.aborted) return { begun: [], passed: 0 }
      if (!isNoGroup(error)) throw storageError(error, 'wait for entries', this.#link.factory.addressInWords)
      await this.#ensureQueues(request.queueNames)
      return { begun: [], passed: 1 }
    }
    const kept = signal.aborted ? 0 : request.count
    await this.#handBack(entries.slice(kept))
    return await this.#begin(request, entries.slice(0, kept), 'delivered')
  }

  async recover(request: RecoverRequest): Promise<Taken> {
    this.#link.needGroups()
    const found: ReadEntry[] = []
    for (const stream of this.#link.streams(request.queueNames)) {
      let from = '0'
      for (;;) {
        const page = await this.#readEntries(request.consumer, stream, from, OWN_PAGE)
        if (page === 'NOGROUP') break
        found.push(...page.filter((entry) => !request.inHand.has(entry.id)))
        if (page.length < OWN_PAGE) break
        from = page[page.length - 1]?.entryId ?? from
      }
    }
    const begun: Delivery[] = []
    let passed = 0
    const kept = found.slice(0, request.count)
    for (const batch of batchesOf(kept, CALL_LIMITS.moves)) {
      const taken = await this.#begin(request, batch, 'own')
      begun.push(...taken.begun)
      passed += taken.passed
    }
    const rest = found.slice(request.count)
    for (const batch of batchesOf(rest, CALL_LIMITS.moves)) {
      // Begun again under a token of this call, so that they can be handed back whatever state they are in.
      const leases = (await this.#begin(request, batch, 'own')).begun.map(({ lease }) => lease)
      if (leases.length > 0) await this.requeue(leases, 'none')
    }
    return { begun, passed }
  }

  async runById(claim: Claim, id: string, allowRetry: boolean): Promise<Delivery | RunWord> {
    const row = (await this.#link.deliver({
      name: 'run-by-id',
      args: [...claimArgs(claim), id, allowRetry ? '1' : ''],
    })) as Row
    if (row[0] === 'BEGUN') {
      this.#link.noteIndexError(row[BEGUN_COLUMNS.length])
      return deliveryOf(row)
    }
    return (row[0] === 'STATE' ? row[1] : row[0]) as RunWord
  }

  async settle(items: readonly Settlement[]): Promise<readonly SettleWord[]> {
    const args = settleArgs(items, await this.#settledRecords(items))
    return this.#settleWords(items.length, await this.#link.deliver({ name: 'settle', args }))
  }

  async settleAndTake(items: readonly Settlement[], request: TakeRequest): Promise<SettledAndTaken> {
    const apart = async (): Promise<SettledAndTaken> => ({
      words: await this.settle(items),
      taken: await this.take(request),
    })
    if (!this.#scriptedReads) return await apart()
    const settling = settleArgs(items, await this.#settledRecords(items))
    const args = [...claimArgs(request), String(request.count), String(settling.length), ...settling]
    args.push(...this.#link.streams(request.queueNames))
    let reply: unknown
    try {
      reply = await this.#link.deliver({ name: 'settle-and-take', args })
    } catch (error) {
      // Sent again, the settle answers what it answered.
      if (!refusesScriptedReads(error)) throw error
      this.#scriptedReads = false
      return await apart()
    }
    const [size, ...answers] = reply as [number, ...unknown[]]
    const words = this.#settleWords(items.length, answers.slice(0, size))
    return { words, taken: await this.#noted(request, answers.slice(size)) }
  }

  async requeue(leases: readonly Lease[], delay: HandBackDelay): Promise<readonly RequeueWord[]> {
    const args = [delay === 'none' ? '' : delay === 'growing' ? '1' : `${delay.failAfterMs} ${delay.error}`]
    for (const { id, token, entryId } of leases) args.push(id, token, entryId)
    const words = this.#link.words(leases.length, await this.#link.deliver({ name: 'requeue', args }))
    return words as RequeueWord[]
  }

  async renew(
    consumer: string,
    leaseMs: number,
    leases: readonly Lease[],
    options?: RenewOptions,
  ): Promise<readonly RenewWord[]> {
    const args = [consumer, String(leaseMs), options?.starts ? '1' : '']
    for (const { id, token } of leases) args.push(id, token)
    const words = this.#link.words(leases.length, await this.#link.deliver({ name: 'renew', args }))
    return words as RenewWord[]
  }

  async reclaim(request: ReclaimRequest): Promise<ReclaimAnswer> {
    this.#link.needGroups()
    const [next, ...rows] = (await this.#link.deliver({
      name: 'reclaim',
      args: [
        ...claimArgs(request),
        ...[request.count, request.crashLimit, request.idleMs].map(String),
        request.crashError,
        this.#link.keys.stream(request.stream.queueName, request.stream.band),
        request.cursor === '' ? '-' : request.cursor,
      ],
    })) as [string, ...Row[]]
    const read = readRows(rows, request.workerId)
    await this.#note(read, [request.stream.queueName])
    return { begun: read.begun, passed: read.passed, crashed: read.crashed, next: next === '-' ? '' : next }
  }

  async promote(queueName: string): Promise<Promoted> {
    const answer = (await this.#link.deliver({ name: 'promote', args: [queueName] })) as [number, string, string?]
    const [moved, dueIn, indexError] = answer
    this.#link.noteIndexError(indexError)
    return { moved, dueInMs: dueIn === '' ? null : Number(dueIn) }
  }

  async depth(queueNames: readonly string[]): Promise<readonly QueueDepth[]> {
    const replies = await this.#link.pipeline('measure queues', (pipeline) => {
      for (const queueName of queueNames) {
        for (const band of BANDS) pipeline.xlen(this.#link.keys.stream(queueName, band))
        pipeline.zcard(this.#link.keys.delayed(queueName))
      }
    })
    const number = (index: number): number => Number(replies[index] ?? 0)
    return queueNames.map((queueName, index) => ({
      queueName,
      high: number(index * 4),
      normal: number(index * 4 + 1),
      low: number(index * 4 + 2),
      delayed: number(index * 4 + 3),
    }))
  }

  async longestWait(queueNames: readonly string[]): Promise<readonly (number | null)[]> {
    return await this.#link.producer.send('find its oldest waiting records', (client) =>
      longestWaits(client, this.#link.keys, this.#link.group, queueNames),
    )
  }

  /** Read where the caller did not say it; empty for what is no record, of which the script writes nothing. */
  async #settledRecords(items: readonly Settlement[]): Promise<readonly SettledRecord[]> {
    const unknown = items.filter(({ record }) => !record)
    const found = new Map<string, SettledRecord>()
    if (unknown.length > 0) {
      const replies = await this.#link.pipeline('read records', (pipeline) => {
        for (const { lease } of unknown) pipeline.hmget(this.#link.keys.record(lease.id), ...SETTLED_FIELDS)
      })
      // Of a key of another type the script answers BROKEN.
      unknown.forEach(({ lease }, index) => found.set(lease.id, settledRecordOf(replies[index])))
    }
    return items.map(({ record, lease }) => record ?? found.get(lease.id) ?? settledRecordOf(undefined))
  }

  #settleWords(count: number, reply: unknown): readonly SettleWord[] {
    const { words, indexError } = settleAnswerOf(reply, count)
    this.#link.noteIndexError(indexError)
    return words
  }

  #takeCall(request: TakeRequest): ScriptCall {
    return {
      name: 'take',
      args: [...claimArgs(request), String(request.count), ...this.#link.streams(request.queueNames)],
    }
  }

  async #noted(request: TakeRequest, reply: unknown): Promise<Taken> {
    const read = readRows(reply as Row[], request.workerId)
    await this.#note(read, request.queueNames)
    return { begun: read.begun, passed: read.passed }
  }

  async #note(read: RowsRead, queueNames: readonly string[]): Promise<void> {
    this.#link.noteIndexError(read.indexError)
    for (const id of read.brokenIds) {
      this.#link.logger.error(
        { code: 'ERR_TASKS_RECORD_DAMAGED', id },
        'a stored record cannot be read; it is left alone',
      )
    }
    if (read.noGroup) await this.#ensureQueues(queueNames)
  }

  async #ensureQueues(queueNames: readonly string[]): Promise<void> {
    const [, indexError] = (await this.#link.deliver({ name: 'ensure-queue', args: queueNames })) as [string, string?]
    this.#link.noteIndexError(indexError)
  }

  /** Of one stream; NOGROUP where it lacks the group. */
  async #readEntries(
    consumer: string,
    stream: string,
    from: string,
    count: number,
  ): Promise<readonly ReadEntry[] | 'NOGROUP'> {
    return await this.#link.worker.send('read entries', async (client) => {
      const args = ['GROUP', this.#link.group, consumer, 'COUNT', String(count), 'STREAMS', stream, from]
      try {
        return entriesOf(await client.xreadgroup(...args))
      } catch (error) {
        if (isNoGroup(error)) return 'NOGROUP'
        // One broken stream must not hide what waits in the others.
        if (!isWrongType(error)) throw error
        this.#link.noteIndexError(`${error.message} ${stream}`)
        return []
      }
    })
  }

  async #begin(claim: Claim, entries: readonly ReadEntry[], mode: 'delivered' | 'own'): Promise<Taken> {
    if (entries.length === 0) return { begun: [], passed: 0 }
    const args = [...claimArgs(claim), mode === 'own' ? '1' : '']
    for (const { stream, entryId, id } of entries) args.push(stream, entryId, id)
    const read = readRows((await this.#link.deliver({ name: 'begin', args })) as Row[], claim.workerId)
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
    for (const stream of this.#link.streams(request.queueNames)) {
      const left = request.count - entries.length
      if (left === 0) break
      const read = await this.#readEntries(request.consumer, stream, '>', left)
      if (read === 'NOGROUP') noGroup = true
      else entries.push(...read)
    }
    if (noGroup) await this.#ensureQueues(request.queueNames)
    return await this.#begin(request, entries, 'delivered')
  }
}

function claimArgs({ consumer, call, leaseMs, workerId }: Claim): string[] {
  return [consumer, call, String(leaseMs), workerId]
}
