/**
 * Starts real Redis and Valkey servers for specs: each on a free port, in a fresh folder, empty and without persistence.
 * A server is there when it answers PING; nothing is waited for by the clock. What a spec forgets to stop, the root hook names,
 * and the end of the process kills.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findRedisServer } from '../../scripts/ensure-redis.mjs'
import { eventually } from './eventually.ts'

const HOST = '127.0.0.1'
// Below the range from which systems take the ports of outgoing connections, so that a port stays ours over a restart;
// and low enough for the bus of a cluster node, which is 10000 above.
const FIRST_PORT = 20000
const LAST_PORT = 31999
const PORTS_TRIED = 20
const START_TIMEOUT_MS = 10_000
// A foreign process on the port may accept and say nothing.
const ANSWER_TIMEOUT_MS = 1000
const KEPT_OUTPUT_LENGTH = 4000

export interface RedisServerOptions {
  /** Path or name of the program. Default: `REDIS_SERVER`, else `redis-server` or `valkey-server` on PATH. A wrapper script has to `exec` it. */
  readonly binary?: string
  /** Settings as on the command line, e.g. `['--maxmemory', '10mb']`; they win over ours. */
  readonly args?: readonly string[]
  /** A file of settings, which stands before them; a sentinel must have one. */
  readonly configFile?: string
}

export interface RedisServer extends AsyncDisposable {
  readonly url: string
  readonly host: string
  readonly port: number
  /** Of the process that runs now: another one after `restart()`. */
  readonly pid: number
  readonly product: 'redis' | 'valkey'
  /** As the program prints it, e.g. `7.0.15`. */
  readonly version: string
  /** Kills the server and removes its folder. Stopping twice is fine. */
  stop(): Promise<void>
  /** Sends a signal. Resolves when the process has ended; at once for SIGSTOP and SIGCONT. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Ends the process if it still runs (SIGTERM: it saves if its settings say so) and starts it again: same port, folder and settings. */
  restart(): Promise<void>
}

/** Another process holds the port. */
class PortTakenError extends Error {}

const running = new Set<SpawnedRedisServer>()
let shared: Promise<RedisServer> | undefined

class SpawnedRedisServer implements RedisServer {
  readonly host = HOST
  readonly port: number
  readonly product: 'redis' | 'valkey'
  readonly version: string
  readonly #path: string
  readonly #args: readonly string[]
  readonly #configFile: readonly string[]
  readonly #folder: string
  #child: ChildProcess | undefined
  /** Resolves when the process has ended and all it printed is here. */
  #closed: Promise<void> = Promise.resolve()
  #output = ''

  constructor(port: number, { binary, args = [], configFile }: RedisServerOptions) {
    const found = findRedisServer(binary)
    if (!found) throw new Error('expected redis-server or valkey-server on PATH, got: none (npm test installs one)')
    this.port = port
    this.product = found.product
    this.version = found.version
    this.#path = found.path
    this.#args = args
    this.#configFile = configFile === undefined ? [] : [configFile]
    this.#folder = mkdtempSync(join(tmpdir(), 'express-tasks-redis-server-'))
  }

