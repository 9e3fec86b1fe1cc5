/**
 * task() and Task: a named async function with its defaults, and the verbs that enqueue it.
 * Frozen: using() gives another task. Checks what it is given at definition, at using() and again at enqueue, as the backend
 * may be configured in between; stores nothing itself.
 */
import { compileArgsSchema } from './args-schema.ts'
import { TaskOptionError, TaskResultMismatchError } from './errors.ts'
import { encodeArgs } from './json.ts'
import { anything, checkName, checkOptions, date, flag, integer, NAME_PATTERN, text } from './options.ts'
import type { Row } from './options.ts'
import { checkRetryOptions } from './retry-policy.ts'
import type { RetryOptions, RetryPolicy } from './retry-policy.ts'
import { taskBackends } from './task-backends.ts'
import type { TaskContext } from './task-context.ts'
import { taskRegistry } from './task-registry.ts'
import { PRIORITIES } from './storage/storage.ts'
import { newStoredRecord } from './storage/stored-record.ts'
import { TaskResult, unchanging } from './task-result.ts'

/** A JSON Schema (2020-12) of the arguments array, or a list with the schema of each argument. */
export type ArgsSchema = Readonly<Record<string, unknown>> | readonly Readonly<Record<string, unknown>>[]

export interface TaskOptions {
  /** `[A-Za-z0-9][A-Za-z0-9_.-]{0,127}`; the function's name when left out. */
  readonly name?: string
  /** `default` when left out. */
  readonly queueName?: string
  /** -100..100, 0 when left out. Above 0 runs first, below 0 last. */
  readonly priority?: number
  /** The alias of a backend, `default` when left out. */
  readonly backend?: string
  /** The function's first parameter is a TaskContext. */
  readonly takesContext?: boolean
  /** Checked at enqueue and again before the run. */
  readonly argsSchema?: ArgsSchema
  /** An attempt that takes longer fails with TaskTimeoutError, and its signal aborts. */
  readonly timeoutMs?: number
  readonly retry?: RetryOptions
}

/** What `using()` may change. */
export interface UsingOptions {
  readonly priority?: number | null | undefined
  readonly queueName?: string | null | undefined
  readonly backend?: string | null | undefined
  /** Not before this time. */
  readonly runAfter?: Date | null | undefined
}

/** RFC 9562 section 5.9: the id of a record that is nowhere. */
const NIL_ID = '00000000-0000-0000-0000-000000000000'
/** 2^31 - 1: what a timer can hold. */
const MAX_TIMEOUT_MS = 2_147_483_647

/** Every option of a task: bounds, default and meaning. */
export const TASK_OPTIONS = Object.freeze({
  name: text({ pattern: NAME_PATTERN, description: "name of the task; the function's when left out" }),
  queueName: text({ pattern: NAME_PATTERN, default: 'default', description: 'queue it waits in' }),
  priority: integer({ ...PRIORITIES, default: 0, description: 'above 0 runs first, below 0 last' }),
  backend: text({ pattern: NAME_PATTERN, default: 'default', description: 'alias of the backend' }),
  takesContext: flag({ default: false, description: 'the first parameter is a TaskContext' }),
  argsSchema: anything({
    shape: 'a JSON Schema object, or a list of them',
    is: (value): value is ArgsSchema => typeof value === 'object' && value !== null,
    description: 'JSON Schema of the arguments array, or a list with one of each argument',
  }),
  timeoutMs: integer({ min: 1, max: MAX_TIMEOUT_MS, description: 'time limit of an attempt, in ms' }),
  retry: anything({
    shape: 'an object of retry options',
    is: (value): value is RetryOptions => typeof value === 'object' && value !== null,
    description: 'whether and when a failed attempt runs again',
  }),
})

/** The same row, which takes null too: as for `undefined`, the task's own value stays. */
function orNull<T>({ kind, shape, description, read }: Row<T>): Row<T | null> {
  return { kind, shape, description, read: (field, value) => (value === null ? null : read(field, value)) }
}

