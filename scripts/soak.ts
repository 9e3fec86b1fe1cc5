/**
 * Hours in minutes: `[FAULTS_SEED=1] npm run soak -- --minutes 30 [--rate 200]`. A steady load of tasks, of which some are delayed, some fail
 * and some kill their process; a fault every 30 s; a reader that pages through all records; short retention. At the end the
 * verdict of the fault table, and what must not grow: memory, connections, keys, consumers, waiting times.
 * Writes soak.json and a summary; limits on slopes hold from 30 minutes on, as below that they are noise.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { StorageUnavailableError } from '../lib/index.ts'
import { percentile } from '../spec/faults/support/figures.ts'
import { FaultRun } from '../spec/faults/support/fault-run.ts'
import type { WorkerProcess } from '../spec/faults/support/fault-run.ts'
import { SEED } from '../spec/faults/support/rows.ts'
import { stopAllRedisServers } from '../spec/support/redis-server.ts'

const { values: options } = parseArgs({
  options: { minutes: { type: 'string', default: '30' }, rate: { type: 'string', default: '200' } },
})
const minutes = Number(options.minutes)
const rate = Number(options.rate)
const RETENTION_SECONDS = 60
const FAULT_EVERY_MS = 30_000
const SAMPLE_EVERY_MS = 10_000
const TURN_MS = 100

interface Sample {
  readonly minute: number
  readonly rssMb: number
  readonly ownRssMb: number
  readonly handles: number
  /** Of the server, but for what it lends to its clients and the counts by minute. */
  readonly usedMemoryMb: number
  /** The counts by minute: some more with each minute, for 25 hours. */
  readonly countsKb: number
  readonly clients: number
  readonly keys: number
  readonly records: number
  readonly entries: number
  readonly open: number
  readonly consumers: number
}

/** Megabytes that a process keeps; Linux tells them. */
function rssMbOf(pid: number): number {
  const kilobytes = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes ?? NaN) / 1_024
}

/** What the counts by minute take on the server, from the minute of the start on. */
async function countsBytes({ redis, keys }: FaultRun, startedAt: number): Promise<number> {
  const first = Math.floor(startedAt / 60_000)
  const minutes = Array.from({ length: Math.floor(Date.now() / 60_000) - first + 1 }, (_, index) => first + index)
  const sizes = await Promise.all(
    minutes.map((minute) => redis.call('MEMORY', 'USAGE', keys.stats(minute), 'SAMPLES', '0')),
  )
  return sizes.reduce<number>((sum, size) => sum + Number(size ?? 0), 0)
}

/** Least squares: by how much it grows in an hour. */
function slopePerHour(samples: readonly Sample[], of: (sample: Sample) => number): number {
  const count = samples.length
  const meanX = samples.reduce((sum, { minute }) => sum + minute, 0) / count
  const meanY = samples.reduce((sum, sample) => sum + of(sample), 0) / count
  const above = samples.reduce((sum, sample) => sum + (sample.minute - meanX) * (of(sample) - meanY), 0)
  const below = samples.reduce((sum, { minute }) => sum + (minute - meanX) ** 2, 0)
  return (above / below) * 60
}

const rounded = (value: number): number => Number(value.toFixed(2))

