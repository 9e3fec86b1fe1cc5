/**
 * Bad input: values that no field should take, or that it should take as text and nothing else. By subject: names and ids, JSON,
 * numbers, times, keys, whole requests, hostile text. Data only; who uses it says what must come of it.
 */

/** A name as the contract has it, written here anew. */
export const isName = (text: string): boolean => /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(text)

const CRLF_COMMAND = 'a\r\nFLUSHALL\r\n'

/** Names of queues, tasks and backends, and ids of records. Some are good names: see `isName`. */
export const NAMES: readonly string[] = [
  '',
  'x'.repeat(129),
  'x'.repeat(10_000),
  'a:b',
  '{a}',
  'a}b{',
  '*',
  '?',
  '[x]',
  'a b',
  'a\tb',
  CRLF_COMMAND,
  'a\u0000b',
  '\u0000',
  '\ud800',
  'caf\u00e9',
  'cafe\u0301',
  'a\u202eb',
  'a\u200db',
  '..',
  '../../x',
  '%2e%2e%2f',
  '%00',
  '__proto__',
  '-1',
  '$where',
  '${7*7}',
  '<b>',
  "'; DROP TABLE x; --",
]

/** Names that look wrong and are good: of members of objects, of numbers, of our own keys, and the longest. */
export const ODD_NAMES: readonly string[] = [
  'a',
  'x'.repeat(64),
  'x'.repeat(65),
  'x'.repeat(128),
  'constructor',
  'prototype',
  'hasOwnProperty',
  'toString',
  'valueOf',
  '0',
  'NaN',
  '1e309',
  '0x10',
  'null',
  'undefined',
  'cells',
  'queues',
  'task',
  'delayed',
  'leases',
  'stream',
  'a..b',
  'READY',
]

/** JSON values where a number, a flag, a text or a list is wanted. */
export const WRONG_TYPES: readonly unknown[] = [
  null,
  true,
  0,
  1.5,
  '',
  'abc',
  [],
  [[]],
  [null],
  {},
  { $gt: '' },
  { toString: 'x', valueOf: 'x' },
  { length: 1e9 },
]

/** Numbers as JSON text, where an integer in a sensible range is wanted. */
export const WRONG_NUMBERS: readonly string[] = [
  '-1',
  '1.5',
  '1e9',
  '-1e9',
  '1e308',
  '-0.1',
  '9007199254740991',
  '"5"',
  '"abc"',
  '"NaN"',
  '"Infinity"',
  '"0x10"',
  'null',
  'true',
  '[]',
  '[5]',
  '{}',
]

/** Numbers as a query or a form writes them. */
export const WRONG_NUMBER_TEXTS: readonly string[] = [
  '-1',
  '1.5',
  '1e9',
  'abc',
  'NaN',
  'Infinity',
  '-Infinity',
  '5x',
  '0x10',
  '1e1',
  ' 5',
  '+5',
  '1e309',
  '99999999999999999999',
  '1,000',
  '٣',
  '1_000',
  "1'0",
]

/** Times where RFC 3339 with a zone is wanted. */
export const WRONG_TIMES: readonly unknown[] = [
  '2030-01-31T12:00:00',
  '2030-02-30T12:00:00Z',
  '2030-13-01T00:00:00Z',
  '2030-01-31',
  '2030-01-31T25:00:00Z',
  '2030-01-31T12:00:00+99:00',
  '+275761-01-01T00:00:00Z',
  '-000001-01-01T00:00:00Z',
  '99999-01-01T00:00:00Z',
  'NaN',
  'Infinity',
  'now',
  '',
  '1e21',
  '1700000000',
  1_700_000_000,
  1_700_000_000_000,
  1_700_000_000_000_000,
  8_640_000_000_000_001,
  -1,
  null,
  true,
  [],
  {},
]

