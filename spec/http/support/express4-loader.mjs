/** Makes `express` mean Express 4 in the whole process: `node --import spec/http/support/express4-loader.mjs …`. */
import { register } from 'node:module'

const hooks = `
export function resolve(specifier, context, next) {
  return next(specifier === 'express' ? 'express4' : specifier, context)
}
`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)
