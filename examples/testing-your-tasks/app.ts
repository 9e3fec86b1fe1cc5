// A small app to be tested: a route that enqueues, and the task that it enqueues.
import express from 'express'
import { task } from 'express-tasks-redis'

/** Stands for a mail server. */
export const outbox: string[] = []

export const sendWelcome = task(
  { name: 'mail.welcome', retry: { maxAttempts: 3, delayMs: 0 } },
  async (to: string): Promise<string> => {
    if (!to.includes('@')) throw new Error(`no such address: ${to}`)
    outbox.push(to)
    return `welcome, ${to}`
  },
)

export const app = express().use(express.json())

app.post('/signup', async (req, res) => {
  const { email } = (req.body ?? {}) as { email?: unknown }
  if (typeof email !== 'string') {
    res.sendStatus(400)
    return
  }
  const { id } = await sendWelcome.enqueue(email)
  res.status(202).json({ id })
})
