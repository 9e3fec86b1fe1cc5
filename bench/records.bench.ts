/**
 * One question: what do pages, counts, a walk over all and a purge cost as records grow?
 * Usage: node --import tsx bench/records.bench.ts [sizes, default 10000,100000,1000000]
 */
import { executor, RedisTaskBackend, task } from '../dist/index.js'
import { startRedisServer } from '../spec/support/redis-server.ts'
import { ms, perSecond, printMachine, spreadOf, timeEach } from './support/report.ts'

const ROUNDS = 41
const BATCH = 100
const sizes = (process.argv[2] ?? '10000,100000,1000000').split(',').map(Number)
const QUEUES = ['default', 'mail', 'reports', 'images', 'search']

await using server = await startRedisServer()
printMachine(`${server.product} ${server.version}`)
await using backend = new RedisTaskBackend({ redisUrl: server.url, queues: [] })
const records = backend.records
const resize = task('resize', (file: string, width: number) => Promise.resolve(`${file}@${width}`))

let stored = 0
for (const size of sizes) {
  const start = performance.now()
  const from = stored
  while (stored < size) {
    const count = Math.min(1_000, size - stored)
    const queueName = QUEUES[Math.floor(stored / 1_000) % QUEUES.length] ?? 'default'
    const args = Array.from({ length: count }, (_, index): [string, number] => [`file-${stored + index}.png`, 640])
    await resize.using({ queueName }).enqueueMany(args)
    stored += count
  }
  console.log(
    `${stored.toLocaleString('en')} records (enqueueMany ${perSecond(stored - from, performance.now() - start)})`,
  )
  const filter = { status: 'READY', queueName: 'mail' } as const
  const first = await records.filter(filter).page({ size: 50 })
  const rows: [string, () => Promise<unknown>][] = [
    ['page of 50, by status and queue', () => records.filter(filter).page({ size: 50 })],
    ['the next page', () => records.filter(filter).page({ size: 50, after: first.next })],
    ['page of 50 of all', () => records.filter().page({ size: 50 })],
    ['count by status and queue', () => records.filter(filter).count()],
    ['countBy status', () => records.countBy('status')],
    ['countBy queueName', () => records.countBy('queueName')],
  ]
  for (const [name, act] of rows) {
    await timeEach(5, act)
    const { median, min, max } = spreadOf(await timeEach(ROUNDS, act))
    console.log(`  ${name.padEnd(34)} median ${ms(median).padStart(9)}   min ${ms(min)}   max ${ms(max)}`)
  }
}

const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
let seen = 0
let early = 0
let peak = 0
let start = performance.now()
for await (const record of records.filter({ status: 'READY' })) {
  seen += record.priority === 0 ? 1 : 0
  if (seen % 1_000 !== 0) continue
  const rss = process.memoryUsage.rss()
  // What a tenth of the walk needs at most, and what all of it does.
  if (seen <= stored / 10) early = Math.max(early, rss)
  peak = Math.max(peak, rss)
}
console.log(
  `\nwalk over ${seen.toLocaleString('en')}: ${perSecond(seen, performance.now() - start)}, RSS at most ${mib(early)} in its first tenth, ${mib(peak)} in all`,
)

// Every record ends well, without a worker: as fast as its two calls go.
const queue = backend.openQueue()
start = performance.now()
let { begun } = await queue.take(BATCH, { queueNames: QUEUES })
while (begun.length > 0) {
  const items = begun.map(({ lease }) => ({ lease, outcome: 'SUCCESSFUL' as const, payload: 'null', delayMs: 0 }))
  const answer = await queue.settleAndTake(items, BATCH, QUEUES)
  begun = answer.taken.begun
}
console.log(`settle and take, batches of ${BATCH}, one at a time: ${perSecond(stored, performance.now() - start)}`)
start = performance.now()
const purged = await executor.purgeCompletedTasks({ days: 0 })
console.log(`purge of ${purged.toLocaleString('en')} finished records: ${perSecond(purged, performance.now() - start)}`)
console.log(
  '\nCaveats: one process, server on the same machine, persistence off; RSS includes what was collected late.',
)
