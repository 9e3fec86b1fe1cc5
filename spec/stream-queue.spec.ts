/** StreamQueue: what it adds to the storage's verbs: who asks, a number for each call, and which streams come next. */
import { expect } from 'chai'
import sinon from 'sinon'
import { StreamQueue } from '../lib/index.ts'
import { MAX_CRASHES } from '../lib/stream-queue.ts'
import type { ReclaimPosition } from '../lib/stream-queue.ts'
import { overEveryWorker } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'
import { aRecord, failure, later, only, someRecords, success } from './support/storage-builders.ts'

overEveryWorker('StreamQueue', (bench) => {
  const open = (fields: { workerId?: string; leaseMs?: number; maxCrashes?: number } = {}): StreamQueue =>
    new StreamQueue(bench.backend.storage, { leaseMs: 60_000, ...fields })

  /** Leases of one millisecond, which nobody renews. */
  const die = async (count: number, queueName = 'mail'): Promise<void> => {
    const dead = open({ workerId: 'dead', leaseMs: 1 })
    expect((await dead.take(count, { queueNames: [queueName] })).begun).to.have.lengthOf(count)
  }

  it('is no other consumer, whatever its worker id', () => {
    const [first, second] = [open({ workerId: 'same' }), open({ workerId: 'same' })]
    expect(first.workerId).to.equal('same')
    expect(first.consumer).to.match(/^same\.[\w-]{12}$/)
    expect(first.consumer).not.to.equal(second.consumer)
    expect(open().workerId).to.match(new RegExp(`-${process.pid}-`))
  })

  it('takes what was pushed, in the order of the bands, under a token of its own for each call', async () => {
    const queue = open({ workerId: 'me' })
    await queue.push([aRecord({ priority: -1 }), aRecord(), aRecord({ priority: 1 })])
    const { begun } = await queue.take(2, { queueNames: ['mail'] })
    const last = await queue.take(2, { queueNames: ['mail'] })
    expect([...begun, ...last.begun].map(({ record }) => record.priority)).to.deep.equal([1, 0, -1])
    expect(begun[0]?.record.workerIds).to.deep.equal(['me'])
    const calls = [...begun, ...last.begun].map(({ lease }) => lease.token.split('.').at(-1))
    expect(calls[0]).to.equal(calls[1])
    expect(calls[2]).not.to.equal(calls[1])
  })

  it('carries more than one call of the storage does, in several', async () => {
    const queue = open()
    expect(await queue.push(someRecords(4_500))).to.have.lengthOf(4_500)
    expect(await bench.counts()).to.include({ READY: 4_500 })
    const { begun } = await queue.take(4_500, { queueNames: ['mail'] })
    expect(begun).to.have.lengthOf(1_000)
    expect(await bench.counts()).to.include({ READY: 3_500, RUNNING: 1_000 })
    const leases = begun.map(({ lease }) => lease)
    expect(new Set(await queue.renew(leases))).to.deep.equal(new Set(['RENEWED']))
    expect(await queue.settle(begun.slice(0, 450).map((delivery) => success(delivery)))).to.have.lengthOf(450)
    const words = await queue.requeue(leases)
    expect(words.map((word) => word === 'REQUEUED')).to.deep.equal(leases.map((_, index) => index >= 450))
    expect(await bench.counts()).to.include({ READY: 4_050, RUNNING: 0, SUCCESSFUL: 450 })
  })

  it('takes from every queue that there is when none is named', async () => {
    const queue = open()
    expect(await queue.take(10)).to.deep.equal({ begun: [], passed: 0 })
    await queue.push([aRecord({ queueName: 'a' }), aRecord({ queueName: 'b' })])
    expect((await queue.take(10)).begun).to.have.lengthOf(2)
  })

  it('finds the one entry among a hundred queues, by a take and by a settle that takes', async () => {
    const queue = open()
    const queueNames = Array.from({ length: 100 }, (_, index) => `queue-${index}`)
    for (const queueName of ['queue-37', 'queue-99', 'queue-0']) await queue.push([aRecord({ queueName })])
    const first = only((await queue.take(1, { queueNames })).begun)
    const { words, taken } = await queue.settleAndTake([success(first)], 2, queueNames)
    const rest = await queue.take(2, { queueNames })
    expect(words).to.deep.equal(['SETTLED'])
    const names = [first, ...taken.begun, ...rest.begun].map(({ record }) => record.queueName)
    expect(names).to.have.members(['queue-37', 'queue-99', 'queue-0'])
    expect(await queue.take(1, { queueNames })).to.deep.equal({ begun: [], passed: 0 })
  })

  it('passes over no queue when two take at once from more than a take looks at', async () => {
    const queue = open()
    const queueNames = Array.from({ length: 40 }, (_, index) => `q${index}`)
    for (const queueName of ['q7', 'q33']) {
      await queue.push(someRecords(20, { queueName }))
      for (let turn = 0; turn < 10; turn += 1) {
        const two = await Promise.all([queue.take(1, { queueNames }), queue.take(1, { queueNames })])
        expect(two.map(({ begun }) => begun.length)).to.deep.equal([1, 1])
      }
    }
  })

  it('starves no queue of more than a take looks at, however full the first are', async () => {
    const queue = open()
    const queueNames = Array.from({ length: 60 }, (_, index) => `queue-${index}`)
    for (const queueName of queueNames) await queue.push(someRecords(10, { queueName }))
    const seen = new Set<string>()
    for (let turn = 0; turn < 60; turn += 1) {
      for (const { record } of (await queue.take(10, { queueNames })).begun) seen.add(record.queueName)
    }
    expect(seen.size).to.equal(60)
  })

  it('waits for a first entry until it comes, its time is over, or it is told to stop', async () => {
    const queue = open()
    const queueNames = ['mail']
    await queue.push([aRecord()])
    await queue.take(1, { queueNames })
    const { signal } = new AbortController()
    expect((await queue.takeBlocking({ queueNames, blockMs: 20, signal })).begun).to.deep.equal([])
    const waiting = queue.takeBlocking({ queueNames, blockMs: 5_000, signal })
    const record = aRecord()
    await queue.push([record])
    expect(only((await waiting).begun).lease.id).to.equal(record.id)
    const abort = new AbortController()
    const stopped = queue.takeBlocking({ queueNames, blockMs: 5_000, signal: abort.signal })
    abort.abort()
    expect(await stopped).to.deep.equal({ begun: [], passed: 0 })
  })

  it('settles, hands back and renews by lease, once', async () => {
    const queue = open()
    await queue.push(someRecords(4))
    const { begun } = await queue.take(4, { queueNames: ['mail'] })
    const [good, bad, again, back] = begun
    if (!good || !bad || !again || !back) throw new Error('expected four deliveries')
    expect(await queue.renew([good.lease, back.lease])).to.deep.equal(['RENEWED', 'RENEWED'])
    expect(await queue.settle([success(good), failure(bad), later(again, 60_000)])).to.deep.equal([
      'SETTLED',
      'SETTLED',
      'SETTLED',
    ])
    expect(await queue.requeue([back.lease])).to.deep.equal(['REQUEUED'])
    expect(await queue.renew([good.lease, back.lease])).to.deep.equal(['LOST', 'LOST'])
    expect(await queue.settle([success(back)])).to.deep.equal(['LOST'])
    const depth = only(await queue.depth(['mail']))
    expect(depth).to.deep.equal({ queueName: 'mail', high: 0, normal: 1, low: 0, delayed: 1 })
  })

  it('promotes what is due in all queues, however much that is, and says when the next is due', async () => {
    const queue = open()
    const runAfter = Date.now() + 1_000
    for (const queueName of ['a', 'b']) await queue.push(someRecords(150, { queueName, runAfter }))
    const inAnHour = Date.now() + 3_600_000
    await queue.push([aRecord({ queueName: 'b', runAfter: inAnHour })])
    let moved = 0
    const last = await eventually(async () => {
      const answer = await queue.promote()
      moved += answer.moved
      return moved === 300 && answer
    })
    expect(last.dueInMs).to.be.within(3_590_000, 3_600_000)
    expect(await queue.promote(['a'])).to.deep.equal({ moved: 0, dueInMs: null })
  })

  it('takes over as many as it has room for, and goes on where it was cut short', async () => {
    const queue = open()
    await queue.push(someRecords(7))
    await queue.push([aRecord({ queueName: 'other' })])
    await die(7)
    await die(1, 'other')
    const ids = new Set<string>()
    const sizes: number[] = []
    let from: ReclaimPosition | null = null
    await eventually(async () => {
      const { begun, next } = await queue.reclaim(3, { from })
      from = next
      sizes.push(begun.length)
      for (const { lease } of begun) ids.add(lease.id)
      return ids.size === 8
    })
    expect(Math.max(...sizes)).to.equal(3)
    expect((await queue.reclaim(3)).begun).to.deep.equal([])
  })

  it('takes over only where it serves, and leaves the rest to the others', async () => {
    const queue = open()
    const [mine, theirs] = [aRecord(), aRecord({ queueName: 'theirs' })]
    await queue.push([mine, theirs])
    await die(1, 'theirs')
    await die(1)
    const ids: string[] = []
    await eventually(async () => {
      const { begun } = await queue.reclaim(10, { queueNames: ['mail'] })
      ids.push(...begun.map(({ lease }) => lease.id))
      return ids.length === 1
    })
    expect(ids).to.deep.equal([mine.id])
    expect(await bench.record(theirs.id)).to.include({ status: 'RUNNING', attempts: 1 })
    const { begun } = await queue.reclaim(10, { queueNames: ['theirs'] })
    expect(begun.map(({ lease }) => lease.id)).to.deep.equal([theirs.id])
  })

  it('hands back what it found of queues that it is not to begin', async () => {
    const queue = open()
    const [mine, theirs] = [aRecord(), aRecord({ queueName: 'theirs' })]
    await queue.push([mine, theirs])
    await die(1)
    await die(1, 'theirs')
    const ids: string[] = []
    await eventually(async () => {
      const { begun } = await queue.reclaim(10, { keepOnly: ['mail'] })
      ids.push(...begun.map(({ lease }) => lease.id))
      return ids.length === 1 && (await bench.record(theirs.id)).status === 'READY'
    })
    expect(ids).to.deep.equal([mine.id])
  })

  it('looks through every stream with each call, also with two at once, and goes on in the stream it is told', async () => {
    const queue = open()
    const looks = sinon.spy(bench.backend.storage, 'reclaim')
    const asked = (): string[] => {
      const all = looks.args.map(([{ stream, cursor }]) => `${stream.queueName} ${stream.band} ${cursor}`)
      looks.resetHistory()
      return all
    }
    const [high, normal, low] = ['high', 'normal', 'low'].map((band) => ['a', 'b'].map((name) => `${name} ${band} `))
    const all = [...(high ?? []), ...(normal ?? []), ...(low ?? [])]
    const queueNames = ['a', 'b']
    const two = await Promise.all([queue.reclaim(1, { queueNames }), queue.reclaim(1, { queueNames })])
    expect(two.map(({ next }) => next)).to.deep.equal([null, null])
    expect(asked().sort()).to.deep.equal([...all, ...all].sort())
    const from = { stream: { queueName: 'b', band: 'normal' as const }, cursor: '5-0' }
    await queue.reclaim(1, { queueNames, from })
    expect(asked()).to.deep.equal(['b normal 5-0', 'a low ', 'b low '])
    // Served no more: from the first on.
    await queue.reclaim(1, { queueNames: ['a'], from })
    expect(asked()).to.deep.equal(['a high ', 'a normal ', 'a low '])
    looks.restore()
  })

  it('fails what crashed once too often, with the reason', async () => {
    const queue = open({ maxCrashes: 1 })
    const record = aRecord()
    await queue.push([record])
    await die(1)
    const dead = open({ leaseMs: 1, maxCrashes: 5 })
    await eventually(async () => (await dead.reclaim(1)).begun.length === 1)
    await eventually(async () => (await queue.reclaim(1)).crashed.includes(record.id))
    const failed = await bench.record(record.id)
    expect(failed).to.include({ status: 'FAILED', crashes: 2 })
    expect(JSON.parse(failed.errors[0] ?? '')).to.include({ name: 'TaskAbandonedError' })
    expect(MAX_CRASHES).to.equal(3)
  })

  it('finds again what it was handed and never learned of', async () => {
    const queue = open()
    await queue.push(someRecords(3))
    const { begun } = await queue.take(3, { queueNames: ['mail'] })
    const known = new Set([begun[0]?.lease.id ?? ''])
    const found = await queue.recover(1, known, ['mail'])
    // One is begun again under a new token, the other goes back
    const again = only(found.begun)
    expect(again.record.attempts).to.equal(1)
    expect(begun.map(({ lease }) => lease.token)).not.to.include(again.lease.token)
    expect(await bench.counts()).to.include({ RUNNING: 2, READY: 1 })
  })

  it('runs by id whatever the place in the queue, and once', async () => {
    const queue = open()
    const record = aRecord({ runAfter: Date.now() + 3_600_000 })
    await queue.push([record])
    const delivery = await queue.runById(record.id, false)
    expect(delivery).to.have.nested.property('record.status', 'RUNNING')
    expect(await queue.runById(record.id, false)).to.equal('RUNNING')
    expect(await queue.runById('018f0000-0000-7000-8000-000000000000', false)).to.equal('ABSENT')
  })

  it('is forgotten once nothing of it is pending', async () => {
    const queue = open()
    const { storage } = bench.backend
    await storage.heartbeat({ consumer: queue.consumer, fields: { workerId: queue.workerId } })
    await queue.push([aRecord()])
    const delivery = only((await queue.take(1, { queueNames: ['mail'] })).begun)
    expect(await queue.forget()).to.equal('KEPT')
    await queue.settle([success(delivery)])
    expect(await queue.forget()).to.equal('FORGOTTEN')
    expect(await storage.workers()).to.deep.equal([])
  })
})
