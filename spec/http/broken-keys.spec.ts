import { expect } from 'chai'
import type { Redis } from 'ioredis'
import { KEY_KINDS } from '../../lib/storage/redis/keys.ts'
import { MOUNT, startBadInputHost, STORES } from './support/bad-input-host.ts'
import type { BadInputHost } from './support/bad-input-host.ts'
import { defineTasks, forgetTasks } from './support/hosts.ts'

const ADMIN = `${MOUNT}/admin`
const HOSTILE = '<script>alert(1)</script>'
const DAMAGED = /ERR_TASKS_(RECORD|STORAGE)_DAMAGED/

interface Broken {
  readonly redis: Redis
  readonly root: string
  /** Of the record that is damaged; `ready` stays whole. */
  readonly id: string
  readonly key: string
}

interface Row {
  readonly name: string
  readonly breaks: (given: Broken) => Promise<unknown>
  /** The list names the damaged record; its own page and its status say so. */
  readonly isRecord?: boolean
  /** Pages that cannot be made: they say so, by a code. */
  readonly lost?: readonly string[]
}

const field = (name: string, value: string | Buffer): Row => ({
  name: `${name} is ${JSON.stringify(String(value).slice(0, 30))}`,
  breaks: ({ redis, key }) => redis.hset(key, name, value),
  isRecord: true,
})
/** Odd, but it can be shown. */
const oddField = (name: string, value: string | Buffer): Row => ({ ...field(name, value), isRecord: false })

const INDEX = ['/', '/tasks', '/tasks?text=a', '/workers']

