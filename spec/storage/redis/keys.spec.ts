/** The keys: no two of different parts are equal, one hash tag holds them all, and Lua builds what TypeScript builds. */
import { expect } from 'chai'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { bandOf, BANDS } from '../../../lib/storage/storage.ts'
import type { Band } from '../../../lib/storage/storage.ts'
import { TASK_STATUSES } from '../../../lib/task-status.ts'
import { KEY_KINDS, Keys, LUA_KEYS, rootOf } from '../../../lib/storage/redis/keys.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'

/** What names of queues, tasks and backends may be made of, short so that they collide if they can. */
const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,3}$/)
/** Ids are the client's; workers' names too. */
const id = fc.stringMatching(/^[A-Za-z0-9_.-]{1,4}$/)

interface Built {
  /** The parts, kind first: different parts must give different keys. */
  readonly parts: readonly string[]
  readonly key: (keys: Keys) => string
}

const kinds: readonly fc.Arbitrary<Built>[] = [
  id.map((part) => ({ parts: ['record', part], key: (keys) => keys.record(part) })),
  fc
    .tuple(name, fc.constantFrom(...BANDS))
    .map(([queueName, band]) => ({ parts: ['stream', queueName, band], key: (keys) => keys.stream(queueName, band) })),
  name.map((queueName) => ({ parts: ['delayed', queueName], key: (keys) => keys.delayed(queueName) })),
  fc.tuple(name, name, fc.constantFrom(...TASK_STATUSES)).map(([queueName, task, status]) => ({
    parts: ['cell', queueName, task, status],
    key: (keys) => keys.cell({ queueName, name: task, status }),
  })),
  id.map((consumer) => ({ parts: ['worker', consumer], key: (keys) => keys.worker(consumer) })),
  fc.nat({ max: 20 }).map((minute) => ({ parts: ['stats', String(minute)], key: (keys) => keys.stats(minute) })),
  ...(['leases', 'queues', 'cells', 'workers', 'finished', 'cancelled'] as const).map((kind) =>
    fc.constant({ parts: [kind], key: (keys: Keys) => keys[kind] }),
  ),
]

const built = fc.oneof(...kinds)
const root = fc.tuple(name, name)

describe('the keys', () => {
  it('of different parts are different', () => {
    fc.assert(
      fc.property(built, built, (one, other) => {
        const keys = new Keys(rootOf('express_tasks', 'default'))
        const same = JSON.stringify(one.parts) === JSON.stringify(other.parts)
        expect(one.key(keys) === other.key(keys)).to.equal(same)
      }),
      { numRuns: 5_000 },
    )
  })

  it('of different backends are different', () => {
    fc.assert(
      fc.property(root, root, built, built, (one, other, first, second) => {
        fc.pre(JSON.stringify(one) !== JSON.stringify(other))
        expect(first.key(new Keys(rootOf(...one)))).not.to.equal(second.key(new Keys(rootOf(...other))))
      }),
      { numRuns: 2_000 },
    )
  })

  it('of one backend carry one hash tag, so that they share a slot', () => {
    fc.assert(
      fc.property(root, built, (parts, { key }) => {
        const tag = /^[^{]*\{([^}]+)\}/.exec(key(new Keys(rootOf(...parts))))?.[1]
        expect(tag).to.equal(parts.join(':'))
      }),
    )
  })

  it('are those of the table: every kind, and each with its type, members and lifetime', () => {
    const made = fc.sample(built, 500).map(({ parts }) => parts[0])
    expect(Object.keys(KEY_KINDS)).to.have.members([...new Set(made)])
    for (const [kind, { pattern, members }] of Object.entries(KEY_KINDS)) {
      expect(pattern, kind).to.match(/^[a-z]+(:<[a-zA-Z]+>)*$/)
      expect(members, kind).not.to.equal('')
    }
  })

  it('are built in Lua as in TypeScript', async () => {
    const keys = new Keys(rootOf('express_tasks', 'default'))
    const calls: [lua: string, expected: string][] = [
      ['leases', keys.leases],
      ['cellsKey', keys.cells],
      ['queuesKey', keys.queues],
      ['workersKey', keys.workers],
      ['finishedChannel', keys.finished],
      ['cancelledChannel', keys.cancelled],
      ["recordKey('a-1')", keys.record('a-1')],
      ["cellKey('mail', 'send', 'READY')", keys.cell({ queueName: 'mail', name: 'send', status: 'READY' })],
      ["delayedKey('mail')", keys.delayed('mail')],
      ["statsKey('29000000')", keys.stats(29_000_000)],
      ["workerKey('w.h')", keys.worker('w.h')],
      ...BANDS.map((band): [string, string] => [`bandStreamKey('mail', '${band}')`, keys.stream('mail', band)]),
      ...[-100, -1, 0, 1, 100].map((priority): [string, string] => [
        `streamKey('mail', '${priority}')`,
        keys.stream('mail', bandOf(priority)),
      ]),
      // A priority that is missing or odd counts as 0
      ...["''", 'false', "'x'", "'nan'"].map((odd): [string, string] => [
        `streamKey('mail', ${odd})`,
        keys.stream('mail', 'normal' satisfies Band),
      ]),
    ]
    const head = Object.values(LUA_KEYS).join('\n')
    const redis = new Redis((await sharedRedisServer()).url)
    try {
      const text = `${head}\nreturn { ${calls.map(([lua]) => lua).join(', ')} }`
      expect(await redis.eval(text, 1, keys.leases, keys.root)).to.deep.equal(calls.map(([, expected]) => expected))
    } finally {
      redis.disconnect()
    }
    expect(calls.map(([lua]) => /^\w+/.exec(lua)?.[0])).to.include.members(Object.keys(LUA_KEYS))
  })
})
