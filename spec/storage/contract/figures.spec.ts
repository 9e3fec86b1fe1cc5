import { expect } from 'chai'
import { aClaim, aRecord, aTake, failure, success, takeOne } from '../../support/storage-builders.ts'
import { eventually } from '../../support/eventually.ts'
import { overEveryStorage } from '../../support/storages.ts'

overEveryStorage('Figures of queues', (it) => {
  it('counts what ended in the running minute, by queue, outcome and time', async ({ storage }) => {
    await storage.enqueue([aRecord(), aRecord(), aRecord()])
    await storage.settle([success(await takeOne(storage))])
    await storage.settle([success(await takeOne(storage)), failure(await takeOne(storage))])
    const stats = await storage.stats(3)
    expect(stats).to.have.length(3)
    for (const { from } of stats) expect(from % 60_000).to.equal(0)
    const counts = stats.flatMap((minute) => minute.counts)
    const sum = (kind: string): number =>
      counts.filter((each) => each.kind === kind).reduce((total, { count }) => total + count, 0)
    expect([sum('SUCCESSFUL'), sum('FAILED'), sum('wait')]).to.deep.equal([2, 1, 3])
    expect(new Set(counts.map(({ queueName }) => queueName))).to.deep.equal(new Set(['mail']))
  })

  it('tells for how long the oldest waiting record has been due', async ({ storage, elapse }) => {
    expect(await storage.longestWait(['mail', 'none'])).to.deep.equal([null, null])
    await storage.enqueue([aRecord({ priority: -1 })])
    await eventually(async () => {
      elapse(20)
      return ((await storage.longestWait(['mail']))[0] ?? 0) >= 20
    })
    await storage.enqueue([aRecord({ priority: 1 })])
    expect((await storage.longestWait(['mail']))[0]).to.be.at.least(20)
  })

  it('passes over what runs, and what is not due yet', async ({ storage }) => {
    await storage.enqueue([aRecord(), aRecord({ runAfter: 8_640_000_000_000_000 })])
    await storage.take(aTake('first', { count: 10 }))
    expect(await storage.longestWait(['mail'])).to.deep.equal([null])
  })

  it('counts a delayed record that is due and that nobody promoted', async ({ storage, elapse }) => {
    const [{ from } = { from: 0 }] = await storage.stats(1)
    const record = aRecord({ runAfter: from + 3_600_000 })
    await storage.enqueue([record])
    expect(await storage.longestWait(['mail'])).to.deep.equal([null])
    await storage.save(record.id, { runAfter: null })
    elapse(5)
    expect((await storage.longestWait(['mail']))[0]).to.be.at.least(0)
  })

  it('counts a later attempt from when it was put back', async ({ storage, elapse }) => {
    const record = aRecord()
    await storage.enqueue([record])
    elapse(60_000)
    const delivery = await storage.runById(aClaim(), record.id, false)
    if (typeof delivery === 'string') throw new Error(delivery)
    await storage.settle([failure(delivery)])
    await storage.retry([record.id], 'request')
    expect((await storage.longestWait(['mail']))[0]).to.be.below(10_000)
  })
})
