/**
 * A task that holds the event loop of its worker for three leases: its lease goes on in the thread, the worker lives, and its
 * heartbeat says what holds it. With a limit of time the renewal ends there, and another one may take the record over.
 */
import { expect } from 'chai'
import { once } from 'node:events'
import { Worker as Thread } from 'node:worker_threads'
import { task } from '../lib/index.ts'
import { isDamaged } from '../lib/storage/stored-record.ts'
import type { SeenWorker } from '../lib/storage/storage.ts'
import { overRedisWorker } from './faults/support/workers.ts'
import type { WorkerBench } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { sharedRedisServer } from './support/redis-server.ts'

const LEASE_MS = 2_000
const BLOCK_MS = 3 * LEASE_MS
const LONG = { timeoutMs: 40_000 }

overRedisWorker(
  'Blocked event loop (F6)',
  (bench) => {
    let thread: Thread | undefined
    const said: unknown[] = []

    afterEach(async () => {
      thread?.postMessage('stop')
      if (thread) await once(thread, 'exit')
      thread = undefined
      said.length = 0
    })

    /** Starts the other one, and enqueues what blocks it. */
    async function blocked(kind: 'worker' | 'processTasks', timeoutMs?: number): Promise<string> {
      const blocks = task({ name: 'blocks' }, (ms: number) => ms)
      const { url: redisUrl } = await sharedRedisServer()
      const keyPrefix = /^\{(.*):default\}/.exec(bench.raw.keys.root)?.[1] ?? ''
      const backend = { redisUrl, keyPrefix, claimTimeoutSeconds: LEASE_MS / 1_000 }
      thread = new Thread(new URL('./faults/support/blocking-thread.mjs', import.meta.url), {
        workerData: { backend, kind, timeoutMs },
        execArgv: [],
      })
      thread.on('message', (message) => void said.push(message))
      await eventually(() => said.includes('ready'), LONG)
      const { id } = await blocks.enqueue(BLOCK_MS)
      if (kind === 'processTasks') thread.postMessage('processTasks')
      await bench.reached(id, 'RUNNING')
      return id
    }

    const seen = async (): Promise<SeenWorker | undefined> => (await bench.backend.storage.workers())[0]

    it('keeps the lease in a worker, begins once, and is named by the heartbeat, which stays fresh', async () => {
      const id = await blocked('worker')
      const ages: number[] = []
      const named = new Set<string>()
      const record = await eventually(async () => {
        expect((await reclaimed(bench)).length).to.equal(0)
        const worker = await seen()
        ages.push(worker?.ageMs ?? Infinity)
        const tasks = worker?.fields['blockedTasks']
        if (tasks !== undefined) named.add(tasks)
        const [found] = await bench.backend.storage.find([id])
        return found !== undefined && !isDamaged(found) && found.status === 'SUCCESSFUL' ? found : false
      }, LONG)
      expect(record).to.include({ attempts: 1, crashes: 0, returnValue: '"unblocked"' })
      expect([...named]).to.deep.equal([`blocks/${id}`])
      expect(Math.max(...ages)).to.be.below(5_000)
      // And afterwards it is told for a while.
      const after = await eventually(async () => {
        const fields = (await seen())?.fields
        return fields?.['longestBlockMs'] !== undefined && fields['blockedMs'] === undefined && fields
      }, LONG)
      expect(Number(after['longestBlockMs'])).to.be.within(BLOCK_MS - 1_500, BLOCK_MS + 5_000)
      expect(after).to.include({ longestBlockTasks: `blocks/${id}`, lost: '0', settled: '1' })
      expect(said).to.deep.equal(['ready'])
    })

    it('keeps the lease in a web process that runs due tasks itself', async () => {
      const id = await blocked('processTasks')
      await eventually(async () => {
        expect((await reclaimed(bench)).length).to.equal(0)
        return said.includes('processed')
      }, LONG)
      expect(await bench.record(id)).to.include({ status: 'SUCCESSFUL', attempts: 1, crashes: 0 })
    })

    it('stops renewing at the limit of time: another one takes over, and the late end is refused', async () => {
      const id = await blocked('processTasks', LEASE_MS)
      const [taken] = await eventually(async () => {
        const begun = await reclaimed(bench)
        return begun.length > 0 && begun
      }, LONG)
      expect(taken?.record).to.include({ id, attempts: 2, crashes: 1 })
      await eventually(() => said.includes('processed'), LONG)
      expect(await bench.record(id)).to.include({ status: 'RUNNING', attempts: 2, leaseToken: taken?.lease.token })
    })
  },
  { claimTimeoutSeconds: 60 },
)

/** What others would take over now. */
async function reclaimed({ backend }: WorkerBench): ReturnType<typeof begunBy> {
  return await begunBy(backend.queue)
}

async function begunBy(
  queue: WorkerBench['backend']['queue'],
): Promise<Awaited<ReturnType<typeof queue.reclaim>>['begun']> {
  return (await queue.reclaim(10, { idleMs: 0 })).begun
}
