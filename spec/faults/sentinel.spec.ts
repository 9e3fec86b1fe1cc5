/**
 * A master with two replicas and three sentinels, a caller's sentinel client handed in: the master changes, in order, by its
 * death, or because it is cut off, and workers go on within thirty seconds. What a failover loses is counted, not hidden (F19).
 * Nightly: a failover alone takes seconds.
 */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { RedisTaskBackend, StorageUnavailableError, StorageUnfitError, Worker } from '../../lib/index.ts'
import type { RedisBackendOptions } from '../../lib/index.ts'
import { caught } from '../backends/backends-under-test.ts'
import { eventually } from '../support/eventually.ts'
import type { RedisServer } from '../support/redis-server.ts'
import { withOwnTask } from './support/own-task.ts'
import { nightlyRow, PATIENCE_MS } from './support/rows.ts'
import type { Figures } from './support/rows.ts'
import { DRIVERS, NAME, SentinelGroup } from './support/sentinel-group.ts'
import type { Connect, DriverClient } from './support/sentinel-group.ts'
import { reportAlone } from './support/verdict.ts'

const WITHIN_MS = 30_000
/** As old as a replica's last word may be while its master still takes writes. */
const MAX_LAG_SECONDS = 2
const ACKNOWLEDGES_AT_MOST_MS = 5_000

/** A worker of this process, and an account of what was acknowledged to its producers and what it began. */
class Load implements AsyncDisposable {
  readonly #startedAt = performance.now()
  readonly #keyPrefix = `spec-${randomUUID()}`
  readonly #backends: RedisTaskBackend[] = []
  readonly #client: DriverClient
  readonly #server: RedisServer
  readonly backend: RedisTaskBackend
  readonly worker: Worker
  readonly acknowledged = new Map<string, { readonly by: RedisTaskBackend; readonly at: number }>()
  readonly begun = new Map<string, number>()
  readonly beganAt: number[] = []
  refused = 0

  constructor(client: DriverClient, server: RedisServer) {
    this.#client = client
    this.#server = server
    this.backend = this.open({ client })
    this.worker = new Worker(this.backend, { claimIntervalSeconds: 1, intervalSeconds: 0.5, drainTimeoutSeconds: 5 })
  }

