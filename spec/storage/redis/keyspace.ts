/**
 * Everything that stands under one root, read in one step, and the invariants that must hold there after every script.
 * The numbers are those of docs: I3 one cell, I4 READY, I5 RUNNING, I6 finished, I7 entries, I8 pending rows, I9 index rows,
 * I10 numbers of a record, I11 lifetimes. Reads only; a spec that wants no violation says so itself.
 */
import type { Redis } from 'ioredis'
import { bandOf } from '../../../lib/storage/storage.ts'

/** One pending row: an entry that was delivered and not acknowledged. */
export interface PendingRow {
  readonly entryId: string
  readonly consumer: string
}

export interface StreamState {
  /** Entry id -> record id. */
  readonly entries: Readonly<Record<string, string>>
  /** In the order of the entries; undefined without the group. */
  readonly pending: readonly PendingRow[] | undefined
}

type Hash = Readonly<Record<string, string>>
/** Member -> score. */
type Scores = Readonly<Record<string, string>>

/** The keys under a root, without the root, by type. */
export interface Keyspace {
  readonly hashes: Readonly<Record<string, Hash>>
  readonly sortedSets: Readonly<Record<string, Scores>>
  readonly streams: Readonly<Record<string, StreamState>>
  readonly sets: Readonly<Record<string, readonly string[]>>
  readonly strings: Readonly<Record<string, string>>
  /** Milliseconds, of the keys that have a lifetime. */
  readonly lifetimes: Readonly<Record<string, number>>
}

const READ_ALL = `
  local rows = {}
  for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
    local kind = redis.call('TYPE', key).ok
    local row = { string.sub(key, #ARGV[1] + 1), kind, redis.call('PTTL', key) }
    if kind == 'hash' then row[4] = redis.call('HGETALL', key)
    elseif kind == 'zset' then row[4] = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif kind == 'set' then row[4] = redis.call('SMEMBERS', key)
    elseif kind == 'string' then row[4] = { redis.call('GET', key) }
    elseif kind == 'stream' then
      row[4] = redis.call('XRANGE', key, '-', '+')
      local pending = redis.pcall('XPENDING', key, ARGV[2], '-', '+', 100000)
      if not pending.err then row[5] = pending end
    end
    rows[#rows + 1] = row
  end
  return rows`

type Row = [key: string, kind: string, ttl: number, content: unknown[], pending?: [string, string, number, number][]]

function pairs(flat: readonly unknown[]): Record<string, string> {
  const found: Record<string, string> = {}
  for (let index = 0; index < flat.length; index += 2) found[String(flat[index])] = String(flat[index + 1])
  return found
}

/** Reads every key under `root`. Only for servers of specs: it walks all keys. */
export async function readKeyspace(redis: Redis, root: string, group: string): Promise<Keyspace> {
  const rows = (await redis.eval(READ_ALL, 0, root, group)) as Row[]
  const space = {
    hashes: {} as Record<string, Hash>,
    sortedSets: {} as Record<string, Scores>,
    streams: {} as Record<string, StreamState>,
    sets: {} as Record<string, string[]>,
    strings: {} as Record<string, string>,
    lifetimes: {} as Record<string, number>,
  }
  for (const [key, kind, ttl, content, pending] of rows.sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (ttl >= 0) space.lifetimes[key] = ttl
    if (kind === 'hash') space.hashes[key] = pairs(content)
    else if (kind === 'zset') space.sortedSets[key] = pairs(content)
    else if (kind === 'set') space.sets[key] = (content as string[]).sort()
    else if (kind === 'string') space.strings[key] = String(content[0])
    else if (kind === 'stream') {
      const entries: Record<string, string> = {}
      for (const [entryId, fields] of content as [string, string[]][]) entries[entryId] = fields[1] ?? ''
      space.streams[key] = { entries, pending: pending?.map(([entryId, consumer]) => ({ entryId, consumer })) }
    }
  }
  return space
}

const RECORD = 'task:'

