/** @platformatic/job-queue on its Redis storage. Needs Node 22.19. It has no call for a batch: jobs go out all at once. */
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import type { Contender, Payload } from './contender.ts'

interface Queue {
  execute(handler: (job: { readonly payload: Payload }) => Promise<unknown>): void
  enqueue(id: string, payload: Payload): Promise<unknown>
  on(event: string, listener: (...args: unknown[]) => void): unknown
  start(): Promise<void>
  stop(): Promise<void>
}

interface Storage {
  disconnect(): Promise<void>
}

// A name in a variable: the project is type-checked without the packages of this folder.
const NAME: string = '@platformatic/job-queue'
const { Queue, RedisStorage } = (await import(NAME)) as {
  Queue: new (options: object) => Queue
  RedisStorage: new (options: object) => Storage
}
const main = createRequire(import.meta.url).resolve(NAME)
const { version } = JSON.parse(
  readFileSync(new URL(`file://${main.replace(/dist\/.*$/, 'package.json')}`), 'utf8'),
) as {
  version: string
}

/** Kept for a week, as ours are. */
const KEPT_MS = 604_800_000

export const contender: Contender = {
  about: 'results kept for a week, payloads not; every id checked for duplicates; no call for a batch',
  version,

  async produce(url) {
    const storage = new RedisStorage({ url })
    const queue = new Queue({ storage, resultTTL: KEPT_MS })
    await queue.start()
    const run = `${process.pid}-${Date.now()}`
    const enqueue = (each: Payload): Promise<unknown> => queue.enqueue(`${run}-${each.index}`, each)
    return { enqueue, enqueueBatch: (all) => Promise.all(all.map(enqueue)), close: () => queue.stop() }
  },

  async consume(url, { concurrency, handle, settled }) {
    const storage = new RedisStorage({ url })
    const queue = new Queue({ storage, concurrency, resultTTL: KEPT_MS })
    queue.execute(async ({ payload }) => {
      await handle(payload)
      return null
    })
    queue.on('completed', settled)
    queue.on('error', (error) => console.error(error))
    await queue.start()
    // Its loops wait in a blocking read of five seconds; the process is ended instead.
    return { close: () => Promise.resolve() }
  },
}
