/**
 * Reads in one write, answered in order; null for what is not there, or not of the shape that was asked for: nothing that could be
 * shown, and the doctor names it. While a slot of a cluster moves, some keys of it are on one node and some on another, and a
 * pipeline cannot follow both: what was redirected is asked for again by itself.
 */
import { isNothing, isRedirect } from './driver-errors.ts'
import type { RedisConnection, RedisPipeline } from './redis-client.ts'

/** @throws Error the first error of a command that means anything else. */
export async function readAll(
  client: RedisConnection,
  fill: (pipeline: RedisPipeline) => unknown,
): Promise<readonly unknown[]> {
  const answers = await answersOf(client, fill)
  return answers.map((answer) => {
    if (isNothing(answer)) return null
    if (answer instanceof Error) throw answer
    return answer
  })
}

/** Each reply, or its error. */
async function answersOf(
  client: RedisConnection,
  fill: (pipeline: RedisPipeline) => unknown,
): Promise<readonly unknown[]> {
  const pipeline = client.pipeline()
  fill(pipeline)
  const replies = await pipeline.exec()
  if (!replies) throw new Error('the connection was closed before it answered')
  const answers = replies.map(([error, value]) => error ?? value)
  if (!answers.some(isRedirect)) return answers
  const calls: (() => Promise<unknown>)[] = []
  fill(recorderOf(client, calls))
  return await Promise.all(
    answers.map((answer, index) =>
      isRedirect(answer) ? calls[index]?.().catch((error: unknown) => error as Error) : answer,
    ),
  )
}

/** Notes each command in place of sending it. A pipeline's methods are named like those of its client. */
function recorderOf(client: RedisConnection, calls: (() => Promise<unknown>)[]): RedisPipeline {
  const commands = client as unknown as Record<PropertyKey, (...args: unknown[]) => Promise<unknown>>
  const recorder: RedisPipeline = new Proxy({} as RedisPipeline, {
    get:
      (_, name) =>
      (...args: unknown[]): RedisPipeline => {
        calls.push(async () => await commands[name]?.call(client, ...args))
        return recorder
      },
  })
  return recorder
}
