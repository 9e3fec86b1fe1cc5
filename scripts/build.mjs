/**
 * Builds `dist/` from `lib/`: tsc, then the files that tsc leaves alone (`*.lua`), then removes what has no source any more.
 * Never empties `dist/`: a command or a spec that runs meanwhile keeps its files. What tsc remembers lies in `dist/` too, so that
 * deleting the folder means a build from nothing.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const lib = join(root, 'lib')
const dist = join(root, 'dist')
const memory = 'tsconfig.build.tsbuildinfo'

/** @param {string} folder @returns {string[]} the files below it, as paths relative to it */
function filesBelow(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
}

function compile() {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

const sources = filesBelow(lib)
const scripts = sources.filter((file) => file.endsWith('.lua'))
const modules = sources.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
const compiled = modules.flatMap((file) => [file.replace(/\.ts$/, '.js'), file.replace(/\.ts$/, '.d.ts')])

compile()
if (compiled.some((file) => !existsSync(join(dist, file)))) {
  // Somebody deleted single files of dist, which tsc does not notice.
  rmSync(dist, { recursive: true, force: true })
  compile()
}

if (scripts.length === 0 && existsSync(join(lib, 'storage/redis/scripts'))) {
  console.error(
    'expected lib/storage/redis/scripts to hold *.lua files, got: none (a package without them cannot work)',
  )
  process.exit(1)
}
for (const file of scripts) {
  mkdirSync(dirname(join(dist, file)), { recursive: true })
  copyFileSync(join(lib, file), join(dist, file))
}

const wanted = new Set([memory, ...compiled, ...scripts])
for (const file of filesBelow(dist)) {
  if (!wanted.has(file)) rmSync(join(dist, file))
}