async function soak(run: FaultRun): Promise<boolean> {
  const orders = { backend: { ...run.backendOptions(), completedTaskTtlSeconds: RETENTION_SECONDS } }
  /** Neither fault nor fatal task hits it, so that its memory is one process's from the beginning to the end. */
  const steady = await run.spawn({ ...orders, collectsGarbage: true, worker: { queues: ['default'] } })
  const others: WorkerProcess[] = [await run.spawn(orders), await run.spawn(orders)]
  const startedAt = Date.now()
  const endsAt = startedAt + minutes * 60_000
  const isOver = (): boolean => Date.now() >= endsAt
  const faults: Record<string, number> = {}
  const samples: Sample[] = []
  let refused = 0
  let pages = 0

  const produce = async (): Promise<void> => {
    const perTurn = Math.max(1, Math.round((rate * TURN_MS) / 1_000))
    while (!isOver()) {
      const turnAt = Date.now()
      const batches: Record<'work' | 'delayed' | 'throw' | 'kill', number[][]> = {
        work: [],
        delayed: [],
        throw: [],
        kill: [],
      }
      for (let count = 0; count < perTurn; count += 1) {
        const dice = run.random()
        const kind = dice < 0.001 ? 'kill' : dice < 0.021 ? 'throw' : dice < 0.121 ? 'delayed' : 'work'
        batches[kind].push([Math.floor(run.random() * 10)])
      }
      for (const [kind, lists] of Object.entries(batches)) {
        if (lists.length === 0) continue
        const delayed = kind === 'delayed'
        try {
          const name = delayed ? 'work' : kind
          const queueName = kind === 'kill' ? 'fatal' : 'default'
          await run.enqueue({ name, queueName, runAfter: delayed ? Date.now() + 2_000 : null }, lists)
        } catch (error) {
          if (!(error instanceof StorageUnavailableError)) throw error
          refused += lists.length
        }
      }
      await sleep(Math.max(1, TURN_MS - (Date.now() - turnAt)))
    }
  }

  const leaseMs = run.options.claimTimeoutSeconds * 1_000
  const hit: Readonly<Record<string, () => Promise<unknown>>> = {
    F1: async () => {
      const [victim] = others
      if (victim && !victim.hasEnded) await run.kill(victim)
    },
    F5: async () => {
      const victim = others.find(({ hasEnded }) => !hasEnded)
      await victim?.signal('SIGSTOP')
      await sleep(3 * leaseMs)
      await victim?.signal('SIGCONT')
    },
    F8: () => run.redis.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes'),
    F16: async () => {
      await run.server.kill('SIGSTOP')
      await sleep(0.4 * leaseMs)
      await run.server.kill('SIGCONT')
    },
    F23: () => run.redis.script('FLUSH'),
  }
  const disturb = async (): Promise<void> => {
    const names = Object.keys(hit)
    for (let turn = 0; ; turn += 1) {
      await sleep(Math.min(FAULT_EVERY_MS, Math.max(0, endsAt - Date.now())))
      if (isOver()) return
      const name = names[turn % names.length] ?? ''
      faults[name] = (faults[name] ?? 0) + 1
      await hit[name]?.()
    }
  }

  /** Whoever ended, by a fault or by its task, is started again, as a supervisor does. */
  let deaths = 0
  // Until the queues are empty, not only until the load ends: what kills its process may be among the last
  let isDrained = false
  const supervise = async (): Promise<void> => {
    while (!isDrained) {
      for (const [index, worker] of others.entries()) {
        if (!worker.hasEnded) continue
        deaths += 1
        if (!worker.expectedEnd) run.kills.push({ pid: worker.pid, at: worker.facts.at(-1)?.at ?? Date.now() })
        worker.expectedEnd = true
        others[index] = run.spawnNow(orders)
      }
      await sleep(200)
    }
  }

  const page = async (): Promise<void> => {
    let after: string | null = null
    while (!isOver()) {
      const answer: { records: readonly unknown[]; next: string | null } = await run.backend.records
        .filter({})
        .page({ size: 50, after })
        .catch(() => ({ records: [], next: null }))
      after = answer.next
      pages += 1
      await sleep(20)
    }
  }

  const sample = async (): Promise<void> => {
    while (!isOver()) {
      const info = await run.redis.info()
      const number = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? NaN)
      const { READY = 0, RUNNING = 0, SUCCESSFUL = 0, FAILED = 0 } = await run.counts()
      const stream = run.keys.stream('default', 'normal')
      const countBytes = await countsBytes(run, startedAt)
      const groups = (await run.redis.xinfo('GROUPS', stream).catch(() => [])) as unknown[][]
      const consumers = groups[0]?.[groups[0].indexOf('consumers') + 1]
      samples.push({
        minute: (Date.now() - startedAt) / 60_000,
        rssMb: steady.hasEnded ? NaN : rssMbOf(steady.pid),
        ownRssMb: process.memoryUsage.rss() / 1_048_576,
        handles: steady.hasEnded ? NaN : readdirSync(`/proc/${steady.pid}/fd`).length,
        usedMemoryMb: (number('used_memory') - number('mem_clients_normal') - countBytes) / 1_048_576,
        countsKb: countBytes / 1_024,
        clients: number('connected_clients'),
        keys: await run.redis.dbsize(),
        records: READY + RUNNING + SUCCESSFUL + FAILED,
        entries: await run.redis.xlen(stream),
        open: READY + RUNNING,
        consumers: Number(consumers ?? 0),
      })
      await sleep(Math.min(SAMPLE_EVERY_MS, Math.max(1, endsAt - Date.now())))
    }
  }

  const supervising = supervise()
  await Promise.all([produce(), disturb(), page(), sample()])
  try {
    await run.drained(120_000)
  } finally {
    isDrained = true
    await supervising
  }
  steady.expectedEnd = steady.hasEnded
  // Retention goes on for as long as one of them works
  await run.stopWorkers()

  const left = new Set<string>()
  for await (const { id } of run.backend.records.filter({})) left.add(id)
  const begunIds = new Set(run.facts('begun').map(({ id }) => id))
  for (const id of [...run.acknowledged]) {
    // Retention has taken it; that it began is what is left to know
    if (!left.has(id) && begunIds.has(id)) {
      run.acknowledged.delete(id)
      run.unsure.add(id)
    }
  }
  const nobodyThereMs = Math.max(...run.workers.map(({ startMs }) => startMs))
  const acknowledged = run.acknowledged.size + run.unsure.size
  const verdict = await run.verdict()

  const after = samples.filter(({ minute }) => minute >= Math.min(10, minutes / 3))
  const waits = verdict.waitsMs
  const tenth = (part: number): number => {
    const slice = waits.slice(Math.floor((waits.length * part) / 10), Math.floor((waits.length * (part + 1)) / 10))
    return percentile(
      slice.toSorted((a, b) => a - b),
      0.99,
    )
  }
  const spread = (of: (each: Sample) => number): number => Math.max(...after.map(of)) - Math.min(...after.map(of))
  const meanMemory = after.reduce((sum, { usedMemoryMb }) => sum + usedMemoryMb, 0) / after.length
  const figures = {
    minutes,
    rate,
    seed: SEED,
    acknowledged,
    refused,
    executed: verdict.begun.length,
    lost: verdict.lost.length,
    duplicates: verdict.duplicates,
    deaths,
    faults,
    pages,
    rssSlopeMbPerHour: rounded(slopePerHour(after, ({ rssMb }) => rssMb)),
    redisMemorySlopePercentPerHour: rounded(
      (slopePerHour(after, ({ usedMemoryMb }) => usedMemoryMb) / meanMemory) * 100,
    ),
    countsKbPerHour: rounded(slopePerHour(after, ({ countsKb }) => countsKb)),
    handlesSpread: spread(({ handles }) => handles),
    clientsSpread: spread(({ clients }) => clients),
    keysPerRecord: rounded(Math.max(...after.map(({ keys, records }) => keys / Math.max(1, records)))),
    entriesBeyondOpen: Math.max(...after.map(({ entries, open }) => entries - open)),
    consumers: Math.max(...after.map(({ consumers }) => consumers)),
    enqueueToBeginP99Ms: { secondTenth: tenth(1), lastTenth: tenth(9) },
    samples,
  }
  const allowed = {
    duplicates:
      (deaths + (faults['F5'] ?? 0) + (faults['F8'] ?? 0) + (faults['F16'] ?? 0)) * 3 * run.options.concurrency,
    uncounted: true,
    forgotten: true,
    unplannedEnds: run.workers.length,
    nobodyThereMs,
  }
  const problems: string[] = []
  try {
    const { samples: _samples, ...shown } = figures
    verdict.assert('soak', allowed, shown)
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error))
  }
  const must = (holds: boolean, what: string): void => {
    if (!holds) problems.push(what)
  }
  must(figures.entriesBeyondOpen <= 50, `entries beyond what waits or runs: ${figures.entriesBeyondOpen}`)
  must(figures.consumers <= 2 * run.workers.length, `consumers: ${figures.consumers}`)
  if (minutes >= 30) {
    const { secondTenth, lastTenth } = figures.enqueueToBeginP99Ms
    must(
      lastTenth <= 1.2 * secondTenth + 5,
      `enqueue to begin, p99: ${secondTenth} ms at first, ${lastTenth} ms at last`,
    )
    must(figures.rssSlopeMbPerHour < 8, `memory of a worker grows by ${figures.rssSlopeMbPerHour} MB/h`)
    must(
      Math.abs(figures.redisMemorySlopePercentPerHour) <= 2,
      `memory of the server: ${figures.redisMemorySlopePercentPerHour} %/h`,
    )
    must(figures.handlesSpread <= 5, `handles of a worker differ by ${figures.handlesSpread}`)
  }
  const file = fileURLToPath(new URL('../soak.json', import.meta.url))
  writeFileSync(file, `${JSON.stringify({ ...figures, problems }, null, 2)}\n`)
  for (const problem of problems) console.error(problem)
  return problems.length === 0
}

try {
  await using run = await FaultRun.start()
  if (!(await soak(run))) process.exitCode = 1
} finally {
  await stopAllRedisServers()
}
