/** Prints where a benchmark ran and what it found; writes nothing but to the terminal. */
import { cpus, totalmem } from 'node:os'

export function printMachine(server: string): void {
  const model = cpus()[0]?.model ?? 'unknown processor'
  const gib = Math.round(totalmem() / 2 ** 30)
  console.log(`machine   ${cpus().length} x ${model}, ${gib} GiB`)
  console.log(`software  node ${process.version}, ${server}\n`)
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number): number => sorted[index] ?? NaN
  const median = (at(Math.floor((sorted.length - 1) / 2)) + at(Math.floor(sorted.length / 2))) / 2
  return { median, min: at(0), max: at(sorted.length - 1) }
}

/** Milliseconds of each of `rounds` calls. */
export async function timeEach(rounds: number, act: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    await act()
    times.push(performance.now() - start)
  }
  return times
}

export const ms = (value: number): string => `${value.toFixed(2)} ms`
export const perSecond = (count: number, elapsedMs: number): string =>
  `${Math.round((count / elapsedMs) * 1_000).toLocaleString('en')}/s`
