/** Runs every benchmark in a process of its own, one after the other. */
import { spawnSync } from 'node:child_process'

for (const name of ['throughput', 'records']) {
  console.log(`\n${name}\n${'-'.repeat(name.length)}`)
  const file = new URL(`./${name}.bench.ts`, import.meta.url).pathname
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', file], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
