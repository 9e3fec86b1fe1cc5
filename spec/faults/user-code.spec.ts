/** Code of the user's around a task that throws, rejects or never answers: outcomes and others stay as they are (F37). */
import { expect } from 'chai'
import express from 'express'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tasksRouter, Worker } from '../../lib/index.ts'
import type { Logger } from '../../lib/index.ts'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { withOwnTask } from './support/own-task.ts'
import { row } from './support/rows.ts'
import { reportOwn } from './support/verdict.ts'

const never = new Promise<never>(() => {})
const boom = (): never => {
  throw new Error('boom')
}
const BAD: readonly (() => unknown)[] = [boom, () => Promise.reject(new Error('boom')), () => never]

/** A logger of the user's own making may answer anything. */
const badLogger = (log: () => unknown): Logger => ({ debug: log, info: log, warn: log, error: log })

describe('Faults: code of the user', function () {
  this.timeout(sized(240_000, 600_000))

  row('changes no outcome and delays nothing when listeners and loggers throw, reject or hang (F37)', async () => {
    await using run = await FaultRun.start()
    const count = sized(200, 2_000)
    const unhandled: unknown[] = []
    const onUnhandled = (reason: unknown): void => void unhandled.push(reason)
    process.on('unhandledRejection', onUnhandled)
    let executed = 0
    let told = 0
    const tookMs: number[] = []
    try {
      for (const bad of [() => undefined, ...BAD]) {
        // Each kind has a backend of its own, whose listeners are its own; the first is how long it takes with good ones
        const backend = run.openBackend()
        const listener = (): unknown => {
          told += 1
          return bad()
        }
        for (const event of ['taskEnqueued', 'taskStarted', 'taskFinished'] as const) backend.on(event, listener)
        const worker = new Worker(backend, { intervalSeconds: 0.1, logger: badLogger(bad) })
        for (const event of ['settled', 'idle', 'leaseLost', 'error'] as const) worker.on(event, listener)
        await withOwnTask(
          () => {
            executed += 1
            if (executed % 10 === 0) throw new Error('one of ten')
            return null
          },
          async () => {
            try {
              await worker.start()
              const startedAt = performance.now()
              await run.enqueue({}, lists(count, 0))
              await run.drained()
              tookMs.push(Math.round(performance.now() - startedAt))
              await eventually(() => worker.running === 0)
            } finally {
              await worker.stop()
            }
          },
        )
      }
    } finally {
      process.off('unhandledRejection', onUnhandled)
    }
    const counts = await run.counts()
    reportOwn(run, 'F37', { executed, duplicates: executed - 4 * count, told, tookMs, unhandled: unhandled.length })
    expect(counts).to.include({ SUCCESSFUL: 3.6 * count, FAILED: 0.4 * count })
    expect(executed).to.equal(4 * count)
    expect(told).to.be.at.least(4 * count)
    expect(unhandled).to.deep.equal([])
    expect(Math.max(...tookMs.slice(1))).to.be.at.most((2 * (tookMs[0] ?? NaN) + 1_000) * run.calibration)
  })

  row('refuses while authorize throws or rejects, and serves others while it hangs (F37)', async () => {
    await using run = await FaultRun.start()
    const [id = ''] = await run.enqueue({}, [[]])
    const { backend } = run
    const app = express()
    BAD.forEach((bad, index) => app.use(`/${index}`, tasksRouter(backend, { authorize: bad as () => boolean })))
    app.use('/good', tasksRouter(backend, { authorize: () => true }))
    const server = createServer(app)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const status = async (mount: string, signal?: AbortSignal): Promise<number | string> => {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${mount}/execute/${id}/`
      try {
        return (await fetch(url, { method: 'POST', ...(signal && { signal }) })).status
      } catch {
        return 'no answer'
      }
    }
    try {
      const abort = new AbortController()
      const hanging = status('2', abort.signal)
      expect(await status('0')).to.equal(403)
      expect(await status('1')).to.equal(403)
      expect(await run.record(id)).to.include({ status: 'READY', attempts: 0 })
      await withOwnTask(
        () => null,
        async () => {
          expect(await status('good')).to.equal(200)
        },
      )
      abort.abort()
      expect(await hanging).to.equal('no answer')
      reportOwn(run, 'F37', { executed: 1, case: 'authorize' })
      expect(await run.record(id)).to.include({ status: 'SUCCESSFUL', attempts: 1 })
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })
})
