/**
 * Wrong implementations that the fault table must catch: `npm run mutants -- [--row F5] [--only 'part of a name']`.
 * Each is a text that stands exactly once in `lib` and once in `dist` (or once in `spec`), replaced in a copy of the project in a
 * temporary folder, where the specs of its row must fail. A text that is not there once is stale, which fails; so does a mutant
 * that stays green. Nothing here touches the project itself; writes a table, and mutants.json. `--check` runs none of them and only
 * says which are stale.
 */
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { clearTimeout, setTimeout } from 'node:timers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/**
 * `text` matches whatever its white space; `cases` narrows the row to the cases that must fail; `where` says what is wrong if it is
 * not the package but the server that the row sets up.
 * @typedef {{ row: string, wrong: string, text: string, instead: string, cases?: string, size?: 'nightly', where?: 'spec' }} Mutant
 */

/** @type {readonly Mutant[]} */
const MUTANTS = [
  {
    row: 'F0',
    wrong: 'no lease is renewed',
    text: 'this.#renewal.at(earliestMs - leaseMs * (1 - RENEW_AFTER))',
    instead: 'void earliestMs',
  },
  {
    row: 'F0',
    wrong: 'only the default queue is read',
    text: 'settings.queues ?? (await queue.queueNames())',
    instead: "settings.queues ?? ['default']",
  },
  {
    row: 'F0',
    wrong: 'a promoted record does not know its entry',
    text: "redis.call('HSET', recordKey(id), 'entryId', entryId)",
    instead: "redis.call('HSET', recordKey(id), 'entryId', '')",
  },
  {
    row: 'F1',
    wrong: 'what a dead worker left is taken over and handed to nobody',
    text: 'rows[#rows + 1] = startAttempt(record, now, call, leaseMs, workerId, extra)',
    instead: 'startAttempt(record, now, call, leaseMs, workerId, extra)',
  },
  {
    row: 'F2',
    wrong: 'only the own list is looked through',
    text: 'streams.slice(Math.max(0, at))',
    instead: 'streams.slice(0, 0)',
  },
  {
    row: 'F2',
    wrong: 'consumers of the dead stay for ever',
    text: "redis.pcall('XGROUP', 'DELCONSUMER', streams[i], group, consumer)",
    instead: "redis.pcall('PING')",
  },
  {
    row: 'F3',
    wrong: 'a record whose worker died is FAILED at once',
    text: 'crashes > crashLimit then',
    instead: 'crashes > 0 then',
  },
  {
    row: 'F4',
    wrong: 'enqueue does not look for a record of that id',
    text: "if seen[id] or (someExist and call('EXISTS', records[n]) == 1) then",
    instead: 'if seen[id] then',
  },
  {
    row: 'F4',
    wrong: 'a repeated settle is stale',
    text: "(v[1] == 'SUCCESSFUL' or v[1] == 'FAILED') then",
    instead: 'false then',
  },
  {
    row: 'F4',
    wrong: 'a repeated retry is refused',
    text: 'elseif record.requestId == requestId or seen[record.id] then',
    instead: 'elseif seen[record.id] then',
  },
  {
    row: 'F4',
    wrong: 'what the own list names is not begun again',
    text: "if heldToken == wanted or (own and holder and holder == string.match(call, '^(.*)%.%d+$')) then",
    instead: 'if heldToken == wanted then',
  },
  {
    row: 'F5',
    wrong: 'settle does not compare tokens',
    text: "elseif isOwn and v[1] == 'RUNNING' then",
    instead: "elseif token ~= '' then",
    cases: 'frozen worker settles',
  },
  {
    row: 'F6',
    wrong: "leases are renewed on the handler's event loop",
    text: 'if (!this.#server)',
    instead: 'if (this.#server)',
    cases: 'holds the event loop',
  },
  {
    row: 'F6',
    wrong: "renewal ignores the attempt's own limit of time",
    text: 'held.stopAtMs > startedMs',
    instead: 'held.stopAtMs > 0',
    cases: 'own limit of time',
  },
  {
    row: 'F7',
    wrong: 'no watchdog over the blocking read',
    text: '}, blockMs + WATCHDOG_MS)',
    instead: '}, blockMs + 3_600_000)',
    cases: 'read again',
  },
  {
    row: 'F7',
    wrong: 'producers wait for ever',
    text: "if (this.#role !== 'producer' && this.#role !== 'worker') return await commands(client)",
    instead: "if (this.#role !== 'worker') return await commands(client)",
    cases: 'read again',
  },
  {
    row: 'F7',
    wrong: 'entries are read without a pending row',
    text: "'COUNT', '1', 'BLOCK', String(blockMs), 'STREAMS'",
    instead: "'COUNT', '1', 'BLOCK', String(blockMs), 'NOACK', 'STREAMS'",
    cases: 'read again',
  },
  {
    row: 'F7',
    wrong: 'the connection that listens is never asked whether it lives',
    text: "else if (client?.status === 'ready') void this.#ask(client)",
    instead: 'else void client?.status',
    cases: 'hears of',
  },
  {
    row: 'F8',
    wrong: 'nobody looks for what a lost answer named',
    text: 'return await this.#storage.recover(',
    instead: 'return { begun: [], passed: 0 }; await this.#storage.recover(',
    cases: 'own list',
  },
  {
    row: 'F9',
    wrong: 'stale ones are looked for before what ended is settled',
    text: 'await this.#settleEnded() if (state.mustRecover)',
    instead: 'if (state.mustRecover)',
    cases: 'longer than a lease',
  },
  {
    row: 'F10',
    wrong: 'more is asked for than there are free slots',
    text: 'Math.min(this.#free(ended.length), this.#half)',
    instead: 'this.#half',
    cases: 'delay',
    size: 'nightly',
  },
  {
    row: 'F10',
    wrong: 'a take that was given up is accepted when it answers late',
    text: 'else taken = ended.length === 0 ? await this.#take(count) : await this.#outcomes.settleAndTake(ended, count)',
    instead: `else if (ended.length > 0) taken = await this.#outcomes.settleAndTake(ended, count)
      else {
        const late = this.#take(count)
        taken = await Promise.race([late, new Promise((resolve) => setTimeout(resolve, 100))])
        if (!taken) void late.then(({ begun }) => this.#hands.begin(begun, sentAtMs), () => undefined)
      }`,
    cases: 'delay',
    size: 'nightly',
  },
  {
    row: 'F11',
    wrong: 'a lease that cannot be renewed is kept',
    text: 'kept.deadlineMs <= now',
    instead: 'kept.deadlineMs <= 0',
    size: 'nightly',
  },
  {
    row: 'F13',
    wrong: 'fences count from one',
    text: 'local nowText, fenceText = timeTexts(now)',
    instead: "local nowText, fenceText = timeTexts(now), '1'",
  },
  {
    row: 'F14',
    wrong: 'the log is written through once a second',
    text: "'--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0'",
    instead: "'--appendfsync', 'everysec', '--auto-aof-rewrite-percentage', '0'",
    size: 'nightly',
    where: 'spec',
  },
  {
    row: 'F15',
    wrong: "leases are counted on the process's clock",
    text: 'Number(process.hrtime.bigint() /',
    instead: 'Number((BigInt(Date.now()) * 1000000n) /',
  },
  {
    row: 'F16',
    wrong: 'a renewal that is not answered in time counts as lost',
    text: "this.#logger.warn(facts, 'leases could not be renewed; trying again')",
    instead: 'for (const kept of this.#kept.values()) this.#lose(kept)',
    cases: 'paused for all',
  },
  {
    row: 'F16',
    wrong: 'settle does not compare tokens',
    text: "elseif isOwn and v[1] == 'RUNNING' then",
    instead: "elseif token ~= '' then",
    cases: 'paused for all',
  },
  {
    row: 'F17',
    wrong: 'too few replicas is an error of another kind',
    text: '[/NOREPLICAS/,',
    instead: '[/NEVER/,',
  },
  {
    row: 'F18',
    wrong: 'a refusal by a replica ends the loop',
    text: 'news.failed(error) state.mustRecover = true',
    instead: 'news.failed(error)\nif (/UNBLOCKED|READONLY/.test(String(error))) return\nstate.mustRecover = true',
    cases: 'loses its role',
  },
  {
    row: 'F18',
    wrong: 'a reader that a replica refused reads no more',
    text: 'this.#pause() news.failed(error)',
    instead:
      'if (/UNBLOCKED|READONLY/.test(String(error))) this.#paused = true\nelse this.#pause()\nnews.failed(error)',
    cases: 'loses its role',
  },
  {
    row: 'F19',
    wrong: 'a master that became a replica is not left',
    text: 'says(/READONLY|UNBLOCKED/)',
    instead: 'says(/NEVER/)',
    cases: 'nothing is lost, with iovalkey',
    size: 'nightly',
  },
  {
    row: 'F20',
    wrong: 'a key of the scripts lacks the hash tag',
    text: "local cellsKey = ARGV[1] .. ${luaExpression('cells')}",
    instead: "local cellsKey = ${luaExpression('cells')}",
    cases: 'every node',
  },
  {
    row: 'F20',
    wrong: 'a key in KEYS lacks the hash tag',
    text: '`${this.root}never`',
    instead: "'never'",
    cases: 'every node',
  },
  {
    row: 'F21',
    wrong: 'the first write of a settle is an HSET',
    text: 'if #todo > 0 then writeIndexes(from)',
    instead: `if #todo > 0 then
      for k = 1, #todo, 3 do redis.call('HSET', todo[k + 2], 'lastMove', 'settle ' .. ARGV[todo[k]]) end
      writeIndexes(from)`,
  },
  {
    row: 'F22',
    wrong: 'records live for a time from their enqueue on',
    text: 'cell[size + 1], cell[size + 2] = nowText, id',
    instead: "cell[size + 1], cell[size + 2] = nowText, id call('EXPIRE', records[n], 604800)",
    cases: 'evicts what expires',
  },
  {
    row: 'F23',
    wrong: 'no fallback for a script that the server forgot',
    text: 'says(/NOSCRIPT/)',
    instead: 'says(/NEVER/)',
  },
  {
    row: 'F24',
    wrong: 'a heartbeat that is refused ends the worker',
    text: 'await backend.storage.heartbeat({ consumer: queue.consumer, fields: fieldsOf(report) })',
    instead:
      'await backend.storage.heartbeat({ consumer: queue.consumer, fields: fieldsOf(report) }).catch(() => process.exit(1))',
    size: 'nightly',
  },
  {
    row: 'F25',
    wrong: 'a lost group is made anew from the end',
    text: "redis.pcall('XGROUP', 'CREATE', bandStreamKey(ARGV[i], band), group, '0', 'MKSTREAM')",
    instead: "redis.pcall('XGROUP', 'CREATE', bandStreamKey(ARGV[i], band), group, '$', 'MKSTREAM')",
    cases: 'FLUSHALL',
  },
  {
    row: 'F25',
    wrong: 'the idle side is not looked at',
    text: 'if idle >= idleMs then',
    instead: 'if false then',
    cases: 'dead owner',
  },
  {
    row: 'F26',
    wrong: 'crashes are not counted',
    text: 'local crashes = record.crashes + (waited and 0 or 1)',
    instead: 'local crashes = 1',
  },
  {
    row: 'F27',
    wrong: 'a hand-back counts as an attempt',
    text: 'local attempts = math.max(record.attempts - 1, 0)',
    instead: 'local attempts = record.attempts',
    cases: 'longer than the drain',
  },
  {
    row: 'F27',
    wrong: 'nothing is handed back',
    text: "elseif record.status == 'RUNNING' and record.leaseToken == token then",
    instead: 'elseif false then',
    cases: 'longer than the drain',
  },
  {
    row: 'F28',
    wrong: 'promotion without a limit',
    text: "redis.pcall('ZRANGEBYSCORE', delayed, '-inf', string.format('%.0f', nowMs), 'LIMIT', 0, 100)",
    instead: "redis.pcall('ZRANGEBYSCORE', delayed, '-inf', string.format('%.0f', nowMs), 'LIMIT', 0, 3000)",
  },
  {
    row: 'F29',
    wrong: 'each look for stale deliveries begins anew',
    text: 'this.#reclaimFrom = next',
    instead: 'this.#reclaimFrom = null',
    size: 'nightly',
  },
  {
    row: 'F29',
    wrong: 'a thousand pending rows a call',
    text: 'local page = 100',
    instead: 'local page = 1000',
    size: 'nightly',
  },
  {
    row: 'F30',
    wrong: 'a record that runs may be run by id as well',
    text: "or not (record.status == 'READY' or (allowRetry and record.status == 'FAILED')) then",
    instead: "or record.status == 'SUCCESSFUL' then",
    cases: 'many execute',
  },
  {
    row: 'F30',
    wrong: 'the delivery of a record that runs is acknowledged away',
    text: "else rows[#rows + 1] = { 'HELD', id } end",
    instead: "else rows[#rows + 1] = { 'DROPPED', id } dropped[#dropped + 1] = k end",
    cases: 'web process was executing',
  },
  {
    row: 'F31',
    wrong: 'a retry is written whoever holds the record',
    text: "elseif isOwn and v[1] == 'RUNNING' then",
    instead: "elseif token ~= '' then",
  },
  {
    row: 'F32',
    wrong: 'a record that runs is deleted',
    text: "elseif record.status == 'RUNNING' then answers[#answers + 1] = 'RUNNING'",
    instead: "elseif false then answers[#answers + 1] = 'RUNNING'",
  },
  {
    row: 'F35',
    wrong: "producers use the caller's own client",
    text: ': client.duplicate(overrides)',
    instead: ": role === 'producer' ? client : client.duplicate(overrides)",
    cases: 'iovalkey',
    size: 'nightly',
  },
  {
    row: 'F36',
    wrong: 'a heartbeat is written by a command that the page does not name',
    text: "redis.call('HSET', workerKey(consumer), unpack(ARGV, 4))",
    instead: "redis.call('HMSET', workerKey(consumer), unpack(ARGV, 4))",
    cases: 'sends no command',
  },
  {
    row: 'F37',
    wrong: 'what a listener rejects with is nobody’s',
    text: 'Promise.resolve(listener(result)).catch(failed)',
    instead: 'void listener(result)',
    cases: 'listeners',
  },
  {
    row: 'F38',
    wrong: 'an unknown task is handed back without a delay',
    text: 'if growing then',
    instead: 'if false then',
  },
]

