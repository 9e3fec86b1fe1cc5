import { expect } from 'chai'
import fc from 'fast-check'
import vm from 'node:vm'
import { TaskArgumentError } from '../lib/errors.ts'
import {
  decode,
  encode,
  encodeArgs,
  encodeError,
  encodeReturnValue,
  MAX_JSON_BYTES,
  MAX_JSON_DEPTH,
  pathOf,
} from '../lib/json.ts'
import { refusalOf } from './support/refusal.ts'

const SEED_RUNS = 500

const refusal = (act: () => unknown): TaskArgumentError => refusalOf(TaskArgumentError, act)

function nested(levels: number): unknown {
  let value: unknown = []
  for (let i = 1; i < levels; i += 1) value = i % 2 === 0 ? [value] : { down: value }
  return value
}

class Point {
  x = 1
}

describe('encode', () => {
  describe('carries', () => {
    it('every JSON value: it comes back equal, and as the text that JSON.stringify writes', () => {
      fc.assert(
        fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
          const text = encode(value, 'value')
          expect(text).to.equal(JSON.stringify(value))
          expect(decode(text, 'value')).to.deep.equal(JSON.parse(JSON.stringify(value)))
        }),
        { numRuns: SEED_RUNS },
      )
    })

    it('text of every kind, lone surrogates included, in values and in keys', () => {
      fc.assert(
        fc.property(
          fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((c) => String.fromCharCode(c)) }),
          (text) => {
            expect(decode(encode([text, { [text]: 1 }], 'value'), 'value')).to.deep.equal([text, { [text]: 1 }])
          },
        ),
        { numRuns: SEED_RUNS },
      )
      for (const text of [
        '\ud800',
        'a\udc00b',
        '\u2028\u2029',
        '\u0000',
        '"\\\n',
        'é'.repeat(300),
        `${'x'.repeat(250)}"`,
      ]) {
        expect(decode(encode(text, 'value'), 'value')).to.equal(text)
      }
    })

    it('every finite number; -0 comes back as 0', () => {
      fc.assert(
        fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
          expect(decode(encode(value, 'value'), 'value')).to.equal(value + 0)
        }),
      )
      expect(encode(-0, 'value')).to.equal('0')
    })

    it('an own key __proto__ and constructor as data', () => {
      const value: unknown = JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":2}}}')
      const text = encode(value, 'value')
      expect(text).to.equal('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":2}}}')
      expect(Object.keys(decode(text, 'value') as object)).to.deep.equal(['__proto__', 'constructor'])
      expect(({} as { polluted?: unknown }).polluted).to.equal(undefined)
    })

    it('the empty array and the empty object as what they are', () => {
      expect(encodeArgs([[], {}])).to.equal('[[],{}]')
    })

    it('the same object in two places, which is no cycle', () => {
      const shared = { a: 1 }
      expect(encodeArgs([shared, [shared], shared])).to.equal('[{"a":1},[{"a":1}],{"a":1}]')
    })

    it('what a getter answers, and asks it once', () => {
      let reads = 0
      const tricky = {
        get amount() {
          reads += 1
          return reads === 1 ? 'first' : undefined
        },
      }
      expect(encodeArgs([tricky])).to.equal('[{"amount":"first"}]')
      expect(reads).to.equal(1)
    })

    it('plain data behind a Proxy, each key read once', () => {
      const reads: PropertyKey[] = []
      const proxy = new Proxy(
        { a: 1, b: [2] },
        { get: (target, key) => (reads.push(key), Reflect.get(target, key) as unknown) },
      )
      expect(encodeArgs([proxy])).to.equal('[{"a":1,"b":[2]}]')
      expect(reads).to.deep.equal(['a', 'b'])
    })

    it('objects without a prototype, and passes hidden properties over', () => {
      const value = Object.assign(Object.create(null) as object, { a: 1 })
      Object.defineProperty(value, 'hidden', { value: () => 1, enumerable: false })
      Object.defineProperty(value, Symbol('hidden'), { value: 1, enumerable: false })
      expect(encode(value, 'value')).to.equal('{"a":1}')
    })

    it('nothing of a toJSON that somebody put on Object.prototype', () => {
      Object.defineProperty(Object.prototype, 'toJSON', {
        value: () => 'forged',
        configurable: true,
        enumerable: false,
      })
      try {
        expect(encodeArgs([{ a: [1] }])).to.equal('[{"a":[1]}]')
        expect(encodeError(new Error('boom'), { attempt: 1 })).to.match(/^\{"name":"Error","message":"boom",/)
      } finally {
        delete (Object.prototype as { toJSON?: unknown }).toJSON
      }
    })
  })

  describe('refuses', () => {
    const cyclic: { name: string; self?: unknown } = { name: 'a' }
    cyclic.self = [cyclic]
    const named = Object.assign([1, 2], { total: 3 })
    // eslint-disable-next-line no-sparse-arrays -- the hole is what is looked at
    const sparse = [1, , 3]
    const offenders: Record<string, [value: unknown, below: string]> = {
      undefined: [undefined, ''],
      'undefined in an object': [{ when: undefined }, '.when'],
      'a function': [() => 1, ''],
      'a symbol': [Symbol('s'), ''],
      'a BigInt': [1n, ''],
      NaN: [NaN, ''],
      Infinity: [[1, Infinity], '[1]'],
      'a Date': [{ when: new Date(0) }, '.when'],
      'an invalid Date': [new Date(NaN), ''],
      'a Map': [new Map([['a', 1]]), ''],
      'a Set': [new Set([1]), ''],
      'a RegExp': [/x/, ''],
      'an Error': [new Error('x'), ''],
      'a Promise': [Promise.resolve(1), ''],
      'a class instance': [{ at: new Point() }, '.at'],
      'a null-prototype class': [Object.create(Object.create(null) as object), ''],
      'an array of another class': [new (class extends Array<number> {})(), ''],
      'a boxed string': [Object('x'), ''],
      'a boxed number': [Object(1), ''],
      'a boxed BigInt': [Object(1n), ''],
      'a Buffer': [Buffer.from('x'), ''],
      'a typed array': [new Float64Array(2), ''],
      'a sparse array': [sparse, '[1]'],
      'an array with holes only': [new Array(3), '[0]'],
      'an array with a named property': [named, ''],
      'a match of a RegExp': ['abc'.match(/b/), ''],
      'a cycle': [cyclic, '.self[0]'],
      'an object with toJSON': [{ toJSON: () => 1 }, '.toJSON'],
      'a toJSON that throws': [{ toJSON: () => expect.fail('called') }, '.toJSON'],
      'a symbol key': [{ in: { a: 1, [Symbol('s')]: 1 } }, '.in'],
      'a getter that throws': [
        {
          a: { b: 1 },
          get bad(): never {
            throw new Error('from a getter')
          },
        },
        '.bad',
      ],
      'a Proxy that throws': [
        {
          a: [[1]],
          p: new Proxy(
            {},
            {
              ownKeys: () => {
                throw new Error('from a Proxy')
              },
            },
          ),
        },
        '.p',
      ],
      'a Proxy whose prototype throws': [
        new Proxy(
          {},
          {
            getPrototypeOf: () => {
              throw new Error('from a Proxy')
            },
          },
        ),
        '',
      ],
      'a key that is no identifier': [{ 'a b': { 'é"': 1n } }, '["a b"]["é\\""]'],
      'an empty key': [{ '': NaN }, '[""]'],
      'a numeric key of an object': [{ 7: NaN }, '["7"]'],
      'a key like a path': [{ 'a.b[0]': NaN }, '["a.b[0]"]'],
      'below an own __proto__': [{ ['__proto__']: { x: NaN } }, '.__proto__.x'],
    }

    for (const [name, [value, below]] of Object.entries(offenders)) {
      it(name, () => {
        const first = refusal(() => encodeArgs(['fine', value, 1n]))
        expect(first.path).to.equal(`args[1]${below}`)
        expect(first.message).to.match(/^expected args\[1\].* to be .*, got: .* \(.+\)$/s)
        expect(first.code).to.equal('ERR_TASKS_ARGUMENT')
        if (value !== undefined) expect(refusal(() => encodeReturnValue(value)).path).to.equal(`return${below}`)
      })
    }

    it('a revoked Proxy', () => {
      const { proxy, revoke } = Proxy.revocable({}, {})
      revoke()
      expect(refusal(() => encodeArgs([proxy])).path).to.equal('args[0]')
    })

    it('a value that goes on and on behind a Proxy', () => {
      const endless = new Proxy([], {
        get: (_, key) => (key === 'length' ? 2 ** 53 : key === Symbol.iterator ? [] : 'x'),
      })
      expect(refusal(() => encodeArgs([endless], 1000)).message).to.include('at most 1000 bytes')
    })

    it('keeps the cause of what the caller threw, also when it looks like an error of ours', () => {
      const cause = new TaskArgumentError('elsewhere', 'x', 1, 'y')
      const tricky = {
        get a(): never {
          throw cause
        },
      }
      const error = refusal(() => encodeArgs([tricky]))
      expect(error.path).to.equal('args[0].a')
      expect(error.cause).to.equal(cause)
    })

    it('arguments that are no array', () => {
      expect(refusal(() => encodeArgs('text' as never)).path).to.equal('args')
      expect(refusal(() => encodeArgs(undefined as never)).path).to.equal('args')
    })

    it('whatever JSON would change, wherever it stands, with its exact path', () => {
      const poison = fc.constantFrom<unknown>(
        undefined,
        NaN,
        -Infinity,
        1n,
        Symbol('s'),
        () => 1,
        new Date(0),
        new Map(),
        new Point(),
      )
      const step = fc.oneof(
        fc.nat(3),
        fc.string({ minLength: 1, maxLength: 8 }),
        fc.constantFrom('a', '__proto__', 'x y'),
      )
      fc.assert(
        fc.property(poison, fc.array(step, { maxLength: 12 }), fc.jsonValue(), (bad, steps, good) => {
          let value = bad
          for (const key of [...steps].reverse()) {
            if (typeof key === 'number') value = [...Array.from({ length: key }, () => good), value, bad]
            else value = Object.fromEntries([...(key === 'good' ? [] : [['good', good] as const]), [key, value]])
          }
          expect(refusal(() => encode(value, 'value')).path).to.equal(pathOf('value', steps))
        }),
        { numRuns: SEED_RUNS },
      )
    })

    it('objects of another realm, as they are of another class', () => {
      expect(refusal(() => encodeArgs([vm.runInNewContext('({ a: 1 })')])).path).to.equal('args[0]')
    })
  })

  describe('bounds', () => {
    it('the depth', () => {
      expect(encode(nested(MAX_JSON_DEPTH - 1), 'value')).to.be.a('string')
      expect(encode(nested(MAX_JSON_DEPTH), 'value')).to.be.a('string')
      expect(refusal(() => encode(nested(MAX_JSON_DEPTH + 1), 'value')).message).to.include('nested at most 64 deep')
      expect(encodeArgs([nested(MAX_JSON_DEPTH - 1)])).to.be.a('string')
      refusal(() => encodeArgs([nested(MAX_JSON_DEPTH)]))
    })

    it('the depth of what a body may bring, without a deep stack', () => {
      for (const levels of [100, 1000, 100_000]) {
        const value = decode('['.repeat(levels) + ']'.repeat(levels), 'body')
        expect(refusal(() => encode(value, 'value')).path).to.equal(`value${'[0]'.repeat(MAX_JSON_DEPTH)}`)
      }
    })

    it('the bytes of the text, not its characters', () => {
      for (const text of [
        'x'.repeat(98),
        'é'.repeat(49),
        '😀'.repeat(24) + 'xx',
        '\u0000'.repeat(16) + 'xx',
        '\ud800'.repeat(16) + 'xx',
      ]) {
        const size = Buffer.byteLength(JSON.stringify(text))
        expect(size).to.equal(100)
        expect(encode(text, 'value', 101)).to.equal(JSON.stringify(text))
        expect(encode(text, 'value', 100)).to.equal(JSON.stringify(text))
        expect(refusal(() => encode(text, 'value', 99)).path).to.equal('value')
      }
    })

    it('never more nor less than the limit, for any value', () => {
      fc.assert(
        fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
          const size = Buffer.byteLength(JSON.stringify(value))
          expect(encode(value, 'value', size)).to.equal(JSON.stringify(value))
          refusal(() => encode(value, 'value', size - 1))
        }),
        { numRuns: SEED_RUNS },
      )
    })

    it('5 MB by default, told with the path of the whole and a short message', () => {
      const fits = 'x'.repeat(MAX_JSON_BYTES - 4)
      expect(encodeArgs([fits])).to.have.length(MAX_JSON_BYTES)
      for (const text of [`${fits}x`, 'x'.repeat(50_000_000)]) {
        const error = refusal(() => encodeArgs(['first', [text]]))
        expect(error.path).to.equal('args')
        expect(error.message).to.have.length.below(300)
      }
    })

    it('the length of a path', () => {
      expect(refusal(() => encodeArgs([{ ['k'.repeat(1_000_000)]: 1n }])).path).to.equal(
        `args[0]["${'k'.repeat(60)}…"]`,
      )
    })
  })
})

