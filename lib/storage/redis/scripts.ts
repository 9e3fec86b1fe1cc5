/**
 * The Lua scripts: reads scripts/*.lua once a process, puts before each the key functions (keys.ts) and the shared functions
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

/** What scripts are made of, as it was on disk when the first of them was asked for: later on there may be another version. */
interface Sources {
  readonly bodies: ReadonlyMap<ScriptName, string>
  /** What a script may name: keys, the bands, and functions, which may name others themselves. */
  readonly parts: ReadonlyMap<string, string>
}

let sources: Sources | undefined
const assembled = new Map<ScriptName, Script>()

/** A script behind all that it names. All are read with the first; each is put together and hashed at its first use. */
export function scriptOf(name: ScriptName): Script {
  let script = assembled.get(name)
  if (!script) {
    sources ??= readSources()
    script = assemble(name, sources)
    assembled.set(name, script)
  }
  return script
}

function readSources(): Sources {
  const read = (file: string): string => readFileSync(new URL(file, FOLDER), 'utf8').trimEnd()
  const functions = readdirSync(new URL('functions/', FOLDER)).map((file): [string, string] => {
    const name = file.replace(/\.lua$/, '').replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
    return [name, read(`functions/${file}`)]
  })
  const bands = `local bands = { ${BANDS.map((band) => `'${band}'`).join(', ')} }`
  return {
    bodies: new Map(SCRIPT_NAMES.map((name) => [name, read(`${name}.lua`)])),
    parts: new Map([...Object.entries(LUA_KEYS), ['bands', bands], ...functions]),
  }
}

/** Each part stands once, and behind those that it names itself. */
function assemble(name: ScriptName, { bodies, parts }: Sources): Script {
  const texts: string[] = []
  const taken = new Set<string>()
  const add = (text: string): void => {
    for (const word of wordsIn(text)) {
      const part = taken.has(word) ? undefined : parts.get(word)
      if (part === undefined) continue
      taken.add(word)
      add(part)
    }
    texts.push(text)
  }
  const body = bodies.get(name)
  if (body === undefined) throw new TypeError(`expected the name of a script, got: ${name}`)
  add(body)
  const text = texts.join('\n')
  return { name, text, sha: createHash('sha1').update(text).digest('hex') }
}

function wordsIn(text: string): readonly string[] {
  const code = text.replace(/^\s*--.*$/gm, '')
  return [...new Set(code.match(/\w+/g))]
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
    const script = scriptOf(call.name)
    try {
      return await connection.evalsha(script.sha, this.#keyCount, ...this.#head, ...call.args)
    } catch (error) {
      if (!isNoScript(error)) throw error
      return await connection.eval(script.text, this.#keyCount, ...this.#head, ...call.args)
    }
  }
}
