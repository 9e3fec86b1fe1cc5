/**
 * configureTasks: settings -> backends, by alias. Without it, REDIS_URL in the environment configures `default` at its first
 * use. Opens nothing: a backend connects when it is first used.
 */
import { DummyTaskBackend } from './backends/dummy-task-backend.ts'
import { ImmediateTaskBackend } from './backends/immediate-task-backend.ts'
import { MemoryTaskBackend } from './backends/memory-task-backend.ts'
import { RedisTaskBackend } from './backends/redis-task-backend.ts'
import type { RedisBackendOptions } from './backends/redis-task-backend.ts'
import { hinted } from './did-you-mean.ts'
import { TaskOptionError } from './errors.ts'
import type { Logger } from './logger.ts'
import { anything, checkName, checkOptions } from './options.ts'
import { onMissingDefault, replaceBackends, taskBackends } from './task-backends.ts'
import { TaskBackend } from './task-backend.ts'

const KINDS = {
  redis: RedisTaskBackend,
  memory: MemoryTaskBackend,
  immediate: ImmediateTaskBackend,
  dummy: DummyTaskBackend,
} as const

export type BackendKind = keyof typeof KINDS

interface Instances {
  readonly redis: RedisTaskBackend
  readonly memory: MemoryTaskBackend
  readonly immediate: ImmediateTaskBackend
  readonly dummy: DummyTaskBackend
}

/** A class of your own: made with the alias, the queues and the options of its settings. */
export type BackendClass<Backend extends TaskBackend = TaskBackend> = new (options: never) => Backend

export interface BackendConfig {
  readonly backend: BackendKind | BackendClass
  /** Allowed queues: left out = only `default`, `[]` = any. */
  readonly queues?: readonly string[]
  readonly options?: Omit<RedisBackendOptions, 'alias' | 'queues'>
  readonly logger?: Logger
}

export type TasksConfig = Readonly<Record<string, BackendConfig>>

/** The backends of a configuration, each as the class that its settings name. */
export type ConfiguredBackends<Config extends TasksConfig> = {
  readonly [Alias in keyof Config]: Config[Alias]['backend'] extends BackendKind
    ? Instances[Config[Alias]['backend']]
    : Config[Alias]['backend'] extends BackendClass<infer Backend>
      ? Backend
      : TaskBackend
}

const isKind = (value: unknown): value is BackendKind => typeof value === 'string' && Object.hasOwn(KINDS, value)
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const CONFIG_OPTIONS = Object.freeze({
  backend: anything({
    shape: `${Object.keys(KINDS).join(', ')} or a class`,
    is: (value): value is BackendKind | BackendClass => isKind(value) || typeof value === 'function',
    description: 'kind of backend',
  }),
  queues: anything({
    shape: 'a list of queue names',
    is: (value): value is readonly string[] => Array.isArray(value),
    description: 'allowed queues',
  }),
  options: anything({ shape: 'an object of options', is: isObject, description: 'options of the backend' }),
  logger: anything({
    shape: 'a logger',
    is: (value): value is Logger => isObject(value),
    description: 'where it logs',
  }),
})

/**
 * Makes a backend for each alias and puts them in the place of those configured before (whoever made those closes them).
 *
 * @throws TaskOptionError an alias, a kind or an option is not what it may be; then nothing is replaced.
 */
export function configureTasks<const Config extends TasksConfig>(config: Config): ConfiguredBackends<Config> {
  if (!isObject(config) || Object.keys(config).length === 0) {
    throw new TaskOptionError(
      'config',
      'an object of backends by alias',
      config,
      "for example { default: { backend: 'redis' } }",
    )
  }
  const before = taskBackends.entries()
  try {
    // All are made before the first takes its alias.
    const made = Object.entries(config).map(([alias, settings]) => [alias, build(alias, settings)] as const)
    replaceBackends(made)
    return Object.freeze(Object.fromEntries(made)) as ConfiguredBackends<Config>
  } catch (error) {
    // One that was made offered itself as `default`.
    replaceBackends(before)
    throw error
  }
}

function build(alias: string, settings: BackendConfig): TaskBackend {
  checkName('config', alias)
  const where = `config.${alias}`
  const kind: unknown = (settings as Partial<BackendConfig> | undefined)?.backend
  if (typeof kind === 'string' && !isKind(kind)) {
    const kinds = Object.keys(KINDS)
    const cure = hinted(kind, kinds, `there are ${kinds.join(', ')}`)
    throw new TaskOptionError(`${where}.backend`, 'a kind of backend', kind, cure)
  }
  const { backend, queues, options = {}, logger } = checkOptions(where, CONFIG_OPTIONS, settings)
  if (backend === undefined) {
    throw new TaskOptionError(
      `${where}.backend`,
      'a kind of backend',
      backend,
      `there are ${Object.keys(KINDS).join(', ')}`,
    )
  }
  const Backend = typeof backend === 'string' ? KINDS[backend] : backend
  const all = { ...options, alias, ...(queues && { queues }), ...(logger && { logger }) }
  const instance = new Backend(all as never)
  if (!(instance instanceof TaskBackend)) {
    throw new TaskOptionError(
      `${where}.backend`,
      'a class that extends TaskBackend',
      Backend.name,
      'extend MemoryTaskBackend, for example',
    )
  }
  return instance
}

onMissingDefault(() => {
  const redisUrl = process.env['REDIS_URL']
  return redisUrl === undefined || redisUrl === '' ? undefined : new RedisTaskBackend({ redisUrl, queues: [] })
})
