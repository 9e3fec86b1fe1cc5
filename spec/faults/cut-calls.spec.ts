/** Calls that are cut in the middle of their request or reply, and are sent again (F4). */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { StorageUnavailableError } from '../../lib/index.ts'
import type { Delivery, Storage } from '../../lib/storage/storage.ts'
import type { NewRecord } from '../../lib/storage/stored-record.ts'
import type { StreamQueue } from '../../lib/stream-queue.ts'
import { FaultRun, sized } from './support/fault-run.ts'
import { invariantsOf } from './support/invariants.ts'
import { row } from './support/rows.ts'
import { TcpProxy } from './support/tcp-proxy.ts'
import type { Cut } from './support/tcp-proxy.ts'
import { reportOwn } from './support/verdict.ts'

/** What a verb is tried with: the healthy side prepares and looks, the other goes through the proxy. */
interface Bench {
  readonly run: FaultRun
  readonly queueName: string
  readonly healthy: Storage
  readonly cut: Storage
  readonly cutQueue: StreamQueue
}

/** Prepares a call; answers what marks it, and the call with what must be true after it. */
type Trial = (bench: Bench) => Promise<{ readonly marker: string; readonly call: () => Promise<void> }>

const aRecord = (queueName: string): NewRecord => ({
  ...{ id: randomUUID(), name: 'work', queueName, priority: 0, runAfter: null, args: '[]' },
})

/** The same call again, until it is answered: what whoever hears nothing has to do. */
async function again<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof StorageUnavailableError) || tries === 10) throw error
    }
  }
}

async function begun(storage: Storage, queueName: string): Promise<Delivery> {
  const own = `${queueName}-${randomUUID().slice(0, 8)}`
  await storage.enqueue([aRecord(own)])
  const claim = { consumer: 'healthy.holder', call: `holder.${randomUUID()}`, leaseMs: 600_000, workerId: 'healthy' }
  const { begun } = await storage.take({ ...claim, queueNames: [own], count: 1 })
  const [delivery] = begun
  if (!delivery) throw new Error('expected a record to begin, got: none')
  return delivery
}

