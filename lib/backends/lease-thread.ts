/**
 * The thread that renews leases: a LeaseKeeper with a connection of its own, away from the event loop that runs user code.
 * A task that blocks that loop for many lease times keeps its lease; a process that is frozen loses it, thread and all.
 * What it keeps it finds in a table that the other loop writes, by looking at it from time to time.
 * Runs in a worker thread only; main's side of it is threaded-leases.ts.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { LossReason } from '../attempt.ts'
import { systemClock } from '../clock.ts'
import { TaskCancelledError } from '../errors.ts'
import { LeaseKeeper } from '../lease-keeper.ts'
import type { Renewer } from '../lease-keeper.ts'
import { loggerOf } from '../logger.ts'
import { openRedis } from '../storage/sharded/redis-shards.ts'
import type { Lease } from '../storage/storage.ts'
import { fieldsOf } from '../worker-report.ts'
import type { Block, WorkerReport } from '../worker-report.ts'
import { BlockWatch } from './block-watch.ts'
import { LeaseTableReader } from './lease-table.ts'
import type { FromLeaseThread, LeaseThreadData, ToLeaseThread } from './threaded-leases.ts'

const { server, keyPrefix, alias, consumerGroup, shards, consumer, leaseMs, ticks, pages, lookMs } =
  workerData as LeaseThreadData
/** Between two heartbeats for a worker whose own loop is blocked. */
const BEAT_MS = 1_000

const say = (message: FromLeaseThread): void => parentPort?.postMessage(message)
const logger = loggerOf((level, facts, message) => {
  const { error, ...rest } = facts as { error?: unknown }
  say({ log: level, facts: { ...rest, ...(error instanceof Error && { reason: error.message }) }, message })
})

const { storage } = openRedis({ server, keyPrefix, alias, consumerGroup, shards, logger })
const renewer: Renewer = {
  leaseMs,
  async renew(leases) {
    const sentAtMs = systemClock.monotonicMs()
    const words = await storage.renew(consumer, leaseMs, leases)
    // Settled since the last look, and LOST for that reason: nobody wants to hear of it.
    look()
    say({ renewed: leases.filter((_, index) => words[index] === 'RENEWED'), sentAtMs })
    return words
  },
}
const keeper = new LeaseKeeper(renewer, systemClock, logger)

/** What the worker last said of itself; undefined where nothing does, as in a web process that runs tasks itself. */
let lastReport: WorkerReport | undefined
let beatAtMs = -Infinity

/** The worker lives, and says what holds it up: its own loop cannot. */
function beatFor(block: Block): void {
  const now = systemClock.monotonicMs()
  if (!lastReport || now - beatAtMs < BEAT_MS) return
  beatAtMs = now
  storage.heartbeat({ consumer, fields: fieldsOf({ ...lastReport, block }) }).catch((error: unknown) => {
    logger.debug({ error }, 'a heartbeat for a blocked worker was not written; the next one is')
  })
}

const watch = new BlockWatch(ticks, systemClock, { lasts: beatFor, ended: (block) => say({ block }) })

const sayLost = (lost: Lease, reason: LossReason): void =>
  say({ lost, word: reason instanceof TaskCancelledError ? 'CANCELLED' : 'LOST' })

const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

const table = new LeaseTableReader(pages)

/** Takes over what changed in the table. */
function look(): void {
  const { held, released } = table.look()
  for (const lease of released) watch.ended(keyOf(lease))
  for (const { lease, name } of held) watch.begun(keyOf(lease), `${name}/${lease.id}`)
  keeper.release(released)
  keeper.hold(held.map((each) => ({ ...each, lose: (reason) => sayLost(each.lease, reason) })))
}

// Also while nothing is held: some 0.1 ms of CPU each, 0.04 % of a core at four a second (Node 20, 2 x EPYC). To sleep and be woken
// by the first attempt would cost that one a message, and a lease whenever the two threads misunderstood each other.
const looking = setInterval(look, lookMs)

parentPort?.on('message', (message: ToLeaseThread) => {
  if ('report' in message) {
    lastReport = message.report
  } else if ('stop' in message) {
    clearInterval(looking)
    watch.stop()
    void keeper.stop()
    // Ends this thread alone, and at once: with the server away a driver's timers would keep it for two seconds more.
    void storage.close().then(() => process.exit())
  } else {
    if ('page' in message) table.addPage(message.page)
    look()
  }
})
look()
say({ ready: true })