const ROWS: readonly Row[] = [
  ...(['string', 'list'] as const).flatMap((type) =>
    Object.values(KEY_KINDS)
      .filter((kind) => kind.type !== 'channel')
      .map(({ pattern }): Row => ({
        name: `${pattern} is a ${type}`,
        breaks: async ({ redis, root, id }) => {
          const [minute = ''] = (await redis.keys(`${root}stats:*`)).map((key) => key.slice(root.length + 6))
          const key = `${root}${pattern
            .replace('<id>', id)
            .replace('<queueName>', 'default')
            .replace('<band>', 'normal')
            .replace('<name>', 'add')
            .replace('<status>', 'SUCCESSFUL')
            .replace('<consumer>', 'w.h')
            .replace('<minute>', minute)}`
          await redis.del(key)
          if (type === 'string') await redis.set(key, HOSTILE)
          else await redis.rpush(key, HOSTILE)
        },
        isRecord: pattern === 'task:<id>',
        ...((pattern === 'cells' || pattern === 'queues') && { lost: INDEX }),
        ...(pattern === 'workers' && { lost: ['/', '/workers', '/health'] }),
      })),
  ),
  ...[field('status', 'DONE'), field('status', ''), field('status', HOSTILE), field('priority', '101')],
  ...[field('priority', 'x'), field('enqueuedAt', ''), field('enqueuedAt', 'NaN'), field('enqueuedAt', '1e17')],
  ...[field('enqueuedAt', '-1'), field('finishedAt', 'x'), field('startedAt', '8640000000000001')],
  ...[field('attempts', '-1'), field('attempts', '1.5'), field('args', ''), field('name', ''), field('queueName', '')],
  ...[field('fence', '1e300'), field('runAfter', '0x')],
  ...[
    oddField('enqueuedAt', '0'),
    oddField('finishedAt', '8640000000000000'),
    oddField('attempts', '9007199254740991'),
  ],
  ...[oddField('workerIds', `${HOSTILE} \n ${'x '.repeat(5_000)}`), oddField('name', HOSTILE)],
  ...[oddField('queueName', HOSTILE), oddField('crashes', '9007199254740991'), oddField('unknown', HOSTILE)],
  oddField('id', HOSTILE),
  ...[oddField('name', Buffer.from('\xff\xfe', 'latin1')), oddField('workerIds', Buffer.from('\xff\xfe', 'latin1'))],
  ...[oddField('errors', '{'), oddField('errors', '[]\nnull\n1\n"x"'), oddField('errors', 'x\n'.repeat(5_000))],
  oddField('errors', `{"name":${JSON.stringify(HOSTILE)},"message":1,"stack":[],"attempt":"x","at":1e300}`),
  oddField('errors', '{"name":"__proto__","message":"","at":8640000000000001,"attempt":1e300}'),
  ...['{', 'x', '1', 'null', '"x"', HOSTILE, '[', `[${'"\\"'.repeat(50_000)}`, Buffer.from('["\xff"]', 'latin1')].map(
    (args) => oddField('args', args),
  ),
  ...['{', 'undefined', HOSTILE, '[[[['].map((value) => oddField('returnValue', value)),
  {
    name: 'the record is gone, and its rows are left',
    breaks: ({ redis, key }) => redis.del(key),
  },
  {
    name: 'the record stands in two cells',
    breaks: ({ redis, root, id }) => redis.zadd(`${root}cell:default:add:FAILED`, '1', id),
  },
  {
    name: 'a cell has members that are no ids, and scores that are no times',
    breaks: ({ redis, root }) =>
      redis.zadd(`${root}cell:default:add:READY`, '1', HOSTILE, 'inf', 'x', '-inf', 'a b', '1e17', '', '1.5', '../x'),
  },
  {
    name: 'the catalogue has members that are no names',
    breaks: async ({ redis, root }) => {
      await redis.sadd(`${root}cells`, HOSTILE, 'a', 'a:b:c', ':', '', '__proto__:__proto__', 'constructor:x', 'a\nb:c')
      await redis.sadd(`${root}queues`, HOSTILE, '', 'a:b', '__proto__', 'constructor', 'a\nb')
    },
  },
  {
    name: 'heartbeats of others',
    breaks: async ({ redis, root }) => {
      await redis.zadd(`${root}workers`, 'inf', HOSTILE, '-inf', '__proto__', '1e300', 'x', '0', '')
      const fields = [
        'pid',
        'startedAt',
        'concurrency',
        'running',
        'queues',
        'tasks',
        'memoryBytes',
        'state',
        'settled',
      ]
      await redis.hset(`${root}worker:${HOSTILE}`, ...fields.flatMap((name) => [name, HOSTILE]), '__proto__', HOSTILE)
      await redis.hset(`${root}worker:x`, ...fields.flatMap((name) => [name, '1e309']))
    },
  },
  {
    name: 'counts of others',
    breaks: async ({ redis, root }) => {
      const [key = ''] = await redis.keys(`${root}stats:*`)
      const fields = [
        HOSTILE,
        '',
        'a',
        'a:b',
        'default:wait:99999',
        'default:SUCCESSFUL:-1',
        '__proto__:FAILED:1',
        'q:DONE:1',
      ]
      await redis.hset(
        key,
        ...fields.flatMap((name) => [name, '1e309']),
        'default:FAILED:3',
        HOSTILE,
        'default:wait:2',
        '-5',
      )
    },
  },
  {
    name: 'entries that name nothing of ours',
    breaks: async ({ redis, root, id }) => {
      const stream = `${root}stream:default:normal`
      await redis.xadd(stream, '*', 'other', HOSTILE)
      await redis.xadd(stream, '*', 'id', HOSTILE)
      await redis.xadd(stream, '*', 'id', id)
      await redis.xadd(stream, '*', 'id', id)
    },
  },
  {
    name: 'the group is gone, and another is there',
    breaks: async ({ redis, root }) => {
      await redis.xgroup('DESTROY', `${root}stream:default:normal`, 'express_tasks_workers')
      await redis.xgroup('CREATE', `${root}stream:default:normal`, 'others', '0')
    },
  },
  {
    name: 'a running record without its lease row, and rows of nobody',
    breaks: async ({ redis, root }) => {
      await redis.del(`${root}leases`)
      await redis.zadd(`${root}leases`, '1', HOSTILE, '-inf', 'x')
      await redis.zadd(`${root}delayed:default`, '1', HOSTILE, 'inf', 'x')
    },
  },
]

