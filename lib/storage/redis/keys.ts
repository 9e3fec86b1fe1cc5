/**
 * Every key on Redis, spelled once: for TypeScript as methods, for Lua as functions that go into the head of a script.
 * All keys of one backend, or of one shard of it, share the root `{prefix:alias}:`, whose braces put them into one slot of a
 * cluster.
 * Names of queues and tasks hold no colon (see NAME_PATTERN), so no two keys can be built from different parts.
 */
import { bandOf } from '../storage.ts'
import type { Band, Cell } from '../storage.ts'

/** One kind of key: what follows the root, and what it holds. `<part>` stands for a part of the name. */
export interface KeyKind {
  readonly pattern: string
  readonly type: 'hash' | 'stream' | 'sorted set' | 'set' | 'channel'
  readonly members: string
  readonly score: string
  readonly lifetime: string
}

export const KEY_KINDS = {
  record: {
    pattern: 'task:<id>',
    type: 'hash',
    members: 'the fields of a record',
    score: '',
    lifetime: 'until deleted; finished ones until their retention ends',
  },
  stream: {
    pattern: 'stream:<queueName>:<band>',
    type: 'stream',
    members: 'entries, one field: id',
    score: '',
    lifetime: 'kept; entries go when their record settles',
  },
  delayed: {
    pattern: 'delayed:<queueName>',
    type: 'sorted set',
    members: 'record id',
    score: 'runAfter, ms',
    lifetime: 'rows go at promotion',
  },
  cell: {
    pattern: 'cell:<queueName>:<name>:<status>',
    type: 'sorted set',
    members: 'record id',
    score: 'enqueuedAt, ms',
    lifetime: 'with its records',
  },
  cells: {
    pattern: 'cells',
    type: 'set',
    members: '<queueName>:<name>',
    score: '',
    lifetime: 'kept',
  },
  queues: { pattern: 'queues', type: 'set', members: 'queueName', score: '', lifetime: 'kept' },
  leases: {
    pattern: 'leases',
    type: 'sorted set',
    members: 'record id',
    score: 'lease deadline, ms',
    lifetime: 'rows go when the attempt ends',
  },
  workers: {
    pattern: 'workers',
    type: 'sorted set',
    members: 'consumer',
    score: 'last heartbeat, ms',
    lifetime: 'rows go when the worker is forgotten',
  },
  worker: {
    pattern: 'worker:<consumer>',
    type: 'hash',
    members: 'the fields of a heartbeat',
    score: '',
    lifetime: 'until the worker is forgotten',
  },
  stats: {
    pattern: 'stats:<minute>',
    type: 'hash',
    members: '<queueName>:<outcome>:<bucket> and <queueName>:wait:<bucket>, each a count',
    score: '',
    lifetime: '25 hours',
  },
  finished: {
    pattern: 'finished',
    type: 'channel',
    members: 'ids of records that somebody waits for, joined by a space',
    score: '',
    lifetime: '',
  },
  cancelled: {
    pattern: 'cancelled',
    type: 'channel',
    members: 'id and token of attempts that a person cancelled, joined by spaces',
    score: '',
    lifetime: '',
  },
} as const satisfies Record<string, KeyKind>

type KindName = keyof typeof KEY_KINDS

/** `{prefix:alias}:`, the start of every key of one backend; `{prefix:alias:shard}:` where it is spread over shards. */
export function rootOf(keyPrefix: string, alias: string, shard?: number): string {
  return shard === undefined ? `{${keyPrefix}:${alias}}:` : `{${keyPrefix}:${alias}:${shard}}:`
}

function fill(kind: KindName, parts: readonly string[]): string {
  let next = 0
  return KEY_KINDS[kind].pattern.replace(/<\w+>/g, () => parts[next++] ?? '')
}

/** The keys of one backend. */
export class Keys {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  get leases(): string {
    return this.root + fill('leases', [])
  }

  get queues(): string {
    return this.root + fill('queues', [])
  }

  get cells(): string {
    return this.root + fill('cells', [])
  }

  get workers(): string {
    return this.root + fill('workers', [])
  }

  get finished(): string {
    return this.root + fill('finished', [])
  }

  get cancelled(): string {
    return this.root + fill('cancelled', [])
  }

  /** A key that nobody ever writes: see `guard` in scripts.ts. */
  get never(): string {
    return `${this.root}never`
  }

  record(id: string): string {
    return this.root + fill('record', [id])
  }

  stream(queueName: string, band: Band): string {
    return this.root + fill('stream', [queueName, band])
  }

  delayed(queueName: string): string {
    return this.root + fill('delayed', [queueName])
  }

  cell(cell: Cell): string {
    return this.root + fill('cell', [cell.queueName, cell.name, cell.status])
  }

  worker(consumer: string): string {
    return this.root + fill('worker', [consumer])
  }

  /** `minute`: minutes since the epoch. */
  stats(minute: number): string {
    return this.root + fill('stats', [String(minute)])
  }
}

/** `'task:' .. id` out of `task:<id>`: the same pattern, spoken in Lua. */
function luaExpression(kind: KindName): string {
  return KEY_KINDS[kind].pattern
    .split(/<(\w+)>/)
    .map((piece, index) => (index % 2 === 1 ? piece : piece && `'${piece}'`))
    .filter(Boolean)
    .join(' .. ')
}

function luaFunction(name: string, kind: KindName): string {
  const parts = [...KEY_KINDS[kind].pattern.matchAll(/<(\w+)>/g)].map((match) => match[1])
  return `local function ${name}(${parts.join(', ')}) return ARGV[1] .. ${luaExpression(kind)} end`
}

/**
 * The key functions of the scripts, by name. A script gets those that it names, put before its first line;
 * `streamKey` takes a priority, as scripts know a record's priority and not its band.
 */
export const LUA_KEYS: Readonly<Record<string, string>> = {
  leases: 'local leases = KEYS[1]',
  cellsKey: `local cellsKey = ARGV[1] .. ${luaExpression('cells')}`,
  queuesKey: `local queuesKey = ARGV[1] .. ${luaExpression('queues')}`,
  workersKey: `local workersKey = ARGV[1] .. ${luaExpression('workers')}`,
  finishedChannel: `local finishedChannel = ARGV[1] .. ${luaExpression('finished')}`,
  cancelledChannel: `local cancelledChannel = ARGV[1] .. ${luaExpression('cancelled')}`,
  recordKey: luaFunction('recordKey', 'record'),
  cellKey: luaFunction('cellKey', 'cell'),
  delayedKey: luaFunction('delayedKey', 'delayed'),
  statsKey: luaFunction('statsKey', 'stats'),
  workerKey: luaFunction('workerKey', 'worker'),
  bandStreamKey: luaFunction('bandStreamKey', 'stream'),
  streamKey: [
    'local function streamKey(queueName, priority)',
    '  priority = tonumber(priority) or 0',
    `  local band = priority > 0 and '${bandOf(1)}' or priority < 0 and '${bandOf(-1)}' or '${bandOf(0)}'`,
    `  return ARGV[1] .. ${luaExpression('stream')}`,
    'end',
  ].join('\n'),
}
