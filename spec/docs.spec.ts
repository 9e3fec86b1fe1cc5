/**
 * The pages against the code: tables are made from the rows that the code reads, error codes and links are compared both ways, and
 * every TypeScript block is checked by the compiler. `UPDATE_DOCS=1 npx mocha spec/docs.spec.ts` writes the tables anew.
 */
import { expect } from 'chai'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as prettier from 'prettier'
import ts from 'typescript'
import { REDIS_BACKEND_OPTIONS } from '../lib/backends/redis-task-backend.ts'
import { PURGE_FLAGS, RUN_FLAGS, type FlagTable } from '../lib/cli/flags.ts'
import { EXECUTOR_OPTIONS } from '../lib/executor-options.ts'
import { executor } from '../lib/executor.ts'
import { API_ROUTES, type ApiRoute } from '../lib/http/routes.ts'
import { ROUTER_OPTIONS } from '../lib/http/tasks-router.ts'
import * as publicNames from '../lib/index.ts'
import { NAME_PATTERN, type OptionTable, type Row } from '../lib/options.ts'
import { RETRY_OPTIONS } from '../lib/retry-policy.ts'
import { INVARIANTS } from '../lib/storage/invariants.ts'
import { KEY_KINDS, type KeyKind } from '../lib/storage/redis/keys.ts'
import { RECORD_FIELDS, SCRIPT_FIELDS } from '../lib/storage/redis/record-fields.ts'
import { MOVES } from '../lib/task-status.ts'
import { TASK_OPTIONS } from '../lib/task.ts'
import { WORKER_OPTIONS } from '../lib/worker-options.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const update = process.env['UPDATE_DOCS'] === '1'

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

function filesBelow(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort()
}

/** Every page that a user reads. */
const PAGES = ['README.md', 'CHANGELOG.md', ...filesBelow('docs', /\.md$/), ...filesBelow('examples', /\.md$/)]

// Tables

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

const code = (text: string): string => `\`${text}\``

/** What an option may be, in a few words. */
function permitted(row: Row<unknown>): string {
  switch (row.kind) {
    case 'integer':
    case 'number':
      return `${row.min} to ${row.max}`
    case 'flag':
      return 'true, false'
    case 'oneOf':
      return (row.values ?? []).map(code).join(', ')
    case 'list':
      return `a list, each ${row.item === undefined ? 'anything' : permitted(row.item)}`
    case 'text':
      if (row.pattern === NAME_PATTERN) return 'a name'
      // A pattern says it exactly where no words were found for it.
      return row.shape.includes(' that matches ') ? code(String(row.pattern)) : row.shape
    default:
      return row.shape
  }
}

function defaultOf(row: Row<unknown>): string {
  return row.default === undefined ? '' : code(JSON.stringify(row.default).replaceAll('"', "'"))
}

function optionTable(options: OptionTable): string {
  const rows = Object.entries(options).map(([name, row]) => [
    code(name),
    defaultOf(row),
    permitted(row),
    row.description,
  ])
  return table(['option', 'default', 'permitted', 'meaning'], rows)
}

/** What follows a flag. */
function valueOf(row: Row<unknown>): string {
  if (row.kind === 'flag') return ''
  if (row.kind === 'integer' || row.kind === 'number') return ' <n>'
  const { pattern, kind } = row.item ?? row
  return kind === 'oneOf' ? ' <word>' : pattern === NAME_PATTERN ? ' <name>' : ' <text>'
}

