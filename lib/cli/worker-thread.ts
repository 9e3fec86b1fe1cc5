/**
 * One thread of --workers: an event loop, connections and a registry of tasks of its own. Imports the user's config and modules,
 * runs workers as the main thread grants tasks, and tells it everything; prints nothing, hears no signal.
 * Steps: import, connect, "ready"; then work until idle, out of grants or told to stop; then "done", close, end.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { StorageUnavailableError } from '../errors.ts'
import { cleanFacts, cleanText, LOG_LEVELS } from '../logger.ts'
import type { Logger, LogLevel } from '../logger.ts'
import { isDamaged } from '../storage/storage.ts'
import type { ServerFacts } from '../storage/storage.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import { readError } from '../task-result.ts'
import type { TaskResult } from '../task-result.ts'
import { Worker } from '../worker.ts'
import { failureOf } from './failure.ts'
import { load, openBackend } from './settings.ts'
import type { Loaded } from './settings.ts'
import type { DoneMessage, MainMessage, Orders, Place, SettledItem, ThreadMessage, Warning } from './thread-messages.ts'

/** How often a storage that is away is asked whether it is back. */
const STORAGE_PROBE_MS = 1_000
/** Streams and consumer groups came with it. */
const OLDEST_SERVER = 5

type Post = (message: ThreadMessage) => void

/** What one import of the user's files brought. */
interface Opened extends Loaded {
  readonly backend: TaskBackend
}

/** What the main thread may see, at the levels it asked for. Outages are told once, by the storage watch, not once a retry. */
function threadLogger(post: Post, lowest: LogLevel | 'silent'): Logger {
  const from = lowest === 'silent' ? LOG_LEVELS.length : LOG_LEVELS.indexOf(lowest)
  const logAt =
    (level: LogLevel) =>
    (facts: object, message: string): void => {
      const isOutage = 'role' in facts || ('code' in facts && facts.code === 'ERR_TASKS_STORAGE_UNAVAILABLE')
      const shown = isOutage ? 'debug' : level
      if (LOG_LEVELS.indexOf(shown) < from) return
      post({ type: 'log', level: shown, facts: cleanFacts(facts), message: cleanText(message) })
    }
  return { debug: logAt('debug'), info: logAt('info'), warn: logAt('warn'), error: logAt('error') }
}

async function open(
  { cwd, sources, backendName }: Place,
  logger: Logger,
  post: Post,
  configOnly = false,
): Promise<Opened> {
  const onImport = (file: string): void => post({ type: 'importing', file })
  const loaded = await load(sources, { cwd, logger, onImport, configOnly })
  return { ...loaded, backend: openBackend(backendName, logger, loaded) }
}

class WorkingThread {
  readonly #orders: Extract<Orders, { role: 'work' }>
  readonly #port: MessagePort
  readonly #logger: Logger
  #worker: Worker | undefined
  /** The drain time of the latest stop; undefined = go on. */
  #stopping: number | undefined
  #handedBack = 0
  /** Attempts begun by the present worker. */
  #begun = 0
  #granted: ((maxTasks: number) => void) | undefined
  #settled: SettledItem[] = []
  #isStorageUp = true
  #probe: ReturnType<typeof systemClock.setTimeout> | undefined

  constructor(orders: Extract<Orders, { role: 'work' }>, port: MessagePort) {
    this.#orders = orders
    this.#port = port
    this.#logger = threadLogger((message) => this.#post(message), orders.place.logLevel)
  }

