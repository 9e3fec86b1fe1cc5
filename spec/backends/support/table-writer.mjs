/**
 * Writes a table of leases as fast as it can, in a thread, until the number that it is given as its workerData is no longer 0.
 * Every word and time of a lease tells the same number, in words of quite different lengths. Says each `page`. Runs the built package.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { LeaseTable } from '../../../dist/backends/lease-table.js'

const stop = /** @type {Int32Array} */ (workerData)
const table = new LeaseTable((page) => parentPort?.postMessage(page))

/** @param {number} n */
const leaseOf = (n) => {
  const word = `${n}`.repeat(1 + (n % 9))
  return { lease: { id: word, token: word, entryId: word }, name: `${word}é`, sentAtMs: n, stopAtMs: n }
}

/** @type {ReturnType<LeaseTable['add']>[]} */
const slots = []
for (let n = 1; Atomics.load(stop, 0) === 0; n += 1) {
  slots.push(table.add(leaseOf(n)))
  const oldest = slots.length > 3 && slots.shift()
  if (oldest) table.remove(oldest)
}
