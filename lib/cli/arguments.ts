/**
 * The command line and the EXPRESS_TASKS_… variables -> checked settings. A flag wins over its variable, a variable over the
 * default. yargs cuts the line into words and lays out the help; what it lets pass is refused here: flags that do not exist,
 * that are given twice or without a value, and numbers that are none. Reads nothing but its arguments, prints nothing.
 */
import yargs from 'yargs'
import type { Argv } from 'yargs'
import { didYouMean } from '../did-you-mean.ts'
import { TaskOptionError, verbatim } from '../errors.ts'
import { describeRow } from '../options.ts'
import type { Row } from '../options.ts'
import { ourVariables, variableOf, VARIABLES } from './flags.ts'
import type { Flag, FlagTable, Settings } from './flags.ts'

export interface Command<T extends FlagTable> {
  readonly name: string
  readonly summary: string
  /** What the words without dashes are; left out = there may be none. */
  readonly modules?: string
  readonly flags: T
  readonly examples: readonly (readonly [line: string, meaning: string])[]
  readonly epilogue: string
}

export type Parsed<T extends FlagTable> =
  | { readonly wants: 'help' }
  | { readonly wants: 'version' }
  | { readonly wants: 'run'; readonly settings: Settings<T>; readonly modules: readonly string[] }

/** @throws TaskOptionError a word, a value or a variable is not what it may be. */
export function parseArguments<T extends FlagTable>(
  command: Command<T>,
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
): Parsed<T> {
  const end = argv.indexOf('--')
  const words = end === -1 ? argv : argv.slice(0, end)
  if (words.includes('--help') || words.includes('-h')) return { wants: 'help' }
  if (words.includes('--version')) return { wants: 'version' }
  checkWords(command, words)
  checkVariables(environment)
  const { modules, values } = cut(command, words)
  if (end !== -1) modules.push(...argv.slice(end + 1))
  if (command.modules === undefined && modules.length > 0) {
    throw new TaskOptionError(command.name, 'given options only', modules[0], `see ${command.name} --help`)
  }
  const settings = Object.create(null) as Record<string, unknown>
  for (const [key, flag] of Object.entries(command.flags)) {
    const given = values.get(flag.name) ?? fromVariable(flag, environment)
    const value = given === undefined ? flag.row.default : read(flag, given)
    if (value !== undefined) settings[key] = value
  }
  return { wants: 'run', settings: Object.freeze(settings) as Settings<T>, modules }
}

/** What was given for a flag, and by which name. */
interface Given {
  readonly field: string
  readonly texts: readonly string[]
}

/** yargs takes any word with dashes for a flag; and of `--json=maybe` it makes false. */
function checkWords<T extends FlagTable>(command: Command<T>, words: readonly string[]): void {
  const flags = new Map(Object.values(command.flags).map((flag) => [flag.name, flag]))
  for (const word of words) {
    // A negative number is a value: of the flag before it, and refused as such.
    if (!word.startsWith('-') || /^-\.?\d/.test(word)) continue
    const [, name = '', value] = /^--?([^=]*)(?:=(.*))?$/s.exec(word) ?? []
    const flag = word.startsWith('--') ? flags.get(name) : undefined
    if (!flag) {
      const cure = didYouMean(name, [...flags.keys()], (near) => `--${near}`) ?? `see ${command.name} --help`
      throw new TaskOptionError(word, `an option of ${command.name}`, verbatim('an unknown one'), cure)
    }
    if (flag.row.kind === 'flag' && value !== undefined && value !== 'true' && value !== 'false') {
      throw new TaskOptionError(`--${name}`, 'given without a value', value, `type --${name}, or leave it out`)
    }
  }
}

function checkVariables(environment: NodeJS.ProcessEnv): void {
  for (const name of ourVariables(environment)) {
    if (VARIABLES.includes(name)) continue
    const cure = didYouMean(name, VARIABLES, (near) => near) ?? `known are: ${VARIABLES.join(', ')}`
    throw new TaskOptionError(`the environment variable ${name}`, 'a known one', verbatim('an unknown one'), cure)
  }
}