/** The stored records, by id. */
export function recordsOf(space: Keyspace): Map<string, Hash> {
  const found = new Map<string, Hash>()
  for (const [key, hash] of Object.entries(space.hashes)) {
    if (key.startsWith(RECORD)) found.set(key.slice(RECORD.length), hash)
  }
  return found
}

interface Place {
  readonly key: string
  readonly value: string
}

/** Where each id stands in the keys of one kind: in which key, with which score or entry id. */
function placesIn(
  keys: Readonly<Record<string, Readonly<Record<string, string>>>>,
  kind: string,
): Map<string, Place[]> {
  const found = new Map<string, Place[]>()
  for (const [key, members] of Object.entries(keys)) {
    if (!key.startsWith(kind)) continue
    for (const [id, value] of Object.entries(members)) {
      const places = found.get(id)
      if (places) places.push({ key, value })
      else found.set(id, [{ key, value }])
    }
  }
  return found
}

function entriesById(streams: Keyspace['streams']): Map<string, Place[]> {
  const found = new Map<string, Place[]>()
  for (const [key, { entries }] of Object.entries(streams)) {
    for (const [entryId, id] of Object.entries(entries)) {
      found.set(id, [...(found.get(id) ?? []), { key, value: entryId }])
    }
  }
  return found
}

export interface ViolationOptions {
  /** The `leases` key was removed from outside: its rows may be missing, never wrong. */
  readonly leasesLost?: boolean
}

/** What is wrong, one line each, led by the number of its invariant; empty when all is well. */
export function violations(space: Keyspace, { leasesLost = false }: ViolationOptions = {}): string[] {
  const found: string[] = []
  const wrong = (invariant: string, id: string, ...facts: unknown[]): void => {
    found.push([invariant, id, ...facts.map((fact) => JSON.stringify(fact))].join(' '))
  }
  const records = recordsOf(space)
  const cells = placesIn(space.sortedSets, 'cell:')
  const delayed = placesIn(space.sortedSets, 'delayed:')
  const leases = placesIn(space.sortedSets, 'leases')
  const entries = entriesById(space.streams)

  for (const [id, record] of records) {
    const read = (field: string): string => record[field] ?? ''
    const inCells = cells.get(id) ?? []
    const inStreams = entries.get(id) ?? []
    const inDelayed = delayed.get(id) ?? []
    const lease = leases.get(id)?.[0]?.value
    const status = read('status')

    const cell = `cell:${read('queueName')}:${read('name')}:${status}`
    if (inCells.length !== 1 || inCells[0]?.key !== cell || inCells[0].value !== read('enqueuedAt')) {
      wrong('I3', id, cell, inCells)
    }
    if (status === 'READY') {
      if (read('leaseToken') !== '' || lease !== undefined) wrong('I4 lease', id, read('leaseToken'), lease)
      if (inStreams.length + inDelayed.length !== 1) wrong('I4 place', id, inStreams, inDelayed)
      if (inDelayed[0] && (inDelayed[0].value !== read('runAfter') || read('entryId') !== '')) {
        wrong('I4 delayed', id, inDelayed, read('runAfter'), read('entryId'))
      }
    } else if (status === 'RUNNING') {
      if (read('leaseToken') === '' || read('fence') === '') wrong('I5 token', id, record)
      if (lease !== read('leaseUntil') && !(leasesLost && lease === undefined)) {
        wrong('I5 lease', id, lease, read('leaseUntil'))
      }
      if (inStreams.length !== 1 || inDelayed.length > 0) wrong('I5 place', id, inStreams, inDelayed)
    } else {
      if (inStreams.length > 0 || inDelayed.length > 0 || lease !== undefined) {
        wrong('I6 place', id, inStreams, inDelayed, lease)
      }
      if (read('finishedAt') === '') wrong('I6 fields', id, record)
    }
    for (const { key, value } of inStreams) {
      const stream = `stream:${read('queueName')}:${bandOf(Number(read('priority')))}`
      if (value !== read('entryId') || key !== stream) wrong('I7', id, key, value, stream, read('entryId'))
    }
    checkNumbers(id, record, wrong)
    if (space.lifetimes[RECORD + id] !== undefined) wrong('I11', id, space.lifetimes[RECORD + id])
  }
  for (const id of cells.keys()) if (!records.has(id)) wrong('I3 orphan', id, cells.get(id))
  for (const id of entries.keys()) if (!records.has(id)) wrong('I7 orphan', id, entries.get(id))
  for (const id of delayed.keys()) if (!records.has(id)) wrong('I9 delayed', id)
  for (const id of leases.keys()) if (!records.has(id)) wrong('I9 lease', id)
  for (const [key, { entries: known, pending = [] }] of Object.entries(space.streams)) {
    for (const { entryId } of pending) if (!(entryId in known)) wrong('I8', key, entryId)
  }
  checkKeys(space, records, wrong)
  return found
}