const TRIALS: Readonly<Record<string, Trial>> = {
  async enqueue({ run, queueName, cut }) {
    const record = aRecord(queueName)
    const call = async (): Promise<void> => {
      const answers = await again(() => cut.enqueue([record]))
      expect(answers[0]?.word).to.be.oneOf(['ENQUEUED', 'EXISTS'])
      expect(await run.record(record.id)).to.include({ status: 'READY', attempts: 0 })
    }
    return { marker: record.id, call }
  },

  async 'enqueue 50'({ healthy, queueName, cut }) {
    const records = Array.from({ length: 50 }, () => aRecord(queueName))
    const call = async (): Promise<void> => {
      expect(new Set((await again(() => cut.enqueue(records))).map(({ word }) => word)).size).to.equal(1)
      const found = await healthy.find(records.map(({ id }) => id))
      expect(found.filter((record) => record !== undefined)).to.have.lengthOf(50)
    }
    return { marker: records[0]?.id ?? '', call }
  },

  async begin({ run, healthy, queueName, cutQueue }) {
    const own = `${queueName}-${randomUUID().slice(0, 8)}`
    const record = aRecord(own)
    await healthy.enqueue([record])
    const call = async (): Promise<void> => {
      // What the lost answer named is in the own list; what the server never heard of still waits.
      const { begun: first } = await cutQueue.take(1, { queueNames: [own] }).catch(() => ({ begun: [] }))
      const { begun: found } = await again(() =>
        cutQueue.recover(10, new Set(first.map(({ lease }) => lease.id)), [own]),
      )
      const { begun: rest } = await again(() => cutQueue.take(10, { queueNames: [own] }))
      expect([...first, ...found, ...rest].map(({ lease }) => lease.id)).to.deep.equal([record.id])
      expect(await run.record(record.id)).to.include({ status: 'RUNNING', attempts: 1, crashes: 0 })
    }
    return { marker: own, call }
  },

  async settle({ run, healthy, queueName, cut }) {
    const { lease } = await begun(healthy, queueName)
    const call = async (): Promise<void> => {
      const settle = async (): Promise<unknown> =>
        await cut.settle([{ lease, outcome: 'SUCCESSFUL', payload: '"done"', delayMs: 0 }])
      expect(await again(settle)).to.deep.equal(['SETTLED'])
      expect(await run.record(lease.id)).to.include({ status: 'SUCCESSFUL', attempts: 1, returnValue: '"done"' })
    }
    return { marker: lease.token, call }
  },

  async 'retry later'({ run, healthy, queueName, cut }) {
    const { lease } = await begun(healthy, queueName)
    const call = async (): Promise<void> => {
      const settle = async (): Promise<unknown> =>
        await cut.settle([{ lease, outcome: 'READY', payload: '{"message":"not yet"}', delayMs: 600_000 }])
      expect(await again(settle)).to.deep.equal(['SETTLED'])
      const record = await run.record(lease.id)
      expect(record).to.include({ status: 'READY', attempts: 1 })
      expect(record.errors).to.have.lengthOf(1)
    }
    return { marker: lease.token, call }
  },

  async retry({ run, healthy, queueName, cut }) {
    const { lease } = await begun(healthy, queueName)
    await healthy.settle([{ lease, outcome: 'FAILED', payload: '{"message":"failed"}', delayMs: 0 }])
    const requestId = randomUUID()
    const call = async (): Promise<void> => {
      expect(await again(() => cut.retry([lease.id], requestId))).to.deep.equal(['RETRIED'])
      expect(await run.record(lease.id)).to.include({ status: 'READY', attempts: 1 })
    }
    return { marker: requestId, call }
  },

  async delete({ healthy, queueName, cut }) {
    const record = aRecord(queueName)
    await healthy.enqueue([record])
    const call = async (): Promise<void> => {
      expect((await again(() => cut.delete([record.id])))[0]).to.be.oneOf(['DELETED', 'ABSENT'])
      expect(await healthy.find([record.id])).to.deep.equal([undefined])
    }
    return { marker: record.id, call }
  },
}

/** Every so many bytes, and the last ones. */
function pointsOf(length: number): number[] {
  const step = sized(Math.ceil(length / 6), 7)
  const points = [length - 1, length]
  for (let point = 1; point < length - 1; point += step) points.unshift(point)
  return points
}

describe('Faults: calls that are cut', function () {
  this.timeout(sized(240_000, 1_800_000))

  row('leaves each record whole or absent, and answers the repeat of a call as the call (F4)', async () => {
    await using run = await FaultRun.start()
    let cuts = 0
    const tryAll = async (name: string, trial: Trial): Promise<void> => {
      await using proxy = await TcpProxy.start(run.server)
      const backend = run.openBackend(proxy.url)
      const queueName = name.replaceAll(' ', '-')
      const bench = {
        ...{ run, queueName, healthy: run.backend.storage, cut: backend.storage, cutQueue: backend.openQueue() },
      }
      const attempt = async (side: Cut['side'], after: number): Promise<void> => {
        const { marker, call } = await trial(bench)
        proxy.cutNext({ side, after, marker })
        await call()
      }
      // The scripts are known to the server, and both lengths to us
      await attempt('reply', 0)
      await attempt('reply', 0)
      for (const side of ['request', 'reply'] as const)
        for (const point of pointsOf(proxy.lengths[side])) await attempt(side, point)
      cuts += proxy.cuts
    }
    await Promise.all(Object.entries(TRIALS).map(([name, trial]) => tryAll(name, trial)))
    const { violations, statuses } = await invariantsOf(run.redis, run.keys.root)
    const count = (status: string): number => [...statuses.values()].filter((one) => one === status).length
    reportOwn(run, 'F4', {
      ...{ acknowledged: statuses.size, executed: count('SUCCESSFUL'), faultsInjected: cuts, faultsThatBit: cuts },
      doctor: { violations: violations.length },
    })
    expect(violations).to.deep.equal([])
    expect(cuts).to.be.at.least(sized(80, 600))
  })
})