function cut<T extends FlagTable>(
  command: Command<T>,
  words: readonly string[],
): { modules: string[]; values: Map<string, Given> } {
  const parser = yargs([...words])
    .locale('en')
    .exitProcess(false)
    .help(false)
    .version(false)
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'greedy-arrays': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'short-option-groups': false,
    })
    // Without a command of its own, strict yargs refuses every word that is no flag.
    .command('$0 [modules..]', false, (inner) => inner.positional('modules', { type: 'string', array: true }))
    .strictOptions()
    // With `exitProcess(false)` it would go on after a failure.
    .fail((message, error) => {
      throw error instanceof Error
        ? error
        : new TaskOptionError(command.name, 'typed otherwise', verbatim(message), `see ${command.name} --help`)
    })
  for (const { name, row } of Object.values(command.flags)) {
    // All of them as lists of texts: how often and what exactly was typed is ours to judge.
    parser.option(name, row.kind === 'flag' ? { type: 'boolean' } : { type: 'string', array: true })
  }
  const parsed = parser.parseSync() as Readonly<Record<string, boolean | readonly string[] | undefined>>
  const values = new Map<string, Given>()
  for (const { name } of Object.values(command.flags)) {
    const value = parsed[name]
    if (value === undefined) continue
    values.set(name, { field: `--${name}`, texts: typeof value === 'boolean' ? [String(value)] : value })
  }
  return { modules: [...((parsed['modules'] as readonly string[] | undefined) ?? [])], values }
}

function fromVariable(flag: Flag, environment: NodeJS.ProcessEnv): Given | undefined {
  const field = variableOf(flag)
  const value = environment[field]
  // Compose files and the like cannot take a variable away, only empty it.
  if (value === undefined || value === '') return undefined
  if (flag.row.kind === 'list') return { field, texts: value.split(',').map((text) => text.trim()) }
  const bit = flag.row.kind === 'flag' ? ({ '0': 'false', '1': 'true' } as const)[value] : undefined
  return { field, texts: [bit ?? value] }
}

function read({ row, commas }: Flag, { field, texts }: Given): unknown {
  if (texts.length === 0 || texts.includes('')) {
    throw new TaskOptionError(field, (row.item ?? row).shape, verbatim('nothing'), 'put a value after it')
  }
  if (row.kind === 'list') {
    const items = commas ? texts.flatMap((text) => text.split(',')) : texts
    return row.read(field, [
      ...new Set(items.map((text) => (row.item ?? row).read(field, meant(row.item ?? row, text)))),
    ])
  }
  const [text = '', ...more] = texts
  if (more.length > 0) {
    throw new TaskOptionError(field, 'given once', verbatim(`${texts.length} times`), 'leave all but one out')
  }
  return row.read(field, meant(row, text))
}

const DECIMAL = /^[+-]?(?:\d+(?:\.\d+)?|\.\d+)$/

/** The text as a value of the row's kind; what is none stays a text, and the row refuses it. */
function meant({ kind }: Row<unknown>, text: string): unknown {
  if (kind === 'integer' || kind === 'number') return DECIMAL.test(text) ? Number(text) : text
  if (kind === 'flag') return text === 'true' ? true : text === 'false' ? false : text
  return text
}

/** The text of `--help`. */
export async function helpOf<T extends FlagTable>(command: Command<T>, width: number): Promise<string> {
  const usage = command.modules === undefined ? '$0 [options]' : '$0 [modules..] [options]'
  const help: Argv = yargs([])
    .scriptName(command.name)
    .locale('en')
    .exitProcess(false)
    .help(false)
    .version(false)
    .wrap(Math.min(width, 110))
    .usage(`Usage: ${usage}\n\n${command.summary}`)
  if (command.modules !== undefined)
    help.positional('modules', { describe: command.modules, type: 'string', array: true })
  for (const flag of Object.values(command.flags)) {
    const { kind } = flag.row
    const type = kind === 'flag' ? 'boolean' : kind === 'integer' || kind === 'number' ? 'number' : 'string'
    help.option(flag.name, { describe: describe(flag), type })
  }
  help.option('help', { alias: 'h', type: 'boolean', describe: 'print this text' })
  help.option('version', { type: 'boolean', describe: 'print the version' })
  for (const [line, meaning] of command.examples) help.example(line, meaning)
  return await help.epilogue(command.epilogue).getHelp()
}

function describe({ row, unit }: Flag): string {
  const { kind, default: usual } = row
  const description = unit === undefined ? row.description : `${row.description}, in ${unit}`
  if (kind === 'flag') return description
  if (kind === 'integer' || kind === 'number' || kind === 'oneOf') return `${description}; ${describeRow(row)}`
  if (kind !== 'list') return typeof usual === 'string' ? `${description} (default ${usual})` : description
  return `${description}; may be repeated${Array.isArray(usual) ? ` (default ${usual.join(',')})` : ''}`
}
