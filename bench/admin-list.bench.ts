/**
 * One question: what do the pages of the admin cost the server as records grow?
 * Usage: node --import tsx bench/admin-list.bench.ts [sizes, default 10000,1000000]
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { cpus, totalmem } from 'node:os'
import express from 'express'
import { Redis } from 'ioredis'
import { executor, RedisTaskBackend, task, tasksRouter } from '../dist/index.js'
import { startRedisServer } from '../spec/support/redis-server.ts'

const ROUNDS = 31
const QUEUES = ['default', 'mail', 'reports', 'images', 'search']
const NAMES = ['resize', 'send', 'build', 'index']
/** Run before the pages are measured, so that every status has records. */
const FINISHED = 10_000
const sizes = (process.argv[2] ?? '10000,1000000').split(',').map(Number)

await using server = await startRedisServer()
console.log(`machine   ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`)
console.log(`software  node ${process.version}, ${server.product} ${server.version}\n`)
const probe = new Redis(server.url)
await using backend = new RedisTaskBackend({ redisUrl: server.url, queues: [] })
const tasks = NAMES.map((name) =>
  task(name, (file: string) => {
    if (file.endsWith('7.png')) throw new Error('not an image')
    return Promise.resolve(file)
  }),
)

const app = express()
app.use('/tasks', tasksRouter(backend))
const listener = createServer(app).listen(0, '127.0.0.1')
await new Promise((resolve) => listener.once('listening', resolve))
const base = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/tasks/admin`

/** Milliseconds of processor time so far: of this process (the app and who asks it), and of the server. */
async function spent(): Promise<{ app: number; server: number }> {
  const { user, system } = process.cpuUsage()
  const info = await probe.info('cpu')
  const seconds = (field: string): number => Number(new RegExp(`^${field}:([\\d.]+)`, 'm').exec(info)?.[1])
  const server = (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1_000
  return { app: (user + system) / 1_000, server }
}

/** Median, least and most milliseconds of some visits, and their processor time; the first few are not counted. */
async function measure(path: string, rounds: number): Promise<string> {
  for (let round = 0; round < 3; round++) await visit(path)
  const before = await spent()
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    await visit(path)
    times.push(performance.now() - start)
  }
  const after = await spent()
  times.sort((a, b) => a - b)
  const at = (index: number): string => (times[index] ?? NaN).toFixed(1)
  const each = (key: 'app' | 'server'): string => ((after[key] - before[key]) / rounds).toFixed(1)
  return `median ${at(rounds >> 1).padStart(6)} ms   min ${at(0).padStart(6)}   max ${at(rounds - 1).padStart(6)}   cpu app ${each('app').padStart(5)}  server ${each('server').padStart(5)}`
}

async function visit(path: string): Promise<string> {
  const answer = await fetch(base + path)
  const html = await answer.text()
  // On a machine that others load a command may time out; such a visit is slow, not lost.
  if (answer.status === 503) return await visit(path)
  if (answer.status !== 200) throw new Error(`expected ${path} to be a page, got: ${answer.status}`)
  return html
}

let stored = 0
let batch = 0
for (const size of sizes) {
  const start = performance.now()
  const from = stored
  while (stored < size) {
    const count = Math.min(5_000, size - stored)
    const args = Array.from({ length: count }, (_, index): [string] => [`uploads/2026/file-${stored + index}.png`])
    const queueName = QUEUES[batch % QUEUES.length] ?? 'default'
    await tasks[batch % NAMES.length]?.using({ queueName }).enqueueMany(args)
    stored += count
    batch += 1
  }
  console.log(
    `${stored.toLocaleString('en')} records (enqueued at ${Math.round(((stored - from) * 1_000) / (performance.now() - start)).toLocaleString('en')}/s)`,
  )
  if (from === 0) {
    for (let done = 0; done < Math.min(FINISHED, size / 2); done += 1_000)
      await executor.processTasks({ maxTasks: 1_000 })
  }
  const list = await visit('/tasks')
  const next = /rel="next" href="[^"]*?(\/tasks\?[^"]*)"/.exec(list)?.[1]?.replaceAll('&amp;', '&') ?? '/tasks'
  const record = /id="row-([0-9a-f-]+)"/.exec(list)?.[1] ?? ''
  const pages: [string, string][] = [
    ['overview', ''],
    ['list of 50', '/tasks'],
    ['its next page', next],
    ['list of 200', '/tasks?size=200'],
    ['list by status and queue', '/tasks?status=READY&queue=mail'],
    ['list of what failed', '/tasks?status=FAILED'],
    ['list of the last hour, oldest first', '/tasks?enqueued_from=1h&sort=oldest'],
    ['page of one record', `/tasks/${record}`],
    ['text search that finds 50 at once', '/tasks?text=uploads'],
    ['text search that finds none in 10,000', '/tasks?text=nowhere'],
  ]
  for (const [name, path] of pages) {
    console.log(`  ${name.padEnd(38)} ${await measure(path, name.endsWith('10,000') ? 5 : ROUNDS)}`)
  }
}
listener.closeAllConnections()
listener.close()
probe.disconnect()
console.log(
  '\nCaveats: one process, server on the same machine, persistence off; times are of whole requests over loopback, one at a time;\nprocessor time of the app holds that of the asking client, which is in the same process.',
)
