import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import type { Browser, Page } from 'playwright-core'
import { MemoryTaskBackend } from '../../lib/index.ts'
import { findChromium, startChromium } from '../browser/support/chromium.ts'
import { aClaim } from '../support/storage-builders.ts'
import { send, startAdmin } from './support/admin-hosts.ts'
import type { AdminHost } from './support/admin-hosts.ts'
import { HOSTILE_TEXTS } from './support/bad-input.ts'

/** What a parser of HTML finds in a page. */
interface Parsed {
  /** Every element and every attribute of one, by name: `a`, `a@href`. */
  readonly names: readonly string[]
  /** What may be followed, loaded or sent to. */
  readonly targets: readonly string[]
  readonly text: string
}

const HEARTBEAT = [
  ...['workerId', 'host', 'pid', 'node', 'startedAt', 'state', 'concurrency', 'running', 'settled', 'lost', 'queues'],
  ...['tasks', 'memoryBytes', 'blockedMs', 'blockedTasks', 'longestBlockMs', 'longestBlockTasks', 'longestBlockAt'],
]

/** A record with the text in every field, FAILED or SUCCESSFUL, and a worker that says it everywhere. */
async function store({ backend }: AdminHost, text: string, outcome: 'FAILED' | 'SUCCESSFUL'): Promise<string> {
  const { storage } = backend
  const id = randomUUID()
  const args = JSON.stringify([text, { [text]: [text] }])
  const queueName = text.slice(0, 500)
  await storage.enqueue([{ id, name: queueName, queueName, priority: 0, runAfter: null, args }])
  const claim = { ...aClaim(), workerId: text.replace(/\s/g, '').slice(0, 500) }
  const delivery = await storage.runById(claim, id, false)
  if (typeof delivery === 'string') throw new Error(delivery)
  const error = {
    name: text,
    message: text,
    stack: `${text}\n    at ${text} (node:x)\n${text}`,
    attempt: 1,
    at: Date.now(),
  }
  const payload = JSON.stringify(outcome === 'FAILED' ? error : [text, { [text]: text }])
  await storage.settle([{ lease: delivery.lease, outcome, payload, delayMs: 0 }])
  await storage.heartbeat({
    consumer: text.slice(0, 500),
    fields: Object.fromEntries(HEARTBEAT.map((field) => [field, text.slice(0, 500)])),
  })
  return id
}

/** What no browser shows, and an editor or a terminal may obey: pages write it out. */
const UNSEEN = /[^\P{Cc}\t\n\r]|[\u202a-\u202e\u2066-\u2068]/u
/** Text that a page cannot show sign for sign. */
const CHANGED = /\p{Cc}|\p{Cs}|[\u202a-\u202e\u2066-\u2069]/u

interface Visited {
  readonly html: string
  readonly where: string
}

/** Every page that shows what is stored or asked for, with the text in all of it. */
async function pagesWith(text: string): Promise<{ pages: Visited[]; json: string; own: Visited }> {
  const host = await startAdmin(new MemoryTaskBackend({ queues: [] }), { label: text.slice(0, 40) })
  try {
    const failed = await store(host, text, 'FAILED')
    const successful = await store(host, text, 'SUCCESSFUL')
    const asked = encodeURIComponent(text.replace(/[\ud800-\udfff]/g, '').slice(0, 150))
    const paths = [
      ...['', '/tasks', '/workers', `/tasks?text=${asked}`, `/tasks?${asked}=1&status=FAILED`, `/tasks?queue=${asked}`],
      ...[`/tasks?backend=${asked}`, `/tasks?after=${asked}`, `/tasks?live=${asked}`, `/${asked}`, `/tasks/${asked}`],
      ...[failed, successful].flatMap((id) => [`/tasks/${id}`, `/tasks/${id}/args`, `/tasks/${id}?notice=${asked}`]),
      ...[`/tasks/${successful}/result`, `/done/delete?scope=all&cutoff=9999999999999&done=1&text=${asked}`],
    ]
    const pages: Visited[] = []
    for (const path of paths) {
      // Live mode asks for the very page again: its fragment is this document too.
      const answer = await fetch(host.url + path)
      expect(answer.headers.get('content-type'), path).to.equal('text/html; charset=utf-8')
      pages.push({ html: await answer.text(), where: path })
    }
    for (const [path, fields] of [
      ['/confirm/delete', { scope: 'ticked', id: [failed, successful] }],
      [`/confirm/retry?text=${asked}`, { scope: 'all' }],
      ['/confirm/delete', { scope: 'ticked', id: text.slice(0, 1_000) }],
    ] as const) {
      pages.push({ html: (await send(host, path, fields)).html, where: `POST ${path}` })
    }
    const [own] = pages.filter(({ where }) => where === `/tasks/${failed}`) as [Visited]
    const api = await fetch(`${host.origin}/tasks/status/${failed}/`)
    expect(api.headers.get('content-type')).to.equal('application/json; charset=utf-8')
    return { pages, json: await api.text(), own }
  } finally {
    await host.close()
  }
}

