/**
 * Starts a real cluster for specs: masters with an equal part of the slots each, and replicas if asked for, all of them
 * processes of their own in fresh folders. It is there when every node says that the cluster is whole. Slots are moved as an
 * operator's tool moves them: key by key, while commands go on.
 */
import { Redis } from 'ioredis'
import { eventually } from './eventually.ts'
import { startRedisServer } from './redis-server.ts'
import type { RedisServer } from './redis-server.ts'

const SLOTS = 16_384
// A node that has just started takes no writes for two seconds.
const START_TIMEOUT_MS = 30_000
const KEYS_A_MOVE = 100

export interface RedisClusterOptions {
  readonly masters?: number
  /** Of each master. */
  readonly replicas?: number
  /** After this time without an answer a node counts as gone. */
  readonly nodeTimeoutMs?: number
  readonly binary?: string
  readonly args?: readonly string[]
}

export interface ClusterNode {
  readonly server: RedisServer
  /** A connection to this node alone. */
  readonly redis: Redis
  readonly id: string
}

export class RedisCluster implements AsyncDisposable {
  /** The masters first, each of their replicas behind them, as they were at the start. */
  readonly nodes: readonly ClusterNode[]
  readonly masters: readonly ClusterNode[]

  private constructor(nodes: readonly ClusterNode[], masters: number) {
    this.nodes = nodes
    this.masters = nodes.slice(0, masters)
  }

  static async start(options: RedisClusterOptions = {}): Promise<RedisCluster> {
    const { masters = 3, replicas = 0, nodeTimeoutMs = 2_000, binary } = options
    const args = ['--cluster-enabled', 'yes', '--cluster-node-timeout', String(nodeTimeoutMs), ...(options.args ?? [])]
    const servers = await Promise.all(
      Array.from({ length: masters * (1 + replicas) }, () =>
        startRedisServer({ args, ...(binary !== undefined && { binary }) }),
      ),
    )
    const nodes = await Promise.all(
      servers.map(async (server): Promise<ClusterNode> => {
        const redis = new Redis(server.url, { maxRetriesPerRequest: null })
        // It goes away on purpose.
        redis.on('error', () => undefined)
        return { server, redis, id: await redis.cluster('MYID') }
      }),
    )
    const cluster = new RedisCluster(nodes, masters)
    try {
      await cluster.#join()
    } catch (error) {
      await cluster.stop()
      throw error
    }
    return cluster
  }

  /** Where a client begins to look. */
  get startNodes(): { host: string; port: number }[] {
    return this.nodes.map(({ server: { host, port } }) => ({ host, port }))
  }

  async slotOf(key: string): Promise<number> {
    return await this.#anyNode.redis.cluster('KEYSLOT', key)
  }

  /** The master that says it has the slot. */
  async ownerOf(slot: number): Promise<ClusterNode> {
    const ranges = await this.#anyNode.redis.cluster('SLOTS')
    const id = ranges.find(([from, to]) => from <= slot && slot <= to)?.[2]?.[2]
    const owner = this.nodes.find((node) => node.id === id)
    if (!owner) throw new Error(`expected a node to have slot ${slot}, got: none`)
    return owner
  }

  /** Moves a slot, a few keys at a time; `between` is waited for before each step. Answers how many keys moved. */
  async moveSlot(
    slot: number,
    to: ClusterNode,
    between: () => Promise<void> = () => Promise.resolve(),
  ): Promise<number> {
    const from = await this.ownerOf(slot)
    if (from === to) return 0
    await to.redis.cluster('SETSLOT', slot, 'IMPORTING', from.id)
    await from.redis.cluster('SETSLOT', slot, 'MIGRATING', to.id)
    let moved = 0
    for (;;) {
      await between()
      const keys = await from.redis.cluster('GETKEYSINSLOT', slot, KEYS_A_MOVE)
      if (keys.length === 0) break
      const { host, port } = to.server
      await from.redis.call('MIGRATE', host, String(port), '', '0', '5000', 'KEYS', ...keys)
      moved += keys.length
    }
    await between()
    // The new owner first: between the two nobody would have it.
    await to.redis.cluster('SETSLOT', slot, 'NODE', to.id)
    for (const { redis, server } of this.masters) {
      if (redis !== to.redis && isRunning(server)) await redis.cluster('SETSLOT', slot, 'NODE', to.id)
    }
    return moved
  }

  /** Resolves when every node that runs says that all slots are served. */
  async whole(timeoutMs = START_TIMEOUT_MS): Promise<void> {
    for (const { redis, server } of this.nodes) {
      if (!isRunning(server)) continue
      await eventually(
        async () => {
          const info = await redis.cluster('INFO')
          return /cluster_state:ok/.test(info) && new RegExp(`cluster_slots_ok:${SLOTS}`).test(info)
        },
        { timeoutMs, message: `the node on port ${server.port} does not say that the cluster is whole` },
      )
    }
  }

  async stop(): Promise<void> {
    for (const { redis } of this.nodes) redis.disconnect()
    await Promise.all(this.nodes.map(({ server }) => server.stop()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  get #anyNode(): ClusterNode {
    const node = this.nodes.find(({ server }) => isRunning(server))
    if (!node) throw new Error('expected a node that runs, got: none')
    return node
  }

  async #join(): Promise<void> {
    const count = this.masters.length
    await Promise.all(
      this.masters.map(async ({ redis }, index) => {
        const [from, to] = [Math.floor((index * SLOTS) / count), Math.floor(((index + 1) * SLOTS) / count)]
        await redis.cluster('ADDSLOTS', ...Array.from({ length: to - from }, (_, slot) => from + slot))
      }),
    )
    // Else every node begins with the same epoch, and they take turns to settle that.
    await Promise.all(this.nodes.map(({ redis }, index) => redis.cluster('SET-CONFIG-EPOCH', index + 1)))
    // Each to each: gossip alone would take longer.
    for (const { redis } of this.nodes) {
      for (const { server } of this.nodes) await redis.cluster('MEET', server.host, server.port)
    }
    const replicas = this.nodes.slice(count)
    await Promise.all(
      replicas.map(async ({ redis }, index) => {
        const master = this.masters[index % count]
        if (!master) return
        await eventually(() => redis.cluster('REPLICATE', master.id), {
          timeoutMs: START_TIMEOUT_MS,
          message: 'a replica does not know its master',
        })
      }),
    )
    await this.whole()
    for (const { redis } of replicas) {
      await eventually(async () => /master_link_status:up/.test(await redis.info('replication')), {
        timeoutMs: START_TIMEOUT_MS,
        message: 'a replica does not follow its master',
      })
    }
  }
}

let shared: Promise<RedisCluster> | undefined

/** The one cluster that specs share, started when first asked for; the root hook stops it. A spec keeps to its own key prefix there. */
export function sharedRedisCluster(): Promise<RedisCluster> {
  shared ??= RedisCluster.start()
  return shared
}

export async function stopSharedRedisCluster(): Promise<void> {
  const cluster = await shared?.catch(() => undefined)
  shared = undefined
  await cluster?.stop()
}

function isRunning(server: RedisServer): boolean {
  try {
    return server.pid > 0
  } catch {
    return false
  }
}