/** Times for the admin's filters, which take days and ages as well. */
export const WRONG_ADMIN_TIMES: readonly string[] = [
  '2026-02-30',
  '2026-13-01',
  '99999-01-01',
  '-1h',
  '1.5h',
  'h',
  '24',
  '999999h',
  'NaN',
  'Infinity',
  'yesterday',
  '1700000000000',
  '2030-01-31T12:00:00+99:00',
]

/** Keys that a template engine, a query parser or a careless merge would obey. */
export const KEYS: readonly string[] = [
  'settings[view options][client]',
  'settings[view options][escapeFunction]',
  'settings[view options][outputFunctionName]',
  'settings',
  'client',
  'delimiter',
  'escapeFunction',
  'escape',
  'outputFunctionName',
  'destructuredLocals',
  'include',
  'filename',
  'root',
  'views',
  'localsName',
  '_locals',
  'cache',
  'page',
  '__proto__',
  '__proto__[polluted]',
  'constructor',
  'constructor[prototype][polluted]',
  'constructor.prototype.polluted',
  'a[]',
  'a[b]',
  'a[b][c]',
  '_method',
  'max_task',
  '',
]

export interface BadBody {
  readonly name: string
  readonly body: string | Buffer
  readonly type?: string | null
  readonly headers?: Readonly<Record<string, string>>
  readonly status: number
  readonly pointer?: string
}

const nested = (depth: number): string => `{"args":${'['.repeat(depth)}${']'.repeat(depth)}}`
const GZIP = Buffer.from('1f8b0800000000000003abae05004300ef8b02000000', 'hex')

