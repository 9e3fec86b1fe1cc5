/**
 * Requests made up at random over the tables of routes: right, wrong in one place, wrong in many. What follows from a seed is the
 * same each time.
 */
import type { OutgoingHttpHeaders } from 'node:http'
import { ADMIN_ROUTES } from '../../../lib/http/admin-router.ts'
import { API_ROUTES } from '../../../lib/http/routes.ts'
import type { Schema } from '../../../lib/http/routes.ts'
import {
  BODIES,
  HOSTILE_TEXTS,
  KEYS,
  NAMES,
  ODD_NAMES,
  WRONG_ADMIN_TIMES,
  WRONG_NUMBER_TEXTS,
  WRONG_TIMES,
  WRONG_TYPES,
} from './bad-input.ts'

export interface GeneratedRequest {
  readonly method: string
  readonly path: string
  readonly headers: OutgoingHttpHeaders
  readonly body: string | Buffer | undefined
}

const METHODS = ['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PURGE']
/** What may stand in a URL and a header as it is; longer ones are refused by Node itself. */
const TEXTS = [...NAMES, ...ODD_NAMES, ...WRONG_NUMBER_TEXTS, ...WRONG_ADMIN_TIMES, ...HOSTILE_TEXTS].filter(
  (text) => text.length < 1_000,
)
const VALUES: readonly unknown[] = [...TEXTS, ...WRONG_TYPES, ...WRONG_TIMES, -1, 1e9, 2 ** 53]
/** Those that take no part of a second to send. */
const SMALL_BODIES = BODIES.filter(({ body }) => body.length < 300_000)

/** What the admin's filters, forms and pages read. */
const ADMIN_WORDS: Readonly<Record<string, readonly string[]>> = {
  status: ['READY', 'RUNNING', 'SUCCESSFUL', 'FAILED'],
  queue: ['default', 'other'],
  name: ['add', 'fail', 'mail'],
  priority: ['0', '5', '-5'],
  size: ['25', '200'],
  sort: ['newest', 'oldest'],
  live: ['2', '30'],
  text: ['far', '1', 'x'],
  backend: ['default'],
  enqueued_from: ['24h', '2026-01-01'],
  finished_to: ['7d', '2030-01-01T00:00:00Z'],
  scope: ['ticked', 'filter', 'all'],
  single: ['1'],
  notice: ['retry.1', 'delete.2'],
  done: ['1'],
  skipped: ['1'],
  failed: ['1'],
  left: ['1'],
  total: ['3'],
  cutoff: ['0'],
  page: ['1', '2'],
  after: ['0.0'],
  download: ['1'],
}

/** What is read of a field's schema. */
interface Bounds {
  readonly type?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly format?: string
}

export class RequestGenerator {
  readonly #random: () => number
  readonly #mount: string
  readonly #ids: string[]

  constructor(random: () => number, mount: string, ids: readonly string[]) {
    this.#random = random
    this.#mount = mount
    this.#ids = [...ids]
  }

