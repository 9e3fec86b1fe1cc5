// The tasks, and where they are stored: the one file that both processes import.
import { configureTasks, task } from 'express-tasks-redis'
import { setTimeout as sleep } from 'node:timers/promises'

configureTasks({
  default: {
    backend: 'redis',
    queues: ['reports'],
    options: { redisUrl: process.env.REDIS_URL ?? 'redis://localhost:6379/0' },
  },
})

export interface Report {
  readonly month: string
  readonly days: number
}

export const buildReport = task(
  { name: 'reports.build', queueName: 'reports' },
  async (month: string): Promise<Report> => {
    if (!/^\d{4}-(0[1-9]|1[0-2])$/.test(month)) throw new Error(`expected a month like 2026-01, got: ${month}`)
    // Work that no request should wait for.
    await sleep(500)
    const next = new Date(`${month}-01T00:00:00Z`)
    next.setUTCMonth(next.getUTCMonth() + 1, 0)
    return { month, days: next.getUTCDate() }
  },
)
