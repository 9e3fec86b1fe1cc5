/**
 * What specs of the public contract run over: a backend in memory and one on a real server, each under a key prefix of its
 * own. Every case starts without tasks and backends, and gets back the process-wide state that was there before; what it
 * opened is closed at its end.
 */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import sinon from 'sinon'
import { MemoryTaskBackend, RedisTaskBackend, taskBackends, taskRegistry } from '../../lib/index.ts'
import type { Logger, StorageBackendOptions, TaskBackend, TaskResult } from '../../lib/index.ts'
import { Keys, rootOf } from '../../lib/storage/redis/keys.ts'
import { isDamaged } from '../../lib/storage/stored-record.ts'
import { replaceBackends } from '../../lib/task-backends.ts'
import type { AnyTask } from '../../lib/task.ts'
import { eventually } from '../support/eventually.ts'
import { sharedRedisServer } from '../support/redis-server.ts'
import { aTake } from '../support/storage-builders.ts'

const HOUR_MS = 3_600_000
export const DAY_MS = 24 * HOUR_MS

/** What a case may do behind the backend's back. Only on a server: memory has no place where one could reach in. */
export interface RawServer {
  readonly client: Redis
  readonly keys: Keys
}

/** One line that a backend logged. */
export interface LogLine {
  readonly level: keyof Logger
  readonly facts: Readonly<Record<string, unknown>>
  readonly message: string
}

export interface OpenedBackend {
  readonly backend: TaskBackend
  /** What it logged so far. */
  readonly logged: readonly LogLine[]
  /** @throws in memory. */
  readonly raw: RawServer
  /** Makes records as if they had been enqueued, run and finished `ms` ago. */
  past(ms: number, make: () => Promise<readonly TaskResult[]>): Promise<readonly TaskResult[]>
}

export interface BackendUnderTest {
  readonly name: 'memory' | 'redis'
  open(options?: StorageBackendOptions): Promise<OpenedBackend>
}

/** Closed, newest first, at the end of the case that opened them. */
const open: (() => Promise<void> | void)[] = []

/** Closes it at the end of the case. */
export function closedAtEnd<T extends { close(): Promise<void> }>(resource: T): T {
  open.push(() => resource.close())
  return resource
}

/** Each case starts with no task, no backend and no `REDIS_URL`, and leaves what was there before. Call it inside `describe`. */
export function isolateProcessState(): void {
  let names: readonly string[] = []
  let tasks: readonly AnyTask[] = []
  let backends: ReturnType<typeof taskBackends.entries> = []
  let redisUrl: string | undefined

  beforeEach(() => {
    names = taskRegistry.names()
    tasks = names.map((name) => taskRegistry.get(name))
    for (const name of names) taskRegistry.delete(name)
    backends = taskBackends.entries()
    replaceBackends([])
    redisUrl = process.env['REDIS_URL']
    delete process.env['REDIS_URL']
  })

  afterEach(async () => {
    sinon.restore()
    for (const [, backend] of taskBackends.entries()) await backend.close()
    for (const close of open.splice(0).reverse()) await close()
    for (const name of taskRegistry.names()) taskRegistry.delete(name)
    for (const task of tasks) taskRegistry.add(task)
    replaceBackends(backends)
    if (redisUrl === undefined) delete process.env['REDIS_URL']
    else process.env['REDIS_URL'] = redisUrl
  })
}

