/**
 * The Lua scripts: loads scripts/*.lua, puts before each the key functions (keys.ts) and the shared functions
 * (scripts/functions/*.lua) that it names, and runs them by their hash. Knows no meaning of any answer.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { LUA_KEYS } from './keys.ts'
import type { RedisConnection } from './redis-client.ts'

export const SCRIPT_NAMES = [
  'enqueue',
  'take',
  'begin',
  'run-by-id',
  'renew',
  'settle',
  'settle-and-take',
  'requeue',
  'reclaim',
  'promote',
  'retry',
  'cancel',
  'delete-record',
  'save-record',
  'purge',
  'watch',
  'ensure-queue',
  'heartbeat',
  'forget-worker',
  'inspect-keys',
  'inspect-records',
  'inspect-index',
  'inspect-entries',
  'inspect-pending',
  'inspect-consumers',
  'inspect-workers',
  'inspect-totals',
  'repair-record',
  'repair-row',
  'repair-entry',
  'repair-group',
  'repair-consumer',
  'repair-worker',
  'repair-lifetime',
  'brief',
] as const

export type ScriptName = (typeof SCRIPT_NAMES)[number]

export interface Script {
  readonly name: ScriptName
  readonly text: string
  readonly sha: string
}

const FOLDER = new URL('./scripts/', import.meta.url)

/** What may stand before a script, in the order in which it must stand there: keys first, then functions that use them. */
function fragments(): [name: string, text: string][] {
  const functions = readdirSync(new URL('functions/', FOLDER)).map((file): [string, string] => {
    const name = file.replace(/\.lua$/, '').replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
    return [name, readFileSync(new URL(`functions/${file}`, FOLDER), 'utf8').trimEnd()]
  })
  // A function stands behind those that it calls: noteError, writeIndex and addEntry are called by the others.
  const order = [
    ...[
      'whole',
      'scoreOf',
      'isAfter',
      'entryState',
      'noteError',
      'timeTexts',
      'writeIndex',
      'writeIndexes',
      'addEntry',
      'removeEntries',
      'dropEntry',
      'countIn',
      'joinArgs',
      'attemptsMade',
      'readRecord',
    ],
    ...['place', 'unplace', 'failRecord', 'startAttempt', 'beginEntries', 'takeEntries', 'settleItems'],
  ]
  functions.sort(([a], [b]) => order.indexOf(a) - order.indexOf(b))
  return [...Object.entries(LUA_KEYS), ...functions]
}

function assemble(name: ScriptName, parts: readonly [string, string][]): Script {
  const body = readFileSync(new URL(`${name}.lua`, FOLDER), 'utf8').trimEnd()
  let text = body
  // From the last fragment to the first: what a function names is found after the function itself was taken in.
  for (const [word, fragment] of parts.toReversed()) {
    if (new RegExp(`\\b${word}\\b`).test(text.replace(/^\s*--.*$/gm, ''))) text = `${fragment}\n${text}`
  }
  return { name, text, sha: createHash('sha1').update(text).digest('hex') }
}

let loaded: ReadonlyMap<ScriptName, Script> | undefined

/** Every script, assembled; read from disk once a process, at first use. */
export function scripts(): ReadonlyMap<ScriptName, Script> {
  if (!loaded) {
    const parts = fragments()
    loaded = new Map(SCRIPT_NAMES.map((name) => [name, assemble(name, parts)]))
  }
  return loaded
}

/** A call of a script: KEYS[1] is `leases` and routes the call, everything else travels in ARGV. */
export interface ScriptCall {
  readonly name: ScriptName
  readonly args: readonly string[]
}

function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.includes('NOSCRIPT')
}

/** Runs scripts of one backend on whatever connection it is handed. */
export class ScriptRunner {
  readonly #keyCount: string
  readonly #head: readonly string[]

  /**
   * @param guard on a cluster: a key of the same slot that is never there. While the slot moves, its keys are on two nodes, and a
   *   script would find half of them; a call that names a key which is missing is refused as a whole (TRYAGAIN) until the slot
   *   has moved, and the driver, or the caller, comes again.
   */
  constructor(keys: { readonly root: string; readonly leases: string }, group: string, guard?: string) {
    this.#keyCount = guard === undefined ? '1' : '2'
    this.#head = [keys.leases, ...(guard === undefined ? [] : [guard]), keys.root, group]
  }

  async run(connection: RedisConnection, call: ScriptCall): Promise<unknown> {
    const script = this.#script(call.name)
    try {
      return await connection.evalsha(script.sha, this.#keyCount, ...this.#head, ...call.args)
    } catch (error) {
      if (!isNoScript(error)) throw error
      return await connection.eval(script.text, this.#keyCount, ...this.#head, ...call.args)
    }
  }

  #script(name: ScriptName): Script {
    const script = scripts().get(name)
    if (!script) throw new TypeError(`expected the name of a script, got: ${name}`)
    return script
  }
}
