import { expect } from 'chai'
import { bearerToken } from '../../lib/index.ts'
import { API_ROUTES } from '../../lib/http/routes.ts'
import type { ApiRoute } from '../../lib/http/routes.ts'
import { changesNothing, expectHeaders, MOUNT, startBadInputHost, STORES } from './support/bad-input-host.ts'
import type { BadInputHost } from './support/bad-input-host.ts'
import { defineTasks, forgetTasks } from './support/hosts.ts'

const ROUTES: readonly ApiRoute[] = API_ROUTES
const JSON_TYPE = { 'content-type': 'application/json' }
const SECRET = 'a-secret-of-more-than-sixteen-characters'

/** A request as it goes over the wire; the server closes behind its answer. */
const wire = (line: string, headers: readonly string[], body = ''): string =>
  [line, ...headers, 'Connection: close', '', body].join('\r\n')
const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1] ?? 0)

describe('Bad requests', () => {
  let host: BadInputHost
  const unhandled: unknown[] = []
  const onUnhandled = (error: unknown): void => void unhandled.push(error)

  before(async () => {
    defineTasks()
    host = await startBadInputHost(await STORES[0].open())
    process.on('unhandledRejection', onUnhandled)
  })
  after(async () => {
    process.off('unhandledRejection', onUnhandled)
    await host.close()
    forgetTasks()
  })
  afterEach(() => expect(unhandled).to.deep.equal([]))

  it('answers every spelling of a path, and never with an error of its own', async () => {
    const id = host.ids['ready'] ?? ''
    const known = ['/health', '/openapi.json', `/status/${id}`, '/admin', '/admin/tasks', `/admin/tasks/${id}`]
    const spellings: readonly ((path: string) => string)[] = [
      (path) => `${path}/`,
      (path) => `${path}//`,
      (path) => `/${path}`,
      (path) => `/.${path}`,
      (path) => `/x/..${path}`,
      (path) => path.toUpperCase(),
      (path) => `/${path.slice(1).replaceAll('/', '%2f')}`,
      (path) => `${path}%2f`,
      (path) => `${path}%00`,
      (path) => `${path}/..`,
      (path) => `${path}/%2e%2e%2f%2e%2e`,
      (path) => `${path};x=1`,
      (path) => `${path}%0d%0aset-cookie:%20x=1`,
      (path) => `${path}\\`,
      (path) => `${path}?`,
      (path) => `${path}??x`,
      (path) => `${path}%`,
      (path) => `${path}%c0%af`,
    ]
    await changesNothing(host, async () => {
      for (const path of known) {
        for (const spell of spellings) {
          const target = MOUNT + spell(path)
          for (const method of ['GET', 'HEAD']) {
            const answer = await host.client.send(method, target)
            expect(answer.status, `${method} ${target}`).to.be.oneOf([200, 400, 404])
            expectHeaders(answer, target)
          }
        }
      }
    })
  })

  it('survives requests that are cut, lie about their length, or are no HTTP', async () => {
    const path = `POST ${MOUNT}/enqueue/add/ HTTP/1.1`
    const type = 'Content-Type: application/json'
    const body = '{"args":[1,2]}'
    const rows: readonly (readonly [name: string, status: number, chunks: readonly string[]])[] = [
      [
        'length and chunks',
        400,
        [wire(path, ['Host: localhost', type, 'Content-Length: 14', 'Transfer-Encoding: chunked'], body)],
      ],
      ['a negative length', 400, [wire(path, ['Host: localhost', type, 'Content-Length: -1'], body)]],
      ['two lengths', 400, [wire(path, ['Host: localhost', type, 'Content-Length: 14', 'Content-Length: 15'], body)]],
      ['a length with an exponent', 400, [wire(path, ['Host: localhost', type, 'Content-Length: 1e1'], body)]],
      [
        'a chunk size that is none',
        400,
        [wire(path, ['Host: localhost', type, 'Transfer-Encoding: chunked'], 'zz\r\n{}\r\n0\r\n\r\n')],
      ],
      ['an encoding that is none', 400, [wire(path, ['Host: localhost', type, 'Transfer-Encoding: x'], body)]],
      ['no Host', 400, [wire(`GET ${MOUNT}/health/ HTTP/1.1`, [])]],
      ['HTTP/2', 0, ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']],
      ['a space in the path', 400, [wire(`GET ${MOUNT}/health/ x HTTP/1.1`, ['Host: localhost'])]],
      [
        'a control character in a header',
        400,
        [wire(`GET ${MOUNT}/health/ HTTP/1.1`, ['Host: localhost', 'X: a\u0001b'])],
      ],
      [
        'headers over the limit',
        431,
        [wire(`GET ${MOUNT}/health/ HTTP/1.1`, ['Host: localhost', `X: ${'x'.repeat(20_000)}`])],
      ],
      ['a path over the limit', 431, [wire(`GET ${MOUNT}/status/${'x'.repeat(20_000)} HTTP/1.1`, ['Host: localhost'])]],
      [
        'an expectation that is none',
        417,
        [wire(path, ['Host: localhost', type, 'Expect: miracles', 'Content-Length: 14'], body)],
      ],
      ['a change of protocol', 200, [wire(`GET ${MOUNT}/health/ HTTP/1.1`, ['Host: localhost', 'Upgrade: websocket'])]],
      [
        'headers just under the limit',
        200,
        [wire(`GET ${MOUNT}/health/ HTTP/1.1`, ['Host: localhost', `X: ${'x'.repeat(15_000)}`])],
      ],
    ]
    await changesNothing(host, async () => {
      for (const [name, status, chunks] of rows) {
        const answer = await host.client.exchange(...chunks)
        if (status > 0) expect([name, statusOf(answer)]).to.deep.equal([name, status])
        expect(answer, name).not.to.match(/\n\s+at |node_modules/)
      }
    })
  })

  it('waits for no body that never ends, and stores nothing of it', async () => {
    const head = [`POST ${MOUNT}/enqueue/add/ HTTP/1.1`, 'Host: localhost', 'Content-Type: application/json']
    await changesNothing(host, async () => {
      await Promise.all(
        ['Content-Length: 100', 'Transfer-Encoding: chunked'].flatMap((length) =>
          ['', '{"args":[1,', '5\r\n{"arg\r\n'].map(async (part) => {
            await host.client.hangUp([...head, length, '', part].join('\r\n'))
          }),
        ),
      )
    })
  })

  it('takes a body that comes a byte at a time', async () => {
    const body = JSON.stringify({ max_task: 'a byte at a time' })
    const bytes = Array.from(Buffer.from(body), (byte) => `1\r\n${String.fromCharCode(byte)}\r\n`)
    const head = [`POST ${MOUNT}/run/ HTTP/1.1`, 'Host: localhost', 'Content-Type: application/json']
    const start = [...head, 'Transfer-Encoding: chunked', 'Connection: close', '', ''].join('\r\n')
    const answer = await host.client.exchange(start, ...bytes, '0\r\n\r\n')
    expect(answer).to.match(/^HTTP\/1\.1 400 .*"pointer":"\/max_task"/s)
  })

  it('refuses a foreign, doubled or missing Host, and every forwarding header, on every route', async () => {
    const own = await startBadInputHost(await STORES[1].open(), {})
    try {
      const rows: readonly (readonly string[])[] = [
        ['Host: evil.test'],
        ['Host: localhost.evil.test'],
        ['Host: localhost@evil.test'],
        ['Host: localhost:3000:4000'],
        ['Host: localhost, evil.test'],
        ['Host: [::1].evil.test'],
        ['Host: 127.0.0.1.nip.io'],
        ['Host: 0.0.0.0'],
        ['Host: '],
        ['Host: evil.test', 'Host: localhost'],
        ['Host: localhost', 'Host: evil.test'],
        ['Host: localhost', 'X-Forwarded-For: 127.0.0.1'],
        ['Host: localhost', 'X-Forwarded-Host: localhost'],
        ['Host: localhost', 'X-Forwarded-Proto: https'],
        ['Host: localhost', 'Forwarded: for=127.0.0.1'],
        ['Host: localhost', 'X-Real-IP: ::1'],
        ['Host: localhost', 'Via: 1.1 proxy'],
      ]
      await changesNothing(own, async () => {
        for (const { method, path } of [
          ...ROUTES,
          { method: 'get', path: '/admin/tasks' },
          { method: 'get', path: '/x' },
        ]) {
          const target = `${method.toUpperCase()} ${MOUNT}${path.replace(':id', own.ids['ready'] ?? '').replace(':name', 'add')}`
          for (const headers of rows) {
            const answer = await own.client.exchange(wire(`${target} HTTP/1.1`, headers))
            expect([target, headers, statusOf(answer)]).to.deep.equal([target, headers, 403])
          }
          const old = await own.client.exchange(`${target} HTTP/1.0\r\n\r\n`)
          expect([target, statusOf(old)]).to.deep.equal([target, 403])
        }
      })
    } finally {
      await own.close()
    }
  })

  it('refuses a thousand tokens that are none, and admits the one that is', async () => {
    const own = await startBadInputHost(await STORES[1].open(), { authorize: bearerToken(SECRET) })
    try {
      const ask = async (authorization: string): Promise<number> =>
        (await own.client.send('POST', `${MOUNT}/run-one/`, { headers: { ...JSON_TYPE, authorization }, body: '{}' }))
          .status
      const before = await own.store.snapshot()
      for (let index = 0; index < 1_000; index++) {
        const at = index % SECRET.length
        const sign = String.fromCharCode(97 + (index % 26))
        const wrong = index < 500 ? SECRET.slice(0, at) : `${SECRET.slice(0, at)}${sign}${SECRET.slice(at)}`
        expect([wrong, await ask(`Bearer ${wrong}`)]).to.deep.equal([wrong, 403])
      }
      for (const wrong of [
        '',
        ' ',
        'Bearer',
        SECRET,
        `Basic ${SECRET}`,
        `Bearer  ${SECRET}`,
        `Bearer ${SECRET} x`,
        `Bearer ${'x'.repeat(10_000)}`,
      ])
        expect([wrong, await ask(wrong)]).to.deep.equal([wrong, 403])
      expect(await own.store.snapshot()).to.deep.equal(before)
      // Of two headers the first counts, as Node drops the second.
      const two = ['Host: localhost', 'Authorization: Bearer x', `Authorization: Bearer ${SECRET}`]
      expect(statusOf(await own.client.exchange(wire(`POST ${MOUNT}/run-one/ HTTP/1.1`, two)))).to.equal(403)
      expect(await ask(`Bearer ${SECRET}`)).to.equal(200)
    } finally {
      await own.close()
    }
  })
})