  async run(): Promise<void> {
    const { place } = this.#orders
    const opened = await open(place, this.#logger, (message) => this.#post(message))
    const { backend } = opened
    const server = await backend.storage.connect()
    // Only now: a listener keeps the thread alive, and an import that never ends must not.
    this.#port.on('message', (message: MainMessage) => this.#heard(message))
    let grant = this.#orders.granted
    let worker = this.#makeWorker(backend, grant)
    const { workerId } = worker
    const keyPrefix = keyPrefixOf(backend, opened)
    this.#post({
      ...{ type: 'ready', workerId, server, tasks: taskRegistry.names(), keyPrefix },
      warnings: warningsOf(server, opened),
    })
    backend.on('taskStarted', (result) => this.#tellStarted(result))
    while (this.#stopping === undefined) {
      await worker.run()
      if (this.#isStopping()) break
      if (this.#begun < (grant ?? Infinity)) {
        const delayed = await this.#delayed(backend)
        if (delayed) return await this.#done(backend, { reason: 'idle', delayed })
        grant = grant === null ? null : grant - this.#begun
      } else {
        grant = await this.#more()
        if (grant === 0) return await this.#done(backend, { reason: 'limit', delayed: null })
      }
      worker = this.#makeWorker(backend, grant, workerId)
    }
    this.#handedBack = await worker.stop()
    await this.#done(backend, { reason: 'stopped', delayed: null })
  }

  #post(message: ThreadMessage): void {
    this.#port.postMessage(message)
  }

