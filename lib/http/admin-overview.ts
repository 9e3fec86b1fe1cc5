/**
 * The overview: counts, ages, rates and heartbeats of one backend, and what is wrong in plain words.
 * Everything is read from the index, the heads of streams, the counts by minute and the heartbeats: no records.
 */
import { TASK_STATUSES } from '../task-status.ts'
import type { Cell } from '../storage/storage.ts'
import type { TaskStatus } from '../task-status.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { count, counted, duration, share } from './admin-format.ts'
import { statusModel } from './admin-models.ts'
import type { StatusModel } from './admin-models.ts'
import { bareView, queryText } from './admin-view.ts'
import { perQueue, percentilesOf } from './admin-stats.ts'
import { serverWarnings, warningsOf } from './admin-warnings.ts'
import type { Warning } from './admin-warnings.ts'
import { factsOf } from './admin-workers.ts'
import { percentilesChart, queuesChart, sparkline, throughputChart } from './charts.ts'

const MINUTES = 60
const CHARTED_QUEUES = 12
const LISTED_QUEUES = 200

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
  readonly counts: readonly {
    readonly status: StatusModel
    readonly count: string
    readonly href: string
    readonly note: string
  }[]
  readonly total: number
  readonly warnings: readonly Warning[]
  readonly queues: readonly QueueRow[]
  readonly queuesLeftOut: number
  readonly workers: { readonly live: number; readonly text: string; readonly slots: string; readonly href: string }
  readonly throughput: string
  readonly throughputRows: readonly { readonly at: string; readonly successful: string; readonly failed: string }[]
  readonly hasStats: boolean
  /** Since when what ended is counted. */
  readonly countedSince: string
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
  const percentiles = percentilesOf(stats)
  const charted = [...bars]
    .sort((a, b) => b.waiting + b.delayed + b.running - (a.waiting + a.delayed + a.running))
    .slice(0, CHARTED_QUEUES)
  const slots = live.reduce((sum, { report }) => sum + report.concurrency, 0)
  const busy = live.reduce((sum, { report }) => sum + report.running, 0)
  const delayed = bars.reduce((sum, bar) => sum + bar.delayed, 0)
  const oldest = Math.max(...waits.map((wait) => wait ?? -1), -1)
  const ended = minutes.reduce((sum, { successful, failed }) => sum + successful + failed, 0)
  const failures = minutes.reduce((sum, { failed }) => sum + failed, 0)
  const lately = minutes.slice(-1 - RATE_MINUTES, -1).reduce((sum, { successful }) => sum + successful, 0)
  const run = percentiles.find(({ name }) => name === 'Run')
  const notes: Readonly<Record<TaskStatus, string>> = {
    READY: [
      ...(oldest >= 0 ? [`oldest waits ${duration(oldest)}`] : []),
      ...(delayed > 0 ? [`${count(delayed)} delayed`] : []),
    ].join(', '),
    RUNNING: run ? `half took less than ${duration(run.p50)}` : '',
    SUCCESSFUL: ended > 0 ? `${(lately / RATE_MINUTES).toFixed(1)} a minute` : '',
    FAILED: ended > 0 ? `${share(failures, ended)} of the last hour` : '',
  }
  return {
    ...frame(context, { title: 'Overview', section: 'overview', live: true, notice: null }),
    counts: TASK_STATUSES.map((status) => ({
      note: notes[status],
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
      slots: live.length === 0 ? 'none was heard of' : `${count(busy)} of ${count(slots)} slots in use`,
      href: `${base}/workers${queryText(bare)}`,
    },
    throughput: throughputChart('throughput', minutes),
    throughputRows: minutes
      .filter(({ successful, failed }, index) => successful + failed > 0 || index === minutes.length - 1)
      .map(({ label, successful, failed }) => ({ at: label, successful: count(successful), failed: count(failed) })),
    countedSince: `${minutes[0]?.label ?? ''} UTC`,
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
