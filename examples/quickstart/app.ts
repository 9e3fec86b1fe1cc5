import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import { MemoryTaskBackend, RedisTaskBackend, task, tasksRouter, Worker, type TaskResult } from 'express-tasks-redis'

// A task is an async function with a name. Enqueuing it stores a record; a worker runs it soon after.
const greet = task(async function greet(name: string) {
  if (name === '') throw new Error('Greet whom?')
  await sleep(500)
  return `Hello, ${name}!`
})

// On Redis when REDIS_URL is set, else in the memory of this process.
const { REDIS_URL: redisUrl, PORT: port = '3000' } = process.env
export const backend = redisUrl ? new RedisTaskBackend({ redisUrl }) : new MemoryTaskBackend()
backend.on('taskFinished', (result) => console.log(describe(result)))

function describe(result: TaskResult) {
  const end = result.status === 'SUCCESSFUL' ? result.returnValue : result.errors.at(-1)?.message
  return [result.name, ...result.args, result.status, end].join(' ')
}

export const app = express().use(express.urlencoded({ extended: false }))

// HTTP endpoints, and the admin at /tasks/admin. Without `authorize` they are for this machine only.
app.use('/tasks', tasksRouter(backend))

app.get('/', async (_req, res) => {
  const records = await backend.records.filter({ name: 'greet' }).limit(20)
  const items = records.map((record) => '<li>' + describe(record).replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`))
  const refresh = records.every((record) => record.isFinished) ? '' : '<meta http-equiv="refresh" content="1">'
  const form = '<form method="post"><input name="name" aria-label="Name" autofocus> <button>Greet</button></form>'
  const admin = '<a href="/tasks/admin">Admin</a>'
  res.send(`<!doctype html><title>Greetings</title>${refresh}${form} ${admin}<ul>${items.join('\n')}</ul>`)
})

app.post('/', async (req, res) => {
  await greet.enqueue((req.body as { name?: string } | undefined)?.name ?? '')
  res.redirect(303, '/')
})

if (process.argv[1] === import.meta.filename) {
  const server = app.listen(port)
  await once(server, 'listening')
  const worker = new Worker(backend)
  await worker.start()
  await greet.enqueueMany([['Ada'], ['Grace'], ['Linus']])
  console.log(`Open http://localhost:${port} or http://localhost:${port}/tasks/admin (Ctrl-C stops)`)

  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  server.close()
  await worker.stop()
  await backend.close()
  server.closeAllConnections()
}
