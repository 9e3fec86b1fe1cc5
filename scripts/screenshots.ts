/**
 * Takes the pictures of the admin for the README and for a look at every page: both colour schemes, desktop and phone.
 * Writes to docs/images/ (all of them to another folder when one is named): node --import tsx scripts/screenshots.ts [folder]
 */
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import express from 'express'
import { MemoryTaskBackend } from '../lib/index.ts'
import type { RecordFilter } from '../lib/index.ts'
import { StorageUnavailableError } from '../lib/errors.ts'
import { tasksRouter } from '../lib/http/tasks-router.ts'
import { replaceBackends } from '../lib/task-backends.ts'
import { findChromium, startChromium } from '../spec/browser/support/chromium.ts'
import { demoBackend } from '../spec/browser/support/demo-backend.ts'

const README_PICTURES = new Set(['overview-light-1280', 'tasks-dark-1280'])
const folder = process.argv[2] ?? fileURLToPath(new URL('../docs/images/', import.meta.url))
const everything = process.argv[2] !== undefined

const executable = findChromium()
if (executable === undefined) throw new Error('expected Chromium on PATH or in CHROMIUM, got: none')
mkdirSync(folder, { recursive: true })
const backend = await demoBackend()
const second = await demoBackend('archive')
if (everything) replaceBackends([backend, second].map((each) => [each.alias, each]))
const app = express()
app.use('/tasks', tasksRouter(backend, { label: everything ? 'staging' : '' }))
const empty = new MemoryTaskBackend()
app.use('/empty', tasksRouter(empty))
const server = createServer(app).listen(0, '127.0.0.1')
await new Promise((resolve) => server.once('listening', resolve))
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/tasks/admin`
const browser = await startChromium(executable)

const idOf = async (filter: RecordFilter): Promise<string> => (await backend.records.filter(filter).first())?.id ?? ''
const [retried] = await backend.records.filter({ name: 'webhook.deliver', status: 'FAILED', search: 'SKU-1' })
const pages: Readonly<Record<string, string>> = {
  overview: '',
  tasks: everything ? '/tasks' : '/tasks?status=RUNNING&status=SUCCESSFUL&status=FAILED&queue=default&queue=reports',
  filtered: '/tasks?status=FAILED&queue=default&enqueued_from=24h&text=hooks&nonsense=1',
  failed: `/tasks/${await idOf({ status: 'FAILED' })}`,
  retried: `/tasks/${retried?.id ?? ''}`,
  payload: `/tasks/${retried?.id ?? ''}/args`,
  delayed: `/tasks/${await idOf({ status: 'READY' })}`,
  running: `/tasks/${await idOf({ status: 'RUNNING' })}`,
  succeeded: `/tasks/${await idOf({ status: 'SUCCESSFUL' })}`,
  workers: '/workers',
  nothing: '/tasks?queue=mail&text=nowhere',
  gone: '/tasks/00000000-0000-7000-8000-000000000000',
  refused: '/tasks?status=LOST',
  result: '/done/delete?scope=all&cutoff=9999999999999&done=1000&skipped=3&status=FAILED',
}

for (const scheme of ['light', 'dark'] as const) {
  for (const width of everything ? [1280, 390] : [1280]) {
    const context = await browser.newContext({
      colorScheme: scheme,
      viewport: { width, height: 800 },
      deviceScaleFactor: everything ? 1 : 2,
    })
    const page = await context.newPage()
    for (const [name, path] of Object.entries(pages)) {
      const file = `${name}-${scheme}-${width}`
      if (!everything && !README_PICTURES.has(file)) continue
      await page.goto(`${base}${path}`)
      if (name === 'tasks') for (const row of [1, 2]) await page.locator('tbody input').nth(row).check()
      await page.screenshot({ path: join(folder, `${file}.png`), fullPage: everything })
    }
    if (everything) {
      await page.goto(`${base}/tasks?status=FAILED`)
      await page.locator('#facet-queue > summary').click()
      await page.screenshot({ path: join(folder, `menu-${scheme}-${width}.png`) })
      await page.keyboard.press('Escape')
      await page.locator('input[name="scope"][value="all"]').check()
      await page.locator('button', { hasText: 'Delete' }).click()
      await page.screenshot({ path: join(folder, `confirm-${scheme}-${width}.png`), fullPage: true })
    }
    if (everything) {
      const catalog = backend.storage.catalog.bind(backend.storage)
      backend.storage.catalog = () =>
        Promise.reject(new StorageUnavailableError('list its queues', 'no answer', 'start the server'))
      await page.goto(`${base}/tasks`)
      await page.screenshot({ path: join(folder, `away-${scheme}-${width}.png`) })
      backend.storage.catalog = catalog
      await page.goto(base.replace('/tasks/', '/empty/'))
      await page.screenshot({ path: join(folder, `empty-${scheme}-${width}.png`), fullPage: true })
    }
    await context.close()
  }
}
await browser.close()
server.close()
await backend.close()
await second.close()
await empty.close()
