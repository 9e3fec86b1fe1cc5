// The admin behind the app's own login: sessions, and two roles. A viewer looks; an operator may also change things.
import { once } from 'node:events'
import express, { type Request } from 'express'
import session from 'express-session'
import { MemoryTaskBackend, task, tasksRouter, type Action } from 'express-tasks-redis'

declare module 'express-session' {
  interface SessionData {
    role: 'viewer' | 'operator'
  }
}

export const backend = new MemoryTaskBackend({ queues: [] })
export const resize = task('resize', (file: string) => {
  if (!file.endsWith('.png')) throw new Error(`not a picture: ${file}`)
  return `${file} is smaller now`
})

// Stands for your user database.
const USERS: Readonly<Record<string, { password: string; role: 'viewer' | 'operator' }>> = {
  vera: { password: 'look', role: 'viewer' },
  otto: { password: 'touch', role: 'operator' },
}

/** Asked on every route of the router, pages and assets included. */
function authorize(req: Request, action: Action): boolean {
  const { role } = req.session
  return role === 'operator' || (role === 'viewer' && action === 'view')
}

export const app = express()
app.use(
  session({
    secret: process.env['SESSION_SECRET'] ?? 'only for trying it out',
    resave: false,
    saveUninitialized: false,
    cookie: { sameSite: 'lax', httpOnly: true },
  }),
)

app.get('/login', (_req, res) => {
  res.send(`<!doctype html><title>Sign in</title><form method="post">
    <input name="name" aria-label="Name"> <input name="password" type="password" aria-label="Password"> <button>Sign in</button>
  </form>`)
})

app.post('/login', express.urlencoded({ extended: false }), (req, res, next) => {
  const { name = '', password = '' } = (req.body ?? {}) as { name?: string; password?: string }
  const user = Object.hasOwn(USERS, name) ? USERS[name] : undefined
  if (user?.password !== password) {
    res.status(401).send('Wrong name or password. <a href="/login">Again</a>')
    return
  }
  // A new session id for a new identity.
  req.session.regenerate((error) => {
    if (error) {
      next(error)
      return
    }
    req.session.role = user.role
    res.redirect(303, '/tasks/admin')
  })
})

app.use('/tasks', tasksRouter(backend, { authorize }))

if (process.argv[1] === import.meta.filename) {
  await resize.enqueueMany([['cat.png'], ['dog.png'], ['notes.txt']])
  const port = process.env['PORT'] ?? '3000'
  const server = app.listen(port)
  await once(server, 'listening')
  console.log(`Open http://localhost:${port}/login as vera/look or otto/touch (Ctrl-C stops)`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  server.close()
  server.closeAllConnections()
  await backend.close()
}
