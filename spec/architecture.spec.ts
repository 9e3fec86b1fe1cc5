/**
 * The layers, read from the imports: a value import goes to an earlier group, to a line above in its own group, or to a
 * sibling in its own folder, and never in a circle. `import type` may point anywhere.
 */
import { expect } from 'chai'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { KEY_KINDS } from '../lib/storage/redis/keys.ts'

const LIB = fileURLToPath(new URL('../lib/', import.meta.url))

/** From the ground up; within a group from top to bottom. A name that ends in a slash stands for every file of that folder. */
const GROUPS: readonly (readonly string[])[] = [
  // 0 ground, for every layer
  [
    ...[
      'errors.ts',
      'task-status.ts',
      'batches.ts',
      'clock.ts',
      'logger.ts',
      'json.ts',
      'args-schema.ts',
      'did-you-mean.ts',
      'record-id.ts',
      'package-version.ts',
      'options.ts',
      'turnover-map.ts',
    ],
    'task-backends.ts',
  ],
  // 1 storage
  [
    ...[
      'storage/stored-record.ts',
      'storage/minute-counts.ts',
      'storage/storage.ts',
      'storage/merge-positions.ts',
      'storage/grouped-storage.ts',
      'storage/invariants.ts',
      'storage/inspection.ts',
      'storage/judgement.ts',
    ],
    ...['storage/redis/', 'storage/memory/', 'storage/sharded/'],
  ],
  // 2 records and streams
  [
    ...['task-result.ts', 'record-filter.ts', 'record-page.ts', 'record-walk.ts', 'record-query.ts', 'task-record.ts'],
    'stream-queue.ts',
    'worker-report.ts',
  ],
  // 3 tasks and the base of all backends
  ['task-context.ts', 'task-registry.ts', 'retry-policy.ts', 'task.ts', 'task-backend.ts'],
  // 4 attempt and maintenance
  ['lease-keeper.ts', 'attempt.ts', 'delivery-run.ts', 'maintenance.ts', 'doctor.ts'],
  // 5 wiring, the only files that name a storage class
  ['backends/', 'configure-tasks.ts'],
  // 6 running
  [
    ...['executor-options.ts', 'executor.ts', 'worker-parts.ts', 'worker-options.ts', 'worker-events.ts'],
    ...[
      'worker-state.ts',
      'worker-errands.ts',
      'worker-early-cancels.ts',
      'worker-hand-back.ts',
      'worker-hands.ts',
      'worker-outcomes.ts',
    ],
    ...['worker-reader.ts', 'worker-upkeep.ts', 'worker-loop.ts', 'worker.ts'],
  ],
  // 7 edges
  ['http/', 'cli/'],
  // 8 the public door
  ['index.ts'],
]

const LINES = GROUPS.flatMap((names, group) => names.map((name) => ({ group, name })))

/** Where a file stands: its line in GROUPS, -1 when it has none. */
function lineOf(file: string): number {
  return LINES.findIndex(({ name }) => (name.endsWith('/') ? file.startsWith(name) : file === name))
}

interface Import {
  readonly from: string
  readonly to: string
  /** Gone once compiled. */
  readonly typeOnly: boolean
}

const FILES = readdirSync(LIB, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
  .map((entry) => relative(LIB, join(entry.parentPath, entry.name)))
  .sort()

const SOURCES = new Map(
  FILES.map((file) => [
    file,
    ts.createSourceFile(file, readFileSync(join(LIB, file), 'utf8'), ts.ScriptTarget.Latest, true),
  ]),
)

/** Every import and re-export of our own files, `import(…)` included; one with braces full of types still imports at run time. */
function importsOf(file: string, source: ts.SourceFile): Import[] {
  const found: Import[] = []
  const add = (specifier: ts.Node | undefined, typeOnly: boolean): void => {
    if (!specifier || !ts.isStringLiteral(specifier) || !specifier.text.startsWith('.')) return
    found.push({ from: file, to: join(dirname(file), specifier.text), typeOnly })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword)
    } else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly)
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0], false)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

const IMPORTS = [...SOURCES].flatMap(([file, source]) => importsOf(file, source))
const VALUES = IMPORTS.filter(({ typeOnly }) => !typeOnly)
const shown = ({ from, to }: Import): string => `${from} -> ${to}`

/** Whether a value import is permitted. */
function pointsDown({ from, to }: Import): boolean {
  return lineOf(to) < lineOf(from) || (dirname(from) !== '.' && dirname(from) === dirname(to))
}

