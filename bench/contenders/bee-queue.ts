/** Bee-Queue, set as its README says for speed: a worker without events over Redis, jobs not kept in the process. */
import { createRequire } from 'node:module'
import type { Contender, Payload } from './contender.ts'

interface Job {
  readonly data: Payload
  save(): Promise<unknown>
}

interface Queue {
  createJob(data: Payload): Job
  saveAll(jobs: readonly Job[]): Promise<Map<Job, Error>>
  process(concurrency: number, handler: (job: Job) => Promise<unknown>): void
  on(event: string, listener: (...args: unknown[]) => void): unknown
  ready(): Promise<unknown>
  close(timeoutMs: number): Promise<void>
}

const require = createRequire(import.meta.url)
const BeeQueue = require('bee-queue') as new (name: string, options: object) => Queue
const { version } = require('bee-queue/package.json') as { version: string }

const NAME = 'bench'
const settings = (url: string, isWorker: boolean): object => ({
  redis: { host: new URL(url).hostname, port: Number(new URL(url).port) },
  isWorker,
  getEvents: false,
  sendEvents: false,
  storeJobs: false,
})

export const contender: Contender = {
  about: 'finished jobs kept (removeOnSuccess: false); no events over Redis; saveAll for batches; no record of times',
  version,

  async produce(url) {
    const queue = new BeeQueue(NAME, settings(url, false))
    await queue.ready()
    return {
      enqueue: (data) => queue.createJob(data).save(),
      async enqueueBatch(all) {
        const errors = await queue.saveAll(all.map((data) => queue.createJob(data)))
        for (const error of errors.values()) throw error
      },
      close: () => queue.close(1_000),
    }
  },

  async consume(url, { concurrency, handle, settled }) {
    const queue = new BeeQueue(NAME, settings(url, true))
    queue.on('succeeded', settled)
    queue.on('error', (error) => console.error(error))
    await queue.ready()
    queue.process(concurrency, ({ data }) => handle(data))
    return { close: () => queue.close(1_000) }
  },
}
