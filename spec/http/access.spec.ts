import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { expect } from 'chai'
import express from 'express'
import express4 from 'express4'
import type { Request } from 'express'
import sinon from 'sinon'
import { bearerToken, MemoryTaskBackend, TaskOptionError, tasksRouter } from '../../lib/index.ts'
import type { Action } from '../../lib/index.ts'
import { ACTIONS, checkSameOrigin, isLoopback } from '../../lib/http/access.ts'
import { ADMIN_ROUTES } from '../../lib/http/admin-router.ts'
import { assetFileName } from '../../lib/http/render.ts'
import { API_ROUTES } from '../../lib/http/routes.ts'
import type { ApiRoute } from '../../lib/http/routes.ts'
import { fill } from './support/bad-input-host.ts'
import { defineTasks, forgetTasks, listen, request, startHost } from './support/hosts.ts'
import { RawClient } from './support/raw-client.ts'

/** In a process of its own `express` is Express 4: see express4.spec.ts. */
const MAJOR = (express as unknown) === express4 ? 4 : 5
const MOUNT = '/deep/acme/tasks'
const NOBODY = '01890000-0000-7000-8000-000000000000'
const ROUTES: readonly ApiRoute[] = API_ROUTES
const pathOf = ({ path }: ApiRoute): string => path.replace(':id', NOBODY).replace(':name', 'add')

/** A storage on which any call is an offence. */
function forbiddenStorage(backend: MemoryTaskBackend): sinon.SinonStub[] {
  const { storage } = backend
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(storage)) as (keyof typeof storage)[]
  return names
    .filter((name) => !['constructor', 'close'].includes(name) && typeof storage[name] === 'function')
    .map((name) => sinon.stub(storage, name))
}

/** Any path of the router, what it asks for, and whether anybody but GET and HEAD means something there. */
interface Guarded {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly action: Action
}

const ALL: readonly Guarded[] = [
  ...ROUTES.map((route) => ({ ...route, path: `${pathOf(route)}/` })),
  ...ADMIN_ROUTES.map((route) => ({ ...route, path: `/admin${route.path.replace(':id', NOBODY)}` })),
  { method: 'get', path: `/admin/assets/${assetFileName('admin.css')}`, action: 'view' } as const,
  { method: 'get', path: '/admin/assets/nothing.css', action: 'view' } as const,
  { method: 'get', path: '/', action: 'view' } as const,
  { method: 'get', path: '/nowhere', action: 'view' } as const,
  { method: 'get', path: '/admin/nowhere', action: 'view' } as const,
  { method: 'get', path: '/status/%E0%A4%A', action: 'view' } as const,
  { method: 'get', path: '/admin/tasks/%E0%A4%A', action: 'view' } as const,
].map(({ method, path, action }) => ({ method: method === 'get' ? 'GET' : 'POST', path, action }))

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']

/** What Express 4 and 5 both say of a layer of a router. */
interface Layer {
  readonly name: string
  readonly route?: { readonly path: string; readonly methods: Readonly<Record<string, boolean>> }
  readonly handle: { readonly length: number; readonly stack?: readonly Layer[] }
}

/** Every layer as a line: routes with their methods, nested routers with what is in them, and other middleware. */
function layersOf(stack: readonly Layer[]): string[] {
  return stack.flatMap(({ route, handle }) => {
    if (route) return [`${Object.keys(route.methods).sort().join()} ${route.path}`]
    if (handle.stack) return ['router', ...layersOf(handle.stack).map((line) => `  ${line}`)]
    return [handle.length === 4 ? 'on errors' : 'on all']
  })
}

