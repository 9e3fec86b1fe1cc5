/**
 * Checks the tarball that would be published: its contents against what may and must be inside, then publint (package.json, exports)
 * and attw (what TypeScript finds). Builds nothing and needs no network: `npm run package` builds first.
 * spec/package.spec.ts uses the same functions, and goes on to install the tarball.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @typedef {{ path: string, mode: number }} PackedFile */
/** @typedef {{ tarball: string, files: PackedFile[] }} Packed */

const root = fileURLToPath(new URL('..', import.meta.url))

/** Single files that are always inside. */
const REQUIRED = [
  ...['package.json', 'README.md', 'CHANGELOG.md', 'LICENSE'],
  ...['bin/run-redis-tasks', 'bin/purge-completed', 'dist/index.js', 'dist/index.d.ts'],
]

/** @param {string} folder @param {RegExp} pattern @returns {string[]} files below, as slash-separated paths from the project's root */
function filesBelow(folder, pattern) {
  try {
    return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
      .filter((path) => pattern.test(path))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}

/** @returns {string[]} every path the tarball has to hold, and no other may be in it */
export function expectedFiles() {
  const modules = filesBelow('lib', /\.ts$/).flatMap((path) => {
    const stem = path.replace(/^lib\//, 'dist/').replace(/\.ts$/, '')
    return [`${stem}.js`, `${stem}.d.ts`]
  })
  const scripts = filesBelow('lib', /\.lua$/).map((path) => path.replace(/^lib\//, 'dist/'))
  const pages = filesBelow('docs', /^docs\/[^/]+\.md$/)
  return [...new Set([...REQUIRED, ...modules, ...scripts, ...pages, ...filesBelow('views', /./)])].sort()
}

/** @param {string} folder where the tarball goes @returns {Packed} */
export function pack(folder) {
  const { status, stdout, stderr } = spawnSync(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--pack-destination', folder],
    { cwd: root, encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`expected npm pack to go well, got: ${stderr}`)
  const [packed] = /** @type {({ filename: string, files: PackedFile[] } | undefined)[]} */ (
    /** @type {unknown} */ (JSON.parse(stdout))
  )
  if (!packed) throw new Error(`expected npm pack to print what it packed, got: ${stdout}`)
  return { tarball: join(folder, packed.filename), files: packed.files }
}

/** @param {PackedFile[]} files @returns {string[]} one sentence for each file that is missing, too many or not executable */
export function contentProblems(files) {
  const expected = new Set(expectedFiles())
  const packed = new Set(files.map(({ path }) => path))
  return [
    ...[...expected].filter((path) => !packed.has(path)).map((path) => `${path} is missing`),
    ...[...packed].filter((path) => !expected.has(path)).map((path) => `${path} should not be inside`),
    ...files
      .filter(({ path, mode }) => path.startsWith('bin/') && (mode & 0o111) !== 0o111)
      .map(({ path }) => `${path} is not executable`),
  ]
}

/** @param {string} name of a development tool @param {string[]} args @returns {boolean} whether it is content */
function runTool(name, ...args) {
  return spawnSync(join(root, 'node_modules/.bin', name), args, { cwd: root, stdio: 'inherit' }).status === 0
}

function main() {
  const folder = mkdtempSync(join(tmpdir(), 'express-tasks-redis-package-'))
  try {
    const { tarball, files } = pack(folder)
    const problems = contentProblems(files)
    console.log(`Tarball: ${files.length} files, ${problems.length} problems`)
    for (const problem of problems) console.error(`  ${problem}`)
    const results = [
      problems.length === 0,
      runTool('publint', tarball, '--strict'),
      // ESM only: require() of it works from Node 20.19 on, which attw reports as a warning for node16.
      runTool('attw', tarball, '--profile', 'esm-only'),
    ]
    if (results.includes(false)) process.exitCode = 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
