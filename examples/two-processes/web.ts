// The web process: enqueues and answers at once, runs no task itself.
import express from 'express'
import { TaskNotFoundError, TaskTimeoutError, taskBackends } from 'express-tasks-redis'
import { once } from 'node:events'
import { buildReport } from './tasks.ts'

export const app = express()

app.post('/reports/:month', async (req, res) => {
  const result = await buildReport.enqueue(req.params.month)
  res.status(202).location(`/tasks/${result.id}`).json({ id: result.id, status: result.status })
})

// Shows the task; with ?wait=SECONDS it first waits for the end, woken by a message from the worker.
app.get('/tasks/:id', async (req, res) => {
  try {
    const result = await buildReport.getResult(req.params.id)
    const seconds = Math.min(Number(req.query.wait) || 0, 30)
    if (seconds > 0) await result.wait({ timeoutMs: seconds * 1_000 }).catch(unlessTimedOut)
    res.json(result)
  } catch (error) {
    if (!(error instanceof TaskNotFoundError)) throw error
    res.status(404).json({ error: error.code })
  }
})

/** Too early is no error here: the answer shows how far the task is. */
function unlessTimedOut(error: unknown): void {
  if (!(error instanceof TaskTimeoutError)) throw error
}

if (process.argv[1] === import.meta.filename) {
  const port = process.env.PORT ?? '3000'
  const server = app.listen(port)
  await once(server, 'listening')
  console.log(`Listening on http://localhost:${port}`)

  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  server.close()
  server.closeAllConnections()
  await taskBackends.get().close()
}
