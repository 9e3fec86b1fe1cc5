/** Worker: its life, its slots, which tasks it takes and when, and what it tells. */
import { expect } from 'chai'
import { once } from 'node:events'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { RedisTaskBackend, StorageUnavailableError, task, TaskOptionError, taskRegistry, Worker } from '../lib/index.ts'
import type { Logger } from '../lib/index.ts'
import { caught, closedAtEnd } from './backends/backends-under-test.ts'
import { Gate, median, overEveryWorker, overRedisWorker, settledBy } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import type { Storage } from '../lib/storage/storage.ts'

overEveryWorker('Worker: start, stop and run', (bench) => {
  it('runs tasks from start to stop, and may be told both twice', async () => {
    const echo = task('echo', (text: string) => text)
    const worker = bench.make()
    await Promise.all([worker.start(), worker.start()])
    await worker.start()
    const result = await echo.enqueue('hello')
    expect((await bench.reached(result.id, 'SUCCESSFUL')).returnValue).to.equal('"hello"')
    expect(await Promise.all([worker.stop(), worker.stop()])).to.deep.equal([0, 0])
    expect(await worker.stop()).to.equal(0)
    expect(worker.processed).to.equal(1)
    expect(worker.running).to.equal(0)
  })

  it('is nothing to the storage when it is stopped before it was started, and stays stopped', async () => {
    const worker = bench.make()
    expect(await worker.stop()).to.equal(0)
    await worker.start()
    await worker.run()
    expect(await bench.backend.storage.workers()).to.deep.equal([])
  })

  it('begins nothing when it is stopped while it starts', async () => {
    const waits = task('waits', () => null)
    const { id } = await waits.enqueue()
    const worker = bench.make()
    const starting = worker.start()
    await worker.stop()
    await starting
    expect((await bench.record(id)).status).to.equal('READY')
    expect(await bench.backend.storage.workers()).to.deep.equal([])
  })

  it('can be started again beside a stopped one, by a new worker', async () => {
    const echo = task('echo', (text: string) => text)
    await (await bench.start()).stop()
    await bench.start()
    await bench.reached((await echo.enqueue('again')).id, 'SUCCESSFUL')
  })

  it('stops when it is disposed of', async () => {
    const worker = await bench.start()
    await worker[Symbol.asyncDispose]()
    expect(await bench.backend.storage.workers()).to.deep.equal([])
  })

  it('ends run() when it is stopped from outside', async () => {
    const worker = bench.make()
    const ended = worker.run()
    await once(worker, 'idle')
    await worker.stop()
    await ended
  })

  it('refuses an option that it does not know, naming the nearest', () => {
    const options = { concurency: 2 } as object
    expect(() => new Worker(bench.backend, options)).to.throw(TaskOptionError, 'concurrency')
    expect(() => new Worker(bench.backend, { concurrency: 0 })).to.throw(TaskOptionError, 'concurrency')
    const logger = { error: () => undefined } as unknown as Logger
    expect(() => new Worker(bench.backend, { logger })).to.throw(TaskOptionError, 'logger')
  })

  it('is seen by its heartbeat from its start to its stop', async () => {
    task('seen', () => null)
    const worker = await bench.start({ workerId: 'here', concurrency: 7, claimIntervalSeconds: 0.05 })
    const [seen] = await bench.backend.storage.workers()
    expect(seen?.fields).to.include({ workerId: 'here', concurrency: '7', state: 'running', tasks: 'seen' })
    expect(seen?.fields).to.include({ pid: String(process.pid), node: process.version })
    await bench.reached(
      (await (taskRegistry.get('seen') as ReturnType<typeof task<[], null>>).enqueue()).id,
      'SUCCESSFUL',
    )
    await eventually(async () => (await bench.backend.storage.workers())[0]?.fields['settled'] === '1')
    await worker.stop()
    expect(await bench.backend.storage.workers()).to.deep.equal([])
  })
})

