import { expect } from 'chai'
import { spawnSync } from 'node:child_process'
import { compileArgsSchema } from '../lib/args-schema.ts'
import { TaskArgumentError, TaskOptionError } from '../lib/errors.ts'
import { refusalOf } from './support/refusal.ts'

const SCHEMA = {
  type: 'array',
  minItems: 1,
  items: false,
  prefixItems: [
    { type: 'string', format: 'email' },
    {
      type: 'object',
      required: ['size'],
      additionalProperties: false,
      properties: {
        size: { type: 'integer', minimum: 1 },
        'a/b~c d': { enum: ['x', 'y'] },
        tags: { type: 'array', items: { anyOf: [{ type: 'string' }, { const: 0 }] } },
        at: { type: 'string', format: 'date-time' },
      },
    },
  ],
}

const argumentError = (act: () => unknown): TaskArgumentError => refusalOf(TaskArgumentError, act)

const optionError = (schema: unknown): TaskOptionError =>
  refusalOf(TaskOptionError, () => compileArgsSchema(schema as object, 'options.argsSchema'))

describe('compileArgsSchema', () => {
  it('answers a checker that lets through what fits', () => {
    const check = compileArgsSchema(SCHEMA, 'options.argsSchema')
    check(['a@example.com'])
    check(['a@example.com', { size: 1, 'a/b~c d': 'x', tags: ['t', 0], at: '2026-01-31T12:00:00Z' }])
  })

  it('names the path of the first offender, what was expected and what came', () => {
    const check = compileArgsSchema(SCHEMA, 'options.argsSchema')
    const cases: [args: unknown[], path: string, shape: string][] = [
      [[], 'args', 'to be valid: must NOT have fewer than 1 items, got: 0 arguments'],
      [['a@example.com', { size: 1 }, 3], 'args', 'to be valid: must NOT have more than 2 items, got: 3 arguments'],
      [[5], 'args[0]', 'to be of type string, got: 5'],
      [['nobody'], 'args[0]', 'to be valid: must match format "email", got: "nobody"'],
      [['a@example.com', {}], 'args[1].size', 'to be present, got: undefined'],
      [['a@example.com', { size: 0 }], 'args[1].size', 'to be valid: must be >= 1, got: 0'],
      [['a@example.com', { size: 1.5 }], 'args[1].size', 'to be of type integer, got: 1.5'],
      [['a@example.com', { size: 1, extra: 'e' }], 'args[1].extra', 'to be absent, got: "e"'],
      [['a@example.com', { size: 1, 'a/b~c d': 'z' }], 'args[1]["a/b~c d"]', "to be one of [ 'x', 'y' ], got: \"z\""],
      [
        ['a@example.com', { size: 1, tags: ['t', 1] }],
        'args[1].tags[1]',
        'to be valid: must match a schema in anyOf, got: 1',
      ],
      [['a@example.com', { size: 1, at: '2026-02-30T00:00:00Z' }], 'args[1].at', 'must match format "date-time"'],
    ]
    for (const [args, path, shape] of cases) {
      const error = argumentError(() => check(args))
      expect(error).to.include({ path, code: 'ERR_TASKS_ARGUMENT' })
      expect(error.message).to.include(`expected ${path} `).and.to.include(shape)
      expect(error.message).to.match(/\(the task's argsSchema says so at #\/.*\)$/)
    }
  })

  it('names the rule rather than its branches', () => {
    const check = compileArgsSchema(
      {
        items: {
          oneOf: [{ required: ['a'] }, { required: ['b'] }],
          propertyNames: { pattern: '^[a-c]$' },
          if: { required: ['b'] },
          then: { properties: { b: { type: 'string' } } },
        },
      },
      'schema',
    )
    expect(argumentError(() => check([{ a: 1 }, {}])).message).to.include(
      'args[1] to be valid: must match exactly one schema in oneOf',
    )
    expect(argumentError(() => check([{ a: 1, d: 1 }])).message).to.include(
      'args[0] to be valid: property name must be valid',
    )
    expect(argumentError(() => check([{ b: 1 }])).message).to.include('args[0].b to be of type string')
  })

  it('takes a schema without a type, and a list of schemas', () => {
    const loose = compileArgsSchema({ prefixItems: [{ type: 'string' }] }, 'schema')
    loose([])
    loose(['a', 1])
    expect(argumentError(() => loose([1])).path).to.equal('args[0]')
    const tuple = compileArgsSchema([{ type: 'string' }, { type: 'integer' }], 'schema')
    tuple(['a', 1])
    for (const args of [[], ['a'], ['a', 1, 2]]) expect(argumentError(() => tuple(args)).path).to.equal('args')
    const none = compileArgsSchema([], 'schema')
    none([])
    argumentError(() => none([1]))
  })

  it('changes no argument', () => {
    const check = compileArgsSchema([{ type: 'object', properties: { a: { type: 'integer', default: 5 } } }], 'schema')
    const args = Object.freeze([Object.freeze({ b: '1' })])
    check(args)
    expect(args).to.deep.equal([{ b: '1' }])
  })

  it('keeps a copy: what happens to the schema later changes nothing', () => {
    const schema = { type: 'array', items: { type: 'string' } }
    const check = compileArgsSchema(schema, 'schema')
    schema.items.type = 'number'
    check(['a'])
  })

  it('counts own properties only', () => {
    const check = compileArgsSchema([{ type: 'object', required: ['toString'] }], 'schema')
    expect(argumentError(() => check([{}])).path).to.equal('args[0].toString')
    const closed = compileArgsSchema([{ type: 'object', additionalProperties: false }], 'schema')
    expect(argumentError(() => closed([JSON.parse('{"__proto__":1}')])).path).to.equal('args[0].__proto__')
  })

  it('takes two schemas with the same $id, and refuses again after a success', () => {
    const first = compileArgsSchema(
      { $id: 'https://example.com/a', items: { $id: 'https://example.com/b', type: 'string' } },
      's',
    )
    const second = compileArgsSchema(
      { $id: 'https://example.com/a', items: { $id: 'https://example.com/b', type: 'number' } },
      's',
    )
    first(['a'])
    second([1])
    argumentError(() => first([1]))
    argumentError(() => second(['a']))
  })

  it('refuses at once what is no schema', () => {
    const bad: [schema: unknown, field: string][] = [
      [{ type: 'arry' }, 'options.argsSchema.type'],
      [{ type: 'object' }, 'options.argsSchema.type'],
      [{ type: 'array', items: [{ type: 'string' }] }, 'options.argsSchema'],
      [{ items: { type: 'string', formt: 'email' } }, 'options.argsSchema'],
      [{ items: { type: 'string', format: 'e-mail' } }, 'options.argsSchema'],
      [{ items: { $ref: 'https://example.com/elsewhere.json' } }, 'options.argsSchema'],
      [{ items: { type: 'string', pattern: '(' } }, 'options.argsSchema'],
      [{ $schema: 'http://json-schema.org/draft-07/schema#' }, 'options.argsSchema'],
      [{ $async: true }, 'options.argsSchema.$async'],
      [{ items: { type: 'string', default: undefined } }, 'options.argsSchema.items.default'],
      [{ items: { pattern: /x/ } }, 'options.argsSchema.items.pattern'],
      [new Map(), 'options.argsSchema'],
      ['text', 'options.argsSchema'],
      [null, 'options.argsSchema'],
      [5, 'options.argsSchema'],
    ]
    for (const [schema, field] of bad) {
      const error = optionError(schema)
      expect(error.field).to.equal(field)
      expect(error.message).to.match(/^expected options\.argsSchema.* to be .*, got: .+ \(.+\)$/)
      expect(error.message).to.have.length.below(700)
    }
  })

  it('takes linear time for every format', () => {
    const parts = ['a', 'a@a', '1', 'a.', '/~', ':', 'a:', '{', '%41', '-', 'http://a/?', 'P1']
    for (const format of [
      'email',
      'uri',
      'date-time',
      'hostname',
      'ipv4',
      'ipv6',
      'uuid',
      'duration',
      'regex',
      'uri-template',
      'json-pointer',
    ]) {
      const check = compileArgsSchema([{ type: 'string', format }], 'schema')
      for (const part of parts) {
        const start = performance.now()
        try {
          check([`${part.repeat(100_000 / part.length)}!`])
        } catch {
          // Fits or not: the time is what counts.
        }
        expect(performance.now() - start, `${format} ${part}`).to.be.below(200)
      }
    }
  })

  it('loads ajv at the first schema, not with the module', () => {
    const file = JSON.stringify(new URL('../lib/args-schema.ts', import.meta.url))
    const loaded = "Object.keys(require.cache).some((path) => path.includes('/ajv/'))"
    const script = `import { createRequire } from 'node:module'
      const require = createRequire(${file})
      const { compileArgsSchema } = await import(${file})
      const before = ${loaded}
      compileArgsSchema({ type: 'array' }, 'schema')
      console.log(before, ${loaded})`
    const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      encoding: 'utf8',
    })
    expect(stdout.trim(), stderr).to.equal('false true')
  })
})
