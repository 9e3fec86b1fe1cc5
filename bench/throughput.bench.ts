/**
 * One question: how many tasks a second, end to end, with records, index and fencing on?
 * Usage: node --import tsx bench/throughput.bench.ts [tasks, default 20000]
 */
import { RedisTaskBackend, task, Worker } from '../dist/index.js'
import { startRedisServer } from '../spec/support/redis-server.ts'
import { perSecond, printMachine } from './support/report.ts'

const ROUNDS = 3
const count = Number(process.argv[2] ?? 20_000)
const IN_FLIGHT = 500

await using server = await startRedisServer()
printMachine(`${server.product} ${server.version}`)
await using backend = new RedisTaskBackend({ redisUrl: server.url, queues: [] })
const noop = task('noop', (_payload: { text: string; index: number }) => Promise.resolve(null))
const payload = (index: number): { text: string; index: number } => ({ text: 'x'.repeat(80), index })

for (let round = 1; round <= ROUNDS; round++) {
  console.log(`round ${round}`)
  let start = performance.now()
  for (let index = 0; index < count; index += IN_FLIGHT) {
    await Promise.all(Array.from({ length: IN_FLIGHT }, (_, each) => noop.enqueue(payload(index + each))))
  }
  console.log(`  enqueue one by one, ${IN_FLIGHT} in flight   ${perSecond(count, performance.now() - start)}`)
  start = performance.now()
  await noop.enqueueMany(Array.from({ length: count }, (_, index): [ReturnType<typeof payload>] => [payload(index)]))
  console.log(`  enqueueMany                        ${perSecond(count, performance.now() - start)}`)
  for (const [concurrency, share] of [
    [100, 1],
    [10, 0.8],
    [1, 0.2],
  ] as const) {
    const maxTasks = Math.round(count * share)
    start = performance.now()
    await new Worker(backend, { concurrency, continuous: false, maxTasks }).run()
    console.log(
      `  process, concurrency ${String(concurrency).padStart(3)}           ${perSecond(maxTasks, performance.now() - start)}`,
    )
  }
}
console.log('\nCaveats: producer, worker and server share this machine; persistence off; the function does nothing.')
