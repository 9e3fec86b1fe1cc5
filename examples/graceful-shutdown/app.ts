// A deploy in the middle of work: short tasks end, long ones are told to stop, and the next process runs them.
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import { MemoryTaskBackend, RedisTaskBackend, task, Worker } from 'express-tasks-redis'

const { REDIS_URL: redisUrl, PORT: port = '3000', DRAIN_SECONDS: drain = '2' } = process.env
export const backend = redisUrl ? new RedisTaskBackend({ redisUrl }) : new MemoryTaskBackend()

export const short = task('short', async () => {
  console.log('short: begins')
  await sleep(500)
  console.log('short: done')
})

export const long = task({ name: 'long', takesContext: true }, async ({ attempt, signal }) => {
  console.log(`long: begins, attempt ${attempt}`)
  try {
    // The signal aborts when the drain time is over. Whatever takes an AbortSignal takes it: fetch, timers, many clients.
    for (let step = 1; step <= 600; step += 1) await sleep(100, undefined, { signal })
    console.log('long: done')
  } catch (error) {
    if (!signal.aborted) throw error
    // The place to tidy up, or to note how far it came. What is thrown here counts for nothing: the task is handed back.
    console.log('long: stops')
    throw error
  }
})

export const app = express()

app.post('/short', async (_req, res) => {
  const { id } = await short.enqueue()
  res.status(202).json({ id })
})

app.post('/long', async (_req, res) => {
  const { id } = await long.enqueue()
  res.status(202).json({ id })
})

if (process.argv[1] === import.meta.filename) {
  const server = app.listen(port)
  await once(server, 'listening')
  const worker = new Worker(backend, { drainTimeoutSeconds: Number(drain) })
  await worker.start()
  console.log(`curl -X POST http://localhost:${port}/long (or /short), then Ctrl-C`)

  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  // First nothing new comes in; then what runs ends, or is handed back; then nobody needs the storage any more.
  server.close()
  console.log(`draining for ${drain} s`)
  const handedBack = await worker.stop()
  console.log(`handed back: ${handedBack}`)
  await backend.close()
  server.closeAllConnections()
}
