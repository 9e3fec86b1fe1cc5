/** This package, as it is built: records, index, leases, fencing and counts on, as always. */
import { readFileSync } from 'node:fs'
import type * as Package from '../../lib/index.ts'
import type { Contender, Payload } from './contender.ts'

// Another build to compare with: BENCH_DIST=/path/to/dist/index.js.
const entry: string = process.env['BENCH_DIST'] ?? '../../dist/index.js'
const { RedisTaskBackend, task, taskRegistry, Worker } = (await import(entry)) as typeof Package

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

export const contender: Contender = {
  about: 'records kept, found by status, queue and name; leases renewed by a thread; fenced; counts by the minute',
  version,

  async produce(url) {
    const backend = new RedisTaskBackend({ redisUrl: url })
    await backend.storage.connect()
    const noop = task('noop', (_payload: Payload) => Promise.resolve())
    return {
      enqueue: (payload) => noop.enqueue(payload),
      enqueueBatch: (payloads) => noop.enqueueMany(payloads.map((each): [Payload] => [each])),
      close: () => backend.close(),
    }
  },

  async consume(url, { concurrency, handle, settled }) {
    const backend = new RedisTaskBackend({ redisUrl: url })
    if (!taskRegistry.find('noop')) {
      task('noop', async (payload: Payload) => {
        await handle(payload)
      })
    }
    const worker = new Worker(backend, { concurrency })
    worker.on('settled', settled)
    await worker.start()
    return {
      async close() {
        await worker.stop()
        await backend.close()
      },
    }
  },
}
