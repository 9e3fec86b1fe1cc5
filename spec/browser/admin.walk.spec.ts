/** A walk through the admin as people take it: with and without a script, on a phone, while things move and while they do not. */
import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import type { Page } from 'playwright-core'
import { MemoryTaskBackend, RedisTaskBackend } from '../../lib/index.ts'
import { eventually } from '../support/eventually.ts'
import { startRedisServer } from '../support/redis-server.ts'
import type { RedisServer } from '../support/redis-server.ts'
import { axeOn, inBrowser } from './support/suite.ts'

const PHONE = { viewport: { width: 390, height: 800 } }

inBrowser('A walk through the admin', (stage) => {
  const { open, count, problems } = stage
  const heading = async (page: Page): Promise<string> => (await page.locator('h1').textContent()) ?? ''
  const says = (page: Page, text: string | RegExp): Promise<void> =>
    page.locator('#live-says', { hasText: text }).waitFor({ timeout: 30_000 })
  /** The status of each answer to a request for a page from here on. */
  const answersTo = (page: Page): readonly number[] => {
    const answered: number[] = []
    page.on('response', (response) => {
      if (response.url().includes('/admin/tasks')) answered.push(response.status())
    })
    return answered
  }
  /** How often its script asks for anything from here on; its time can be moved from here on, too. */
  const countAsked = async (page: Page): Promise<() => Promise<number>> => {
    await page.clock.install()
    await page.evaluate(`
      window.asked = 0
      window.fetch = ((fetch) => (...args) => { window.asked += 1; return fetch(...args) })(window.fetch)
    `)
    return () => page.evaluate<number>('window.asked')
  }

  for (const javaScriptEnabled of [true, false]) {
    it(`deletes all that match, retries one, runs one, ${javaScriptEnabled ? 'with' : 'without'} its script`, async () => {
      const page = await open('/tasks', { javaScriptEnabled })
      await page.locator('#facet-queue > summary').click()
      await page.locator('label.option', { hasText: 'media' }).click()
      await page.getByRole('button', { name: 'Filter' }).click()
      await page.locator('.tab-successful').click()
      const [all, before] = [await count({}), await count({ status: 'SUCCESSFUL', queueName: 'media' })]
      expect(await heading(page)).to.include(`${before} records`)
      await page.getByText(`all ${before} that match`).click()
      await page.getByRole('button', { name: 'Delete…' }).click()
      expect(await heading(page)).to.equal(`Delete ${before} records?`)
      expect(await page.locator('main').textContent()).to.include('status SUCCESSFUL, queue media')
      await page.getByRole('button', { name: `Delete (${before} records)` }).click()
      expect(await heading(page)).to.equal(`${before} records deleted`)
      expect(await count({})).to.equal(all - before)
      await page.getByRole('link', { name: 'Back to the list' }).click()
      await page.getByRole('heading', { name: 'Nothing matches' }).waitFor()
      await page.getByRole('link', { name: 'Clear all' }).click()
      await page.locator('.tab-failed').click()
      await page.locator('tbody tr th a').first().click()
      await page.getByRole('button', { name: 'Retry…' }).click()
      await page.getByRole('button', { name: /^Put back into the queue/ }).click()
      await page.getByText('The record waits again').waitFor()
      await page.getByRole('button', { name: 'Run now…' }).click()
      await page.getByRole('button', { name: 'Run now', exact: true }).click()
      await page.getByText('The task ran here and succeeded.').waitFor()
    })
  }

  it('ticks every row of the page by one box, which shows when it is some of them', async () => {
    const page = await open('/tasks?size=25&status=SUCCESSFUL')
    const every = page.locator('#tick-all')
    await every.check()
    expect(await page.locator('tbody input:checked').count()).to.equal(25)
    expect(await page.locator('#ticked').textContent()).to.equal('25')
    await page.locator('tbody input').nth(3).uncheck()
    expect(await page.evaluate(`document.querySelector('#tick-all').indeterminate`)).to.equal(true)
    await every.check()
    await every.uncheck()
    expect(await page.locator('tbody input:checked').count()).to.equal(0)
    const remove = page.getByRole('button', { name: 'Delete…' })
    expect(await remove.isDisabled()).to.equal(true)
    await page.locator('input[name="scope"][value="all"]').check()
    expect(await remove.isEnabled()).to.equal(true)
    await every.check()
    expect(await page.locator('input[name="scope"]:checked').getAttribute('value')).to.equal('ticked')
    expect(await remove.isEnabled()).to.equal(true)
    await page.locator('input[name="scope"][value="all"]').check()
    expect(await page.locator('tbody input:checked').count()).to.equal(0)
  })

  it('hands out ids and commands by copy buttons, and the whole id by a selection', async () => {
    const page = await open('/tasks?status=FAILED', { permissions: ['clipboard-read', 'clipboard-write'] })
    const id = (await page.locator('tbody input[name="id"]').first().getAttribute('value')) ?? ''
    await page.locator('.whole-id').first().click()
    expect(String(await page.evaluate('getSelection().toString()')).trim()).to.equal(id)
    await page.evaluate('getSelection().removeAllRanges()')
    await page.locator('tbody tr th a').first().click()
    await page.locator('#curl > summary').click()
    await page.locator('#curl .copy-text').last().click()
    await page.locator('#says', { hasText: 'Copied' }).waitFor({ state: 'attached' })
    expect(await page.evaluate('navigator.clipboard.readText()')).to.match(/^curl -X POST .*'$/)
  })

  it('asks one thing at a time, also of a slow server, and nothing while it is hidden', async () => {
    const page = await open('/tasks?live=2&status=FAILED')
    const asked = await countAsked(page)
    // Given a server that answers when it is told to
    const held: (() => void)[] = []
    await page.route('**/admin/tasks**', async (route) => {
      await new Promise<void>((resolve) => held.push(resolve))
      await route.continue()
    })
    await eventually(() => held.length === 1, { timeoutMs: 30_000 })
    await page.clock.runFor(9_000)
    expect(await asked()).to.equal(1)
    await page.unroute('**/admin/tasks**')
    held.forEach((answer) => answer())
    await eventually(async () => (await asked()) === 2, { timeoutMs: 30_000 })
    // When nobody sees it, then it asks for nothing however long that is, and at once when it is seen again
    await page.evaluate(`Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })`)
    await says(page, 'paused: hidden')
    const before = await asked()
    await page.clock.runFor(60_000)
    expect(await asked()).to.equal(before)
    await page.evaluate('delete document.hidden')
    await eventually(async () => (await asked()) > before, { timeoutMs: 30_000 })
  })

  it('is sent again only when something moved, and keeps what was opened or closed', async () => {
    const failed = await stage.host.backend.records.filter({ status: 'FAILED' }).first()
    const page = await open(`/tasks/${failed?.id ?? ''}?live=2`)
    const answered = answersTo(page)
    await page.locator('#raw > summary').click()
    await page.locator('#stack-0 > summary').click()
    await eventually(() => answered.includes(304), { timeoutMs: 30_000 })
    await stage.host.backend.storage.retry([failed?.id ?? ''], randomUUID())
    await page.locator('h1 .status-ready').waitFor({ timeout: 30_000 })
    expect(answered).to.include(200)
    expect(await page.locator('#raw').getAttribute('open')).to.equal('')
    expect(await page.locator('#stack-0').getAttribute('open')).to.equal(null)
  })

  it('stops with a link when who looks may no longer do so', async () => {
    const page = await open('/tasks?live=2')
    const asked = await countAsked(page)
    await page.route('**/admin/tasks**', (route) => route.fulfill({ status: 403, body: 'no' }))
    await page.getByRole('link', { name: 'open the page again' }).waitFor({ timeout: 30_000 })
    await page.clock.runFor(60_000)
    expect(await asked()).to.equal(1)
    problems.splice(0).forEach((problem) => expect(problem).to.include('403'))
  })

  it('moves nothing on the page while it swaps, on a desk and on a phone', async () => {
    for (const options of [{}, PHONE]) {
      const page = await open('/tasks?live=2&sort=oldest', options)
      await page.evaluate(`
        window.shifts = []
        new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.shifts.push(entry.value) }).observe({ type: 'layout-shift', buffered: false })
      `)
      const answered = answersTo(page)
      // Something far down, or on another page of the list, makes each answer a new one.
      const enqueue = (): Promise<unknown> =>
        stage.host.backend.storage.enqueue([
          { id: randomUUID(), name: 'sendEmail', queueName: 'mail', priority: 0, runAfter: null, args: '[]' },
        ])
      await enqueue()
      await eventually(() => answered.includes(200), { timeoutMs: 30_000 })
      await says(page, /^updated/)
      expect(await page.evaluate('window.shifts.reduce((sum, shift) => sum + shift, 0)')).to.be.lessThan(0.02)
      await page.context().close()
    }
  })

  it('shows every part of a row on a phone without scrolling sideways', async () => {
    const page = await open('/tasks?size=25', PHONE)
    const parts = await page.evaluate<boolean[]>(`
      [...document.querySelectorAll('tbody tr:first-child > *')]
        .map((cell) => cell.getBoundingClientRect())
        .filter(({ width }) => width > 0)
        .map(({ left, right }) => left >= 0 && right <= 390)
    `)
    expect(parts).to.have.length.greaterThan(6)
    expect(parts).not.to.include(false)
    await page.goto(`${stage.host.url}/workers`)
    await page.getByText('Slots in use').first().waitFor({ state: 'attached' })
    expect(await page.evaluate(`document.querySelector('table').getBoundingClientRect().right`)).to.be.at.most(390)
  })

  it('tells of each minute of the chart under the mouse, and in a table', async () => {
    const page = await open('')
    const hits = page.locator('#throughput-heading ~ .plot .hit title')
    expect(await hits.count()).to.equal(60)
    expect(await hits.first().textContent()).to.match(/^\d\d:\d\d UTC: \d+ succeeded, \d+ failed$/)
    expect(await hits.last().textContent()).to.include('still running')
    await page.locator('#throughput-table > summary').click()
    expect(await page.locator('#throughput-table tbody tr').count()).to.be.greaterThan(10)
  })
})

inBrowser(
  'The admin of an empty backend',
  ({ open }) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      it(`says how to begin, ${colorScheme}`, async () => {
        const page = await open('', { colorScheme, bypassCSP: true, viewport: { width: 320, height: 700 } })
        for (const [path, text] of [
          ['', 'No records yet'],
          ['/tasks', 'No records yet'],
          ['/tasks?status=FAILED', 'Nothing failed'],
          ['/workers', 'npx run-redis-tasks --continuous'],
        ] as const) {
          await page.goto(page.url().replace(/\/admin.*$/, `/admin${path}`))
          expect(await page.locator('main').textContent()).to.include(text)
          expect(await axeOn(page)).to.deep.equal([])
          expect(await page.evaluate('document.documentElement.scrollWidth'), path).to.equal(320)
        }
      })
    }
  },
  () => Promise.resolve(new MemoryTaskBackend()),
)

describe('The admin of a server that stops', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedisServer()
  })
  after(async () => {
    await server.stop()
  })
  inBrowser(
    'in a browser',
    ({ open }) => {
      it('says that it is away, asks again by itself, and shows the page when it is back', async () => {
        const page = await open('/tasks')
        await page.getByRole('heading', { name: 'Tasks' }).waitFor()
        await server.kill('SIGKILL')
        await page.reload()
        await page.getByRole('heading', { name: 'The storage is not available' }).waitFor()
        await page.locator('#live-says', { hasText: /^not there yet, again in \d s$|^not reachable/ }).waitFor()
        expect(await page.locator('main').textContent()).not.to.include(String(server.port))
        await server.restart()
        await page.getByRole('heading', { name: 'No records yet' }).waitFor({ timeout: 60_000 })
        // It was nobody's wish to go on asking.
        await eventually(async () => (await page.locator('#live-choice').inputValue()) === '')
        expect(await page.title()).to.match(/^Tasks/)
      })
    },
    () => Promise.resolve(new RedisTaskBackend({ redisUrl: server.url, queues: [] })),
  )
})
