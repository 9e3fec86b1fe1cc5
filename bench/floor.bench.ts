/**
 * Two questions: what does the server take for the writes of an enqueue, each by itself, beside the enqueue in full? And how many
 * calls that do nothing go there and back, one after the other, which is what a worker with one slot must do for each task?
 * Usage: node --import tsx bench/floor.bench.ts
 * Each write is called 1000 times by one script, as an enqueue of 1000 does; its figure is the server's own (INFO commandstats).
 */
import { Redis } from 'ioredis'
import { RedisTaskBackend, task } from '../dist/index.js'
import { startRedisServer } from '../spec/support/redis-server.ts'
import { printMachine } from './support/report.ts'

const CALLS = 50
const PER_CALL = 1_000

/** Lua, for the id in `id`. */
const WRITES: Readonly<Record<string, string>> = {
  'the loop and the id alone': '',
  'a new key: SET of 120 bytes': `redis.call('SET', 'task:' .. id, string.rep('x', 120))`,
  'a new key: HSET of 8 fields': `redis.call('HSET', 'task:' .. id, 'status', 'READY', 'entryId', '1795442856903-' .. i, 'queueName',
    'default', 'name', 'work', 'enqueuedAt', '1795442856903', 'args', string.rep('x', 64), 'args2', string.rep('x', 50), 'x', '')`,
  'an entry: XADD': `redis.call('XADD', KEYS[1], '*', 'id', id)`,
  'an index row: ZADD': `redis.call('ZADD', KEYS[1], i, id)`,
}

await using server = await startRedisServer()
const redis = new Redis(server.url)
printMachine(`${server.product} ${server.version}`)

/** Microseconds in scripts a task. */
async function measure(call: (turn: number) => Promise<unknown>): Promise<string> {
  await redis.flushall()
  await call(0)
  await redis.config('RESETSTAT')
  for (let turn = 1; turn <= CALLS; turn += 1) await call(turn)
  const stats = await redis.info('commandstats')
  const us = [...stats.matchAll(/^cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)/gm)].reduce(
    (sum, [, usec]) => sum + Number(usec),
    0,
  )
  return `${(us / CALLS / PER_CALL).toFixed(1).padStart(4)} µs`
}

for (const [what, lua] of Object.entries(WRITES)) {
  const script = `for i = 1, ${PER_CALL} do local id = string.format('01a208bb-d3c7-7513-%s-%012d', ARGV[1], i) ${lua} end`
  console.log(`${what.padEnd(32)}${await measure((turn) => redis.eval(script, 1, 'keys', String(8_000 + turn)))}`)
}

await using backend = new RedisTaskBackend({ redisUrl: server.url })
const noop = task('noop', (_payload: object) => undefined)
const payload = {
  user: 'user-1234',
  email: 'user@example.com',
  subject: 'Hello there, friend',
  tags: ['a', 'b'],
  n: 12,
}
const lists = Array.from({ length: PER_CALL }, (): [object] => [payload])
console.log(`${'enqueueMany, in full'.padEnd(32)}${await measure(() => backend.enqueueMany(noop, lists))}`)

const TRIPS = 5_000
for (const [what, trip] of Object.entries({
  'there and back: PING': () => redis.ping(),
  'there and back: an empty script': () => redis.eval('return 0', 0),
})) {
  await trip()
  const start = performance.now()
  for (let turn = 0; turn < TRIPS; turn += 1) await trip()
  console.log(`${what.padEnd(32)}${(((performance.now() - start) * 1_000) / TRIPS).toFixed(0).padStart(4)} µs`)
}
redis.disconnect()
