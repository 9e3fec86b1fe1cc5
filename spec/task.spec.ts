import { expect } from 'chai'
import { Redis } from 'ioredis'
import sinon from 'sinon'
import {
  configureTasks,
  DummyTaskBackend,
  MemoryTaskBackend,
  task,
  TaskArgumentError,
  taskBackends,
  TaskNotFoundError,
  TaskOptionError,
  taskRegistry,
  TaskResultMismatchError,
} from '../lib/index.ts'
import type { TaskContext, TaskError } from '../lib/index.ts'
import { caught, isolateProcessState, openRedisBackend, overEveryBackend } from './backends/backends-under-test.ts'
import { sharedRedisServer } from './support/redis-server.ts'

/** Defines a task with options that a caller without types may give. */
const defineWith = (options: unknown): unknown => task(options as { name: string }, () => null)

/** The error of an option that is refused. */
async function refusal(make: () => unknown): Promise<TaskOptionError> {
  const error = await caught(make)
  expect(error).to.be.instanceOf(TaskOptionError)
  return error as TaskOptionError
}

const GOOD_NAMES = ['a', '0', 'sendEmail', 'reports.build', 'a_b-c.d', 'constructor', 'a'.repeat(128)]
const BAD_NAMES = [
  ...['', 'a b', 'a:b', '{a}', 'a}b{', '*', '?', '[x]', '-a', '.a', '_a', '__proto__', 'a\n', 'a\0b', 'a\tb', '..'],
  ...['../../x', '%2e%2e%2f', 'é', 'e\u0301', 'a\u202eb', 'a\u200db', '\ud800', 'a'.repeat(129), 'a'.repeat(1_000_000)],
]