const { queueName, priority, backend } = TASK_OPTIONS
const USING_OPTIONS = Object.freeze({
  queueName: orNull(queueName),
  priority: orNull(priority),
  backend: orNull(backend),
  runAfter: orNull(date({ description: 'not before this time' })),
})

interface TaskSettings {
  readonly name: string
  readonly queueName: string
  readonly priority: number
  readonly backend: string
  readonly takesContext: boolean
  readonly runAfter: Date | null
  readonly argsSchema: ArgsSchema | undefined
  readonly checkArgs: ((args: readonly unknown[]) => void) | undefined
  readonly timeoutMs: number | undefined
  /** As they were given: what is left out is the backend's. */
  readonly retryOptions: RetryOptions | undefined
  readonly retry: RetryPolicy
}

type TaskFunction = (...args: never[]) => unknown

export class Task<Args extends readonly unknown[], Result> {
  readonly name: string
  readonly queueName: string
  readonly priority: number
  /** The alias of its backend; looked up at each use. */
  readonly backend: string
  readonly takesContext: boolean
  /** Set by `using()` alone. */
  readonly runAfter: Date | null
  readonly argsSchema: ArgsSchema | undefined
  readonly timeoutMs: number | undefined
  readonly retry: RetryPolicy
  /** The function as it was given; with `takesContext` its first parameter is a TaskContext. */
  readonly func: TaskFunction
  readonly #settings: TaskSettings

  constructor(func: TaskFunction, settings: TaskSettings) {
    this.func = func
    this.#settings = settings
    this.name = settings.name
    this.queueName = settings.queueName
    this.priority = settings.priority
    this.backend = settings.backend
    this.takesContext = settings.takesContext
    this.runAfter = settings.runAfter
    this.argsSchema = settings.argsSchema
    this.timeoutMs = settings.timeoutMs
    this.retry = settings.retry
    Object.freeze(this)
    // The alias may be configured later; then enqueue is the first to look.
    if (taskBackends.has(this.backend)) taskBackends.get(this.backend).validateTask(this)
  }

  /**
   * Stores a record and its entry, in one step, and resolves when they are there.
   *
   * @throws TaskArgumentError an argument is not what JSON carries unchanged, or not what `argsSchema` says.
   * @throws TaskOptionError the backend does not allow this queue, or no such backend is configured.
   * @throws StorageUnavailableError no answer within a second; the outcome is unknown.
   */
  async enqueue(...args: Args): Promise<TaskResult<Result, Args>> {
    const result = await taskBackends.get(this.backend).enqueue(this, args)
    return result as TaskResult<Result, Args>
  }

  /** Enqueues once for each list of arguments, 1000 to a round trip; all are checked before the first is stored. */
  async enqueueMany(lists: readonly Args[]): Promise<TaskResult<Result, Args>[]> {
    const results = await taskBackends.get(this.backend).enqueueMany(this, lists)
    return results as TaskResult<Result, Args>[]
  }

