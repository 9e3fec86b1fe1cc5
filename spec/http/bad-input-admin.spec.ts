import { expect } from 'chai'
import { ADMIN_ROUTES } from '../../lib/http/admin-router.ts'
import type { AdminRoute } from '../../lib/http/admin-router.ts'
import {
  HOSTILE_TEXTS,
  isName,
  KEYS,
  NAMES,
  ODD_NAMES,
  WRONG_ADMIN_TIMES,
  WRONG_NUMBER_TEXTS,
} from './support/bad-input.ts'
import { changesNothing, expectPage, MOUNT, startBadInputHost, STORES } from './support/bad-input-host.ts'
import type { BadInputHost } from './support/bad-input-host.ts'
import { defineTasks, forgetTasks } from './support/hosts.ts'
import type { RawAnswer } from './support/raw-client.ts'

const ADMIN = `${MOUNT}/admin`
const NOBODY = '01890000-0000-7000-8000-000000000000'
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' }
const TIMES = ['enqueued_from', 'enqueued_to', 'finished_from', 'finished_to']

/** Every text of the corpus that fits into a URL. */
const TEXTS = [
  ...new Set([...NAMES, ...ODD_NAMES, ...WRONG_NUMBER_TEXTS, ...WRONG_ADMIN_TIMES, ...HOSTILE_TEXTS]),
].filter((text) => text.length < 1_000)

/** What a filter must refuse; a field that is not here takes any text, or passes over what it does not know. */
const REFUSED: Readonly<Record<string, (text: string) => boolean>> = {
  backend: (text) => text !== 'default',
  status: (text) => text !== 'READY',
  queue: (text) => !isName(text),
  name: (text) => !isName(text),
  priority: (text) => !/^-?\d{1,3}$/.test(text) || Math.abs(Number(text)) > 100,
  size: (text) => !['25', '50', '100', '200'].includes(text),
  sort: (text) => !['newest', 'oldest'].includes(text),
  live: (text) => !['2', '5', '30'].includes(text),
  ...Object.fromEntries(TIMES.map((field) => [field, () => true] as const)),
}
/** Read by the list alone: a place in its order. */
const PLACES = ['after', 'before']
/** What looks like a place is one: records may have gone from it. */
const CURSOR = /^[0-9a-z]{1,11}\.[0-9a-fA-F-]{1,64}$/
const FILTERS = [...Object.keys(REFUSED), ...PLACES, 'text']

const query = (pairs: readonly (readonly [string, string])[]): string =>
  new URLSearchParams(pairs.map(([name, value]): [string, string] => [name, value])).toString()

