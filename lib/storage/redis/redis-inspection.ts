/**
 * The inspection of one shard on Redis or Valkey: names of keys, records, indexes backwards, consumers, and at last whether the
 * sizes agree. Reads by scripts that write nothing, each of which sees a record and what belongs to it at one moment.
 */
import { StorageClientError } from '../../errors.ts'
import type { Finding, Inspection, InspectionRequest, InspectionTotals } from '../inspection.ts'
import { inspectConsumers } from './inspect-consumers.ts'
import { inspectIndexes } from './inspect-indexes.ts'
import { inspectKeys } from './inspect-keys.ts'
import { inspectRecords } from './inspect-records.ts'
import { InspectionWalk } from './inspection-walk.ts'
import type { RedisLink } from './redis-link.ts'

/** How often records are counted again, while nothing else changes, before their number is called wrong. */
const RECOUNTS = 3

interface Sizes {
  /** Rows of all cells. */
  readonly records: number
  /** Of these, READY and RUNNING. */
  readonly unfinished: number
  readonly running: number
  readonly entries: number
  readonly delayed: number
  readonly leases: number
}

export class RedisInspection implements Inspection {
  readonly #link: RedisLink

  constructor(link: RedisLink) {
    this.#link = link
  }

  async *inspect(request: InspectionRequest): AsyncGenerator<Finding, InspectionTotals, undefined> {
    if (this.#link.group === '') {
      throw new StorageClientError(
        'one with consumer groups',
        'ioredis-mock, which has none',
        'examine a server, or a memory backend',
      )
    }
    const walk = new InspectionWalk(this.#link, request)
    const before = await sizesOf(walk)
    walk.expect(before.records * 2 + before.entries + before.delayed + before.leases)
    for await (const found of inspectKeys(walk)) {
      if ('invariant' in found) yield found
      else yield* inspectRecords(walk, found)
    }
    if (!walk.isStopped) yield* inspectIndexes(walk)
    if (!walk.isStopped) yield* inspectConsumers(walk)
    const after = await sizesOf(walk)
    if (!walk.isStopped) yield* this.#compare(walk, before, after)
    const { records, keys, isStopped } = walk
    return { records, keys, ...pick(after), complete: !isStopped }
  }

  /** Sizes of indexes are read at one moment; records can only be counted, which says something while nothing changes. */
  async *#compare(walk: InspectionWalk, before: Sizes, after: Sizes): AsyncGenerator<Finding, void> {
    const { keys } = this.#link
    const finding = { invariant: 'I15', id: '', repairable: false } as const
    const { unfinished, running, entries, delayed, leases } = after
    if (entries + delayed !== unfinished) {
      const found = `${entries} entries and ${delayed} delayed`
      yield { ...finding, key: keys.queues, found, expected: `${unfinished} in all: READY and RUNNING` }
    }
    if (leases !== running) {
      yield { ...finding, key: keys.leases, found: `${leases} rows`, expected: `${running}: RUNNING` }
    }
    if (walk.records === after.records || !same(before, after)) return
    for (let count = 0; count < RECOUNTS; count += 1) {
      const records = await countRecords(walk)
      if (records === after.records || walk.isStopped || !same(before, await sizesOf(walk))) return
    }
    yield { ...finding, key: keys.cells, found: `${after.records} rows in cells`, expected: `${walk.records}: records` }
  }
}

/** A SCAN tells a name twice when its table shrinks meanwhile, so one count is no proof. */
async function countRecords(walk: InspectionWalk): Promise<number> {
  const again = new InspectionWalk(walk.link, { ...walk.request, repair: false, onProgress: undefined })
  let records = 0
  for await (const found of inspectKeys(again)) if (!('invariant' in found)) records += found.length
  return records
}

async function sizesOf(walk: InspectionWalk): Promise<Sizes> {
  const answer = (await walk.run('inspect-totals', [])) as number[]
  const [ready = 0, running = 0, successful = 0, failed = 0, entries = 0, delayed = 0, leases = 0] = answer
  return {
    records: ready + running + successful + failed,
    unfinished: ready + running,
    running,
    entries,
    delayed,
    leases,
  }
}

function pick({ entries, delayed, leases }: Sizes): Pick<Sizes, 'entries' | 'delayed' | 'leases'> {
  return { entries, delayed, leases }
}

function same(one: Sizes, other: Sizes): boolean {
  return Object.entries(one).every(([name, size]) => size === other[name as keyof Sizes])
}