overEveryWorker('Worker: slots', (bench) => {
  it('never runs more at a time than its concurrency, in whatever steps they end', async () => {
    const steps = [() => undefined, () => Promise.resolve(), () => setImmediate(), () => sleep(1)]
    let running = 0
    let most = 0
    const mixed = task('mixed', async (index: number) => {
      running += 1
      most = Math.max(most, running)
      await steps[index % steps.length]?.()
      running -= 1
    })
    await mixed.enqueueMany(Array.from({ length: 1_000 }, (_, index): [number] => [(index * 7919) % 101]))
    await bench.make({ concurrency: 50, continuous: false }).run()
    expect(await bench.backend.records.filter({ status: 'SUCCESSFUL' }).count()).to.equal(1_000)
    expect(most).to.be.within(2, 50)
  })

  it('never runs more at a time than its concurrency', async () => {
    const gate = new Gate()
    let running = 0
    let most = 0
    const gated = task('gated', async () => {
      running += 1
      most = Math.max(most, running)
      await gate.pass()
      running -= 1
    })
    await bench.start({ concurrency: 3 })
    await gated.enqueueMany(Array.from({ length: 20 }, () => []))
    await eventually(() => gate.arrived === 3)
    expect(await bench.counts()).to.include({ READY: 17, RUNNING: 3 })
    gate.open()
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 20)
    expect(most).to.equal(3)
  })

  it('fills every slot of an idle worker, whatever its blocking read brings', async () => {
    const gate = new Gate()
    const gated = task('gated', () => gate.pass())
    const worker = await bench.start({ concurrency: 4 })
    for (let count = 1; count <= 4; count += 1) {
      await gated.enqueue()
      await eventually(() => gate.arrived === count)
    }
    await gated.enqueue()
    expect(worker.running).to.equal(4)
    gate.open()
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 5)
  })

  it('begins exactly maxTasks, also with more slots than that', async () => {
    let begun = 0
    const counted = task('counted', () => void (begun += 1))
    await counted.enqueueMany(Array.from({ length: 10 }, () => []))
    const worker = bench.make({ concurrency: 10, maxTasks: 4 })
    await worker.run()
    expect([begun, worker.processed]).to.deep.equal([4, 4])
    expect(await bench.counts()).to.include({ READY: 6, RUNNING: 0, SUCCESSFUL: 4 })
  })

  it('begins exactly maxTasks in each of several workers', async () => {
    let begun = 0
    const counted = task('counted', () => void (begun += 1))
    await counted.enqueueMany(Array.from({ length: 20 }, () => []))
    await Promise.all([1, 2, 3].map((maxTasks) => bench.make({ concurrency: 5, maxTasks }).run()))
    expect(begun).to.equal(6)
    expect(await bench.counts()).to.include({ READY: 14, RUNNING: 0, SUCCESSFUL: 6 })
  })

  it('begins exactly maxTasks when the last slot is the blocking read’s and another is freed at that moment', async () => {
    for (let round = 0; round < 5; round += 1) {
      const gate = new Gate()
      let begun = 0
      const name = `round-${round}`
      const first = task(`${name}-first`, async () => {
        begun += 1
        await gate.pass()
      })
      const more = task(`${name}-more`, () => void (begun += 1))
      const worker = bench.make({ concurrency: 10, maxTasks: 2 })
      const ended = worker.run()
      await first.enqueue()
      await eventually(() => gate.arrived === 1)
      // Given one slot left, held by the read; when the first task ends while two more come
      gate.open()
      await more.enqueueMany([[], [], []])
      await ended
      expect(begun, name).to.equal(2)
      await bench.backend.records.filter({ status: 'READY' }).delete()
    }
  })
})

overEveryWorker('Worker: not continuous', (bench) => {
  it('ends when nothing is due, and leaves what is not', async () => {
    const noop = task('noop', () => null)
    await noop.enqueueMany([[], [], []])
    const later = await noop.using({ runAfter: new Date(Date.now() + 60_000) }).enqueue()
    await bench.make({ continuous: false }).run()
    expect(await bench.counts()).to.include({ READY: 1, SUCCESSFUL: 3 })
    expect((await bench.record(later.id)).status).to.equal('READY')
  })

  it('ends at once on a storage that nobody has used yet', async () => {
    await bench.make({ continuous: false }).run()
  })

  it('runs a delayed task that has come due before anybody promoted it', async () => {
    const noop = task('noop', () => null)
    const due = Date.now() + 30
    const { id } = await noop.using({ runAfter: new Date(due) }).enqueue()
    await eventually(() => Date.now() > due + 5)
    await bench.make({ continuous: false, intervalSeconds: 60 }).run()
    expect((await bench.record(id)).status).to.equal('SUCCESSFUL')
  })

  it('runs what its tasks enqueue, into a queue that was not there before too', async () => {
    const inner = task({ name: 'inner', queueName: 'born-late' }, () => null)
    const outer = task('outer', async () => {
      await inner.enqueue()
    })
    await outer.enqueue()
    await bench.make({ continuous: false, intervalSeconds: 60 }).run()
    expect(await bench.counts()).to.include({ READY: 0, SUCCESSFUL: 2 })
  })

  it('looks into every queue before it ends, however many there are', async () => {
    const noop = task('noop', () => null)
    for (let index = 0; index < 45; index += 1) await noop.using({ queueName: `queue-${index}` }).enqueue()
    await bench.make({ continuous: false }).run()
    expect(await bench.counts()).to.include({ READY: 0, SUCCESSFUL: 45 })
  })
})

