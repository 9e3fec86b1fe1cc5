/** A host for bad input: records in every state behind a router that lets everybody in, and what must hold of each answer. */
import { randomUUID } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect } from 'chai'
import express from 'express'
import { Redis } from 'ioredis'
import { MemoryTaskBackend, RedisTaskBackend, taskRegistry, tasksRouter } from '../../../lib/index.ts'
import type { TaskBackend, TasksRouterOptions } from '../../../lib/index.ts'
import { KEY_KINDS, rootOf } from '../../../lib/storage/redis/keys.ts'
import { readKeyspace } from '../../storage/redis/keyspace.ts'
import { aClaim } from '../../support/storage-builders.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'
import { listen } from './hosts.ts'
import { RawClient } from './raw-client.ts'
import type { RawAnswer } from './raw-client.ts'

export const MOUNT = '/tasks'

/** Everything that is stored, in a form that can be compared. */
export type Snapshot = () => Promise<unknown>

export interface Store {
  readonly backend: TaskBackend
  readonly snapshot: Snapshot
  /** The names of the keys, without their root; none of a memory backend. */
  readonly keys: () => Promise<readonly string[]>
  close(): Promise<void>
}

/** The name of a key that docs and code know, without its root. */
const KNOWN_KEY = new RegExp(
  `^(${Object.values(KEY_KINDS)
    .map(({ pattern }) => pattern.replace(/<\w+>/g, '[A-Za-z0-9_.-]+'))
    .join('|')})$`,
)

/** Keys of a store that no kind of key accounts for. */
export async function strangeKeys(store: Store): Promise<readonly string[]> {
  return (await store.keys()).filter((key) => !KNOWN_KEY.test(key))
}

const GROUP = 'express_tasks_workers'

async function redisStore(): Promise<Store & { readonly redis: Redis; readonly root: string }> {
  const { url } = await sharedRedisServer()
  const keyPrefix = `spec-${randomUUID()}`
  const root = rootOf(keyPrefix, 'default')
  const redis = new Redis(url)
  const backend = new RedisTaskBackend({ redisUrl: url, keyPrefix, queues: [] })
  return {
    ...{ backend, redis, root },
    snapshot: async () => {
      const { lifetimes, ...space } = await readKeyspace(redis, root, GROUP)
      // What is left of a lifetime is another number each time.
      return { ...space, mortal: Object.keys(lifetimes) }
    },
    keys: async () => (await redis.keys(`${root}*`)).map((key) => key.slice(root.length)),
    close: async () => {
      await backend.close()
      redis.disconnect()
    },
  }
}

function memoryStore(): Store {
  const backend = new MemoryTaskBackend({ queues: [] })
  return {
    backend,
    snapshot: async () => {
      const { queueNames, tasks } = await backend.storage.catalog()
      const records = await backend.records.filter({}).orderBy('enqueuedAt').limit(1_000)
      return {
        queueNames,
        tasks,
        records: records.map(({ stored }) => stored),
        depth: await backend.storage.depth(queueNames),
      }
    },
    keys: () => Promise.resolve([]),
    close: async () => await backend.close(),
  }
}

export const STORES = [
  { name: 'redis', open: redisStore },
  { name: 'memory', open: () => Promise.resolve(memoryStore()) },
] as const

/** One record in each state. */
export async function fill(backend: TaskBackend): Promise<Readonly<Record<string, string>>> {
  const enqueue = async (name: string, more: object = {}): Promise<string> =>
    (await backend.enqueue(taskRegistry.get(name).using(more), [1, 2])).id
  const successful = await enqueue('add')
  await backend.runById(successful)
  const failed = await enqueue('fail')
  await backend.runById(failed)
  const running = await enqueue('add')
  await backend.storage.runById(aClaim(), running, false)
  const delayed = await enqueue('add', { runAfter: new Date(Date.now() + 86_400_000) })
  return { successful, failed, running, delayed, ready: await enqueue('add') }
}

export interface BadInputHost {
  readonly store: Store
  readonly client: RawClient
  readonly ids: Readonly<Record<string, string>>
  readonly url: string
  close(): Promise<void>
}

