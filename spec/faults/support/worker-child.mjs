/**
 * A worker in a process of its own, which a fault may kill, freeze or cut off. Runs the built package, as a user's would.
 * Appends one line of JSON for each fact, by one write before its next step, so that nothing it did is unknown after its end.
 * Takes its orders as JSON in argv; ends on SIGTERM after a stop, and when its parent is gone.
 */
/* global AbortController, setInterval */
import { createRequire } from 'node:module'
import { openSync, writeSync } from 'node:fs'
import { createServer } from 'node:http'
import { performance } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { parentPort } from 'node:worker_threads'
import express from 'express'
import { Redis } from 'ioredis'
import { executor, RedisTaskBackend, StorageUnavailableError, task, tasksRouter, Worker } from '../../../dist/index.js'

/** @typedef {import('./fault-run.ts').ChildOrders} ChildOrders */
/** @typedef {import('../../../dist/index.js').TaskContext} TaskContext */
/** @typedef {import('../../../dist/index.js').RedisBackendOptions} RedisBackendOptions */

const orders = /** @type {ChildOrders} */ (JSON.parse(process.argv[2] ?? '{}'))
const file = openSync(orders.factsFile, 'a')
const rightNow = Date.now.bind(Date)

/** @param {string} fact @param {object} [facts] */
function tell(fact, facts) {
  writeSync(file, `${JSON.stringify({ fact, pid: process.pid, at: rightNow(), ...facts })}\n`)
}

if (orders.collectsGarbage) {
  setFlagsFromString('--expose-gc')
  const collectGarbage = /** @type {() => void} */ (runInNewContext('gc'))
  setInterval(collectGarbage, 5_000).unref()
}

// A clock that is off: what the process believes, not what it writes down here.
const { clockOffMs = 0 } = orders
if (clockOffMs !== 0) {
  const RightDate = Date
  globalThis.Date = /** @type {DateConstructor} */ (
    class extends RightDate {
      /** @param {unknown[]} args */
      constructor(...args) {
        super(.../** @type {[number]} */ (args.length === 0 ? [rightNow() + clockOffMs] : args))
      }
      /** @override */
      static now() {
        return rightNow() + clockOffMs
      }
    }
  )
}

/** @returns {RedisBackendOptions} */
function where() {
  const { redisUrl, cluster, ...rest } = orders.backend
  if (cluster) {
    const { Cluster } = /** @type {{ Cluster: typeof import('ioredis').Cluster }} */ (
      createRequire(import.meta.url)(orders.driver ?? 'ioredis')
    )
    return { ...rest, client: new Cluster([...cluster], { lazyConnect: true }) }
  }
  if (!orders.driver || redisUrl === undefined) return { ...rest, redisUrl }
  const { Redis: Driver } = /** @type {{ Redis: typeof Redis }} */ (createRequire(import.meta.url)(orders.driver))
  // Settings that a user's own client may have, and that ours must not.
  const client = new Driver(redisUrl, { lazyConnect: true, keyPrefix: 'theirs:', enableOfflineQueue: false })
  const send = client.sendCommand.bind(client)
  /** Its own, so that no duplicate has it. @param {Parameters<typeof send>} args */
  client.sendCommand = (...args) => {
    tell('theirs', { command: args[0].name })
    return send(...args)
  }
  return { ...rest, client }
}
const backend = new RedisTaskBackend({ ...where(), queues: [] })

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

const { effects } = orders
const store = effects && new Redis(effects.url)

/** What the task does to the world outside; its value is what it returns. @param {TaskContext} context */
async function done({ taskResult: { id }, attempt, fence }) {
  const value = `${process.pid} ${attempt}`
  if (store) await store.eval(effects.script, 3, ...effects.keys, id, String(fence), value)
  return value
}

