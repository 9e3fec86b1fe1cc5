/**
 * One question: what do a page of records and its counts cost as records grow?
 * Usage: node --import tsx bench/records.bench.ts [sizes, default 10000,1000000]
 */
import { RedisTaskBackend, task } from '../dist/index.js'
import { startRedisServer } from '../spec/support/redis-server.ts'
import { ms, perSecond, printMachine, spreadOf, timeEach } from './support/report.ts'

const ROUNDS = 41
const sizes = (process.argv[2] ?? '10000,1000000').split(',').map(Number)
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
    const count = Math.min(5_000, size - stored)
    const queueName = QUEUES[(stored / 5_000) % QUEUES.length] ?? 'default'
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

const before = process.memoryUsage.rss()
let seen = 0
let peak = before
const start = performance.now()
for await (const record of records.filter({ status: 'READY' })) {
  seen += record.priority === 0 ? 1 : 0
  if (seen % 10_000 === 0) peak = Math.max(peak, process.memoryUsage.rss())
}
const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
console.log(
  `\niteration of ${seen.toLocaleString('en')}: ${perSecond(seen, performance.now() - start)}, RSS ${mib(before)} before, ${mib(peak)} at most`,
)
console.log(
  '\nCaveats: one process, server on the same machine, persistence off; RSS includes what enqueueing left to collect.',
)
