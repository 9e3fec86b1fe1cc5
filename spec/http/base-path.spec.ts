import { expect } from 'chai'
import { baseOf } from '../../lib/http/base-path.ts'

describe('The path that the router is mounted at', () => {
  const rows: readonly (readonly [baseUrl: string, expected: string])[] = [
    ['', ''],
    ['/tasks', '/tasks'],
    ['/a%22c/tasks', '/a%22c/tasks'],
    ['//evil.test/tasks', '/evil.test/tasks'],
    ['/\\evil.test/tasks', '/%5Cevil.test/tasks'],
    ['\\\\evil.test', '/%5C%5Cevil.test'],
    ['/%0d%0aset-cookie:x/tasks', '/%0d%0aset-cookie:x/tasks'],
    ['/\r\nset-cookie:x', '/%0D%0Aset-cookie:x'],
    ['/\u007f\u00e9', '/%7F%C3%A9'],
  ]
  for (const [baseUrl, expected] of rows) {
    it(`is ${JSON.stringify(expected)} for ${JSON.stringify(baseUrl)}`, () => {
      expect(baseOf({ baseUrl })).to.equal(expected)
    })
  }
})
