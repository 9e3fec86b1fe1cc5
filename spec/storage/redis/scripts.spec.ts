/** The scripts as texts: headers, the clock, keys, what they must not use; and how they are run. */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { Keys, KEY_KINDS, LUA_KEYS, rootOf } from '../../../lib/storage/redis/keys.ts'
import { SCRIPT_NAMES, scriptOf, ScriptRunner } from '../../../lib/storage/redis/scripts.ts'
import type { RedisConnection } from '../../../lib/storage/redis/redis-client.ts'
import { sharedRedisServer } from '../../support/redis-server.ts'
import { CLOCK_LINE, TIME_LINE, withSpecClock } from './scripts/support.ts'

const FOLDER = new URL('../../../lib/storage/redis/scripts/', import.meta.url)
const FUNCTIONS = new URL('functions/', FOLDER)

function sources(folder: URL): [file: string, text: string][] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.lua'))
    .map((file) => [file, readFileSync(new URL(file, folder), 'utf8')])
}

/** Lua without its comments. */
function code(text: string): string {
  return text.replace(/--.*$/gm, '')
}

const SCRIPTS = sources(FOLDER)
const ALL = [...SCRIPTS, ...sources(FUNCTIONS)]

describe('the Lua scripts', () => {
  it('are the files of their folder, one for each name', () => {
    expect(SCRIPTS.map(([file]) => file)).to.have.members(SCRIPT_NAMES.map((name) => `${name}.lua`))
  })

  for (const [file, text] of SCRIPTS) {
    it(`say at the top of ${file} what it does, and its KEYS, ARGV, Returns, Repeat and Memory, in this order`, () => {
      const header = /^(?:--.*\n)+/.exec(text)?.[0] ?? ''
      const titles = [...header.matchAll(/^-- (KEYS|ARGV|Returns|Repeat|Memory) /gm)].map(([, title]) => title)
      expect(titles).to.deep.equal(['KEYS', 'ARGV', 'Returns', 'Repeat', 'Memory'])
      expect(header).to.match(/^-- [A-Z(].*\.\n/)
      expect(header).to.match(/^-- KEYS {4}leases$/m)
      expect(header).to.match(/^-- ARGV {4}root, group\b/m)
      expect(header).to.match(/^-- Repeat {2}\S.*[.;]$/m)
    })

    it(`name in ${file} the command of the first write, which decides what happens at maxmemory`, () => {
      const memory = /^-- Memory {2}(.*)$/m.exec(text)?.[1]
      expect(memory).to.match(/ZREM|XACK|XREADGROUP|XCLAIM|SADD|XADD|HSET|Nothing here needs memory/)
    })
  }

  it('open each shared function with a comment, and name it like its file', () => {
    for (const [file, text] of sources(FUNCTIONS)) {
      const name = file.replace('.lua', '').replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
      expect(text, file).to.match(/^-- [A-Z]/)
      expect(text, file).to.contain(`local function ${name}(`)
    }
  })

  it('ask for the time in one line, at most once; specs swap that line and no other', () => {
    for (const { name, text } of SCRIPT_NAMES.map(scriptOf)) {
      expect(text.split(TIME_LINE).length - 1, name).to.be.at.most(1)
      expect(code(text).match(/'TIME'/g)?.length ?? 0, name).to.equal(text.split(TIME_LINE).length - 1)
      const [shipped, tested] = [text.split('\n'), withSpecClock(text).split('\n')]
      expect(tested, name).to.have.lengthOf(shipped.length)
      const swapped = shipped.flatMap((line, index) => (line === tested[index] ? [] : [[line, tested[index]]]))
      expect(swapped, name).to.deep.equal(text.includes(TIME_LINE) ? [[TIME_LINE, CLOCK_LINE]] : [])
    }
  })

  it('spell no key: only the functions made by keys.ts join one', () => {
    for (const [file, text] of ALL) {
      for (const literal of code(text).match(/'[^']*'/g) ?? []) {
        for (const { pattern } of Object.values(KEY_KINDS)) {
          const start = pattern.replace(/<.*/, '')
          expect(literal.startsWith(`'${start}`) && start.endsWith(':'), `${file}: ${literal}`).to.equal(false)
          expect(literal === `'${pattern}'`, `${file}: ${literal}`).to.equal(false)
        }
      }
      expect(code(text), file).not.to.match(/ARGV\[1\] *\.\./)
      expect(code(text), file).not.to.match(/KEYS\[/)
    }
  })

  it('never decode a payload, and never turn a number into text in a way that loses digits', () => {
    for (const [file, text] of ALL) {
      expect(code(text), file).not.to.match(/cjson|cmsgpack|tostring/)
      expect(text, file).not.to.match(/^#!/)
    }
  })

  it('answer with a fresh table where one was filled element by element (ioredis-mock loses the others)', () => {
    for (const [file, text] of SCRIPTS) {
      const plain = [...code(text).matchAll(/^ *return (.*)$/gm)].map(([, answer = '']) => answer.replace(/ end$/, ''))
      const atTop = plain.filter((answer) => /^(rows|answers)$/.test(answer))
      expect(atTop, file).to.deep.equal([])
    }
  })

  it('stand behind every function that they name, and before none that they do not', () => {
    const names = [
      ...Object.keys(LUA_KEYS),
      ...sources(FUNCTIONS).map(([, text]) => /local function (\w+)\(/.exec(text)?.[1] ?? ''),
    ]
    for (const { name, text } of SCRIPT_NAMES.map(scriptOf)) {
      for (const word of names) {
        const defined = code(text).search(new RegExp(`local (function )?${word}\\b`))
        const used = code(text).search(new RegExp(`\\b${word}\\b`))
        if (used === -1) continue
        expect(defined, `${name}: ${word} is defined`).to.be.at.least(0)
        expect(used, `${name}: ${word} is defined before it is used`).to.be.greaterThan(defined)
        expect(
          code(text).match(new RegExp(`\\b${word}\\b`, 'g'))?.length,
          `${name}: ${word} is used`,
        ).to.be.greaterThan(1)
      }
    }
  })

  it('are each other’s strangers: no two have one hash', () => {
    expect(new Set(SCRIPT_NAMES.map(scriptOf).map(({ sha }) => sha)).size).to.equal(SCRIPT_NAMES.length)
  })
})

describe('ScriptRunner', () => {
  let redis: Redis
  let keys: Keys
  let runner: ScriptRunner

  beforeEach(async () => {
    redis = new Redis((await sharedRedisServer()).url)
    keys = new Keys(rootOf(`spec-${randomUUID()}`, 'default'))
    runner = new ScriptRunner(keys, 'workers')
  })

  afterEach(() => {
    redis.disconnect()
  })

  const connection = (): RedisConnection => redis as unknown as RedisConnection
  const enqueue = (id: string): { name: 'enqueue'; args: string[] } => ({
    name: 'enqueue',
    args: ['mail', 'send', '0', '', '1', '1', id, '[]'],
  })

  it('runs a script that the server does not know yet, or knows no more', async () => {
    for (const id of ['a', 'b']) {
      await redis.script('FLUSH')
      expect(await runner.run(connection(), enqueue(id))).to.have.lengthOf(2)
      expect(await runner.run(connection(), enqueue(id))).to.have.property('2', 1)
    }
  })

  it('survives a script cache that is flushed all the time', async () => {
    const flusher = redis.duplicate()
    const stop = new AbortController()
    const flushing = (async () => {
      while (!stop.signal.aborted) await flusher.script('FLUSH')
    })()
    try {
      for (let index = 0; index < 100; index += 1) {
        expect(await runner.run(connection(), enqueue(`r${index}`))).to.have.lengthOf(2)
      }
    } finally {
      stop.abort()
      await flushing
      flusher.disconnect()
    }
  })

  it('refuses a name that is none', async () => {
    const call = { name: 'nonsense' as 'take', args: [] }
    const error = await runner.run(connection(), call).catch((reason: unknown) => reason)
    expect(error).to.be.an('error').with.property('message').that.contains('nonsense')
  })
})
