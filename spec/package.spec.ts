import { expect } from 'chai'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { contentProblems, pack } from '../scripts/check-package.mjs'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  name: string
  version: string
  dependencies: Record<string, string>
  bin: Record<string, string>
}

/** What a user of the package installs beside it: no driver unless a case adds one. */
const PEERS = ['express']
/** What a user in TypeScript installs beside it. */
const TYPES = ['@types/node', '@types/express']

function link(project: string, name: string): void {
  const target = join(project, 'node_modules', name)
  mkdirSync(dirname(target), { recursive: true })
  symlinkSync(join(root, 'node_modules', name), target)
}

/** An empty project with the unpacked tarball in it, and with the dependencies it declares (and no other) as links: needs no network. */
async function installInto(project: string, tarball: string, type: 'module' | 'commonjs'): Promise<void> {
  const folder = join(project, 'node_modules', manifest.name)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type }))
  await run('tar', ['-xzf', tarball, '-C', folder, '--strip-components=1'])
  for (const name of [...Object.keys(manifest.dependencies), ...PEERS, ...TYPES]) link(project, name)
}

describe('the package', function () {
  this.timeout(60_000)

  const folder = mkdtempSync(join(tmpdir(), 'express-tasks-redis-package-'))
  const esm = join(folder, 'esm')
  const cjs = join(folder, 'cjs')
  let packed: ReturnType<typeof pack>

  before(async () => {
    await run(process.execPath, [join(root, 'scripts/build.mjs')]).catch((error: unknown) => {
      throw new Error(`expected the build to go well, got: ${(error as { stdout: string }).stdout}`)
    })
    packed = pack(folder)
    await installInto(esm, packed.tarball, 'module')
    await installInto(cjs, packed.tarball, 'commonjs')
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  it('holds every compiled module, script, view, command and page, and nothing else', () => {
    expect(contentProblems(packed.files)).to.deep.equal([])
  })

  it('has no script that runs at install', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object }
    expect(scripts).to.not.have.any.keys('preinstall', 'install', 'postinstall', 'prepare')
  })

  it('is imported by an ES module and required by a CommonJS module, with the same names', async () => {
    const print = 'console.log(JSON.stringify(Object.keys(all).sort()))'
    writeFileSync(join(esm, 'index.js'), `import * as all from '${manifest.name}'\n${print}`)
    writeFileSync(join(cjs, 'index.js'), `const all = require('${manifest.name}')\n${print}`)
    const [imported, required] = await Promise.all(
      [esm, cjs].map(async (project) => {
        const { stdout } = await run(process.execPath, ['index.js'], { cwd: project })
        return JSON.parse(stdout) as string[]
      }),
    )
    const names = Object.keys(await import('../lib/index.ts')).sort()
    expect(imported).to.deep.equal(names)
    // Node adds the mark of an ES module to what `require()` answers.
    expect(required?.filter((name) => name !== '__esModule')).to.deep.equal(names)
  })

  it('lets a process end that only imports it', async () => {
    writeFileSync(join(esm, 'quiet.js'), `import '${manifest.name}'`)
    const { stdout, stderr } = await run(process.execPath, ['quiet.js'], { cwd: esm, timeout: 10_000 })
    expect(stdout + stderr).to.equal('')
  })

  for (const command of Object.keys(manifest.bin)) {
    it(`has the command ${command}, which tells its version`, async () => {
      const bin = join(esm, 'node_modules/.bin', command)
      mkdirSync(dirname(bin), { recursive: true })
      symlinkSync(join('..', manifest.name, manifest.bin[command] ?? ''), bin)
      const { stdout } = await run(bin, ['--version'], { cwd: esm })
      expect(stdout.trim()).to.equal(manifest.version)
    })
  }

  for (const [module, moduleResolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ] as const) {
    it(`has types that hold without skipLibCheck under ${moduleResolution} resolution`, async () => {
      const project = join(esm, moduleResolution)
      mkdirSync(project)
      writeFileSync(
        join(project, 'index.ts'),
        `import * as all from '${manifest.name}'\nexport const names: string[] = Object.keys(all)\n`,
      )
      const compilerOptions = {
        module,
        moduleResolution,
        target: 'es2022',
        strict: true,
        noEmit: true,
        types: ['node'],
      }
      writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['index.ts'] }))
      const tsc = join(root, 'node_modules/typescript/bin/tsc')
      const printed = await run(process.execPath, [tsc, '-p', project]).then(
        ({ stdout }) => stdout,
        (error: unknown) => (error as { stdout: string }).stdout,
      )
      expect(printed).to.equal('')
    })
  }

  it('names no driver type in its declarations, as the classes of the drivers do not fit each other', () => {
    const dist = join(esm, 'node_modules', manifest.name, 'dist')
    const offenders = readdirSync(dist, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.d.ts'))
      .filter((path) =>
        /\bfrom ['"](ioredis|iovalkey)['"]|\bimport\(['"](ioredis|iovalkey)['"]\)/.test(
          readFileSync(join(dist, path), 'utf8'),
        ),
      )
    expect(offenders).to.deep.equal([])
  })
})
