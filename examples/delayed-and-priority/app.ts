// When a task starts, and in which order: priority, runAfter and queueName. Ends by itself.
import { MemoryTaskBackend, RedisTaskBackend, task, Worker } from 'express-tasks-redis'

const { REDIS_URL: redisUrl } = process.env
const queues = ['notes', 'archive']
export const backend = redisUrl ? new RedisTaskBackend({ redisUrl, queues }) : new MemoryTaskBackend({ queues })

export const note = task({ name: 'note', queueName: 'notes' }, (text: string) => console.log(text))

/** No worker runs yet, so the order of these lines is not the order of the output. */
export async function enqueueAll(): Promise<void> {
  // using() gives another task with other settings; `note` itself stays as it is.
  await note.using({ queueName: 'archive' }).enqueue('archive: its own queue, served when somebody asks for it')
  await note.using({ runAfter: new Date(Date.now() + 1_000), priority: 100 }).enqueue('delayed: not before its time')
  await note.using({ priority: -10 }).enqueue('low: once no other is waiting')
  await note.enqueue('normal, first in')
  await note.enqueue('normal, second in')
  await note.using({ priority: 50 }).enqueue('high: overtakes all of these')
}

export async function runAll(): Promise<void> {
  // One slot, so that tasks start one after the other. Not continuous: run() resolves when nothing is due.
  await new Worker(backend, { queues: ['notes'], concurrency: 1, continuous: false }).run()
  // Continuous: waits for the delayed one, and ends after that one task.
  await new Worker(backend, { queues: ['notes'], maxTasks: 1 }).run()
  await new Worker(backend, { queues: ['archive'], continuous: false }).run()
}

if (process.argv[1] === import.meta.filename) {
  await enqueueAll()
  await runAll()
  await backend.close()
}
