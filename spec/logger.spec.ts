import { expect } from 'chai'
import fc from 'fast-check'
import { pino } from 'pino'
import {
  cleanFacts,
  cleanText,
  consoleLogger,
  guardedLogger,
  isLogger,
  LOG_LEVELS,
  redactUrl,
  silentLogger,
} from '../lib/logger.ts'
import type { Logger } from '../lib/logger.ts'

const SECRET = 'pl4nted-s3cret'
const HOSTILE = [
  'line\nbreak\r\nand\rmore',
  '\u001b[31mred\u001b[0m \u009b1mbold \u001b]0;title\u0007 \u001b]8;;http://x\u001b\\link',
  '\u0000\u0007\u0008\u007f\u0085\u009f',
  'a\u2028b\u2029c',
  '\u202egnp.exe\u202c \u2066x\u2069 \u200e\u200f\u061c',
  '\ud800 lone',
  '<script>alert(1)</script>',
  'x'.repeat(100_000),
]
// eslint-disable-next-line no-control-regex -- control characters are what it looks for
const UNWANTED = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/

function collecting(level: 'debug' | 'info' | 'warn' | 'error' | 'silent' = 'debug'): {
  lines: string[]
  logger: Logger
} {
  const lines: string[] = []
  const logger = consoleLogger({ level, write: (line) => lines.push(line), clock: { now: () => 1_767_225_600_000 } })
  return { lines, logger }
}

const throws = (): never => {
  throw new Error('from a logger')
}

describe('redactUrl', () => {
  const cases: Record<string, string> = {
    'redis://user:pw@host:6379/0': 'redis://user:***@host:6379/0',
    'rediss://:pw@host': 'rediss://:***@host',
    'valkey://u:p%40w@host/1': 'valkey://u:***@host/1',
    'redis://:p/w?#@x@host:1/0': 'redis://:***@host:1/0',
    'https://u:p@host/path?x=1#y': 'https://u:***@host/path?x=1#y',
    'see http://u:p@a, then http://v:q@b/ (twice)': 'see http://u:***@a, then http://v:***@b/ (twice)',
    'redis://:p@a,redis://:q@b': 'redis://:***@a,redis://:***@b',
    '{"url":"redis://:p@host","mail":"a@b"}': '{"url":"redis://:***@host","mail":"a@b"}',
    "{ url: 'redis://:p@host' }": "{ url: 'redis://:***@host' }",
    'redis://host/0?password=p&family=4': 'redis://host/0?password=***&family=4',
    'REDIS://U:P@HOST': 'REDIS://U:***@HOST',
  }
  for (const [text, expected] of Object.entries(cases)) {
    it(`makes ${expected} of it`, () => expect(redactUrl(text)).to.equal(expected))
  }

  it('leaves text without a password as it is', () => {
    for (const text of [
      '',
      'a@b',
      'redis://localhost:6379/0',
      'redis://user@host',
      'https://example.com:8080/@user',
      'https://registry.example/@scope/name?x=a:b@c',
      'connect to redis://localhost, ask admin@example.com: now',
      '://',
      'redis://',
    ]) {
      expect(redactUrl(text)).to.equal(text)
    }
  })

  it('leaves no password of any URL, wherever it stands', () => {
    const word = fc.string({ maxLength: 10 }).map((text) => text.replace(/[\s"'<>`]|:\/\//g, ''))
    fc.assert(
      fc.property(word, word, fc.constantFrom('redis', 'rediss', 'valkey', 'valkeys'), (before, user, scheme) => {
        const name = user.replace(/[@:/]/g, '')
        expect(redactUrl(`${before} ${scheme}://${name}:${SECRET}@host:6379 after`)).not.to.include(SECRET)
      }),
    )
  })

  it('takes linear time', () => {
    for (const text of ['redis://', 'a.', '@', ':', 'http://a:', 'redis://a@'].map((part) =>
      part.repeat(100_000 / part.length),
    )) {
      const start = performance.now()
      redactUrl(`${text}://${text}`)
      expect(performance.now() - start).to.be.below(500)
    }
  })
})

describe('cleanText', () => {
  it('leaves one line without control characters, sequences and bidi controls, of bounded length', () => {
    for (const text of HOSTILE) {
      expect(cleanText(text)).not.to.match(UNWANTED)
      expect(cleanText(text)).to.have.length.at.most(2001)
    }
    expect(cleanText(HOSTILE[1] ?? '')).to.equal('red bold link')
    expect(cleanText('one\r\n  two\tthree')).to.equal('one two three')
    expect(cleanText('grüße 漢字 😀 👩‍👩‍👧')).to.equal('grüße 漢字 😀 👩‍👩‍👧')
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(cleanText(text)).not.to.match(UNWANTED)
      }),
    )
  })

  it('hides credentials', () => {
    for (const text of [
      `Authorization: Bearer ${SECRET}`,
      `authorization=Basic ${SECRET}==`,
      `headers { "authorization": "Bearer ${SECRET}" }`,
      `sent bearer ${SECRET} along`,
      `Cookie: a=1; session=${SECRET}; b="2"`,
      `set-cookie: sid=${SECRET}`,
      `\u001b[1mAuthor\u0000ization: Bearer ${SECRET}`,
      `redis://:${SECRET}@host`,
    ]) {
      expect(cleanText(text)).not.to.include(SECRET)
    }
  })
})

