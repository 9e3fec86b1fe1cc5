/**
 * A process that runs tasks, in a thread, so that a case can look at it from outside while a task holds its event loop. Runs the
 * built package. Takes what it is told as its workerData; says `ready`, and `{ aborted }` with the code of each reason.
 */
import { performance } from 'node:perf_hooks'
import { parentPort, workerData } from 'node:worker_threads'
import { executor, RedisTaskBackend, task, Worker } from '../../../dist/index.js'

const {
  backend: options,
  kind,
  timeoutMs,
} = /** @type {{ backend: import('../../../dist/index.js').RedisBackendOptions, kind: string, timeoutMs?: number }} */ (
  workerData
)
const backend = new RedisTaskBackend({ ...options, queues: [] })

task(
  { name: 'blocks', takesContext: true, ...(timeoutMs !== undefined && { timeoutMs }) },
  /** @param {import('../../../dist/index.js').TaskContext} context @param {number} ms */
  (context, ms) => {
    context.signal.addEventListener('abort', () => {
      const { code } = /** @type {{ code?: string }} */ (context.signal.reason)
      parentPort?.postMessage({ aborted: code })
    })
    const end = performance.now() + ms
    while (performance.now() < end);
    return 'unblocked'
  },
)

const worker = new Worker(backend, { workerId: 'blocked', intervalSeconds: 0.1, claimIntervalSeconds: 3_600 })
if (kind === 'worker') await worker.start()
parentPort?.on('message', (order) => {
  if (order === 'processTasks') void executor.processTasks().then(() => parentPort?.postMessage('processed'))
  else
    void worker
      .stop({ drainTimeoutSeconds: 0 })
      .then(() => backend.close())
      .then(() => parentPort?.close())
})
parentPort?.postMessage('ready')
