/**
 * Rows of the fault table: a case names its row at the end of its title, "(F5)", and `npm run faults -- --row F5` runs no other.
 * Sizes, the seed, and the figures of each row: one line on the console and, where asked for, one JSON object in a file.
 */
import { createHash } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import type { AsyncFunc, Context } from 'mocha'

/** Sizes of the nightly run, for those who ask for it. */
export const NIGHTLY = process.env['FAULTS_SIZE'] === 'nightly'
export const sized = <T>(small: T, nightly: T): T => (NIGHTLY ? nightly : small)

/** A lease that nobody who is alive may lose: so many seconds, and up to four times as many where processes wait for a core. */
export const easyLeaseSeconds = (seconds: number): number =>
  Math.ceil(seconds * Math.min(4, Math.max(1, (loadavg()[0] ?? 0) / cpus().length / 2)))

/** Whatever a run leaves to chance follows from it; printed with every row. */
export const SEED = Number(process.env['FAULTS_SEED'] ?? Math.floor(Math.random() * 1e6))

/** Numbers in [0, 1) that follow from the seed alone; each caller brings a name, so that cases side by side do not mix. */
export function randomOf(name: string): () => number {
  let state = createHash('sha256').update(`${SEED} ${name}`).digest().readInt32LE()
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const wanted = process.env['FAULTS_ROWS']?.split(',')
/** A part of the title, for those who want less than a row. */
const cases = process.env['FAULTS_CASES'] ?? ''

/** Whether a case is asked for, by the rows at the end of its title. */
export function isWanted(title: string): boolean {
  if (!title.includes(cases)) return false
  const rows = /\(((?:F\d+(?:, )?)+)\)$/.exec(title)?.[1]?.split(', ')
  return wanted === undefined || (rows?.some((row) => wanted.includes(row)) ?? false)
}

/** A case of the fault table, where its row is asked for. */
export function row(title: string, run: AsyncFunc): void {
  if (isWanted(title)) it(title, run)
}

/** One that is too long, or asks too much of a machine, for every run. */
export function nightlyRow(title: string, run: AsyncFunc): void {
  if (NIGHTLY) row(title, run)
}

/** The longest that queues may take to drain; shorter where what is run is known to be wrong. */
export const PATIENCE_MS = Number(process.env['FAULTS_PATIENCE_MS'] ?? Infinity)

/** What a row measured. */
export type Figures = Readonly<Record<string, unknown>>

/** Prints what a row measured, and keeps it where FAULTS_REPORT says. */
export function report(name: string, figures: Figures): void {
  const line = { row: name, run: sized('pr', 'nightly'), seed: SEED, ...figures }
  console.log(`      ${name} ${JSON.stringify(figures)}`)
  const file = process.env['FAULTS_REPORT']
  if (file) appendFileSync(file, `${JSON.stringify(line)}\n`)
}

/** A row that this machine cannot run: listed as skipped; in CI, where it must run, it fails. */
export function skipRow(context: Context, name: string, reason: string): never {
  report(name, { skipped: reason, verdict: 'skipped' })
  if (process.env['CI']) throw new Error(`expected row ${name} to run where CI is set, got: ${reason}`)
  return context.skip()
}