/** A way from a file back to itself. */
function circles(): string[] {
  const targets = new Map<string, string[]>()
  for (const { from, to } of VALUES) targets.set(from, [...(targets.get(from) ?? []), to])
  const found: string[] = []
  const done = new Set<string>()
  const walk = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) {
      found.push([...path.slice(path.indexOf(file)), file].join(' -> '))
      return
    }
    if (done.has(file)) return
    for (const target of targets.get(file) ?? []) walk(target, [...path, file])
    done.add(file)
  }
  for (const file of targets.keys()) walk(file, [])
  return found
}

/** Every text in quotes or backticks that is no module name, with its file. */
function* literals(): Generator<readonly [file: string, text: string]> {
  for (const [file, source] of SOURCES) {
    const found: string[] = []
    const visit = (node: ts.Node): void => {
      if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node)) found.push(node.text)
      ts.forEachChild(node, visit)
    }
    visit(source)
    for (const text of found) yield [file, text]
  }
}

describe('the layers of lib/', () => {
  it('hold every file', () => {
    expect(FILES.filter((file) => lineOf(file) === -1)).to.deep.equal([])
    const names = LINES.map(({ name }) => name)
    expect(names.filter((name) => !FILES.some((file) => file === name || file.startsWith(name)))).to.deep.equal([])
  })

  it('import values from below only', () => {
    expect(VALUES.filter((one) => !pointsDown(one)).map(shown)).to.deep.equal([])
  })

  it('import what is there', () => {
    expect(IMPORTS.filter(({ to }) => !FILES.includes(to)).map(shown)).to.deep.equal([])
  })

  it('have no circle', () => {
    expect(circles()).to.deep.equal([])
  })

  it('leave the public door to users', () => {
    expect(IMPORTS.filter(({ to }) => to === 'index.ts').map(shown)).to.deep.equal([])
  })

  it('keep http and cli apart', () => {
    const edge = (file: string): string => /^(http|cli)\//.exec(file)?.[1] ?? ''
    expect(
      IMPORTS.filter(({ from, to }) => edge(from) !== '' && edge(to) !== '' && edge(from) !== edge(to)).map(shown),
    ).to.deep.equal([])
  })

  it('name a storage class, and reach behind the seam, in backends/ only', () => {
    const named: string[] = []
    for (const [file, source] of SOURCES) {
      if (file.startsWith('backends/') || file.startsWith('storage/')) continue
      const visit = (node: ts.Node): void => {
        if (ts.isIdentifier(node) && /^(Redis|Memory|Sharded)Storage$/.test(node.text))
          named.push(`${file}: ${node.text}`)
        ts.forEachChild(node, visit)
      }
      visit(source)
    }
    expect(named).to.deep.equal([])
    const outside = VALUES.filter(({ from, to }) => /^storage\/\w+\//.test(to) && !/^(storage|backends)\//.test(from))
    expect(outside.map(shown)).to.deep.equal([])
  })

  it('know Redis in storage/redis and the files that wire it', () => {
    const drivers: string[] = []
    for (const [file, source] of SOURCES) {
      const visit = (node: ts.Node): void => {
        if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
          if (/^(ioredis|iovalkey)/.test(node.moduleSpecifier.text)) drivers.push(file)
        }
        ts.forEachChild(node, visit)
      }
      visit(source)
    }
    expect(drivers).to.deep.equal([])
  })

  it('spell keys in keys.ts only', () => {
    // What a key starts with behind the root; the words alone (`queues`, `workers`) are words of the language too.
    const starts = Object.values(KEY_KINDS)
      .map(({ pattern }) => pattern.replace(/<.*/, ''))
      .filter((start) => start.endsWith(':'))
    const spelt = [...literals()].filter(
      ([file, text]) => file !== 'storage/redis/keys.ts' && starts.some((start) => text.startsWith(start)),
    )
    expect(spelt.map(([file, text]) => `${file}: ${text}`)).to.deep.equal([])
  })

  it('would be noticed if broken: an upward import, a circle, a sibling', () => {
    const up = { from: 'task.ts', to: 'worker.ts', typeOnly: false }
    const below = { from: 'worker.ts', to: 'task.ts', typeOnly: false }
    const sibling = { from: 'http/problem.ts', to: 'http/fields.ts', typeOnly: false }
    const sameGroup = { from: 'task-record.ts', to: 'stream-queue.ts', typeOnly: false }
    expect([up, below, sibling, sameGroup].map(pointsDown)).to.deep.equal([false, true, true, false])
    const probe = ts.createSourceFile(
      'worker.ts',
      "import type { A } from './a.ts'\nimport { type B } from './b.ts'\nexport * from './c.ts'\nawait import('./d.ts')",
      ts.ScriptTarget.Latest,
    )
    expect(importsOf('worker.ts', probe).map(({ to, typeOnly }) => [to, typeOnly])).to.deep.equal([
      ['a.ts', true],
      ['b.ts', false],
      ['c.ts', false],
      ['d.ts', false],
    ])
  })
})