  get url(): string {
    return `redis://${this.host}:${this.port}`
  }

  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined || this.#hasEnded)
      throw new Error(`expected the server on port ${this.port} to run, got: stopped`)
    return pid
  }

  get #hasEnded(): boolean {
    const child = this.#child
    return child?.pid === undefined || child.exitCode !== null || child.signalCode !== null
  }

  async start(): Promise<void> {
    const network = ['--port', String(this.port), '--bind', HOST]
    const storage = ['--dir', this.#folder, '--save', '', '--appendonly', 'no']
    this.#output = ''
    const child = spawn(this.#path, [...this.#configFile, ...network, ...storage, '--daemonize', 'no', ...this.#args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    // Node tells a program that cannot be run at all by 'error', and then there is no 'exit'.
    this.#closed = once(child, 'close').then(
      () => {},
      (error: unknown) => void (this.#output += String(error)),
    )
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-KEPT_OUTPUT_LENGTH)
      })
    }
    running.add(this)
    hookProcessEnd()
    try {
      const state = await eventually(() => (this.#hasEnded ? 'ended' : this.#state()), {
        timeoutMs: START_TIMEOUT_MS,
        message: `${this.#path} on port ${this.port} does not answer PING`,
      })
      if (state === 'ended') throw await this.#whyEnded()
      if (state === 'foreign') throw new PortTakenError(`another process answers on port ${this.port}`)
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async stop(): Promise<void> {
    await this.kill('SIGKILL')
    this.killNow()
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (!child || this.#hasEnded) return
    child.kill(signal)
    if (signal !== 'SIGSTOP' && signal !== 'SIGCONT') await this.#closed
  }

  async restart(): Promise<void> {
    await this.kill('SIGTERM')
    await this.start()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** The synchronous end, for a process that ends itself. */
  killNow(): void {
    if (!this.#hasEnded) this.#child?.kill('SIGKILL')
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 })
    running.delete(this)
  }

  async #whyEnded(): Promise<Error> {
    await this.#closed
    const text = `${this.#path} on port ${this.port} ended before it answered:\n${this.#output.trim()}`
    return /address already in use/i.test(this.#output) ? new PortTakenError(text) : new Error(text)
  }

  /** Asks the port; throws while nobody answers, and while the server still loads. */
  async #state(): Promise<'ready' | 'foreign'> {
    const answer = await ask(this.port, 'PING\r\nINFO server\r\n', /process_id:\d+\r\n|^-NOAUTH|\r\n-/)
    if (/^-(?!NOAUTH)/.test(answer)) throw new Error(answer.trim()) // -LOADING
    const pid = /process_id:(\d+)/.exec(answer)?.[1]
    // A server with a password does not tell its process; that the port was free a moment ago has to do.
    return pid === undefined || Number(pid) === this.#child?.pid ? 'ready' : 'foreign'
  }
}

/** Sends a request over a connection of its own and resolves with the answer as soon as `complete` matches it. */
function ask(port: number, request: string, complete: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, HOST, () => socket.write(request))
    socket.setEncoding('latin1').on('data', (text: string) => {
      answer += text
      if (!complete.test(answer)) return
      resolve(answer)
      socket.destroy()
    })
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy())
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`the server closed the connection after ${JSON.stringify(answer)}`)))
  })
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer()
  try {
    probe.listen(port, HOST)
    await once(probe, 'listening')
    return true
  } catch {
    return false // EADDRINUSE or EACCES: either way not for us
  } finally {
    probe.close()
  }
}

async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT + 1))
    if (await isFree(port)) return port
  }
}

/**
 * Starts a server and resolves when it answers.
 *
 * @throws {Error} no such program, or it ended: with the last lines it printed
 */
export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  for (let tried = 1; ; tried += 1) {
    const server = new SpawnedRedisServer(await freePort(), options)
    try {
      await server.start()
      return server
    } catch (error) {
      if (!(error instanceof PortTakenError) || tried === PORTS_TRIED) throw error
    }
  }
}

/** The one server that specs share, started when first asked for; the root hook stops it. A spec keeps to its own key prefix there. */
export function sharedRedisServer(): Promise<RedisServer> {
  // A snapshot that is planned and never due: a server without any persistence is warned about at every start.
  shared ??= startRedisServer({ args: ['--save', '86400', '1000000000'] })
  return shared
}

/** Stops the shared server, then every other one that still runs. @returns the URLs of those others: somebody forgot them. */
export async function stopAllRedisServers(): Promise<string[]> {
  const server = await shared?.catch(() => undefined) // a start that failed has failed its specs already
  shared = undefined
  await server?.stop()
  const forgotten = [...running]
  await Promise.all(forgotten.map((other) => other.stop()))
  return forgotten.map((other) => other.url)
}

function killAll(): void {
  for (const server of running) server.killNow()
}

let isHooked = false
function hookProcessEnd(): void {
  if (isHooked) return
  isHooked = true
  process.once('exit', killAll)
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, () => process.exit(code)) // 'exit' kills the servers
  }
}