function flagTable(flags: FlagTable): string {
  const rows = Object.values(flags).map(({ name, row, unit }) => [
    code(`--${name}${valueOf(row)}`),
    row.kind === 'flag' ? '' : defaultOf(row).replaceAll(/[[\]']/g, ''),
    row.kind === 'flag'
      ? ''
      : row.kind === 'list' && row.item
        ? `${permitted(row.item)}; repeat it for more`
        : permitted(row),
    unit === undefined ? row.description : `${row.description}, in ${unit}`,
  ])
  return table(['flag', 'default', 'permitted', 'meaning'], rows)
}

function keyTable(kinds: Readonly<Record<string, KeyKind>>): string {
  const rows = Object.values(kinds).map(({ pattern, type, members, score, lifetime }) => {
    return [code(`…${pattern}`), type, members.replaceAll(/<\S*>/g, code('$&')), score, lifetime]
  })
  return table(['key', 'type', 'members', 'score', 'lifetime'], rows)
}

function routeTable(routes: readonly ApiRoute[]): string {
  const rows = routes.map(({ method, path, fields, action, summary }) => [
    code(`${method.toUpperCase()} ${path}${path.endsWith('.json') ? '' : '/'}`),
    Object.keys(fields).map(code).join(' '),
    code(action),
    summary,
  ])
  return table(['route', 'fields', 'action', 'what it does'], rows)
}

function moveTable(moves: Readonly<Record<string, readonly (readonly [string, string])[]>>): string {
  const rows = Object.entries(moves).flatMap(([script, pairs]) => pairs.map(([from, to]) => [script, from, to]))
  return table(['script', 'from', 'to'], rows)
}

function invariantTable(): string {
  const rows = Object.entries(INVARIANTS).map(([name, { holds, repair }]) => [name, holds, repair || 'none: reported'])
  return table(['', 'holds', 'repair'], rows)
}

/** What stands between `<!-- table: name -->` and `<!-- end -->` of a page, by page and name. */
const TABLES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'README.md': {
    'task options': optionTable(TASK_OPTIONS),
    'retry options': optionTable(RETRY_OPTIONS),
    'backend options': optionTable(REDIS_BACKEND_OPTIONS),
    'worker options': optionTable(WORKER_OPTIONS),
    'run-redis-tasks': flagTable(RUN_FLAGS),
    'purge-completed': flagTable(PURGE_FLAGS),
    routes: routeTable(API_ROUTES),
    'router options': optionTable(ROUTER_OPTIONS),
  },
  'docs/doctor.md': { invariants: invariantTable() },
  'docs/redis-keys.md': { keys: keyTable(KEY_KINDS) },
  'docs/states.md': { moves: moveTable(MOVES) },
}

const MARKED = /(<!-- table: ([\w -]+) -->\n)([\s\S]*?)(<!-- end -->)/g

async function withTables(page: string, text: string): Promise<string> {
  const tables = TABLES[page] ?? {}
  const filled = text.replace(MARKED, (_, start: string, name: string, _old: string, end: string) => {
    const made = tables[name]
    if (made === undefined)
      throw new Error(`expected ${page} to ask for one of ${Object.keys(tables).join(', ')}, got: ${name}`)
    return `${start}\n${made}\n\n${end}`
  })
  const config = await prettier.resolveConfig(join(root, page))
  return await prettier.format(filled, { ...config, filepath: page })
}

// Blocks of code

interface Block {
  readonly page: string
  readonly line: number
  readonly language: string
  readonly text: string
}

function blocksOf(page: string): Block[] {
  const blocks: Block[] = []
  const text = read(page)
  for (const match of text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)) {
    const line = text.slice(0, match.index).split('\n').length
    blocks.push({ page, line, language: match[1] ?? '', text: match[2] ?? '' })
  }
  return blocks
}

/** What the blocks of a page take as given: those of an app that is described around them. */
const GIVEN = `
import type { Express, Request } from 'express'
import type { MemoryTaskBackend, RedisTaskBackend, Task, TaskResult } from 'express-tasks-redis'
declare global {
  const app: Express
  const backend: RedisTaskBackend | MemoryTaskBackend
  const sendEmail: Task<[to: string, subject: string, body: string], string>
  const result: TaskResult<string>
  const id: string
  const isSignedIn: (req: Request) => boolean
  const isOperator: (req: Request) => boolean
}
`

/** Compiles blocks as files that exist in memory only, in the folder where the package finds itself by name. */
function compile(blocks: readonly Block[]): string[] {
  const given = join(root, 'given.d.ts')
  const sources = new Map([[given, GIVEN]])
  const names = blocks.map(({ page, line, text }) => {
    const name = join(root, `${page.replaceAll(/\W/g, '-')}-line-${line}.ts`)
    sources.set(name, text)
    return name
  })
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
    config: object
  }
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: ['given.d.ts'] }, ts.sys, root)
  // Blocks show things; they need not use them.
  const settings = { ...options, noUnusedLocals: false, noUnusedParameters: false, types: ['node'] }
  const host = ts.createCompilerHost(settings)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (path) => sources.has(path) || fileExists(path)
  host.readFile = (path) => sources.get(path) ?? readFile(path)
  host.getSourceFile = (path, version, ...rest) => {
    const source = sources.get(path)
    return source === undefined ? getSourceFile(path, version, ...rest) : ts.createSourceFile(path, source, version)
  }
  const program = ts.createProgram([given, ...names], settings, host)
  return ts.getPreEmitDiagnostics(program).map((diagnostic) => {
    const { file, start = 0, messageText } = diagnostic
    const at = file ? `${relative(root, file.fileName)} +${file.getLineAndCharacterOfPosition(start).line + 1}: ` : ''
    return at + ts.flattenDiagnosticMessageText(messageText, '\n')
  })
}

