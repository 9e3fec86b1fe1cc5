/**
 * A master with two replicas and three sentinels, a caller's sentinel client handed in: the master changes, in order or by its
 * death, and workers go on within thirty seconds. What a failover loses is counted, not hidden (F19). Nightly: a failover alone
 * takes seconds.
 */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Redis as IoRedis6 } from 'ioredis6'
import { Redis as IoValkey } from 'iovalkey'
import { RedisTaskBackend, StorageUnavailableError, StorageUnfitError, Worker } from '../../lib/index.ts'
import type { RedisClientLike } from '../../lib/storage/redis/redis-client.ts'
import { caught } from '../backends/backends-under-test.ts'
import { eventually } from '../support/eventually.ts'
import { startRedisServer } from '../support/redis-server.ts'
import type { RedisServer } from '../support/redis-server.ts'
import { withOwnTask } from './support/own-task.ts'
import { nightlyRow, report } from './support/rows.ts'

const NAME = 'spec-master'
const DOWN_AFTER_MS = 1_000
const WITHIN_MS = 30_000

interface Address {
  readonly host: string
  readonly port: number
}

class SentinelGroup implements AsyncDisposable {
  readonly servers: RedisServer[] = []
  readonly sentinels: RedisServer[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), 'express-tasks-sentinels-'))

  static async start(): Promise<SentinelGroup> {
    const group = new SentinelGroup()
    try {
      // A replica that has not copied yet would be made master of nothing.
      const master = await startRedisServer({ args: ['--repl-diskless-sync-delay', '0'] })
      group.servers.push(master)
      const { host, port } = master
      const follow = ['--replicaof', host, String(port)]
      group.servers.push(...(await Promise.all([1, 2].map(() => startRedisServer({ args: follow })))))
      for (const index of [1, 2, 3]) group.sentinels.push(await group.#sentinel(index, master))
      await eventually(() => group.#agrees(), { timeoutMs: 60_000, message: 'the sentinels do not find each other' })
      return group
    } catch (error) {
      await group[Symbol.asyncDispose]()
      throw error
    }
  }

  get addresses(): readonly Address[] {
    return this.sentinels.map(({ host, port }) => ({ host, port }))
  }

  /** As the first sentinel knows it. */
  async master(): Promise<RedisServer> {
    const [, port] = (await this.ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)) as string[]
    const found = this.servers.find((server) => server.port === Number(port))
    if (!found) throw new Error(`expected a master among the servers, got: port ${port}`)
    return found
  }

  async ask(command: string, ...args: string[]): Promise<unknown> {
    const { url = '' } = this.sentinels[0] ?? {}
    const client = new Redis(url, { enableReadyCheck: false })
    try {
      return await client.call(command, ...args)
    } finally {
      client.disconnect()
    }
  }

  /** Resolves when another server is the master, for the sentinels and for itself. */
  async changed(from: RedisServer): Promise<RedisServer> {
    return await eventually(
      async () => {
        const now = await this.master()
        return now !== from && (await roleOf(now)) === 'master' && now
      },
      { timeoutMs: 60_000, message: 'the sentinels choose no other master' },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [...this.sentinels, ...this.servers]) await server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #sentinel(index: number, { host, port }: RedisServer): Promise<RedisServer> {
    // A sentinel writes what it learns into its file.
    const file = join(this.#folder, `${index}.conf`)
    const lines = [
      `sentinel monitor ${NAME} ${host} ${port} 2`,
      `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER_MS}`,
      `sentinel failover-timeout ${NAME} 6000`,
      `sentinel parallel-syncs ${NAME} 2`,
    ]
    writeFileSync(file, `${lines.join('\n')}\n`)
    return await startRedisServer({ args: ['--sentinel'], configFile: file })
  }

  async #agrees(): Promise<boolean> {
    const [row = []] = (await this.ask('SENTINEL', 'MASTERS')) as string[][]
    const value = (name: string): number => Number(row[row.indexOf(name) + 1])
    if (value('num-slaves') !== 2 || value('num-other-sentinels') !== 2) return false
    const links = await Promise.all(
      this.servers.slice(1).map(async (server) => await infoOf(server, 'master_link_status')),
    )
    return links.every((link) => link === 'up')
  }
}

const roleOf = (server: RedisServer): Promise<string | undefined> => infoOf(server, 'role')

/** What a server says of its replication; undefined while it cannot be asked. */
async function infoOf({ url }: RedisServer, name: string): Promise<string | undefined> {
  const client = new Redis(url, { maxRetriesPerRequest: 0, lazyConnect: true })
  client.on('error', () => {
    // It may be gone by now; then there is no role.
  })
  try {
    return new RegExp(`^${name}:(\\w+)`, 'm').exec(await client.info('replication'))?.[1]
  } catch {
    return undefined
  } finally {
    client.disconnect()
  }
}

type Connect = (sentinels: readonly Address[], options?: { role: 'slave' }) => RedisClientLike & { disconnect(): void }

