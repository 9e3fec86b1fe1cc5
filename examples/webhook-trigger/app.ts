// A webhook that starts a task: the request is checked, stored and answered at once; the work is done after it.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import express from 'express'
import { MemoryTaskBackend, RedisTaskBackend, task, TaskOptionError, Worker } from 'express-tasks-redis'

const { REDIS_URL: redisUrl, PORT: port = '3000', WEBHOOK_SECRET: secret = 'only for trying it out' } = process.env
export const backend = redisUrl ? new RedisTaskBackend({ redisUrl }) : new MemoryTaskBackend()

export const deploy = task({ name: 'deploy', retry: { maxAttempts: 5 } }, (repository: string, commit: string) => {
  console.log(`deployed ${commit} of ${repository}`)
})

/** As GitHub signs what it sends: HMAC-SHA256 over the bytes of the body. */
export function signatureOf(body: string | Buffer): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
}

function isSigned(body: Buffer, signature: string): boolean {
  const [given, expected] = [Buffer.from(signature), Buffer.from(signatureOf(body))]
  return given.length === expected.length && timingSafeEqual(given, expected)
}

/** What the task needs of a push; undefined when it is none. Better two texts on the record than the whole event. */
function readPush(body: Buffer): [repository: string, commit: string] | undefined {
  try {
    const { repository, after } = JSON.parse(String(body)) as { repository: { full_name: unknown }; after: unknown }
    const { full_name: name } = repository
    return typeof name === 'string' && typeof after === 'string' ? [name, after] : undefined
  } catch {
    return undefined
  }
}

export const app = express()

// Raw: the signature is of the bytes as they came, not of what a parser makes of them.
app.post('/webhooks/push', express.raw({ type: 'application/json', limit: '1mb' }), async (req, res) => {
  const body = Buffer.isBuffer(req.body) ? req.body : Buffer.alloc(0)
  if (!isSigned(body, req.get('X-Hub-Signature-256') ?? '')) {
    res.sendStatus(401)
    return
  }
  const push = readPush(body)
  if (!push) {
    res.status(400).json({ error: 'expected a push event' })
    return
  }
  try {
    // A sender that got no answer sends again. The id of the delivery is the id of the record: it is stored once.
    const { id, status } = await backend.enqueue(deploy, push, { id: req.get('X-GitHub-Delivery') ?? '' })
    res.status(202).json({ id, status })
  } catch (error) {
    if (!(error instanceof TaskOptionError)) throw error
    res.status(400).json({ error: error.message })
  }
})

if (process.argv[1] === import.meta.filename) {
  const server = app.listen(port)
  await once(server, 'listening')
  const worker = new Worker(backend)
  await worker.start()
  const body = '{"repository":{"full_name":"ada/engine"},"after":"4f2a1c0"}'
  console.log(`curl -i http://localhost:${port}/webhooks/push -H 'Content-Type: application/json' \\
  -H 'X-GitHub-Delivery: ${crypto.randomUUID()}' \\
  -H 'X-Hub-Signature-256: ${signatureOf(body)}' -d '${body}'`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  server.close()
  await worker.stop()
  await backend.close()
  server.closeAllConnections()
}