describe('cleanText at its length', () => {
  it('shows no part of a password that the cut goes through', () => {
    for (let before = 1960; before <= 2000; before += 1) {
      expect(cleanText(`${'x'.repeat(before)} redis://user:${SECRET}@host`)).not.to.include(SECRET.slice(0, 3))
    }
  })
})

describe('cleanFacts', () => {
  it('hides what a key says is secret, at every level', () => {
    const facts = {
      headers: {
        Authorization: SECRET,
        cookie: [SECRET],
        'set-cookie': { a: SECRET },
        'X-Api-Key': SECRET,
        host: 'here',
      },
      redisPassword: SECRET,
      id: 'a',
    }
    const copy = cleanFacts(facts)
    expect(JSON.stringify(copy)).not.to.include(SECRET)
    expect(copy).to.deep.include({ id: 'a' })
    expect(copy).to.have.nested.property('headers.host', 'here')
  })

  it('shows errors with their cause, times, and things of every kind', () => {
    const copy = cleanFacts({
      err: new Error('outer', { cause: new TypeError('inner') }),
      at: new Date(0),
      never: new Date(NaN),
      url: new URL(`redis://u:${SECRET}@host/0`),
      bytes: Buffer.from(SECRET),
      big: 1n,
      nan: NaN,
      fn: throws,
      symbol: Symbol('s'),
      none: undefined,
      yes: true,
      nothing: null,
    })
    expect(copy).to.deep.include({
      at: '1970-01-01T00:00:00.000Z',
      never: 'null',
      url: 'redis://u:***@host/0',
      bytes: `[${SECRET.length} bytes]`,
      big: '1',
      nan: 'NaN',
      fn: '[function]',
      symbol: 'Symbol(s)',
      none: 'undefined',
      yes: true,
      nothing: null,
    })
    expect(copy).to.have.nested.property('err.cause.message', 'inner')
    expect(copy).to.have.nested.property('err.name', 'Error')
  })

  it('bounds depth, width and circles', () => {
    const circle: { self?: object } = {}
    circle.self = circle
    const wide = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`key${i}`, 'x'.repeat(10_000)]))
    expect(JSON.stringify(cleanFacts(circle))).to.equal('{"self":{"self":{"self":{"self":"[object]"}}}}')
    expect(Object.keys(cleanFacts(wide))).to.have.length(51)
    expect(cleanFacts({ list: Array.from({ length: 60 }, () => 1) })['list']).to.have.length(51)
  })

  it('takes an own __proto__ for a key, and never throws', () => {
    const copy = cleanFacts(JSON.parse('{"__proto__":{"polluted":1}}') as object)
    expect(Object.keys(copy)).to.deep.equal(['__proto__'])
    expect(({} as { polluted?: unknown }).polluted).to.equal(undefined)
    const bomb = new Proxy({}, { get: throws, ownKeys: throws, getPrototypeOf: throws })
    expect(cleanFacts({ bomb, ok: 1, text: { toString: throws } })).to.include({ ok: 1 })
    expect(cleanFacts(bomb)).to.have.property('facts')
    const getter = Object.defineProperty({ ok: 1 }, 'bad', { get: throws, enumerable: true })
    expect(cleanFacts(getter)).to.deep.equal({ ok: 1, bad: '[a getter that throws]' })
  })
})

