// A worker without a worker: a scheduler calls POST /tasks/run/ every minute, and the tasks run inside that request.
// The caller shows an OpenID Connect token (as Google Cloud Scheduler does) or a shared secret.
import { once } from 'node:events'
import express, { type Express, type Request } from 'express'
import { bearerToken, MemoryTaskBackend, task, tasksRouter, type Action } from 'express-tasks-redis'
import { createRemoteJWKSet, jwtVerify } from 'jose'

export const backend = new MemoryTaskBackend({ queues: [] })
export const report = task('report', (month: string) => `the report of ${month}`)

export interface SchedulerOptions {
  /** Who signs the tokens, and for whom: `https://accounts.google.com` and the URL of this service. */
  readonly issuer: string
  readonly audience: string
  readonly jwksUrl: string
  /** The service account of the scheduler. */
  readonly email: string
  /** For callers that cannot sign: at least 16 characters. */
  readonly secret: string
}

export function createApp(options: SchedulerOptions): Express {
  const keys = createRemoteJWKSet(new URL(options.jwksUrl))
  const hasSecret = bearerToken(options.secret, { actions: ['run', 'enqueue'] })

  async function isScheduler(req: Request): Promise<boolean> {
    const token = /^Bearer (\S+)$/.exec(req.headers.authorization ?? '')?.[1] ?? ''
    const { issuer, audience } = options
    // Rejects for a wrong signature, issuer, audience or time; a rejection refuses the request.
    const { payload } = await jwtVerify(token, keys, { issuer, audience })
    return payload['email'] === options.email && payload['email_verified'] === true
  }

  const authorize = async (req: Request, action: Action): Promise<boolean> =>
    (await hasSecret(req, action)) || (action === 'run' && (await isScheduler(req)))

  return express().use('/tasks', tasksRouter(backend, { authorize }))
}

if (process.argv[1] === import.meta.filename) {
  const { ISSUER, AUDIENCE, JWKS_URL, SCHEDULER_EMAIL, TASKS_SECRET } = process.env
  const app = createApp({
    issuer: ISSUER ?? 'https://accounts.google.com',
    audience: AUDIENCE ?? 'https://tasks.example.com',
    jwksUrl: JWKS_URL ?? 'https://www.googleapis.com/oauth2/v3/certs',
    email: SCHEDULER_EMAIL ?? 'scheduler@project.iam.gserviceaccount.com',
    secret: TASKS_SECRET ?? 'only-for-trying-it-out',
  })
  const port = process.env['PORT'] ?? '3000'
  const server = app.listen(port)
  await once(server, 'listening')
  await report.enqueueMany([['January'], ['February']])
  const token = TASKS_SECRET === undefined ? 'only-for-trying-it-out' : '$TASKS_SECRET'
  console.log(`curl -X POST -H "Authorization: Bearer ${token}" http://localhost:${port}/tasks/run/`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  server.close()
  server.closeIdleConnections()
  // What runs inside a request ends first.
  await once(server, 'close')
  await backend.close()
}
