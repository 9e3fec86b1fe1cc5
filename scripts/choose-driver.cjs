/**
 * Preloaded by scripts/test-servers.mjs into every process and thread of a run: what asks for `ioredis` gets the driver that
 * TEST_DRIVER names. So the package is tested with each driver as if it were the one that is installed; specs that name a driver
 * get that one. CommonJS, as a thread preloads nothing else.
 */
const Module = require('node:module')
const process = require('node:process')

const wanted = process.env['TEST_DRIVER']
if (wanted) {
  /** @typedef {(request: string, ...rest: unknown[]) => string} Resolve */
  // Not public, but what every loader of CommonJS in use hooks into; `registerHooks` is not in Node 20.
  const resolver = /** @type {{ _resolveFilename: Resolve }} */ (/** @type {unknown} */ (Module))
  const resolve = resolver._resolveFilename
  resolver._resolveFilename = function (request, ...rest) {
    return resolve.call(this, request === 'ioredis' ? wanted : request, ...rest)
  }
}
