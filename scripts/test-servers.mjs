/**
 * Runs the specs that depend on server and driver on every server of REDIS_SERVERS (paths, colon-separated; default: the one
 * that the specs find) and with every driver, one after another, and prints a table: server, driver, suite, passed, failed, time.
 * `--suite contract,faults` and `--driver ioredis6` run a part. Ends with 1 when a spec failed, or when a suite did not run at all.
 */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { findRedisServer } from './ensure-redis.mjs'

/** @typedef {{ server: string, driver: string, suite: string, passed: number, pending: number, failed: number, seconds: number }} Row */

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const MOCHA = fileURLToPath(new URL('../node_modules/mocha/bin/mocha.js', import.meta.url))
const CHOOSE = fileURLToPath(new URL('./choose-driver.cjs', import.meta.url))

/** The packages that a driver is installed as. The contract brings every driver by itself, and the scripts need none. */
const DRIVERS = ['ioredis', 'ioredis6', 'iovalkey']

const SUITES = {
  contract: { specs: ['spec/storage/contract/*.spec.ts', 'spec/storage/state-machine.spec.ts'], everyDriver: false },
  scripts: { specs: ['spec/storage/redis/*.spec.ts', 'spec/storage/redis/scripts/*.spec.ts'], everyDriver: false },
  worker: {
    specs: ['spec/worker*.spec.ts', 'spec/backends/task-backend.spec.ts', 'spec/executor.spec.ts'],
    everyDriver: true,
  },
  faults: { specs: ['spec/faults/*.spec.ts'], everyDriver: true },
}

const { values } = parseArgs({
  options: { suite: { type: 'string' }, driver: { type: 'string' }, help: { type: 'boolean' } },
})
if (values.help) {
  console.log('REDIS_SERVERS=/path/a:/path/b npm run test:servers -- [--suite a,b] [--driver a,b]')
  console.log(`suites: ${Object.keys(SUITES).join(', ')}; drivers: ${DRIVERS.join(', ')}`)
  process.exit(0)
}

/** @param {string | undefined} text @param {readonly string[]} known @returns {readonly string[]} */
function chosen(text, known) {
  const names = text?.split(',') ?? known
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new Error(`expected one of ${known.join(', ')}, got: "${unknown}"`)
  return names
}

/**
 * @param {string} path @param {string} driver @param {string} suite @param {readonly string[]} specs
 * @returns {Promise<Omit<Row, 'server'>>}
 */
async function run(path, driver, suite, specs) {
  const startedAt = performance.now()
  const options = `${process.env['NODE_OPTIONS'] ?? ''} --require=${CHOOSE}`.trim()
  const child = spawn(process.execPath, [MOCHA, ...specs], {
    cwd: ROOT,
    env: { ...process.env, REDIS_SERVER: path, TEST_DRIVER: driver === 'all' ? '' : driver, NODE_OPTIONS: options },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (/** @type {string} */ text) => (output += text))
  await new Promise((resolve) => child.once('close', resolve))
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/m.exec(output) ?? []
  const [, pending] = /^ {2}(\d+) pending$/m.exec(output) ?? []
  const hasRun = passed !== undefined
  if (!hasRun || failed !== '0' || child.exitCode !== 0)
    console.log(output.slice(output.search(/ {2}\d+ failing|$/)).trimEnd() || output.slice(-4_000))
  return {
    ...{ driver, suite, passed: Number(passed ?? 0), pending: Number(pending ?? 0) },
    failed: hasRun ? Math.max(Number(failed), child.exitCode === 0 ? 0 : 1) : 1,
    seconds: Math.round((performance.now() - startedAt) / 1_000),
  }
}

/** @param {readonly (readonly string[])[]} rows */
function print(rows) {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  for (const row of rows)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
}

const named = process.env['REDIS_SERVERS']?.split(':').filter((path) => path !== '') ?? []
const servers = (named.length > 0 ? named : [undefined]).map((path) => {
  const found = findRedisServer(path)
  if (found === undefined)
    throw new Error('expected a redis-server or valkey-server on PATH, got: none (name some in REDIS_SERVERS)')
  return found
})
const suites = chosen(values.suite, Object.keys(SUITES))
const drivers = chosen(values.driver, DRIVERS)
const require = createRequire(import.meta.url)
for (const driver of drivers) require.resolve(driver)

/** @type {Row[]} */
const rows = []
for (const { path, product, version } of servers) {
  const server = `${product} ${version}`
  for (const [suite, { specs, everyDriver }] of Object.entries(SUITES)) {
    if (!suites.includes(suite)) continue
    for (const driver of everyDriver ? drivers : ['all']) {
      const row = { server, ...(await run(path, driver, suite, specs)) }
      rows.push(row)
      console.log(`${server}, ${driver}, ${suite}: ${row.passed} passed, ${row.failed} failed, ${row.seconds} s`)
    }
  }
}
console.log()
print([
  ['server', 'driver', 'suite', 'passed', 'pending', 'failed', 'seconds'],
  ...rows.map(({ server, driver, suite, passed, pending, failed, seconds }) =>
    [server, driver, suite, passed, pending, failed, seconds].map(String),
  ),
])
process.exitCode = rows.some(({ failed }) => failed > 0) ? 1 : 0
