import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { expect } from 'chai'
import express from 'express'
import type { Request } from 'express'
import sinon from 'sinon'
import { bearerToken, MemoryTaskBackend, TaskOptionError, tasksRouter } from '../../lib/index.ts'
import type { Action } from '../../lib/index.ts'
import { checkSameOrigin, isLoopback } from '../../lib/http/access.ts'
import { API_ROUTES } from '../../lib/http/routes.ts'
import type { ApiRoute } from '../../lib/http/routes.ts'
import { defineTasks, forgetTasks, listen, request, startHost } from './support/hosts.ts'

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

describe('access', () => {
  before(defineTasks)
  after(forgetTasks)
  afterEach(() => sinon.restore())

  describe('authorize', () => {
    const refusals: readonly (readonly [string, () => unknown])[] = [
      ['false', () => false],
      ['undefined', () => undefined],
      ['1', () => 1],
      ["'true'", () => 'true'],
      ['an object', () => ({})],
      [
        'a throw',
        () => {
          throw new Error('secret')
        },
      ],
      ['a rejection', () => Promise.reject(new Error('secret'))],
    ]
    for (const [name, answer] of refusals) {
      it(`refuses every route on ${name}, before the storage hears of it`, async () => {
        const host = await startHost(express, { authorize: answer as () => boolean })
        const stubs = forbiddenStorage(host.backend)
        for (const route of ROUTES) {
          for (const method of ['GET', 'POST', 'DELETE']) {
            const body = method === 'POST' ? {} : undefined
            const { status, body: problem } = await request(host, method, pathOf(route), body)
            expect([route.path, method, status]).to.deep.equal([route.path, method, 403])
            expect(JSON.stringify(problem)).not.to.include('secret')
          }
        }
        expect((await request(host, 'GET', '/nowhere')).status).to.equal(403)
        expect(stubs.filter((stub) => stub.called)).to.have.length(0)
        await host.close()
      })
    }

    it('is asked for the action of the route, once', async () => {
      const authorize = sinon.stub<[Request, Action], boolean>().returns(true)
      const host = await startHost(express, { authorize })
      for (const route of ROUTES) {
        authorize.resetHistory()
        await request(host, route.method.toUpperCase(), pathOf(route), route.method === 'post' ? {} : undefined)
        expect([route.path, authorize.args.map(([, action]) => action)]).to.deep.equal([route.path, [route.action]])
      }
      await host.close()
    })

    it('lets a viewer look and nothing else', async () => {
      const host = await startHost(express, { authorize: (_req, action) => action === 'view' })
      for (const route of ROUTES) {
        const { status } = await request(host, route.method.toUpperCase(), pathOf(route))
        expect([route.path, status === 403]).to.deep.equal([route.path, route.action !== 'view'])
      }
      await host.close()
    })

    it('guards every layer of the router: no route is outside the table', () => {
      const backend = new MemoryTaskBackend()
      const router = tasksRouter(backend) as unknown as { stack: { route?: { path: string } }[] }
      const known = new Set(ROUTES.map(({ path }) => path))
      const paths = router.stack.flatMap(({ route }) => (route ? [route.path] : []))
      const unknown = paths.filter((path) => typeof path === 'string' && !known.has(path) && !path.startsWith('/admin'))
      expect(unknown).to.deep.equal([])
      return backend.close()
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
