/**
 * Pages from templates: our own files of `views/`, read and compiled once, with fixed options. Never the host's view engine.
 * A template gets one object without prototype, by the name `page`: its model, and `include` for our other templates.
 * Also the assets: read once, served under a name that holds the hash of their content.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ejs from 'ejs'
import { escapeHtml } from './admin-escape.ts'

type Template = (page: object) => string

/** `views/` stands beside `lib/` and beside `dist/`; this file is two folders below either's parent. */
const VIEWS = fileURLToPath(new URL('../../views/', import.meta.url))

/** Every option that ejs reads, so that nothing is taken from elsewhere. */
const EJS_OPTIONS = {
  strict: true,
  _with: false,
  localsName: 'page',
  escape: escapeHtml,
  delimiter: '%',
  openDelimiter: '<',
  closeDelimiter: '>',
  compileDebug: false,
  debug: false,
  client: false,
  async: false,
  cache: false,
  rmWhitespace: true,
} as const

let templates: ReadonlyMap<string, Template> | undefined

function load(): ReadonlyMap<string, Template> {
  const files = readdirSync(VIEWS).filter((file) => file.endsWith('.ejs'))
  return new Map(
    files.map((file) => {
      const text = readFileSync(join(VIEWS, file), 'utf8')
      return [file.slice(0, -'.ejs'.length), ejs.compile(text, { ...EJS_OPTIONS })]
    }),
  )
}

/** The text of a template with a model. Every key that the template reads must be the model's own. */
export function render(name: string, model: object): string {
  templates ??= load()
  const template = templates.get(name)
  if (!template) throw new Error(`expected a template of views/, got: ${name}`)
  const page = Object.assign(Object.create(null) as object, model, { include: render })
  return template(page)
}

export interface Asset {
  /** With the hash of its content. */
  readonly fileName: string
  readonly type: string
  readonly body: Buffer
}

const TYPES: Readonly<Record<string, string>> = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml; charset=utf-8',
}

let loaded: { readonly byName: ReadonlyMap<string, Asset>; readonly byFileName: ReadonlyMap<string, Asset> } | undefined

function assets(): NonNullable<typeof loaded> {
  if (loaded) return loaded
  const byName = new Map<string, Asset>()
  const folder = join(VIEWS, 'assets')
  for (const file of existsSync(folder) ? readdirSync(folder) : []) {
    const [stem = '', extension = ''] = file.split('.')
    const type = TYPES[extension]
    if (type === undefined) continue
    const body = readFileSync(join(folder, file))
    const hash = createHash('sha256').update(body).digest('hex').slice(0, 12)
    byName.set(file, { fileName: `${stem}-${hash}.${extension}`, type, body })
  }
  loaded = { byName, byFileName: new Map([...byName.values()].map((asset) => [asset.fileName, asset])) }
  return loaded
}

/** The file name under which an asset is served now. */
export function assetFileName(name: string): string {
  return assets().byName.get(name)?.fileName ?? name
}

/** What an asset holds, for a page that carries it itself. */
export function assetText(name: string): string {
  return String(assets().byName.get(name)?.body ?? '')
}

/** The asset of that file name: looked up, never a path. */
export function assetOf(fileName: string): Asset | undefined {
  return assets().byFileName.get(fileName)
}
