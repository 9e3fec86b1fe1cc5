import { expect } from 'chai'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { findSources } from '../../lib/cli/source-files.ts'
import { TaskImportError } from '../../lib/errors.ts'

const FILES = [
  ...['a.js', 'b.mjs', 'c.ts', 'd.d.ts', 'e.json', 'tasks/a.js', 'tasks/b.js', 'tasks/.hidden.js', 'tasks/deep/a.js'],
  ...[
    'tasks/deep/er/c.cts',
    'tasks/node_modules/x.js',
    '[id].js',
    'a+b.js',
    'app/tasks.config.mjs',
    'app/tasks.config.ts',
  ],
]

describe('findSources', () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'express-tasks-redis-files-')))

  before(() => {
    for (const file of FILES) {
      mkdirSync(dirname(join(folder, file)), { recursive: true })
      writeFileSync(join(folder, file), '')
    }
    symlinkSync(folder, join(folder, 'tasks/loop'))
    symlinkSync(join(folder, 'a.js'), join(folder, 'again.js'))
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  const find = (...patterns: string[]): string[] =>
    findSources(folder, undefined, patterns).modules.map((file) => relative(folder, file))

  for (const [patterns, found] of [
    [
      ['b.mjs', 'a.js'],
      ['b.mjs', 'a.js'],
    ],
    [['a.js', './a.js', 'again.js', join(folder, 'a.js')], ['a.js']],
    [['*.js'], ['[id].js', 'a+b.js', 'a.js']],
    [['?.*'], ['a.js', 'b.mjs', 'c.ts']],
    [['[ab].*s'], ['a.js', 'b.mjs']],
    [['[!ab].*'], ['c.ts']],
    [['{a,b,none}.{js,mjs}'], ['a.js', 'b.mjs']],
    [['tasks/*.js'], ['tasks/a.js', 'tasks/b.js']],
    [['tasks/**/*.js'], ['tasks/a.js', 'tasks/b.js', 'tasks/deep/a.js']],
    [['tasks/**'], ['tasks/a.js', 'tasks/b.js', 'tasks/deep/a.js', 'tasks/deep/er/c.cts']],
    [['**/er/*'], ['tasks/deep/er/c.cts']],
    [['tasks/{deep,none}/**/*.{js,cts}'], ['tasks/deep/a.js', 'tasks/deep/er/c.cts']],
    [['tasks/../tasks/d*/a.js'], ['tasks/deep/a.js']],
    [['[id].js'], ['[id].js']],
    [['a+b.*'], ['a+b.js']],
    [['tasks/.*.js'], ['tasks/.hidden.js']],
  ] as const) {
    it(`finds ${found.join(' ')} by ${patterns.join(' ').replace(folder, '…')}`, () => {
      expect(find(...patterns)).to.deep.equal(found)
    })
  }

  for (const pattern of ['none.js', 'tasks', 'e.json', '*.json', 'none/**/*.js', '{x,y}.js', '', '*.d.ts']) {
    it(`refuses ${JSON.stringify(pattern)}`, () => {
      expect(() => find(pattern)).to.throw(TaskImportError)
    })
  }

  it('finds the first config file by name, and none where there is none', () => {
    expect(findSources(join(folder, 'app'), undefined, []).configFile).to.equal(join(folder, 'app/tasks.config.ts'))
    expect(findSources(folder, undefined, []).configFile).to.equal(undefined)
    expect(findSources(folder, 'app/tasks.config.mjs', []).configFile).to.equal(join(folder, 'app/tasks.config.mjs'))
  })
})
