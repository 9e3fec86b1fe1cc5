import { expect } from 'chai'
import { taskRegistry } from '../../lib/index.ts'
import { API_ROUTES } from '../../lib/http/routes.ts'
import type { ApiRoute, Schema } from '../../lib/http/routes.ts'
import { replaceBackends } from '../../lib/task-backends.ts'
import {
  BODIES,
  HOSTILE_TEXTS,
  isName,
  KEYS,
  NAMES,
  ODD_NAMES,
  WRONG_NUMBERS,
  WRONG_NUMBER_TEXTS,
  WRONG_TIMES,
  WRONG_TYPES,
} from './support/bad-input.ts'
import {
  changesNothing,
  expectProblem,
  MOUNT,
  startBadInputHost,
  STORES,
  strangeKeys,
} from './support/bad-input-host.ts'
import type { BadInputHost, Problem, Store } from './support/bad-input-host.ts'
import { defineTasks, forgetTasks } from './support/hosts.ts'
import type { RawAnswer } from './support/raw-client.ts'

const ROUTES: readonly ApiRoute[] = API_ROUTES
const CHANGING = ROUTES.filter(({ changes }) => changes)
const NOBODY = '01890000-0000-7000-8000-000000000000'
const JSON_TYPE = { 'content-type': 'application/json' }
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' }

type Kind = 'name' | 'id' | 'number' | 'flag' | 'statuses' | 'args' | 'time'

function kindOf(schema: Schema): Kind {
  if (schema['type'] === 'integer' || schema['type'] === 'number') return 'number'
  if (schema['type'] === 'boolean') return 'flag'
  if (schema['type'] === 'array') return schema['items'] === undefined ? 'args' : 'statuses'
  if (schema['format'] === 'date-time') return 'time'
  return /0-9a-f/i.test(String(schema['pattern'])) && !isPattern(schema, 'constructor') ? 'id' : 'name'
}

const isPattern = (schema: Schema, text: string): boolean => new RegExp(String(schema['pattern'])).test(text)

/** Some of the wrong numbers are right for a field with wider bounds. */
function fits(schema: Schema, value: unknown): boolean {
  const { type, minimum, maximum } = schema as { type: string; minimum: number; maximum: number }
  if (typeof value !== 'number' || value < minimum || value > maximum) return false
  return type === 'number' || Number.isInteger(value)
}

/** JSON texts that a field must refuse. */
function wrongJson(schema: Schema): readonly string[] {
  const json = (values: readonly unknown[]): string[] => values.map((value) => JSON.stringify(value))
  switch (kindOf(schema)) {
    case 'name':
      return json([
        ...NAMES.filter((name) => !isName(name)),
        ...WRONG_TYPES.filter((value) => !(typeof value === 'string' && isName(value))),
      ])
    case 'id':
      return json([...NAMES, ...ODD_NAMES, ...WRONG_TYPES, `${NOBODY}0`, NOBODY.slice(1), `{${NOBODY}}`])
    case 'number':
      return WRONG_NUMBERS.filter((text) => !fits(schema, JSON.parse(text)))
    case 'flag':
      return json(WRONG_TYPES.filter((value) => value !== true))
    case 'statuses':
      return json([
        ...WRONG_TYPES,
        ...[['READY'], ['failed'], ['FAILED', 'FAILED'], ['FAILED', 1], 'FAILED', ['__proto__']],
        Array.from({ length: 10_000 }, () => 'FAILED'),
      ])
    case 'args':
      return json(WRONG_TYPES.filter((value) => !Array.isArray(value)))
    case 'time':
      return json(WRONG_TIMES)
  }
}

/** Texts of a form or a query that a field must refuse. */
function wrongText(schema: Schema): readonly string[] {
  switch (kindOf(schema)) {
    case 'name':
      return NAMES.filter((name) => !isName(name))
    case 'id':
      return [...NAMES, ...ODD_NAMES]
    case 'number':
      return WRONG_NUMBER_TEXTS.filter((text) => !(/^[-.0-9]+$/.test(text) && fits(schema, Number(text))))
    case 'flag':
      return ['', '1', 'yes', 'TRUE', 'on', 'true,true']
    case 'statuses':
      return ['', ',', 'READY', 'failed', 'FAILED,', 'FAILED,FAILED', '["FAILED"]']
    case 'args':
      return ['', '{', '{}', '1', 'null', '[1', '[9007199254740993]', '[1e400]', '[{"a":1,"a":2}]', "['a']"]
    case 'time':
      return WRONG_TIMES.filter((value) => typeof value === 'string')
  }
}

/** Of a form: the value as text under its field. */
const formOf = (pairs: readonly (readonly [string, string])[]): string =>
  new URLSearchParams(pairs.map(([name, value]): [string, string] => [name, value])).toString()

