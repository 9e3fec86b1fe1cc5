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

/** A hash or a row of XINFO, which drivers answer flat or as an object, as text by name; empty where there is none. */
export function textsOf(reply: unknown): Readonly<Record<string, string>> {
  const texts = Object.create(null) as Record<string, string>
  if (Array.isArray(reply)) {
    for (let index = 0; index < reply.length; index += 2) texts[String(reply[index])] = String(reply[index + 1])
  } else {
    for (const [name, value] of Object.entries(reply ?? {})) texts[name] = String(value)
  }
  return texts
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
