/**
 * The benchmark: this package, its peers, and bare Redis commands, in turn, each measurement in a fresh process on one server.
 * Usage: npm run bench -- [--tasks 20000] [--rounds 3] [--contender ours,bullmq] [--scenario single,batch,alone,latency,crowd]
 *                         [--server "--appendonly yes"] [--part main,aof,growth,records] [--write]
 */
import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { startRedisServer } from '../spec/support/redis-server.ts'
import { CONTENDERS, loadContender, runsHere } from './contenders/contender.ts'
import type { ContenderName } from './contenders/contender.ts'
import { NODE } from './support/processes.ts'
import { Comparison } from './support/comparison.ts'
import { play, SCENARIO_NAMES } from './support/scenarios.ts'
import type { ScenarioName } from './support/scenarios.ts'
import { ServerWatch } from './support/server-figures.ts'

const { values: flags } = parseArgs({
  options: {
    tasks: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '3' },
    contender: { type: 'string', default: CONTENDERS.join(',') },
    scenario: { type: 'string', default: SCENARIO_NAMES.join(',') },
    part: { type: 'string', default: 'main,aof,growth,records' },
    server: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
  },
})
const count = Number(flags.tasks)
const scenarios = flags.scenario.split(',') as ScenarioName[]
const asked = flags.contender.split(',') as ContenderName[]
const node = execFileSync(NODE, ['-p', 'process.versions.node'], { encoding: 'utf8' }).trim()
const contenders = asked.filter((name) => runsHere(name, node))
for (const name of asked) {
  if (!contenders.includes(name)) console.log(`${name} is left out: it needs Node 22.19 (set BENCH_NODE), got: ${node}`)
}

const report = new Comparison(node)
for (const name of contenders) {
  // Loaded here for what it says of itself alone, where this Node can.
  if (runsHere(name)) report.introduce(name, await loadContender(name))
}

interface Part {
  readonly title: string
  readonly count: number
  readonly rounds: number
  readonly contenders: readonly ContenderName[]
  readonly scenarios: readonly ScenarioName[]
  readonly serverArgs: readonly string[]
}

async function run(name: string, part: Part): Promise<void> {
  await using server = await startRedisServer({ args: part.serverArgs })
  const watch = new ServerWatch(server.url)
  report.begin(name, part.title, part.count, `${server.product} ${server.version}`)
  for (let round = 1; round <= part.rounds; round += 1) {
    const order = round % 2 === 1 ? part.contenders : part.contenders.toReversed()
    for (const scenario of part.scenarios) {
      for (const contender of order) {
        const turn = { contender, url: server.url, watch, count: part.count }
        report.add(name, contender, await play(scenario, turn))
      }
      console.error(`${name}, round ${round} of ${part.rounds}: ${scenario}`)
    }
  }
  watch.close()
  report.print(name)
}

const two = contenders.filter((name) => name === 'ours' || name === 'bullmq')
const serverArgs = flags.server === '' ? [] : flags.server.split(' ')
const AOF = ['--appendonly', 'yes', '--appendfsync', 'everysec']
const parts: Record<string, () => Promise<void>> = {
  main: () =>
    run('main', { title: 'persistence off', count, rounds: Number(flags.rounds), contenders, scenarios, serverArgs }),
  aof: () => {
    const only: ScenarioName[] = ['single', 'batch']
    return run('aof', { title: 'AOF everysec', count, rounds: 3, contenders: two, scenarios: only, serverArgs: AOF })
  },
  growth: () => {
    const title = 'ten times as many'
    return run('growth', { title, count: count * 10, rounds: 1, contenders: two, scenarios: ['batch'], serverArgs })
  },
  records: () => {
    const file = new URL('./records.bench.ts', import.meta.url).pathname
    const args = ['--import', 'tsx', file]
    report.records = execFileSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
    console.log(report.records)
    return Promise.resolve()
  },
}
for (const name of flags.part.split(',')) {
  const part = parts[name]
  if (!part) throw new Error(`expected --part to be of ${Object.keys(parts).join(', ')}, got: ${name}`)
  await part()
}
if (flags.write) await report.write(new URL('./', import.meta.url))
