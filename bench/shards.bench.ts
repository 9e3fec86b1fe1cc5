/**
 * One question: what do shards cost and bring, on one server and on a cluster of three masters?
 * Usage: node --import tsx bench/shards.bench.ts [tasks, default 5000] [rounds, default 3]
 */
import { Cluster, Redis } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'
import { RedisTaskBackend, task, Worker } from '../dist/index.js'
import { eventually } from '../spec/support/eventually.ts'
import { RedisCluster } from '../spec/support/redis-cluster.ts'
import { startRedisServer } from '../spec/support/redis-server.ts'
import { printMachine, spreadOf } from './support/report.ts'

const COUNTS = [1, 3, 6]
const BATCH = 1_000
const CONCURRENCY = 100
const LATENCIES = 50
const IDLE_MS = 5_000
const count = Number(process.argv[2] ?? 5_000)
const rounds = Number(process.argv[3] ?? 3)
const nothing = task('nothing', () => null)

interface Place {
  readonly name: string
  readonly nodes: readonly Redis[]
  open(shards: number, keyPrefix: string): RedisTaskBackend
}

interface Row {
  readonly enqueuedPerSecond: number
  readonly processedPerSecond: number
  /** Of all nodes together, and of this process: microseconds of processor a task, stored and run. */
  readonly serverMicros: number
  readonly ownMicros: number
  readonly latencyMs: number
  readonly idleCommandsPerSecond: number
  readonly connections: number
}

const connectionsAtFirst = new Map<Place, number>()

async function sumOf(nodes: readonly Redis[], section: string, pattern: RegExp): Promise<number> {
  const texts = await Promise.all(nodes.map((node) => node.info(section)))
  return texts.flatMap((text) => [...text.matchAll(pattern)]).reduce((sum, [, value]) => sum + Number(value), 0)
}

const serverSeconds = (nodes: readonly Redis[]): Promise<number> =>
  sumOf(nodes, 'cpu', /^used_cpu_(?:user|sys):(\S+)/gm)
const commands = (nodes: readonly Redis[]): Promise<number> =>
  sumOf(nodes, 'stats', /^total_commands_processed:(\d+)/gm)
const clients = (nodes: readonly Redis[]): Promise<number> => sumOf(nodes, 'clients', /^connected_clients:(\d+)/gm)

async function measure(place: Place, shards: number, round: number): Promise<Row> {
  const { nodes } = place
  // What the case before had open is closed behind its back.
  const before = connectionsAtFirst.get(place) ?? (await clients(nodes))
  connectionsAtFirst.set(place, before)
  await eventually(async () => (await clients(nodes)) <= before, { timeoutMs: 30_000 })
  const backend = place.open(shards, `bench-${shards}-${round}`)
  await backend.enqueueMany(nothing, [[]])
  const ownAt = process.cpuUsage()
  const serverAt = await serverSeconds(nodes)
  let start = performance.now()
  for (let done = 0; done < count; done += BATCH) {
    await backend.enqueueMany(
      nothing,
      Array.from({ length: Math.min(BATCH, count - done) }, () => []),
    )
  }
  const enqueuedPerSecond = (count / (performance.now() - start)) * 1_000
  const worker = new Worker(backend, { concurrency: CONCURRENCY })
  start = performance.now()
  const idle = new Promise<void>((resolve) => worker.once('idle', () => resolve()))
  await worker.start()
  await idle
  const processedPerSecond = (count / (performance.now() - start)) * 1_000
  const own = process.cpuUsage(ownAt)
  const serverMicros = (((await serverSeconds(nodes)) - serverAt) * 1e6) / count
  const latencies: number[] = []
  for (let each = 0; each < LATENCIES; each += 1) {
    await sleep(10)
    const settled = new Promise<void>((resolve) => worker.once('settled', () => resolve()))
    const sentAt = performance.now()
    await backend.enqueue(nothing, [])
    await settled
    latencies.push(performance.now() - sentAt)
  }
  const commandsAt = await commands(nodes)
  await sleep(IDLE_MS)
  const idleCommandsPerSecond = ((await commands(nodes)) - commandsAt - nodes.length) / (IDLE_MS / 1_000)
  const connections = (await clients(nodes)) - before
  await worker.stop()
  await backend.close()
  const ownMicros = (own.user + own.system) / count
  const { median: latencyMs } = spreadOf(latencies)
  return {
    enqueuedPerSecond,
    processedPerSecond,
    serverMicros,
    ownMicros,
    latencyMs,
    idleCommandsPerSecond,
    connections,
  }
}

await using server = await startRedisServer()
await using cluster = await RedisCluster.start()
printMachine(`${server.product} ${server.version}`)
const one = new Redis(server.url)
const options = { alias: 'bench', queues: [] }
const places: readonly Place[] = [
  {
    name: 'one server',
    nodes: [one],
    open: (shards, keyPrefix) => new RedisTaskBackend({ ...options, keyPrefix, shards, redisUrl: server.url }),
  },
  {
    name: 'three masters',
    nodes: cluster.masters.map(({ redis }) => redis),
    open: (shards, keyPrefix) => {
      const client = new Cluster(cluster.startNodes, { lazyConnect: true })
      return new RedisTaskBackend({ ...options, keyPrefix, shards, client })
    },
  },
]
const cases = places.flatMap((place) => COUNTS.map((shards) => ({ place, shards, rows: [] as Row[] })))
for (let round = 0; round < rounds; round += 1) {
  // The other way round each time: what a machine does meanwhile hits each of them alike.
  for (const each of round % 2 === 0 ? cases : cases.toReversed()) {
    each.rows.push(await measure(each.place, each.shards, round))
  }
}
console.log(
  `${count} tasks that do nothing, concurrency ${CONCURRENCY}, batches of ${BATCH}; medians of ${rounds} rounds\n`,
)
const head = ['', 'shards', 'enqueue/s', 'process/s', 'server us', 'own us', 'latency ms', 'idle cmd/s', 'connections']
console.log(head.map((text, index) => text.padEnd(index === 0 ? 14 : 12)).join(''))
for (const { place, shards, rows } of cases) {
  const median = (of: (row: Row) => number): number => spreadOf(rows.map(of)).median
  const cells = [
    ...[place.name, String(shards), median((row) => row.enqueuedPerSecond).toFixed(0)],
    ...[median((row) => row.processedPerSecond).toFixed(0), median((row) => row.serverMicros).toFixed(0)],
    ...[median((row) => row.ownMicros).toFixed(0), median((row) => row.latencyMs).toFixed(2)],
    ...[median((row) => row.idleCommandsPerSecond).toFixed(1), median((row) => row.connections).toFixed(0)],
  ]
  console.log(cells.map((text, index) => text.padEnd(index === 0 ? 14 : 12)).join(''))
}
one.disconnect()
console.log(
  '\nCaveats: servers, producer and worker share one machine, persistence off. Where they share a few cores, three masters cannot be faster than one: look at the microseconds.',
)