describe('Bad input, admin', () => {
  let host: BadInputHost

  before(async () => {
    defineTasks()
    host = await startBadInputHost(await STORES[0].open())
  })
  after(async () => {
    await host.close()
    forgetTasks()
  })

  /** A request of a page by its route; a form carries a record that is not there. */
  const visit = async (route: AdminRoute, search: string, body = `scope=ticked&id=${NOBODY}`): Promise<RawAnswer> => {
    const path = `${ADMIN}${route.path.replace(':id', host.ids['successful'] ?? '')}?${search}`
    const answer =
      route.method === 'get'
        ? await host.client.send('GET', path)
        : await host.client.send('POST', path, { headers: FORM_TYPE, body })
    expectPage(answer, `${route.method} ${path.slice(0, 200)} with ${body.slice(0, 100)}`)
    return answer
  }
  const [list] = ADMIN_ROUTES.filter(({ path }) => path === '/tasks') as [AdminRoute]

  for (const field of FILTERS) {
    it(`takes or refuses any text as ${field}, on the list and in turn on every other page`, async () => {
      await changesNothing(host, async () => {
        for (const [index, text] of TEXTS.entries()) {
          const search = query([[field, text]])
          const { status } = await visit(list, search)
          const refused = text !== '' && (REFUSED[field]?.(text) ?? (PLACES.includes(field) && !CURSOR.test(text)))
          expect([field, text, status]).to.deep.equal([field, text, refused ? 400 : 200])
          const other = ADMIN_ROUTES[(index + FILTERS.indexOf(field)) % ADMIN_ROUTES.length] ?? list
          const answer = await visit(other, search)
          if (refused && !PLACES.includes(field))
            expect([other.path, search, answer.status]).to.deep.equal([other.path, search, 400])
        }
      })
    })
  }

  it('takes any text where a page reads a field of its own', async () => {
    await changesNothing(host, async () => {
      for (const route of ADMIN_ROUTES) {
        for (const [index, text] of TEXTS.entries()) {
          const field = route.query[index % Math.max(route.query.length, 1)]
          if (field === undefined) continue
          const answer = await visit(route, query([[field, text]]))
          const expected = route.method === 'get' ? 200 : route.path.startsWith('/act') ? 303 : 200
          expect([route.path, field, text, answer.status]).to.deep.equal([route.path, field, text, expected])
        }
      }
    })
  })

  it('obeys no key of a query or a form that is not its own, on any page', async () => {
    await changesNothing(host, async () => {
      for (const route of ADMIN_ROUTES) {
        for (const key of KEYS) {
          const pair = query([[key, '(() => { throw 1 })()']])
          await visit(route, pair)
          if (route.method === 'post') await visit(route, '', `scope=ticked&id=${NOBODY}&${pair}`)
        }
        for (const search of ['a=%ff', 'a=%', '%', '&&&=&', 'text=a&text=b', 'status[]=READY', 'status[a]=READY'])
          await visit(route, search)
      }
    })
  })

  it('takes no id, scope, count or moment of a form that is none', async () => {
    await changesNothing(host, async () => {
      for (const route of ADMIN_ROUTES.filter(({ method }) => method === 'post')) {
        for (const [index, text] of [...TEXTS, 'x'.repeat(100_000)].entries()) {
          const ids = await visit(
            route,
            '',
            query([
              ['scope', 'ticked'],
              ['id', text],
            ]),
          )
          expect([route.path, text, ids.status]).to.deep.equal([route.path, text, 400])
          // Whatever is no moment is none, and an action on all that match needs one.
          const cutoff = query([
            ['scope', 'all'],
            ['cutoff', /^\d+$/.test(text) ? 'x' : text],
          ])
          const all = await visit(route, '', cutoff)
          expect([route.path, text, all.status]).to.deep.equal([
            route.path,
            text,
            route.path.startsWith('/act') ? 400 : 200,
          ])
          const field = ['scope', 'single', 'done'][index % 3] ?? ''
          await visit(
            route,
            '',
            query([
              ['id', NOBODY],
              [field, text],
            ]),
          )
        }
        const many = query(Array.from({ length: 1_001 }, () => ['id', NOBODY] as const))
        expect((await visit(route, '', many)).status).to.equal(400)
      }
    })
  })

  it('refuses forms of another type, encoding or size', async () => {
    const form = 'application/x-www-form-urlencoded'
    const rows: readonly (readonly [body: string | Buffer, headers: Record<string, string>, status: number])[] = [
      ['{}', { 'content-type': 'application/json' }, 415],
      ['id=1', { 'content-type': 'text/plain' }, 415],
      ['id=1', { 'content-type': 'multipart/form-data; boundary=x' }, 415],
      ['id=1', {}, 415],
      ['id=1', { 'content-type': form, 'content-encoding': 'gzip' }, 415],
      ['id=1', { 'content-type': `${form}; charset=x-none` }, 415],
      [`id=${'x'.repeat(300_000)}`, { 'content-type': form }, 413],
      [Buffer.from('scope=ticked&id=\xff', 'latin1'), { 'content-type': form }, 400],
      ['&'.repeat(200_000), { 'content-type': form }, 400],
      ['id=&'.repeat(50_000), { 'content-type': form }, 400],
      ['', { 'content-type': form }, 400],
    ]
    await changesNothing(host, async () => {
      for (const route of ADMIN_ROUTES.filter(({ method }) => method === 'post')) {
        for (const [body, headers, status] of rows) {
          const answer = await host.client.send('POST', ADMIN + route.path, { headers, body })
          const where = `${route.path} ${JSON.stringify(headers)} ${body.length}`
          expectPage(answer, where)
          expect([where, answer.status]).to.deep.equal([where, status])
        }
      }
    })
  })

  it('answers every path below it, and no other method changes anything', async () => {
    const ids = [...NAMES, ...ODD_NAMES].map((text) => encodeURIComponent(text.replace('\ud800', '\ufffd')))
    const raw = ['..', '%2e%2e%2f', '%00', '%ed%a0%80', '%E0%A4%A', '%', '%zz', '*', '__proto__', '..%5c..%5cx']
    await changesNothing(host, async () => {
      for (const id of [...ids, ...raw].filter((text) => text !== '')) {
        for (const path of [
          `/tasks/${id}`,
          `/tasks/${id}/args`,
          `/assets/${id}`,
          `/${id}`,
          `/act/${id}`,
          `/done/${id}`,
        ]) {
          const answer = await host.client.send('GET', ADMIN + path)
          expectPage(answer, path)
          if (path !== '/tasks' && !(path === `/${id}` && id === 'tasks'))
            expect([path, answer.status]).to.satisfy(([, status]: [string, number]) => status === 400 || status === 404)
        }
      }
      for (const route of ADMIN_ROUTES) {
        const path = ADMIN + route.path.replace(':id', host.ids['ready'] ?? '')
        for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']) {
          if (method.toLowerCase() === route.method) continue
          const headers = { 'x-http-method-override': route.method }
          const { status } = await host.client.send(method, `${path}?_method=${route.method}`, { headers })
          expect([method, path, status]).to.deep.equal([method, path, 405])
        }
      }
    })
  })
})
