import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect } from 'chai'
import express from 'express'
import express4 from 'express4'

const LOADER = new URL('./support/express4-loader.mjs', import.meta.url).href
const MOCHA = new URL('../../node_modules/mocha/bin/mocha.js', import.meta.url).pathname
const ROOT_HOOKS = new URL('../support/root-hooks.ts', import.meta.url).pathname
const SPECS = ['access.spec.ts', 'admin.spec.ts', 'bad-input.spec.ts']

interface Report {
  readonly stats: { readonly passes: number; readonly failures: number }
  readonly passes: readonly { readonly fullTitle: string }[]
  readonly failures: readonly { readonly fullTitle: string; readonly err: { readonly message?: string } }[]
}

/** The specs of the router and the admin, once more in a process in which `express` is Express 4: host, routers and parsers. */
async function runOnExpress4(specs: readonly string[], only: RegExp): Promise<Report> {
  const files = specs.map((file) => new URL(file, import.meta.url).pathname)
  // Without mocha's configuration, for whose options of Node it would start a process of its own, without the loader
  const mocha = [MOCHA, '--no-config', '--require', ROOT_HOOKS, '--timeout', '60000', '--reporter', 'json']
  const args = ['--import', 'tsx', '--import', LOADER, ...mocha, '--grep', only.source, ...files]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await once(child, 'close')
  return JSON.parse(text.slice(text.indexOf('{'))) as Report
}

describe('In a process that is Express 4 throughout', function () {
  this.timeout(180_000)

  before(function () {
    // Here it is so already: these very specs are run inside.
    if ((express as unknown) === express4) this.skip()
  })

  it('the router is as guarded, the admin as whole, and bad input as harmless', async () => {
    const { stats, passes, failures } = await runOnExpress4(SPECS, /^(access |Admin, memory|Bad input, API, memory)/)
    expect(failures.map(({ fullTitle, err }) => `${fullTitle}: ${err.message ?? ''}`)).to.deep.equal([])
    expect(passes.some(({ fullTitle }) => fullTitle.endsWith('on Express 4'))).to.equal(true)
    expect(stats.passes).to.be.above(60)
  })
})
