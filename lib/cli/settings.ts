/**
 * Imports the config file and the task modules, in the process or thread that runs them, and opens the backend they configure.
 * The only place that imports a user's file by its path; nothing that is stored in Redis gets here.
 */
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { REDIS_BACKEND_OPTIONS, RedisTaskBackend } from '../backends/redis-task-backend.ts'
import { configureTasks } from '../configure-tasks.ts'
import type { BackendConfig, TasksConfig } from '../configure-tasks.ts'
import { didYouMean } from '../did-you-mean.ts'
import { TaskImportError, TaskOptionError } from '../errors.ts'
import { cleanText } from '../logger.ts'
import type { Logger } from '../logger.ts'
import { TaskBackend } from '../task-backend.ts'
import { taskBackends } from '../task-backends.ts'
import { taskRegistry } from '../task-registry.ts'
import { Task } from '../task.ts'
import { findModules } from './source-files.ts'
import type { Sources } from './source-files.ts'
import type { Warning } from './thread-messages.ts'

const TYPESCRIPT = /\.[mc]?ts$/

// Imports

export interface LoadOptions {
  readonly cwd: string
  /** For the backends of the config file, unless it brings loggers of its own. */
  readonly logger: Logger
  /** Called before each import, so that one which never ends can be named. */
  readonly onImport?: (file: string) => void
  /** Only the config file: for commands that run no task. */
  readonly configOnly?: boolean
}

export interface Loaded {
  /** The key prefix of each backend of the config file, by alias. */
  readonly keyPrefixes: Map<string, string>
  /** Aliases whose server REDIS_URL names in place of the config file. */
  readonly overridden: string[]
}

/**
 * Imports the config file, then the modules; each of those has to define a task.
 *
 * @throws TaskImportError a file is not there, throws, or defines nothing; its `cause` is the user's own error.
 */
export async function load(sources: Sources, options: LoadOptions): Promise<Loaded> {
  const { cwd, configOnly = false } = options
  const loaded: Loaded = { keyPrefixes: new Map(), overridden: [] }
  const modules = [...sources.modules]
  if (sources.configFile !== undefined) {
    const exported = await importFile(sources.configFile, options)
    modules.push(...configure(sources.configFile, exported, options, loaded))
  }
  if (configOnly) return loaded
  for (const file of new Set(modules)) {
    const before = taskRegistry.names().length
    const exported = await importFile(file, options)
    if (taskRegistry.names().length === before) checkTasks(relative(cwd, file), exported)
  }
  return loaded
}

async function importFile(file: string, { cwd, onImport }: LoadOptions): Promise<Record<string, unknown>> {
  const name = relative(cwd, file) || file
  if (TYPESCRIPT.test(file)) await loadTypeScript(name, cwd)
  onImport?.(name)
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>
  } catch (cause) {
    throw importError(name, cause)
  }
}

function importError(name: string, cause: unknown): TaskImportError {
  const facts = cause instanceof Error ? (cause as NodeJS.ErrnoException) : undefined
  const text = facts ? `${facts.name}: ${facts.message}` : `a thrown ${cause === null ? 'null' : typeof cause}`
  const reason = cleanText(text.split('\n')[0] ?? '')
  if (facts?.code === 'ERR_UNKNOWN_FILE_EXTENSION' && /\.[mc]?tsx?"/.test(facts.message)) {
    return new TaskImportError(name, reason, TYPESCRIPT_CURE, { cause, code: 'ERR_TASKS_TS_LOADER' })
  }
  const cure =
    facts?.name === 'SyntaxError'
      ? `"node --check ${name}" shows the line, if it is in this file`
      : facts?.code === 'ERR_MODULE_NOT_FOUND' || facts?.code === 'MODULE_NOT_FOUND'
        ? 'correct that import, or install what it names'
        : 'this is what it threw; its stack is below'
  return new TaskImportError(name, reason, cure, { cause })
}

const TYPESCRIPT_CURE = 'npm install --save-dev tsx, or give the compiled .js'
let typeScriptIsLoaded = false

/** Node.js 22.18 and later load TypeScript by themselves; before that tsx does, if the user's project has it. */
async function loadTypeScript(name: string, cwd: string): Promise<void> {
  if (typeScriptIsLoaded || (process.features as { readonly typescript?: unknown }).typescript) return
  const require = createRequire(join(cwd, 'tasks.config.js'))
  let manifest: string
  try {
    manifest = require.resolve('tsx/package.json')
  } catch (cause) {
    const reason = `TypeScript, which Node.js ${process.version} does not load`
    throw new TaskImportError(name, reason, TYPESCRIPT_CURE, { cause, code: 'ERR_TASKS_TS_LOADER' })
  }
  // Loaded beforehand, a CommonJS module that tsx compiles finds this very package, not a second copy with tasks of its own.
  createRequire(import.meta.url)('express-tasks-redis')
  const { exports } = require(manifest) as { exports: Readonly<Record<string, { import: { default: string } }>> }
  for (const entry of ['./esm/api', './cjs/api']) {
    // `require.resolve` would answer the entry for require(), which cannot register a loader for import().
    const path = exports[entry]?.import.default ?? ''
    const api = (await import(pathToFileURL(join(dirname(manifest), path)).href)) as { register: () => unknown }
    api.register()
  }
  typeScriptIsLoaded = true
}

// The config file

const EXAMPLE = "export default { default: { backend: 'redis' }, modules: ['tasks/*.js'] }"

