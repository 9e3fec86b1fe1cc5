/**
 * What the specs of the commands work with: a user's project in a folder of its own, with this package linked into it and a key
 * prefix of its own on the shared server, and the real commands, started in it. Nothing is waited for by the clock.
 */
import { randomUUID } from 'node:crypto'
import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { RedisTaskBackend } from '../../lib/backends/redis-task-backend.ts'
import type { RetryOptions } from '../../lib/retry-policy.ts'
import { isDamaged } from '../../lib/storage/stored-record.ts'
import type { NewRecord, StoredRecord } from '../../lib/storage/stored-record.ts'
import { eventually } from '../support/eventually.ts'
import { sharedRedisServer } from '../support/redis-server.ts'
import type { RedisServer } from '../support/redis-server.ts'

export const ROOT = realpathSync(fileURLToPath(new URL('../..', import.meta.url)))
export const { version: VERSION } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
/** Starting Node, its threads and a connection takes its time on a busy machine. */
export const TIMEOUT_MS = 30_000

export type CommandName = 'run-redis-tasks' | 'purge-completed'

/** A command that was started. */
export class Command {
  stdout = ''
  stderr = ''
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  /** How it ended: its code, or the signal that killed it. */
  readonly ended: Promise<number | NodeJS.Signals>

  constructor(path: string, args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv }) {
    this.#child = spawn(path, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => (this.stdout += text))
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
    this.ended = new Promise((resolve, reject) => {
      this.#child.on('error', reject)
      this.#child.on('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'))
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** The objects of `--json`, a line each. */
  get records(): Record<string, unknown>[] {
    return this.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Nobody reads its results any more. */
  closeStdout(): void {
    this.#child.stdout.destroy()
  }

  /** Resolves when the text was printed, with what it matched. @throws it ended before. */
  async prints(pattern: RegExp, stream: 'stdout' | 'stderr' = 'stderr'): Promise<RegExpExecArray> {
    return await eventually(
      () => {
        const found = pattern.exec(this[stream])
        if (!found && this.hasEnded) return 'ended' as const
        return found
      },
      { timeoutMs: TIMEOUT_MS, message: `expected ${String(pattern)} on ${stream}` },
    ).then((found) => {
      if (found === 'ended')
        throw new Error(`expected ${String(pattern)} on ${stream}, got:\n${this.stdout}${this.stderr}`)
      return found
    })
  }
}

export interface ProjectOptions {
  /** `type` of its package.json. */
  readonly type?: 'module' | 'commonjs'
  readonly claimTimeoutSeconds?: number
  readonly retry?: RetryOptions
  readonly server?: RedisServer
  /** False: no config file; the server is named by REDIS_URL, and keys have the default prefix in this database. */
  readonly config?: boolean
}

/** A user's project. */
export class Project {
  readonly folder: string
  readonly url: string
  readonly keyPrefix: string
  readonly backend: RedisTaskBackend
  readonly #commands: Command[] = []
  readonly #hasConfig: boolean

  static async create(options: ProjectOptions = {}): Promise<Project> {
    return new Project((options.server ?? (await sharedRedisServer())).url, options)
  }

  constructor(url: string, { type = 'module', claimTimeoutSeconds = 300, retry = {}, config = true }: ProjectOptions) {
    this.folder = realpathSync(mkdtempSync(join(tmpdir(), 'express-tasks-redis-cli-')))
    this.url = url
    this.#hasConfig = config
    this.keyPrefix = `spec-${randomUUID()}`
    const options = { redisUrl: url, keyPrefix: this.keyPrefix, claimTimeoutSeconds, retry, blockTimeoutMs: 500 }
    this.backend = new RedisTaskBackend({ ...options, queues: [] })
    this.write('package.json', JSON.stringify({ name: 'project', private: true, type }))
    mkdirSync(join(this.folder, 'node_modules'))
    symlinkSync(ROOT, join(this.folder, 'node_modules/express-tasks-redis'))
    if (!config) return
    const settings = { default: { backend: 'redis', queues: [], options } }
    const head = type === 'module' ? 'export default' : 'module.exports ='
    this.write('tasks.config.js', `${head} ${JSON.stringify(settings)}`)
  }

  /** Writes a file of the project. */
  write(path: string, text: string): void {
    const file = join(this.folder, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }

  /** A module with tasks, of the given names and function texts. */
  writeTasks(path: string, tasks: Readonly<Record<string, string>>): void {
    const lines = Object.entries(tasks).map(([name, text]) => `export const ${name} = task('${name}', ${text})`)
    this.write(path, [`import { task } from 'express-tasks-redis'`, ...lines].join('\n'))
  }

  read(path: string): string {
    return readFileSync(join(this.folder, path), 'utf8')
  }

  link(name: string): void {
    symlinkSync(join(ROOT, 'node_modules', name), join(this.folder, 'node_modules', name))
  }

  /** What a command of this project sees of the environment. */
  environment(variables: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    const { PATH, HOME, NODE_V8_COVERAGE } = process.env
    const all = { PATH, HOME, NODE_V8_COVERAGE, ...(this.#hasConfig ? {} : { REDIS_URL: this.url }), ...variables }
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
  }

  start(name: CommandName, args: readonly string[] = [], variables: NodeJS.ProcessEnv = {}): Command {
    const command = new Command(join(ROOT, 'bin', name), args, { cwd: this.folder, env: this.environment(variables) })
    this.#commands.push(command)
    return command
  }

  /** A script of the project's own. */
  startNode(file: string, variables: NodeJS.ProcessEnv = {}): Command {
    const command = new Command(process.execPath, [file], { cwd: this.folder, env: this.environment(variables) })
    this.#commands.push(command)
    return command
  }

  /** A line as one types it, by a shell. */
  startShell(line: string): Command {
    const env = this.environment()
    const command = new Command('/bin/sh', ['-c', `exec ${line}`], {
      cwd: this.folder,
      env: { ...env, PATH: `${join(ROOT, 'bin')}:${env['PATH'] ?? ''}` },
    })
    this.#commands.push(command)
    return command
  }

  /** Starts a command and waits for its end. */
  async run(
    name: CommandName,
    args: readonly string[] = [],
    variables: NodeJS.ProcessEnv = {},
  ): Promise<Command & { code: number | string }> {
    const command = this.start(name, args, variables)
    return Object.assign(command, { code: await command.ended })
  }

  /** Stores a record as a producer does, without defining its task here. @returns its id. */
  async enqueue(name: string, args: readonly unknown[] = [], fields: Partial<NewRecord> = {}): Promise<string> {
    const id = randomUUID()
    const record = {
      id,
      name,
      queueName: 'default',
      priority: 0,
      runAfter: null,
      args: JSON.stringify(args),
      ...fields,
    }
    await this.backend.queue.push([record])
    return id
  }

  async record(id: string): Promise<StoredRecord> {
    const [record] = await this.backend.storage.find([id])
    if (!record || isDamaged(record)) throw new Error(`expected a record ${id}, got: none`)
    return record
  }

  /** Ends what still runs, and removes everything. */
  async remove(): Promise<void> {
    for (const command of this.#commands) if (!command.hasEnded) command.kill('SIGKILL')
    await Promise.all(this.#commands.map(({ ended }) => ended))
    await this.backend.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Declares a project that each case of a `describe` gets anew, and that is gone after it. */
export function eachProject(options: ProjectOptions = {}): () => Project {
  let project: Project | undefined
  beforeEach(async () => {
    project = await Project.create(options)
  })
  afterEach(async () => {
    await project?.remove()
    project = undefined
  })
  return () => {
    if (!project) throw new Error('expected to be asked within a case')
    return project
  }
}
