/** Connections that are dead without a sign: nothing passes, and nobody is told (F7). */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { StorageUnavailableError, Worker } from '../../lib/index.ts'
import { eventually } from '../support/eventually.ts'
import { FaultRun, sized } from './support/fault-run.ts'
import { withOwnTask } from './support/own-task.ts'
import { reportOwn } from './support/verdict.ts'
import { together } from './support/together.ts'
import { TcpProxy } from './support/tcp-proxy.ts'

const WATCHDOG_MS = 2_000

describe('Faults: half-open connections', function () {
  this.timeout(sized(240_000, 600_000))

  together({
    'is read again within BLOCK and the watchdog’s two seconds, and what went into a dead socket is found (F7)':
      deadReader,
    'keeps a running task’s lease when its connection dies, as the thread makes another (F7)': deadLeaseConnection,
    'hears of a finished record although the connection that listens is dead (F7)': deadListener,
  })
})

async function deadReader(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 2 })
  await using proxy = await TcpProxy.start(run.server)
  const startedAt = new Map<string, number>()
  const through = run.openBackend(proxy.url)
  // Nothing but the watchdog brings the read back: no sweep comes to its help
  const worker = new Worker(through, { intervalSeconds: 1, claimIntervalSeconds: 3_600 })
  const figures: Record<string, number> = {}
  const limitMs = (run.options.blockTimeoutMs + WATCHDOG_MS + 1_000) * run.calibration
  const began = (id: string): Promise<number> =>
    eventually(() => startedAt.get(id) ?? 0, { timeoutMs: run.recoveryLimitMs, message: 'not read again' })
  const work = async (): Promise<void> => {
    await worker.start()
    const blocked = async (): Promise<boolean> => /blocked_clients:[1-9]/.test(await run.redis.info('clients'))
    await began((await run.enqueue({}, [[]]))[0] ?? '')
    for (const round of Array.from({ length: sized(1, 10) }, (_, index) => index)) {
      // When every connection dies while the read waits, and something is read into the dead one
      const over = performance.now()
      await eventually(blocked)
      figures['blockedAgainMs'] = Math.max(figures['blockedAgainMs'] ?? 0, Math.round(performance.now() - over))
      const dead = proxy.swallow()
      const at = performance.now()
      const [into = ''] = await run.enqueue({}, [[]])
      expect(dead, `round ${round}`).to.be.at.least(2)
      // and something comes when the server has given the dead read up
      await eventually(async () => !(await blocked()))
      const [after = ''] = await run.enqueue({}, [[]])
      figures['readAgainMs'] = Math.round((await began(after)) - at)
      figures['deadSocketMs'] = Math.round((await began(into)) - at)
      expect(figures['readAgainMs']).to.be.at.most(limitMs)
      expect(figures['deadSocketMs']).to.be.at.most(run.recoveryLimitMs)
    }
    // A producer through a dead connection fails in time, and the next call works
    const producer = run.openBackend(proxy.url)
    const enqueue = async (): Promise<unknown> => {
      const record = { id: randomUUID(), name: 'work', queueName: 'default', priority: 0, runAfter: null, args: '[]' }
      return await producer.storage.enqueue([record]).catch((error: unknown) => error)
    }
    await enqueue()
    proxy.swallow()
    const sentAt = performance.now()
    expect(await enqueue()).to.be.instanceOf(StorageUnavailableError)
    figures['producerFailsMs'] = Math.round(performance.now() - sentAt)
    expect(figures['producerFailsMs']).to.be.at.most(1_000 * run.calibration)
    expect(await enqueue()).to.have.nested.property('[0].word', 'ENQUEUED')
    await run.drained()
    reportOwn(run, 'F7', { ...figures, limitMs: Math.round(limitMs), executed: startedAt.size })
  }
  await withOwnTask(
    ({ taskResult }) => void startedAt.set(taskResult.id, performance.now()),
    () => work().finally(() => worker.stop()),
  )
}

/** Between two questions to the connection that listens, and how long it may be silent. */
const LISTENER_MS = 5_000 + 2_000

async function deadListener(): Promise<void> {
  await using run = await FaultRun.start()
  await using proxy = await TcpProxy.start(run.server)
  const through = run.openBackend(proxy.url)
  const [id = ''] = await run.enqueue({}, [[1]])
  const waiting = (await through.getResult(id)).wait({ timeoutMs: 120_000 })
  await eventually(async () => (await run.redis.hget(run.keys.record(id), 'watched')) === '1')
  const dead = proxy.swallow()
  const at = performance.now()
  await run.spawn()
  await run.drained()
  const { status } = await waiting
  const heardMs = Math.round(performance.now() - at)
  expect(status).to.equal('SUCCESSFUL')
  reportOwn(run, 'F7', { executed: 1, case: 'listener', connectionsDead: dead, heardMs })
  expect(heardMs).to.be.at.most((LISTENER_MS + 5_000) * run.calibration)
}

async function deadLeaseConnection(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 3 })
  await using proxy = await TcpProxy.start(run.server)
  const child = await run.spawn({ backend: run.backendOptions(proxy.url), worker: { concurrency: 2 } })
  await run.enqueue({ name: 'first' }, [[5_000]])
  await eventually(() => child.hasBegun, { timeoutMs: 60_000 })
  // Once the thread is there it has renewed at least once
  await eventually(
    async () => (await run.redis.zcount(run.keys.leases, Date.now() + 2_500, '+inf')) === 1 && proxy.connections > 3,
  )
  const dead = proxy.swallow()
  await run.spawn({ worker: { claimIntervalSeconds: 0.3 } })
  await run.drained()
  const verdict = await run.verdict()
  verdict.assert('F7', { duplicates: 0 }, { case: 'lease', connectionsDead: dead })
  expect(run.facts('aborted')).to.deep.equal([])
}
