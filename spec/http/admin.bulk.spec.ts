/** Bulk actions of the admin: their limit of time, going on after it, and records whose payloads are large. */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import express from 'express'
import { MemoryTaskBackend, task, taskRegistry } from '../../lib/index.ts'
import { adminRouter } from '../../lib/http/admin-router.ts'
import { HEADERS } from '../../lib/http/headers.ts'
import type { AdminSettings } from '../../lib/http/admin-context.ts'
import { isDamaged } from '../../lib/storage/stored-record.ts'
import type { Brief, NewRecord } from '../../lib/storage/stored-record.ts'
import { replaceBackends } from '../../lib/task-backends.ts'
import { aClaim } from '../support/storage-builders.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { attributes, formIn, send, textOf, visit } from './support/admin-hosts.ts'
import type { AdminHost, Page } from './support/admin-hosts.ts'
import { listen } from './support/hosts.ts'

describe('Admin, bulk actions', () => {
  let host: AdminHost
  let clock: ManualClock
  let ran: number

  before(() => {
    task('count', () => {
      ran += 1
      clock.advance(3_000)
    })
  })
  after(() => {
    taskRegistry.delete('count')
  })
  beforeEach(async () => {
    ran = 0
    clock = new ManualClock()
    const backend = new MemoryTaskBackend({ queues: [] })
    const settings: AdminSettings = {
      ...{ backend, authorize: undefined, label: '', redact: undefined, bodyLimitBytes: 262_144, clock },
    }
    const app = express()
    app.use((_req, res, next) => {
      res.set(HEADERS)
      next()
    })
    app.use('/tasks/admin', adminRouter(settings))
    const { url, close } = await listen(app, '/tasks/admin')
    const closeAll = async (): Promise<void> => {
      await close()
      await backend.close()
    }
    host = { url, origin: new URL(url).origin, backend, close: closeAll }
  })
  afterEach(async () => {
    await host.close()
    replaceBackends([])
  })

  const some = (count: number, name = 'count', args = '[]'): NewRecord[] =>
    Array.from({ length: count }, () => ({
      ...{ id: randomUUID(), name, queueName: 'default', priority: 0, runAfter: null, args },
    }))
  const store = async (records: readonly NewRecord[]): Promise<void> => {
    for (let start = 0; start < records.length; start += 1_000)
      await host.backend.storage.enqueue(records.slice(start, start + 1_000))
  }
  /** Sends the form of a page, and follows to what it redirects to. */
  const submit = async ({ html }: Page): Promise<Page> => {
    const { action, fields } = formIn(html)
    const { status, location } = await send(host, new URL(action, host.origin).href, fields)
    expect(status).to.equal(303)
    return await visit(host, new URL(location, host.origin).href)
  }
  const left = (): Promise<number> => host.backend.records.filter().count()

  it('deletes for ten seconds, says how far it got, and goes on when asked to', async () => {
    await store(some(2_450))
    const { storage } = host.backend
    const remove = storage.delete.bind(storage)
    const batches: number[] = []
    storage.delete = async (ids) => {
      clock.advance(1_000)
      batches.push(ids.length)
      return await remove(ids)
    }
    let page = await submit(await send(host, '/confirm/delete', { scope: 'all' }))
    expect(Math.max(...batches)).to.equal(100)
    expect(textOf(page.html)).to.include('1,000 records deleted')
    expect(textOf(page.html)).to.include('1,000 of 2,450 deleted; the time of one request was over.')
    expect(textOf(page.html)).to.include('Continue (1,450 left)')
    expect(await left()).to.equal(1_450)
    // What comes between two requests of one action is not swept.
    clock.advance(60_000)
    page = await submit(page)
    expect(textOf(page.html)).to.include('2,000 of 2,450 deleted')
    page = await submit(page)
    expect(textOf(page.html)).to.include('2,450 records deleted').and.to.include('Nothing is left to do.')
    expect(formIn(page.html).fields).to.deep.equal({})
    expect(await left()).to.equal(0)
  })

  it('does not offer to retry once more what failed again meanwhile', async () => {
    const records = some(3)
    await store(records)
    const { storage } = host.backend
    const ids = records.map(({ id }) => id)
    await storage.cancel(ids, 'cancel.1', '{"name":"Error"}')
    const retry = storage.retry.bind(storage)
    storage.retry = async (...args) => {
      const words = await retry(...args)
      await storage.cancel(ids, `cancel.${args[1]}`, '{"name":"Error"}')
      return words
    }
    const page = await submit(await send(host, '/confirm/retry', { scope: 'all' }))
    expect(textOf(page.html)).to.include('3 records put back').and.to.include('Nothing is left to do.')
    expect(formIn(page.html).fields).to.deep.equal({})
  })

  it('cancels what waits and what runs, tells whoever runs it, and leaves the rest alone', async () => {
    const records = some(3)
    await store(records)
    const [running = '', waiting = '', done = ''] = records.map(({ id }) => id)
    const { backend } = host
    const delivery = await backend.storage.runById(aClaim('holder'), running, false)
    if (typeof delivery === 'string') throw new Error(`expected it to begin, got: ${delivery}`)
    await backend.runById(done)
    const told: unknown[] = []
    backend.storage.watchCancels({ cancelled: (attempt) => told.push(attempt), missed: () => undefined })
    const finished: string[] = []
    backend.on('taskFinished', ({ id }) => finished.push(id))
    const confirm = await send(host, '/confirm/cancel', { scope: 'all' })
    expect(textOf(confirm.html)).to.include('Cancel 2 records?').and.to.include('1 SUCCESSFUL: they are done')
    const page = await submit(confirm)
    expect(textOf(page.html)).to.include('2 records cancelled').and.to.include('Nothing is left to do.')
    expect(told).to.deep.equal([{ id: running, token: delivery.lease.token }])
    expect(finished).to.have.members([running, waiting])
    for (const id of [running, waiting]) {
      const result = await backend.getResult(id)
      expect([result.status, result.errors.at(-1)?.name]).to.deep.equal(['FAILED', 'TaskCancelledError'])
    }
    expect((await backend.getResult(done)).status).to.equal('SUCCESSFUL')
    // One by its own page, where it says so; a second time there is nothing to do.
    const [next] = some(1)
    await store(next ? [next] : [])
    const id = next?.id ?? ''
    const own = await send(host, '/confirm/cancel', { scope: 'ticked', id, single: '1' })
    expect(textOf((await submit(own)).html)).to.include('The task was cancelled.')
    expect(textOf((await submit(own)).html)).to.include('the record had gone into another state meanwhile')
  })

  it('counts over all its requests what it skipped', async () => {
    await store(some(1_500))
    const { storage } = host.backend
    const remove = storage.delete.bind(storage)
    storage.delete = async (ids) => {
      clock.advance(1_000)
      // Somebody else is faster with one of each batch.
      await remove(ids.slice(0, 1))
      return await remove(ids)
    }
    let page = await submit(await send(host, '/confirm/delete', { scope: 'all' }))
    expect(textOf(page.html)).to.include('10 records were skipped')
    page = await submit(page)
    expect(textOf(page.html)).to.include('1,485 records deleted').and.to.include('15 records were skipped')
  })

  it('runs for ten seconds, and leaves the rest to the workers or to another request', async () => {
    await store(some(7))
    let page = await submit(await send(host, '/confirm/run', { scope: 'all' }))
    expect(ran).to.equal(4)
    expect(textOf(page.html)).to.include('4 records run').and.to.include('3 records are left to the workers.')
    page = await submit(page)
    expect(ran).to.equal(7)
    expect(textOf(page.html)).to.include('7 records run').and.to.include('Nothing is left to do.')
  })

  it('says of ticked rows how many were not reached', async () => {
    const records = some(6)
    await store(records)
    const page = await submit(await send(host, '/confirm/run', { scope: 'ticked', id: records.map(({ id }) => id) }))
    expect(textOf(page.html)).to.include('4 records run').and.to.include('2 records are left to the workers.')
    expect(page.html).not.to.include('Run more')
  })

  it('lists, previews and deletes large records without holding their payloads', async () => {
    const { storage } = host.backend
    const find = storage.find.bind(storage)
    let largest = 0
    storage.find = async (ids: readonly string[], brief?: Brief) => {
      const found = await find(ids, brief)
      const bytes = found.reduce((sum, each) => sum + (each && !isDamaged(each) ? Buffer.byteLength(each.args) : 0), 0)
      largest = Math.max(largest, bytes)
      return found
    }
    const records = some(50, 'count', `["start","${'x'.repeat(1024 * 1024)}"]`)
    for (const record of records) await store([record])
    const list = await visit(host, '/tasks?size=50')
    expect(attributes(list.html, 'data-href')).to.have.lengthOf(50)
    expect(textOf(list.html)).to.include('["start","xxxxxxxx')
    const confirm = await send(host, '/confirm/delete', { scope: 'all' })
    expect(textOf(confirm.html)).to.include('Delete 50 records?').and.to.include('["start","xxxxxxxx')
    expect(textOf((await submit(confirm)).html)).to.include('50 records deleted')
    expect(largest).to.be.lessThan(100_000)
  })
})