/** A logger that only remembers. */
export function rememberingLogger(): { readonly logger: Logger; readonly logged: readonly LogLine[] } {
  const logged: LogLine[] = []
  const log =
    (level: keyof Logger) =>
    (facts: object, message: string): void =>
      void logged.push({ level, facts: { ...facts }, message })
  return { logger: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') }, logged }
}

/** A Redis backend on the shared server, under a prefix of its own, for any queue. Closed at the end of the case. */
export async function openRedisBackend(
  options: StorageBackendOptions = {},
): Promise<{ backend: RedisTaskBackend; raw: RawServer }> {
  const { url } = await sharedRedisServer()
  const keyPrefix = `spec-${randomUUID()}`
  const backend = closedAtEnd(new RedisTaskBackend({ redisUrl: url, keyPrefix, queues: [], ...options }))
  const client = new Redis(url, { lazyConnect: true })
  open.push(() => client.disconnect())
  return { backend, raw: { client, keys: new Keys(rootOf(keyPrefix, backend.alias)) } }
}

const memory: BackendUnderTest = {
  name: 'memory',
  open(options = {}) {
    const { logger, logged } = rememberingLogger()
    const backend = closedAtEnd(new MemoryTaskBackend({ queues: [], logger, ...options }))
    return Promise.resolve({
      backend,
      logged,
      get raw(): never {
        throw new Error('expected a case for Redis alone to use the raw server, got: memory')
      },
      async past(ms, make) {
        // Its clock is the process's: the same work, done while the date is another.
        const clock = sinon.useFakeTimers({ now: Date.now() - ms, toFake: ['Date'] })
        try {
          return await make()
        } finally {
          clock.restore()
        }
      },
    })
  },
}

const redis: BackendUnderTest = {
  name: 'redis',
  async open(options = {}) {
    const { logger, logged } = rememberingLogger()
    const { backend, raw } = await openRedisBackend({ logger, ...options })
    return {
      backend,
      logged,
      raw,
      async past(ms, make) {
        // Its clock is the server's: the times are written back in record and index.
        const results = await make()
        for (const { id } of results) {
          const [record] = await backend.storage.find([id])
          if (!record || isDamaged(record)) throw new Error(`expected record ${id} to be there, got: none`)
          const enqueuedAt = record.enqueuedAt - ms
          const finishedAt = record.finishedAt === null ? '' : String(record.finishedAt - ms)
          await raw.client.hset(raw.keys.record(id), { enqueuedAt, finishedAt })
          await raw.client.zadd(raw.keys.cell(record), 'XX', enqueuedAt, id)
        }
        return results
      },
    }
  },
}

export const BACKENDS: readonly BackendUnderTest[] = [memory, redis]

/** What each case finds: the backend that is `default`, made anew for it. */
export interface Subject extends OpenedBackend {
  readonly name: BackendUnderTest['name']
}

/** Runs cases over every backend. `subject` is there from `beforeEach` on. */
export function overEveryBackend(title: string, define: (subject: Subject, kind: BackendUnderTest) => void): void {
  for (const kind of BACKENDS) {
    describe(`${title} (${kind.name})`, () => {
      let opened: OpenedBackend | undefined
      const current = (): OpenedBackend => {
        if (!opened) throw new Error('expected the subject to be used inside a case, got: outside')
        return opened
      }
      isolateProcessState()
      beforeEach(async () => {
        opened = await kind.open()
      })
      const subject: Subject = {
        name: kind.name,
        get backend() {
          return current().backend
        },
        get raw() {
          return current().raw
        },
        get logged() {
          return current().logged
        },
        past: (ms, make) => current().past(ms, make),
      }
      define(subject, kind)
    })
  }
}

/** What a promise rejects with, or a function throws. */
export async function caught(outcome: Promise<unknown> | (() => unknown)): Promise<unknown> {
  try {
    const value = await (typeof outcome === 'function' ? outcome() : outcome)
    return new Error(`expected an error, got: ${String(value)}`)
  } catch (error) {
    return error
  }
}

/** A worker that takes up to `count` records and dies: nobody renews its leases, and they are over when this resolves. */
export async function abandon(backend: TaskBackend, queueName: string, count = 1): Promise<readonly string[]> {
  const { begun } = await backend.storage.take(aTake('dead', { queueNames: [queueName], leaseMs: 1, count }))
  const deadline = Math.max(...begun.map(({ record }) => record.leaseUntil ?? 0))
  await eventually(() => Date.now() > deadline + 1)
  return begun.map(({ lease }) => lease.id)
}

/** A worker that holds up to `count` records, and lives: its leases last. */
export async function holdRunning(backend: TaskBackend, queueName: string, count = 1): Promise<readonly string[]> {
  const { begun } = await backend.storage.take(aTake('alive', { queueNames: [queueName], leaseMs: HOUR_MS, count }))
  return begun.map(({ lease }) => lease.id)
}
