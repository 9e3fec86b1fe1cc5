/**
 * A worker in a process of its own, which a fault may kill, freeze or cut off. Runs the built package, as a user's would.
 * Appends one line of JSON for each fact, by one write before its next step, so that nothing it did is unknown after its end.
 * Takes its orders as JSON in argv; ends on SIGTERM after a stop, and when its parent is gone.
 */
import { openSync, writeSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { RedisTaskBackend, StorageUnavailableError, task, Worker } from '../../../dist/index.js'

/** @typedef {import('./fault-run.ts').ChildOrders} ChildOrders */
/** @typedef {import('../../../dist/index.js').TaskContext} TaskContext */

const orders = /** @type {ChildOrders} */ (JSON.parse(process.argv[2] ?? '{}'))
const file = openSync(orders.factsFile, 'a')

/** @param {string} fact @param {object} [facts] */
function tell(fact, facts) {
  writeSync(file, `${JSON.stringify({ fact, pid: process.pid, at: Date.now(), ...facts })}\n`)
}

const backend = new RedisTaskBackend({ ...orders.backend, queues: [] })

/** @param {TaskContext} context */
function begun({ taskResult: { id, name }, attempt, fence, signal }) {
  tell('begun', { id, name, attempt, fence })
  signal.addEventListener('abort', () => {
    const { code } = /** @type {{ code?: string }} */ (signal.reason)
    tell('aborted', { id, attempt, code })
  })
}

/** Holds the event loop. @param {number} ms */
function block(ms) {
  const end = performance.now() + ms
  while (performance.now() < end);
}

/** @type {Record<string, (context: TaskContext, ms: number) => unknown>} */
const functions = {
  work: async (context, ms) => {
    begun(context)
    await sleep(ms)
    return `${process.pid} ${context.attempt}`
  },
  /** Long in its first attempt, short in the others. */
  first: async (context, ms) => {
    begun(context)
    await sleep(context.attempt === 1 ? ms : 10)
    return `${process.pid} ${context.attempt}`
  },
  block: (context, ms) => {
    begun(context)
    if (context.attempt === 1) block(ms)
    return `${process.pid} ${context.attempt}`
  },
  exit: (context) => {
    begun(context)
    process.exit(7)
  },
  kill: async (context) => {
    begun(context)
    process.kill(process.pid, 'SIGKILL')
    await sleep(60_000)
  },
  throw: (context) => {
    begun(context)
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- what a hostile task may do
    throw null
  },
  large: (context) => {
    begun(context)
    return 'x'.repeat(50_000_000)
  },
}
for (const [name, func] of Object.entries(functions)) {
  if (orders.tasks && !orders.tasks.includes(name)) continue
  task({ name, takesContext: true, ...orders.taskOptions?.[name] }, func)
}

/** The named verb kills this process, before it is called or once it has answered; the first time or the n-th. */
const { dieAt } = orders
if (dieAt) {
  /** @typedef {(...args: unknown[]) => Promise<unknown>} Verb */
  const storage = /** @type {Record<string, Verb>} */ (/** @type {unknown} */ (backend.storage))
  const verb = /** @type {Verb} */ (storage[dieAt.verb]).bind(storage)
  let calls = 0
  /** @param {unknown[]} args */
  storage[dieAt.verb] = async (...args) => {
    const answer = dieAt.when === 'after' ? await verb(...args) : undefined
    calls += 1
    if (calls < dieAt.call) return dieAt.when === 'after' ? answer : await verb(...args)
    // "sent": on its way to the server, its answer never read.
    if (dieAt.when === 'sent') {
      void verb(...args).catch(() => {})
      for (let turn = 0; turn < 3; turn += 1) await nextTurn()
      block(50)
    }
    tell('dies', { verb: dieAt.verb })
    process.kill(process.pid, 'SIGKILL')
    return new Promise(() => {})
  }
}

const worker = new Worker(backend, orders.worker)
worker.on('settled', ({ id, attempt, outcome, word }) => tell('settled', { id, attempt, outcome, word }))
worker.on('error', (error) => tell('error', { text: String(error) }))
process.once('SIGTERM', () => {
  void worker.stop().then(async (handedBack) => {
    await backend.close()
    tell('stopped', { handedBack })
    process.exit(0)
  })
})
process.once('disconnect', () => process.exit(1))
for (let tries = 1; ; tries += 1) {
  try {
    await worker.start()
    break
  } catch (error) {
    // On a machine that is busy a connection may take longer than a call may; whoever supervises starts it again.
    if (!(error instanceof StorageUnavailableError) || tries === 10) throw error
  }
}
tell('ready', { workerId: worker.workerId })