// Links

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

function brokenLinks(page: string): string[] {
  const text = read(page).replaceAll(/^```[\s\S]*?^```$/gm, '')
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => {
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? page : join(dirname(page), path)
      if (!existsSync(join(root, file))) return true
      return anchor !== undefined && !anchorsOf(file).includes(anchor)
    })
}

// Codes

function codesOfSource(): string[] {
  const texts = filesBelow('lib', /\.ts$/).map(read)
  const codes = texts.flatMap((text) => [
    ...text.matchAll(/'((?:ERR|WARN)_TASKS_[A-Z_]+)'|\b((?:ERR|WARN)_TASKS_[A-Z_]+):/g),
  ])
  return [...new Set(codes.map((match) => match[1] ?? match[2] ?? ''))].sort()
}

describe('the pages', function () {
  // The compiler and prettier read all of them.
  this.timeout(60_000)

  for (const page of Object.keys(TABLES)) {
    it(`${page} has the tables that the code makes`, async () => {
      const text = read(page)
      const asked = [...text.matchAll(MARKED)].map((match) => match[2])
      expect(asked).to.have.members(Object.keys(TABLES[page] ?? {}))
      const made = await withTables(page, text)
      if (update) {
        writeFileSync(join(root, page), made)
        return
      }
      const told = text.split('\n')
      const missing = made.split('\n').filter((line) => !told.includes(line))
      const hint = `UPDATE_DOCS=1 npx mocha spec/docs.spec.ts writes ${page}`
      expect(missing, hint).to.deep.equal([])
      expect(text === made, hint).to.equal(true)
    })
  }

  it('README begins with the quickstart, to the letter', () => {
    const first = blocksOf('README.md').find(({ language }) => language === 'ts')
    expect(first?.text).to.equal(read('examples/quickstart/app.ts'))
  })

  it('show no TypeScript that the compiler refuses', () => {
    const blocks = PAGES.flatMap(blocksOf).filter(({ language }) => language === 'ts')
    expect(blocks).to.not.have.lengthOf(0)
    expect(compile(blocks)).to.deep.equal([])
  })

  it('link only to what is there', () => {
    const broken = PAGES.flatMap((page) => brokenLinks(page).map((target) => `${page}: ${target}`))
    expect(broken).to.deep.equal([])
  })

  it('README names every verb of the executor with all its options, and no other', () => {
    const [, section = ''] = read('README.md').split(/^## Executor$/m)
    const rows = [...(section.split(/^## /m)[0] ?? '').matchAll(/^\| `executor\.(\w+)\((.*?)\)` .*$/gm)]
    const told = new Map(rows.map(([, verb = '', parameters = '']) => [verb, parameters]))
    expect([...told.keys()]).to.have.members(Object.keys(executor))
    const { queue, backend, ...own } = EXECUTOR_OPTIONS
    for (const [verb, parameters] of told) {
      const options: OptionTable =
        verb in own ? own[verb as keyof typeof own] : parameters.includes('queueName') ? queue : backend
      const names = [...(/\{ (.*) \}/.exec(parameters)?.[1] ?? '').matchAll(/\w+/g)].map(([name]) => name)
      expect(names, verb).to.have.members(Object.keys(options))
    }
  })

  it('docs/errors.md has a heading for every code of the source, and no other', () => {
    const told = [...read('docs/errors.md').matchAll(/^### ((?:ERR|WARN)_TASKS_[A-Z_]+)$/gm)].map((match) => match[1])
    expect(told.toSorted()).to.deep.equal(codesOfSource())
  })

  it('docs/errors.md says of every code what it means and what to do, and names only errors that are exported', () => {
    const sections = read('docs/errors.md').split(/^### /m).slice(1)
    for (const section of sections) {
      expect(section, section.split('\n')[0])
        .to.match(/\*\*Cause\.\*\* \S/)
        .and.to.match(/\*\*Cure\.\*\* \S/)
      for (const [name] of section.matchAll(/\b(?:Task|Storage)\w+Error\b/g)) expect(publicNames).to.have.property(name)
    }
  })

  it('docs/redis-keys.md names every field of a record, and no other', () => {
    const [, fields = ''] = /## A record\n([\s\S]*?)(?=\n## |$)/.exec(read('docs/redis-keys.md')) ?? []
    const told = [...fields.matchAll(/^\| (`.*?`) +\|/gm)].flatMap(([, cell = '']) => [...cell.matchAll(/\w+/g)])
    // Fields that only scripts read.
    const known = [...RECORD_FIELDS, ...SCRIPT_FIELDS]
    expect(told.map(([name]) => name)).to.have.members(known)
  })
})