describe('task', () => {
  isolateProcessState()

  it('takes its name from the function', () => {
    const sendEmail = task(async function sendEmail(to: string) {
      return to
    })
    expect(sendEmail.name).to.equal('sendEmail')
    expect(taskRegistry.get('sendEmail')).to.equal(sendEmail)
  })

  it('takes a name before the function', () => {
    expect(task('reports.build', () => null).name).to.equal('reports.build')
  })

  it('takes options before the function', () => {
    const argsSchema = { type: 'array', prefixItems: [{ type: 'string' }] }
    const build = task(
      {
        ...{ name: 'reports.build', queueName: 'reports', priority: 10, backend: 'other', takesContext: true },
        ...{ argsSchema, timeoutMs: 5_000, retry: { maxAttempts: 3 } },
      },
      async (_context: TaskContext, month: string) => month,
    )
    expect(build).to.include({ name: 'reports.build', queueName: 'reports', priority: 10, backend: 'other' })
    expect(build).to.include({ takesContext: true, timeoutMs: 5_000, runAfter: null })
    expect(build.argsSchema).to.deep.equal(argsSchema)
    expect(build.retry).to.include({ maxAttempts: 3 })
  })

  it('takes the name of the function where the options have none', () => {
    expect(task({ priority: 1 }, function named() {}).name).to.equal('named')
  })

  it('has defaults for everything but the name', () => {
    const plain = task('plain', () => null)
    expect(plain).to.include({ queueName: 'default', priority: 0, backend: 'default', takesContext: false })
    expect(plain).to.include({ runAfter: null, argsSchema: undefined, timeoutMs: undefined })
    expect(plain.retry).to.include({ maxAttempts: 1 })
  })

  it('takes every option as undefined for left out', () => {
    const options = { name: undefined, queueName: undefined, priority: undefined, argsSchema: undefined }
    const plain = task(options as unknown as { name: string }, function plain() {})
    expect(plain).to.include({ name: 'plain', queueName: 'default', priority: 0 })
  })

  it('refuses a function without a name and tells where one goes', async () => {
    const error = await refusal(() => task(async () => null))
    expect(error.field).to.equal('options.name')
    expect(error.message).to.match(/^expected options\.name to be a name .+, got: "" \(.+\)$/)
  })

  /** A name as it may stand in the title of a case: short, and without anything that a terminal does not show. */
  const shownName = (name: string): string =>
    JSON.stringify(name.slice(0, 40)).replace(
      /[^ -~]/g,
      (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )

  for (const name of GOOD_NAMES) {
    it(`takes the name ${shownName(name)}`, () => {
      expect(task({ name, queueName: name, backend: name }, () => null)).to.include({ name, queueName: name })
    })
  }

  for (const name of BAD_NAMES) {
    it(`refuses the name ${shownName(name)} (${name.length} long), for a task, a queue and a backend`, async () => {
      for (const field of ['name', 'queueName', 'backend']) {
        const error = await refusal(() => defineWith({ name: 'fine', [field]: name }))
        expect(error).to.include({ field: `options.${field}`, code: 'ERR_TASKS_OPTION' })
        expect(error.message).to.have.length.below(600)
      }
      expect((await refusal(() => task(name, () => null))).field).to.equal('options.name')
      expect(taskRegistry.names()).to.deep.equal([])
    })
  }

  it('refuses a name that is taken and leaves the first definition alone', async () => {
    const first = task('once', () => 1)
    const error = await refusal(() => task('once', () => 2))
    expect(error.field).to.equal('name')
    expect(error.message).to.contain('"once"')
    expect(taskRegistry.get('once')).to.equal(first)
  })

  it('leaves the name free when it refuses the definition', async () => {
    await refusal(() => defineWith({ name: 'later', priority: 101 }))
    expect(task('later', () => null).name).to.equal('later')
  })

  const BAD_OPTIONS: readonly (readonly [field: string, values: readonly unknown[]])[] = [
    ['name', [1, null, {}, Symbol('a')]],
    ['queueName', [1, null, []]],
    ['priority', [3.1, '5', NaN, Infinity, -101, 101, null, 5n, true]],
    ['backend', [1, null]],
    ['takesContext', ['yes', 1, 0, null, 'true']],
    ['argsSchema', ['x', 1, null, true]],
    ['timeoutMs', [0, -1, 1.5, '10', NaN, Infinity, 2 ** 31, null]],
    ['retry', [5, 'yes', null, true]],
  ]
  for (const [field, values] of BAD_OPTIONS) {
    it(`refuses what ${field} may not be, at once and by its field`, async () => {
      for (const value of values) {
        const error = await refusal(() => defineWith({ name: 'fine', [field]: value }))
        expect(error.field, String(value)).to.equal(`options.${field}`)
      }
    })
  }

  it('refuses bad options of retry by their field', async () => {
    expect((await refusal(() => defineWith({ name: 'fine', retry: { maxAttempts: 0 } }))).field).to.equal(
      'options.retry.maxAttempts',
    )
    const error = await refusal(() => defineWith({ name: 'fine', retry: { maxAttempt: 2 } }))
    expect(error.message).to.contain('did you mean "maxAttempts"?')
  })

  it('takes a list of schemas, one for each argument', () => {
    const listed = task(
      { name: 'listed', argsSchema: [{ type: 'string' }, { type: 'number' }] },
      (a: string, b: number) => `${a}${b}`,
    )
    listed.checkArgs(['a', 1])
    expect(() => listed.checkArgs(['a', 'b'])).to.throw(TaskArgumentError, 'args[1]')
    expect(() => listed.checkArgs(['a', 1, 2])).to.throw(TaskArgumentError)
    expect(() => listed.checkArgs(['a'])).to.throw(TaskArgumentError)
  })

  it('refuses an argsSchema that is no schema', async () => {
    for (const argsSchema of [{ type: 'text' }, { type: 'string' }, { prefixItems: 'all' }]) {
      expect((await refusal(() => defineWith({ name: 'fine', argsSchema }))).field).to.match(/^options\.argsSchema/)
    }
  })

  for (const [given, meant] of [
    ['queue_name', 'queueName'],
    ['queue', 'queueName'],
    ['prioritty', 'priority'],
    ['Backend', 'backend'],
    ['takeContext', 'takesContext'],
    ['timeout', 'timeoutMs'],
    ['schema', undefined],
  ] as const) {
    it(`refuses the option ${given}${meant === undefined ? ' and lists the known ones' : `, and asks for ${meant}`}`, async () => {
      const error = await refusal(() => defineWith({ name: 'fine', [given]: 1 }))
      expect(error.field).to.equal(`options.${given}`)
      expect(error.message).to.contain(meant === undefined ? 'known are: name, queueName' : `did you mean "${meant}"?`)
    })
  }

  it('takes nothing from a prototype', async () => {
    const inherited: unknown = Object.create({ priority: 50 })
    const error = await refusal(() => defineWith(inherited))
    expect(error.field).to.equal('options')
    expect(
      (await refusal(() => defineWith(JSON.parse('{"name":"fine","__proto__":{"priority":50}}')))).message,
    ).to.contain('__proto__')
  })

  it('refuses runAfter and names using', async () => {
    const error = await refusal(() => defineWith({ name: 'fine', runAfter: new Date() }))
    expect(error.field).to.equal('options.runAfter')
    expect(error.message).to.contain('task.using({ runAfter })')
  })

  it('refuses what is no function', async () => {
    const define = task as unknown as (...given: unknown[]) => unknown
    for (const given of [['name'], [{ name: 'a' }], [{ name: 'a' }, 'b'], [null], [undefined, null]]) {
      expect((await refusal(() => define(...given))).field).to.equal('func')
    }
    for (const options of [null, 5, [], new Date(), Object.create({ name: 'a' })]) {
      expect((await refusal(() => define(options, () => null))).field).to.equal('options')
    }
  })

  it('refuses options behind the function, which it would not see', async () => {
    const define = task as unknown as (...given: unknown[]) => unknown
    const error = await refusal(() => define(function swapped() {}, { priority: 5 }))
    expect(error.message).to.contain('task(options, fn)')
    expect(taskRegistry.names()).to.deep.equal([])
  })

  it('is frozen', () => {
    const frozen = task('frozen', () => null)
    expect(Object.isFrozen(frozen)).to.equal(true)
    expect(() => Object.assign(frozen, { priority: 5 })).to.throw(TypeError)
    expect(() => Object.assign(frozen, { other: 5 })).to.throw(TypeError)
  })

  it('keeps a copy of its options: what the caller changes later changes nothing', async () => {
    const backend = new DummyTaskBackend()
    const argsSchema = { type: 'array', maxItems: 1 }
    const retry = { maxAttempts: 2 }
    const options = { name: 'kept', priority: 5, argsSchema, retry }
    const kept = task(options, (one?: number, two?: number) => [one, two])
    options.priority = 50
    argsSchema.maxItems = 2
    retry.maxAttempts = 20
    expect(kept.priority).to.equal(5)
    expect(kept.retry.maxAttempts).to.equal(2)
    expect(await caught(kept.enqueue(1, 2))).to.be.instanceOf(TaskArgumentError)
    expect(backend.results).to.deep.equal([])
  })

  it('is checked against its backend at the definition, when that is there', async () => {
    new MemoryTaskBackend({ queues: ['mail', 'reports'] })
    const error = await refusal(() => task({ name: 'send', queueName: 'mails' }, () => null))
    expect(error.field).to.equal('queueName')
    expect(error.message).to.contain('did you mean "mail"?').and.to.contain('mail, reports')
    expect(taskRegistry.names()).to.deep.equal([])
    expect(task({ name: 'send', queueName: 'mail' }, () => null).queueName).to.equal('mail')
  })

  it('is checked against its backend at the first use, when that comes later', async () => {
    const send = task({ name: 'send', queueName: 'mail' }, () => null)
    const backend = new DummyTaskBackend()
    expect(await caught(send.enqueue()))
      .to.be.instanceOf(TaskOptionError)
      .with.property('field', 'queueName')
    expect(backend.results).to.deep.equal([])
  })
})

describe('Task.using', () => {
  isolateProcessState()

  it('answers another frozen task and leaves the first as it was', () => {
    const base = task({ name: 'base', priority: 1 }, () => null)
    const runAfter = new Date(Date.UTC(2030, 0, 1))
    const changed = base.using({ priority: 50, queueName: 'mail', backend: 'other', runAfter })
    expect(changed).to.include({ name: 'base', priority: 50, queueName: 'mail', backend: 'other', takesContext: false })
    expect(changed.runAfter).to.deep.equal(runAfter)
    expect(base).to.include({ priority: 1, queueName: 'default', backend: 'default', runAfter: null })
    expect(Object.isFrozen(changed)).to.equal(true)
    expect(taskRegistry.get('base')).to.equal(base)
  })

  it('answers another task even when nothing changes', () => {
    const base = task('base', () => null)
    expect(base.using({})).not.to.equal(base)
    expect(base.using({})).to.include({ name: 'base', queueName: 'default', priority: 0 })
  })

  it('keeps what is left out, undefined or null', () => {
    const runAfter = new Date(Date.UTC(2030, 0, 1))
    const changed = task('base', () => null).using({ priority: 50, queueName: 'mail', backend: 'other', runAfter })
    for (const options of [
      {},
      { priority: undefined, queueName: undefined, backend: undefined, runAfter: undefined },
      { priority: null, queueName: null, backend: null, runAfter: null },
    ]) {
      const kept = changed.using(options)
      expect(kept).to.include({ priority: 50, queueName: 'mail', backend: 'other' })
      expect(kept.runAfter).to.deep.equal(runAfter)
    }
  })

  it('adds up', () => {
    const changed = task('base', () => null)
      .using({ priority: 5 })
      .using({ queueName: 'mail' })
      .using({ priority: -5 })
    expect(changed).to.include({ priority: -5, queueName: 'mail' })
  })

  it('cannot change name and takesContext', async () => {
    const base = task('base', () => null)
    for (const field of ['name', 'takesContext'] as const) {
      const error = await refusal(() => base.using({ [field]: 'other' }))
      expect(error.field).to.equal(`using.${field}`)
    }
  })

  it('refuses what it does not know and names the nearest', async () => {
    const base = task('base', () => null)
    expect((await refusal(() => base.using({ run_after: new Date() } as object))).message).to.contain(
      'did you mean "runAfter"?',
    )
    expect((await refusal(() => base.using({ retry: {} } as object))).field).to.equal('using.retry')
    expect((await refusal(() => base.using({ timeoutMs: 5 } as object))).field).to.equal('using.timeoutMs')
  })

  it('refuses what an option may not be, by its field', async () => {
    const base = task('base', () => null)
    const bad: readonly (readonly [string, readonly unknown[]])[] = [
      ['priority', [3.1, '5', NaN, 101, -101]],
      ['queueName', ['a b', '', 5]],
      ['backend', ['a:b', 5]],
      ['runAfter', [1_700_000_000, Date.now(), '2030-01-01', new Date(NaN), {}]],
    ]
    for (const [field, values] of bad) {
      for (const value of values) {
        expect((await refusal(() => base.using({ [field]: value }))).field).to.equal(`using.${field}`)
      }
    }
  })

  it('refuses a bare number as a time, as nobody knows its unit', async () => {
    const error = await refusal(() => task('base', () => null).using({ runAfter: 1_700_000_000 as unknown as Date }))
    expect(error.message).to.contain('seconds or milliseconds?')
  })

  it('refuses what is no object of options', async () => {
    const base = task('base', () => null)
    for (const options of [null, 5, 'mail', [], new Date()]) {
      expect((await refusal(() => base.using(options as unknown as object))).field).to.match(/^using/)
    }
  })

  it('keeps a copy of the time', () => {
    const runAfter = new Date(Date.UTC(2030, 0, 1))
    const changed = task('base', () => null).using({ runAfter })
    runAfter.setUTCFullYear(1999)
    expect(changed.runAfter?.getUTCFullYear()).to.equal(2030)
  })

  it('is checked against its backend, when that is there', async () => {
    configureTasks({ default: { backend: 'dummy' }, now: { backend: 'immediate' } })
    const base = task('base', () => null)
    expect((await refusal(() => base.using({ queueName: 'mail' }))).field).to.equal('queueName')
    expect((await refusal(() => base.using({ backend: 'now', runAfter: new Date() }))).field).to.equal('runAfter')
    expect(base.using({ backend: 'not-yet', queueName: 'mail' }).backend).to.equal('not-yet')
  })
})

describe('Task.call', () => {
  isolateProcessState()

  it('runs the function here and answers its value, without a backend', async () => {
    const add = task('add', (a: number, b: number) => a + b)
    expect(await add.call(1, 2)).to.equal(3)
    expect(taskBackends.entries()).to.deep.equal([])
  })

  it('stores nothing', async () => {
    const backend = new MemoryTaskBackend()
    const add = task('add', async (a: number, b: number) => a + b)
    expect(await add.call(1, 2)).to.equal(3)
    expect(await backend.records.filter().count()).to.equal(0)
  })

  it('passes errors through as they are, also those thrown before a promise is there', async () => {
    const error = new Error('no')
    const rejects = task('rejects', () => Promise.reject(error))
    const throws = task('throws', () => {
      throw error
    })
    expect(await caught(rejects.call())).to.equal(error)
    expect(await caught(throws.call())).to.equal(error)
  })

  it('supplies a context for a task that takes one', async () => {
    const seen: TaskContext[] = []
    const look = task({ name: 'look', takesContext: true, queueName: 'mail' }, (context, to: string) => {
      seen.push(context)
      return to
    })
    expect(await look.call('me')).to.equal('me')
    const [context] = seen
    expect(context?.attempt).to.equal(1)
    expect(context?.signal.aborted).to.equal(false)
    expect(context?.fence).to.satisfy(Number.isSafeInteger)
    expect(context?.taskResult).to.include({ name: 'look', queueName: 'mail', status: 'RUNNING', attempts: 1 })
    expect(context?.taskResult.args).to.deep.equal(['me'])
  })
})

overEveryBackend('Task.enqueue', (subject) => {
  const storedCount = (): Promise<number> => subject.backend.records.filter().count()

  it('answers a result that is READY, with the arguments', async () => {
    const send = task({ name: 'send', queueName: 'mail', priority: 7 }, (to: string, times: number) => [to, times])
    const runAfter = new Date(Date.now() + 60_000)
    const result = await send.using({ runAfter }).enqueue('me', 2)
    expect(result).to.include({ name: 'send', queueName: 'mail', priority: 7, status: 'READY', backendName: 'default' })
    expect(result.args).to.deep.equal(['me', 2])
    expect(result.runAfter).to.deep.equal(runAfter)
    expect(result.id).to.match(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/)
    expect((await subject.backend.records.find(result.id)).args).to.deep.equal(['me', 2])
  })

  it('carries what JSON carries unchanged, key order included', async () => {
    const echo = task('echo', (value: unknown) => value)
    const values = [
      ...[null, true, 0, -1.5, 1e21, Number.MAX_SAFE_INTEGER, '', 'é\u0301\u202e\0\n"\\', '\ud800', [], {}, [[]], [{}]],
      ...[{ b: 1, a: { 'x y': [1, null] } }, JSON.parse('{"__proto__":{"a":1},"constructor":2}') as unknown],
      ...[{ toString: 'x' }, 'a'.repeat(100_000), '<script>', '[]', '{}'],
    ]
    const results = await echo.enqueueMany(values.map((value) => [value]))
    for (const [index, { id }] of results.entries()) {
      const { args } = await echo.getResult(id)
      expect(JSON.stringify(args)).to.equal(JSON.stringify([values[index]]))
    }
  })

  class Money {
    readonly amount = 1
  }
  const cycle: Record<string, unknown> = {}
  cycle['self'] = [cycle]
  const throwing = {
    get when(): never {
      throw new Error('a getter of the caller')
    },
  }
  const proxy = new Proxy(
    {},
    {
      ownKeys() {
        throw new Error('a Proxy of the caller')
      },
    },
  )
  const OFFENDERS: readonly (readonly [what: string, value: unknown, path: string])[] = [
    ['undefined', undefined, 'args[0]'],
    ['undefined inside', { a: { when: undefined } }, 'args[0].a.when'],
    ['a function', { run: () => null }, 'args[0].run'],
    ['a symbol', [Symbol('a')], 'args[0][0]'],
    ['a BigInt', { a: [1, 2n] }, 'args[0].a[1]'],
    ['NaN', { a: NaN }, 'args[0].a'],
    ['Infinity', -Infinity, 'args[0]'],
    ['a Date', { when: new Date() }, 'args[0].when'],
    ['a Map', new Map(), 'args[0]'],
    ['a Set', { 'a b': new Set() }, 'args[0]["a b"]'],
    ['a class instance', { price: new Money() }, 'args[0].price'],
    ['a Buffer', Buffer.from('x'), 'args[0]'],
    ['a cycle', cycle, 'args[0].self[0]'],
    ['a sparse array', Object.assign(new Array<number>(3), { 0: 1, 2: 3 }), 'args[0][1]'],
    ['a getter that throws', throwing, 'args[0].when'],
    ['a Proxy that throws', proxy, 'args[0]'],
    ['more than 64 levels', nested(65), `args${'[0]'.repeat(64)}`],
  ]
  for (const [what, value, path] of OFFENDERS) {
    it(`refuses ${what} as ${path.slice(0, 40)}, and stores nothing`, async () => {
      const echo = task('echo', (given: unknown) => given)
      const error = await caught(echo.enqueue(value))
      expect(error).to.be.instanceOf(TaskArgumentError)
      expect(error).to.include({ path, code: 'ERR_TASKS_ARGUMENT' })
      expect(await caught(echo.enqueueMany([[1], [value], [2]]))).to.be.instanceOf(TaskArgumentError)
      expect(await storedCount()).to.equal(0)
    })
  }

  it('refuses more than 5 MB of arguments, and stores nothing', async () => {
    const echo = task('echo', (given: string) => given.length)
    expect(await caught(echo.enqueue('x'.repeat(6_000_000)))).to.be.instanceOf(TaskArgumentError)
    expect(await storedCount()).to.equal(0)
  })

  it('calls no toJSON', async () => {
    const echo = task('echo', (given: unknown) => given)
    const toJSON = sinon.spy()
    expect(await caught(echo.enqueue({ toJSON })))
      .to.be.instanceOf(TaskArgumentError)
      .with.property('path', 'args[0].toJSON')
    expect(toJSON.called).to.equal(false)
  })

  it('stores what an argument was at the call, whatever the caller changes right after it', async () => {
    const echo = task('echo', (given: { to: string[] }) => given)
    const given = { to: ['first'] }
    const enqueuing = echo.enqueue(given)
    given.to.push('second')
    const result = await enqueuing
    given.to.push('third')
    expect(result.args).to.deep.equal([{ to: ['first'] }])
    expect((await echo.getResult(result.id)).args).to.deep.equal([{ to: ['first'] }])
  })

  it('checks the arguments against argsSchema and stores nothing that does not fit', async () => {
    const argsSchema = {
      type: 'array',
      prefixItems: [
        { type: 'string', format: 'email' },
        { type: 'object', required: ['when'] },
      ],
      minItems: 2,
      items: false,
    }
    const send = task({ name: 'send', argsSchema }, (to: unknown, options: unknown) => [to, options])
    const loose = send as unknown as { enqueue(...args: unknown[]): Promise<unknown> }
    for (const [args, path] of [
      [[5, { when: 1 }], 'args[0]'],
      [['me', { when: 1 }], 'args[0]'],
      [['me@example.com', {}], 'args[1].when'],
      [['me@example.com'], 'args'],
      [['me@example.com', { when: 1 }, 3], 'args'],
    ] as const) {
      expect(await caught(loose.enqueue(...args)))
        .to.be.instanceOf(TaskArgumentError)
        .with.property('path', path)
    }
    expect(await storedCount()).to.equal(0)
    expect((await send.enqueue('me@example.com', { when: 1 })).status).to.equal('READY')
  })

  it('checks the arguments against argsSchema again before the run', async () => {
    const argsSchema = { type: 'array', prefixItems: [{ type: 'string' }] }
    const run = sinon.spy()
    const send = task({ name: 'send', argsSchema }, run as (to: string) => void)
    const record = await subject.backend.records.find((await send.enqueue('me')).id)
    record.args = [5]
    await record.save()
    await record.run()
    expect(record.status).to.equal('FAILED')
    expect(record.errors[0]).to.include({ name: 'TaskArgumentError' })
    expect(run.called).to.equal(false)
  })

  it('enqueues many in one go and answers in their order', async () => {
    const echo = task('echo', (n: number) => n)
    const results = await echo.enqueueMany(Array.from({ length: 1_234 }, (_, n) => [n]))
    expect(results.map(({ args }) => args[0])).to.deep.equal(Array.from({ length: 1_234 }, (_, n) => n))
    expect(new Set(results.map(({ id }) => id)).size).to.equal(1_234)
    expect(await storedCount()).to.equal(1_234)
    expect(await echo.enqueueMany([])).to.deep.equal([])
  })

  it('finds the result of an id again, for the task it belongs to', async () => {
    const echo = task('echo', (n: number) => n)
    const other = task('other', () => null)
    const { id } = await echo.enqueue(1)
    expect((await echo.getResult(id)).args).to.deep.equal([1])
    expect((await echo.getResult(id.toUpperCase())).id).to.equal(id)
    const mismatch = await caught(other.getResult(id))
    expect(mismatch).to.be.instanceOf(TaskResultMismatchError)
    expect(mismatch).to.include({ id, code: 'ERR_TASKS_RESULT_MISMATCH' })
    expect((mismatch as TaskError).message)
      .to.contain('"other"')
      .and.to.contain('"echo"')
  })

  it('says that there is no result of an id that is nowhere, or no id', async () => {
    const echo = task('echo', (n: number) => n)
    for (const id of ['0198c1f2-0000-7000-8000-000000000000', '', 'x', '../x', '*', 'a'.repeat(1_000_000), null]) {
      expect(await caught(echo.getResult(id as string))).to.be.instanceOf(TaskNotFoundError)
    }
  })
})

describe('Task and its backend', () => {
  isolateProcessState()

  it('says what to do when no backend is configured', async () => {
    const error = await caught(task('echo', () => null).enqueue())
    expect(error).to.be.instanceOf(TaskOptionError)
    expect((error as Error).message)
      .to.contain('configureTasks')
      .and.to.contain('REDIS_URL')
  })

  it('names the known aliases when its own is none of them', async () => {
    configureTasks({ default: { backend: 'dummy' }, reports: { backend: 'dummy' } })
    const error = await caught(
      task('echo', () => null)
        .using({ backend: 'report' })
        .enqueue(),
    )
    expect(error).to.be.instanceOf(TaskOptionError)
    expect((error as Error).message)
      .to.contain('default, reports')
      .and.to.contain('did you mean "reports"?')
  })

  it('goes to the backend that its alias names', async () => {
    const { other } = configureTasks({ default: { backend: 'dummy' }, other: { backend: 'dummy' } })
    const result = await task('echo', () => null)
      .using({ backend: 'other' })
      .enqueue()
    expect(result.backendName).to.equal('other')
    expect(other.results.map(({ id }) => id)).to.deep.equal([result.id])
  })

  it('sends one command for each thousand that are enqueued', async () => {
    const { backend } = await openRedisBackend()
    const echo = task('echo', (n: number) => n)
    await echo.enqueue(0)
    const { url } = await sharedRedisServer()
    const client = new Redis(url)
    try {
      const calls = async (): Promise<number> => {
        const stats = await client.info('commandstats')
        return [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce(
          (sum, match) => sum + Number(match[1]),
          0,
        )
      }
      const before = await calls()
      await echo.enqueueMany(Array.from({ length: 2_500 }, (_, n) => [n]))
      expect((await calls()) - before).to.equal(3)
      expect(await backend.records.filter().count()).to.equal(2_501)
    } finally {
      client.disconnect()
    }
  })
})

function nested(levels: number): unknown {
  let value: unknown = []
  for (let level = 1; level < levels; level += 1) value = [value]
  return value
}
