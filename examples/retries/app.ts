// What becomes of a task that fails: it runs again, later and later; when the other side says so; or never. Ends by itself.
import { DoNotRetry, MemoryTaskBackend, RedisTaskBackend, RetryLater, task, Worker } from 'express-tasks-redis'

const { REDIS_URL: redisUrl } = process.env
export const backend = redisUrl ? new RedisTaskBackend({ redisUrl }) : new MemoryTaskBackend()

// 0.1 s after the first failure, 0.2 s after the second, 0.4 s after the third: doubled each time, up to maxDelayMs.
const retry = { maxAttempts: 4, delayMs: 100, jitter: 0 }

export const fetchRates = task({ name: 'rates.fetch', retry, takesContext: true }, ({ attempt }, day: string) => {
  if (attempt < 3) throw new Error('503, the bank is busy')
  return `the rates of ${day}`
})

export const sendText = task({ name: 'text.send', retry, takesContext: true }, ({ attempt }, to: string) => {
  // No further attempt would mend this.
  if (!to.startsWith('+')) throw new DoNotRetry(`no such number: ${to}`)
  // "429, Retry-After: 1": they know better than our backoff.
  if (attempt === 1) throw new RetryLater({ delayMs: 1_000 })
  return `sent to ${to}`
})

// Errors that may pass are tried again, others are not: here those of the network.
export const syncStock = task(
  { name: 'stock.sync', retry: { ...retry, retryIf: (error) => (error as { code?: string }).code === 'ECONNRESET' } },
  (shop: string) => {
    throw shop === 'far'
      ? Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
      : new Error('no such shop')
  },
)

/** Runs them all, and says of each how it ended and what went wrong before. */
export async function runAll(): Promise<string[]> {
  const results = [
    await fetchRates.enqueue('Monday'),
    await sendText.enqueue('+431234'),
    await sendText.enqueue('nobody'),
    await syncStock.enqueue('far'),
    await syncStock.enqueue('unknown'),
  ]
  const worker = new Worker(backend, { intervalSeconds: 0.1 })
  await worker.start()
  // Resolves when a task has its end, well or not; attempts that failed before are no end.
  await Promise.all(results.map((result) => result.wait()))
  await worker.stop()
  return results.flatMap((result) => [
    `${result.name} ${result.args[0]}: ${result.status} after ${result.attempts} attempt(s)`,
    ...result.errors.map(({ attempt, message }) => `  ${attempt}: ${message}`),
  ])
}

if (process.argv[1] === import.meta.filename) {
  for (const line of await runAll()) console.log(line)
  await backend.close()
}
