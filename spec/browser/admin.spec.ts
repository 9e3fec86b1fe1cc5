/**
 * The admin in a real browser: what only a browser can tell. Without Chromium the suite is pending, but in CI it fails.
 */
import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import type { Page } from 'playwright-core'
import { eventually } from '../support/eventually.ts'
import { axeOn, inBrowser } from './support/suite.ts'

inBrowser('Admin in a browser', (stage) => {
  const { open, count, problems } = stage
  const rows = (page: Page): Promise<number> => page.locator('tbody tr[data-href]').count()
  const says = (page: Page, text: string | RegExp): Promise<void> =>
    page.locator('#live-says', { hasText: text }).waitFor({ timeout: 15_000 })
  const more = async (): Promise<string> => {
    const id = randomUUID()
    await stage.host.backend.storage.enqueue([
      { id, name: 'sendEmail', queueName: 'mail', priority: 0, runAfter: null, args: '[]' },
    ])
    return id
  }

  it('filters by a menu, shows what is on, and takes it off again', async () => {
    const page = await open('/tasks')
    await page.locator('#facet-queue > summary').click()
    await page.getByRole('checkbox', { name: /^mail/ }).check()
    await page.getByRole('button', { name: 'Filter' }).click()
    await page.waitForURL(/queue=mail/)
    expect(new Set(await page.locator('tbody tr td:nth-child(4)').allTextContents())).to.deep.equal(new Set(['mail']))
    await page.getByRole('link', { name: 'Remove the filter queue mail' }).click()
    await page.waitForURL((url) => !url.search.includes('queue'))
  })

  it('pages, opens a record and comes back to the same page', async () => {
    const page = await open('/tasks?size=25')
    await page.getByRole('link', { name: 'Next' }).click()
    await page.waitForURL(/after=/)
    const url = page.url()
    await page.locator('tbody tr th a').nth(3).click()
    await page.locator('.crumb a').click()
    expect(page.url()).to.equal(url)
  })

  it('ticks a range with shift, and deletes what is ticked after asking', async () => {
    const page = await open('/tasks?status=SUCCESSFUL&size=25')
    const before = await count({ status: 'SUCCESSFUL' })
    const boxes = page.locator('tbody input[name="id"]')
    await boxes.nth(1).click()
    await boxes.nth(4).click({ modifiers: ['Shift'] })
    expect(await page.locator('#ticked').textContent()).to.equal('4')
    await page.getByRole('button', { name: 'Delete…' }).click()
    expect(await page.locator('h1').textContent()).to.equal('Delete 4 records?')
    await page.getByRole('button', { name: 'Delete (4 records)' }).click()
    expect(await page.locator('h1').textContent()).to.equal('4 records deleted')
    expect(await count({ status: 'SUCCESSFUL' })).to.equal(before - 4)
  })

  it('retries all that match, and runs one record here', async () => {
    const page = await open('/tasks?status=FAILED')
    const failed = await count({ status: 'FAILED' })
    await page.getByRole('radio', { name: /^all/ }).check()
    await page.getByRole('button', { name: 'Retry…' }).click()
    await page.getByRole('button', { name: /^Put back into the queue/ }).click()
    expect(await page.locator('h1').textContent()).to.equal(`${failed} records put back into the queue`)
    expect(await count({ status: 'FAILED' })).to.equal(0)
    await page.goto(`${stage.host.url}/tasks?status=READY&sort=oldest`)
    await page.locator('tbody tr th a').first().click()
    await page.getByRole('button', { name: 'Run now…' }).click()
    await page.getByRole('button', { name: 'Run now', exact: true }).click()
    await page.getByRole('status').filter({ hasText: 'The task ran here and succeeded.' }).waitFor()
  })

  it('works without its script', async () => {
    const page = await open('/tasks?status=FAILED', { javaScriptEnabled: false })
    const failed = await rows(page)
    expect(await page.locator('.copy:visible, #live:visible, #switches:visible').count()).to.equal(0)
    await page.locator('#facet-name > summary').click()
    await page.locator('label.option', { hasText: 'webhook.deliver' }).click()
    await page.getByRole('button', { name: 'Filter' }).click()
    const some = await rows(page)
    expect(some).to.be.greaterThan(0).and.at.most(failed)
    await page.locator('tbody input[name="id"]').first().check()
    await page.getByRole('button', { name: 'Delete…' }).click()
    await page.getByRole('button', { name: 'Delete', exact: true }).click()
    expect(await page.locator('h1').textContent()).to.equal('1 record deleted')
  })

  it('follows what happens, keeps what is open, and stands still while rows are ticked', async () => {
    const page = await open('/tasks?live=2&queue=mail')
    const first = await more()
    await page.locator(`#row-${first}`).waitFor()
    await says(page, /^updated \d+ s ago$/)
    await page.locator(`#row-${first} input[name="id"]`).check()
    await says(page, 'paused: rows ticked')
    const second = await more()
    const asked = page.waitForRequest(/\/tasks\?/, { timeout: 2_500 }).then(
      () => true,
      () => false,
    )
    expect(await asked).to.equal(false)
    await page.locator(`#row-${first} input[name="id"]`).uncheck()
    await page.locator(`#row-${second}`).waitFor()
  })

  it('says that the server is away, and goes on when it is back', async () => {
    const page = await open('?live=2')
    await page.locator('#throughput-table > summary').click()
    const { storage } = stage.host.backend
    const catalog = storage.catalog.bind(storage)
    storage.catalog = () => Promise.reject(new Error('away'))
    await says(page, /^not reachable, again in \d+ s$/)
    expect(await page.locator('h1').textContent()).to.equal('Overview')
    storage.catalog = catalog
    await says(page, /^updated \d+ s ago$/)
    expect(await page.locator('#throughput-table').getAttribute('open')).to.equal('')
  })

  it('is used by keys, but not from inside a field, and a switch turns them off', async () => {
    const page = await open('/tasks')
    await page.keyboard.press('j')
    await page.keyboard.press('j')
    await page.keyboard.press('x')
    expect(await page.locator('tbody tr').nth(1).locator('input').isChecked()).to.equal(true)
    await page.keyboard.press('k')
    const href = await page.locator('tbody tr').first().getAttribute('data-href')
    await page.keyboard.press('/')
    await page.keyboard.type('gwx?')
    expect(await page.locator('#text').inputValue()).to.equal('gwx?')
    await page.locator('#text').fill('')
    await page.locator('h1').click()
    await page.keyboard.press('j')
    await page.keyboard.press('k')
    await page.keyboard.press('Enter')
    await page.waitForURL((url) => url.pathname + url.search === href)
    await page.keyboard.press('g')
    await page.keyboard.press('w')
    await page.waitForURL(/\/workers$/)
    await page.keyboard.press('l')
    await page.waitForURL(/live=5/)
    await page.keyboard.press('?')
    await page.locator('#keys-on').uncheck()
    await page.keyboard.press('Escape')
    await page.locator('h1').click()
    await page.keyboard.press('g')
    await page.keyboard.press('t')
    await page.keyboard.press('?')
    expect(await page.locator('#help').getAttribute('open')).to.equal(null)
    expect(page.url()).to.match(/\/workers\?live=5$/)
  })

  it('copies an id, and writes times as relative, UTC or local', async () => {
    const page = await open('/tasks', {
      timezoneId: 'Asia/Tokyo',
      permissions: ['clipboard-read', 'clipboard-write'],
    })
    const id = await page.locator('tbody input[name="id"]').first().getAttribute('value')
    await page.locator('tbody .copy').first().click()
    await page.locator('#says', { hasText: 'Copied' }).waitFor({ state: 'attached' })
    expect(await page.evaluate('navigator.clipboard.readText()')).to.equal(id)
    const time = page.locator('tbody time').first()
    const iso = (await time.getAttribute('datetime')) ?? ''
    expect(await time.textContent()).to.match(/ ago$/)
    await page.locator('#zone').click()
    expect(await time.textContent()).to.equal(`${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`)
    await page.locator('#zone').click()
    const tokyo = new Date(Date.parse(iso) + 9 * 3_600_000).toISOString()
    expect(await time.textContent()).to.equal(`${tokyo.slice(0, 10)} ${tokyo.slice(11, 19)}`)
  })

  it('lets no form of another origin change anything', async () => {
    const page = await open('/tasks?status=FAILED')
    const id = (await page.locator('tbody input[name="id"]').first().getAttribute('value')) ?? ''
    // The same server by another name is another origin.
    const foreign = stage.host.url.replace('127.0.0.1', 'localhost')
    await page.route(`${foreign}/evil`, (route) =>
      route.fulfill({
        contentType: 'text/html',
        body: `<form method="post" action="${stage.host.url}/act/delete"><input name="scope" value="ticked"><input name="id" value="${id}"><button>go</button></form>`,
      }),
    )
    await page.goto(`${foreign}/evil`)
    await page.getByRole('button', { name: 'go' }).click()
    await page.getByRole('heading', { name: 'Request from another origin' }).waitFor()
    expect(problems.splice(0).every((problem) => problem.includes(foreign) || problem.includes('403'))).to.equal(true)
    expect(await count({ status: 'FAILED' })).to.be.greaterThan(0)
    expect((await stage.host.backend.records.find(id)).status).to.equal('FAILED')
  })

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`has nothing that axe would complain of, nor a page that scrolls sideways, ${colorScheme}`, async () => {
      const failed = await stage.host.backend.records.filter({ status: 'FAILED', name: 'webhook.deliver' }).first()
      const running = await stage.host.backend.records.filter({ status: 'RUNNING' }).first()
      const ready = await stage.host.backend.records.filter({ status: 'READY' }).first()
      const done = await stage.host.backend.records.filter({ status: 'SUCCESSFUL' }).first()
      // `bypassCSP` is for axe itself, which is put into the page by the spec.
      const page = await open('', { colorScheme, bypassCSP: true })
      const paths = [
        '',
        '/tasks',
        '/tasks?status=FAILED&text=hooks&enqueued_from=24h&nonsense=1',
        '/tasks?queue=none',
        `/tasks/${failed?.id ?? ''}`,
        `/tasks/${running?.id ?? ''}`,
        `/tasks/${ready?.id ?? ''}`,
        `/tasks/${done?.id ?? ''}`,
        `/tasks/${failed?.id ?? ''}/args`,
        '/workers',
        '/tasks?status=LOST',
        '/done/delete?done=4&skipped=2&scope=ticked',
        '/done/delete?done=4&skipped=2&scope=all&cutoff=9999999999999&status=FAILED',
        `/tasks/${randomUUID()}`,
        'confirm',
      ]
      const found: string[] = []
      for (const path of paths) {
        if (path === 'confirm') {
          await page.goto(`${stage.host.url}/tasks`)
          await page.getByRole('radio', { name: /^all/ }).check()
          await page.getByRole('button', { name: 'Delete…' }).click()
        } else {
          await page.goto(stage.host.url + path)
        }
        await page.evaluate(
          `document.querySelectorAll('main details:not(.menu)').forEach((each) => { each.open = true })`,
        )
        found.push(...(await axeOn(page)).map((line) => `${path}: ${line}`))
        await page.setViewportSize({ width: 320, height: 700 })
        const wide = await page.evaluate('document.documentElement.scrollWidth')
        if (wide !== 320) found.push(`${path}: ${String(wide)} px wide at 320`)
        await page.setViewportSize({ width: 1280, height: 800 })
      }
      expect(found).to.deep.equal([])
    })
  }

  it('swaps its content without a shift of the layout', async () => {
    const page = await open('?live=2')
    await page.evaluate(`
      window.shifts = []
      new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.shifts.push(entry.value) }).observe({ type: 'layout-shift', buffered: false })
    `)
    const clock = await page.locator('.foot time').getAttribute('datetime')
    await eventually(async () => (await page.locator('.foot time').getAttribute('datetime')) !== clock)
    expect(await page.evaluate('window.shifts.reduce((sum, shift) => sum + shift, 0)')).to.be.lessThan(0.01)
  })
})