const root = fileURLToPath(new URL('..', import.meta.url))
const PARTS = [
  'bin',
  'dist',
  'docs',
  'lib',
  'scripts',
  'spec',
  'views',
  '.mocharc.json',
  'package.json',
  'tsconfig.json',
]
/** A run that has not ended by then has not passed. */
const LONGEST_MS = 150_000

const { values: options } = parseArgs({
  options: { row: { type: 'string' }, only: { type: 'string' }, check: { type: 'boolean' } },
})
const chosen = MUTANTS.filter(
  ({ row, wrong, size }) =>
    (options.row === undefined
      ? options.check || size !== 'nightly' || process.env['FAULTS_SIZE'] === 'nightly'
      : row === options.row) && wrong.includes(options.only ?? ''),
)

/** @param {string} text @returns {RegExp} the text, whatever its white space, and with the semicolons that a compiler adds */
function patternOf(text) {
  const escaped = text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return new RegExp(escaped.replace(/\s+/g, ';?\\s+'), 'g')
}

/**
 * Where a text stands below a folder.
 * @param {string} folder @param {RegExp} pattern @returns {{ file: string, before: string }[]}
 */
function placesOf(folder, pattern) {
  /** @type {{ file: string, before: string }[]} */
  const places = []
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(js|ts|lua)$/.test(entry.name) || entry.name.endsWith('.d.ts')) continue
    const file = join(entry.parentPath, entry.name)
    const before = readFileSync(file, 'utf8')
    places.push(...Array.from(before.matchAll(pattern), () => ({ file, before })))
  }
  return places
}

