/** The hosts that the API runs in: Express 5, Express 4 with our Express 5 router in it, and Express 4 throughout. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import express from 'express'
import express4 from 'express4'
import { MemoryTaskBackend, task, taskRegistry, tasksRouter } from '../../../lib/index.ts'
import type { TasksRouterOptions } from '../../../lib/index.ts'
import { replaceBackends } from '../../../lib/task-backends.ts'

export interface Host {
  /** Where the router is mounted. */
  readonly url: string
  close(): Promise<void>
}

const NAMES = ['add', 'fail', 'mail']

/** The tasks that every host knows. */
export function defineTasks(): void {
  task('add', (a: number, b: number) => a + b)
  task('fail', () => {
    throw new RangeError('too far')
  })
  task(
    { name: 'mail', argsSchema: { type: 'array', prefixItems: [{ type: 'string', format: 'email' }], minItems: 1 } },
    (address: string) => address,
  )
}

export function forgetTasks(): void {
  for (const name of NAMES) taskRegistry.delete(name)
  replaceBackends([])
}

export async function listen(app: express.Express, path: string): Promise<Host & { readonly server: Server }> {
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return { url: `http://127.0.0.1:${port}${path}`, server, close }
}

/** A memory backend behind a router in a new app. */
export async function startHost(
  make: () => express.Express = express,
  options: TasksRouterOptions = {},
): Promise<Host & { readonly backend: MemoryTaskBackend }> {
  const backend = new MemoryTaskBackend({ queues: [] })
  const app = make()
  app.use('/deep/:tenant/tasks', tasksRouter(backend, options))
  const { url, close } = await listen(app, '/deep/acme/tasks')
  return {
    url,
    backend,
    close: async () => {
      await close()
      await backend.close()
    },
  }
}

/** The whole process on Express 4: host, router and all. */
async function startExpress4Process(): Promise<Host> {
  const loader = new URL('./express4-loader.mjs', import.meta.url).href
  const script = new URL('./host-app.mjs', import.meta.url).pathname
  const child = spawn(process.execPath, ['--import', loader, script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  for await (const line of createInterface({ input: child.stdout })) {
    const { url } = JSON.parse(line) as { url: string }
    const close = async (): Promise<void> => {
      child.stdin.end()
      await exited
    }
    return { url, close }
  }
  throw new Error('the host ended before it listened')
}

export const HOSTS: readonly { readonly name: string; start(): Promise<Host> }[] = [
  { name: 'Express 5', start: () => startHost() },
  { name: 'Express 4 with a router of Express 5', start: () => startHost(express4) },
  { name: 'Express 4 throughout', start: startExpress4Process },
]

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Record<string, unknown>
}

/** One request; objects travel as JSON. */
export async function request(
  host: Host,
  method: string,
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const json = typeof body === 'object'
  const response = await fetch(host.url + path, {
    method,
    redirect: 'manual',
    headers: { ...(json && { 'content-type': 'application/json' }), ...headers },
    ...(body !== undefined && { body: json ? JSON.stringify(body) : (body as string) }),
  })
  const text = await response.text()
  const parsed: unknown = text.startsWith('{') ? JSON.parse(text) : {}
  return { status: response.status, headers: response.headers, body: parsed as Record<string, unknown> }
}
