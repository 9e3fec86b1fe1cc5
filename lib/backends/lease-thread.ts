/**
 * The thread that renews leases: a LeaseKeeper with a connection of its own, away from the event loop that runs user code.
 * A task that blocks that loop for many lease times keeps its lease; a process that is frozen loses it, thread and all.
 * Runs in a worker thread only; main's side of it is threaded-leases.ts.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { TaskCancelledError } from '../errors.ts'
import type { Heartbeat, Lease } from '../storage/storage.ts'
import type { LossReason } from '../attempt.ts'
import { LeaseKeeper } from '../lease-keeper.ts'
import type { Renewer } from '../lease-keeper.ts'
import { openRedis } from '../storage/sharded/redis-shards.ts'
import { BlockWatch } from './block-watch.ts'
import type { Block } from './block-watch.ts'
import type { FromLeaseThread, LeaseThreadData, ToLeaseThread } from './threaded-leases.ts'

const { server, keyPrefix, alias, consumerGroup, shards, consumer, leaseMs, ticks } = workerData as LeaseThreadData
/** Between two heartbeats for a worker whose own loop is blocked. */
const BEAT_MS = 1_000

const say = (message: FromLeaseThread): void => parentPort?.postMessage(message)
const log =
  (level: 'debug' | 'info' | 'warn' | 'error') =>
  (facts: object, message: string): void => {
    const { error, ...rest } = facts as { error?: unknown }
    say({ log: level, facts: { ...rest, ...(error instanceof Error && { reason: error.message }) }, message })
  }
const logger = { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') }

const { storage } = openRedis({ server, keyPrefix, alias, consumerGroup, shards, logger })
const renewer: Renewer = {
  leaseMs,
  async renew(leases) {
    const sentAtMs = systemClock.monotonicMs()
    const words = await storage.renew(consumer, leaseMs, leases)
    say({ renewed: leases.filter((_, index) => words[index] === 'RENEWED'), sentAtMs })
    return words
  },
}
const keeper = new LeaseKeeper(renewer, systemClock, logger)

/** What the worker last said of itself; undefined where nothing does, as in a web process that runs tasks itself. */
let lastHeartbeat: Heartbeat['fields'] | undefined
let beatAtMs = -Infinity

/** The worker lives, and says what holds it up: its own loop cannot. */
function beatFor({ ms, tasks }: Block): void {
  const now = systemClock.monotonicMs()
  if (!lastHeartbeat || now - beatAtMs < BEAT_MS) return
  beatAtMs = now
  const fields = { ...lastHeartbeat, blockedMs: String(ms), blockedTasks: tasks.join(' ') }
  storage.heartbeat({ consumer, fields }).catch((error: unknown) => {
    logger.debug({ error }, 'a heartbeat for a blocked worker was not written; the next one is')
  })
}

const watch = new BlockWatch(ticks, systemClock, { lasts: beatFor, ended: (block) => say({ block }) })

const sayLost = (lost: Lease, reason: LossReason): void =>
  say({ lost, word: reason instanceof TaskCancelledError ? 'CANCELLED' : 'LOST' })

const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

parentPort?.on('message', ({ hold, release, stop, heartbeat }: ToLeaseThread) => {
  if (heartbeat) lastHeartbeat = heartbeat
  for (const lease of release) watch.ended(keyOf(lease))
  for (const { lease, name } of hold) watch.begun(keyOf(lease), `${name}/${lease.id}`)
  keeper.release(release)
  keeper.hold(hold.map((each) => ({ ...each, lose: (reason) => sayLost(each.lease, reason) })))
  if (!stop) return
  watch.stop()
  void keeper.stop()
  // Ends this thread alone, and at once: with the server away a driver's timers would keep it for two seconds more.
  void storage.close().then(() => process.exit())
})
say({ ready: true })
