/** Hosts for specs of the admin: a backend on memory or on the shared Redis server, its router in an app, pages as text. */
import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import express from 'express'
import { MemoryTaskBackend, RedisTaskBackend, tasksRouter } from '../../../lib/index.ts'
import type { TaskBackend, TasksRouterOptions } from '../../../lib/index.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'
import { listen } from './hosts.ts'

export interface AdminHost {
  readonly url: string
  readonly origin: string
  readonly backend: TaskBackend
  close(): Promise<void>
}

export interface HostOptions extends TasksRouterOptions {
  readonly make?: () => express.Express
  readonly mount?: string
  /** The mount path as a request writes it. */
  readonly path?: string
}

export const BACKENDS: readonly { readonly name: string; make(): Promise<TaskBackend> }[] = [
  { name: 'memory', make: async () => new MemoryTaskBackend({ queues: [] }) },
  {
    name: 'redis',
    make: async () => {
      const { url } = await sharedRedisServer()
      return new RedisTaskBackend({ redisUrl: url, keyPrefix: `spec-${randomUUID()}`, queues: [] })
    },
  },
]

export async function startAdmin(backend: TaskBackend, options: HostOptions = {}): Promise<AdminHost> {
  const { make = express, mount = '/tasks', path = mount, ...routerOptions } = options
  const app = make()
  app.use(mount, tasksRouter(backend, routerOptions))
  const { url, close } = await listen(app, `${path}/admin`)
  return {
    url,
    origin: new URL(url).origin,
    backend,
    close: async () => {
      await close()
      await backend.close()
    },
  }
}

export interface Page {
  readonly status: number
  readonly headers: Headers
  readonly html: string
  readonly location: string
}

const CSP = /^default-src 'none'; .*base-uri 'none'; form-action 'self'; frame-ancestors 'none'$/

/** One request; what must hold of every answer is checked here. */
export async function visit(host: AdminHost, path: string, init: RequestInit = {}): Promise<Page> {
  const url = path.startsWith('http') ? path : host.url + path
  const answer = await fetch(url, { redirect: 'manual', ...init })
  const html = await answer.text()
  const { headers, status } = answer
  expect(headers.get('content-security-policy'), path).to.match(CSP)
  expect(headers.get('x-content-type-options'), path).to.equal('nosniff')
  expect(headers.get('x-frame-options'), path).to.equal('DENY')
  expect(headers.get('referrer-policy'), path).to.equal('same-origin')
  if (!path.includes('/assets/')) expect(headers.get('cache-control'), path).to.equal('no-store')
  expect(headers.get('set-cookie'), path).to.equal(null)
  return { status, headers, html, location: headers.get('location') ?? '' }
}

export async function send(
  host: AdminHost,
  path: string,
  fields: Readonly<Record<string, string | readonly string[]>>,
  headers: Readonly<Record<string, string>> = { 'sec-fetch-site': 'same-origin' },
): Promise<Page> {
  const body = new URLSearchParams()
  for (const [name, value] of Object.entries(fields)) for (const each of [value].flat()) body.append(name, each)
  return await visit(host, path, { method: 'POST', body, headers })
}

const decode = (text: string): string =>
  text
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))
    .replace(/&(amp|lt|gt);/g, (_, name: string) => ({ amp: '&', lt: '<', gt: '>' })[name] ?? '')

/** The values of an attribute, decoded. */
export function attributes(html: string, name: string): string[] {
  return [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, 'g'))].map(([, value]) => decode(value ?? ''))
}

/** What a reader sees: tags gone, entities decoded, white space as one space. */
export function textOf(html: string): string {
  return decode(html.replace(/<head>[\s\S]*?<\/head>/, '').replace(/<[^>]*>/g, ' ')).replace(/\s+/g, ' ')
}

/** The hidden fields and the action of the first form that has an action. */
export function formIn(html: string): { action: string; fields: Record<string, string[]> } {
  const form = /<form method="post" action="([^"]*)"[\s\S]*?<\/form>/.exec(html)
  const fields: Record<string, string[]> = {}
  for (const [, name = '', value = ''] of (form?.[0] ?? '').matchAll(
    /<input type="hidden" name="([^"]*)" value="([^"]*)">/g,
  )) {
    fields[name] = [...(fields[name] ?? []), decode(value)]
  }
  return { action: decode(form?.[1] ?? ''), fields }
}
