/**
 * The inspection of memory storage: the same judgement over its keyspace, a stretch at a time. What it keeps cannot be half
 * written, so it finds only what is wrong in our own code; a repair mends the same things as on Redis.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { Finding, Inspection, InspectionRequest, InspectionTotals } from '../inspection.ts'
import { judgeCellRow, judgeDelayedRow, judgeEntry, judgeLeaseRow, judgePayloads, judgeRecord } from '../judgement.ts'
import type { IndexRow } from '../judgement.ts'
import { BANDS, bandOf } from '../storage.ts'
import { TASK_STATUSES } from '../../task-status.ts'
import type { Keyspace } from './keyspace.ts'
import type { MemoryRecord } from './memory-record.ts'
import { mendRecord } from './memory-repairs.ts'
import type { SortedSet } from './sorted-set.ts'

/** Looked at between two turns of the event loop. */
const STRETCH = 500

export class MemoryInspection implements Inspection {
  readonly #keyspace: Keyspace
  readonly #now: () => number

  constructor(keyspace: Keyspace, now: () => number) {
    this.#keyspace = keyspace
    this.#now = now
  }

  async *inspect(request: InspectionRequest): AsyncGenerator<Finding, InspectionTotals, undefined> {
    const { records, queues, leases } = this.#keyspace
    let looked = 0
    let complete = true
    for (const step of this.#steps(request)) {
      if (request.signal?.aborted) {
        complete = false
        break
      }
      for (const { finding, mend } of step()) {
        if (!request.repair || !finding.repairable) yield finding
        else {
          mend()
          yield { ...finding, repaired: true }
        }
      }
      looked += 1
      if (looked % STRETCH !== 0) continue
      request.onProgress?.({ done: Math.min(looked, records.size), total: records.size })
      await turn()
    }
    let entries = 0
    let delayed = 0
    for (const queue of queues.values()) {
      for (const band of BANDS) entries += queue.streams[band].length
      delayed += queue.delayed.size
    }
    request.onProgress?.({ done: records.size, total: records.size })
    return { records: records.size, keys: 0, entries, delayed, leases: leases.size, complete }
  }

  /** One judgement each, made when it is called: what changes between two is seen as it is then. */
  *#steps(request: InspectionRequest): Generator<() => Wrong[]> {
    const { records, queues, leases } = this.#keyspace
    for (const id of [...records.keys()]) yield () => this.#judgeRecord(id, request)
    for (const [queueName, queue] of queues) {
      for (const [name, cells] of queue.cells) {
        for (const status of TASK_STATUSES) {
          const key = `cell ${queueName} ${name} ${status}`
          yield* this.#rows(
            cells[status],
            key,
            (row) => judgeCellRow(row, { queueName, name, status }),
            () => null,
          )
        }
      }
      yield* this.#rows(
        queue.delayed,
        `delayed ${queueName}`,
        (row) => judgeDelayedRow(row, queueName, request),
        (record) => record.runAfter ?? this.#now(),
      )
      for (const band of BANDS) {
        const stream = queue.streams[band]
        for (const { entryId, id } of stream.all()) {
          yield () => {
            const record = records.get(id)
            const isNamedBack = record?.entryId === entryId && this.#keyspace.streamOf(record) === stream
            const key = `stream ${queueName} ${band}`
            const findings = judgeEntry({
              ...{ entryId, id, named: record ?? 'ABSENT', isNamedBack, key },
              isPending: stream.isPending(entryId),
            })
            return findings.map((finding) => ({ finding, mend: () => void stream.remove(entryId) }))
          }
        }
      }
    }
    yield* this.#rows(
      leases,
      'leases',
      (row) => judgeLeaseRow(row, request),
      (record) => record.leaseUntil,
    )
  }

  /** `rightScore`: of the record that belongs in this set; null where its row is simply one too many. */
  *#rows(
    set: SortedSet,
    key: string,
    judge: (row: IndexRow) => Finding[],
    rightScore: (record: MemoryRecord) => number | null,
  ): Generator<() => Wrong[]> {
    for (const { member } of set.range({ limit: Infinity })) {
      yield () => {
        const score = set.score(member)
        if (score === undefined) return []
        const record = this.#keyspace.records.get(member)
        const row = { id: member, score, named: record ?? 'ABSENT', key, now: this.#now() } as const
        const mend = (): void => {
          const right = record ? rightScore(record) : null
          if (right === null || judge({ ...row, score: right }).length > 0) set.remove(member)
          else set.add(member, right)
        }
        return judge(row).map((finding) => ({ finding, mend }))
      }
    }
  }

  #judgeRecord(id: string, request: InspectionRequest): Wrong[] {
    const record = this.#keyspace.records.get(id)
    if (!record) return []
    const now = this.#now()
    const { queueName, name, status, priority } = record
    const queue = this.#keyspace.queues.get(queueName)
    const cells = queue?.cells.get(name)
    const stream = queue?.streams[bandOf(priority)]
    const entry = stream?.entryOf(record.entryId)?.id === id ? stream.isPending(record.entryId) : undefined
    const key = `record ${id}`
    const findings = judgeRecord(
      {
        ...{ record, now, ttlMs: null, isStreamUsable: true },
        cellScore: cells?.[status].score(id) ?? null,
        delayedScore: queue?.delayed.score(id) ?? null,
        leaseScore: this.#keyspace.leases.score(id) ?? null,
        isQueueKnown: queue !== undefined,
        isTaskKnown: cells !== undefined,
        entry: entry === undefined ? 'NONE' : entry ? 'PENDING' : 'UNDELIVERED',
        keys: {
          ...{ record: key, leases: 'leases', queues: 'queues', cells: 'cells', delayed: `delayed ${queueName}` },
          cell: `cell ${queueName} ${name} ${status}`,
          stream: `stream ${queueName} ${bandOf(priority)}`,
        },
      },
      request,
    )
    const errors = record.errors.join('\n')
    const { attempts, args, returnValue } = record
    findings.push(...judgePayloads({ id, key, status, attempts, args, returnValue: returnValue ?? '', errors }))
    return findings.map((finding) => ({ finding, mend: () => mendRecord(this.#keyspace, record, now) }))
  }
}

interface Wrong {
  readonly finding: Finding
  readonly mend: () => void
}
