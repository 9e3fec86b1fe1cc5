/**
 * Runs rows of the fault table and shows what they measured: `npm run faults -- [--row F5,F6] [--size pr|nightly] [--seed 1]`.
 * Writes a table, and all figures as JSON into a file (faults-<size>.json, or --out). Fails when a case failed, when a row that was
 * asked for has no case, and when a figure is missing. Asserts nothing itself: the specs in spec/faults do.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/** @typedef {{ row: string, seed: number, verdict: string, skipped?: string, recoveryMs?: { max?: number, allowed?: number }, [figure: string]: unknown }} Figures */
/** @typedef {{ case: string, state: 'passed' | 'failed' | 'skipped', error?: string }} Case */

const root = fileURLToPath(new URL('..', import.meta.url))

/** Every row has these; without them it has proven nothing. */
const REQUIRED = [
  ...['row', 'run', 'seed', 'server', 'driver', 'calibration', 'wallSeconds', 'acknowledged', 'executed', 'lost'],
  ...['duplicates', 'verdict'],
]

const { values: options } = parseArgs({
  options: {
    row: { type: 'string', multiple: true },
    size: { type: 'string', default: 'pr' },
    seed: { type: 'string' },
    out: { type: 'string' },
  },
})
if (options.size !== 'pr' && options.size !== 'nightly') {
  console.error(`expected --size to be pr or nightly, got: ${options.size}`)
  process.exit(2)
}
const seed = Number(options.seed ?? Math.floor(Math.random() * 1e6))
const wanted = options.row?.flatMap((rows) => rows.split(','))

/** @param {unknown} title @returns {string[]} */
const rowsIn = (title) => /\(((?:F\d+(?:, )?)+)\)$/.exec(String(title))?.[1]?.split(', ') ?? []
/** @param {string} row */
const number = (row) => Number(row.slice(1))

const folder = mkdtempSync(join(tmpdir(), 'express-tasks-faults-report-'))
const report = join(folder, 'report.jsonl')
const mocha = join(root, 'node_modules/mocha/bin/mocha.js')
const reporter = join(root, 'scripts/faults.reporter.mjs')
const { status } = spawnSync(
  process.execPath,
  [mocha, '--reporter', reporter, ...['-g', '\\(F\\d+(, F\\d+)*\\)$'], 'spec/faults/**/*.spec.ts'],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      FAULTS_REPORT: report,
      FAULTS_SIZE: options.size,
      FAULTS_SEED: String(seed),
      ...(wanted && { FAULTS_ROWS: wanted.join(',') }),
    },
  },
)
const lines = (existsSync(report) ? readFileSync(report, 'utf8') : '')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => {
    /** @type {Record<string, unknown>} */
    const parsed = JSON.parse(line)
    return parsed
  })
rmSync(folder, { recursive: true, force: true })

const figures = lines.filter((line) => 'row' in line).map((line) => /** @type {Figures} */ (line))
const cases = lines.filter((line) => 'case' in line).map((line) => /** @type {Case} */ (/** @type {unknown} */ (line)))
const seconds = /** @type {number | undefined} */ (lines.find((line) => 'seconds' in line)?.['seconds'])

const rows = wanted ?? [...new Set(cases.flatMap(({ case: title }) => rowsIn(title)))]
rows.sort((a, b) => number(a) - number(b))

/** @type {string[]} */
const problems = []
const table = rows.map((row) => {
  const mine = cases.filter(({ case: title }) => rowsIn(title).includes(row))
  const told = figures.filter((line) => line.row === row)
  const failed = mine.filter(({ state }) => state === 'failed')
  const skipped = told.find((line) => line.skipped)?.skipped
  if (mine.length === 0) problems.push(`${row}: no case of that row in this size`)
  for (const { case: title, error } of failed) problems.push(`${row}: ${title}: ${error?.split('\n')[0] ?? ''}`)
  if (skipped !== undefined && process.env['CI']) problems.push(`${row}: skipped where CI is set: ${skipped}`)
  if (told.length === 0 && mine.length > 0) problems.push(`${row}: it measured nothing`)
  for (const line of told) {
    const missing = line.skipped === undefined ? REQUIRED.filter((name) => !(name in line)) : []
    if (missing.length > 0) problems.push(`${row}: figures are missing: ${missing.join(', ')}`)
  }
  /** @param {string} name */
  const sum = (name) => told.reduce((total, line) => total + Number(line[name] ?? 0), 0)
  const recovery = Math.max(...told.map((line) => line.recoveryMs?.max ?? -1))
  const allowed = Math.max(...told.map((line) => line.recoveryMs?.allowed ?? -1))
  return {
    row,
    cases: mine.length,
    seconds: Number(sum('wallSeconds').toFixed(1)),
    acknowledged: sum('acknowledged'),
    executed: sum('executed'),
    lost: sum('lost'),
    duplicates: sum('duplicates'),
    stale: sum('staleSettlesRejected'),
    faults: sum('faultsInjected'),
    bit: sum('faultsThatBit'),
    'recovery ms (limit)': recovery < 0 ? '' : `${recovery} (${allowed})`,
    verdict: failed.length > 0 ? 'failed' : skipped !== undefined ? 'skipped' : mine.length > 0 ? 'passed' : 'none',
  }
})
console.table(Object.fromEntries(table.map(({ row, ...rest }) => [row, rest])))
const machine = `${cpus().length} cores, Node ${process.versions.node}`
console.log(
  `${rows.length} rows, ${cases.length} cases, ${seconds ?? '?'} s, size ${options.size}, seed ${seed}, ${machine}`,
)
const out = options.out ?? join(root, `faults-${options.size}.json`)
writeFileSync(
  out,
  `${JSON.stringify({ size: options.size, seed, seconds, machine, rows: figures, cases, problems }, null, 2)}\n`,
)
console.log(`Figures: ${out}`)
for (const problem of problems) console.error(problem)
if (status !== 0 || problems.length > 0) process.exitCode = 1