/** Bodies that no route takes. */
export const BODIES: readonly BadBody[] = [
  { name: 'broken JSON', body: '{"args":[', status: 400 },
  { name: 'two values', body: '{}{}', status: 400 },
  { name: 'a list', body: '[]', status: 400 },
  { name: 'a text', body: '"x"', status: 400 },
  { name: 'null', body: 'null', status: 400 },
  { name: 'a number', body: '1', status: 400 },
  { name: 'NaN', body: '{"args":[NaN]}', status: 400 },
  { name: 'a comment', body: '{/**/}', status: 400 },
  { name: 'single quotes', body: "{'args':[]}", status: 400 },
  { name: 'a raw control character', body: '{"args":["\u0001"]}', status: 400 },
  { name: 'the same key twice', body: '{"x":[1],"x":[2]}', status: 400, pointer: '/x' },
  { name: 'the same key twice, one escaped', body: '{"x":1,"\\u0078":2}', status: 400, pointer: '/x' },
  { name: 'an own __proto__', body: '{"__proto__":{"polluted":1}}', status: 400, pointer: '/__proto__' },
  {
    name: 'an own constructor.prototype',
    body: '{"constructor":{"prototype":{"polluted":1}}}',
    status: 400,
    pointer: '/constructor',
  },
  { name: 'depth 100', body: nested(100), status: 400, pointer: '' },
  { name: 'depth 1,000', body: nested(1_000), status: 400, pointer: '' },
  { name: 'depth 100,000', body: nested(100_000), status: 400, pointer: '' },
  { name: 'unclosed depth 200,000', body: '['.repeat(200_000), status: 400 },
  { name: 'objects to depth 30,000', body: '{"a":'.repeat(30_000) + '1' + '}'.repeat(30_000), status: 400 },
  {
    name: '20,000 keys',
    body: `{${Array.from({ length: 20_000 }, (_, index) => `"k${index}":0`).join()}}`,
    status: 400,
  },
  {
    name: '1,000,000 keys',
    body: `{${Array.from({ length: 1_000_000 }, (_, index) => `"k${index}":0`).join()}}`,
    status: 413,
  },
  { name: 'escaped quotes without an end', body: `{"args":["${'\\"'.repeat(120_000)}`, status: 400 },
  { name: 'a number of 250,000 digits', body: `{"args":[${'9'.repeat(250_000)}]}`, status: 400, pointer: '/args/0' },
  { name: '2^53 + 1', body: '{"args":[9007199254740993]}', status: 400, pointer: '/args/0' },
  { name: '20 digits', body: '{"args":[{"a":12345678901234567890}]}', status: 400, pointer: '/args/0/a' },
  { name: '1e400', body: '{"args":[1e400]}', status: 400, pointer: '/args/0' },
  { name: 'bytes that are no UTF-8', body: Buffer.from('{"args":["\xff\xfe"]}', 'latin1'), status: 400 },
  { name: 'a lone surrogate in bytes', body: Buffer.from('{"args":["\xed\xa0\x80"]}', 'latin1'), status: 400 },
  {
    name: 'UTF-16 that names itself',
    body: Buffer.from('{"args":[9007199254740993]}', 'utf16le'),
    type: 'application/json; charset=utf-16le',
    status: 415,
  },
  { name: 'another charset', body: '{}', type: 'application/json; charset=iso-8859-1', status: 415 },
  { name: 'a charset that is none', body: '{}', type: 'application/json; charset=../../x', status: 415 },
  { name: 'gzip', body: GZIP, headers: { 'content-encoding': 'gzip' }, status: 415 },
  { name: 'an encoding that is none', body: '{}', headers: { 'content-encoding': 'x' }, status: 415 },
  { name: 'text/plain', body: '{}', type: 'text/plain', status: 415 },
  { name: 'application/octet-stream', body: '{}', type: 'application/octet-stream', status: 415 },
  { name: 'a multipart form', body: '--x--', type: 'multipart/form-data; boundary=x', status: 415 },
  { name: 'XML', body: '<!DOCTYPE x>', type: 'application/xml', status: 415 },
  { name: 'no type', body: '{}', type: null, status: 415 },
  { name: 'a type that begins well', body: '{}', type: 'application/jsonx', status: 415 },
  { name: 'two types', body: '{}', type: 'application/json, text/plain', status: 415 },
  { name: 'a megabyte', body: JSON.stringify({ args: ['x'.repeat(1_000_000)] }), status: 413 },
  {
    name: 'a form with broken UTF-8',
    body: Buffer.from('a=\xff', 'latin1'),
    type: 'application/x-www-form-urlencoded',
    status: 400,
  },
  {
    name: 'a form with a key 20,000 times',
    body: 'statuses=FAILED&'.repeat(15_000) + 'x=1',
    type: 'application/x-www-form-urlencoded',
    status: 400,
  },
  {
    name: 'a form of commas',
    body: `statuses=${','.repeat(240_000)}`,
    type: 'application/x-www-form-urlencoded',
    status: 400,
  },
  {
    name: 'a form with deep args',
    body: `args=${'['.repeat(100_000)}${']'.repeat(100_000)}`,
    type: 'application/x-www-form-urlencoded',
    status: 400,
  },
]

/** Text that is shown: markup, terminal sequences, templates of many engines, marks that turn text, and a lot of it. */
export const HOSTILE_TEXTS: readonly string[] = [
  '<img src=x onerror=alert(1)>',
  '"><script>alert(1)</script>',
  "' onmouseover='alert(1)",
  '" autofocus onfocus="alert(1)" x="',
  '</title></head></main></body></html><h1>owned</h1>',
  '</textarea></select></option></details></svg><iframe src=//evil.test>',
  '<!--',
  '-->]]><![CDATA[',
  '<svg/onload=alert(1)>',
  '&lt;b&gt;&amp;#60;',
  'javascript:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  '//evil.test/',
  '<%= 7 * 7 %>{{7*7}}${7*7}#{7*7}<%- include("/etc/passwd") %>',
  '\u001b[31mred\u001b]8;;http://evil.test\u0007',
  '\u0000\u0007\u0008\u007f\u0085\u009b',
  '\u202egpj.exe\u2066\u2069\u200b',
  '\ud800 \udfff',
  '__proto__',
  'a\r\nset-cookie: x=1\r\n\r\n<b>',
  '\u2028\u2029',
  `<b>${'x'.repeat(20_000)}`,
]