export async function startBadInputHost(
  store: Store,
  options: TasksRouterOptions = { authorize: () => true },
): Promise<BadInputHost> {
  const ids = await fill(store.backend)
  const app = express()
  app.use(MOUNT, tasksRouter(store.backend, options))
  const { url, close } = await listen(app, MOUNT)
  const client = new RawClient(url)
  return {
    ...{ store, client, ids, url },
    close: async () => {
      client[Symbol.dispose]()
      await close()
      await store.close()
    },
  }
}

/** What nobody may add to. */
const SHARED = [Object.prototype, Array.prototype, Function.prototype, String.prototype] as const
const keysOfShared = (): unknown => SHARED.map((each) => Reflect.ownKeys(each).map(String))

/** Long for one answer; the worst that was met here held the process for twenty seconds. */
const LONGEST_BLOCK_MS = 3_000

/** Does something to a host, and holds it to: nothing stored or changed, no prototype touched, the event loop never held up. */
export async function changesNothing({ store, client }: BadInputHost, act: () => Promise<void>): Promise<void> {
  const before = await store.snapshot()
  const shared = keysOfShared()
  const delay = monitorEventLoopDelay({ resolution: 10 })
  delay.enable()
  await act()
  delay.disable()
  expect(await store.snapshot()).to.deep.equal(before)
  expect(keysOfShared()).to.deep.equal(shared)
  expect(({} as Record<string, unknown>)['polluted']).to.equal(undefined)
  expect(delay.max / 1e6).to.be.below(LONGEST_BLOCK_MS)
  expect((await client.send('GET', `${MOUNT}/health/`)).status).to.equal(200)
}

export interface Problem {
  readonly status: number
  readonly code: string
  readonly title: string
  readonly detail: string
  readonly pointer?: string
}

const HEADERS: Readonly<Record<string, RegExp>> = {
  'content-security-policy': /^default-src 'none'; .*base-uri 'none'; form-action 'self'; frame-ancestors 'none'$/,
  'x-content-type-options': /^nosniff$/,
  'x-frame-options': /^DENY$/,
  'referrer-policy': /^same-origin$/,
  'cache-control': /^no-store$/,
}

/** The headers that every answer carries. */
export function expectHeaders({ headers }: RawAnswer, where: string, but: readonly string[] = []): void {
  for (const [name, pattern] of Object.entries(HEADERS)) {
    if (!but.includes(name)) expect(headers[name], `${where}: ${name}`).to.match(pattern)
  }
  expect(headers['set-cookie'], where).to.equal(undefined)
}

/** An answer of the API that refuses: 4xx, a problem document that is whole and says no more than it may. */
export function expectProblem(answer: RawAnswer, where: string): Problem {
  const { status, headers, text } = answer
  expect(status, `${where}: ${text.slice(0, 300)}`).to.be.within(400, 499)
  expect(headers['content-type'], where).to.equal('application/problem+json; charset=utf-8')
  expectHeaders(answer, where)
  const problem = JSON.parse(text) as Problem
  expect(problem.status, where).to.equal(status)
  expect(problem.code, where).to.match(/^ERR_TASKS_[A-Z_]+$/)
  expect(problem.title, where).to.be.a('string').that.is.not.equal('')
  expect(problem.detail.length, where).to.be.below(2_000)
  expectNoInsides(text, where)
  return problem
}

/** An answer of the admin: a page, whatever was asked. */
export function expectPage(answer: RawAnswer, where: string): void {
  const { status, headers, text } = answer
  expect(status, `${where}: ${text.slice(0, 300)}`).to.be.within(200, 499)
  expectHeaders(answer, where)
  if (status === 303) return
  expect(headers['content-type'], where).to.equal('text/html; charset=utf-8')
  expect(text, where).to.match(/^<!doctype html>/i)
  // The page of a record shows the stacks of its errors: that is what it is for.
  if (status < 400) return
  expect(text, where).to.match(/ERR_TASKS_[A-Z_]+/)
  expectNoInsides(text, where)
}

/** Neither a stack, nor a path of this machine, nor an address of the storage. */
function expectNoInsides(text: string, where: string): void {
  expect(text, where).not.to.match(
    /\bat [\w.<>]+ \(|node_modules|\/lib\/http|redis:\/\/|127\.0\.0\.1:\d|ReplyError|WRONGTYPE/,
  )
}
