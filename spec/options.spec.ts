import { expect } from 'chai'
import fc from 'fast-check'
import vm from 'node:vm'
import { TaskOptionError } from '../lib/errors.ts'
import {
  anything,
  checkName,
  checkOptions,
  date,
  describeRow,
  flag,
  integer,
  listOf,
  NAME_PATTERN,
  number,
  oneOf,
  text,
} from '../lib/options.ts'
import type { GivenOptions, OptionsOf } from '../lib/options.ts'
import { refusalOf } from './support/refusal.ts'

const TABLE = Object.freeze({
  priority: integer({ min: -100, max: 100, default: 0, description: 'above 0 runs first' }),
  claimTimeoutSeconds: integer({ min: 1, description: 'lease', cure: 'give seconds: 300' }),
  jitter: number({ min: 0, max: 1, description: 'share' }),
  queueName: text({ pattern: NAME_PATTERN, default: 'default', description: 'queue' }),
  redisUrl: text({ maxLength: 2000, description: 'server' }),
  redisPassword: text({ minLength: 0, secret: true, description: 'password' }),
  dryRun: flag({ default: false, description: 'only count' }),
  level: oneOf(['debug', 'info', 'warn'], { default: 'info', description: 'lowest level' }),
  queues: listOf(text({ pattern: NAME_PATTERN, description: 'queue' }), { maxLength: 3, description: 'queues' }),
  runAfter: date({ description: 'not before' }),
  retryIf: anything({
    shape: 'a function',
    is: (value): value is () => boolean => typeof value === 'function',
    description: 'may it pass?',
  }),
})

const refusal = (act: () => unknown): TaskOptionError => refusalOf(TaskOptionError, act)

const check = (given: unknown): OptionsOf<typeof TABLE> => checkOptions('options', TABLE, given)
const throws = (): never => {
  throw new Error('from a trap')
}

