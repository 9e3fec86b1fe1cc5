/**
 * The keyspace after a fault: the invariants of every record (storage/redis/keyspace.ts has them, I3 to I12), and what must be
 * empty at rest: no entry, no pending row, nothing delayed, no lease.
 */
import type { Redis } from 'ioredis'
import { isTaskStatus } from '../../../lib/task-status.ts'
import type { TaskStatus } from '../../../lib/task-status.ts'
import { readKeyspace, recordsOf, violations } from '../../storage/redis/keyspace.ts'

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
  return { violations: violations(space), leftovers, statuses, counted }
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