overEveryWorker('Worker: what it takes', (bench) => {
  it('empties high before normal before low, each in the order of arrival', async () => {
    const order: string[] = []
    const note = task('note', (text: string) => void order.push(text))
    for (const [band, priority] of [
      ['low', -5],
      ['normal', 0],
      ['high', 5],
    ] as const) {
      for (const index of [1, 2, 3]) await note.using({ priority }).enqueue(`${band} ${index}`)
    }
    await bench.make({ concurrency: 1, continuous: false }).run()
    const expected = ['high', 'normal', 'low'].flatMap((band) => [1, 2, 3].map((index) => `${band} ${index}`))
    expect(order).to.deep.equal(expected)
  })

  it('takes from its queues only', async () => {
    const noop = task('noop', () => null)
    const mine = await noop.using({ queueName: 'mine' }).enqueue()
    const theirs = await noop.using({ queueName: 'theirs' }).enqueue()
    await bench.start({ queues: ['mine'] })
    await bench.reached(mine.id, 'SUCCESSFUL')
    await bench.make({ queues: ['mine'], continuous: false }).run()
    expect((await bench.record(theirs.id)).status).to.equal('READY')
  })

  it('serves a queue that appears later, within the interval, and its second task at once', async () => {
    const noop = task({ name: 'noop', queueName: 'new' }, () => null)
    const worker = bench.make({ intervalSeconds: 1 })
    const idle = once(worker, 'idle')
    await worker.start()
    await idle
    const first = await noop.enqueue()
    const startedAt = (await bench.reached(first.id, 'SUCCESSFUL')).startedAt ?? NaN
    expect(startedAt - first.enqueuedAt.getTime()).to.be.below(2_000)
    await eventually(() => worker.processed === 1)
    const second = await noop.enqueue()
    const again = (await bench.reached(second.id, 'SUCCESSFUL')).startedAt ?? NaN
    expect(again - second.enqueuedAt.getTime()).to.be.below(500)
  })

  it('is woken by an enqueue, long before its blocking read or interval ends', async () => {
    const noop = task('noop', () => null)
    const { backend } = await bench.kind.open({ blockTimeoutMs: 5_000 })
    await backend.enqueue(noop, [])
    const worker = bench.make({ intervalSeconds: 60 }, backend)
    const idle = once(worker, 'idle')
    await worker.start()
    await idle
    const settled = once(worker, 'settled')
    const { id } = await backend.enqueue(noop, [])
    await settled
    const { startedAt, enqueuedAt } = await backend.getResult(id)
    expect((startedAt?.getTime() ?? NaN) - enqueuedAt.getTime()).to.be.below(500)
  })
})

overEveryWorker('Worker: delayed tasks', (bench) => {
  it('keeps a due time that it knows to within 100 ms, never before it, without waiting for its interval', async () => {
    const noop = task('noop', () => null)
    const due = [400, 500, 600, 700, 800].map((ms) => Date.now() + ms)
    const ids: string[] = []
    for (const time of due) ids.push((await noop.using({ runAfter: new Date(time) }).enqueue()).id)
    await bench.start({ intervalSeconds: 60 })
    const late: number[] = []
    for (const [index, id] of ids.entries()) {
      const { startedAt } = await bench.reached(id, 'SUCCESSFUL')
      late.push((startedAt ?? NaN) - (due[index] ?? NaN))
    }
    expect(Math.min(...late)).to.be.at.least(0)
    // Of five, so that one pause of a busy machine does not count.
    expect(median(late)).to.be.below(100)
  })

  it('keeps the due time of its own retries in the same way', async () => {
    let failed = 0
    const flaky = task({ name: 'flaky', retry: { maxAttempts: 2, backoff: 'fixed', delayMs: 300, jitter: 0 } }, () => {
      if (failed === 0) {
        failed = Date.now()
        throw new Error('once')
      }
      return Date.now() - failed
    })
    await bench.start({ intervalSeconds: 60 })
    const { id } = await flaky.enqueue()
    const waited = Number((await bench.reached(id, 'SUCCESSFUL')).returnValue)
    expect(waited).to.be.within(300, 900)
  })

  it('finds within its interval what somebody else delays', async () => {
    const noop = task('noop', () => null)
    await noop.enqueue()
    const worker = bench.make({ intervalSeconds: 0.5 })
    const idle = once(worker, 'idle')
    await worker.start()
    await idle
    const due = Date.now() + 20
    const { id } = await noop.using({ runAfter: new Date(due) }).enqueue()
    const { startedAt } = await bench.reached(id, 'SUCCESSFUL')
    expect((startedAt ?? NaN) - due).to.be.within(0, 1_500)
  })
})

