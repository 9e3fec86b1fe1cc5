/**
 * The moves of a record: the table in task-status.ts, the first lines of the scripts, the drawing in docs/states.md, and what
 * the scripts do to a record in each state must say the same.
 */
import { expect } from 'chai'
import { readFileSync } from 'node:fs'
import { SCRIPT_NAMES } from '../lib/storage/redis/scripts.ts'
import type { ScriptName } from '../lib/storage/redis/scripts.ts'
import { MOVES, TASK_STATUSES } from '../lib/task-status.ts'
import {
  aClaim,
  beginOne,
  enqueue,
  ERROR,
  failOne,
  GROUP,
  LEASE_MS,
  onBench,
  openBench,
  recordOf,
  settle,
  START_MS,
  take,
} from './storage/redis/scripts/support.ts'
import type { ScriptBench } from './storage/redis/scripts/support.ts'

/** `FROM -> TO` of one script; nothing before it was stored. */
const TABLE = new Map(
  Object.entries(MOVES).map(([script, moves]) => [
    script,
    moves.map(([from, to]) => `${from || '(nothing)'} -> ${to}`),
  ]),
)

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8')

/** What stands before KEYS at the top of a script. */
function summaryOf(script: ScriptName): string {
  const text = read(`../lib/storage/redis/scripts/${script}.lua`)
  return text.slice(0, text.indexOf('-- KEYS')).replace(/^-- /gm, '').replace(/\n/g, ' ')
}

/** `READY -> RUNNING`, also one state to several: `RUNNING -> SUCCESSFUL, FAILED`. */
function movesIn(text: string): string[] {
  const status = TASK_STATUSES.join('|')
  const pattern = new RegExp(`(\\(nothing\\)|${status}) -> ((?:${status})(?:, (?:${status}))*)`, 'g')
  return [...text.matchAll(pattern)].flatMap(([, from = '', to = '']) =>
    to.split(', ').map((one) => `${from} -> ${one}`),
  )
}

describe('the moves of a record', () => {
  for (const script of SCRIPT_NAMES) {
    const moves = TABLE.get(script) ?? []
    it(`are said at the top of ${script}.lua as in the table: ${moves.join(', ') || 'none'}`, () => {
      expect(movesIn(summaryOf(script))).to.have.members(moves)
    })
  }

  it('are those of scripts that exist', () => {
    expect(SCRIPT_NAMES).to.include.members([...TABLE.keys()])
  })

  it('are drawn in docs/states.md as in the table', () => {
    const drawn = new Set<string>()
    const drawing = /```mermaid\n([^]*?)```/.exec(read('../docs/states.md'))?.[1] ?? ''
    for (const [, from = '', to = '', scripts = ''] of drawing.matchAll(/^ *(\S+) --> (\S+): *(.+)$/gm)) {
      for (const script of scripts.split(', ')) drawn.add(`${script}: ${from === '[*]' ? '(nothing)' : from} -> ${to}`)
    }
    const table = [...TABLE].flatMap(([script, moves]) => moves.map((move) => `${script}: ${move}`))
    expect([...drawn]).to.have.members(table)
  })
})

interface Situation {
  readonly name: string
  /** Makes record `a`, and answers what a caller would know of it. */
  readonly make: (bench: ScriptBench) => Promise<{ leaseToken: string }>
}

const NO_TOKEN = { leaseToken: '' }

const SITUATIONS: readonly Situation[] = [
  { name: 'nothing', make: () => Promise.resolve(NO_TOKEN) },
  { name: 'READY', make: async (bench) => (await enqueue(bench, { id: 'a' }), NO_TOKEN) },
  {
    name: 'READY, delayed',
    make: async (bench) => (await enqueue(bench, { id: 'a', runAfter: START_MS + 500 }), NO_TOKEN),
  },
  {
    name: 'READY, delayed and due',
    make: async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 500 })
      await bench.elapse(500)
      return NO_TOKEN
    },
  },
  {
    name: 'READY, delivered',
    make: async (bench) => {
      await enqueue(bench, { id: 'a' })
      await bench.redis.xreadgroup('GROUP', GROUP, 'first.holder', 'STREAMS', bench.stream(), '>')
      return NO_TOKEN
    },
  },
  { name: 'RUNNING', make: (bench) => beginOne(bench) },
  {
    name: 'RUNNING, its lease run out',
    make: async (bench) => {
      const begun = await beginOne(bench)
      await bench.elapse(LEASE_MS)
      return begun
    },
  },
  {
    name: 'SUCCESSFUL',
    make: async (bench) => {
      const begun = await beginOne(bench)
      await settle(bench, begun)
      return begun
    },
  },
  { name: 'FAILED', make: (bench) => failOne(bench) },
]

