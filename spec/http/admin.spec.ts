import { createHash, randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { expect } from 'chai'
import express from 'express'
import express4 from 'express4'
import helmet from 'helmet'
import { RedisTaskBackend, task, taskRegistry } from '../../lib/index.ts'
import type { TaskBackend } from '../../lib/index.ts'
import { ADMIN_ROUTES } from '../../lib/http/admin-router.ts'
import { replaceBackends } from '../../lib/task-backends.ts'
import { aClaim } from '../support/storage-builders.ts'
import { eventually } from '../support/eventually.ts'
import { startRedisServer } from '../support/redis-server.ts'
import { attributes, BACKENDS, formIn, send, startAdmin, textOf, visit } from './support/admin-hosts.ts'
import type { AdminHost, HostOptions, Page } from './support/admin-hosts.ts'

const HOSTILE = [
  '<img src=x onerror=alert(1)>',
  '"><script>alert(1)</script>',
  "' onmouseover='alert(1)",
  'javascript:alert(1)',
  '<%= 7 * 7 %>',
  '\u202egpj.exe\u0000\u001b[31m',
  '</main></body><h1>owned</h1>',
]

function expectHarmless(html: string, where: string): void {
  expect(html, where).not.to.match(/<img/i)
  expect(html, where).not.to.match(/<script(?! src="\/)/i)
  expect(html.replace(/"[^"]*"/g, '""'), where).not.to.match(/<[^<>]*\s(on\w+|style)\s*=/i)
  expect(html, where).not.to.match(/<h1>owned/)
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  expect(html, where).not.to.match(/[\u202a-\u202e\u0000-\u0008\u001b]/)
  for (const href of [...attributes(html, 'href'), ...attributes(html, 'action'), ...attributes(html, 'formaction')]) {
    expect(href, where).to.match(/^(\/(?![/\\])|#)/)
  }
}

for (const { name: backendName, make } of BACKENDS) {
  describe(`Admin, ${backendName}`, () => {
    let host: AdminHost
    let ran: number[]

    before(() => {
      task('addUp', (a: number, b: number) => {
        ran.push(a)
        return a + b
      })
      task('breakDown', () => {
        throw new RangeError('too far')
      })
    })
    after(() => {
      taskRegistry.delete('addUp')
      taskRegistry.delete('breakDown')
    })
    beforeEach(() => {
      ran = []
    })
    afterEach(async () => {
      await host.close()
      replaceBackends([])
    })

    const start = async (options: HostOptions = {}): Promise<TaskBackend> => {
      host = await startAdmin(await make(), options)
      return host.backend
    }
    const enqueue = async (name: string, args: readonly unknown[] = [], more: object = {}): Promise<string> =>
      (await host.backend.enqueue(taskRegistry.get(name).using(more), args)).id
    const enqueueMany = async (count: number, name = 'addUp', more: object = {}): Promise<string[]> => {
      const lists = Array.from({ length: count }, (_, index) => [index, 1])
      return (await host.backend.enqueueMany(taskRegistry.get(name).using(more), lists)).map(({ id }) => id)
    }
    const statusOf = async (id: string): Promise<string> => (await host.backend.getResult(id)).status

    it('shows counts, the oldest wait and what nobody runs', async () => {
      await start()
      await enqueueMany(3, 'addUp', { queueName: 'sums' })
      const failed = await enqueue('breakDown')
      await host.backend.runById(failed)
      const { status, html } = await visit(host, '')
      expect(status).to.equal(200)
      expect(textOf(html)).to.match(
        /READY 3 oldest waits \S+ m?s RUNNING 0 half took less than \S+ m?s SUCCESSFUL 0 0\.0 a minute FAILED 1 100 % of the last hour Workers 0 none was heard of/,
      )
      expect(textOf(html)).to.match(/3 records wait, and no worker was heard of/)
      expect(textOf(html)).to.match(/sums 3 \d+ ms|sums 3 0 s/)
      await host.backend.storage.heartbeat({
        consumer: 'w.h',
        fields: { workerId: 'w', queues: '', tasks: 'other', concurrency: '4', running: '1' },
      })
      expect(textOf((await visit(host, '')).html)).to.match(
        /3 records of “addUp” in queue “sums”: no live worker knows this task/,
      )
      await host.backend.storage.heartbeat({
        consumer: 'w.h',
        fields: { workerId: 'w', queues: '', tasks: 'addUp', concurrency: '4', running: '1' },
      })
      expect((await visit(host, '')).html).not.to.include('Nobody runs these')
    })

    it('filters, counts beside each filter value, and says which names of the query it does not know', async () => {
      await start()
      await enqueueMany(4, 'addUp', { queueName: 'sums' })
      await enqueueMany(2, 'addUp', { queueName: 'more' })
      const { html } = await visit(host, '/tasks?queue=sums&status=READY&nonsense=1')
      expect(textOf(html)).to.include('Tasks 4 records')
      expect(textOf(html)).to.match(/more 2/)
      expect(textOf(html)).to.include('not understood: nonsense')
      const remove = attributes(html, 'href').find(
        (href) => !href.includes('queue=') && href.includes('status=READY') && href.includes('/tasks?'),
      )
      expect(textOf((await visit(host, new URL(remove ?? '', host.origin).href)).html)).to.include('Tasks 6 records')
      const nothing = await visit(host, '/tasks?queue=none')
      expect(textOf(nothing.html)).to.include('Nothing matches')
      expect(textOf((await visit(host, '/tasks?status=FAILED')).html)).to.include('Nothing failed')
    })

    it('pages forwards and back while records arrive, without showing one twice', async () => {
      await start()
      const ids = await enqueueMany(60)
      const seen: string[] = []
      let path = '/tasks?size=25'
      let pages = 0
      let last: Page | undefined
      for (;;) {
        last = await visit(host, path)
        seen.push(...attributes(last.html, 'value').filter((value) => ids.includes(value)))
        await enqueueMany(3)
        pages += 1
        const next = /<a class="button" rel="next" href="([^"]*)"/.exec(last.html)?.[1]
        if (next === undefined) break
        path = new URL(next.replaceAll('&amp;', '&'), host.origin).href
      }
      expect(pages).to.equal(3)
      expect(new Set(seen).size).to.equal(60)
      expect(seen).to.have.length(60)
      const previous = /rel="prev" href="([^"]*)"/.exec(last.html)?.[1] ?? ''
      const back = await visit(host, new URL(previous.replaceAll('&amp;', '&'), host.origin).href)
      expect(attributes(back.html, 'value').filter((value) => ids.includes(value))).to.deep.equal(seen.slice(25, 50))
    })

    it('says how far it looked for a text, and never a total', async () => {
      await start()
      await enqueueMany(30)
      const needle = await enqueue('addUp', [77_777, 1])
      const { html } = await visit(host, '/tasks?text=77777')
      expect(attributes(html, 'data-href')).to.have.length(1)
      expect(html).to.include(needle)
      expect(textOf(html)).to.include('Looked at 31 of 31 on this page, 1 found.')
      expect(html).not.to.match(/all \d+ that match/)
    })

    it('shows arguments as they are stored, to the last digit', async () => {
      await start()
      const id = randomUUID()
      const args = '[9007199254740993,1e400,{"a":[]},"\\u202e"]'
      await host.backend.storage.enqueue([
        { id, name: 'addUp', queueName: 'default', priority: 0, runAfter: null, args },
      ])
      const { html } = await visit(host, `/tasks/${id}`)
      expect(textOf(html)).to.include('[9007199254740993, 1e400, {"a": []}, "\\u202e"]')
      const file = await visit(host, `/tasks/${id}/args?download=1`)
      expect(file.html).to.equal(args)
      expect(file.headers.get('content-disposition')).to.equal(`attachment; filename="args-${id}.json"`)
    })

    it('cuts a large payload and shows all of it on a page of its own', async () => {
      await start()
      const id = await enqueue('addUp', [1, 'x'.repeat(9_000), 'the end'])
      const { html } = await visit(host, `/tasks/${id}`)
      expect(html).not.to.include('the end')
      expect(textOf(html)).to.include('Show all (8.8 kB)')
      expect((await visit(host, `/tasks/${id}/args`)).html).to.include('the end')
    })

    it('shows each attempt with its error, and offers what the state allows', async () => {
      await start()
      const id = await enqueue('breakDown')
      await host.backend.runById(id)
      const { html } = await visit(host, `/tasks/${id}`)
      expect(textOf(html)).to.match(/Attempt 1 failed .*RangeError : too far/)
      expect(html).to.include('<details id="stack-0" open>')
      expect(attributes(html, 'formaction').map((action) => action.split('/').at(-1))).to.deep.equal([
        'retry',
        'delete',
      ])
    })

    it('retries, runs and deletes one record from its page, each by way of a confirm page', async () => {
      await start()
      const id = await enqueue('breakDown')
      await host.backend.runById(id)
      for (const [verb, expected, notice] of [
        ['retry', 'READY', 'The record waits again'],
        ['run', 'FAILED', 'The task ran here and failed'],
      ] as const) {
        const confirm = await send(host, `/confirm/${verb}`, { scope: 'ticked', single: '1', id })
        const { action, fields } = formIn(confirm.html)
        const done = await send(host, new URL(action, host.origin).href, fields)
        expect(done.status).to.equal(303)
        expect(await statusOf(id)).to.equal(expected)
        expect(textOf((await visit(host, new URL(done.location, host.origin).href)).html)).to.include(notice)
      }
      const { action, fields } = formIn(
        (await send(host, '/confirm/delete', { scope: 'ticked', single: '1', id })).html,
      )
      const done = await send(host, new URL(action, host.origin).href, fields)
      expect(done.location).to.equal('/tasks/admin/tasks?notice=deleted')
      expect((await visit(host, `/tasks/${id}`)).status).to.equal(404)
    })

    it('deletes all that match what was previewed, and nothing that came later', async () => {
      await start()
      await enqueueMany(140, 'addUp', { queueName: 'sums' })
      const other = await enqueue('addUp', [1, 2], { queueName: 'other' })
      const confirm = await send(host, '/confirm/delete?queue=sums', { scope: 'all' })
      expect(textOf(confirm.html)).to.include('Delete 140 records?')
      expect(attributes(confirm.html, 'name').filter((name) => name === 'id')).to.deep.equal([])
      await eventually(async () => {
        const [newest] = (await host.backend.records.filter({ queueName: 'sums' }).page({ size: 1 })).records
        const late = await enqueue('addUp', [1, 2], { queueName: 'sums' })
        const added = await host.backend.records.find(late)
        if (newest && added.enqueuedAt > newest.enqueuedAt) return true
        await added.delete()
        return false
      })
      const { action, fields } = formIn(confirm.html)
      const done = await send(host, new URL(action, host.origin).href, fields)
      expect(done.status).to.equal(303)
      const result = await visit(host, new URL(done.location, host.origin).href)
      expect(textOf(result.html)).to.include('140 records deleted')
      expect(textOf(result.html)).to.include('Nothing is left to do')
      expect(await host.backend.records.filter({ queueName: 'sums' }).count()).to.equal(1)
      expect(await statusOf(other)).to.equal('READY')
    })

    it('leaves running records alone, says so, and counts them as skipped', async () => {
      const backend = await start()
      const id = await enqueue('addUp', [1, 2])
      const waiting = await enqueue('addUp', [3, 4])
      const preview = await send(host, '/confirm/delete', { scope: 'ticked', id: [id, waiting] })
      await backend.storage.runById(aClaim(), id, false)
      const again = await send(host, '/confirm/delete', { scope: 'ticked', id: [id, waiting] })
      expect(textOf(again.html)).to.match(/Left alone 1 RUNNING: a running record cannot be deleted/)
      const { action, fields } = formIn(preview.html)
      const done = await send(host, new URL(action, host.origin).href, fields)
      const result = textOf((await visit(host, new URL(done.location, host.origin).href)).html)
      expect(result).to.include('1 record deleted')
      expect(result).to.include('1 record was skipped')
      expect(await statusOf(id)).to.equal('RUNNING')
    })

    it('runs all that match here, delayed ones too, and leaves those that this process does not know', async () => {
      await start()
      const ids = await enqueueMany(5)
      const delayed = await enqueue('addUp', [50, 1], { runAfter: new Date(Date.now() + 3_600_000) })
      await host.backend.storage.enqueue([
        { id: randomUUID(), name: 'foreign', queueName: 'default', priority: 0, runAfter: null, args: '[]' },
      ])
      const confirm = await send(host, '/confirm/run', { scope: 'all' })
      expect(textOf(confirm.html)).to.include('Run 6 records?')
      expect(textOf(confirm.html)).to.include('1 READY, but unknown here')
      const { action, fields } = formIn(confirm.html)
      const done = await send(host, new URL(action, host.origin).href, fields)
      expect(textOf((await visit(host, new URL(done.location, host.origin).href)).html)).to.include('6 records run')
      expect(ran).to.have.length(6)
      for (const id of [...ids, delayed]) expect(await statusOf(id)).to.equal('SUCCESSFUL')
    })

    it('prints hostile text as text, in every field of every page', async () => {
      const backend = await start({ label: '<b>prod</b>' })
      const ids: string[] = []
      for (const [index, text] of HOSTILE.entries()) {
        const id = randomUUID()
        ids.push(id)
        const name = text.replaceAll(':', '')
        await backend.storage.enqueue([
          {
            id,
            name,
            queueName: `${name}${index}`,
            priority: 0,
            runAfter: null,
            args: JSON.stringify([text, { [text]: text }]),
          },
        ])
        const claim = { ...aClaim(), workerId: text.replace(/\s/g, '') }
        const delivery = await backend.storage.runById(claim, id, false)
        if (typeof delivery === 'string') throw new Error(delivery)
        const payload = JSON.stringify({ name: text, message: text, stack: `${text}\n    at ${text}`, attempt: 1 })
        const outcome = index % 2 === 0 ? 'FAILED' : 'SUCCESSFUL'
        await backend.storage.settle([
          {
            lease: delivery.lease,
            outcome,
            payload: outcome === 'FAILED' ? payload : JSON.stringify(text),
            delayMs: 0,
          },
        ])
        const fields = Object.fromEntries(
          [
            'workerId',
            'host',
            'pid',
            'node',
            'startedAt',
            'state',
            'concurrency',
            'running',
            'settled',
            'lost',
            'queues',
            'tasks',
            'memoryBytes',
          ].map((field) => [field, text]),
        )
        await backend.storage.heartbeat({ consumer: text, fields })
      }
      const query = encodeURIComponent(HOSTILE[1] ?? '')
      const paths = [
        '',
        '/tasks',
        '/workers',
        `/tasks?text=${query}`,
        `/tasks?${query}=1`,
        `/tasks?status=${query}`,
        `/tasks?live=${query}`,
        `/tasks?after=${query}`,
        `/${query}`,
        `/tasks/${query}`,
      ]
      paths.push(...ids.flatMap((id) => [`/tasks/${id}`, `/tasks/${id}/args`, `/tasks/${id}?notice=${query}`]))
      paths.push(`/done/delete?done=${query}&left=${query}&cutoff=${query}&scope=all`)
      for (const path of paths) expectHarmless((await visit(host, path)).html, path)
      expectHarmless((await send(host, `/confirm/delete?text=${query}`, { scope: 'all' })).html, 'confirm all')
      expectHarmless((await send(host, '/confirm/delete', { scope: 'ticked', id: ids })).html, 'confirm ticked')
      expectHarmless((await send(host, `/confirm/delete`, { scope: 'ticked', id: HOSTILE })).html, 'confirm, no ids')
      expect((await visit(host, '/tasks')).html).to.include('&lt;img src=x onerror=alert(1)&gt;')
    })

    it('is the same under a polluted Object.prototype', async () => {
      await start()
      const id = await enqueue('addUp', [1, 2])
      await host.backend.runById(id)
      const stable = (html: string): string =>
        html.replace(
          /\d+ m?s ago|waits [^<]*|data-now="\d+"|<time[^>]*>[^<]*<\/time>|now [^<]*UTC|[^"]*" title="[^"]*UTC/g,
          '',
        )
      const paths = ['/tasks', `/tasks/${id}`, '/workers', '/tasks?status=nonsense']
      const clean = []
      for (const path of paths) clean.push(stable((await visit(host, path)).html))
      const polluted = Object.prototype as Record<string, unknown>
      const keys = ['notice', 'escape', 'client', 'outputFunctionName', 'label', 'href', 'code', 'view', 'delimiter']
      for (const key of keys) polluted[key] = '<b>polluted</b>'
      try {
        const dirty = []
        for (const path of paths) {
          // fetch itself reads options through the prototype, so only what it needs is asked for.
          dirty.push(stable((await visit(host, path)).html))
        }
        for (const [index, html] of dirty.entries()) expect(html, paths[index]).to.equal(clean[index])
      } finally {
        for (const key of keys) Reflect.deleteProperty(polluted, key)
      }
    })

    it('writes every link under the path it is mounted at, whatever that is', async () => {
      await start({ mount: '/deep/:tenant/tasks', path: '/deep/a%22c/tasks' })
      const id = await enqueue('addUp', [1, 2])
      for (const path of ['', '/', '/tasks', '/tasks/', `/tasks/${id}`, '/workers', '/nowhere']) {
        const { html, status } = await visit(host, path)
        expect(status, path).to.equal(path === '/nowhere' ? 404 : 200)
        const hrefs = attributes(html, 'href').filter((href) => !href.startsWith('#'))
        for (const href of hrefs) expect(href).to.match(/^\/deep\/a%22c\/tasks\/admin(\/|\?|$)/)
      }
    })

    it('works in a host with another view engine, helmet, parsers and Express 4', async () => {
      for (const make of [express, express4 as unknown as typeof express]) {
        const host4 = await startAdmin(await (BACKENDS[0] as (typeof BACKENDS)[0]).make(), {
          make: () => {
            const app = make()
            app.set('view engine', 'pug')
            app.set('views', '/nowhere')
            app.locals['settings'] = { 'view options': { client: true } }
            app.use(helmet(), express.json(), express.urlencoded({ extended: true }))
            return app
          },
        })
        host = host4
        const ids = await enqueueMany(30)
        const confirm = await send(host4, '/confirm/delete', { scope: 'ticked', id: ids })
        expect(textOf(confirm.html)).to.include('Delete 30 records?')
        const { action, fields } = formIn(confirm.html)
        await send(host4, new URL(action, host4.origin).href, fields)
        expect(await host4.backend.records.filter().count()).to.equal(0)
        if (make === express) await host4.close()
      }
    })

    it('serves its assets under the hash of their content, for a year', async () => {
      await start()
      const { html } = await visit(host, '')
      const files = [...attributes(html, 'href'), ...attributes(html, 'src')].filter((path) =>
        path.includes('/assets/'),
      )
      expect(files).to.have.length(4)
      for (const file of files) {
        const asset = await visit(host, new URL(file, host.origin).href)
        expect(asset.status).to.equal(200)
        expect(asset.headers.get('cache-control')).to.equal('private, max-age=31536000, immutable')
      }
      expect((await visit(host, '/assets/admin.css')).status).to.equal(404)
      expect((await visit(host, '/assets/..%2fpage-task.ejs')).status).to.equal(404)
    })

    it('changes nothing for a page of another origin, or by a method or a body that is none of its own', async () => {
      await start()
      const id = await enqueue('addUp', [1, 2])
      for (const verb of ['run', 'retry', 'delete']) {
        for (const path of [`/act/${verb}`, `/confirm/${verb}`]) {
          const attempts: [Record<string, string>, number][] = [
            [{ 'sec-fetch-site': 'cross-site' }, 403],
            [{ 'sec-fetch-site': 'same-site' }, 403],
            [{ origin: 'https://evil.test' }, 403],
            [{ origin: 'null' }, 403],
          ]
          for (const [headers, status] of attempts) {
            expect((await send(host, path, { scope: 'ticked', id }, headers)).status, path).to.equal(status)
          }
          const headers = { 'sec-fetch-site': 'same-origin', 'content-type': 'text/plain' }
          expect((await visit(host, path, { method: 'POST', body: `id=${id}`, headers })).status).to.equal(415)
          expect((await visit(host, `${path}?id=${id}`)).status).to.equal(405)
        }
      }
      expect(await statusOf(id)).to.equal('READY')
      const big = await send(host, '/act/delete', { scope: 'ticked', id, more: 'x'.repeat(300_000) })
      expect(big.status).to.equal(413)
      expect(await statusOf(id)).to.equal('READY')
    })

    it('asks authorize on every route, its assets and unknown paths, before anything else', async () => {
      const asked: string[] = []
      const backend = await start({
        authorize: (_req, action) => {
          asked.push(action)
          return false
        },
      })
      const id = await enqueue('addUp', [1, 2])
      let calls = 0
      for (const name of ['find', 'list', 'count', 'catalog', 'workers', 'delete', 'retry', 'runById'] as const) {
        const verb = backend.storage[name] as (...args: never[]) => unknown
        Object.assign(backend.storage, {
          [name]: (...args: never[]) => {
            calls += 1
            return verb.apply(backend.storage, args)
          },
        })
      }
      for (const { method, path, action } of ADMIN_ROUTES) {
        asked.length = 0
        const url = path.replace(':id', id)
        const page = method === 'get' ? await visit(host, url) : await send(host, url, { scope: 'ticked', id })
        expect(page.status, path).to.equal(403)
        expect(asked, path).to.deep.equal([action])
        expect(page.html).not.to.include('addUp')
      }
      for (const path of ['/assets/admin.css', '/nowhere', '/act/purge'])
        expect((await visit(host, path)).status).to.equal(403)
      expect(calls).to.equal(0)
    })

    it('refuses with a page that holds its own styles: who asks may not have the files either', async () => {
      await start({ authorize: () => false })
      const { status, headers, html } = await visit(host, '/tasks')
      expect(status).to.equal(403)
      const styles = /<style>(.*)<\/style>/s.exec(html)?.[1] ?? ''
      expect(styles).to.include('--accent')
      const hash = createHash('sha256').update(styles).digest('base64')
      expect(headers.get('content-security-policy')).to.include(`style-src 'sha256-${hash}';`)
      expect(html).not.to.include('/assets/')
      expect(html).not.to.include('<script')
    })

    it('shows no button to who may only look, and refuses the form all the same', async () => {
      await start({ authorize: (_req, action) => action === 'view' })
      const id = await enqueue('addUp', [1, 2])
      for (const path of ['/tasks', `/tasks/${id}`]) {
        const { html } = await visit(host, path)
        expect(html).to.include(id)
        expect(attributes(html, 'formaction')).to.deep.equal([])
        expect(html).not.to.include('type="checkbox" name="id"')
      }
      for (const verb of ['run', 'retry', 'delete']) {
        expect((await send(host, `/act/${verb}`, { scope: 'ticked', id })).status).to.equal(403)
        expect((await send(host, `/confirm/${verb}`, { scope: 'ticked', id })).status).to.equal(403)
      }
      expect(await statusOf(id)).to.equal('READY')
    })

    it('answers a wrong address or an old place with a page, never with an error of its own', async () => {
      await start()
      await enqueueMany(3)
      const wrong = [
        '/tasks?status=NONE',
        '/tasks?size=7',
        '/tasks?enqueued_from=2026-02-30',
        '/tasks?after=zzz',
        '/tasks?text=a&text=b',
        '/tasks?backend=none',
        `/tasks?text=${'x'.repeat(201)}`,
      ]
      for (const path of wrong) {
        const { status, html } = await visit(host, path)
        expect(status, path).to.equal(400)
        expect(html).to.include('<h1>A field is not what it may be</h1>')
      }
      expect((await visit(host, `/tasks?after=zzz.${randomUUID()}`)).status).to.equal(200)
      expect((await visit(host, `/tasks?before=1.${randomUUID()}`)).status).to.equal(200)
      const gone = await visit(host, `/tasks/${randomUUID()}`)
      expect(gone.status).to.equal(404)
      expect(textOf(gone.html)).to.include('finished records of this backend are kept for 7 d')
      expect((await visit(host, '/%E0%A4%A')).status).to.equal(404)
    })

    it('switches between backends', async () => {
      const second = await make()
      await start()
      const other = { alias: 'archive' }
      Object.defineProperty(second, 'alias', { value: other.alias })
      replaceBackends([
        ['default', host.backend],
        ['archive', second],
      ])
      const id = (await second.enqueue(taskRegistry.get('addUp'), [1, 2])).id
      expect((await visit(host, `/tasks/${id}`)).status).to.equal(404)
      const { status, html } = await visit(host, `/tasks/${id}?backend=archive`)
      expect(status).to.equal(200)
      expect(attributes(html, 'formaction')[0]).to.include('backend=archive')
      expect(attributes(html, 'href')).to.include('/tasks/admin/workers?backend=archive')
      await second.close()
    })

    it('shows what the redact hook lets through, and does not find what it hides', async () => {
      await start({
        redact: ({ field, value }) => {
          if (field === 'error') throw new Error('no idea')
          return field === 'args' ? ['(hidden)'] : value
        },
      })
      const id = await enqueue('breakDown', ['topsecret'])
      await host.backend.runById(id)
      for (const path of [
        '/tasks',
        `/tasks/${id}`,
        `/tasks/${id}/args`,
        `/tasks/${id}/args?download=1`,
        '/tasks?text=topsec',
      ]) {
        const { html } = await visit(host, path)
        expect(html, path).not.to.include('topsecret')
        expect(html, path).not.to.include('too far')
      }
      const api = await (await fetch(`${host.origin}/tasks/status/${id}/`)).text()
      expect(api).to.include('"args":["(hidden)"]')
      expect(api).not.to.match(/topsecret|too far/)
      expect(attributes((await visit(host, '/tasks?text=topsec')).html, 'data-href')).to.deep.equal([])
      expect((await send(host, '/confirm/delete?text=topsec', { scope: 'all' })).status).to.equal(400)
    })
  })
}

describe('Admin without its storage', () => {
  it('says that it is away, and is back by itself', async () => {
    const server = await startRedisServer()
    const host = await startAdmin(new RedisTaskBackend({ redisUrl: server.url, queues: [] }))
    try {
      expect((await visit(host, '/tasks')).status).to.equal(200)
      await server.kill('SIGKILL')
      const down = await visit(host, '/tasks?status=FAILED')
      expect(down.status).to.equal(503)
      expect(down.headers.get('retry-after')).to.equal('5')
      expect(attributes(down.html, 'href')).to.include('/tasks/admin/tasks?status=FAILED')
      expect(down.html).not.to.include(String(server.port))
      await server.restart()
      await eventually(async () => (await visit(host, '/tasks?status=FAILED')).status === 200)
    } finally {
      await host.close()
      await server.stop()
      replaceBackends([])
    }
  })
})

describe('The templates', () => {
  const folder = new URL('../../views/', import.meta.url)
  const files = readdirSync(folder).filter((file) => file.endsWith('.ejs'))

  for (const file of files) {
    it(`${file} prints unescaped only other templates, our charts and our own sheet, and holds no script or style`, () => {
      const text = readFileSync(new URL(file, folder), 'utf8')
      for (const [, raw = ''] of text.matchAll(/<%-\s*(.*?)\s*-?%>/gs)) {
        expect(raw).to.match(
          /^(page\.include\('[a-z_-]+'.*|page\.(throughput|queuesChart|times|timeline|assets\.styles)|queue\.spark)$/,
        )
      }
      expect(text).not.to.match(
        /\sstyle=|\son\w+="|<style>(?!<%- page\.assets\.styles %><)|<style |<script(?! src="<%= page\.assets\.script %>" defer)|javascript:|data:/,
      )
      // Every attribute that holds a value of ours is in double quotes.
      expect(text).not.to.match(/=(<%|'<%)/)
    })
  }
})