  /** Runs it here and now, stores nothing, and passes on what it returns or throws. */
  async call(...args: Args): Promise<Result> {
    const all = this.takesContext ? [this.#unstoredContext(args), ...args] : args
    return (await (this.func as (...all: readonly unknown[]) => unknown)(...all)) as Result
  }

  /**
   * The record of an earlier enqueue of this task.
   *
   * @throws TaskNotFoundError no record has that id.
   * @throws TaskResultMismatchError it belongs to another task.
   */
  async getResult(id: string): Promise<TaskResult<Result, Args>> {
    const result = await taskBackends.get(this.backend).getResult(id)
    if (result.name !== this.name) throw new TaskResultMismatchError(id, this.name, result.name)
    return result as TaskResult<Result, Args>
  }

  /** Another task with these settings instead; what is left out, `undefined` or `null` stays as it is here. */
  using(options: UsingOptions): Task<Args, Result> {
    for (const fixed of ['name', 'takesContext']) {
      refuseKey(`using.${fixed}`, options, fixed, 'left as the task has it', 'define another task')
    }
    const given = Object.entries(checkOptions('using', USING_OPTIONS, options))
    const changed = Object.fromEntries(given.filter(([, value]) => value !== null)) as Partial<TaskSettings>
    return new Task<Args, Result>(this.func, { ...this.#settings, ...changed })
  }

  /** Its retry options over those of a backend, option by option. */
  retryPolicy(defaults: RetryOptions | undefined): RetryPolicy {
    if (defaults === undefined) return this.retry
    return checkRetryOptions({ ...defaults, ...this.#settings.retryOptions })
  }

  /** @throws TaskArgumentError what `argsSchema` says against these arguments. */
  checkArgs(args: readonly unknown[]): void {
    this.#settings.checkArgs?.(args)
  }

  #unstoredContext(args: readonly unknown[]): TaskContext {
    const now = Date.now()
    const record = {
      ...newStoredRecord(
        {
          id: NIL_ID,
          name: this.name,
          queueName: this.queueName,
          priority: this.priority,
          runAfter: this.runAfter?.getTime() ?? null,
          args: encodeArgs(args),
        },
        now,
      ),
      ...{ status: 'RUNNING' as const, startedAt: now, lastAttemptedAt: now, attempts: 1 },
    }
    const taskResult = new TaskResult(unchanging(this.backend, record), record)
    return { taskResult, attempt: 1, signal: new AbortController().signal, fence: 0 }
  }
}

/** Refuses a key with a message of its own, where "unknown" would not help. `options` may be anything yet. */
function refuseKey(field: string, options: unknown, key: string, shape: string, cure: string): void {
  if (typeof options !== 'object' || options === null || !Object.hasOwn(options, key)) return
  throw new TaskOptionError(field, shape, (options as Readonly<Record<string, unknown>>)[key], cure)
}

/** A task whatever its arguments and result. */
export type AnyTask = Task<readonly unknown[], unknown>

/** Defines a task named after its function. */
export function task<Args extends unknown[], Result>(
  func: (...args: Args) => Result | PromiseLike<Result>,
): Task<Args, Result>
/** Defines a task whose first parameter is a TaskContext. */
export function task<Args extends unknown[], Result>(
  options: TaskOptions & { readonly takesContext: true },
  func: (context: TaskContext, ...args: Args) => Result | PromiseLike<Result>,
): Task<Args, Result>
/** Defines a task by name or options. */
export function task<Args extends unknown[], Result>(
  options: string | (TaskOptions & { readonly takesContext?: false }),
  func: (...args: Args) => Result | PromiseLike<Result>,
): Task<Args, Result>
export function task(first: string | TaskOptions | TaskFunction, second?: TaskFunction): Task<unknown[], unknown> {
  const func = typeof first === 'function' ? first : second
  const options = typeof first === 'function' ? {} : typeof first === 'string' ? { name: first } : first
  if (typeof func !== 'function' || (typeof first === 'function' && second !== undefined)) {
    const got = typeof first === 'function' ? second : func
    const shape = typeof first === 'function' ? 'the last argument' : 'a function'
    throw new TaskOptionError('func', shape, got, 'task(fn), task(name, fn) or task(options, fn)')
  }
  const cure = 'a time belongs to one enqueue: task.using({ runAfter })'
  refuseKey('options.runAfter', options, 'runAfter', 'left out', cure)
  const checked = checkOptions('options', TASK_OPTIONS, options)
  const name = checkName('options.name', checked.name ?? func.name)
  const defined = new Task<unknown[], unknown>(func, {
    ...checked,
    name,
    runAfter: null,
    argsSchema: checked.argsSchema,
    checkArgs: checked.argsSchema && compileArgsSchema(checked.argsSchema, 'options.argsSchema'),
    timeoutMs: checked.timeoutMs,
    // A copy: what the caller changes later changes nothing here.
    retryOptions: checked.retry && { ...checked.retry },
    retry: checkRetryOptions(checked.retry),
  })
  taskRegistry.add(defined)
  return defined
}