/** Calls of each script that go as far as they can with what the situation gives. */
const CALLS: Readonly<Record<ScriptName, readonly ((bench: ScriptBench, token: string) => Promise<unknown>)[]>> = {
  enqueue: [(bench) => enqueue(bench, { id: 'a' })],
  take: [(bench) => take(bench, 9)],
  begin: ['', '1'].map((own) => async (bench) => {
    const { entryId = '' } = await recordOf(bench)
    return await bench.run('begin', ...aClaim(), own, bench.stream(), entryId || '1-1', 'a')
  }),
  'run-by-id': [(bench) => bench.run('run-by-id', ...aClaim('web'), 'a', '1')],
  renew: [(bench, token) => bench.run('renew', 'first.holder', 5_000, '', 'a', token)],
  settle: (['SUCCESSFUL', 'FAILED', 'READY'] as const).map(
    (outcome) => (bench, token) => settle(bench, { id: 'a', leaseToken: token, outcome, payload: ERROR }),
  ),
  // Made of the same two functions as settle and take, which stand here by themselves.
  'settle-and-take': [],
  requeue: ['token', 'entry', 'token with a limit'].map((by) => async (bench, token) => {
    const { entryId = '' } = await recordOf(bench)
    const growing = by === 'token with a limit' ? `0 ${ERROR}` : ''
    return await bench.run('requeue', growing, 'a', by === 'entry' ? '' : token, entryId)
  }),
  reclaim: [0, 3].map(
    (crashLimit) => (bench) => bench.run('reclaim', ...aClaim('rescuer'), 9, crashLimit, 0, ERROR, bench.stream(), '-'),
  ),
  promote: [(bench) => bench.run('promote', 'mail')],
  retry: [(bench) => bench.run('retry', 'request-1', 'a')],
  cancel: [(bench) => bench.run('cancel', 'request-2', ERROR, 'a')],
  'delete-record': [(bench) => bench.run('delete-record', 'a')],
  'save-record': [(bench) => bench.run('save-record', 'a', 'priority', 5, 'runAfter', START_MS + 9_000)],
  purge: ['SUCCESSFUL', 'FAILED'].map(
    (status) => (bench) => bench.run('purge', 'mail', 'send', status, 0, 9, '', '-inf', 0),
  ),
  watch: [(bench) => bench.run('watch', 'a')],
  'ensure-queue': [(bench) => bench.run('ensure-queue', 'mail')],
  heartbeat: [(bench) => bench.run('heartbeat', 'first.holder', 'held', '0')],
  'forget-worker': [(bench) => bench.run('forget-worker', 'first.holder', '')],
  brief: [(bench) => bench.run('brief', 9, 1, 'status', 'a')],
  'inspect-keys': [(bench) => bench.run('inspect-keys', '0', 500, '*')],
  'inspect-records': [
    (bench) => bench.run('inspect-records', 5, 'status', 'queueName', 'name', 'priority', 'entryId', 'a'),
  ],
  'inspect-index': [(bench) => bench.run('inspect-index', bench.keys.leases, '0')],
  'inspect-entries': [(bench) => bench.run('inspect-entries', bench.stream(), '-')],
  'inspect-pending': [(bench) => bench.run('inspect-pending', bench.stream(), '-')],
  'inspect-consumers': [(bench) => bench.run('inspect-consumers', bench.stream())],
  'inspect-workers': [(bench) => bench.run('inspect-workers', 'first.holder')],
  'inspect-totals': [(bench) => bench.run('inspect-totals')],
  'repair-record': [(bench) => bench.run('repair-record', 'a', 0)],
  'repair-row': ['READY', 'RUNNING', 'SUCCESSFUL', 'FAILED'].flatMap((status) => [
    (bench) => bench.run('repair-row', 'a', 'cell', 'mail', 'send', status),
    (bench) => bench.run('repair-row', 'a', 'delayed', 'mail', '', ''),
    (bench) => bench.run('repair-row', 'a', 'lease', '', '', ''),
  ]),
  'repair-entry': [
    async (bench) => bench.run('repair-entry', bench.stream(), (await recordOf(bench))['entryId'] || '1-1'),
  ],
  'repair-group': [(bench) => bench.run('repair-group', bench.stream())],
  'repair-consumer': [(bench) => bench.run('repair-consumer', bench.stream(), 'first.holder', 0)],
  'repair-worker': [(bench) => bench.run('repair-worker', 'first.holder')],
  'repair-lifetime': [(bench) => bench.run('repair-lifetime', bench.stream(), '')],
}

/** What a move is to a record that keeps its state: another attempt, deadline or place. */
const MOVED_FIELDS = ['status', 'leaseToken', 'leaseUntil', 'entryId']

describe('the scripts, sent to a record in each state', () => {
  for (const script of SCRIPT_NAMES) {
    const table = TABLE.get(script) ?? []
    it(`make by ${script} the moves of the table and no others`, async () => {
      const seen = new Set<string>()
      for (const { make } of SITUATIONS) {
        for (const call of CALLS[script]) {
          const bench = await openBench()
          try {
            const { leaseToken } = await make(bench)
            const before = await recordOf(bench)
            await call(bench, leaseToken)
            const after = await recordOf(bench)
            if (MOVED_FIELDS.every((field) => (before[field] ?? '') === (after[field] ?? ''))) continue
            seen.add(`${before['status'] ?? '(nothing)'} -> ${after['status'] ?? '(nothing)'}`)
          } finally {
            bench.close()
          }
        }
      }
      // What removes records or gives them another place moves no attempt; the table holds the ways of an attempt.
      const beside: Readonly<Record<string, readonly string[]>> = {
        'delete-record': ['READY -> (nothing)', 'SUCCESSFUL -> (nothing)', 'FAILED -> (nothing)'],
        purge: ['SUCCESSFUL -> (nothing)', 'FAILED -> (nothing)'],
        'save-record': ['READY -> READY'],
      }
      expect([...seen]).to.have.members([...table, ...(beside[script] ?? [])])
    })
  }

  it(
    'leave a record alone that others run: a late or strange token moves nothing',
    onBench(async (bench) => {
      await beginOne(bench)
      const before = await recordOf(bench)
      for (const script of ['renew', 'settle', 'requeue'] as const) {
        for (const call of CALLS[script]) await call(bench, '1:stranger.1')
      }
      expect(await recordOf(bench)).to.deep.equal(before)
    }),
  )
})
