/**
 * A suite in a real browser: a demo backend behind the admin, a page of its own for each case, and whatever a page did not
 * expect (a policy that was broken, an error, a request to anywhere else) fails the case. Pending without Chromium, but not in CI.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { expect } from 'chai'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { task, taskRegistry } from '../../../lib/index.ts'
import type { TaskBackend } from '../../../lib/index.ts'
import { replaceBackends } from '../../../lib/task-backends.ts'
import { startAdmin } from '../../http/support/admin-hosts.ts'
import type { AdminHost } from '../../http/support/admin-hosts.ts'
import { findChromium, startChromium } from './chromium.ts'
import { demoBackend } from './demo-backend.ts'

const NAMES = ['sendEmail', 'images.resize', 'reports.build', 'webhook.deliver']
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** What axe answers, as far as it is read here. */
interface Checked {
  readonly violations: readonly { id: string; nodes: readonly { html: string; failureSummary: string }[] }[]
}

export interface Stage {
  readonly host: AdminHost
  /** What went wrong so far; a case that expects it takes it out. */
  readonly problems: string[]
  open(path: string, options?: BrowserContextOptions): Promise<Page>
  count(filter: Parameters<TaskBackend['records']['filter']>[0]): Promise<number>
}

/** What axe finds on the page as it stands, one line each. */
export async function axeOn(page: Page): Promise<string[]> {
  await page.evaluate(AXE)
  const { violations } = await page.evaluate<Checked>('axe.run()')
  return violations.map(({ id, nodes }) => `${id} ${nodes[0]?.html ?? ''} ${nodes[0]?.failureSummary ?? ''}`)
}

/** @param make the backend of each case; a fifth of an hour's demo when left out. */
export function inBrowser(
  title: string,
  define: (stage: Stage) => void,
  make: () => Promise<TaskBackend> = () => demoBackend('default', { scale: 0.2 }),
): void {
  const executable = findChromium()
  if (executable === undefined && !process.env['CI']) {
    describe(title, () => {
      it('needs Chromium on PATH, or its path in CHROMIUM')
    })
    return
  }
  describe(title, function () {
    // Some cases look at a dozen pages with axe; a loaded machine takes a minute for that.
    this.timeout(180_000)
    let browser: Browser
    let context: BrowserContext | undefined
    let host: AdminHost
    const problems: string[] = []

    before(async () => {
      if (executable === undefined) throw new Error('expected Chromium on PATH or in CHROMIUM, got: none')
      for (const name of NAMES) task(name, () => null)
      browser = await startChromium(executable)
    })
    after(async () => {
      await browser.close()
      for (const name of NAMES) taskRegistry.delete(name)
    })
    beforeEach(async () => {
      problems.length = 0
      host = await startAdmin(await make())
    })
    afterEach(async () => {
      await context?.close()
      context = undefined
      await host.close()
      replaceBackends([])
      expect(problems).to.deep.equal([])
    })

    define({
      get host() {
        return host
      },
      problems,
      async open(path, options = {}) {
        context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
        const page = await context.newPage()
        page.on('console', (message) => {
          if (message.type() === 'error' && !/status of (400|404|500|503)/.test(message.text()))
            problems.push(message.text())
        })
        page.on('pageerror', (error) => problems.push(String(error)))
        page.on('request', (request) => {
          if (!request.url().startsWith(`${host.origin}/`)) problems.push(`a request to ${request.url()}`)
        })
        await page.goto(host.url + path)
        return page
      },
      count: async (filter) => await host.backend.records.filter(filter).count(),
    })
  })
}
