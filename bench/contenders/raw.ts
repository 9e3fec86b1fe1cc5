/**
 * What Redis itself can do: the commands that a task costs us, pipelined without a script, a check or a record in JavaScript.
 * No queue: it loses tasks in any crash and counts nothing. The server's part of a task cannot be less than this without fewer
 * commands; scripts need no reply for each command and may pass it.
 */
import { Redis } from 'ioredis'
import type { ChainableCommander } from 'ioredis'
import { randomUUID } from 'node:crypto'
import type { Contender, Payload } from './contender.ts'

const STREAM = 'raw:stream'
const GROUP = 'raw'
const BATCH = 100

function add(pipeline: ChainableCommander, each: Payload): void {
  const id = randomUUID()
  pipeline.xadd(STREAM, '*', 'id', id)
  pipeline.hset(`raw:task:${id}`, {
    ...{ queueName: 'default', name: 'noop', priority: '0', status: 'READY', enqueuedAt: '1700000000000' },
    ...{ entryId: '1700000000000-0', args: JSON.stringify([each]) },
  })
  pipeline.zadd('raw:cell:READY', 1_700_000_000_000, id)
}

async function open(url: string): Promise<Redis> {
  const redis = new Redis(url)
  await redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM').catch(() => undefined)
  return redis
}

export const contender: Contender = {
  about: 'our commands pipelined in batches of 100 with no code around them; no queue',
  version: '',

  async produce(url) {
    const redis = await open(url)
    const enqueueBatch = async (all: readonly Payload[]): Promise<void> => {
      const pipeline = redis.pipeline()
      for (const each of all) add(pipeline, each)
      await pipeline.exec()
    }
    return { enqueue: (each) => enqueueBatch([each]), enqueueBatch, close: () => redis.quit() }
  },

  async consume(url, { concurrency, handle, settled }) {
    const redis = await open(url)
    const size = Math.min(concurrency, BATCH)
    let open_ = true
    const run = async (): Promise<void> => {
      while (open_) {
        const reply = await redis.xreadgroup('GROUP', GROUP, 'me', 'COUNT', size, 'STREAMS', STREAM, '>')
        const rows = (reply as [string, [string, string[]][]][] | null)?.[0]?.[1]
        if (!rows) return
        const ids = rows.map(([, fields]) => fields[1] ?? '')
        const begin = redis.pipeline()
        for (const id of ids) begin.hmget(`raw:task:${id}`, 'status', 'args', 'queueName', 'name', 'priority')
        begin.zrem('raw:cell:READY', ...ids)
        for (const id of ids) {
          begin.hset(`raw:task:${id}`, { status: 'RUNNING', leaseToken: '1:abcdefghijkl.1', attempts: '1' })
        }
        begin.zadd('raw:cell:RUNNING', ...ids.flatMap((id) => [1_700_000_000_000, id]))
        begin.zadd('raw:leases', ...ids.flatMap((id) => [1_700_000_300_000, id]))
        const records = (await begin.exec()) ?? []
        await Promise.all(
          ids.map((_, index) => handle((JSON.parse((records[index]?.[1] as string[])[1] ?? '[]') as [Payload])[0])),
        )
        const settle = redis.pipeline()
        for (const id of ids) settle.hmget(`raw:task:${id}`, 'leaseToken', 'queueName', 'name', 'enqueuedAt', 'entryId')
        settle.zrem('raw:cell:RUNNING', ...ids)
        settle.xack(STREAM, GROUP, ...rows.map(([entryId]) => entryId))
        settle.xdel(STREAM, ...rows.map(([entryId]) => entryId))
        for (const id of ids) {
          settle.hset(`raw:task:${id}`, { status: 'SUCCESSFUL', leaseToken: '', finishedAt: '1', returnValue: 'null' })
        }
        settle.zadd('raw:cell:SUCCESSFUL', ...ids.flatMap((id) => [1_700_000_000_000, id]))
        settle.zrem('raw:leases', ...ids)
        await settle.exec()
        ids.forEach(settled)
      }
    }
    void run()
    return {
      async close() {
        open_ = false
        await redis.quit()
      },
    }
  },
}
