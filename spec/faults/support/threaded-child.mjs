/** A worker in a thread of a process: the process only passes on that it is to stop, and ends with its thread. */
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

const file = fileURLToPath(new URL('./worker-child.mjs', import.meta.url))
const thread = new Worker(file, { argv: process.argv.slice(2) })
thread.once('exit', (code) => process.exit(code))
process.once('SIGTERM', () => thread.postMessage('stop'))
process.once('disconnect', () => process.exit(1))