/** Runs in the browser, as text: there is no document here. */
const PARSE = `(sources) => sources.map((source) => {
  const document = new DOMParser().parseFromString(source, 'text/html')
  const names = new Set()
  const targets = new Set()
  for (const element of document.querySelectorAll('*')) {
    names.add(element.localName)
    for (const { name, value } of element.attributes) {
      names.add(element.localName + '@' + name)
      if (['href', 'src', 'action', 'formaction', 'xlink:href', 'data-href'].includes(name)) targets.add(value)
    }
  }
  if (document.createNodeIterator(document, NodeFilter.SHOW_COMMENT).nextNode()) names.add('a comment')
  return { names: [...names], targets: [...targets], text: document.body.textContent }
})`

describe('Hostile text', function () {
  this.timeout(120_000)
  let browser: Browser | undefined
  let page: Page
  let known: ReadonlySet<string>

  const parse = async (pages: readonly { readonly html: string }[]): Promise<readonly Parsed[]> =>
    await page.evaluate<readonly Parsed[]>(`(${PARSE})(${JSON.stringify(pages.map(({ html }) => html))})`)

  before(async function () {
    const path = findChromium()
    if (path === undefined) {
      if (process.env['CI']) throw new Error('expected a Chromium to parse pages with, got: none (set CHROMIUM)')
      return this.skip()
    }
    browser = await startChromium(path)
    page = await browser.newPage()
    const names = new Set<string>()
    for (const text of ['harmless', `harmless ${'words '.repeat(3_000)}`]) {
      for (const parsed of await parse((await pagesWith(text)).pages)) for (const name of parsed.names) names.add(name)
    }
    known = names
    expect(
      [...known].filter((name) => /@(on|style$|srcdoc$)|^(iframe|object|embed|base|style)$/.test(name)),
    ).to.deep.equal([])
  })
  after(async () => await browser?.close())

  for (const text of HOSTILE_TEXTS) {
    it(`is text, and no element or attribute, on every page: ${JSON.stringify(text.slice(0, 50))}`, async () => {
      const { pages, json, own } = await pagesWith(text)
      const parsed = await parse(pages)
      for (const [index, { html, where }] of pages.entries()) {
        const { names = [], targets = [] } = parsed[index] ?? {}
        expect([where, names.filter((name) => !known.has(name))]).to.deep.equal([where, []])
        expect([where, targets.filter((target) => !/^(\/(?![/\\])|#)/.test(target))]).to.deep.equal([where, []])
        expect([where, UNSEEN.exec(html)]).to.deep.equal([where, null])
      }
      expect((JSON.parse(json) as { task: { args: unknown } }).task.args).to.deep.equal([text, { [text]: [text] }])
      expect(({} as Record<string, unknown>)['polluted']).to.equal(undefined)
      if (text.length < 200 && !CHANGED.test(text)) expect(parsed[pages.indexOf(own)]?.text).to.include(text)
    })
  }
})
