/**
 * Finds the config file and the task modules that a command line or a config file names, by path or by glob. Says where it
 * looked. Imports none of them: settings.ts does, in the thread that runs them.
 */
import { readdirSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { didYouMean } from '../did-you-mean.ts'
import { TaskImportError } from '../errors.ts'

/** The files to import, as absolute paths. */
export interface Sources {
  readonly configFile: string | undefined
  readonly modules: readonly string[]
}

const CONFIG_NAMES = ['ts', 'mts', 'js', 'mjs', 'cjs'].map((extension) => `tasks.config.${extension}`)
const EXTENSIONS = ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts']
const DECLARATION = /\.d\.[mc]?ts$/
const IN_WORDS = EXTENSIONS.join(' ')

/**
 * The config file and the modules that a command line names.
 *
 * @throws TaskImportError one of them is not there.
 */
export function findSources(cwd: string, config: string | undefined, patterns: readonly string[]): Sources {
  return { configFile: findConfig(cwd, config), modules: findModules(cwd, patterns) }
}

function findConfig(cwd: string, config: string | undefined): string | undefined {
  if (config === undefined) return CONFIG_NAMES.map((name) => join(cwd, name)).find(isFile)
  const file = resolve(cwd, config)
  if (isFile(file)) return checkExtension(config, file)
  throw new TaskImportError(config, 'no such file', `looked for ${file}${suggestion(file)}`)
}

/** Paths and globs, relative to `folder`, as files: in the order given, those of a glob by name, each once. */
export function findModules(folder: string, patterns: readonly string[]): string[] {
  const found = patterns.flatMap((pattern) => {
    const file = resolve(folder, pattern)
    if (isFile(file)) return [checkExtension(pattern, file)]
    if (!hasMagic(pattern)) {
      const isFolder = statSync(file, { throwIfNoEntry: false })?.isDirectory() === true
      const cure = isFolder ? `name its modules: "${join(pattern, '*.js')}"` : `looked for ${file}${suggestion(file)}`
      throw new TaskImportError(pattern, isFolder ? 'a folder' : 'no such file', cure)
    }
    const matches = [...new Set(alternatives(file).flatMap((path) => filesLike(path)))].sort()
    if (matches.length > 0) return matches
    throw new TaskImportError(pattern, 'no file that matches', `looked for ${IN_WORDS} files like ${file}`)
  })
  return [...new Set(found.map((file) => realpathSync(file)))]
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true
}

function checkExtension(name: string, file: string): string {
  if (EXTENSIONS.includes(extname(file))) return file
  throw new TaskImportError(name, `a file that ends in "${extname(file)}"`, `modules end in ${IN_WORDS}`)
}

function suggestion(file: string): string {
  const names = entriesOf(dirname(file)).map(({ name }) => name)
  const hint = didYouMean(basename(file), names, (near) => near)
  return hint === undefined ? '' : `; ${hint}`
}

// Globs: * ? [abc] {a,b} and **, as a shell knows them

const hasMagic = (text: string): boolean => /[*?[{]/.test(text)

/** One path for each way through its braces. */
function alternatives(path: string): string[] {
  const [, before = '', inside = '', after = ''] = /^(.*?)\{([^{}]*)\}(.*)$/s.exec(path) ?? []
  if (inside === '') return [path]
  return inside.split(',').flatMap((choice) => alternatives(before + choice + after))
}

function filesLike(path: string): string[] {
  const segments = path.split(/[/\\]/)
  const first = segments.findIndex(hasMagic)
  if (first === -1) return isFile(path) ? [path] : []
  return walk(segments.slice(0, first).join('/') || '/', segments.slice(first))
}

function walk(folder: string, [segment = '', ...rest]: readonly string[]): string[] {
  const entries = entriesOf(folder)
  if (segment === '**') {
    const below = entries.filter((entry) => entry.isDirectory() && !/^\.|^node_modules$/.test(entry.name))
    const deeper = below.flatMap(({ name }) => walk(join(folder, name), [segment, ...rest]))
    return [...walk(folder, rest.length > 0 ? rest : ['*']), ...deeper]
  }
  const like = patternOf(segment)
  const isOut = (name: string): boolean =>
    hasMagic(segment) && (name === 'node_modules' || (name.startsWith('.') && !segment.startsWith('.')))
  const matching = entries.map(({ name }) => name).filter((name) => like.test(name) && !isOut(name))
  if (rest.length > 0) return matching.flatMap((name) => walk(join(folder, name), rest))
  return matching
    .map((name) => join(folder, name))
    .filter((file) => EXTENSIONS.includes(extname(file)) && !DECLARATION.test(file) && isFile(file))
}

function patternOf(segment: string): RegExp {
  const source = segment.replace(/\[!?[^\]]+\]|[\\^$.*+?()[\]{}|]/g, (found) => {
    if (found === '*') return '.*'
    if (found === '?') return '.'
    if (found.length > 1) return found.replace(/^\[!/, '[^').replaceAll('\\', '\\\\')
    return `\\${found}`
  })
  return new RegExp(`^${source}$`, 's')
}

function entriesOf(folder: string): { name: string; isDirectory(): boolean }[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    // A folder that is not there, or not to be read, has no file that matches.
    if (error instanceof Error && 'code' in error) return []
    throw error
  }
}
