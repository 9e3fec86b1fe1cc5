/** A host application with the built package in it, as a process of its own: prints its address as JSON, ends with stdin. */
import express from 'express'
import { configureTasks, task, tasksRouter } from '../../../dist/index.js'

const tasks = configureTasks({ default: { backend: 'memory', queues: [] } })
task('add', /** @param {number} a @param {number} b */ (a, b) => a + b)
task('fail', () => {
  throw new RangeError('too far')
})
task(
  { name: 'mail', argsSchema: { type: 'array', prefixItems: [{ type: 'string', format: 'email' }], minItems: 1 } },
  /** @param {string} address */ (address) => address,
)
const app = express()
app.use('/deep/:tenant/tasks', tasksRouter(tasks.default))
const server = app.listen(0, '127.0.0.1', () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  console.log(JSON.stringify({ url: `http://127.0.0.1:${port}/deep/acme/tasks` }))
})
process.stdin.on('end', () => process.exit(0)).resume()