describe('Broken keys', () => {
  let host: BadInputHost
  let redis: Redis
  let root: string

  before(async () => {
    defineTasks()
    const store = await STORES[0].open()
    redis = store.redis
    root = store.root
    host = await startBadInputHost(store)
  })
  after(async () => {
    await host.close()
    forgetTasks()
  })

  let ids: Readonly<Record<string, string>>
  let kept: Map<string, Buffer>

  /** Every key as it was, so that each row breaks one thing only. */
  before(async () => {
    ids = host.ids
    await host.store.backend.storage.heartbeat({ consumer: 'w.h', fields: { workerId: 'w', tasks: 'add' } })
    kept = new Map()
    for (const key of await redis.keys(`${root}*`)) kept.set(key, await redis.dumpBuffer(key))
  })
  beforeEach(async () => {
    const now = await redis.keys(`${root}*`)
    if (now.length > 0) await redis.del(...now)
    for (const [key, dump] of kept) await redis.restore(key, 0, dump)
  })

  for (const { name, breaks, isRecord = false, lost = [] } of ROWS) {
    it(`pages stay up and say what they cannot read: ${name}`, async () => {
      const id = ids['successful'] ?? ''
      await breaks({ redis, root, id, key: `${root}task:${id}` })
      const own = [`/tasks/${id}`, `/tasks/${id}/args`, `/tasks/${id}/result`]
      for (const path of [
        '/',
        '/tasks',
        '/tasks?text=a',
        '/tasks?queue=default&status=READY',
        '/workers',
        `/tasks/${ids['ready']}`,
        `/tasks/${ids['running']}`,
      ]) {
        const { status, text } = await host.client.send('GET', ADMIN + path)
        const isLost = lost.some((each) => path === each || (each === '/tasks' && path.startsWith('/tasks?')))
        expect([path, status, isLost ? DAMAGED.test(text) : true], /ERR_\w+/.exec(text)?.[0]).to.deep.equal([
          path,
          isLost ? 500 : 200,
          true,
        ])
        expect([path, text.includes(HOSTILE)]).to.deep.equal([path, false])
        if (path === '/tasks' && !isLost) {
          expect(text).to.include(ids['ready'])
          if (isRecord) expect(text).to.match(new RegExp(`${id}</code> cannot be read`))
        }
      }
      for (const path of own) {
        const { status, text } = await host.client.send('GET', ADMIN + path)
        expect([path, status], /ERR_\w+/.exec(text)?.[0]).to.satisfy(([, got]: [string, number]) =>
          isRecord ? got === 500 && DAMAGED.test(text) : got === 200 || got === 404,
        )
        expect([path, text.includes(HOSTILE)]).to.deep.equal([path, false])
      }
      const api = await host.client.send('GET', `${MOUNT}/status/${id}/`)
      expect(api.status === 200 || api.status === 404 || DAMAGED.test(api.text), `${api.status} ${api.text}`).to.equal(
        true,
      )
      if (isRecord) expect(api.text).to.match(DAMAGED)
      expect((await host.client.send('GET', `${MOUNT}/status/${ids['ready']}/`)).status).to.equal(200)
      const health = await host.client.send('GET', `${MOUNT}/health/`)
      expect(health.status === 200 || (lost.includes('/health') && DAMAGED.test(health.text)), health.text).to.equal(
        true,
      )
      const form = { 'content-type': 'application/x-www-form-urlencoded' }
      const body = `scope=ticked&id=${id}&id=${ids['ready']}`
      const confirm = await host.client.send('POST', `${ADMIN}/confirm/delete`, { headers: form, body })
      expect([confirm.status, confirm.text.includes(HOSTILE)]).to.deep.equal([200, false])
    })
  }

  it('covers every kind of key', () => {
    const kinds = Object.values(KEY_KINDS).filter((kind) => kind.type !== 'channel')
    for (const { pattern } of kinds) expect(ROWS.some(({ name }) => name === `${pattern} is a string`)).to.equal(true)
  })
})
