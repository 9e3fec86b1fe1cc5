/** Keys that somebody removes under a worker that waits for work: it lives, makes them anew, and goes on (F23, F25). */
import { expect } from 'chai'
import { Worker } from '../../lib/index.ts'
import { rememberingLogger } from '../backends/backends-under-test.ts'
import { eventually } from '../support/eventually.ts'
import { aTake } from '../support/storage-builders.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { withOwnTask } from './support/own-task.ts'
import { row } from './support/rows.ts'
import { reportOwn } from './support/verdict.ts'

const GROUP = 'express_tasks_workers'

describe('Faults: lost keys', function () {
  this.timeout(sized(240_000, 600_000))

  row('goes on after FLUSHALL, DEL, RENAME, and XGROUP DESTROY while it is blocked (F25)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 1 })
    const ran: string[] = []
    const { logger, logged } = rememberingLogger()
    const worker = new Worker(run.backend, { intervalSeconds: 0.2, claimIntervalSeconds: 0.5, logger })
    const startedAt = performance.now()
    const { redis, keys } = run
    const stream = keys.stream('default', 'normal')
    const streams = (['high', 'normal', 'low'] as const).map((band) => keys.stream('default', band))
    const faults = {
      FLUSHALL: () => redis.flushall(),
      'DEL stream': () => redis.del(stream),
      'DEL every stream': () => redis.del(...streams),
      RENAME: () => redis.rename(stream, `elsewhere-${run.keyPrefix}`),
      'XGROUP DESTROY': () => redis.xgroup('DESTROY', stream, GROUP),
      'DEL queues': () => redis.del(keys.queues),
      'DEL leases': () => redis.del(keys.leases),
    }
    const tookMs: Record<string, number> = {}
    await withOwnTask(
      ({ taskResult }) => void ran.push(taskResult.id),
      async () => {
        try {
          await worker.start()
          await run.enqueue({}, [[]])
          await eventually(() => ran.length === 1)
          for (const [fault, act] of Object.entries(faults)) {
            await eventually(async () => /blocked_clients:[1-9]/.test(await redis.info('clients')))
            await act()
            const at = performance.now()
            const [id = ''] = await run.enqueue({}, [[]])
            await eventually(() => ran.includes(id), { timeoutMs: 60_000, message: `nothing runs after ${fault}` })
            tookMs[fault] = Math.round(performance.now() - at)
          }
        } finally {
          await worker.stop()
        }
      },
    )
    const lines = logged.filter(({ level }) => level === 'warn' || level === 'error').length
    const seconds = (performance.now() - startedAt) / 1_000
    const duplicates = ran.length - new Set(ran).size
    reportOwn(run, 'F25', { tookMs, lines, executed: ran.length, duplicates })
    expect(Math.max(...Object.values(tookMs))).to.be.at.most(10_000 * run.calibration)
    // One line for each fault, or two a second
    expect(lines).to.be.at.most(Math.max(Object.keys(faults).length, 2 * seconds))
    expect(ran).to.have.lengthOf(Object.keys(faults).length + 1)
    expect(ran).to.deep.equal([...new Set(ran)])
  })

  row('finds the dead owner of a record although the leases are gone, by its idle delivery (F25)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 1 })
    const [id = ''] = await run.enqueue({}, [[]])
    await run.backend.storage.take(aTake('dead', { queueNames: ['default'], leaseMs: 1_000 }))
    await run.redis.del(run.keys.leases)
    const diedAt = performance.now()
    const worker = new Worker(run.backend, { intervalSeconds: 0.2, claimIntervalSeconds: 0.5 })
    await withOwnTask(
      () => null,
      async () => {
        try {
          await worker.start()
          await run.drained()
        } finally {
          await worker.stop()
        }
      },
    )
    const tookMs = Math.round(performance.now() - diedAt)
    const allowedMs = Math.round(run.recoveryLimitMs)
    reportOwn(run, 'F25', { executed: 1, recoveryMs: { max: tookMs, allowed: allowedMs } })
    expect(tookMs).to.be.at.most(allowedMs)
    expect(await run.record(id)).to.include({ status: 'SUCCESSFUL', attempts: 2, crashes: 1 })
  })

  row('keeps the lease of what runs although its row is removed (F25)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 2 })
    let begun = 0
    const worker = new Worker(run.backend, { intervalSeconds: 0.2, claimIntervalSeconds: 0.2 })
    const work = async (): Promise<void> => {
      begun += 1
      const startedAt = Date.now()
      await eventually(() => Date.now() - startedAt > 3_000)
    }
    await withOwnTask(work, async () => {
      try {
        await worker.start()
        await run.enqueue({}, [[]])
        await eventually(() => begun === 1)
        await run.redis.del(run.keys.leases)
        await eventually(async () => (await run.redis.zcard(run.keys.leases)) === 1)
        await run.drained()
      } finally {
        await worker.stop()
      }
    })
    reportOwn(run, 'F25', { executed: begun, duplicates: begun - 1 })
    expect(begun).to.equal(1)
  })

  row('runs everything once while the scripts are flushed every 50 ms, and nobody sees a NOSCRIPT (F23)', async () => {
    await using run = await FaultRun.start({ claimTimeoutSeconds: 20 })
    await Promise.all([run.spawn(), run.spawn()])
    let flushes = 0
    const flusher = setInterval(() => {
      flushes += 1
      void run.redis.script('FLUSH')
    }, 50)
    try {
      const startedAt = Date.now()
      while (Date.now() - startedAt < sized(2_000, 30_000)) {
        await run.enqueue({}, lists(50, 10))
        await eventually(async () => ((await run.counts())['READY'] ?? 0) < 100, { timeoutMs: 60_000 })
      }
      await run.drained()
    } finally {
      clearInterval(flusher)
    }
    const verdict = await run.verdict()
    verdict.assert('F23', { duplicates: 0 }, { flushes })
    expect(run.facts('error')).to.deep.equal([])
  })
})