/** @type {Record<string, (context: TaskContext, ms: number) => unknown>} */
const functions = {
  work: async (context, ms) => {
    begun(context)
    await sleep(ms)
    return await done(context)
  },
  /** Long in its first attempt, short in the others. */
  first: async (context, ms) => {
    begun(context)
    await sleep(context.attempt === 1 ? ms : 10)
    return await done(context)
  },
  /** Its first attempt ends once another one has left its effect. */
  overtaken: async (context) => {
    begun(context)
    const { id } = context.taskResult
    while (effects && store && context.attempt === 1 && !(await store.hexists(effects.keys[2], id))) await sleep(50)
    return await done(context)
  },
  block: async (context, ms) => {
    begun(context)
    if (context.attempt === 1) block(ms)
    return await done(context)
  },
  /** As long as this process was told. */
  held: async (context) => {
    begun(context)
    await sleep(orders.heldMs ?? 0)
    return await done(context)
  },
  /** Fails in its first attempt. */
  flaky: async (context) => {
    begun(context)
    await sleep(orders.heldMs ?? 0)
    if (context.attempt === 1) throw new Error('not yet')
    return null
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

/** @typedef {(...args: unknown[]) => Promise<unknown>} Verb */
const storage = /** @type {Record<string, Verb>} */ (/** @type {unknown} */ (backend.storage))
/** @param {string} name */
const verbOf = (name) => /** @type {Verb} */ (storage[name]).bind(storage)

/** The named verb kills this process, before it is called or once it has answered; the first time or the n-th. */
const { dieAt } = orders
if (dieAt) {
  const verb = verbOf(dieAt.verb)
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
      block(1_500)
    }
    tell('dies', { verb: dieAt.verb })
    process.kill(process.pid, 'SIGKILL')
    return new Promise(() => {})
  }
}

if (orders.tellTokens) {
  /** @typedef {{ begun?: { lease: { id: string, token: string } }[], taken?: Answer }} Answer */
  for (const name of ['take', 'takeBlocking', 'recover', 'reclaim', 'settleAndTake']) {
    const verb = verbOf(name)
    /** @param {unknown[]} args */
    storage[name] = async (...args) => {
      const answer = /** @type {Answer} */ (await verb(...args))
      for (const { lease } of (answer.taken ?? answer).begun ?? []) tell('token', { id: lease.id, token: lease.token })
      return answer
    }
  }
}

/** What ends it, at once when it is told again. @type {((options: { drainTimeoutSeconds?: number }) => Promise<number | void>)[]} */
const stops = []
let ending = false

async function runWorkers() {
  /** @type {string[]} */
  const ids = []
  for (let count = 0; count < (orders.workers ?? 1); count += 1) {
    const worker = new Worker(backend, orders.worker)
    worker.on('settled', ({ id, attempt, outcome, word }) => tell('settled', { id, attempt, outcome, word }))
    worker.on('error', (error) => tell('error', { text: String(error) }))
    stops.push((options) => worker.stop(options))
    for (let tries = 1; ; tries += 1) {
      try {
        await worker.start()
        break
      } catch (error) {
        // On a machine that is busy a connection may take longer than a call may; whoever supervises starts it again.
        if (!(error instanceof StorageUnavailableError) || tries === 10) throw error
      }
    }
    ids.push(worker.workerId)
  }
  tell('ready', { workerId: ids.join(' ') })
}

/** Here only what was accepted is heard of. */
function tellFinished() {
  backend.on('taskFinished', ({ id, attempts, status }) => {
    tell('settled', { id, attempt: attempts, outcome: status, word: 'SETTLED' })
  })
}

async function runDueTasks() {
  tellFinished()
  const stop = new AbortController()
  const loop = (async () => {
    while (!stop.signal.aborted) {
      await executor.processTasks({ signal: stop.signal })
      await sleep(50)
    }
  })()
  stops.push(async () => {
    stop.abort()
    await loop
  })
  tell('ready', { workerId: String(process.pid) })
}

function listen() {
  tellFinished()
  const server = createServer(express().use('/tasks', tasksRouter(backend)))
  stops.push(async () => {
    server.closeAllConnections()
    server.close()
  })
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    tell('ready', { workerId: String(process.pid), port: typeof address === 'object' ? address?.port : undefined })
  })
}

function end() {
  if (ending) {
    for (const stop of stops) void stop({ drainTimeoutSeconds: 0 })
    return
  }
  ending = true
  void Promise.all(stops.map((stop) => stop({}))).then(async (handedBack) => {
    await backend.close()
    tell('stopped', { handedBack: handedBack.reduce((sum, count) => (sum ?? 0) + (count ?? 0), 0) })
    process.exit(0)
  })
}
parentPort?.on('message', end)
process.on('SIGTERM', end)
process.once('disconnect', () => process.exit(1))

if (orders.kind === 'router') listen()
else if (orders.kind === 'processTasks') await runDueTasks()
else await runWorkers()
