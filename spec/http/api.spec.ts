import { expect } from 'chai'
import { defineTasks, forgetTasks, HOSTS, request } from './support/hosts.ts'
import type { Answer, Host } from './support/hosts.ts'

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const NOBODY = '01890000-0000-7000-8000-000000000000'

interface Task {
  readonly id: string
  readonly status: string
}

const taskOf = ({ body }: Answer): Task & Record<string, unknown> => body['task'] as Task & Record<string, unknown>

for (const { name, start } of HOSTS) {
  describe(`API, ${name}`, () => {
    let host: Host

    before(async () => {
      defineTasks()
      host = await start()
    })
    after(async () => {
      await host.close()
      forgetTasks()
    })
    beforeEach(async () => {
      await post('/run/')
      await post('/purge/', { days: 0 })
    })

    const post = (path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> =>
      request(host, 'POST', path, body, headers)
    const get = (path: string, headers?: Record<string, string>): Promise<Answer> =>
      request(host, 'GET', path, undefined, headers)
    const enqueue = async (taskName: string, args: unknown[], more: object = {}): Promise<Task> =>
      taskOf(await post(`/enqueue/${taskName}/`, { args, ...more }))

    describe('POST /enqueue/:name', () => {
      it('stores the task and says where its status is', async () => {
        const answer = await post('/enqueue/add/', { args: [1, 2], priority: 7, queue_name: 'sums' })
        expect(answer.status).to.equal(202)
        const task = taskOf(answer)
        expect(task).to.include({ name: 'add', status: 'READY', priority: 7, queue_name: 'sums', return_value: null })
        expect(task['args']).to.deep.equal([1, 2])
        expect(answer.headers.get('location')).to.equal(`/deep/acme/tasks/status/${task.id}/`)
      })

      it('works without the trailing slash, and from a form', async () => {
        const answer = await post('/enqueue/add', 'args=%5B3%2C4%5D&priority=-5', FORM)
        expect(answer.status).to.equal(202)
        expect(taskOf(answer)).to.deep.include({ args: [3, 4], priority: -5 })
      })

      it('waits for run_after', async () => {
        const run_after = new Date(Date.now() + 3_600_000).toISOString()
        expect(taskOf(await post('/enqueue/add/', { args: [1, 2], run_after }))['run_after']).to.equal(run_after)
        expect((await post('/run/')).body).to.deep.equal({ processed: 0, tasks: [] })
      })

      it('refuses a time without a zone', async () => {
        const answer = await post('/enqueue/add/', { args: [], run_after: '2030-01-31T12:00:00' })
        expect([answer.status, answer.body['pointer']]).to.deep.equal([400, '/run_after'])
      })

      it('answers a repeated id with the record of the first', async () => {
        const id = '0198c1f2-0000-7000-8000-00000000abcd'
        await post('/enqueue/add/', { id, args: [1, 2] })
        await post('/run/')
        const again = await post('/enqueue/add/', { id, args: [1, 2] })
        expect([again.status, taskOf(again).id, taskOf(again).status]).to.deep.equal([202, id, 'SUCCESSFUL'])
      })

      it('answers a repeated Idempotency-Key, quoted or bare, with the record of the first', async () => {
        const first = taskOf(await post('/enqueue/add/', { args: [1, 2] }, { 'idempotency-key': 'order-7' }))
        const again = taskOf(await post('/enqueue/add/', { args: [1, 2] }, { 'idempotency-key': '"order-7"' }))
        expect(again.id).to.equal(first.id)
      })

      it('refuses a key that was used for another payload, and a key beside an id', async () => {
        await post('/enqueue/add/', { args: [1, 2] }, { 'idempotency-key': 'order-8' })
        const other = await post('/enqueue/add/', { args: [1, 3] }, { 'idempotency-key': 'order-8' })
        expect([other.status, other.body['code']]).to.deep.equal([422, 'ERR_TASKS_RESULT_MISMATCH'])
        const elsewhere = { args: [1, 2], queue_name: 'elsewhere' }
        const moved = await post('/enqueue/add/', elsewhere, { 'idempotency-key': 'order-8' })
        expect([moved.status, moved.body['code']]).to.deep.equal([422, 'ERR_TASKS_RESULT_MISMATCH'])
        const both = await post('/enqueue/add/', { args: [], id: NOBODY }, { 'idempotency-key': 'order-9' })
        expect([both.status, both.body['pointer']]).to.deep.equal([400, '/id'])
      })

      it('refuses a key that is too long or not printable', async () => {
        for (const key of ['k'.repeat(256), 'a b', '""']) {
          const answer = await post('/enqueue/add/', { args: [] }, { 'idempotency-key': key })
          expect([key.length, answer.status]).to.deep.equal([key.length, 400])
        }
      })

      it('knows only registered tasks, whatever the name', async () => {
        for (const name of ['nope', '__proto__', 'constructor', 'toString']) {
          expect((await post(`/enqueue/${name}/`, { args: [] })).status).to.be.oneOf([400, 404])
        }
        expect((await post('/enqueue/ad/', { args: [] })).body['detail']).to.include(
          'did you mean \\"add\\"'.replace(/\\/g, ''),
        )
      })

      it('holds arguments to the schema of the task and points at the first offender', async () => {
        const answer = await post('/enqueue/mail/', { args: ['nobody'] })
        expect([answer.status, answer.body['code']]).to.deep.equal([422, 'ERR_TASKS_ARGUMENT'])
        expect(answer.body['pointer']).to.equal('/args/0')
      })

      it('refuses numbers that a double would round', async () => {
        for (const number of ['9007199254740993', '12345678901234567890', '1e400']) {
          const answer = await post('/enqueue/add/', `{"args":[1,{"n":${number}}]}`, {
            'content-type': 'application/json',
          })
          expect([answer.status, answer.body['pointer']]).to.deep.equal([400, '/args/1/n'])
        }
      })
    })

    describe('POST /run and /run-one', () => {
      it('runs what is due and answers how each ended', async () => {
        const good = await enqueue('add', [1, 2])
        const bad = await enqueue('fail', [])
        const answer = await post('/run/')
        expect(answer.status).to.equal(200)
        expect(answer.body['processed']).to.equal(2)
        expect(answer.body['tasks']).to.have.deep.members([
          { id: good.id, status: 'SUCCESSFUL' },
          { id: bad.id, status: 'FAILED' },
        ])
      })

      it('stops at max_tasks, and starts nothing after max_seconds', async () => {
        for (const n of [1, 2, 3]) await enqueue('add', [n, n])
        expect((await post('/run/', { max_tasks: 2 })).body['processed']).to.equal(2)
        expect((await post('/run/', { max_seconds: 0 })).body['processed']).to.equal(0)
        expect((await post('/run', 'max_tasks=5', FORM)).body['processed']).to.equal(1)
      })

      it('runs only the queue that is named', async () => {
        await enqueue('add', [1, 1])
        const mine = await enqueue('add', [2, 2], { queue_name: 'mine' })
        expect((await post('/run/', { queue_name: 'mine' })).body['tasks']).to.deep.equal([
          { id: mine.id, status: 'SUCCESSFUL' },
        ])
      })

      it('runs one, or says that there is none', async () => {
        const { id } = await enqueue('add', [1, 2])
        expect((await post('/run-one/')).body).to.deep.equal({ processed: true, task: { id, status: 'SUCCESSFUL' } })
        expect((await post('/run-one/')).body).to.deep.equal({ processed: false, message: 'No tasks available' })
      })
    })

    describe('POST /execute/:id', () => {
      it('runs the record, and answers a sender that repeats itself', async () => {
        const { id } = await enqueue('add', [1, 2])
        const task = { id, status: 'SUCCESSFUL' }
        expect((await post(`/execute/${id}/`)).body).to.deep.equal({ executed: true, task })
        const again = await post(`/execute/${id}/`)
        expect([again.status, again.body]).to.deep.equal([200, { executed: false, task }])
      })

      it('runs a failed one again only with allow_retry', async () => {
        const { id } = await enqueue('fail', [])
        await post('/run/')
        const refused = await post(`/execute/${id}/`)
        expect([refused.status, refused.body['code']]).to.deep.equal([409, 'ERR_TASKS_STATE'])
        const again = await post(`/execute/${id}/`, { allow_retry: true })
        expect(again.body).to.deep.equal({ executed: true, task: { id, status: 'FAILED' } })
        expect(taskOf(await get(`/status/${id}/`))['attempts']).to.equal(2)
      })

      it('says that there is no such record', async () => {
        const answer = await post(`/execute/${NOBODY}/`)
        expect([answer.status, answer.body['code']]).to.deep.equal([404, 'ERR_TASKS_NOT_FOUND'])
      })
    })

    describe('GET /status/:id', () => {
      it('shows the whole record', async () => {
        const { id } = await enqueue('fail', [])
        await post('/run/')
        const task = taskOf(await get(`/status/${id}/`))
        expect(task).to.include({ id, name: 'fail', status: 'FAILED', attempts: 1, return_value: null })
        const [error] = task['errors'] as Record<string, unknown>[]
        expect(error).to.include({ name: 'RangeError', message: 'too far', attempt: 1 })
        expect(new Date(String(task['finished_at'])).toISOString()).to.equal(task['finished_at'])
      })

      it('answers 304 to whoever has it already, also with Cache-Control: no-cache', async () => {
        const { id } = await enqueue('add', [1, 2])
        const etag = (await get(`/status/${id}/`)).headers.get('etag') ?? ''
        const same = { 'if-none-match': etag, 'cache-control': 'no-cache' }
        expect((await get(`/status/${id}/`, same)).status).to.equal(304)
        await post('/run/')
        expect((await get(`/status/${id}/`, same)).status).to.equal(200)
      })

      it('answers 404 for a record that is not there, and 400 for what is no id', async () => {
        expect((await get(`/status/${NOBODY}/`)).status).to.equal(404)
        expect((await get('/status/1/')).status).to.equal(400)
      })
    })

    describe('POST /purge', () => {
      it('counts first and deletes then', async () => {
        await enqueue('add', [1, 2])
        await enqueue('fail', [])
        await post('/run/')
        expect((await post('/purge/', { days: 0, dry_run: true })).body).to.deep.equal({ deleted: 0, matched: 2 })
        expect((await post('/purge/', { days: 0, statuses: ['FAILED'] })).body).to.deep.equal({ deleted: 1 })
        expect((await post('/purge/', 'days=0&statuses=SUCCESSFUL,FAILED', FORM)).body).to.deep.equal({ deleted: 1 })
      })
    })

    it('answers health and its own description', async () => {
      const health = await get('/health/')
      expect([health.status, health.body['status'], health.body['workers']]).to.deep.equal([200, 'ok', 0])
      expect(health.body['warnings']).to.deep.equal([])
      const document = (await get('/openapi.json')).body
      expect(document['openapi']).to.equal('3.1.0')
      expect(document['servers']).to.deep.equal([{ url: '/deep/acme/tasks' }])
      expect(Object.keys(document['paths'] as object)).to.include.members([
        '/run/',
        '/enqueue/{name}/',
        '/status/{id}/',
      ])
    })

    it('refuses what it does not know with a code, a pointer and the nearest name', async () => {
      const unknown = await post('/run/', { max_task: 100 })
      expect([unknown.status, unknown.body['pointer']]).to.deep.equal([400, '/max_task'])
      expect(unknown.body['detail']).to.include('max_tasks')
      expect(unknown.headers.get('content-type')).to.include('application/problem+json')
      const bad: readonly (readonly [string, unknown, string])[] = [
        ['/run/', { max_tasks: 0 }, '/max_tasks'],
        ['/run/', { max_tasks: 1_001 }, '/max_tasks'],
        ['/run/', { max_tasks: '5' }, '/max_tasks'],
        ['/run/', { max_seconds: -1 }, '/max_seconds'],
        ['/run/', { queue_name: 'a:b' }, '/queue_name'],
        ['/run/', { backend_name: 'other' }, '/backend_name'],
        ['/purge/', { days: 1.5 }, '/days'],
        ['/purge/', { statuses: ['READY'] }, '/statuses/0'],
        ['/enqueue/add/', { args: {} }, '/args'],
        ['/enqueue/add/', { priority: 101 }, '/priority'],
        ['/enqueue/add/', { id: 'x' }, '/id'],
        ['/enqueue/add/', { ['__proto__x']: 1 }, '/__proto__x'],
      ]
      for (const [path, body, pointer] of bad) {
        const answer = await post(path, body)
        expect([path, answer.status, answer.body['pointer']]).to.deep.equal([path, 400, pointer])
      }
    })

    it('answers wrong methods, paths, types and bodies in the same form', async () => {
      const big = { args: ['x'.repeat(300_000)] }
      const deep = `{"args":${'['.repeat(100)}${']'.repeat(100)}}`
      const json = { 'content-type': 'application/json' }
      const rows: readonly (readonly [number, string, Promise<Answer>])[] = [
        [405, 'ERR_TASKS_METHOD', get('/run/')],
        [405, 'ERR_TASKS_METHOD', request(host, 'DELETE', `/status/${NOBODY}/`)],
        [404, 'ERR_TASKS_ROUTE', get('/nothing/here')],
        [404, 'ERR_TASKS_ROUTE', get('/status/%E0%A4%A/')],
        [415, 'ERR_TASKS_BODY_TYPE', post('/run/', 'max_tasks: 5', { 'content-type': 'text/yaml' })],
        [400, 'ERR_TASKS_BODY', post('/run/', '{"max_tasks":', json)],
        [400, 'ERR_TASKS_BODY', post('/run/', '[1]', json)],
        [400, 'ERR_TASKS_BODY', post('/enqueue/add/', deep, json)],
        [413, 'ERR_TASKS_BODY_SIZE', post('/enqueue/add/', big)],
      ]
      for (const [status, code, answer] of rows) {
        const { status: got, body, headers } = await answer
        expect([code, got, body['code']]).to.deep.equal([code, status, code])
        expect(headers.get('content-security-policy')).to.include("default-src 'none'")
        expect(headers.get('cache-control')).to.equal('no-store')
      }
      expect((await get('/run/')).headers.get('allow')).to.equal('POST')
    })
  })
}