for (const { name: storeName, open } of STORES) {
  describe(`Bad input, API, ${storeName}`, function () {
    let host: BadInputHost
    let store: Store

    before(async () => {
      defineTasks()
      store = await open()
      host = await startBadInputHost(store)
    })
    after(async () => {
      await host.close()
      forgetTasks()
    })

    const pathOf = ({ path }: ApiRoute, param?: string): string =>
      `${MOUNT}${path.replace(/:(id|name)/, (_, name: string) => param ?? (name === 'id' ? NOBODY : 'add'))}/`
    const post = (route: ApiRoute, body: string | Buffer, headers: object = JSON_TYPE): Promise<RawAnswer> =>
      host.client.send('POST', pathOf(route), { headers: { ...headers }, body })
    const refuse = (answer: RawAnswer, where: string, pointer?: string): Problem => {
      const problem = expectProblem(answer, where)
      if (pointer !== undefined) {
        expect(problem.pointer, `${where}: ${answer.text}`).to.satisfy(
          (given: unknown) => given === pointer || (typeof given === 'string' && given.startsWith(`${pointer}/`)),
        )
      }
      return problem
    }

    for (const route of CHANGING) {
      for (const [field, schema] of Object.entries(route.fields)) {
        it(`refuses a wrong ${field} of ${route.path}, as JSON and as a form`, async () => {
          await changesNothing(host, async () => {
            for (const json of wrongJson(schema)) {
              const where = `${route.path} ${field}=${json.slice(0, 80)}`
              const { status } = refuse(await post(route, `{${JSON.stringify(field)}:${json}}`), where, `/${field}`)
              expect(status, where).to.equal(400)
            }
            for (const text of wrongText(schema)) {
              const where = `${route.path} ${field}=${JSON.stringify(text).slice(0, 80)} in a form`
              refuse(await post(route, formOf([[field, text]]), FORM_TYPE), where, `/${field}`)
            }
          })
        })
      }
    }

    it('refuses fields it does not know, whatever they are called, on every route', async () => {
      await changesNothing(host, async () => {
        for (const route of ROUTES) {
          for (const key of KEYS) {
            const where = `${route.path} with ${JSON.stringify(key)}`
            const pointer = `/${key.replace(/~/g, '~0').replace(/\//g, '~1')}`
            const form = formOf([[key, 'x']])
            if (route.changes) {
              refuse(await post(route, `{${JSON.stringify(key)}:{"x":1}}`), where, pointer)
              refuse(await post(route, form, FORM_TYPE), where, pointer)
            } else {
              refuse(await host.client.send('GET', `${pathOf(route)}?${form}`), where, pointer)
            }
          }
        }
      })
    })

    it('refuses a wrong field of a query, and one that is given twice', async () => {
      await changesNothing(host, async () => {
        for (const route of ROUTES.filter(({ changes }) => !changes)) {
          for (const [field, schema] of Object.entries(route.fields)) {
            for (const text of wrongText(schema)) {
              const query = formOf([[field, text]])
              const where = `${route.path}?${query.slice(0, 80)}`
              refuse(await host.client.send('GET', `${pathOf(route)}?${query}`), where, `/${field}`)
            }
            for (const query of [
              `${field}=a&${field}=b`,
              `${field}[]=a`,
              `${field}[a]=b`,
              `${field}=%ff`,
              `${field}=%`,
            ])
              refuse(await host.client.send('GET', `${pathOf(route)}?${query}`), `${route.path}?${query}`)
          }
        }
      })
    })

    it('refuses a name or an id in the path that is none', async () => {
      const encoded = [...NAMES, ...ODD_NAMES].map((text) => encodeURIComponent(text.replace('\ud800', '\ufffd')))
      const raw = ['..', '../../x', '%2e%2e%2f', '%2e%2e', '%00', '.', '%ed%a0%80', '%E0%A4%A', '%', '%zz', '%ff', '*']
      await changesNothing(host, async () => {
        for (const route of ROUTES.filter(({ params }) => Object.keys(params).length > 0)) {
          for (const param of [...encoded, ...raw]) {
            const where = `${route.path} of ${param.slice(0, 80)}`
            const headers = route.changes ? JSON_TYPE : {}
            const body = route.changes ? '{}' : undefined
            const answer = await host.client.send(route.method.toUpperCase(), pathOf(route, param), { headers, body })
            expect(refuse(answer, where).status, where).to.be.oneOf([400, 404])
          }
        }
      })
    })

    it('refuses an Idempotency-Key that is none', async () => {
      const [route] = ROUTES.filter(({ operationId }) => operationId === 'enqueue') as [ApiRoute]
      const keys = ['', ' ', '""', 'a b', 'a\tb', '\u00e9', 'k'.repeat(256), 'k'.repeat(10_000), '"a" b', 'a, a']
      await changesNothing(host, async () => {
        for (const key of keys) {
          const headers = { ...JSON_TYPE, 'idempotency-key': key }
          refuse(await post(route, '{"args":[1,2]}', headers), `key ${key.slice(0, 40)}`, '/Idempotency-Key')
        }
        const twice = { ...JSON_TYPE, 'idempotency-key': ['one', 'two'] }
        refuse(await post(route, '{"args":[1,2]}', twice), 'two keys', '/Idempotency-Key')
      })
    })

    it('refuses every body that is none, on every changing route', async () => {
      await changesNothing(host, async () => {
        for (const route of CHANGING) {
          for (const { name, body, type = 'application/json', headers = {}, status, pointer } of BODIES) {
            const where = `${route.path}: ${name}`
            const answer = await post(route, body, { ...(type !== null && { 'content-type': type }), ...headers })
            const problem = refuse(answer, where, pointer === '' ? undefined : pointer)
            // Which of two faults is named first may differ.
            expect(problem.status, where).to.equal(status)
          }
        }
      })
    })

    it('looks at the path, the access and the record, and changes nothing by another method', async () => {
      await changesNothing(host, async () => {
        for (const route of CHANGING) {
          const path = pathOf(route, route.path.includes(':id') ? host.ids['ready'] : undefined)
          for (const method of ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'PATCH', 'DELETE', 'PURGE', 'PROPFIND']) {
            for (const headers of [{}, { 'x-http-method-override': 'POST', 'x-method-override': 'POST' }]) {
              const { status, headers: sent } = await host.client.send(method, `${path}?_method=POST`, { headers })
              expect([path, method, status, sent.allow]).to.deep.equal([path, method, 405, 'POST'])
            }
          }
        }
      })
    })

    it('takes odd but good names for queues, and keeps to its own keys', async function () {
      if (storeName === 'redis') {
        await changesNothing(host, async () => {
          for (const queue_name of ODD_NAMES) {
            for (const path of ['/run/', '/run-one/']) {
              const body = JSON.stringify({ queue_name })
              const answer = await host.client.send('POST', MOUNT + path, { headers: JSON_TYPE, body })
              expect([path, queue_name, answer.status]).to.deep.equal([path, queue_name, 200])
            }
          }
        })
      }
      for (const queue_name of ODD_NAMES) {
        const body = JSON.stringify({ args: [1, 2], queue_name })
        const answer = await host.client.send('POST', `${MOUNT}/enqueue/add/`, { headers: JSON_TYPE, body })
        expect([queue_name, answer.status]).to.deep.equal([queue_name, 202])
        const { task } = JSON.parse(answer.text) as { task: { id: string; queue_name: string } }
        expect(task.queue_name).to.equal(queue_name)
        const run = await host.client.send('POST', `${MOUNT}/run/`, {
          headers: JSON_TYPE,
          body: JSON.stringify({ queue_name }),
        })
        expect(JSON.parse(run.text)).to.deep.equal({ processed: 1, tasks: [{ id: task.id, status: 'SUCCESSFUL' }] })
      }
      expect(await strangeKeys(store)).to.deep.equal([])
      const list = await host.client.send(
        'GET',
        `${MOUNT}/admin/tasks?${formOf(ODD_NAMES.map((name) => ['queue', name]))}`,
      )
      expect([list.status, list.text.includes(`${ODD_NAMES.length} records`)]).to.deep.equal([200, true])
    })

    it('gives back any text that JSON carries, sign for sign', async () => {
      for (const text of HOSTILE_TEXTS) {
        // `{ [text]: … }` makes an own key of `__proto__` too.
        const args = [text, { [text]: text }, [], {}, 0, 0.1, 1e300, null]
        const body = JSON.stringify({ args })
        const { task } = JSON.parse(
          (await host.client.send('POST', `${MOUNT}/enqueue/add/`, { headers: JSON_TYPE, body })).text,
        ) as { task: { id: string } }
        const { text: stored } = await host.client.send('GET', `${MOUNT}/status/${task.id}/`)
        expect(stored).to.include(`"args":${JSON.stringify(args)}`)
      }
      expect(({} as Record<string, unknown>)['polluted']).to.equal(undefined)
    })

    it('knows no task by the name of a member of an object', async () => {
      await changesNothing(host, async () => {
        for (const name of ['constructor', 'toString', 'hasOwnProperty', 'valueOf', 'prototype']) {
          const answer = await host.client.send('POST', `${MOUNT}/enqueue/${name}/`, { headers: JSON_TYPE, body: '{}' })
          expect(refuse(answer, name)).to.include({ status: 404, code: 'ERR_TASKS_NOT_REGISTERED' })
        }
      })
      expect(taskRegistry.find('constructor')).to.equal(undefined)
      replaceBackends([])
    })
  })
}