overEveryWorker('Worker: what it tells', (bench) => {
  it('tells of each settle how it ended', async () => {
    const good = task('good', () => 1)
    const bad = task({ name: 'bad', retry: { maxAttempts: 2, delayMs: 0 } }, () => {
      throw new TypeError('no')
    })
    const worker = bench.make({ concurrency: 1 })
    const events = settledBy(worker)
    const first = await good.enqueue()
    const second = await bad.enqueue()
    await worker.start()
    await eventually(() => events.length === 3)
    expect(events[0]).to.include({ id: first.id, name: 'good', queueName: 'default', attempt: 1 })
    expect(events[0]).to.include({ outcome: 'SUCCESSFUL', word: 'SETTLED', error: null })
    expect(events.slice(1).map(({ id, attempt, outcome }) => [id, attempt, outcome])).to.deep.equal([
      [second.id, 1, 'READY'],
      [second.id, 2, 'FAILED'],
    ])
    expect(JSON.parse(events[2]?.error ?? '')).to.include({ name: 'TypeError', message: 'no', attempt: 2 })
    expect(events[0]?.durationMs).to.be.within(0, 5_000)
  })

  it('tells once that it is idle, and again after it has worked', async () => {
    const noop = task('noop', () => null)
    const worker = bench.make({ claimIntervalSeconds: 0.05, intervalSeconds: 0.05 })
    let idle = 0
    worker.on('idle', () => void (idle += 1))
    await worker.start()
    await eventually(() => idle === 1)
    const settled = settledBy(worker)
    for (let round = 1; round <= 3; round += 1) {
      await noop.enqueue()
      await eventually(() => settled.length === round && idle === round + 1)
    }
    expect(idle).to.equal(4)
  })

  it('tells the backend’s listeners of begin and end', async () => {
    const noop = task('noop', () => 5)
    const told: string[] = []
    bench.backend.on('taskStarted', ({ status, attempts }) => told.push(`started ${status} ${attempts}`))
    bench.backend.on('taskFinished', (result) => told.push(`finished ${result.status} ${String(result.returnValue)}`))
    const worker = await bench.start()
    await noop.enqueue()
    await eventually(() => told.length === 2)
    await worker.stop()
    expect(told).to.deep.equal(['started RUNNING 1', 'finished SUCCESSFUL 5'])
  })

  it('is not touched by listeners that throw, reject or never return', async () => {
    const noop = task('noop', () => null)
    const worker = bench.make({ concurrency: 2 })
    let heard = 0
    for (const event of ['settled', 'idle', 'leaseLost', 'error'] as const) {
      worker.on(event, () => {
        throw new Error(`thrown by ${event}`)
      })
      // eslint-disable-next-line @typescript-eslint/no-misused-promises -- what users do
      worker.on(event, () => Promise.reject(new Error(`rejected by ${event}`)))
      // eslint-disable-next-line @typescript-eslint/no-misused-promises -- the same
      worker.on(event, () => new Promise(() => {}))
      worker.on(event, () => void (heard += 1))
    }
    for (const event of ['taskStarted', 'taskFinished'] as const) {
      bench.backend.on(event, () => {
        throw new Error(`thrown by ${event}`)
      })
      bench.backend.on(event, () => Promise.reject(new Error(`rejected by ${event}`)))
    }
    await worker.start()
    await noop.enqueueMany(Array.from({ length: 20 }, () => []))
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 20)
    await eventually(() => heard >= 21 && worker.processed === 20)
    const results = await bench.backend.records.filter({}).limit(20)
    expect(results.map(({ attempts }) => attempts)).to.deep.equal(Array<number>(20).fill(1))
  })

  it('logs nothing of its tasks unless it is asked to', async () => {
    const known = task('known', () => null)
    const worker = await bench.start()
    const settled = settledBy(worker)
    await known.enqueue()
    await eventually(() => settled.length === 1)
    await worker.stop()
    expect(bench.logged.filter(({ message }) => message !== 'task enqueued')).to.deep.equal([])
  })

  it('logs with logTasks when a task starts and how it ended: well, in vain, to run again, handed back', async () => {
    const lines: [line: string, facts: Record<string, unknown>][] = []
    const write = (level: string) => (facts: object, message: string) =>
      void lines.push([`${level} ${message}`, facts as Record<string, unknown>])
    const logger = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
    const said = (id: string): string[] => lines.filter(([, facts]) => facts['id'] === id).map(([line]) => line)
    const gate = new Gate()
    const good = task('good', () => null)
    const bad = task('bad', () => Promise.reject(new RangeError('no such thing')))
    const again = task(
      { name: 'again', retry: { maxAttempts: 2, backoff: () => 0 }, takesContext: true },
      ({ attempt }) => {
        if (attempt === 1) throw new Error('not yet')
      },
    )
    const held = task('held', () => gate.pass())
    const worker = await bench.start({ logTasks: true, logger })
    const settled = settledBy(worker)
    const ids: string[] = []
    for (const each of [good, bad, again, held]) ids.push((await each.enqueue()).id)
    const [ofGood = '', ofBad = '', ofAgain = '', ofHeld = ''] = ids
    await eventually(() => settled.length === 4 && gate.arrived === 1)
    expect(await worker.stop({ drainTimeoutSeconds: 0 })).to.equal(1)
    gate.open()
    expect(said(ofGood)).to.deep.equal(['info task started', 'info task finished'])
    expect(said(ofBad)).to.deep.equal(['info task started', 'error task failed'])
    const notYet = 'warn task did not end; it runs again'
    expect(said(ofAgain)).to.deep.equal([
      ...['info task started', notYet],
      ...['info task started', 'info task finished'],
    ])
    expect(said(ofHeld)).to.deep.equal(['info task started', notYet])
    const endOf = (id: string): Record<string, unknown> | undefined =>
      lines.findLast(([, facts]) => facts['id'] === id)?.[1]
    expect(endOf(ofGood)).to.deep.equal({
      ...{ id: ofGood, name: 'good', queueName: 'default', attempt: 1, status: 'SUCCESSFUL' },
    })
    expect(endOf(ofBad)?.['error']).to.include({ name: 'RangeError', message: 'no such thing' })
  })

  it('is not touched by a logger that throws', async () => {
    const fail = (): never => {
      throw new Error('no log')
    }
    const lost = task('lost', () => null)
    taskRegistry.delete('lost')
    const known = task('known', () => null)
    await bench.start({ logger: { debug: fail, info: fail, warn: fail, error: fail }, logTasks: true })
    await lost.enqueue()
    await bench.reached((await known.enqueue()).id, 'SUCCESSFUL')
  })
})

overRedisWorker('Worker: without a server', () => {
  it('refuses to start while the server cannot be reached, whether its queues are named or not', async () => {
    // Port 1 is nobody's: the connection is refused.
    const backend = closedAtEnd(new RedisTaskBackend({ redisUrl: 'redis://127.0.0.1:1', alias: 'away' }))
    for (const queues of [undefined, ['mail']]) {
      const worker = new Worker(backend, { queues })
      expect(await caught(worker.start())).to.be.instanceOf(StorageUnavailableError)
      expect(await worker.stop()).to.equal(0)
    }
  })
})

overEveryWorker(
  'Worker: blocking reads that die',
  (bench) => {
    it('reads again soon after each of them that had waited its time, however many there were', async () => {
      const { storage } = bench.backend
      let reads = 0
      const dies: Storage['takeBlocking'] = async ({ blockMs }) => {
        reads += 1
        await sleep(blockMs)
        throw new StorageUnavailableError('end a blocking read', 'no answer', 'the read goes on')
      }
      Object.assign(storage, { takeBlocking: dies })
      await bench.start()
      // A pause that doubles with each of them would be at eight seconds by now
      await eventually(() => reads === 6, { timeoutMs: 5_000 })
    })
  },
  { blockTimeoutMs: 50 },
)
