/**
 * BullMQ. Its own types are not asked for: the project is type-checked without the packages of this folder.
 */
import { createRequire } from 'node:module'
import type { Contender, Payload } from './contender.ts'

interface Queue {
  add(name: string, data: Payload): Promise<unknown>
  addBulk(jobs: readonly { name: string; data: Payload }[]): Promise<unknown>
  waitUntilReady(): Promise<unknown>
  close(): Promise<void>
}

interface Worker {
  on(event: string, listener: (...args: unknown[]) => void): unknown
  waitUntilReady(): Promise<unknown>
  run(): Promise<void>
  close(force: boolean): Promise<void>
}

type Process = (job: { readonly data: Payload }) => Promise<unknown>

const require = createRequire(import.meta.url)
const { Queue, Worker } = require('bullmq') as {
  Queue: new (name: string, options: object) => Queue
  Worker: new (name: string, process: Process, options: object) => Worker
}
const { version } = require('bullmq/package.json') as { version: string }

const NAME = 'bench'
const KEPT = { removeOnComplete: false, removeOnFail: false }

function connection(url: string): object {
  const { hostname, port } = new URL(url)
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null }
}

export const contender: Contender = {
  about: 'finished jobs kept (removeOnComplete: false); addBulk for batches; no metrics, no QueueEvents',
  version,

  async produce(url) {
    const queue = new Queue(NAME, { connection: connection(url), defaultJobOptions: KEPT })
    await queue.waitUntilReady()
    return {
      enqueue: (data) => queue.add('noop', data),
      enqueueBatch: (all) => queue.addBulk(all.map((data) => ({ name: 'noop', data }))),
      close: () => queue.close(),
    }
  },

  async consume(url, { concurrency, handle, settled }) {
    const process: Process = async ({ data }) => {
      await handle(data)
    }
    const worker = new Worker(NAME, process, { connection: connection(url), concurrency, autorun: false })
    worker.on('completed', settled)
    worker.on('error', (error) => console.error(error))
    await worker.waitUntilReady()
    void worker.run()
    return { close: () => worker.close(true) }
  },
}
