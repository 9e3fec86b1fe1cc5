/**
 * argsSchema: JSON Schema (draft 2020-12) of a task's arguments array, through ajv in its strict mode. Compiled once, at the
 * definition; the checker throws with the path of the first offender.
 * Never changes an argument (no defaults, no coercion), never loads a schema from elsewhere, and loads ajv at its first use.
 */
import { createRequire } from 'node:module'
import type * as AjvModule from 'ajv/dist/2020.js'
import type { Ajv2020, ErrorObject } from 'ajv/dist/2020.js'
import type { FormatsPlugin } from 'ajv-formats'
import { shown, TaskArgumentError, TaskOptionError, verbatim } from './errors.ts'
import { decode, encode, pathOf } from './json.ts'

const MAX_SCHEMA_BYTES = 1024 * 1024

let ajv: Ajv2020 | undefined

function loadAjv(): Ajv2020 {
  if (ajv) return ajv
  // 80 ms (Node 20.20.2) that a process without schemas need not spend; `import()` would make definitions asynchronous.
  const require = createRequire(import.meta.url)
  const { Ajv2020: Compiler } = require('ajv/dist/2020.js') as typeof AjvModule
  const { default: addFormats } = require('ajv-formats') as { default: FormatsPlugin }
  const made = new Compiler({
    strict: true,
    // Rules of style for schemas, which ours need not follow: `{ "prefixItems": […] }` alone is plain enough.
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    // Two tasks may use schemas with the same `$id`.
    addUsedSchema: false,
    ownProperties: true,
    logger: false,
  })
  addFormats(made)
  ajv = made
  return made
}

/**
 * Compiles the schema of an arguments array; a list of schemas, one for each argument, will do as well.
 *
 * @param where names the schema in messages: `options.argsSchema`.
 * @returns the checker. It throws TaskArgumentError for arguments that do not fit.
 * @throws TaskOptionError the schema is not one.
 */
export function compileArgsSchema(schema: object, where: string): (args: readonly unknown[]) => void {
  const root = copyOf(schema, where)
  const type: unknown = root['type']
  if (type !== undefined && type !== 'array' && !(Array.isArray(type) && type.includes('array'))) {
    throw new TaskOptionError(
      `${where}.type`,
      '"array"',
      type,
      'it describes all arguments: { type: "array", prefixItems: […] }',
    )
  }
  if (root['$async'] !== undefined) {
    throw new TaskOptionError(`${where}.$async`, 'left out', root['$async'], 'arguments are checked synchronously')
  }
  const validate = compile(root, where)
  return (args) => {
    if (!validate(args)) throw argumentError(args, validate.errors ?? [])
  }
}

/** A copy of our own: what the caller changes later changes nothing, and nothing but JSON gets to the compiler. */
function copyOf(schema: object, where: string): Readonly<Record<string, unknown>> {
  let copy: unknown
  try {
    copy = decode(encode(schema, where, MAX_SCHEMA_BYTES), where)
  } catch (cause) {
    const path = cause instanceof TaskArgumentError ? cause.path : where
    throw new TaskOptionError(path, 'JSON, as schemas are', verbatim('something else'), 'see the cause', { cause })
  }
  if (Array.isArray(copy)) {
    const items: readonly unknown[] = copy
    return { type: 'array', minItems: items.length, items: false, ...(items.length > 0 && { prefixItems: items }) }
  }
  if (typeof copy === 'object' && copy !== null) return copy as Readonly<Record<string, unknown>>
  throw new TaskOptionError(where, 'a JSON Schema object', copy, 'give { type: "array", prefixItems: […] }')
}

function compile(schema: object, where: string): ReturnType<Ajv2020['compile']> {
  try {
    return loadAjv().compile(schema)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new TaskOptionError(
      where,
      'a JSON Schema of draft 2020-12',
      verbatim(reason.slice(0, 300)),
      'see https://json-schema.org; the items of a list stand in prefixItems',
      { cause },
    )
  }
}

function argumentError(args: readonly unknown[], errors: readonly ErrorObject[]): TaskArgumentError {
  // With anyOf, contains and the like the branches come first and the rule itself last; with `if` the other way round.
  const last = errors.at(-1)
  const error = (last?.keyword === 'if' ? errors.at(-2) : last) ?? last
  const { keys, value } = locate(args, error?.instancePath ?? '')
  const { missingProperty, additionalProperty, unevaluatedProperty } = (error?.params ?? {}) as Record<string, unknown>
  const cure = `the task's argsSchema says so at ${error?.schemaPath ?? '#'}`
  if (typeof missingProperty === 'string') {
    return new TaskArgumentError(pathOf('args', [...keys, missingProperty]), 'present', undefined, cure)
  }
  const extra = additionalProperty ?? unevaluatedProperty
  if (typeof extra === 'string') {
    return new TaskArgumentError(pathOf('args', [...keys, extra]), 'absent', ownValue(value, extra), cure)
  }
  const got = keys.length === 0 ? verbatim(`${args.length} arguments`) : value
  return new TaskArgumentError(pathOf('args', keys), shapeOf(error), got, cure)
}

function shapeOf(error: ErrorObject | undefined): string {
  const { type, allowedValues, allowedValue } = (error?.params ?? {}) as Record<string, unknown>
  if (error?.keyword === 'type') return `of type ${[type].flat().join(' or ')}`
  if (error?.keyword === 'enum') return `one of ${shown(allowedValues)}`
  if (error?.keyword === 'const') return shown(allowedValue)
  return `valid: ${error?.message ?? 'must fit the schema'}`
}

/** From the JSON pointer of an error to the keys of a path, and to the value that stands there. */
function locate(args: readonly unknown[], pointer: string): { keys: (string | number)[]; value: unknown } {
  const keys: (string | number)[] = []
  let value: unknown = args
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    keys.push(Array.isArray(value) ? Number(key) : key)
    value = ownValue(value, key)
  }
  return { keys, value }
}

function ownValue(target: unknown, key: string): unknown {
  if (typeof target !== 'object' || target === null || !Object.hasOwn(target, key)) return undefined
  return (target as Readonly<Record<string, unknown>>)[key]
}
