/** Makes `express` mean Express 4 in the whole process: `node --import spec/http/support/express4-loader.mjs …`. */
import Module, { register } from 'node:module'

const hooks = `
export function resolve(specifier, context, next) {
  return next(specifier === 'express' ? 'express4' : specifier, context)
}
`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)

// mocha loads files by require() first, and that asks no hook
/** @type {{ _resolveFilename: (request: string, ...rest: unknown[]) => string }} */
const loader = /** @type {any} */ (Module)
const resolveFilename = loader._resolveFilename
loader._resolveFilename = (request, ...rest) =>
  Reflect.apply(resolveFilename, loader, [request === 'express' ? 'express4' : request, ...rest])