type Wrong = (invariant: string, id: string, ...facts: unknown[]) => void

function checkNumbers(id: string, record: Hash, wrong: Wrong): void {
  const read = (field: string): string => record[field] ?? ''
  // A first attempt does not write its number, but a fence.
  const attempts = Number(read('attempts') || read('fence') !== '')
  const workers = read('workerIds').split(' ').filter(Boolean).length
  if (attempts !== workers || attempts < Number(read('crashes'))) {
    wrong('I10 attempts', id, attempts, read('workerIds'), read('crashes'))
  }
  if (read('fence') !== '' && !Number.isSafeInteger(Number(read('fence')))) wrong('I10 fence', id, read('fence'))
  const times = ['enqueuedAt', 'startedAt', 'lastAttemptedAt', 'finishedAt'].map(read).filter(Boolean).map(Number)
  if (times.some((time, index) => index > 0 && time < (times[index - 1] ?? 0))) wrong('I10 times', id, times)
  if (read('returnValue') !== '' && read('status') !== 'SUCCESSFUL') wrong('I10 returnValue', id, record)
  if (read('status') === 'FAILED' && read('errors') === '') wrong('I10 errors', id, record)
}

function checkKeys(space: Keyspace, records: ReadonlyMap<string, Hash>, wrong: Wrong): void {
  for (const key of Object.keys(space.lifetimes)) if (!key.startsWith('stats:')) wrong('I11', key)
  for (const key of Object.keys(space.hashes)) {
    if (key.startsWith('stats:') && space.lifetimes[key] === undefined) wrong('I11', key)
  }
  for (const [id, { queueName = '', name = '' }] of records) {
    if (!space.sets['queues']?.includes(queueName)) wrong('I12 queues', id, queueName)
    if (!space.sets['cells']?.includes(`${queueName}:${name}`)) wrong('I12 cells', id, queueName, name)
  }
}

/** One line a fact: `<key> <field, member or entry>` and its value. */
function facts(space: Keyspace): Map<string, string> {
  const found = new Map<string, string>()
  for (const kind of [space.hashes, space.sortedSets]) {
    for (const [key, members] of Object.entries(kind)) {
      for (const [name, value] of Object.entries(members)) found.set(`${key} ${name}`, value)
    }
  }
  for (const [key, { entries, pending }] of Object.entries(space.streams)) {
    found.set(key, pending ? 'stream with group' : 'stream')
    for (const [entryId, id] of Object.entries(entries)) found.set(`${key} entry ${entryId}`, id)
    for (const { entryId, consumer } of pending ?? []) found.set(`${key} pending ${entryId}`, consumer)
  }
  for (const [key, members] of Object.entries(space.sets))
    for (const member of members) found.set(`${key} ${member}`, 'in')
  for (const [key, value] of Object.entries(space.strings)) found.set(key, value)
  return found
}

/** What changed, fact by fact, as `before -> after`; a side that is missing is left out. */
export function difference(before: Keyspace, after: Keyspace): Record<string, string> {
  const [old, now] = [facts(before), facts(after)]
  const changed: Record<string, string> = {}
  for (const name of new Set([...old.keys(), ...now.keys()])) {
    if (old.get(name) !== now.get(name)) changed[name] = `${old.get(name) ?? ''} -> ${now.get(name) ?? ''}`.trim()
  }
  return changed
}
