// A whole queue inside the process: many tasks, a few at a time, with retries and results, and no server. Ends by itself.
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryTaskBackend, task, Worker, type TaskResult } from 'express-tasks-redis'

export const backend = new MemoryTaskBackend()

let running = 0
let most = 0

export const measure = task(
  { name: 'page.measure', retry: { maxAttempts: 2, delayMs: 50 } },
  async (page: string): Promise<number> => {
    most = Math.max(most, (running += 1))
    try {
      // Stands for a request.
      await sleep(20)
      if (page === '/broken') throw new Error('500, Internal Server Error')
      return page.length * 1_000
    } finally {
      running -= 1
    }
  },
)

/** Measures all of them, three at a time, and answers when the last one has ended. */
export async function measureAll(pages: readonly string[]): Promise<TaskResult<number, [page: string]>[]> {
  const results = await measure.enqueueMany(pages.map((page) => [page]))
  await using worker = new Worker(backend, { concurrency: 3, intervalSeconds: 0.05 })
  await worker.start()
  await Promise.all(results.map((result) => result.wait()))
  return results
}

if (process.argv[1] === import.meta.filename) {
  const results = await measureAll(['/', '/about', '/prices', '/broken', '/team', '/jobs', '/press', '/blog', '/help'])
  for (const result of results) {
    const end = result.status === 'SUCCESSFUL' ? `${result.returnValue} bytes` : result.errors.at(-1)?.message
    console.log(result.args[0], end)
  }
  const { SUCCESSFUL: well, FAILED: badly } = await backend.records.countBy('status')
  console.log(`${well} pages measured, ${badly} not, at most ${most} at a time`)
  await backend.close()
}