describe('consoleLogger', () => {
  it('writes time, level, message and facts on one line', () => {
    const { lines, logger } = collecting()
    logger.warn({ id: 'a b', attempt: 2 }, 'the lease is lost')
    expect(lines).to.deep.equal(['2026-01-01T00:00:00.000Z WARN  the lease is lost id="a b" attempt=2\n'])
  })

  it('writes its level and those above', () => {
    for (const [i, level] of LOG_LEVELS.entries()) {
      const { lines, logger } = collecting(level)
      for (const each of LOG_LEVELS) logger[each]({}, each)
      expect(lines).to.have.length(LOG_LEVELS.length - i)
    }
    const { lines, logger } = collecting('silent')
    logger.error({}, 'nothing')
    expect(lines).to.deep.equal([])
  })

  it('writes a line a call, whatever is in it, and no secret', () => {
    const { lines, logger } = collecting()
    const facts = HOSTILE.map((text) => ({ text, [text]: text, err: new Error(text), deep: { list: [text] } }))
    for (const [i, text] of HOSTILE.entries()) {
      logger.info(facts[i] ?? {}, text)
      logger.error({ headers: { authorization: SECRET }, url: `redis://:${SECRET}@host` }, `Cookie: ${SECRET}`)
    }
    expect(lines).to.have.length(2 * HOSTILE.length)
    for (const line of lines) {
      expect(line).to.match(/^[^\r\n]*\n$/)
      expect(line.slice(0, -1)).not.to.match(UNWANTED)
      expect(line).to.have.length.below(8_100)
      expect(line).not.to.include(SECRET)
    }
  })

  it('does not throw when it cannot write', () => {
    consoleLogger({ write: throws }).error({}, 'lost')
  })
})

describe('guardedLogger', () => {
  it('passes calls on, with the logger as this', () => {
    class Counting implements Logger {
      readonly seen: unknown[] = []
      debug(facts: object, message: string): void {
        this.seen.push('debug', facts, message)
      }
      info(): void {}
      warn(): void {}
      error(): void {}
    }
    const counting = new Counting()
    guardedLogger(counting).debug({ a: 1 }, 'here')
    expect(counting.seen).to.deep.equal(['debug', { a: 1 }, 'here'])
  })

  it('keeps throws and rejections away from the caller', async () => {
    const rejects = (): Promise<never> => Promise.reject(new Error('disk full'))
    const bad = { debug: throws, info: rejects as () => void, warn: throws } as unknown as Logger
    const logger = guardedLogger(bad)
    for (const level of LOG_LEVELS) logger[level]({}, 'x')
    // An unhandled rejection would fail the run one turn later.
    await new Promise((resolve) => setImmediate(resolve))
  })

  it('takes a pino logger, whose lines it is', () => {
    const lines: string[] = []
    const logger: Logger = pino({}, { write: (line: string) => void lines.push(line) })
    expect(isLogger(logger)).to.equal(true)
    guardedLogger(logger).info(cleanFacts({ id: 'a' }), 'begun')
    expect(JSON.parse(lines[0] ?? '')).to.include({ id: 'a', msg: 'begun' })
  })
})

describe('isLogger', () => {
  it('asks for the four calls', () => {
    expect(isLogger(silentLogger)).to.equal(true)
    expect(isLogger(console)).to.equal(true)
    for (const value of [undefined, null, {}, { debug: throws }, 'console', throws])
      expect(isLogger(value)).to.equal(false)
  })
})