const DRIVERS: Readonly<Record<string, Connect>> = {
  'ioredis 5': (sentinels, options) =>
    new Redis({ sentinels: [...sentinels], name: NAME, lazyConnect: true, ...options }),
  'ioredis 6': (sentinels, options) =>
    new IoRedis6({ sentinels: [...sentinels], name: NAME, lazyConnect: true, ...options }),
  iovalkey: (sentinels, options) =>
    new IoValkey({ sentinels: [...sentinels], name: NAME, lazyConnect: true, ...options }),
}

/** The master changes by `change` while tasks are enqueued and run. */
async function failover(
  driver: string,
  how: string,
  connect: Connect,
  change: (group: SentinelGroup, master: RedisServer) => Promise<unknown>,
): Promise<{ lost: number }> {
  await using group = await SentinelGroup.start()
  const client = connect(group.addresses)
  const backend = new RedisTaskBackend({
    client,
    alias: 'sentinels',
    keyPrefix: `spec-${randomUUID()}`,
    queues: [],
    blockTimeoutMs: 500,
    claimTimeoutSeconds: 5,
  })
  const worker = new Worker(backend, { claimIntervalSeconds: 1, intervalSeconds: 0.5, drainTimeoutSeconds: 5 })
  const acknowledged = new Set<string>()
  const begun = new Map<string, number>()
  const begins: number[] = []
  let refused = 0
  const enqueue = async (): Promise<boolean> => {
    const id = randomUUID()
    try {
      await backend.queue.push([{ id, name: 'work', queueName: 'default', priority: 0, runAfter: null, args: '[]' }])
      acknowledged.add(id)
      return true
    } catch (error) {
      expect(error).to.be.instanceOf(StorageUnavailableError)
      refused += 1
      return false
    }
  }
  let figures = { lost: 0 }
  try {
    await withOwnTask(
      ({ taskResult: { id } }) => {
        begun.set(id, (begun.get(id) ?? 0) + 1)
        begins.push(Date.now())
        return null
      },
      async () => {
        await worker.start()
        for (let count = 0; count < 200; count += 1) await enqueue()
        const old = await group.master()
        const changedAt = Date.now()
        const changing = change(group, old)
        // Producers go on all the while, and so see the moment in which nobody is master.
        const over = new AbortController()
        const producing = (async () => {
          while (!over.signal.aborted) if (!(await enqueue())) await eventually(() => true)
        })()
        await changing
        await group.changed(old)
        const back = await eventually(
          async () => {
            const before = begins.length
            return (await enqueue()) && (await eventually(() => begins.length > before && Date.now()))
          },
          { timeoutMs: 60_000, message: 'no task begins after the failover' },
        )
        over.abort()
        await producing
        const isFinal = async (id: string): Promise<string> => {
          const [record] = await backend.storage.find([id])
          return record === undefined ? 'gone' : 'status' in record ? record.status : 'damaged'
        }
        const left = new Set(acknowledged)
        await eventually(
          async () => {
            for (const id of left) if (['SUCCESSFUL', 'gone'].includes(await isFinal(id))) left.delete(id)
            return left.size === 0
          },
          { timeoutMs: 60_000, message: 'tasks do not end after the failover' },
        )
        const gone = await Promise.all([...acknowledged].map(async (id) => (await isFinal(id)) === 'gone'))
        // Gone before it ever began: that is lost. One that ran and whose record is gone was done.
        const lost = [...acknowledged].filter((id, index) => gone[index] && !begun.has(id)).length
        const duplicates = [...begun.values()].reduce((sum, count) => sum + count - 1, 0)
        figures = { lost }
        const tookMs = back - changedAt
        report('F19', {
          ...{
            driver,
            how,
            acknowledged: acknowledged.size,
            refused,
            executed: begins.length,
            lost,
            duplicates,
            tookMs,
          },
          recordsGone: gone.filter(Boolean).length,
          verdict: 'passed',
        })
        expect(tookMs).to.be.at.most(WITHIN_MS)
        await worker.stop()
      },
    )
  } finally {
    await worker.stop({ drainTimeoutSeconds: 0 })
    await backend.close()
    client.disconnect()
  }
  return figures
}

describe('Faults: sentinels', function () {
  this.timeout(300_000)

  for (const [driver, connect] of Object.entries(DRIVERS)) {
    nightlyRow(`change the master in order: workers go on within 30 s, with ${driver} (F19)`, async () => {
      const ordered = (group: SentinelGroup): Promise<unknown> => group.ask('SENTINEL', 'FAILOVER', NAME)
      await failover(driver, 'SENTINEL FAILOVER', connect, ordered)
    })

    nightlyRow(`replace a master that was killed: workers go on within 30 s, with ${driver} (F19)`, async () => {
      await failover(driver, 'SIGKILL', connect, (_, master) => master.kill('SIGKILL'))
    })

    nightlyRow(`are kept by our own connections, a client for replicas is refused, with ${driver} (F19)`, async () => {
      await using group = await SentinelGroup.start()
      const client = connect(group.addresses, { role: 'slave' })
      const backend = new RedisTaskBackend({ client, alias: 'replicas' })
      try {
        const error = await caught(backend.storage.connect())
        expect(error).to.be.instanceOf(StorageUnfitError).and.include({ fault: 'role' })
        expect(String(error)).to.contain(`a replica at ${NAME} by sentinels 127.0.0.1:`)
      } finally {
        await backend.close()
        client.disconnect()
      }
    })
  }
})