describe('access', () => {
  before(defineTasks)
  after(forgetTasks)
  afterEach(() => sinon.restore())

  describe('authorize', () => {
    const refusals: readonly (readonly [string, () => unknown])[] = [
      ['false', () => false],
      ['undefined', () => undefined],
      ['null', () => null],
      ['1', () => 1],
      ["'true'", () => 'true'],
      ['an object', () => ({})],
      ['an object that is like true', () => new Boolean(true)],
      ['a promise of 1', () => Promise.resolve(1)],
      [
        'a throw',
        () => {
          throw new Error('secret')
        },
      ],
      ['a rejection', () => Promise.reject(new Error('secret'))],
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- anything may be thrown
      ['a rejection with true', () => Promise.reject(true)],
    ]
    for (const [name, answer] of refusals) {
      it(`refuses every route on ${name}, by any method, before a body is read or the storage hears of it`, async () => {
        const host = await startHost(express, { authorize: answer as () => boolean })
        using client = new RawClient(host.url)
        const stubs = forbiddenStorage(host.backend)
        for (const { path } of ALL) {
          for (const method of name === 'false' ? METHODS : ['GET', 'POST']) {
            // A body that is refused by its type, where it is looked at.
            const body = ['GET', 'HEAD', 'TRACE'].includes(method) ? undefined : 'x: y'
            const headers = body === undefined ? {} : { 'content-type': 'text/yaml' }
            const { status, text } = await client.send(method, `${MOUNT}${path}`, { headers, body })
            expect([path, method, status]).to.deep.equal([path, method, 403])
            // "padding" is a word of the styles.
            expect(text.replace(/<style>.*<\/style>/s, '')).not.to.match(/secret|add|fail/)
          }
        }
        expect(stubs.filter((stub) => stub.called)).to.have.length(0)
        await host.close()
      })
    }

    it('is asked for the action of the route and nothing else first, on every route', async () => {
      const authorize = sinon.stub<[Request, Action], boolean>()
      const host = await startHost(express, { authorize })
      using client = new RawClient(host.url)
      const ask = async ({ method, path }: Guarded, answer: boolean): Promise<readonly Action[]> => {
        authorize.reset()
        authorize.returns(answer)
        const body = method === 'POST' ? 'scope=ticked' : undefined
        const headers = body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }
        await client.send(method, MOUNT + path, { headers, body })
        return authorize.args.map(([, action]) => action)
      }
      for (const route of ALL) {
        expect([route.path, await ask(route, false)]).to.deep.equal([route.path, [route.action]])
        const [first, ...more] = await ask(route, true)
        expect([route.path, first]).to.deep.equal([route.path, route.action])
        // A page asks further which buttons it may show.
        expect([route.path, more]).to.deep.equal([route.path, more.length === 0 ? [] : ['run', 'retry', 'delete']])
        if (!route.path.startsWith('/admin')) expect(more).to.deep.equal([])
      }
      await host.close()
    })

    for (const granted of ACTIONS) {
      it(`lets a role with ${granted} alone do that alone`, async () => {
        const host = await startHost(express, { authorize: (_req, action) => action === granted })
        using client = new RawClient(host.url)
        for (const { method, path, action } of ALL) {
          const body = method === 'POST' ? '' : undefined
          const { status, text } = await client.send(method, MOUNT + path, { body })
          expect([path, status === 403]).to.deep.equal([path, action !== granted])
          if (granted === 'view' && status === 200 && path.startsWith('/admin') && !path.includes('/assets/')) {
            expect([
              path,
              /<form[^>]*method="post"[^>]*action|formaction|type="checkbox" name="id"/.exec(text),
            ]).to.deep.equal([path, null])
          }
        }
        await host.close()
      })
    }

    it('shows a viewer no button on any page, whatever state the record is in', async () => {
      const host = await startHost(express, { authorize: (_req, action) => action === 'view' })
      using client = new RawClient(host.url)
      const ids = Object.values(await fill(host.backend))
      const later = Date.now() + 60_000
      const pages = [
        '/',
        '/tasks',
        '/workers',
        `/done/delete?scope=all&cutoff=${later}&done=1`,
        `/done/run?scope=all&cutoff=${later}`,
      ]
      for (const path of [...pages, ...ids.map((id) => `/tasks/${id}`)]) {
        const { status, text } = await client.send('GET', `${MOUNT}/admin${path}`)
        expect([path, status]).to.deep.equal([path, 200])
        expect([path, /formaction|type="checkbox" name="id"|action="[^"]*\/(act|confirm)\//.exec(text)]).to.deep.equal([
          path,
          null,
        ])
      }
      await host.close()
    })

    it(`guards every layer of the router: no route is outside the tables, on Express ${MAJOR}`, async () => {
      const backend = new MemoryTaskBackend()
      const { stack } = tasksRouter(backend) as unknown as { stack: readonly Layer[] }
      const twice = (routes: readonly { method: string; path: string }[]): string[] =>
        routes.flatMap(({ method, path }) => [`${method} ${path}`, `_all ${path}`])
      expect(layersOf(stack)).to.deep.equal([
        'on all',
        ...twice(ROUTES),
        'router',
        ...twice(ADMIN_ROUTES).map((line) => `  ${line}`),
        '  get /assets/:file',
        ...['  on all', '  on all', '  on errors', '  on errors'],
        ...['on all', 'on all', 'on errors', 'on errors'],
      ])
      await backend.close()
    })
  })

  describe('without authorize', () => {
    const sockets = ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', '10.0.0.1', undefined] as const
    const hosts = [
      'localhost',
      'localhost:3000',
      '127.0.0.1',
      '[::1]:80',
      'evil.test',
      'localhost.evil.test',
      undefined,
    ] as const
    const forwarded = [
      undefined,
      'forwarded',
      'x-forwarded-for',
      'x-forwarded-host',
      'x-forwarded-proto',
      'x-real-ip',
      'via',
    ] as const
    const environments = [undefined, 'development', 'production'] as const

    it('admits this machine alone: the full product of socket, Host, forwarding header and environment', () => {
      for (const remoteAddress of sockets) {
        for (const host of hosts) {
          for (const header of forwarded) {
            for (const env of environments) {
              const headers = { ...(host !== undefined && { host }), ...(header && { [header]: 'x' }) }
              const req = { socket: { remoteAddress }, headers } as unknown as IncomingMessage
              const local = sockets.indexOf(remoteAddress) < 4 && hosts.indexOf(host) < 4
              const expected = local && header === undefined && env !== 'production'
              const row = [remoteAddress, host, header, env]
              expect([...row, isLoopback(req, env ?? 'test')]).to.deep.equal([...row, expected])
            }
          }
        }
      }
    })

    it('does not ask req.ip, whatever trust proxy says', async () => {
      const backend = new MemoryTaskBackend()
      const app = express().set('trust proxy', true)
      app.use('/tasks', tasksRouter(backend))
      const host = await listen(app, '/tasks')
      const answer = await request(host, 'GET', '/health/', undefined, { 'x-forwarded-for': '127.0.0.1' })
      expect(answer.status).to.equal(403)
      expect(answer.body['detail']).to.include('authorize').and.not.include('127.0.0.1')
      await host.close()
      await backend.close()
    })

    it('refuses a request of HTTP/1.0 without a Host', async () => {
      const host = await startHost()
      const { port, pathname } = new URL(host.url)
      const socket = connect(Number(port), '127.0.0.1')
      socket.write(`GET ${pathname}/health/ HTTP/1.0\r\n\r\n`)
      let text = ''
      for await (const chunk of socket) text += String(chunk)
      expect(text).to.match(/^HTTP\/1\.1 (400|403) /)
      await host.close()
    })
  })

  describe('the origin of a changing request', () => {
    const sites: readonly (readonly [string | undefined, boolean | undefined])[] = [
      ['same-origin', true],
      ['same-site', false],
      ['cross-site', false],
      ['none', false],
      ['same-origin, same-origin', false],
      ['anything', false],
      [undefined, undefined],
    ]
    const origins: readonly (readonly [string | undefined, boolean])[] = [
      ['http://app.test:3000', true],
      ['https://app.test:3000', true],
      ['http://evil.test', false],
      ['http://app.test', false],
      ['null', false],
      ['http://app.test:3000, http://app.test:3000', false],
      ['http://app.test:3000/path', false],
      ['not an origin', false],
      [undefined, true],
    ]
    for (const [site, decides] of sites) {
      for (const [origin, matches] of origins) {
        const expected = decides ?? matches
        it(`${expected ? 'passes on' : 'refuses'} Sec-Fetch-Site ${site ?? 'absent'}, Origin ${origin ?? 'absent'}`, () => {
          const headers = { host: 'app.test:3000', ...(site && { 'sec-fetch-site': site }), ...(origin && { origin }) }
          const check = (): void => checkSameOrigin({ headers })
          if (expected) expect(check).not.to.throw()
          else expect(check).to.throw().with.property('code', 'ERR_TASKS_CROSS_SITE')
        })
      }
    }

    it('drops default ports, and does not compare schemes', () => {
      for (const [origin, host] of [
        ['https://app.test', 'app.test'],
        ['https://app.test', 'app.test:443'],
        ['http://app.test:80', 'app.test'],
        ['http://192.168.0.7', '192.168.0.7'],
      ] as const) {
        expect(() => checkSameOrigin({ headers: { origin, host } })).not.to.throw()
      }
    })

    it('is asked on every changing route, and nothing changes', async () => {
      const host = await startHost()
      for (const route of ROUTES.filter(({ changes }) => changes)) {
        const foreign: readonly Record<string, string>[] = [
          { origin: 'http://evil.test' },
          { 'sec-fetch-site': 'cross-site' },
          { authorization: 'Bearer x', origin: 'null' },
        ]
        for (const headers of foreign) {
          const answer = await request(host, 'POST', pathOf(route), {}, headers)
          expect([route.path, answer.body['code']]).to.deep.equal([route.path, 'ERR_TASKS_CROSS_SITE'])
        }
      }
      expect(await host.backend.records.filter().count()).to.equal(0)
      await host.close()
    })

    it('ignores method overrides', async () => {
      const host = await startHost()
      const headers = { 'x-http-method-override': 'POST' }
      expect((await request(host, 'GET', '/purge/?_method=POST', undefined, headers)).status).to.equal(405)
      await host.close()
    })
  })

  describe('bearerToken', () => {
    const secret = 's3cret-s3cret-s3cret'
    const ask = (check: ReturnType<typeof bearerToken>, authorization?: string, action: Action = 'run'): unknown =>
      check({ headers: { ...(authorization !== undefined && { authorization }) } } as unknown as Request, action)

    it('admits the secret, or one of several, and nothing like it', () => {
      const check = bearerToken([secret, 'another-secret-of-ours'])
      expect(ask(check, `Bearer ${secret}`)).to.equal(true)
      expect(ask(check, 'bearer another-secret-of-ours')).to.equal(true)
      for (const wrong of [
        '',
        'Bearer',
        'Bearer ',
        `Bearer ${secret.slice(1)}`,
        `Bearer ${secret}x`,
        `Bearer é${secret}`,
        `Bearer ${secret}, Bearer ${secret}`,
        `Basic ${secret}`,
        secret,
      ]) {
        expect([wrong, ask(check, wrong)]).to.deep.equal([wrong, false])
      }
      expect(ask(check)).to.equal(false)
    })

    it('may be kept to some actions', () => {
      const check = bearerToken(secret, { actions: ['run', 'enqueue'] })
      expect(ask(check, `Bearer ${secret}`, 'enqueue')).to.equal(true)
      expect(ask(check, `Bearer ${secret}`, 'delete')).to.equal(false)
    })

    it('refuses an option or an action that it does not know, rather than permit all or nothing', () => {
      const made = (options: object) => (): unknown => bearerToken(secret, options)
      expect(made({ action: ['run'] })).to.throw(TaskOptionError, 'did you mean "actions"?')
      expect(made({ actions: ['runs'] })).to.throw(TaskOptionError, 'did you mean "run"?')
      expect(made({ actions: 'run' })).to.throw(TaskOptionError, 'put it into a list')
      expect(ask(bearerToken(secret, { actions: [] }), `Bearer ${secret}`)).to.equal(false)
    })

    it('refuses empty and short secrets when it is made, and does not show them', () => {
      for (const wrong of ['', 'short', 'long enough, but with spaces', [], [''], undefined]) {
        expect(() => bearerToken(wrong as string))
          .to.throw(TaskOptionError)
          .with.property('message')
          .that.does.not.include('short')
      }
    })
  })
})
