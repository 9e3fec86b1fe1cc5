/** maintenance: the purge step by step, also under other callers, and what a web process does for want of a worker. */
import { expect } from 'chai'
import { task } from '../lib/index.ts'
import { lookAfter, purgeFinished } from '../lib/maintenance.ts'
import type { PurgeProgress } from '../lib/maintenance.ts'
import { abandon, DAY_MS } from './backends/backends-under-test.ts'
import { overEveryWorker } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { success } from './support/storage-builders.ts'

overEveryWorker('maintenance: purge', (bench) => {
  const noop = (): ReturnType<typeof task<[], null>> => task('noop', () => null)

  async function finish(count: number): Promise<readonly { readonly id: string }[]> {
    const results = await noop().enqueueMany(Array.from({ length: count }, () => []))
    await bench.make({ continuous: false, concurrency: 50 }).run()
    return results
  }

  it('deletes what has finished for long enough, and tells of its progress batch by batch', async () => {
    await finish(450)
    const steps: PurgeProgress[] = []
    const { storage } = bench.backend
    const answer = await purgeFinished(storage, {
      finishedForMs: 0,
      batchSize: 100,
      onProgress: (progress) => void steps.push(progress),
    })
    expect(answer).to.deep.equal({ matched: 450, deleted: 450, complete: true })
    expect(steps.map(({ deleted }) => deleted)).to.deep.equal([100, 200, 300, 400, 450])
    expect(await bench.counts()).to.include({ SUCCESSFUL: 0 })
  })

  it('counts the same set and deletes nothing in a dry run', async () => {
    await finish(5)
    const { storage } = bench.backend
    expect(await purgeFinished(storage, { finishedForMs: 0, dryRun: true })).to.deep.equal({
      matched: 5,
      deleted: 0,
      complete: true,
    })
    expect(await purgeFinished(storage, { finishedForMs: DAY_MS })).to.deep.equal({
      matched: 0,
      deleted: 0,
      complete: true,
    })
    expect(await purgeFinished(storage, { finishedForMs: 0, statuses: ['FAILED'] })).to.include({ matched: 0 })
    expect(await bench.counts()).to.include({ SUCCESSFUL: 5 })
  })

  it('ends between two steps when it is told to, and the next one goes on', async () => {
    await finish(250)
    const { storage } = bench.backend
    const abort = new AbortController()
    const first = await purgeFinished(storage, {
      finishedForMs: 0,
      batchSize: 50,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    })
    expect(first.deleted).to.equal(50)
    expect(await purgeFinished(storage, { finishedForMs: 0 })).to.include({ deleted: 200 })
  })

  it('ends once as many as the limit matched, with the last progress told, and says that it is not complete', async () => {
    await finish(450)
    const { storage } = bench.backend
    const steps: PurgeProgress[] = []
    const onProgress = (progress: PurgeProgress): void => void steps.push(progress)
    const first = await purgeFinished(storage, { finishedForMs: 0, limit: 250, onProgress })
    expect(first).to.deep.equal({ matched: 250, deleted: 250, complete: false })
    expect(steps).to.deep.equal([{ matched: 250, deleted: 250 }])
    const second = await purgeFinished(storage, { finishedForMs: 0, limit: 250 })
    expect(second).to.deep.equal({ matched: 200, deleted: 200, complete: true })
  })

  it('deletes each record once beside other purges, and never one that was retried meanwhile', async () => {
    const failing = task('failing', () => {
      throw new Error('no')
    })
    await failing.enqueueMany(Array.from({ length: 600 }, () => []))
    await bench.make({ continuous: false, concurrency: 50 }).run()
    const { storage } = bench.backend
    const purge = (): Promise<PurgeProgress> => purgeFinished(storage, { finishedForMs: 0, batchSize: 20 })
    const [retried, ...purged] = await Promise.all([
      bench.backend.records.filter({ status: 'FAILED' }).retry(),
      purge(),
      purge(),
      purge(),
    ])
    const deleted = purged.reduce((sum, progress) => sum + progress.deleted, 0)
    expect(deleted + retried).to.equal(600)
    expect(await bench.counts()).to.include({ READY: retried, FAILED: 0 })
  })
})

overEveryWorker('maintenance: a process without workers', (bench) => {
  it('promotes and takes over, but not again a moment later', async () => {
    const noop = task('noop', () => null)
    const { backend } = bench
    const { queue } = backend
    const { id } = await noop.enqueue()
    await abandon(backend, 'default')
    const due = Date.now() + 20
    await noop.using({ runAfter: new Date(due) }).enqueue()
    await eventually(() => Date.now() > due + 5)
    const [orphan] = await lookAfter(backend, queue, 1, {}, 0)
    expect(orphan?.lease.id).to.equal(id)
    expect(await queue.depth(['default'])).to.deep.equal([
      { queueName: 'default', high: 0, normal: 2, low: 0, delayed: 0 },
    ])
    // The pass was cut short by its count: it goes on, to its end
    expect(await lookAfter(backend, queue, 1, {}, 10)).to.deep.equal([])
    const second = await noop.enqueue()
    await noop.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue()
    await abandon(backend, 'default', 2)
    expect(await lookAfter(backend, queue, 1, {}, 20)).to.deep.equal([])
    expect(await lookAfter(backend, queue, 1, {}, 59_000)).to.deep.equal([])
    const late: string[] = []
    await eventually(async () => {
      for (const { lease } of await lookAfter(backend, queue, 2, {}, 61_000)) late.push(lease.id)
      return late.length > 0
    })
    expect(late).to.include(second.id)
  })
})

overEveryWorker(
  'maintenance: retention without workers',
  (bench) => {
    it('removes what has been kept for long enough, a thousand at once, and not again a moment later', async () => {
      const noop = task('noop', () => null)
      const { backend } = bench
      const { queue } = backend
      const finish = async (count: number): Promise<void> => {
        await noop.enqueueMany(Array.from({ length: count }, () => []))
        for (let left = count; left > 0; left -= 100)
          await queue.settle((await queue.take(100)).begun.map((each) => success(each)))
      }
      const kept = async (): Promise<number | undefined> => (await bench.counts())['SUCCESSFUL']
      await finish(1_300)
      await lookAfter(backend, queue, 1, {}, 0)
      expect(await kept()).to.equal(300)
      // It was cut short, so the next call goes on.
      await lookAfter(backend, queue, 1, {}, 10)
      expect(await kept()).to.equal(0)
      await finish(1)
      await lookAfter(backend, queue, 1, {}, 20)
      expect(await kept()).to.equal(1)
      await lookAfter(backend, queue, 1, {}, 61_000)
      expect(await kept()).to.equal(0)
    })
  },
  { completedTaskTtlSeconds: 0 },
)