/** @param {Mutant} mutant @returns {readonly string[]} the folders that hold its text */
const foldersOf = ({ where }) => (where ? [where] : ['lib', 'dist'])

/** Replaces the one place below a folder. @param {string} folder @param {Mutant} mutant @returns {string | undefined} why it could not */
function apply(folder, { text, instead }) {
  const pattern = patternOf(text)
  const places = placesOf(folder, pattern)
  const [place] = places
  if (places.length !== 1 || !place) return `its text stands ${places.length} times in ${basename(folder)}`
  writeFileSync(
    place.file,
    place.before.replace(pattern, () => instead),
  )
  return undefined
}

/** @param {string} folder @param {string} row @returns {string[]} the specs that have a case of that row */
function specsOf(folder, row) {
  const below = join(folder, 'spec/faults')
  return readdirSync(below)
    .filter((name) => name.endsWith('.spec.ts'))
    .map((name) => join(below, name))
    .filter((file) => new RegExp(`\\(${row}\\)['\x60]`).test(readFileSync(file, 'utf8')))
}

/** @param {string} folder @param {Mutant} mutant @returns {Promise<{ caught: boolean, why: string }>} */
async function run(folder, { row, cases, size }) {
  const report = join(folder, 'report.jsonl')
  const grep = cases === undefined ? `\\(${row}\\)$` : `${cases}.*\\(${row}\\)$`
  const mocha = join(folder, 'node_modules/mocha/bin/mocha.js')
  const args = [
    '--bail',
    '--reporter',
    join(folder, 'scripts/faults.reporter.mjs'),
    '-g',
    grep,
    ...specsOf(folder, row),
  ]
  const child = spawn(process.execPath, [mocha, ...args], {
    cwd: folder,
    stdio: 'ignore',
    detached: true,
    env: {
      ...process.env,
      FAULTS_REPORT: report,
      FAULTS_ROWS: row,
      FAULTS_CASES: cases ?? '',
      FAULTS_SIZE: size ?? 'pr',
      FAULTS_SEED: '1',
      FAULTS_PATIENCE_MS: '40000',
    },
  })
  const timer = setTimeout(() => {
    // The whole group: the run's servers and workers are in it.
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  }, LONGEST_MS)
  /** @type {NodeJS.Signals | null} */
  const signal = await new Promise((resolve) => child.once('exit', (_code, by) => resolve(by)))
  clearTimeout(timer)
  if (signal !== null) return { caught: true, why: 'it does not end' }
  const lines = (existsSync(report) ? readFileSync(report, 'utf8') : '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      /** @type {{ case?: string, state?: string, error?: string }} */
      const parsed = JSON.parse(line)
      return parsed
    })
  const ran = lines.filter((line) => line.case !== undefined)
  const failed = ran.find(({ state }) => state === 'failed')
  if (ran.length === 0) return { caught: false, why: 'no case ran' }
  return { caught: failed !== undefined, why: (failed?.error ?? 'every case passed').split('\n')[0] ?? '' }
}