describe('checkOptions', () => {
  const defaults = { priority: 0, queueName: 'default', dryRun: false, level: 'info' }

  it('answers the defaults where nothing was given', () => {
    expect({ ...check(undefined) }).to.deep.equal(defaults)
    expect({ ...check({}) }).to.deep.equal(defaults)
    expect({ ...check({ priority: undefined, jitter: undefined }) }).to.deep.equal(defaults)
    expect(check({})).not.to.have.property('jitter')
  })

  it('is typed by its table', () => {
    const options: OptionsOf<typeof TABLE> = check({})
    const priority: number = options.priority
    const level: 'debug' | 'info' | 'warn' = options.level
    const queues: readonly string[] | undefined = options.queues
    const given: GivenOptions<typeof TABLE> = { level: 'warn', runAfter: undefined }
    // @ts-expect-error: a key without a default may be absent
    const jitter: number = options.jitter
    // @ts-expect-error: a word that is none of them
    const wrong: GivenOptions<typeof TABLE> = { level: 'loud' }
    expect([priority, level, queues, given.level, jitter, wrong.level]).to.have.length(6)
  })

  it('refuses, for the compiler, a default that is no permitted value, and at run time as well', () => {
    // @ts-expect-error: not one of the words
    refusal(() => oneOf(['a', 'b'], { default: 'c', description: '' }))
    refusal(() => integer({ min: 1, default: 0, description: '' }))
  })

  it('answers a frozen copy and keeps nothing of what was given', () => {
    const given = { queues: ['a', 'b'], runAfter: new Date(1000) }
    const options = check(given)
    given.queues.push('c')
    given.runAfter.setTime(5)
    expect(options.queues).to.deep.equal(['a', 'b'])
    expect(options.runAfter?.getTime()).to.equal(1000)
    expect(options).to.be.frozen
    expect(options.queues).to.be.frozen
    expect(options).not.to.equal(given)
  })

  it('names the field, what was expected, what came and the cure', () => {
    const cases: [given: Record<string, unknown>, message: string][] = [
      [{ priority: 3.1 }, 'expected options.priority to be an integer from -100 to 100, got: 3.1 (leave it out for 0)'],
      [{ priority: '5' }, 'expected options.priority to be an integer from -100 to 100, got: "5" (give a number: 5)'],
      [
        { claimTimeoutSeconds: '5m' },
        'expected options.claimTimeoutSeconds to be an integer of at least 1, got: "5m" (give seconds: 300)',
      ],
      [{ jitter: 2 }, 'expected options.jitter to be a number from 0 to 1, got: 2 (give a number from 0 to 1)'],
      [{ level: 'inf' }, 'expected options.level to be one of debug, info, warn, got: "inf" (did you mean "info"?)'],
      [{ dryRun: 'true' }, 'expected options.dryRun to be true or false, got: "true" (give true without quotes)'],
      [
        { runAfter: 1700000000 },
        'expected options.runAfter to be a valid Date, got: 1700000000 (seconds or milliseconds? give new Date(milliseconds))',
      ],
      [{ priorty: 1 }, 'expected options.priorty to be a known option, got: an unknown one (did you mean "priority"?)'],
      [{ retryIf: true }, 'expected options.retryIf to be a function, got: true (give a function)'],
    ]
    for (const [given, message] of cases) {
      const error = refusal(() => check(given))
      expect(error.message).to.equal(message)
      expect(error).to.include({ code: 'ERR_TASKS_OPTION', field: `options.${Object.keys(given)[0] ?? ''}` })
    }
    expect(refusal(() => check({ queues: ['a', 'b c'] })).field).to.equal('options.queues[1]')
    expect(refusal(() => check({ zzz: 1 })).message).to.include('known are: priority, claimTimeoutSeconds')
  })

  it('refuses a value of another shape in every row', () => {
    const bad: Record<keyof typeof TABLE, readonly unknown[]> = {
      priority: [null, '', '5', NaN, Infinity, -101, 101, 0.5, 1n, true, [1], {}, new Date(0), Object(1)],
      claimTimeoutSeconds: [0, -1, 2 ** 53, '1'],
      jitter: [-0.001, 1.001, NaN, '0.5', null],
      queueName: [null, '', 'a b', 'a:b', '{a}', '*', '-a', 'a\n', 'é', 'x'.repeat(129), 5, Object('a'), ['a']],
      redisUrl: ['', 'x'.repeat(2001), 5, new URL('redis://host')],
      redisPassword: [5, null],
      dryRun: [0, 1, 'true', null, Object(false)],
      level: ['', 'INFO', 'silent', 0, null, ['info']],
      queues: ['a', null, [''], [undefined], new Array(2), ['a', 'b', 'c', 'd'], { 0: 'a', length: 1 }, new Set(['a'])],
      runAfter: [0, 1e12, NaN, '2026-01-01', new Date(NaN), null, {}, { getTime: () => 5 }],
      retryIf: [null, 'f', {}],
    }
    for (const [key, values] of Object.entries(bad)) {
      for (const value of values)
        expect(refusal(() => check({ [key]: value })).field).to.match(new RegExp(`^options.${key}`))
    }
  })

  it('takes the ends of every range', () => {
    for (const priority of [-100, 100, 3.0]) expect(check({ priority }).priority).to.equal(priority)
    expect(Object.is(check({ priority: -0 }).priority, 0)).to.equal(true)
    expect(check({ queueName: 'x'.repeat(128) }).queueName).to.have.length(128)
    expect(check({ redisPassword: '' }).redisPassword).to.equal('')
    expect(check({ queues: [] }).queues).to.deep.equal([])
    expect(check({ runAfter: new Date(-1) }).runAfter?.getTime()).to.equal(-1)
    expect(check({ runAfter: vm.runInNewContext('new Date(7)') as unknown }).runAfter).to.be.instanceOf(Date)
  })

  it('refuses what is no plain object', () => {
    class Options {
      priority = 5
    }
    for (const given of [
      null,
      5,
      'text',
      [],
      [1],
      throws,
      new Date(),
      new Map(),
      new Options(),
      Object.create({ priority: 5 }),
      Symbol('s'),
    ]) {
      expect(refusal(() => check(given)).field).to.equal('options')
    }
    expect(check(Object.assign(Object.create(null) as object, { priority: 5 })).priority).to.equal(5)
    expect(check(vm.runInNewContext('({ priority: 5 })')).priority).to.equal(5)
  })

  it('counts own properties only and lets no prototype in', () => {
    expect(refusal(() => check(JSON.parse('{"__proto__":{"priority":5}}'))).field).to.equal('options.__proto__')
    for (const key of ['constructor', 'toString', 'hasOwnProperty']) {
      expect(refusal(() => check({ [key]: 1 })).field).to.equal(`options.${key}`)
    }
    const polluted = Object.prototype as { jitter?: unknown; priority?: unknown }
    polluted.jitter = 0.5
    polluted.priority = 7
    try {
      const options = check({})
      expect(options.jitter).to.equal(undefined)
      expect(options.priority).to.equal(0)
    } finally {
      delete polluted.jitter
      delete polluted.priority
    }
    expect(Object.getPrototypeOf(check({}))).to.equal(null)
  })

  it('reads each value once', () => {
    let reads = 0
    const options = check({
      get priority() {
        reads += 1
        return reads === 1 ? 5 : 'forged'
      },
    })
    expect(options.priority).to.equal(5)
    expect(reads).to.equal(1)
  })

  it('tells of what throws while it is read', () => {
    const trap = { get: throws, ownKeys: throws, getPrototypeOf: throws }
    for (const given of [
      new Proxy({}, trap),
      Object.defineProperty({}, 'priority', { get: throws, enumerable: true }),
    ]) {
      expect(refusal(() => check(given)).cause).to.have.property('message', 'from a trap')
    }
    expect(refusal(() => check({ queues: new Proxy([], trap) })).field).to.equal('options.queues')
    const { proxy, revoke } = Proxy.revocable([], {})
    revoke()
    for (const key of Object.keys(TABLE)) refusal(() => check({ [key]: proxy }))
  })

  it('shows no password', () => {
    const secret = 'pl4nted'
    for (const given of [
      { redisUrl: `redis://:${secret}@host/${'x'.repeat(2000)}` },
      { priority: `redis://:${secret}@host` },
      { queues: [`redis://:${secret}@host`] },
      { retryIf: { password: secret } },
      { retryIf: [{ password: secret }, [secret]] },
      { redisPassword: [secret] },
    ]) {
      expect(refusal(() => check(given)).message).not.to.include(secret)
    }
  })

  it('stays quick and short with hostile input', () => {
    for (const given of [
      { ['k'.repeat(1_000_000)]: 1 },
      { priority: 'x'.repeat(1_000_000) },
      { queues: 'x'.repeat(1_000_000) },
      { queues: Array.from({ length: 1_000_000 }, () => 'x') },
      { 'line\nbreak': 1 },
    ]) {
      const start = performance.now()
      const error = refusal(() => check(given))
      expect(performance.now() - start).to.be.below(200)
      expect(error.message).to.have.length.below(700)
      expect(error.message).not.to.include('\n')
    }
  })

  it('takes what fits and refuses the rest, for any value', () => {
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true }), (value) => {
        const fits = Number.isInteger(value) && (value as number) >= -100 && (value as number) <= 100
        if (value === undefined) expect(check({ priority: value }).priority).to.equal(0)
        else if (fits) expect(check({ priority: value }).priority).to.equal((value as number) + 0)
        else expect(refusal(() => check({ priority: value })).field).to.equal('options.priority')
      }),
    )
  })
})

