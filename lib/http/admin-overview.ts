/**
 * The overview: counts, ages, rates and heartbeats of one backend, and what is wrong in plain words.
 * Everything is read from the index, the heads of streams, the counts by minute and the heartbeats: no records.
 */
import { StorageUnfitError } from '../errors.ts'
import type { MinuteOfStats } from '../storage/storage.ts'
import { TASK_STATUSES } from '../task-status.ts'
import type { Cell } from '../storage/storage.ts'
import type { TaskStatus } from '../task-status.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { count, counted, duration, share } from './admin-format.ts'
import { statusModel } from './admin-models.ts'
import type { StatusModel } from './admin-models.ts'
import { bareView, queryText } from './admin-view.ts'
import { factsOf, knows, serves } from './admin-workers.ts'
import type { WorkerFacts } from './admin-workers.ts'
import { percentilesChart, queuesChart, sparkline, throughputChart } from './charts.ts'

const MINUTES = 60
const CHARTED_QUEUES = 12
const LISTED_QUEUES = 200

export interface Warning {
  readonly title: string
  readonly text: string
  readonly href: string | null
  readonly cure: string
}

export interface QueueRow {
  readonly name: string
  readonly href: string
  readonly waiting: string
  readonly delayed: string
  readonly running: string
  readonly failed: string
  readonly failedHref: string
  readonly oldest: string
  readonly isOld: boolean
  readonly perMinute: string
  readonly failedShare: string
  readonly spark: string
}

export interface OverviewModel extends FrameModel {
  readonly counts: readonly { readonly status: StatusModel; readonly count: string; readonly href: string }[]
  readonly total: number
  readonly warnings: readonly Warning[]
  readonly queues: readonly QueueRow[]
  readonly queuesLeftOut: number
  readonly workers: { readonly live: number; readonly text: string; readonly slots: string; readonly href: string }
  readonly throughput: string
  readonly throughputRows: readonly { readonly at: string; readonly successful: string; readonly failed: string }[]
  readonly hasStats: boolean
  readonly queuesChart: string
  readonly queueBars: readonly {
    readonly name: string
    readonly waiting: string
    readonly delayed: string
    readonly running: string
  }[]
  readonly times: string
  readonly timesRows: readonly {
    readonly name: string
    readonly p50: string
    readonly p95: string
    readonly p99: string
  }[]
}

interface Sums {
  readonly byStatus: Readonly<Record<TaskStatus, number>>
  readonly byQueue: ReadonlyMap<string, Record<TaskStatus, number>>
  readonly ready: readonly { readonly queueName: string; readonly name: string; readonly count: number }[]
}

const zeros = (): Record<TaskStatus, number> => ({ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })

async function readSums({ backend }: AdminContext, catalog: { tasks: readonly Omit<Cell, 'status'>[] }): Promise<Sums> {
  const cells = catalog.tasks.flatMap((task) => TASK_STATUSES.map((status): Cell => ({ ...task, status })))
  const counts = cells.length === 0 ? [] : await backend.storage.count(cells)
  const byStatus = zeros()
  const byQueue = new Map<string, Record<TaskStatus, number>>()
  const ready: { queueName: string; name: string; count: number }[] = []
  cells.forEach(({ queueName, name, status }, index) => {
    const cellCount = counts[index] ?? 0
    const queue = byQueue.get(queueName) ?? zeros()
    byQueue.set(queueName, queue)
    queue[status] += cellCount
    byStatus[status] += cellCount
    if (status === 'READY' && cellCount > 0) ready.push({ queueName, name, count: cellCount })
  })
  return { byStatus, byQueue, ready }
}

const NOBODY = 'Nobody runs these.'

/** What the start-up checks say of the server, each with its cure in brackets; also that it cannot serve at all. */
async function serverWarnings({ backend }: AdminContext): Promise<readonly Warning[]> {
  const warning = (message: string): Warning => {
    const [, text = message, cure = ''] = /^(.*) \(([^()]*)\)$/.exec(message) ?? []
    return { title: 'The server may lose tasks.', text: sentence(text), href: null, cure: sentence(cure) }
  }
  try {
    return (await backend.storage.connect()).warnings.map(({ message }) => warning(message))
  } catch (error) {
    if (!(error instanceof StorageUnfitError)) throw error
    // Its message names an address, which no page shows.
    const faults = {
      role: 'It is a replica or a sentinel, and takes no writes.',
      version: 'It is too old.',
      access: 'Its user is not permitted to do what tasks need.',
    }
    return [{ title: 'The server cannot serve.', text: faults[error.fault], href: null, cure: 'The log has more.' }]
  }
}

