/**
 * A master with two replicas and three sentinels. The master may stand behind a proxy, which is its only way to and from all the
 * others: replicas, sentinels and clients that ask them know it by the address of the proxy. What is held there has cut it off.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Redis as IoRedis6 } from 'ioredis6'
import { Redis as IoValkey } from 'iovalkey'
import type { RedisClientLike } from '../../../lib/storage/redis/redis-client.ts'
import { eventually } from '../../support/eventually.ts'
import { startRedisServer } from '../../support/redis-server.ts'
import type { RedisServer } from '../../support/redis-server.ts'
import { TcpProxy } from './tcp-proxy.ts'

export const NAME = 'spec-master'
const DOWN_AFTER_MS = 1_000

export interface Address {
  readonly host: string
  readonly port: number
}

export interface SentinelGroupOptions {
  /** Settings of all three servers. */
  readonly args?: readonly string[]
  readonly behindProxy?: boolean
}

export class SentinelGroup implements AsyncDisposable {
  readonly servers: RedisServer[] = []
  readonly sentinels: RedisServer[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), 'express-tasks-sentinels-'))
  #proxy: TcpProxy | undefined

  static async start({ args = [], behindProxy = false }: SentinelGroupOptions = {}): Promise<SentinelGroup> {
    const group = new SentinelGroup()
    try {
      // A replica that has not copied yet would be made master of nothing.
      const master = await startRedisServer({ args: ['--repl-diskless-sync-delay', '0', ...args] })
      group.servers.push(master)
      if (behindProxy) group.#proxy = await TcpProxy.start(master)
      const { host, port } = group.#proxy ?? master
      const follow = ['--replicaof', host, String(port), ...args]
      group.servers.push(...(await Promise.all([1, 2].map(() => startRedisServer({ args: follow })))))
      for (const index of [1, 2, 3]) group.sentinels.push(await group.#sentinel(index, { host, port }))
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

  /** The way to the master that there was at first, for a group that has it behind a proxy. */
  get proxy(): TcpProxy {
    if (!this.#proxy) throw new Error('expected a group whose master is behind a proxy, got: none there')
    return this.#proxy
  }

  /** As the first sentinel knows it. */
  async master(): Promise<RedisServer> {
    const [, port] = (await this.ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)) as string[]
    const isFirst = this.#proxy?.port === Number(port)
    const found = isFirst ? this.servers[0] : this.servers.find((server) => server.port === Number(port))
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
        return now !== from && (await infoOf(now, 'role')) === 'master' && now
      },
      { timeoutMs: 60_000, message: 'the sentinels choose no other master' },
    )
  }

  /** Resolves when both replicas have what this master was told so far. */
  async copied(master: RedisServer): Promise<void> {
    const replicas = this.servers.filter((server) => server !== master)
    await eventually(
      async () => {
        const told = await infoOf(master, 'master_repl_offset')
        const have = await Promise.all(replicas.map((server) => infoOf(server, 'slave_repl_offset')))
        return told !== undefined && have.every((offset) => offset === told)
      },
      { timeoutMs: 60_000, message: 'the replicas do not copy' },
    )
  }

  /** Resolves when a server is a replica and has copied its master. */
  async follows(server: RedisServer): Promise<void> {
    await eventually(
      async () => (await infoOf(server, 'role')) === 'slave' && (await infoOf(server, 'master_link_status')) === 'up',
      { timeoutMs: 60_000, message: 'the old master does not become a replica' },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [...this.sentinels, ...this.servers]) await server.stop()
    await this.#proxy?.[Symbol.asyncDispose]()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #sentinel(index: number, { host, port }: Address): Promise<RedisServer> {
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

export type DriverClient = RedisClientLike & { disconnect(): void }
export type Connect = (sentinels: readonly Address[], options?: { role: 'slave' }) => DriverClient

/** A caller's client, as each driver has one. */
export const DRIVERS: Readonly<Record<string, Connect>> = {
  'ioredis 5': (sentinels, options) =>
    new Redis({ sentinels: [...sentinels], name: NAME, lazyConnect: true, ...options }),
  'ioredis 6': (sentinels, options) =>
    new IoRedis6({ sentinels: [...sentinels], name: NAME, lazyConnect: true, ...options }),
  iovalkey: (sentinels, options) =>
    new IoValkey({ sentinels: [...sentinels], name: NAME, lazyConnect: true, ...options }),
}