describe('describeRow', () => {
  it('says what is permitted, and the default', () => {
    expect(Object.values(TABLE).map(describeRow)).to.deep.equal([
      'an integer from -100 to 100 (default 0)',
      'an integer of at least 1',
      'a number from 0 to 1',
      'a name of 1 to 128 letters, digits, "_", "." or "-", the first a letter or digit (default "default")',
      'a text of 1 to 2000 characters',
      'a text of 0 to 1000 characters',
      'true or false (default false)',
      'one of debug, info, warn (default "info")',
      'a list of at most 3 items, each a name of 1 to 128 letters, digits, "_", "." or "-", the first a letter or digit',
      'a valid Date',
      'a function',
    ])
  })

  it('leaves the facts of a row for documents to read', () => {
    expect(TABLE.priority).to.include({ kind: 'integer', min: -100, max: 100, default: 0 })
    expect(TABLE.queueName).to.include({ kind: 'text', pattern: NAME_PATTERN, maxLength: 1000 })
    expect(TABLE.level.values).to.deep.equal(['debug', 'info', 'warn'])
    expect(TABLE.queues.item).to.include({ kind: 'text' })
    expect(TABLE.priority).to.be.frozen
  })
})

describe('checkName', () => {
  it('answers a good name', () => {
    for (const name of ['a', '7', 'reports.build', 'send_email-2', 'x'.repeat(128), 'constructor']) {
      expect(checkName('name', name)).to.equal(name)
    }
  })

  it('refuses every other', () => {
    const names = [
      '',
      'x'.repeat(129),
      'x'.repeat(1_000_000),
      'a:b',
      '{a}',
      'a}b{',
      '*',
      '?',
      '[x]',
      'a b',
      'a\tb',
      'a\r\nDEL x',
      'a\n',
    ]
    const more = [
      'a\u0000',
      '\ud800',
      'é',
      'e\u0301',
      '\u202ea',
      'a\u200db',
      '..',
      '../../x',
      '%2e',
      '__proto__',
      '-1',
      '_a',
      '.a',
    ]
    for (const name of [...names, ...more, 5, null, undefined, {}, ['a'], Object('a')]) {
      const error = refusal(() => checkName('options.name', name))
      expect(error.field).to.equal('options.name')
      expect(error.message).to.have.length.below(500)
    }
  })
})
