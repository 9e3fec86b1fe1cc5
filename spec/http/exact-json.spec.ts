import { expect } from 'chai'
import fc from 'fast-check'
import { inexactJson } from '../../lib/http/exact-json.ts'
import { readableJson } from '../../lib/http/admin-format.ts'
import { jsonTokens } from '../../lib/http/json-tokens.ts'

describe('JSON before it is parsed', () => {
  const rows: readonly (readonly [text: string, pointer: string | undefined])[] = [
    ['{"a":[1,{"b":9007199254740993}]}', '/a/1/b'],
    ['[12345678901234567890]', '/0'],
    ['{"a/b":{"~":1e400}}', '/a~1b/~0'],
    ['[-1e400]', '/0'],
    ['[1e-400]', '/0'],
    ['{"a":1,"b":{"a":1,"a":2}}', '/b/a'],
    ['{"a":1,"\\u0061":2}', '/a'],
    ['{"__proto__":1,"__proto__":2}', '/__proto__'],
    ['[9007199254740991,-9007199254740991,0.1,1e300,0,0e9,-0,5e-324]', undefined],
    ['{"a":"9007199254740993","9007199254740993":1}', undefined],
    ['[{"a":1},{"a":1}]', undefined],
    ['{"a":["a","a"],"b":{"a":{"a":1}}}', undefined],
  ]
  for (const [text, pointer] of rows) {
    it(`${pointer === undefined ? 'takes' : 'refuses'} ${text}`, () => {
      expect(inexactJson(text)?.pointer).to.equal(pointer)
    })
  }

  it('passes everything that JSON.stringify writes, and its tokens are all of its text', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const text = JSON.stringify(value)
        // A double beyond 2^53 is written as an integer that it does not carry.
        fc.pre(!/\d{16}/.test(text))
        expect([...jsonTokens(text)].join('')).to.equal(text)
        expect(inexactJson(text)).to.equal(undefined)
        expect(JSON.parse(readableJson(text).text)).to.deep.equal(JSON.parse(text))
      }),
      { numRuns: 100 },
    )
  })

  it('says nothing of text that is no JSON: the parser will', () => {
    for (const text of ['', '"', '{"a', '}}]]', '::,,', '{"a":12x}', '[1 2', '{"\\ud8":1,"\\ud8":1}', '\\"'])
      expect(() => inexactJson(text)).not.to.throw()
  })

  const hostile: readonly (readonly [name: string, text: string])[] = [
    ['escaped quotes without an end', `{"a":"${'\\"'.repeat(130_000)}`],
    ['backslashes without an end', `["${'\\'.repeat(260_001)}`],
    ['quotes', '"'.repeat(260_000)],
    ['one string', JSON.stringify(['x'.repeat(20_000_000)])],
    ['one number', '1'.repeat(260_000)],
    ['brackets', '['.repeat(260_000)],
    ['commas', `[${','.repeat(260_000)}`],
    ['keys', `{${Array.from({ length: 26_000 }, (_, index) => `"k${index}":1`).join()}`],
  ]
  for (const [name, text] of hostile) {
    it(`takes time in proportion to the length of the text: ${name}`, () => {
      const startedAt = performance.now()
      inexactJson(text)
      readableJson(text, 2_048)
      // Tens of milliseconds; twenty seconds with a pattern that goes back.
      expect(performance.now() - startedAt).to.be.below(3_000)
    })
  }
})
