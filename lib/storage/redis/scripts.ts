/**
 * The Lua scripts: loads scripts/*.lua, puts before each the key functions (keys.ts) and the shared functions
 * (scripts/functions/*.lua) that it names, and runs them by their hash. Knows no meaning of any answer.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { BANDS } from '../storage.ts'
import { isNoScript } from './driver-errors.ts'
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

const LUA_BANDS = `local bands = { ${BANDS.map((band) => `'${band}'`).join(', ')} }`

/** What a script may name: keys, and functions that use them. */
interface Fragment {
  readonly text: string
  /** The fragments that it names itself. */
  readonly names: readonly string[]
}

function fragments(): ReadonlyMap<string, Fragment> {
  const functions = readdirSync(new URL('functions/', FOLDER)).map((file): [string, string] => {
    const name = file.replace(/\.lua$/, '').replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
    return [name, readFileSync(new URL(`functions/${file}`, FOLDER), 'utf8').trimEnd()]
  })
  const texts = new Map([...Object.entries(LUA_KEYS), ['bands', LUA_BANDS], ...functions])
  const all = [...texts.keys()]
  return new Map([...texts].map(([name, text]) => [name, { text, names: namesIn(text, all) }]))
}

function namesIn(text: string, all: readonly string[]): string[] {
  const code = text.replace(/^\s*--.*$/gm, '')
  return all.filter((name) => new RegExp(`\\b${name}\\b`).test(code))
}

/** Before the script stands all that it names, each once, and behind what it names itself. */
function assemble(name: ScriptName, parts: ReadonlyMap<string, Fragment>): Script {
  const body = readFileSync(new URL(`${name}.lua`, FOLDER), 'utf8').trimEnd()
  const texts: string[] = []
  const taken = new Set<string>()
  const take = (names: readonly string[]): void => {
    for (const each of names) {
      const part = parts.get(each)
      if (!part || taken.has(each)) continue
      taken.add(each)
      take(part.names)
      texts.push(part.text)
    }
  }
  take(namesIn(body, [...parts.keys()]))
  const text = [...texts, body].join('\n')
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