const sentence = (text: string): string => (text === '' ? '' : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`)

function warningsOf(
  context: AdminContext,
  { ready, byStatus }: Sums,
  workers: readonly WorkerFacts[],
): readonly Warning[] {
  const { base, view } = context
  const link = (queueName: string, name: string): string =>
    `${base}/tasks${queryText({ ...bareView(view), status: ['READY'], queue: [queueName], name: [name] })}`
  const live = workers.filter((worker) => worker.live)
  if (live.length === 0) {
    if (byStatus.READY === 0) return []
    return [
      {
        title: NOBODY,
        text: `${counted(byStatus.READY, 'record waits', 'records wait')}, and no worker was heard of in the last minute.`,
        href: null,
        cure: 'Start one: npx run-redis-tasks --continuous ./tasks.js',
      },
    ]
  }
  const title = NOBODY
  const missing = ready.flatMap(({ queueName, name, count: waiting }): Warning[] => {
    const here = live.filter((worker) => serves(worker, queueName))
    if (here.some((worker) => knows(worker, name))) return []
    const text = `${count(waiting)} ${waiting === 1 ? 'record' : 'records'} of “${name}” in queue “${queueName}”:`
    return here.length === 0
      ? [
          {
            title,
            text: `${text} no live worker serves this queue.`,
            href: link(queueName, name),
            cure: `Start one with --queue ${queueName}, or without --queue for all.`,
          },
        ]
      : [
          {
            title,
            text: `${text} no live worker knows this task.`,
            href: link(queueName, name),
            cure: 'Start a worker with the module that defines it.',
          },
        ]
  })
  return missing.slice(0, 10)
}

interface Totals {
  successful: number
  failed: number
}

function perQueue(stats: readonly MinuteOfStats[]): ReadonlyMap<string, readonly Totals[]> {
  const queues = new Map<string, Totals[]>()
  stats.forEach(({ counts }, index) => {
    for (const { queueName, kind, count: ended } of counts) {
      if (kind === 'wait') continue
      const minutes = queues.get(queueName) ?? stats.map(() => ({ successful: 0, failed: 0 }))
      queues.set(queueName, minutes)
      const minute = minutes[index]
      if (minute) minute[kind === 'FAILED' ? 'failed' : 'successful'] += ended
    }
  })
  return queues
}

/** The upper bound of the bucket below which a part of the times lies. */
function percentile(buckets: readonly number[], part: number): number {
  const total = buckets.reduce((sum, each) => sum + each, 0)
  let seen = 0
  for (const [bucket, each] of buckets.entries()) {
    seen += each
    if (seen >= total * part) return 2 ** bucket
  }
  return 1
}

function bucketsOf(stats: readonly MinuteOfStats[], wait: boolean): readonly number[] {
  const buckets = Array.from({ length: 25 }, () => 0)
  for (const { counts } of stats) {
    for (const { kind, bucket, count: ended } of counts)
      if ((kind === 'wait') === wait) buckets[bucket] = (buckets[bucket] ?? 0) + ended
  }
  return buckets
}

/** Five full minutes: long enough to be calm, short enough to be now. */
const RATE_MINUTES = 5

export async function overviewModel(context: AdminContext): Promise<OverviewModel> {
  const { backend, base, view } = context
  const { storage } = backend
  const [catalog, seen, stats, ofServer] = await Promise.all([
    storage.catalog(),
    storage.workers(),
    storage.stats(MINUTES),
    serverWarnings(context),
  ])
  const queueNames = [...catalog.queueNames].sort().slice(0, LISTED_QUEUES)
  const [sums, depths, waits] = await Promise.all([
    readSums(context, catalog),
    storage.depth(queueNames),
    storage.longestWait(queueNames),
  ])
  const workers = seen.map(factsOf)
  const live = workers.filter((worker) => worker.live)
  const bare = bareView(view)
  const link = (more: Partial<typeof bare>): string => `${base}/tasks${queryText({ ...bare, ...more })}`
  const byQueue = perQueue(stats)
  const bars = queueNames.map((name, index) => {
    const queue = sums.byQueue.get(name) ?? zeros()
    const delayed = Math.min(queue.READY, depths[index]?.delayed ?? 0)
    return { name, waiting: queue.READY - delayed, delayed, running: queue.RUNNING }
  })
  const rows = queueNames.map((name, index): QueueRow => {
    const queue = sums.byQueue.get(name) ?? zeros()
    const bar = bars[index] ?? { waiting: 0, delayed: 0, running: 0 }
    const minutes = byQueue.get(name) ?? stats.map(() => ({ successful: 0, failed: 0 }))
    const ended = minutes.map(({ successful, failed }) => successful + failed)
    const lately = minutes.slice(-1 - RATE_MINUTES, -1).reduce((sum, { successful }) => sum + successful, 0)
    const failures = minutes.reduce((sum, { failed }) => sum + failed, 0)
    const oldest = waits[index] ?? null
    return {
      name,
      href: link({ queue: [name] }),
      waiting: count(bar.waiting),
      delayed: count(bar.delayed),
      running: count(bar.running),
      failed: count(queue.FAILED),
      failedHref: link({ queue: [name], status: ['FAILED'] }),
      oldest: oldest === null ? '–' : duration(oldest),
      isOld: (oldest ?? 0) > 600_000,
      perMinute: (lately / RATE_MINUTES).toFixed(1),
      failedShare: share(
        failures,
        ended.reduce((sum, each) => sum + each, 0),
      ),
      spark: sparkline(`spark-${index}`, name, ended),
    }
  })
  const minutes = stats.map(({ from }, index) => {
    const total = [...byQueue.values()].map((each) => each[index] ?? { successful: 0, failed: 0 })
    return {
      label: new Date(from).toISOString().slice(11, 16),
      successful: total.reduce((sum, { successful }) => sum + successful, 0),
      failed: total.reduce((sum, { failed }) => sum + failed, 0),
    }
  })
  const measures = [
    { name: 'Wait', buckets: bucketsOf(stats, true) },
    { name: 'Run', buckets: bucketsOf(stats, false) },
  ].filter(({ buckets }) => buckets.some((each) => each > 0))
  const percentiles = measures.map(({ name, buckets }) => ({
    name,
    p50: percentile(buckets, 0.5),
    p95: percentile(buckets, 0.95),
    p99: percentile(buckets, 0.99),
  }))
  const charted = [...bars]
    .sort((a, b) => b.waiting + b.delayed + b.running - (a.waiting + a.delayed + a.running))
    .slice(0, CHARTED_QUEUES)
  const slots = live.reduce((sum, { seen: { fields } }) => sum + (Number(fields['concurrency']) || 0), 0)
  const busy = live.reduce((sum, { seen: { fields } }) => sum + (Number(fields['running']) || 0), 0)
  return {
    ...frame(context, { title: 'Overview', section: 'overview', live: true, notice: null }),
    counts: TASK_STATUSES.map((status) => ({
      status: statusModel(status, null, 0),
      count: count(sums.byStatus[status]),
      href: link({ status: [status] }),
    })),
    total: TASK_STATUSES.reduce((sum, status) => sum + sums.byStatus[status], 0),
    warnings: [...ofServer, ...warningsOf(context, sums, workers)],
    queues: rows,
    queuesLeftOut: catalog.queueNames.length - queueNames.length,
    workers: {
      live: live.length,
      text: counted(live.length, 'live worker'),
      slots: `${count(busy)} of ${count(slots)} slots in use`,
      href: `${base}/workers${queryText(bare)}`,
    },
    throughput: throughputChart('throughput', minutes),
    throughputRows: minutes
      .filter(({ successful, failed }, index) => successful + failed > 0 || index === minutes.length - 1)
      .map(({ label, successful, failed }) => ({ at: label, successful: count(successful), failed: count(failed) })),
    hasStats: minutes.some(({ successful, failed }) => successful + failed > 0),
    queuesChart: queuesChart('queues', charted),
    queueBars: charted.map(({ name, waiting, delayed, running }) => ({
      name,
      waiting: count(waiting),
      delayed: count(delayed),
      running: count(running),
    })),
    times: percentiles.length === 0 ? '' : percentilesChart('times', percentiles),
    timesRows: percentiles.map(({ name, p50, p95, p99 }) => ({
      name,
      p50: duration(p50),
      p95: duration(p95),
      p99: duration(p99),
    })),
  }
}
