/**
 * Where every thread of run-redis-tasks begins: an event loop, connections and a registry of tasks of its own. Imports the user's
 * config and modules, does what its orders say, and ends. Prints nothing: what it has to say goes to the main thread.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import { cleanFacts, cleanText, LOG_LEVELS, loggerOf } from '../logger.ts'
import type { Logger, LogLevel } from '../logger.ts'
import { failureOf } from './failure.ts'
import { handBack } from './hand-back.ts'
import { load, openBackend } from './settings.ts'
import type { Orders, ThreadMessage } from './thread-messages.ts'
import { WorkingThread } from './working-thread.ts'

type Post = (message: ThreadMessage) => void

/**
 * What the main thread may see, at the levels it asked for. Outages are told once, by the storage watch, not once a retry;
 * warnings about the server once, with "ready", not once a thread.
 */
function threadLogger(post: Post, lowest: LogLevel | 'silent'): Logger {
  const from = lowest === 'silent' ? LOG_LEVELS.length : LOG_LEVELS.indexOf(lowest)
  return loggerOf((level, facts, message) => {
    const code = 'code' in facts ? String(facts.code) : ''
    const isToldElsewhere =
      'role' in facts || /^ERR_TASKS_STORAGE_(?:UNAVAILABLE|UNFIT)$|^WARN_TASKS_SERVER_/.test(code)
    const shown = isToldElsewhere ? 'debug' : level
    if (LOG_LEVELS.indexOf(shown) < from) return
    post({ type: 'log', level: shown, facts: cleanFacts(facts), message: cleanText(message) })
  })
}

async function obey(orders: Orders, port: MessagePort, post: Post): Promise<void> {
  const { cwd, sources, backendName, logLevel } = orders.place
  const logger = threadLogger(post, logLevel)
  const loaded = await load(sources, { cwd, logger, onImport: (file) => post({ type: 'importing', file }) })
  const backend = openBackend(backendName, logger, loaded)
  if (orders.role === 'work')
    await new WorkingThread(backend, loaded, orders.settings, port, logger).run(orders.granted)
  else post({ type: 'handed-back', ...(await handBack(backend, orders.orphans)) })
  await backend.close()
}

async function main(orders: Orders, port: MessagePort): Promise<void> {
  const post: Post = (message) => port.postMessage(message)
  try {
    await obey(orders, port, post)
  } catch (error) {
    post({ type: 'failed', failure: failureOf(error) })
  }
  // Ends this thread only. The user's modules may keep handles open that nobody closes.
  process.exit()
}

if (!isMainThread && parentPort) void main(workerData as Orders, parentPort)