  #isStopping(): boolean {
    return this.#stopping !== undefined
  }

  #makeWorker(backend: TaskBackend, grant: number | null, workerId?: string): Worker {
    const worker = new Worker(backend, {
      ...this.#orders.settings,
      maxTasks: grant ?? 0,
      logger: this.#logger,
      workerId,
    })
    this.#begun = 0
    worker.on('settled', ({ error, ...event }) => {
      if (this.#settled.length === 0) queueMicrotask(() => this.#tellSettled(worker))
      this.#settled.push({ ...event, error: error === null ? null : readError(error) })
    })
    worker.on('error', (error) => {
      if (error instanceof StorageUnavailableError) this.#storageIsAway(backend, error)
    })
    this.#worker = worker
    return worker
  }

  #tellStarted({ id, name, workerIds }: TaskResult): void {
    // The user's code may run records by itself, under another worker id.
    if (workerIds.at(-1) !== this.#worker?.workerId) return
    this.#begun += 1
    // At once and one by one: the function that starts now may block this loop for good.
    this.#post({ type: 'started', id, name })
  }

  #tellSettled(worker: Worker): void {
    const items = this.#settled.splice(0).map(({ error, ...item }) => ({
      ...item,
      // Without stack: the record keeps it.
      error: error && { name: error.name, message: error.message },
    }))
    this.#post({ type: 'settled', items, running: worker.running })
  }

  #heard(message: MainMessage): void {
    if (message.type === 'grant') {
      this.#granted?.(message.maxTasks)
      return
    }
    this.#stopping = Math.min(this.#stopping ?? Infinity, message.drainTimeoutSeconds)
    this.#granted?.(0)
    // `run()` ends by it, and asks what was handed back.
    this.#worker?.stop({ drainTimeoutSeconds: this.#stopping }).catch((error: unknown) => {
      this.#logger.error({ error }, 'the worker could not be stopped')
    })
  }

  async #more(): Promise<number> {
    const answer = new Promise<number>((resolve) => (this.#granted = resolve))
    this.#post({ type: 'more' })
    return await answer
  }

  /** What waits for its time; undefined when something became due just now. */
  async #delayed(backend: TaskBackend): Promise<DoneMessage['delayed'] | undefined> {
    try {
      const { queues } = this.#orders.settings
      const { moved, dueInMs } = await backend.queue.promote(queues)
      if (moved > 0) return undefined
      const depths = await backend.queue.depth(queues)
      return { count: depths.reduce((total, { delayed }) => total + delayed, 0), dueInMs }
    } catch (error) {
      // It would be good to know, but the work is done.
      this.#logger.warn({ error }, 'how many tasks are delayed could not be asked')
      return { count: 0, dueInMs: null }
    }
  }

  async #done(backend: TaskBackend, rest: Pick<DoneMessage, 'reason' | 'delayed'>): Promise<void> {
    this.#isStorageUp = true
    if (this.#probe !== undefined) systemClock.clearTimeout(this.#probe)
    this.#post({ type: 'done', handedBack: this.#handedBack, ...rest })
    await backend.close()
  }

  // The storage watch

  #storageIsAway(backend: TaskBackend, error: StorageUnavailableError): void {
    if (!this.#isStorageUp) return
    this.#isStorageUp = false
    this.#post({ type: 'storage', isUp: false, reason: cleanText(error.message) })
    const probe = async (): Promise<void> => {
      try {
        await backend.storage.connect()
        if (this.#isStorageUp) return
        this.#isStorageUp = true
        this.#post({ type: 'storage', isUp: true, reason: '' })
      } catch {
        if (!this.#isStorageUp) later()
      }
    }
    const later = (): void => {
      this.#probe = systemClock.setTimeout(() => void probe(), STORAGE_PROBE_MS)
    }
    later()
  }
}

/** A backend may tell its prefix itself; that of the config file is known from there. */
function keyPrefixOf(backend: TaskBackend, { keyPrefixes }: Loaded): string | undefined {
  const own: unknown = 'keyPrefix' in backend ? backend.keyPrefix : undefined
  return typeof own === 'string' ? own : keyPrefixes.get(backend.alias)
}

function warningsOf({ kind, version }: ServerFacts, { overridden }: Loaded): Warning[] {
  const warnings: Warning[] = []
  if (taskRegistry.names().length === 0) {
    const message = 'no task is loaded: whatever is taken is handed back; name the modules that define your tasks'
    warnings.push({ code: 'WARN_TASKS_NO_TASK', message })
  }
  if (kind === 'memory') {
    const message = 'the memory backend keeps its tasks in this thread alone: no other process can enqueue into it'
    warnings.push({ code: 'WARN_TASKS_MEMORY_BACKEND', message })
  }
  if (kind === 'redis' && Number.parseInt(version, 10) < OLDEST_SERVER) {
    warnings.push({
      code: 'WARN_TASKS_OLD_SERVER',
      message: `Redis ${version} has no streams; 5.0 is the oldest that will do`,
    })
  }
  for (const alias of overridden) {
    const message = `REDIS_URL of the environment names the server of backend "${alias}", in place of the config file`
    warnings.push({ code: 'WARN_TASKS_REDIS_URL', message })
  }
  return warnings
}

/** Hands back the records that a worker had begun and is gone from, as that worker would have done. */
async function handBack({ place, orphans }: Extract<Orders, { role: 'hand-back' }>, post: Post): Promise<void> {
  const { backend } = await open(place, threadLogger(post, place.logLevel), post)
  let count = 0
  for (const { workerId, ids } of orphans) {
    const found = await backend.storage.find(ids)
    const leases = found.flatMap((record) => {
      if (!record || isDamaged(record) || record.status !== 'RUNNING' || record.workerIds.at(-1) !== workerId) return []
      return [{ id: record.id, token: record.leaseToken, entryId: record.entryId }]
    })
    for (let start = 0; start < leases.length; start += 100) {
      const words = await backend.queue.requeue(leases.slice(start, start + 100))
      count += words.filter((word) => word === 'REQUEUED').length
    }
  }
  post({ type: 'handed-back', count })
  await backend.close()
}

async function main(port: MessagePort, orders: Orders): Promise<void> {
  try {
    if (orders.role === 'work') await new WorkingThread(orders, port).run()
    else await handBack(orders, (message) => port.postMessage(message))
  } catch (error) {
    port.postMessage({ type: 'failed', failure: failureOf(error) } satisfies ThreadMessage)
  }
  // Ends this thread only. The user's modules may keep handles open that nobody closes.
  process.exit()
}

if (!isMainThread && parentPort) void main(parentPort, workerData as Orders)