describe('encodeReturnValue', () => {
  it('takes no value at all for null', () => {
    expect(encodeReturnValue(undefined)).to.equal('null')
    expect(encodeReturnValue(null)).to.equal('null')
    expect(encodeReturnValue({ a: 'b' })).to.equal('{"a":"b"}')
  })
})

describe('decode', () => {
  it('refuses what is not JSON', () => {
    for (const text of [
      '',
      ' ',
      '{',
      '{"a":1',
      "{'a':1}",
      'undefined',
      'NaN',
      '\ufeff1',
      '[1,]',
      '01',
      '"\n"',
      'x'.repeat(10_000_000),
    ]) {
      const error = refusal(() => decode(text, 'returnValue'))
      expect(error.path).to.equal('returnValue')
      expect(error.message).to.have.length.below(400)
      expect(error.cause).to.be.instanceOf(SyntaxError)
    }
  })
})

interface ErrorLine {
  name: string
  message: string
  stack: string
  attempt: number
  code?: string
}

function lineOf(thrown: unknown, attempt = 1): ErrorLine {
  const text = encodeError(thrown, { attempt })
  expect(text).to.match(/^\{"name":"[^\r\n\u2028]*$/)
  expect(Buffer.byteLength(text)).to.be.below(20 * 1024)
  // A script inserts a key behind the first brace.
  const line = JSON.parse(`{"at":1700000000000,${text.slice(1)}`) as ErrorLine & { at: number }
  expect(line).to.include({ at: 1700000000000, attempt })
  expect(Buffer.byteLength(JSON.stringify(line.message))).to.be.at.most(2 * 1024 + 2)
  expect(Buffer.byteLength(JSON.stringify(line.stack))).to.be.at.most(16 * 1024 + 2)
  return line
}

describe('encodeError', () => {
  const throws = (): never => {
    throw new Error('from a trap')
  }

  it('keeps name, message, stack, attempt and code', () => {
    class PaymentError extends Error {
      override name = 'PaymentError'
      code = 'E_PAYMENT'
    }
    const line = lineOf(new PaymentError('declined'), 3)
    expect(line).to.include({ name: 'PaymentError', message: 'declined', attempt: 3, code: 'E_PAYMENT' })
    expect(line.stack).to.match(/^(Payment)?Error: declined\n {4}at .*json\.spec/)
    expect(lineOf(Object.assign(new Error('x'), { code: 5 })).code).to.equal('5')
    expect(lineOf(Object.assign(new Error('x'), { code: {} }))).not.to.have.property('code')
  })

  it('takes whatever was thrown', () => {
    const bombs: unknown[] = [
      undefined,
      null,
      0,
      -0,
      NaN,
      1n,
      '',
      'text',
      Symbol('s'),
      true,
      throws,
      {},
      [],
      Object.create(null),
      Object.freeze(new Error('frozen')),
      Object.freeze({ a: 1 }),
      { toString: throws, [Symbol.toPrimitive]: throws, [Symbol.for('nodejs.util.inspect.custom')]: throws },
      Object.defineProperties(new Error('getters'), {
        stack: { get: throws },
        name: { get: throws },
        message: { get: throws },
        cause: { get: throws },
        code: { get: throws },
        errors: { get: throws },
      }),
      Object.assign(new Error('odd'), { name: 5, message: { a: 1 }, stack: [], cause: null, errors: 'none' }),
      new Proxy(
        {},
        { get: throws, has: throws, ownKeys: throws, getPrototypeOf: throws, getOwnPropertyDescriptor: throws },
      ),
      new Proxy(new Error('proxied'), { get: throws, getPrototypeOf: throws }),
      new Proxy(throws, { get: throws, getPrototypeOf: throws }),
      Proxy.revocable({}, {}).proxy,
      Object.assign(new Error('x'), { errors: new Proxy([], { get: throws }) }),
      Object.create(Error.prototype),
      vm.runInNewContext('new TypeError("from another realm")'),
      { then: throws },
      new Map([[throws, new Set([1n])]]),
    ]
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    for (const bomb of [...bombs, proxy]) lineOf(bomb)
    fc.assert(
      fc.property(
        fc.anything({
          withBigInt: true,
          withDate: true,
          withMap: true,
          withNullPrototype: true,
          withSparseArray: true,
        }),
        (thrown) => {
          expect(lineOf(thrown).name).to.equal('NonError')
        },
      ),
    )
  })

  it('shows what is no Error as NonError', () => {
    expect(lineOf('boom')).to.include({ name: 'NonError', message: "'boom'", stack: '' })
    expect(lineOf(undefined)).to.include({ name: 'NonError', message: 'undefined' })
    expect(lineOf({ status: 500 })).to.include({ name: 'NonError', message: '{ status: 500 }' })
  })

  it('takes an Error of another realm for one', () => {
    const line = lineOf(vm.runInNewContext('new TypeError("from another realm")'))
    expect(line).to.include({ name: 'TypeError', message: 'from another realm' })
  })

  it('says of unreadable parts that they are', () => {
    const line = lineOf(Object.defineProperty(new Error('x'), 'message', { get: throws }))
    expect(line.message).to.equal('(a message that throws)')
  })

  it('names up to five causes of a long chain or a circle', () => {
    let chain = new Error('level 0')
    for (let i = 1; i <= 10_000; i += 1) chain = new Error(`level ${i}`, { cause: chain })
    const { stack } = lineOf(chain)
    expect(stack.match(/\[cause\] Error: level \d+/g)).to.deep.equal(
      [9999, 9998, 9997, 9996, 9995].map((n) => `[cause] Error: level ${n}`),
    )
    expect(stack).to.match(/… and more$/)

    const circle = new Error('round')
    circle.cause = circle
    expect(lineOf(circle).stack.match(/\[cause\]/g)).to.have.length(5)
    expect(lineOf(new Error('x', { cause: 'a text' })).stack).to.match(/\[cause\] 'a text'$/)
  })

  it('names the errors of an AggregateError', () => {
    const errors = [
      new TypeError('first', { cause: new Error('deep') }),
      'second',
      ...Array.from({ length: 100 }, () => new Error('x')),
    ]
    const { stack, name } = lineOf(new AggregateError(errors, 'all failed'))
    expect(name).to.equal('AggregateError')
    expect(stack)
      .to.include('[errors[0]] TypeError: first')
      .and.to.include("[errors[1]] 'second'")
      .and.to.match(/… and more$/)
    expect(lineOf(new AggregateError([new TypeError('first', { cause: new Error('deep') })], 'one')).stack).to.match(
      /\[errors\[0\]\] TypeError: first\n {2}\[cause\] Error: deep$/,
    )
  })

  it('cuts by bytes, in every script, and keeps the frames below a very long message', () => {
    for (const unit of ['x', 'é', '漢', '😀', '\u0000', '\ud800', '"', '\n']) {
      const line = lineOf(new Error(unit.repeat(50_000)))
      expect(line.message).to.match(/…$/)
      expect(Buffer.byteLength(JSON.stringify(line.message))).to.be.above(2 * 1024 - 16)
      expect(line.stack).to.include('json.spec')
    }
    lineOf(new Error('x'.repeat(50_000_000)))
    lineOf(
      Object.assign(new Error('x'), { name: 'n'.repeat(1e6), code: 'c'.repeat(1e6), stack: '漢\u0001'.repeat(1e6) }),
    )
    lineOf('x'.repeat(50_000_000))
  })

  it('leaves room for the causes below a very long stack', () => {
    let error = new Error('x'.repeat(5000))
    for (let i = 0; i < 8; i += 1) error = new Error('y'.repeat(5000), { cause: error })
    error.stack = '    at frame\n'.repeat(5000)
    const { stack } = lineOf(error)
    expect(stack.match(/\[cause\] Error: y{900}/g)).to.have.length(5)
    expect(stack.match(/at frame/g)).to.have.length.above(500)
  })

  it('keeps what fits to the byte', () => {
    const fits = 'x'.repeat(2 * 1024)
    expect(lineOf(new Error(fits)).message).to.equal(fits)
    expect(lineOf(new Error(`${fits}x`)).message).to.equal(`${'x'.repeat(2 * 1024 - 3)}…`)
  })

  it('masks the passwords of URLs, also where a text is cut', () => {
    for (let before = 1900; before < 2100; before += 7) {
      const secret = new Error(`${'x '.repeat(before / 2)}redis://user:planted@host:6379/0 refused`)
      const text =
        encodeError(new Error('outer', { cause: secret }), { attempt: 1 }) + encodeError(secret, { attempt: 1 })
      expect(text).not.to.include('plante')
    }
  })
})
