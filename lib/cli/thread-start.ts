/**
 * Starts threads from the main thread: those that work, and those that hand back what a blocked one had in hand. Where they are
 * compiled to, what becomes of what they print, and why one ended that told nothing.
 */
import { Worker as NodeWorker } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { TaskImportError } from '../errors.ts'
import { failureOf, linesOf } from './failure.ts'
import type { Failure } from './failure.ts'
import type { HandedBackMessage, Orders, Orphans, Place, ThreadMessage } from './thread-messages.ts'

/** What handing back from outside may take. */
const HAND_BACK_MS = 3_000

/** Hands back in a thread of its own: the main one has no backend, and never imports what the user wrote. */
export async function handBackFromOutside(place: Place, orphans: readonly Orphans[]): Promise<HandedBackMessage> {
  const worker = startThread({ role: 'hand-back', place, orphans })
  return await new Promise((resolve) => {
    let answer: HandedBackMessage = { type: 'handed-back', count: 0, settled: [] }
    const timer = systemClock.setTimeout(() => void worker.terminate(), HAND_BACK_MS)
    worker
      .on('message', (message: ThreadMessage) => {
        if (message.type === 'handed-back') answer = message
      })
      // Whatever it was: what is not handed back is taken over when its lease runs out.
      .on('error', () => {})
      .on('exit', () => {
        systemClock.clearTimeout(timer)
        resolve(answer)
      })
  })
}

/** A thread with its orders. */
export function startThread(orders: Orders): NodeWorker {
  // The same ending as this file: .js when compiled, .ts under a loader.
  const file = new URL(`./worker-thread${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url)
  const worker = new NodeWorker(file, { workerData: orders, stdout: true, stderr: true })
  // Results alone stand on stdout: what the user's code prints goes beside them.
  for (const stream of [worker.stdout, worker.stderr]) stream.on('data', (chunk: Buffer) => process.stderr.write(chunk))
  return worker
}

/** Why a thread ended before it was ready, without having said so: an error that nothing caught, or what it imported ended it. */
export function failureAtStart(
  importing: string | undefined,
  thrown: { readonly value: unknown } | undefined,
  code: number,
): Failure {
  if (importing === undefined) {
    const { message, ...rest } = failureOf(
      thrown?.value ?? new Error(`a worker thread ended at its start, with code ${code}`),
    )
    return { ...rest, message: `a worker thread could not start: ${message}` }
  }
  const reason = thrown ? (linesOf(thrown.value)[0] ?? '') : `the end of its thread, with code ${code}`
  const cure = thrown
    ? 'an error that nothing caught, while it was imported'
    : 'it called process.exit, or awaits at its top level what nothing settles'
  const failure = failureOf(new TaskImportError(importing, reason, cure))
  return { ...failure, details: thrown ? linesOf(thrown.value) : [] }
}
