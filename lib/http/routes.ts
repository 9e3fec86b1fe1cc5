/**
 * Every route of the API: method, path, the right it needs, whether it changes anything, its fields, its answers.
 * One table: the router, the OpenAPI document and the specs are made of it. Handles no request itself.
 */
import { EXECUTOR_OPTIONS } from '../executor-options.ts'
import { NAME_PATTERN } from '../options.ts'
import type { Row } from '../options.ts'
import { PRIORITIES } from '../storage/storage.ts'
import { FINAL_STATUSES } from '../task-status.ts'
import type { Action } from './access.ts'

/** A JSON Schema, as OpenAPI 3.1 uses it. */
export type Schema = Readonly<Record<string, unknown>>

export interface ApiRoute {
  readonly method: 'get' | 'post'
  /** As Express spells it; a trailing slash is optional. */
  readonly path: string
  readonly operationId: string
  readonly action: Action
  readonly changes: boolean
  readonly summary: string
  readonly params: Readonly<Record<string, Schema>>
  /** Fields of the query (GET) or of the body (POST): an object schema that knows all its properties. */
  readonly fields: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  /** Status -> what it means; `task` and the like name the schemas of openapi.ts. */
  readonly answers: Readonly<Record<number, string>>
}

const PATTERN = NAME_PATTERN.source
const name = (description: string): Schema => ({ type: 'string', pattern: PATTERN, description })

/** An integer field out of an option's own row, with the router's bounds where they are narrower. */
function integer(row: Row<unknown>, more: { max?: number; default?: number } = {}): Schema {
  const usual = more.default ?? row.default
  return {
    type: 'integer',
    minimum: row.min ?? 0,
    maximum: more.max ?? row.max ?? Number.MAX_SAFE_INTEGER,
    ...(usual !== undefined && { default: usual }),
    description: row.description,
  }
}

const backendName = name('alias of the backend; the one the router was made with when left out')
const queueName = name('only this queue; all when left out')
const id: Schema = {
  type: 'string',
  pattern: '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$',
  description: 'id of the record (a UUID)',
}

/** What a run without limits of its own may do: a request is no worker. */
const RUN_LIMITS = { maxTasks: 100, mostTasks: 1_000, maxSeconds: 30, mostSeconds: 3_600 } as const

const { processTasks, purgeCompletedTasks } = EXECUTOR_OPTIONS

export const API_ROUTES = [
  {
    method: 'post',
    path: '/run',
    operationId: 'run',
    action: 'run',
    changes: true,
    summary: 'Run due tasks, one after the other, until none is left or a limit is reached.',
    params: {},
    fields: {
      queue_name: queueName,
      backend_name: backendName,
      max_tasks: {
        ...integer(processTasks.maxTasks, { max: RUN_LIMITS.mostTasks, default: RUN_LIMITS.maxTasks }),
        minimum: 1,
      },
      max_seconds: {
        type: 'number',
        minimum: 0,
        maximum: RUN_LIMITS.mostSeconds,
        default: RUN_LIMITS.maxSeconds,
        description: 'start no task after so many seconds; one that runs is awaited',
      },
    },
    answers: { 200: 'RunAnswer' },
  },
  {
    method: 'post',
    path: '/run-one',
    operationId: 'runOne',
    action: 'run',
    changes: true,
    summary: 'Run the next due task.',
    params: {},
    fields: { queue_name: queueName, backend_name: backendName },
    answers: { 200: 'RunOneAnswer' },
  },
  {
    method: 'post',
    path: '/execute/:id',
    operationId: 'execute',
    action: 'execute',
    changes: true,
    summary: 'Run one record by its id. A record that is SUCCESSFUL already is answered with executed: false.',
    params: { id },
    fields: {
      backend_name: backendName,
      allow_retry: { type: 'boolean', default: false, description: 'run a FAILED record again' },
    },
    answers: { 200: 'ExecuteAnswer', 404: 'Problem', 409: 'Problem' },
  },
  {
    method: 'get',
    path: '/status/:id',
    operationId: 'status',
    action: 'view',
    changes: false,
    summary: 'The record of an id.',
    params: { id },
    fields: { backend_name: backendName },
    answers: { 200: 'TaskAnswer', 304: '', 404: 'Problem' },
  },
  {
    method: 'post',
    path: '/purge',
    operationId: 'purge',
    action: 'purge',
    changes: true,
    summary: 'Delete finished records that ended at least `days` ago.',
    params: {},
    fields: {
      backend_name: backendName,
      days: integer(purgeCompletedTasks.days),
      statuses: {
        type: 'array',
        items: { enum: FINAL_STATUSES },
        minItems: 1,
        maxItems: FINAL_STATUSES.length,
        uniqueItems: true,
        description: 'only these states',
      },
      dry_run: { type: 'boolean', default: false, description: 'count only' },
    },
    answers: { 200: 'PurgeAnswer' },
  },
  {
    method: 'post',
    path: '/enqueue/:name',
    operationId: 'enqueue',
    action: 'enqueue',
    changes: true,
    summary: 'Store a task. With an `id`, or an Idempotency-Key, that is known, the record of that is answered.',
    params: { name: name('name of a registered task') },
    fields: {
      args: { type: 'array', description: 'arguments of the task', default: [] },
      queue_name: name("queue; the task's own when left out"),
      priority: {
        type: 'integer',
        minimum: PRIORITIES.min,
        maximum: PRIORITIES.max,
        description: "the task's own when left out",
      },
      run_after: {
        type: 'string',
        format: 'date-time',
        description: 'not before this time (RFC 3339, with Z or an offset)',
      },
      id,
    },
    answers: { 202: 'TaskAnswer', 404: 'Problem', 422: 'Problem' },
  },
  {
    method: 'get',
    path: '/health',
    operationId: 'health',
    action: 'view',
    changes: false,
    summary: 'Whether the storage answers, and how many workers do.',
    params: {},
    fields: {},
    answers: { 200: 'HealthAnswer', 503: 'HealthAnswer' },
  },
  {
    method: 'get',
    path: '/openapi.json',
    operationId: 'openapi',
    action: 'view',
    changes: false,
    summary: 'This document.',
    params: {},
    fields: {},
    answers: { 200: 'OpenApiDocument' },
  },
] as const satisfies readonly ApiRoute[]

export type OperationId = (typeof API_ROUTES)[number]['operationId']
