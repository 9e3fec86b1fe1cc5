import { expect } from 'chai'
import express from 'express'
import sinon from 'sinon'
import { MemoryTaskBackend, tasksRouter } from '../../lib/index.ts'
import { ADMIN_ROUTES } from '../../lib/http/admin-router.ts'
import { API_ROUTES } from '../../lib/http/routes.ts'
import { expectHeaders, fill } from './support/bad-input-host.ts'
import { defineTasks, forgetTasks, listen } from './support/hosts.ts'
import { RawClient } from './support/raw-client.ts'

const JSON_TYPE = { 'content-type': 'application/json' }
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' }
const NOBODY = '01890000-0000-7000-8000-000000000000'
const SECRETS = 'redis://user:hunter2@10.1.2.3:6379 {express_tasks:default}:task:x /srv/app/lib/x.ts SELECT secret'

describe('Answers', () => {
  let backend: MemoryTaskBackend
  let client: RawClient
  let ids: Readonly<Record<string, string>>
  let close: () => Promise<void>

  before(async () => {
    defineTasks()
    backend = new MemoryTaskBackend({ queues: [] })
    ids = await fill(backend)
    const app = express()
    app.use('/:tenant/tasks', tasksRouter(backend, { authorize: () => true, bodyLimitBytes: 2_048 }))
    const host = await listen(app, '/acme/tasks')
    client = new RawClient(host.url)
    close = host.close
  })
  after(async () => {
    client[Symbol.dispose]()
    await close()
    await backend.close()
    forgetTasks()
  })
  afterEach(() => sinon.restore())

  it('carry the headers whatever the status: redirects, assets, and each refusal', async () => {
    const mount = '/acme/tasks'
    const rows: readonly (readonly [status: number, method: string, path: string, body?: string, headers?: object])[] =
      [
        [200, 'GET', '/health/'],
        [202, 'POST', '/enqueue/add/', '{"args":[1,2]}', JSON_TYPE],
        [303, 'POST', '/admin/act/retry', `scope=ticked&single=1&id=${ids['failed']}`, FORM_TYPE],
        [400, 'POST', '/run/', '{', JSON_TYPE],
        [403, 'POST', '/run/', '{}', { ...JSON_TYPE, 'sec-fetch-site': 'cross-site' }],
        [403, 'POST', '/admin/act/run', '', { ...FORM_TYPE, origin: 'http://evil.test' }],
        [404, 'GET', `/status/${NOBODY}/`],
        [404, 'GET', '/nowhere'],
        [404, 'GET', '/admin/nowhere'],
        [404, 'GET', '/admin/assets/nothing.css'],
        [405, 'PUT', '/run/'],
        [405, 'PUT', '/admin/tasks'],
        [409, 'POST', `/execute/${ids['running']}/`, '{}', JSON_TYPE],
        [413, 'POST', '/run/', 'x'.repeat(2_049), JSON_TYPE],
        [413, 'POST', '/admin/act/run', 'x'.repeat(2_049), FORM_TYPE],
        [415, 'POST', '/run/', 'x', { 'content-type': 'text/plain' }],
        [415, 'POST', '/admin/act/run', 'x', { 'content-type': 'text/plain' }],
        [422, 'POST', '/enqueue/mail/', '{"args":["x"]}', JSON_TYPE],
      ]
    for (const [status, method, path, body, headers = {}] of rows) {
      const answer = await client.send(method, mount + path, { headers: { ...headers }, body })
      expect([method, path, answer.status]).to.deep.equal([method, path, status])
      expectHeaders(answer, path)
    }
    const { text } = await client.send('GET', `${mount}/admin`)
    for (const [, asset = ''] of text.matchAll(/(?:href|src)="([^"]*\/assets\/[^"]*)"/g)) {
      const answer = await client.send('GET', asset)
      expect(answer.status).to.equal(200)
      expectHeaders(answer, asset, ['cache-control'])
    }
  })

  it('of a storage that fails in any way say nothing of what it said, on any route', async () => {
    const stubs = Object.getOwnPropertyNames(Object.getPrototypeOf(backend.storage))
      .filter((name) => !['constructor', 'close'].includes(name))
      .filter((name) => typeof backend.storage[name as 'find'] === 'function')
      .map((name) => sinon.stub(backend.storage, name as 'find'))
    for (const thrown of [new Error(SECRETS), Object.assign(new RangeError(SECRETS), { type: SECRETS, status: 418 })]) {
      for (const stub of stubs) stub.rejects(thrown)
      const routes = [...API_ROUTES, ...ADMIN_ROUTES.map((route) => ({ ...route, path: `/admin${route.path}` }))]
      for (const { method, path } of routes) {
        const target = `/acme/tasks${path.replace(':id', ids['ready'] ?? '').replace(':name', 'add')}`
        const isForm = path.startsWith('/admin')
        const body = isForm
          ? `scope=all&cutoff=1`
          : '{"args":[1,2]}'.slice(0, path.startsWith('/enqueue') ? 14 : 0) || '{}'
        const headers = isForm ? FORM_TYPE : JSON_TYPE
        const answer = await client.send(method.toUpperCase(), target, method === 'get' ? {} : { headers, body })
        expect([path, JSON.stringify(answer)]).to.satisfy(
          ([, all]: [string, string]) =>
            !/hunter2|10\.1\.2\.3|\/srv\/app|SELECT|express_tasks:default|\bat \w+ \(/.test(all),
        )
        expect(answer.status, path).to.be.oneOf([200, 303, 500])
        expectHeaders(answer, path)
      }
    }
  })

  it('name no other host in links and redirects, whatever the path of the mount says', async () => {
    for (const tenant of [
      '%2f%2fevil.test',
      '\\evil.test',
      '%5cevil.test',
      '%0d%0aset-cookie:x=1',
      'a"b',
      "a'b",
      '@evil.test',
      'http:',
      'javascript:',
    ]) {
      const mount = `/${tenant}/tasks`
      const id = ids['ready'] ?? ''
      const enqueued = await client.send('POST', `${mount}/enqueue/add/`, {
        headers: JSON_TYPE,
        body: '{"args":[1,2]}',
      })
      const acted = await client.send('POST', `${mount}/admin/act/retry`, {
        headers: FORM_TYPE,
        body: `single=1&id=${id}`,
      })
      expect([tenant, enqueued.status, acted.status]).to.deep.equal([tenant, 202, 303])
      for (const { headers } of [enqueued, acted]) {
        expect(headers.location, tenant).to.match(/^\/(?![/\\])[^\\\r\n]*$/)
        expect(new URL(headers.location ?? '', 'http://own.test').host).to.equal('own.test')
        expect(headers['set-cookie']).to.equal(undefined)
      }
      const { text } = await client.send('GET', `${mount}/admin/tasks`)
      for (const [, target = ''] of text.matchAll(/\s(?:href|src|action|formaction)="([^"]*)"/g))
        expect(new URL(target.replaceAll('&amp;', '&'), 'http://own.test').host, target).to.equal('own.test')
    }
  })

  it('keep to each limit: one below, the limit itself, one above', async () => {
    const ask = async (path: string, body: string): Promise<number> =>
      (await client.send('POST', `/acme/tasks${path}`, { headers: JSON_TYPE, body })).status
    const padded = (length: number): string => '{"max_tasks":1}'.padEnd(length, ' ')
    const deep = (levels: number): string => `{"args":[1,2,${'['.repeat(levels)}${']'.repeat(levels)}]}`
    const rows: readonly (readonly [name: string, (offset: number) => Promise<number>, good: number, bad: number])[] = [
      ['body', (offset) => ask('/run/', padded(2_048 + offset)), 200, 413],
      ['max_tasks', (offset) => ask('/run/', `{"max_tasks":${1_000 + offset}}`), 200, 400],
      ['max_seconds', (offset) => ask('/run/', `{"max_seconds":${3_600 + offset}}`), 200, 400],
      ['priority', (offset) => ask('/enqueue/add/', `{"args":[1,2],"priority":${100 + offset}}`), 202, 400],
      ['least priority', (offset) => ask('/enqueue/add/', `{"args":[1,2],"priority":${-100 - offset}}`), 202, 400],
      ['name', (offset) => ask('/enqueue/add/', `{"args":[1,2],"queue_name":"${'q'.repeat(128 + offset)}"}`), 202, 400],
      ['depth', (offset) => ask('/enqueue/add/', deep(62 + offset)), 202, 400],
      ['days', (offset) => ask('/purge/', `{"dry_run":true,"days":${36_500 + offset}}`), 200, 400],
    ]
    for (const [name, act, good, bad] of rows) {
      for (const [offset, status] of [
        [-1, good],
        [0, good],
        [1, bad],
      ] as const)
        expect([name, offset, await act(offset)]).to.deep.equal([name, offset, status])
    }
    for (const [query, status] of [
      [`text=${'x'.repeat(200)}`, 200],
      [`text=${'x'.repeat(201)}`, 400],
    ] as const)
      expect((await client.send('GET', `/acme/tasks/admin/tasks?${query}`)).status).to.equal(status)
  })
})
