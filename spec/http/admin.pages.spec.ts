/** What the admin's pages say of records, attempts and workers, on memory and on a server. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { task, taskRegistry } from '../../lib/index.ts'
import { reasonOf, TaskCancelledError } from '../../lib/errors.ts'
import { stackParts } from '../../lib/http/admin-attempts.ts'
import { readableJson } from '../../lib/http/admin-format.ts'
import type { NewRecord } from '../../lib/storage/stored-record.ts'
import { replaceBackends } from '../../lib/task-backends.ts'
import { eventually } from '../support/eventually.ts'
import { aClaim } from '../support/storage-builders.ts'
import { attributes, BACKENDS, send, startAdmin, textOf, visit } from './support/admin-hosts.ts'
import type { AdminHost } from './support/admin-hosts.ts'

const STACK = [
  'Error: no',
  '    at send (/srv/app/mail.js:4:2)',
  '    at Socket.onData (/srv/app/node_modules/smtp/index.js:3:1)',
  '    at Socket.emit (node:events:524:28)',
  '    at again (/srv/app/retry.js:4:2)',
  '    at process.tick (node:internal/process/task_queues:95:5)',
].join('\n')

for (const { name: backendName, make } of BACKENDS) {
  describe(`Admin pages, ${backendName}`, () => {
    let host: AdminHost

    before(() => {
      task('addUp', (a: number, b: number) => a + b)
      task('breakDown', () => {
        throw new RangeError('too far')
      })
    })
    after(() => {
      for (const name of ['addUp', 'breakDown']) taskRegistry.delete(name)
    })
    beforeEach(async () => {
      host = await startAdmin(await make())
    })
    afterEach(async () => {
      await host.close()
      replaceBackends([])
    })

    const store = async (fields: Partial<NewRecord> = {}): Promise<string> => {
      const id = randomUUID()
      const record = { id, name: 'addUp', queueName: 'default', priority: 0, runAfter: null, args: '[1,2]', ...fields }
      await host.backend.storage.enqueue([record])
      return id
    }
    const fail = async (id: string, error: object, outcome: 'FAILED' | 'READY' = 'FAILED'): Promise<void> => {
      const delivery = await host.backend.storage.runById(aClaim('web-1'), id, true)
      if (typeof delivery === 'string') throw new Error(`expected an attempt, got: ${delivery}`)
      const payload = JSON.stringify({ ...error, attempt: delivery.record.attempts })
      await host.backend.storage.settle([{ lease: delivery.lease, outcome, payload, delayMs: 0 }])
    }
    const beat = (worker: string, fields: Readonly<Record<string, string>> = {}): Promise<void> =>
      host.backend.storage.heartbeat({
        consumer: `${worker}.h`,
        fields: {
          ...{ workerId: worker, host: 'machine', pid: '7', node: 'v20.0.0', version: '1.0.0', startedAt: '1' },
          ...{ state: 'running', concurrency: '10', running: '1', settled: '5', lost: '0', queues: '', tasks: 'addUp' },
          ...{ memoryBytes: '1048576', ...fields },
        },
      })

    it('lists the whole id, when a record was started and how long it took', async () => {
      const id = await store()
      await host.backend.runById(id)
      const waiting = await store()
      const { html } = await visit(host, '/tasks')
      const rows = html.split('<tr id=').slice(1)
      const [first = '', second = ''] = rows.toSorted((a) => (a.includes(id) ? -1 : 1))
      expect(textOf(`<${first}`)).to.match(/started \d+ (s|ms) ago/)
      expect(first.replace(/<[^>]*>/g, '')).to.include(id)
      expect(second).to.include(waiting).and.not.to.include('started')
      expect(textOf(`<${second}`)).to.match(/waits \d+/)
    })

    it('shows what a record failed of at the top, and keeps the errors of earlier retries', async () => {
      const id = await store({ name: 'breakDown' })
      await fail(id, { name: 'FirstError', message: 'once', stack: STACK })
      await host.backend.storage.retry([id], randomUUID())
      await fail(id, { name: 'SecondError', message: 'twice', stack: STACK })
      const { html } = await visit(host, `/tasks/${id}`)
      const text = textOf(html)
      expect(text.indexOf('SecondError twice')).to.be.greaterThan(0).and.lessThan(text.indexOf('Timeline'))
      expect(text).to.match(/Attempt 2 failed .*SecondError : twice .*Attempt 1 failed .*FirstError : once/)
      expect(text).to.include('on web-1')
      // Frames of Node and packages are folded, a single one is not.
      expect(text).to.include('2 frames of Node and packages')
      expect(html).to.match(/<pre><code>Error: no\n {4}at send \(\/srv\/app\/mail\.js:4:2\)<\/code><\/pre><details/)
      await host.backend.storage.retry([id], randomUUID())
      const again = textOf((await visit(host, `/tasks/${id}`)).html)
      expect(again).to.include('READY').and.to.include('FirstError : once').and.to.include('SecondError : twice')
    })

    it('says of a cancelled attempt that a person did it, and of one that waited that nothing ran', async () => {
      const { storage } = host.backend
      const reason = reasonOf(new TaskCancelledError())
      const running = await store()
      await storage.runById(aClaim('web-1'), running, false)
      await storage.cancel([running], randomUUID(), reason)
      expect(textOf((await visit(host, `/tasks/${running}`)).html)).to.include('Attempt 1 cancelled by a person')
      const waiting = await store({ name: 'breakDown' })
      await fail(waiting, { name: 'FirstError', message: 'once', stack: STACK }, 'READY')
      await storage.cancel([waiting], randomUUID(), reason)
      const text = textOf((await visit(host, `/tasks/${waiting}`)).html)
      expect(text).to.match(/Attempt 1 failed .*FirstError : once/)
      expect(text).to.include('Cancelled by a person, while it waited')
    })

    it('tells the timeline in words: waits, attempts, how each ended', async () => {
      const id = await store({ name: 'breakDown' })
      await fail(id, { name: 'Error', message: 'no', stack: '' }, 'READY')
      await host.backend.storage.runById(aClaim('web-2'), id, false)
      const { html } = await visit(host, `/tasks/${id}`)
      const spans = [...html.matchAll(/<li class="key key-(\w+)">([^<]*)</g)].map(
        ([, kind, text]) => `${kind}: ${text}`,
      )
      expect(spans.filter((span) => !span.startsWith('waiting')).join('; ')).to.match(
        /^bad: attempt 1 ran [\d.]+ m?s and failed; running: attempt 2 has run for [\d.]+ m?s$/,
      )
      // All that can be done with it
      expect(attributes(html, 'formaction').map((action) => action.replace(/.*\/confirm\//, ''))).to.deep.equal([
        'cancel',
      ])
    })

    it('gives commands to paste: status, run, enqueue again', async () => {
      const id = await store({ name: 'breakDown', args: `["it's"]`, queueName: 'mail' })
      const ready = attributes((await visit(host, `/tasks/${id}`)).html, 'data-copy').slice(1)
      expect(ready[0]).to.equal(`curl '${host.origin}/tasks/status/${id}/'`)
      expect(ready[1]).to.equal(
        `curl -X POST -H 'Content-Type: application/json' -d '{}' '${host.origin}/tasks/execute/${id}/'`,
      )
      expect(ready[2]).to.include(
        `-d '{"args":["it'\\''s"],"queue_name":"mail"}' '${host.origin}/tasks/enqueue/breakDown/'`,
      )
      await fail(id, { name: 'Error', message: 'no', stack: '' })
      const failed = attributes((await visit(host, `/tasks/${id}`)).html, 'data-copy')
      expect(failed[2]).to.include(`'{"allow_retry":true}'`)
    })

    it('shows workers with what they run, marks other versions and the late ones, and pages', async () => {
      for (let n = 10; n < 62; n++) await beat(`w${n}`, n === 12 ? { version: '0.9.0', node: 'v22.1.0' } : {})
      await beat('w11', { state: 'draining' })
      await beat('w13', { state: 'stopped' })
      const id = await store()
      await host.backend.storage.runById(aClaim('w12'), id, false)
      const { html } = await visit(host, '/workers')
      const text = textOf(html)
      expect(text).to.include('51 live workers, 1 not heard of')
      expect(text).to.include('different versions of this package: 1.0.0, 0.9.0; of Node: v20.0.0, v22.1.0')
      expect(text).to.match(/draining w11 machine, pid 7/)
      expect(text).to.match(/w12 machine, pid 7 .* 1 \/ 10 1 addUp \d+ (s|ms) .*0\.9\.0 differs node v22\.1\.0/)
      expect(attributes(html, 'href')).to.include(`/tasks/admin/tasks/${id}`)
      expect(html.match(/<tr>/g)).to.have.lengthOf(51)
      const next = attributes(html, 'href').find((href) => href.includes('page=2')) ?? ''
      const second = textOf((await visit(host, new URL(next, host.origin).href)).html)
      expect(second).to.include('stopped w13').and.to.include('w61').and.not.to.include('w60')
      for (const page of ['0', '99', '-1', 'x', '1e3'])
        expect((await visit(host, `/workers?page=${page}`)).status).to.equal(200)
    })

    it('answers 304 while nothing moved but time, and the page again when something did', async () => {
      const id = await store()
      await host.backend.runById(id)
      const first = await visit(host, '/tasks?status=SUCCESSFUL')
      const tag = first.headers.get('etag') ?? ''
      expect(tag).to.match(/^"[\w-]{27}"$/)
      // As a script's request has it: browsers add this header, and Express alone would send all again.
      const headers = { 'if-none-match': tag, 'cache-control': 'no-cache' }
      await eventually(async () => {
        // Its ages have become others meanwhile.
        const again = await visit(host, '/tasks?status=SUCCESSFUL')
        return again.html !== first.html
      })
      const same = await visit(host, '/tasks?status=SUCCESSFUL', { headers })
      expect([same.status, same.html]).to.deep.equal([304, ''])
      await host.backend.runById(await store())
      expect((await visit(host, '/tasks?status=SUCCESSFUL', { headers })).status).to.equal(200)
      for (const known of ['*', `"other", W/${tag}`]) {
        const answer = await visit(host, '/tasks?status=FAILED', { headers: { 'if-none-match': known } })
        expect([known, answer.status]).to.deep.equal([known, known === '*' ? 304 : 200])
      }
    })

    it('lets the redact hook see large values whole, one at a time, in lists, previews and searches', async () => {
      await host.close()
      replaceBackends([])
      let seen = 0
      host = await startAdmin(await make(), {
        redact: ({ field, value }) => {
          if (field !== 'args') return value
          seen = Math.max(seen, JSON.stringify(value).length)
          return ['shown', 'the rest is hidden']
        },
      })
      const id = await store({ args: JSON.stringify(['secret', 'x'.repeat(100_000)]) })
      for (const path of ['/tasks', '/tasks?text=shown', `/tasks/${id}`, '/tasks?text=secret']) {
        const { html } = await visit(host, path)
        // The search text itself is the reader's own.
        expect(html.includes('xxx'), path).to.equal(false)
        if (!path.includes('text=')) expect(html, path).not.to.include('secret')
        else expect(attributes(html, 'data-href')).to.deep.equal([])
        expect(textOf(html).includes('the rest is hidden'), path).to.equal(path === '/tasks' || path.includes(id))
      }
      const preview = textOf((await send(host, '/confirm/delete', { scope: 'ticked', id })).html)
      expect(preview).to.include('the rest is hidden').and.not.to.include('secret')
      expect(seen).to.be.greaterThan(100_000)
    })

    it('says of a record that is not there that it may have been purged, under its page of the navigation', async () => {
      const { html, status } = await visit(host, `/tasks/${randomUUID()}`)
      expect(status).to.equal(404)
      expect(textOf(html)).to.include('No such record').and.to.include('kept for 7 d after their end')
      expect(html).to.match(/<a href="\/tasks\/admin\/tasks" aria-current="page">/)
      expect((await visit(host, '/tasks/no-id')).status).to.equal(404)
    })
  })
}

describe('stackParts', () => {
  it('keeps every line, in order', () => {
    for (const stack of [STACK, '', 'Error', '    at node:a\n    at node:b', `${STACK}\n${STACK}`]) {
      expect(
        stackParts(stack)
          .map(({ text }) => text)
          .join('\n'),
      ).to.equal(stack)
    }
  })
})

describe('readableJson', () => {
  it('keeps on a line what fits there, and lays out the rest', () => {
    const text = `[{"id":1,"sizes":[320,640,1280],"text":"a ] \\" } b","more":"${'x'.repeat(70)}"},[],{}]`
    expect(readableJson(text).text).to.equal(
      [
        '[',
        '  {',
        '    "id": 1,',
        '    "sizes": [320, 640, 1280],',
        '    "text": "a ] \\" } b",',
        `    "more": "${'x'.repeat(70)}"`,
        '  },',
        '  [],',
        '  {}',
        ']',
      ].join('\n'),
    )
  })
})