/** Configures the backends, and answers the modules that the file names. */
function configure(
  file: string,
  exported: Record<string, unknown>,
  { cwd, logger, configOnly = false }: LoadOptions,
  loaded: Loaded,
): string[] {
  const name = relative(cwd, file)
  const found = defaultOf(exported)
  // It may call configureTasks itself, and export nothing.
  if (found === undefined && taskBackends.entries().length > 0) return []
  if (!isObject(found))
    throw new TaskOptionError(`the default export of ${name}`, 'an object of settings', found, EXAMPLE)
  const { modules = [], ...settings } = found
  if (!Array.isArray(modules) || !modules.every((item): item is string => typeof item === 'string')) {
    throw new TaskOptionError(`modules of ${name}`, 'a list of paths', modules, EXAMPLE)
  }
  const entries = Object.entries(settings)
  for (const [key, value] of entries) {
    const hint = isObject(value) ? undefined : didYouMean(key, ['modules'])
    if (hint !== undefined) throw new TaskOptionError(`${key} of ${name}`, 'a backend', value, hint)
  }
  const configured = entries.length > 0 && entries.every(([, value]) => value instanceof TaskBackend)
  if (entries.length > 0 && !configured) {
    configureTasks(
      Object.fromEntries(
        entries.map(([alias, value]) => [alias, prepared(alias, value, logger, loaded)]),
      ) as TasksConfig,
    )
  }
  // A command that imports none may stand where they are not.
  return configOnly ? [] : findModules(dirname(file), modules)
}

/** What was exported by default; a CommonJS module that was compiled from TypeScript wraps it once more. */
function defaultOf(exported: Record<string, unknown>): unknown {
  const value = exported['default']
  return isObject(value) && Object.hasOwn(value, 'default') && value['__esModule'] === true ? value['default'] : value
}

/** The settings of one backend, with our logger if it has none, and with REDIS_URL if that is the default backend's. */
function prepared(alias: string, settings: unknown, logger: Logger, loaded: Loaded): unknown {
  // What is not right here is refused by configureTasks, with the field.
  if (!isObject(settings) || (settings['backend'] !== 'redis' && settings['backend'] !== 'memory')) return settings
  const full = { logger, ...settings } as BackendConfig
  const { options } = full
  if (full.backend === 'memory' || (options !== undefined && !isObject(options))) return full
  loaded.keyPrefixes.set(alias, options?.keyPrefix ?? REDIS_BACKEND_OPTIONS.keyPrefix.default)
  const redisUrl = environmentUrl()
  if (alias !== 'default' || redisUrl === undefined || options?.client !== undefined) return full
  const {
    redisUrl: own,
    redisHost,
    redisPort,
    redisDb,
    redisUsername,
    redisPassword,
    redisSsl,
    ...rest
  } = options ?? {}
  const others = [redisHost, redisPort, redisDb, redisUsername, redisPassword, redisSsl]
  if ((own !== undefined && own !== redisUrl) || others.some((value) => value !== undefined))
    loaded.overridden.push(alias)
  return { ...full, options: { ...rest, redisUrl } }
}

/** That REDIS_URL wins over the config file: said before anything is done on the other server, and where that one refuses. */
export function environmentWarnings({ overridden }: Loaded): Warning[] {
  return overridden.map((alias) => ({
    code: 'WARN_TASKS_REDIS_URL',
    message: `REDIS_URL of the environment names the server of backend "${alias}", in place of the config file`,
  }))
}

function environmentUrl(): string | undefined {
  const value = process.env['REDIS_URL']
  return value === undefined || value === '' ? undefined : REDIS_BACKEND_OPTIONS.redisUrl.read('REDIS_URL', value)
}

/**
 * The backend of that alias; REDIS_URL makes `default` if nothing else did.
 *
 * @throws TaskOptionError there is none of that alias.
 */
export function openBackend(alias: string, logger: Logger, { keyPrefixes }: Loaded): TaskBackend {
  const redisUrl = environmentUrl()
  if (alias !== 'default' && taskBackends.entries().length === 0 && redisUrl !== undefined) {
    const cure = 'REDIS_URL makes "default" alone; name others in tasks.config.js'
    throw new TaskOptionError('--backend', 'the alias of a configured backend', alias, cure)
  }
  if (alias !== 'default' || taskBackends.has('default') || redisUrl === undefined) return taskBackends.get(alias)
  // As configureTasks would make it, but with a logger.
  keyPrefixes.set(alias, REDIS_BACKEND_OPTIONS.keyPrefix.default)
  return new RedisTaskBackend({ redisUrl, queues: [], logger })
}

// Tasks

/** @throws TaskImportError the module exports no task, and registered none either. */
function checkTasks(name: string, exported: Record<string, unknown>): void {
  const values = exportedValues(exported)
  if (values.some((value) => value instanceof Task)) return
  if (values.some(looksLikeTask)) {
    const cure = `run the command of the package that the module imports: npx run-redis-tasks, in the module's project`
    throw new TaskImportError(name, 'tasks of another copy of express-tasks-redis', cure)
  }
  throw new TaskImportError(
    name,
    'a module that defines no task',
    "export const sendEmail = task('sendEmail', async (to) => …)",
  )
}

/** What a module exports, and what stands one level below its default: `module.exports = { sendEmail }`. */
function exportedValues(exported: Record<string, unknown>): unknown[] {
  const values = Object.values(exported)
  return [...values, ...values.filter(isObject).flatMap((value) => Object.values(value))]
}

function looksLikeTask(value: unknown): boolean {
  return isObject(value) && typeof value['func'] === 'function' && typeof value['enqueue'] === 'function'
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
