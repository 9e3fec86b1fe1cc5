/**
 * The keyspace after a fault: what the doctor's inspection finds in it, I1 to I15, and what must be empty at rest: no entry, no
 * pending row, nothing delayed, no lease.
 */
import type { Redis } from 'ioredis'
import { StorageUnavailableError } from '../../../lib/index.ts'
import { RedisInspection } from '../../../lib/storage/redis/redis-inspection.ts'
import { RedisLink } from '../../../lib/storage/redis/redis-link.ts'
import { isTaskStatus } from '../../../lib/task-status.ts'
import type { TaskStatus } from '../../../lib/task-status.ts'
import { readKeyspace, recordsOf } from '../../storage/redis/keyspace.ts'

const GROUP = 'express_tasks_workers'

export interface KeyspaceFacts {
  /** One line each, led by its invariant; empty when all is well. */
  readonly violations: readonly string[]
  /** What is left of entries, pending rows, delayed rows and leases, one line each. */
  readonly leftovers: readonly string[]
  readonly statuses: ReadonlyMap<string, TaskStatus>
  /** Outcomes that the counts by minute hold. */
  readonly counted: number
}

/** Of one shard, by the doctor's own inspection; it writes nothing. */
async function violationsOf(redis: Redis, root: string): Promise<string[]> {
  const [, keyPrefix = '', alias = '', shard] = /^\{([^:]+):([^:]+)(?::(\d+))?\}:$/.exec(root) ?? []
  const link = new RedisLink(
    { server: { client: redis }, keyPrefix, alias, consumerGroup: GROUP },
    shard === undefined ? undefined : { index: Number(shard), beside: undefined },
  )
  try {
    const found: string[] = []
    const findings = new RedisInspection(link).inspect({
      ...{ repair: false, retentionMs: 0, claimIntervalMs: 60_000, intervalMs: 1_000, consumers: new Set<string>() },
      // How late things are is what the verdict times itself (V8, V9).
      isAttended: () => false,
    })
    for await (const { invariant, id, key, found: what, expected } of findings) {
      found.push(`${invariant} ${id} ${key}: ${what}; expected ${expected}`)
    }
    return found
  } finally {
    link.close()
  }
}

/** Tried again where a call took too long: on a machine that is busy one of thousands may. */
async function violationsAtLast(redis: Redis, root: string): Promise<string[]> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await violationsOf(redis, root)
    } catch (error) {
      if (!(error instanceof StorageUnavailableError) || tries === 5) throw error
    }
  }
}

export async function invariantsOf(redis: Redis, root: string): Promise<KeyspaceFacts> {
  const space = await readKeyspace(redis, root, GROUP)
  const leftovers: string[] = []
  for (const [key, { entries, pending = [] }] of Object.entries(space.streams)) {
    const entryCount = Object.keys(entries).length
    if (entryCount + pending.length > 0) leftovers.push(`${key}: ${entryCount} entries, ${pending.length} pending`)
  }
  for (const [key, members] of Object.entries(space.sortedSets)) {
    const count = Object.keys(members).length
    if (count > 0 && (key === 'leases' || key.startsWith('delayed:'))) leftovers.push(`${key}: ${count}`)
  }
  let counted = 0
  for (const [key, fields] of Object.entries(space.hashes)) {
    if (!key.startsWith('stats:')) continue
    for (const [field, value] of Object.entries(fields)) {
      if (/:(SUCCESSFUL|FAILED):/.test(field)) counted += Number(value)
    }
  }
  const statuses = new Map<string, TaskStatus>()
  for (const [id, { status }] of recordsOf(space)) if (isTaskStatus(status)) statuses.set(id, status)
  return { violations: await violationsAtLast(redis, root), leftovers, statuses, counted }
}

/** Of several shards. */
export function allOf(all: readonly KeyspaceFacts[]): KeyspaceFacts {
  return {
    violations: all.flatMap(({ violations: found }) => found),
    leftovers: all.flatMap(({ leftovers }) => leftovers),
    statuses: new Map(all.flatMap(({ statuses }) => [...statuses])),
    counted: all.reduce((sum, { counted }) => sum + counted, 0),
  }
}