  /** Another way to the same records. */
  open(where: Pick<RedisBackendOptions, 'client' | 'redisUrl'>): RedisTaskBackend {
    const settings = { alias: 'sentinels', queues: [], blockTimeoutMs: 500, claimTimeoutSeconds: 5 }
    const backend = new RedisTaskBackend({ ...where, ...settings, keyPrefix: this.#keyPrefix })
    this.#backends.push(backend)
    return backend
  }

  async enqueue(backend = this.backend): Promise<boolean> {
    const id = randomUUID()
    try {
      await backend.queue.push([{ id, name: 'work', queueName: 'default', priority: 0, runAfter: null, args: '[]' }])
      this.acknowledged.set(id, { by: backend, at: Date.now() })
      return true
    } catch (error) {
      expect(error).to.be.instanceOf(StorageUnavailableError)
      this.refused += 1
      return false
    }
  }

  /** Enqueues without a pause until it is told to stop. */
  async produce(backend: RedisTaskBackend, until: AbortSignal): Promise<void> {
    while (!until.aborted) if (!(await this.enqueue(backend))) await eventually(() => true)
  }

  /** Runs a worker with tasks of its own, and stops it. */
  async run(body: () => Promise<void>): Promise<void> {
    await withOwnTask(
      ({ taskResult: { id } }) => {
        this.begun.set(id, (this.begun.get(id) ?? 0) + 1)
        this.beganAt.push(Date.now())
        return null
      },
      async () => {
        await this.worker.start()
        for (let count = 0; count < 200; count += 1) await this.enqueue()
        await body()
        await this.worker.stop()
      },
    )
  }

  /** Resolves with the moment in which a task began that was enqueued after the change. */
  async goesOn(): Promise<number> {
    return await eventually(
      async () => {
        const before = this.beganAt.length
        return (await this.enqueue()) && (await eventually(() => this.beganAt.length > before && Date.now()))
      },
      { timeoutMs: Math.min(60_000, PATIENCE_MS), message: 'no task begins after the failover' },
    )
  }

  /** Resolves once every record that is left has ended; with the ids of those that are gone and never began, and how many are gone. */
  async lost(): Promise<{ lost: readonly string[]; recordsGone: number }> {
    const left = new Set(this.acknowledged.keys())
    const gone: string[] = []
    await eventually(
      async () => {
        for (const id of left) {
          const [record] = await this.backend.storage.find([id])
          if (record === undefined) gone.push(id)
          else if (!('status' in record) || record.status !== 'SUCCESSFUL') continue
          left.delete(id)
        }
        return left.size === 0
      },
      { timeoutMs: 60_000, message: 'tasks do not end after the failover' },
    )
    // Gone before it ever began: that is lost. One that ran and whose record is gone was done.
    return { lost: gone.filter((id) => !this.begun.has(id)), recordsGone: gone.length }
  }

  report(figures: Figures): void {
    reportAlone(this.#server, 'F19', {
      ...{ wallSeconds: Math.round((performance.now() - this.#startedAt) / 100) / 10 },
      ...{ acknowledged: this.acknowledged.size, refused: this.refused, executed: this.beganAt.length },
      duplicates: this.beganAt.length - this.begun.size,
      ...figures,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.worker.stop({ drainTimeoutSeconds: 0 })
    for (const backend of this.#backends) await backend.close()
    this.#client.disconnect()
  }
}

/**
 * As FAILOVER does it: no write is taken until the replicas have all and one of them is the master, which this server follows then.
 * No connection ends: that it is a replica now, clients learn by what it refuses.
 */
async function inOrder(group: SentinelGroup, old: RedisServer): Promise<void> {
  const client = new Redis(old.url)
  try {
    await client.call('CLIENT', 'PAUSE', '60000', 'WRITE')
    await group.copied(old)
    await group.ask('SENTINEL', 'FAILOVER', NAME)
    const { host, port } = await group.changed(old)
    await client.replicaof(host, port)
    await client.call('CLIENT', 'UNPAUSE')
  } finally {
    client.disconnect()
  }
}

/** The master changes by `change` while tasks are enqueued and run. Resolves with what was lost. */
async function failover(
  driver: string,
  how: string,
  connect: Connect,
  change: (group: SentinelGroup, master: RedisServer) => Promise<unknown>,
): Promise<readonly string[]> {
  await using group = await SentinelGroup.start()
  const old = await group.master()
  await using load = new Load(connect(group.addresses), old)
  let all: readonly string[] = []
  await load.run(async () => {
    const changedAt = Date.now()
    const changing = change(group, old)
    // Producers go on all the while, and so see the moment in which nobody is master.
    const over = new AbortController()
    const producing = load.produce(load.backend, over.signal)
    let tookMs: number
    try {
      await changing
      await group.changed(old)
      tookMs = (await load.goesOn()) - changedAt
    } finally {
      over.abort()
    }
    await producing
    const { lost, recordsGone } = await load.lost()
    load.report({ driver, how, lost: lost.length, recordsGone, tookMs })
    expect(tookMs).to.be.at.most(WITHIN_MS)
    all = lost
  })
  return all
}

/** The master and a producer beside it are cut off from everybody else: it acknowledges until it knows that no replica hears it. */
async function cutOff(driver: string, connect: Connect): Promise<void> {
  const minReplicas = ['--min-replicas-to-write', '1', '--min-replicas-max-lag', String(MAX_LAG_SECONDS)]
  await using group = await SentinelGroup.start({ behindProxy: true, args: minReplicas })
  const old = await group.master()
  await using load = new Load(connect(group.addresses), old)
  await load.run(async () => {
    const beside = load.open({ redisUrl: old.url })
    await copied(old)
    const cutAt = Date.now()
    group.proxy.swallow()
    group.proxy.hold()
    const over = new AbortController()
    const producing = load.produce(beside, over.signal)
    await group.changed(old)
    const tookMs = (await load.goesOn()) - cutAt
    // As a replica it forgets what it took alone
    group.proxy.release()
    await group.follows(old)
    over.abort()
    await producing
    const { lost, recordsGone } = await load.lost()
    const alone = new Map([...load.acknowledged].filter(([, { by }]) => by === beside))
    const acknowledgedForMs = Math.max(...[...alone.values()].map(({ at }) => at - cutAt))
    const figures = { lost: lost.length, recordsGone, tookMs, acknowledgedAlone: alone.size, acknowledgedForMs }
    load.report({ driver, how: 'cut off with a producer', ...figures })
    expect(tookMs).to.be.at.most(WITHIN_MS)
    expect(acknowledgedForMs).to.be.at.most(ACKNOWLEDGES_AT_MOST_MS)
    expect(lost, 'the fault bit nobody').to.not.deep.equal([])
    expect(lost.filter((id) => !alone.has(id))).to.deep.equal([])
    expect(load.refused).to.be.above(0)
  })
}

/** Resolves when both replicas have what this server was told so far. */
async function copied({ url }: RedisServer): Promise<void> {
  const client = new Redis(url)
  try {
    // It waits for what its own connection wrote.
    await client.set('spec:copied', '1')
    expect(await client.wait(2, 10_000)).to.equal(2)
  } finally {
    client.disconnect()
  }
}

describe('Faults: sentinels', function () {
  this.timeout(300_000)

  for (const [driver, connect] of Object.entries(DRIVERS)) {
    nightlyRow(
      `change the master in order: workers go on within 30 s, nothing is lost, with ${driver} (F19)`,
      async () => {
        expect(await failover(driver, 'in order', connect, inOrder)).to.deep.equal([])
      },
    )

    nightlyRow(`replace a master that was killed: workers go on within 30 s, with ${driver} (F19)`, async () => {
      await failover(driver, 'SIGKILL', connect, (_, master) => master.kill('SIGKILL'))
    })

    nightlyRow(
      `replace one that is cut off with a producer, which loses only what it acknowledged alone, with ${driver} (F19)`,
      async () => await cutOff(driver, connect),
    )

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