if (options.check) {
  const stale = chosen.flatMap((mutant) => {
    const counts = foldersOf(mutant).map((part) => [part, placesOf(join(root, part), patternOf(mutant.text)).length])
    const wrong = counts.filter(([, length]) => length !== 1).map(([part, length]) => `${length} times in ${part}`)
    return wrong.length === 0 ? [] : [`stale  ${mutant.row}  ${mutant.wrong}: its text stands ${wrong.join(', ')}`]
  })
  for (const line of stale) console.error(line)
  console.log(`${chosen.length - stale.length} of ${chosen.length} mutants fit the code as it is`)
  process.exit(stale.length === 0 ? 0 : 1)
}

/** @type {{ row: string, wrong: string, caught: boolean, why: string, seconds: number }[]} */
const results = []
for (const mutant of chosen) {
  const startedAt = Date.now()
  const folder = mkdtempSync(join(tmpdir(), 'express-tasks-mutant-'))
  try {
    for (const part of PARTS) cpSync(join(root, part), join(folder, part), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    let stale
    for (const part of foldersOf(mutant)) stale ??= apply(join(folder, part), mutant)
    const { caught, why } = stale === undefined ? await run(folder, mutant) : { caught: false, why: `stale: ${stale}` }
    const { row, wrong } = mutant
    results.push({ row, wrong, caught, why: why.slice(0, 100), seconds: Math.round((Date.now() - startedAt) / 1_000) })
    console.log(`${caught ? 'caught' : 'MISSED'}  ${row}  ${wrong}  (${why.slice(0, 100)})`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
console.table(results)
const caught = results.filter((result) => result.caught).length
console.log(`${caught} of ${results.length} mutants caught`)
writeFileSync(join(root, 'mutants.json'), `${JSON.stringify({ caught, total: results.length, results }, null, 2)}\n`)
if (caught < results.length || results.length === 0) process.exitCode = 1