  /** An id that later requests may name. */
  learn(id: string): void {
    if (this.#ids.length < 500) this.#ids.push(id)
    else this.#ids[Math.floor(this.#random() * this.#ids.length)] = id
  }

  next(): GeneratedRequest {
    const request = this.#chance(0.7) ? this.#api() : this.#admin()
    return {
      ...request,
      method: this.#chance(0.1) ? this.#one(METHODS) : request.method,
      path: this.#chance(0.05) ? this.#bent(request.path) : request.path,
      headers: { ...request.headers, ...this.#oddHeaders() },
    }
  }

  #api(): GeneratedRequest {
    const route = this.#one(API_ROUTES)
    const path = `${this.#mount}${route.path.replace(/:(\w+)/g, (_, name: string) => this.#param(name))}/`
    const fields = Object.entries(route.fields)
      .filter(() => this.#chance(0.4))
      .map(([name, schema]): [string, unknown] => [name, this.#chance(0.7) ? this.#fitting(schema) : this.#one(VALUES)])
    if (this.#chance(0.05)) fields.push([this.#one(KEYS), this.#one(VALUES)])
    if (!route.changes) return { method: 'GET', path: `${path}?${queryOf(fields)}`, headers: {}, body: undefined }
    if (this.#chance(0.05)) {
      const { body, type = 'application/json', headers = {} } = this.#one(SMALL_BODIES)
      return { method: 'POST', path, headers: { ...(type !== null && { 'content-type': type }), ...headers }, body }
    }
    const isForm = this.#chance(0.3)
    const body = isForm ? queryOf(fields) : JSON.stringify(Object.fromEntries(fields))
    return { method: 'POST', path, headers: { 'content-type': isForm ? FORM : 'application/json' }, body }
  }

  #admin(): GeneratedRequest {
    const route = this.#one(ADMIN_ROUTES)
    const path = `${this.#mount}/admin${route.path.replace(':id', this.#param('id'))}`
    const words = (): string =>
      queryOf(
        Object.entries(ADMIN_WORDS)
          .filter(() => this.#chance(0.12))
          .map(([name, good]): [string, string] => [name, this.#chance(0.8) ? this.#one(good) : this.#one(TEXTS)]),
      )
    if (route.method === 'get') return { method: 'GET', path: `${path}?${words()}`, headers: {}, body: undefined }
    const ids = Array.from({ length: Math.floor(this.#random() * 4) }, (): [string, string] => [
      'id',
      this.#param('id'),
    ])
    return { method: 'POST', path, headers: { 'content-type': FORM }, body: `${words()}&${queryOf(ids)}` }
  }

  #param(name: string): string {
    const good = name === 'id' ? this.#ids : ['add', 'fail', 'mail']
    return this.#chance(0.8) ? this.#one(good) : encoded(this.#one(TEXTS))
  }

  #fitting(schema: Schema): unknown {
    const { type, minimum = 0, maximum = 10, format } = schema as Bounds
    if (type === 'integer') return minimum + Math.floor(this.#random() * Math.min(10, maximum - minimum))
    if (type === 'number') return minimum
    if (type === 'boolean') return this.#chance(0.5)
    if (type === 'array') return 'items' in schema ? ['FAILED'] : [1, this.#one(VALUES)]
    if (format === 'date-time') return new Date(Date.now() + this.#random() * 60_000).toISOString()
    return String(schema['description']).startsWith('id ') ? this.#param('id') : this.#one(['default', 'other', 'add'])
  }

  #oddHeaders(): OutgoingHttpHeaders {
    if (this.#chance(0.8)) return {}
    const odd: readonly OutgoingHttpHeaders[] = [
      { 'idempotency-key': this.#one(['a', 'b', 'c', '"d"', 'a b', '']) },
      { origin: this.#one(['http://evil.test', 'null', 'http://127.0.0.1']) },
      { 'sec-fetch-site': this.#one(['cross-site', 'same-site', 'same-origin', 'none', 'x']) },
      { 'x-forwarded-for': '10.0.0.1', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.test' },
      { authorization: `Bearer ${'t'.repeat(Math.floor(this.#random() * 2_000))}` },
      { accept: this.#one(['text/html', 'application/xml', '*/*;q=0', 'x']) },
      { 'accept-encoding': this.#one(['gzip', 'br', 'x', '*;q=0']) },
      { 'if-none-match': this.#one(['*', '"x"', 'W/"x"', '"']) },
      { host: this.#one(['evil.test', 'localhost', '[::1]', 'a b', '']) },
      { 'x-http-method-override': 'DELETE' },
      { 'x-long': 'h'.repeat(Math.floor(this.#random() * 12_000)) },
    ]
    return this.#one(odd)
  }

  #bent(path: string): string {
    const bends: readonly ((path: string) => string)[] = [
      (given) => given.replace('/', '//'),
      (given) => given.replace(/\/([^/]*)$/, '/./$1'),
      (given) => given.replace(/\/$/, ''),
      (given) => given.toUpperCase(),
      (given) => given.replace(/\/(?=[^/]*$)/, '%2f'),
      (given) => `${given}%00`,
      (given) => `${given}/../../${encoded(this.#one(TEXTS))}`,
      (given) => `${given}?${'a=b&'.repeat(200)}`,
      (given) => given.slice(0, Math.ceil(this.#random() * given.length)),
    ]
    return this.#one(bends)(path)
  }

  #chance(part: number): boolean {
    return this.#random() < part
  }

  #one<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)] as T
  }
}

const FORM = 'application/x-www-form-urlencoded'

const encoded = (text: string): string => encodeURIComponent(text.replaceAll(/[\ud800-\udfff]/g, '\ufffd'))

function queryOf(fields: readonly (readonly [string, unknown])[]): string {
  const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
  return new URLSearchParams(fields.map(([name, value]): [string, string] => [name, text(value)])).toString()
}
