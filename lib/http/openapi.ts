/** The OpenAPI 3.1 document, made of the table of routes: what is checked is what is described. */
import { API_ROUTES } from './routes.ts'
import type { ApiRoute, Schema } from './routes.ts'
import { schemaOf } from './fields.ts'
import { PRIORITIES } from '../storage/storage.ts'
import { TASK_STATUSES } from '../task-status.ts'

const text: Schema = { type: 'string' }
const time: Schema = { type: ['string', 'null'], format: 'date-time' }
const integer: Schema = { type: 'integer', minimum: 0 }
const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` })

function object(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []): Schema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name))
  return { type: 'object', properties, required }
}

const status: Schema = { enum: TASK_STATUSES }
const settled = object({ id: text, status })

const SCHEMAS: Readonly<Record<string, Schema>> = {
  Task: object({
    id: text,
    name: text,
    status,
    enqueued_at: { type: 'string', format: 'date-time' },
    started_at: time,
    finished_at: time,
    last_attempted_at: time,
    args: { type: 'array' },
    priority: { type: 'integer', minimum: PRIORITIES.min, maximum: PRIORITIES.max },
    queue_name: text,
    backend_name: text,
    run_after: time,
    attempts: integer,
    worker_ids: { type: 'array', items: text },
    errors: {
      type: 'array',
      items: object({ name: text, message: text, stack: { type: ['string', 'null'] }, attempt: integer, at: time }),
    },
    return_value: { description: 'what the task returned; null unless SUCCESSFUL' },
  }),
  TaskAnswer: object({ task: ref('Task') }),
  RunAnswer: object({ processed: integer, tasks: { type: 'array', items: settled } }),
  RunOneAnswer: object({ processed: { type: 'boolean' }, task: settled, message: text }, ['task', 'message']),
  ExecuteAnswer: object({ executed: { type: 'boolean' }, task: settled }),
  PurgeAnswer: object({ deleted: integer, matched: integer }, ['matched']),
  HealthAnswer: object(
    {
      status: { enum: ['ok', 'unavailable'] },
      redis: object({ kind: text, version: text }),
      workers: integer,
      warnings: { type: 'array', items: object({ code: text, message: text }) },
    },
    ['redis', 'workers', 'warnings'],
  ),
  OpenApiDocument: { type: 'object' },
  Problem: object(
    {
      type: text,
      title: text,
      status: integer,
      detail: text,
      code: text,
      pointer: text,
      errors: { type: 'array', items: object({ pointer: text, detail: text }) },
    },
    ['pointer', 'errors'],
  ),
}

/** What every route may answer besides its own. */
const EVERYWHERE = {
  400: 'A field is not what it may be',
  403: 'Not allowed',
  503: 'The storage is not available',
} as const
const WITH_BODY = { 413: 'The body is too large', 415: 'The body has a type that is not read here' } as const

function operation(route: ApiRoute): Schema {
  const parameters = [
    ...Object.entries(route.params).map(([name, schema]) => ({ name, in: 'path', required: true, schema })),
    ...(route.method === 'get'
      ? Object.entries(route.fields).map(([name, schema]) => ({ name, in: 'query', required: false, schema }))
      : []),
  ]
  const body = { schema: schemaOf(route) }
  const problem = (description: string): Schema => ({
    description,
    content: { 'application/problem+json': { schema: ref('Problem') } },
  })
  const others = { ...EVERYWHERE, ...(route.method === 'post' && WITH_BODY) }
  return {
    operationId: route.operationId,
    summary: route.summary,
    parameters,
    ...(route.method === 'post' && {
      requestBody: {
        required: false,
        content: { 'application/json': body, 'application/x-www-form-urlencoded': body },
      },
    }),
    responses: {
      ...Object.fromEntries(Object.entries(others).map(([code, description]) => [code, problem(description)])),
      ...Object.fromEntries(Object.entries(route.answers).map(([code, name]) => [code, answer(name)])),
    },
  }
}

function answer(name: string): Schema {
  if (name === '') return { description: 'Unchanged' }
  const type = name === 'Problem' ? 'application/problem+json' : 'application/json'
  return { description: name, content: { [type]: { schema: ref(name) } } }
}

/** @param baseUrl where the router is mounted, as this very request sees it. */
export function openApiDocument(baseUrl: string): Schema {
  const paths: Record<string, Record<string, Schema>> = {}
  for (const route of API_ROUTES as readonly ApiRoute[]) {
    const path = route.path.replace(/:(\w+)/g, '{$1}') + (route.path.endsWith('.json') ? '' : '/')
    paths[path] = { ...paths[path], [route.method]: operation(route) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Background tasks', version: '1', description: 'Triggers for schedulers and webhooks.' },
    servers: [{ url: baseUrl }],
    paths,
    components: { schemas: SCHEMAS },
  }
}
