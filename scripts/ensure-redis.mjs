/**
 * Finds the Redis or Valkey server that the specs start, and installs one where that is allowed.
 * Run as a command it prints one line: what it found, what it installed, or the command to type; the specs import `findRedisServer`.
 * Never downloads or compiles a server by itself: the system's package manager does that, as root or by a sudo that asks for nothing.
 */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @typedef {{ path: string, product: 'redis' | 'valkey', version: string }} FoundServer */

const NAMES = ['redis-server', 'valkey-server']

/** How each package manager installs a server; the first one that is there is taken. */
const MANAGERS = [
  {
    name: 'apt-get',
    needsRoot: true,
    commands: ['apt-get update', 'apt-get install -y --no-install-recommends redis-server'],
  },
  { name: 'dnf', needsRoot: true, commands: ['dnf install -y redis', 'dnf install -y valkey'], either: true },
  { name: 'apk', needsRoot: true, commands: ['apk add redis'] },
  { name: 'brew', needsRoot: false, commands: ['brew install redis'] },
]

/** @param {string} name a path, or a name to look for on PATH @returns {string | undefined} */
function executable(name) {
  const folders = name.includes('/')
    ? ['']
    : (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '')
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return statSync(path).isFile()
      } catch {
        return false // not there, or not ours to run: look on
      }
    })
}

/**
 * The server of that name or path, else the one that REDIS_SERVER names, else the first on PATH.
 *
 * @param {string | undefined} [wanted]
 * @returns {FoundServer | undefined} undefined when PATH has none
 * @throws {Error} a server was named, and is not there or is none
 */
export function findRedisServer(wanted = process.env['REDIS_SERVER']) {
  const named = wanted !== undefined && wanted !== ''
  const path = (named ? [wanted] : NAMES).map(executable).find((found) => found !== undefined)
  if (path === undefined) {
    if (!named) return undefined
    throw new Error(`expected REDIS_SERVER to be a redis-server or valkey-server, got: "${wanted}" (no such program)`)
  }
  const { stdout, error } = spawnSync(path, ['--version'], { encoding: 'utf8' })
  const [, product, version] = /\b(redis|valkey)\b.*?\bv=(\d+\.\d+\.\d+)/i.exec(error ? '' : stdout) ?? []
  if (product === undefined || version === undefined) {
    throw new Error(
      `expected "${path} --version" to print the version of a server, got: ${JSON.stringify(error ? error.message : stdout)}`,
    )
  }
  return { path, product: product.toLowerCase() === 'valkey' ? 'valkey' : 'redis', version }
}

/** @param {string} command @returns {boolean} whether it went well; its output goes to stderr */
function run(command) {
  const [program = '', ...args] = command.split(' ')
  return (
    spawnSync(program, args, { stdio: ['ignore', 2, 2], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
      .status === 0
  )
}

/**
 * Installs a server by the system's package manager.
 *
 * @returns {{ tried: boolean, advice: string }} whether it was allowed to try, and what a person would type
 */
function installRedisServer() {
  const manager = MANAGERS.find(({ name }) => executable(name) !== undefined)
  if (manager === undefined) {
    return { tried: false, advice: 'REDIS_SERVER=/path/to/redis-server npm test' }
  }
  const isRoot = process.getuid?.() === 0
  const prefix = manager.needsRoot && !isRoot ? 'sudo ' : ''
  const advice = manager.commands.map((command) => prefix + command).join(manager.either ? ' || ' : ' && ')
  const allowed = prefix === '' || (executable('sudo') !== undefined && run('sudo -n true'))
  if (!allowed) return { tried: false, advice }
  console.error(`No redis-server or valkey-server on PATH. Running: ${advice}`)
  const commands = manager.commands.map((command) => (prefix === '' ? command : `sudo -n ${command}`))
  // A failed update may still leave good indexes behind; the install tells.
  if (manager.either) commands.some(run)
  else commands.forEach(run)
  return { tried: true, advice }
}

function main() {
  let found = findRedisServer()
  const installed = found === undefined ? installRedisServer() : undefined
  if (installed?.tried) found = findRedisServer()
  if (found !== undefined) {
    console.log(`${installed ? 'Installed' : 'Found'} ${found.product} ${found.version}: ${found.path}`)
    return
  }
  const problem = installed?.tried ? 'installing one failed' : 'none is on PATH'
  throw new Error(`The specs need a Redis or Valkey server, and ${problem}. Type: ${installed?.advice ?? ''}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exit(1)
  }
}
