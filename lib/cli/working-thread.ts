/**
 * A thread that works: runs workers as the main thread grants tasks, and tells it everything. Prints nothing, hears no signal.
 * Steps: connect, "ready"; then work until idle, out of grants or told to stop; then "done".
 */
import type { MessagePort } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { StorageUnavailableError } from '../errors.ts'
import { cleanText } from '../logger.ts'
import type { Logger } from '../logger.ts'
import type { ServerFacts } from '../storage/storage.ts'
import type { TaskBackend } from '../task-backend.ts'
import { taskRegistry } from '../task-registry.ts'
import { readError } from '../task-result.ts'
import type { TaskResult } from '../task-result.ts'
import { Worker } from '../worker.ts'
import { environmentWarnings } from './settings.ts'
import type { Loaded } from './settings.ts'
import type { DoneMessage, MainMessage, SettledItem, ThreadMessage, Warning, WorkSettings } from './thread-messages.ts'

/** How often a storage that is away is asked whether it is back. */
const STORAGE_PROBE_MS = 1_000

export class WorkingThread {
  readonly #backend: TaskBackend
  readonly #loaded: Loaded
  readonly #settings: WorkSettings
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

  constructor(backend: TaskBackend, loaded: Loaded, settings: WorkSettings, port: MessagePort, logger: Logger) {
    this.#backend = backend
    this.#loaded = loaded
    this.#settings = settings
    this.#port = port
    this.#logger = logger
  }

  /** @param granted the tasks it may begin before it asks for more; null = as many as there are. */
  async run(granted: number | null): Promise<void> {
    const backend = this.#backend
    const server = await this.#connect()
    // Only now: a listener keeps the thread alive, and an import that never ends must not.
    this.#port.on('message', (message: MainMessage) => this.#heard(message))
    let grant = granted
    let worker = this.#makeWorker(grant)
    const { workerId } = worker
    const keyPrefix = keyPrefixOf(backend, this.#loaded)
    this.#post({
      ...{ type: 'ready', workerId, server, tasks: taskRegistry.names(), keyPrefix },
      warnings: warningsOf(server, this.#loaded),
    })
    backend.on('taskStarted', (result) => this.#tellStarted(result))
    while (this.#stopping === undefined) {
      await worker.run()
      if (this.#isStopping()) break
      if (this.#begun < (grant ?? Infinity)) {
        const delayed = await this.#delayed()
        if (delayed) return this.#done({ reason: 'idle', delayed })
        grant = grant === null ? null : grant - this.#begun
      } else {
        grant = await this.#more()
        if (grant === 0) return this.#done({ reason: 'limit', delayed: null })
      }
      worker = this.#makeWorker(grant, workerId)
    }
    this.#handedBack = await worker.stop()
    this.#done({ reason: 'stopped', delayed: null })
  }

  async #connect(): Promise<ServerFacts> {
    try {
      return await this.#backend.storage.connect()
    } catch (error) {
      // No "ready" will say it.
      for (const { code, message } of environmentWarnings(this.#loaded)) this.#logger.warn({ code }, message)
      throw error
    }
  }

  #post(message: ThreadMessage): void {
    this.#port.postMessage(message)
  }

  #isStopping(): boolean {
    return this.#stopping !== undefined
  }

  #makeWorker(grant: number | null, workerId?: string): Worker {
    const worker = new Worker(this.#backend, {
      ...this.#settings,
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
      if (error instanceof StorageUnavailableError) this.#storageIsAway(error)
    })
    this.#worker = worker
    return worker
  }

  #tellStarted({ id, name, workerIds }: TaskResult): void {
    // The user's code may run records by itself, under another worker id.
    if (workerIds.at(-1) !== this.#worker?.workerId) return
    this.#begun += 1
    // At once and one by one: the function that starts now may block this loop for good.
    this.#post({ type: 'started', id, name, timeoutMs: taskRegistry.find(name)?.timeoutMs ?? null })
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
    if (message.type === 'ping') {
      this.#post({ type: 'pong' })
      return
    }
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
  async #delayed(): Promise<DoneMessage['delayed'] | undefined> {
    try {
      const { queues } = this.#settings
      const { moved, dueInMs } = await this.#backend.queue.promote(queues)
      if (moved > 0) return undefined
      const depths = await this.#backend.queue.depth(queues)
      return { count: depths.reduce((total, { delayed }) => total + delayed, 0), dueInMs }
    } catch (error) {
      // It would be good to know, but the work is done.
      this.#logger.warn({ error }, 'how many tasks are delayed could not be asked')
      return { count: 0, dueInMs: null }
    }
  }

  #done(rest: Pick<DoneMessage, 'reason' | 'delayed'>): void {
    this.#isStorageUp = true
    if (this.#probe !== undefined) systemClock.clearTimeout(this.#probe)
    this.#post({ type: 'done', handedBack: this.#handedBack, ...rest })
  }

  // The storage watch

  #storageIsAway(error: StorageUnavailableError): void {
    if (!this.#isStorageUp) return
    this.#isStorageUp = false
    this.#post({ type: 'storage', isUp: false, reason: cleanText(error.message) })
    const probe = async (): Promise<void> => {
      try {
        await this.#backend.storage.connect()
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

function warningsOf({ kind, warnings: ofServer }: ServerFacts, loaded: Loaded): Warning[] {
  const warnings: Warning[] = []
  if (taskRegistry.names().length === 0) {
    const message = 'no task is loaded: whatever is taken is handed back; name the modules that define your tasks'
    warnings.push({ code: 'WARN_TASKS_NO_TASK', message })
  }
  if (kind === 'memory') {
    const message = 'the memory backend keeps its tasks in this thread alone: no other process can enqueue into it'
    warnings.push({ code: 'WARN_TASKS_MEMORY_BACKEND', message })
  }
  return [...warnings, ...ofServer, ...environmentWarnings(loaded)]
}
