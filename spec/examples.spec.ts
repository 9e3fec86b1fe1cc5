/**
 * Drives the examples of the queue as their pages say: as processes of their own, on memory and on a real server. They use the built package,
 * so `npm run build` comes first. Nothing is waited for by the clock: a line of output, an answer, or the end of a process.
 */
import { expect } from 'chai'
import { spawn, type ChildProcess } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import request from 'supertest'
import { RedisTaskBackend } from '../lib/backends/redis-task-backend.ts'
import { eventually } from './support/eventually.ts'
import { startRedisServer, type RedisServer } from './support/redis-server.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const PATIENCE = { timeoutMs: 20_000 }

/** Those that this file drives. */
const EXAMPLES = [
  ...['quickstart', 'two-processes', 'delayed-and-priority', 'retries', 'in-memory', 'webhook-trigger'],
  ...['graceful-shutdown', 'testing-your-tasks'],
]

/** A command in a process group of its own, with what it printed so far. */
class Running {
  readonly command: string
  readonly #child: ChildProcess
  readonly #closed: Promise<unknown>
  output = ''

  constructor(command: string, args: readonly string[], environment: NodeJS.ProcessEnv) {
    this.command = [command, ...args].join(' ')
    const { REDIS_URL: _url, PORT: _port, ...inherited } = process.env
    this.#child = spawn(command, args, {
      cwd: root,
      env: { ...inherited, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    this.#closed = once(this.#child, 'close')
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text))
    }
  }

  get lines(): string[] {
    return this.output.split('\n').filter(Boolean)
  }

  get #ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** Waits until it has printed something that matches. */
  async printed(pattern: RegExp): Promise<void> {
    await eventually(() => {
      if (pattern.test(this.output)) return true
      // Nothing more will come: fail at once, with what there is.
      return this.#ended
    }, PATIENCE)
    expect(this.output, this.command).to.match(pattern)
  }

  /** Its exit code, once all it printed is here. */
  async end(): Promise<number | null> {
    await this.#closed
    return this.#child.exitCode
  }

  async stop(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal)
    return await this.end()
  }

  /** True while any process of its group is there. */
  get isAlive(): boolean {
    try {
      process.kill(-(this.#child.pid as number), 0)
      return true
    } catch {
      return false
    }
  }

  async kill(): Promise<void> {
    if (this.isAlive) process.kill(-(this.#child.pid as number), 'SIGKILL')
    await this.#closed
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

async function text(url: string, init?: RequestInit): Promise<string> {
  const response = await fetch(url, init)
  expect(response.status, url).to.be.lessThan(400)
  return await response.text()
}

describe('the examples', function () {
  this.timeout(60_000)

  const processes: Running[] = []
  let server: RedisServer

  function start(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Running {
    const running = new Running(command, args, environment)
    processes.push(running)
    return running
  }

  function startTypeScript(file: string, environment: NodeJS.ProcessEnv = {}): Running {
    return start(process.execPath, ['--import', 'tsx', file], environment)
  }

  before(async () => {
    server = await startRedisServer()
  })

  afterEach(async () => {
    await Promise.all(processes.splice(0).map((running) => running.kill()))
  })

  after(async () => {
    await server.stop()
  })

  it('have a page each, and a line in the list', () => {
    const list = readFileSync(join(root, 'examples/README.md'), 'utf8')
    const linked = [...list.matchAll(/\]\(([\w-]+)\/README\.md\)/g)].map((match) => match[1])
    expect(linked).to.include.members(EXAMPLES)
    for (const entry of readdirSync(join(root, 'examples'), { withFileTypes: true })) {
      if (entry.isDirectory()) expect(readdirSync(join(root, 'examples', entry.name))).to.include('README.md')
    }
  })

  describe('quickstart', () => {
    const file = 'examples/quickstart/app.ts'
    const results = [
      'greet Ada SUCCESSFUL Hello, Ada!',
      'greet Grace SUCCESSFUL Hello, Grace!',
      'greet Linus SUCCESSFUL Hello, Linus!',
    ]

    for (const storage of ['memory', 'redis']) {
      it(`runs its tasks on ${storage}, prints and shows the results, and ends by SIGTERM with nothing left`, async () => {
        const port = await freePort()
        const url = `http://localhost:${port}/`
        const app = startTypeScript(file, { PORT: String(port), ...(storage === 'redis' && { REDIS_URL: server.url }) })

        // When nobody does anything, then its own tasks run
        await app.printed(new RegExp(`Open ${url.slice(0, -1)} `))
        for (const line of results) await app.printed(new RegExp(`^${line}$`, 'm'))
        const page = await text(url)
        for (const line of results) expect(page).to.include(`<li>${line}`)
        expect(page, 'all are done').to.not.include('http-equiv="refresh"')

        // When the form is sent, with text that looks like markup, then the page shows the text, and looks again until it is done
        await eventually(async () => {
          const sent = await text(url, { method: 'POST', body: new URLSearchParams({ name: '<b>&' }) })
          expect(sent)
            .to.include('http-equiv="refresh"')
            .and.to.match(/<li>greet &#60;b&#62;&#38; (READY|RUNNING)/)
        })
        await app.printed(/^greet <b>& SUCCESSFUL Hello, <b>&!$/m)
        expect(await text(url)).to.include('<li>greet &#60;b&#62;&#38; SUCCESSFUL Hello, &#60;b&#62;&#38;!')

        // When the name is empty, or there is no body at all, then the task fails and the app does not
        await text(url, { method: 'POST', body: new URLSearchParams({ name: '' }) })
        await text(url, { method: 'POST' })
        await app.printed(/^greet +FAILED Greet whom\?\ngreet +FAILED Greet whom\?$/m)

        // When the admin is opened, then it lists what failed
        expect(await text(`${url}tasks/admin/tasks?status=FAILED`)).to.include('Greet whom?')

        // When it is told to end, also while a client is connected and says nothing, and a task runs
        const silent: Socket = connect(port, 'localhost').on('error', () => {})
        await once(silent, 'connect')
        await text(url, { method: 'POST', body: new URLSearchParams({ name: 'Late' }) })
        await eventually(async () => expect(await text(url)).to.match(/<li>greet Late (RUNNING|SUCCESSFUL)/))
        expect(await app.stop('SIGTERM')).to.equal(0)
        silent.destroy()
        expect(app.output, 'what runs is waited for').to.include('greet Late SUCCESSFUL Hello, Late!')
        await eventually(() => !app.isAlive)
      })
    }

    it('leaves no worker and no unfinished record behind on Redis', async () => {
      const app = startTypeScript(file, { PORT: String(await freePort()), REDIS_URL: server.url })
      await app.printed(/^greet Linus SUCCESSFUL/m)
      expect(await app.stop('SIGINT')).to.equal(0)
      await using backend = new RedisTaskBackend({ redisUrl: server.url })
      expect(await backend.storage.workers()).to.deep.equal([])
      expect(await backend.records.filter({ status: ['READY', 'RUNNING'] }).count()).to.equal(0)
    })

    it('says that the port is taken, and ends with a failure', async () => {
      const taken = createServer().listen(0)
      await once(taken, 'listening')
      const { port } = taken.address() as AddressInfo
      const app = startTypeScript(file, { PORT: String(port) })
      expect(await app.end()).to.equal(1)
      expect(app.output).to.include('EADDRINUSE')
      taken.close()
    })

    it('says that Redis cannot be reached, and ends with a failure', async () => {
      const redisUrl = `redis://127.0.0.1:${await freePort()}`
      const app = startTypeScript(file, { PORT: String(await freePort()), REDIS_URL: redisUrl })
      expect(await app.end()).to.equal(1)
      expect(app.output).to.include('ERR_TASKS_STORAGE_UNAVAILABLE')
    })

    it('starts nothing when it is imported', async () => {
      const { app } = await import('../examples/quickstart/app.ts')
      const { text: page } = await request(app).get('/').expect(200)
      expect(page).to.include('<form').and.to.not.include('<li>')
    })
  })

  describe('two-processes', () => {
    const command = join(root, 'bin/run-redis-tasks')
    const words = ['examples/two-processes/tasks.ts', '--continuous']

    it('enqueues in one process and runs in the other, whichever is started first', async () => {
      const port = await freePort()
      const url = `http://localhost:${port}`
      const environment = { REDIS_URL: server.url, PORT: String(port) }
      const web = startTypeScript('examples/two-processes/web.ts', environment)
      await web.printed(/^Listening on /m)

      // When no worker runs, then the task waits
      const response = await fetch(`${url}/reports/2026-02`, { method: 'POST' })
      expect(response.status).to.equal(202)
      const address = url + String(response.headers.get('location'))
      expect(JSON.parse(await text(address))).to.include({
        status: 'READY',
        name: 'reports.build',
        queueName: 'reports',
      })

      // When a worker comes, then it runs, and who waits is told
      const worker = start(command, words, { REDIS_URL: server.url })
      const result = JSON.parse(await text(`${address}?wait=20`)) as Record<string, unknown>
      expect(result['status'], worker.output).to.equal('SUCCESSFUL')
      expect(result['returnValue']).to.deep.equal({ month: '2026-02', days: 28 })

      // When a task fails, then its record says why
      const failing = await fetch(`${url}/reports/tomorrow`, { method: 'POST' })
      const failed = JSON.parse(await text(`${url}${String(failing.headers.get('location'))}?wait=20`)) as {
        status: string
        errors: { message: string }[]
      }
      expect(failed.status).to.equal('FAILED')
      expect(failed.errors[0]?.message).to.equal('expected a month like 2026-01, got: tomorrow')

      // When the id is nobody's, then the answer is 404
      expect((await fetch(`${url}/tasks/nobody`)).status).to.equal(404)

      // When both are told to end, then they do
      expect(await worker.stop('SIGTERM'), worker.output).to.equal(0)
      expect(await web.stop('SIGTERM'), web.output).to.equal(0)
      await eventually(() => !web.isAlive && !worker.isAlive)
      await using backend = new RedisTaskBackend({ redisUrl: server.url })
      expect(await backend.storage.workers()).to.deep.equal([])
    })
  })

  for (const [example, storages] of [
    ['delayed-and-priority', ['memory', 'redis']],
    ['retries', ['memory', 'redis']],
    ['in-memory', ['memory']],
  ] as const) {
    describe(example, () => {
      const page = readFileSync(join(root, `examples/${example}/README.md`), 'utf8')
      const expected = /```text\n([^`]*)\n```/.exec(page)?.[1]?.split('\n')

      for (const storage of storages) {
        it(`prints on ${storage} what its page says, and ends by itself`, async () => {
          const app = startTypeScript(
            `examples/${example}/app.ts`,
            storage === 'redis' ? { REDIS_URL: server.url } : {},
          )
          expect(await app.end(), app.output).to.equal(0)
          expect(app.lines).to.deep.equal(expected)
        })
      }
    })
  }

  describe('webhook-trigger', () => {
    const file = 'examples/webhook-trigger/app.ts'
    const secret = 'a-secret-of-the-spec'
    const body = JSON.stringify({ repository: { full_name: 'ada/engine' }, after: '4f2a1c0', commits: [] })
    const signed = (text: string): string => `sha256=${createHmac('sha256', secret).update(text).digest('hex')}`

    for (const storage of ['memory', 'redis']) {
      it(`runs one task for a delivery on ${storage}, however often it is sent`, async () => {
        const port = await freePort()
        const app = startTypeScript(file, {
          ...{ PORT: String(port), WEBHOOK_SECRET: secret },
          ...(storage === 'redis' && { REDIS_URL: server.url }),
        })
        await app.printed(/^curl -i /m)
        const send = async (headers: Record<string, string>, text = body): Promise<[number, string]> => {
          const answer = await fetch(`http://localhost:${port}/webhooks/push`, {
            ...{ method: 'POST', body: text },
            headers: { 'Content-Type': 'application/json', 'X-Hub-Signature-256': signed(text), ...headers },
          })
          return [answer.status, await answer.text()]
        }
        const delivery = { 'X-GitHub-Delivery': randomUUID() }

        // When it is not signed, or for another body, then it is refused, and nothing is stored
        expect(await send({ ...delivery, 'X-Hub-Signature-256': '' })).to.deep.equal([401, 'Unauthorized'])
        expect(await send({ ...delivery, 'X-Hub-Signature-256': signed(`${body} `) })).to.deep.equal([
          401,
          'Unauthorized',
        ])
        // When it is signed, but no push, or has no id, then it says so
        for (const text of ['{', 'null', '{"repository":{"full_name":1},"after":"x"}']) {
          expect(await send(delivery, text)).to.deep.equal([400, '{"error":"expected a push event"}'])
        }
        for (const id of ['', 'no-uuid']) expect((await send({ 'X-GitHub-Delivery': id }))[0]).to.equal(400)

        // When it comes, also when it comes again, then one task runs
        const first = await send(delivery)
        expect(first[0]).to.equal(202)
        expect(JSON.parse(first[1])).to.include({ id: delivery['X-GitHub-Delivery'] })
        await app.printed(/^deployed 4f2a1c0 of ada\/engine$/m)
        await eventually(async () => {
          expect(await send(delivery)).to.deep.equal([
            202,
            JSON.stringify({ id: delivery['X-GitHub-Delivery'], status: 'SUCCESSFUL' }),
          ])
        })
        expect(await app.stop('SIGTERM')).to.equal(0)
        expect(app.lines.filter((line) => line.startsWith('deployed'))).to.have.lengthOf(1)
      })
    }

    it('prints a line that plays the sender', async () => {
      const port = await freePort()
      const app = startTypeScript(file, { PORT: String(port) })
      await app.printed(/^ .*-d '.*'$/m)
      const [, url = '', ...words] = /^curl -i (\S+)((?: \\?\n?\s*-[Hd] '[^']*')+)$/m.exec(app.output) ?? []
      const given = [...words.join('').matchAll(/-([Hd]) '([^']*)'/g)].map(
        ([, flag, value = '']) => [flag, value] as const,
      )
      const headers = given.flatMap(([flag, value]) => (flag === 'H' ? [value.split(': ') as [string, string]] : []))
      const [body = ''] = given.flatMap(([flag, value]) => (flag === 'd' ? [value] : []))
      const answer = await fetch(url, { method: 'POST', headers, body })
      expect(answer.status).to.equal(202)
      await app.printed(/^deployed 4f2a1c0 of ada\/engine$/m)
    })
  })

  describe('graceful-shutdown', () => {
    async function startApp(environment: NodeJS.ProcessEnv): Promise<[app: Running, url: string]> {
      const port = await freePort()
      const variables = { PORT: String(port), DRAIN_SECONDS: '1', ...environment }
      const app = startTypeScript('examples/graceful-shutdown/app.ts', variables)
      await app.printed(/^curl /m)
      return [app, `http://localhost:${port}`]
    }

    for (const storage of ['memory', 'redis']) {
      it(`lets what is short end and hands back what is long, on ${storage}`, async () => {
        // A database of its own, as it leaves a task that waits.
        const environment = storage === 'redis' ? { REDIS_URL: `${server.url}/1` } : {}
        const [app, url] = await startApp(environment)
        await text(`${url}/long`, { method: 'POST' })
        await app.printed(/^long: begins, attempt 1$/m)
        await text(`${url}/short`, { method: 'POST' })
        await app.printed(/^short: begins$/m)
        expect(await app.stop('SIGTERM')).to.equal(0)
        expect(app.lines).to.include.members(['draining for 1 s', 'short: done'])
        expect(app.lines.slice(-2)).to.deep.equal(['long: stops', 'handed back: 1'])
        if (storage === 'memory') return

        // Then the next process runs it, and counts no attempt before its own
        const [next] = await startApp(environment)
        await next.printed(/^long: begins, attempt 1$/m)
        expect(await next.stop('SIGINT')).to.equal(0)
        expect(next.lines.slice(-2)).to.deep.equal(['long: stops', 'handed back: 1'])
      })
    }
  })

  describe('testing-your-tasks', () => {
    it('passes its own tests', async () => {
      const tests = start(process.execPath, [
        join(root, 'node_modules/mocha/bin/mocha.js'),
        'examples/testing-your-tasks/app.spec.ts',
      ])
      expect(await tests.end(), tests.output).to.equal(0)
      expect(tests.output).to.match(/^[1-9]\d* passed, 0 failed$/m)
    })

    it('answers a sign-up without an address by 400', async () => {
      const { app } = await import('../examples/testing-your-tasks/app.ts')
      await request(app).post('/signup').send({}).expect(400)
    })
  })
})
