/**
 * The scripts on ioredis-mock, which has hashes, sorted sets, XADD and Lua and neither consumer groups nor XDEL: what unit specs
 * of an application need of it, and the named error for what it cannot carry.
 */
import { expect } from 'chai'
import RedisMock from 'ioredis-mock'
import { randomUUID } from 'node:crypto'
import { StorageClientError } from '../../../lib/errors.ts'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.ts'
import type { Delivery } from '../../../lib/storage/storage.ts'
import {
  aClaim,
  aReclaim,
  aRecord,
  aRecover,
  aTake,
  cells,
  countsOf,
  enqueueOne,
  failure,
  later,
  QUEUE,
  read,
  success,
  TASK,
} from '../../support/storage-builders.ts'

function onMock(test: (storage: RedisStorage) => Promise<void>): () => Promise<void> {
  return async () => {
    const client = new RedisMock()
    const storage = new RedisStorage({
      ...{ server: { client }, keyPrefix: `spec-${randomUUID()}`, alias: 'default' },
      consumerGroup: 'express_tasks_workers',
    })
    try {
      await test(storage)
    } finally {
      await storage.close()
      client.disconnect()
    }
  }
}

async function runById(storage: RedisStorage, id: string, allowRetry = false): Promise<Delivery> {
  const answer = await storage.runById(aClaim('web'), id, allowRetry)
  if (typeof answer === 'string') throw new Error(`expected an attempt to begin, got: ${answer}`)
  return answer
}

const HOUR_MS = 3_600_000
/** TIME of ioredis-mock takes its seconds from one clock and its microseconds from another, so it jumps within a second. */
const CLOCK_ERROR_MS = 2_000

describe('RedisStorage on ioredis-mock', () => {
  it(
    'stores, finds, lists and counts records',
    onMock(async (storage) => {
      const records = [aRecord({ args: '[1]' }), aRecord(), aRecord({ runAfter: Date.now() + HOUR_MS })]
      const [first] = records
      expect((await storage.enqueue(records)).map(({ word }) => word)).to.deep.equal([
        'ENQUEUED',
        'ENQUEUED',
        'ENQUEUED',
      ])
      expect((await storage.enqueue(records)).map(({ word }) => word)).to.deep.equal(['EXISTS', 'EXISTS', 'EXISTS'])
      expect(await read(storage, first?.id ?? '')).to.include({ status: 'READY', args: '[1]', attempts: 0 })
      expect(await countsOf(storage)).to.deep.equal({ READY: 3, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
      const page = await storage.list({ cells: cells(), order: 'oldest', size: 10 })
      expect(page.map(({ id }) => id)).to.have.members(records.map(({ id }) => id))
      expect(await storage.catalog()).to.deep.equal({ queueNames: [QUEUE], tasks: [{ queueName: QUEUE, name: TASK }] })
    }),
  )

  it(
    'reads of records what a list shows',
    onMock(async (storage) => {
      const [id, other] = [await enqueueOne(storage, { args: '["éé\u{1F600}"]' }), await enqueueOne(storage)]
      const found = await storage.find([id, randomUUID(), other], { argsBytes: 6 })
      expect(found[0]).to.deep.include({ id, status: 'READY', errors: [], returnValue: null })
      expect(found[0]).to.have.property('args', '["é')
      expect(found[1]).to.equal(undefined)
      expect(found[2]).to.deep.include({ id: other, args: '[]', omittedBytes: 0 })
    }),
  )

  it(
    'runs a record by id, renews and settles it',
    onMock(async (storage) => {
      const [ready, delayed] = [
        await enqueueOne(storage),
        await enqueueOne(storage, { runAfter: Date.now() + HOUR_MS }),
      ]
      const done = await runById(storage, ready)
      const failed = await runById(storage, delayed)
      expect(await storage.runById(aClaim('web'), ready, true)).to.equal('RUNNING')
      expect(await storage.renew('web.holder', 5_000, [done.lease, failed.lease])).to.deep.equal(['RENEWED', 'RENEWED'])
      const items = [success(done, '"value"'), failure(failed)]
      expect(await storage.settle(items)).to.deep.equal(['SETTLED', 'SETTLED'])
      expect(await storage.settle(items)).to.deep.equal(['SETTLED', 'SETTLED'])
      expect(await read(storage, ready)).to.include({ status: 'SUCCESSFUL', returnValue: '"value"' })
      expect((await read(storage, delayed)).errors).to.have.lengthOf(1)
      expect(await storage.runById(aClaim('web'), delayed, false)).to.equal('FAILED')
      const again = await runById(storage, delayed, true)
      expect(again.record).to.include({ attempts: 2 })
      expect(await storage.settle([later(again, HOUR_MS)])).to.deep.equal(['SETTLED'])
      expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 1, FAILED: 0 })
    }),
  )

  it(
    'saves, promotes, hands back, retries and deletes records',
    onMock(async (storage) => {
      const id = await enqueueOne(storage)
      expect(await storage.save(id, { priority: 5, args: '[2]', runAfter: Date.now() - HOUR_MS })).to.equal('SAVED')
      expect(await read(storage, id)).to.include({ priority: 5, args: '[2]' })
      expect(await storage.promote(QUEUE)).to.deep.equal({ moved: 0, dueInMs: null })
      const begun = await runById(storage, id)
      expect(await storage.requeue([begun.lease], 'none')).to.deep.equal(['REQUEUED'])
      const second = await runById(storage, id)
      expect(second.record).to.include({ attempts: 1 })
      await storage.settle([failure(second)])
      expect(await storage.retry([id], 'request-1')).to.deep.equal(['RETRIED'])
      expect(await storage.retry([id], 'request-1')).to.deep.equal(['RETRIED'])
      expect(await storage.delete([id, 'absent'])).to.deep.equal(['DELETED', 'ABSENT'])
      expect(await storage.find([id])).to.deep.equal([undefined])
    }),
  )

  it(
    'purges finished records',
    onMock(async (storage) => {
      const ids = [await enqueueOne(storage), await enqueueOne(storage), await enqueueOne(storage)]
      for (const id of ids.slice(0, 2)) await storage.settle([success(await runById(storage, id))])
      const request = {
        cell: { queueName: QUEUE, name: TASK, status: 'SUCCESSFUL' },
        finishedForMs: -CLOCK_ERROR_MS,
        limit: 200,
      } as const
      expect(await storage.purge({ ...request, position: '', dryRun: true })).to.deep.equal({
        matched: 2,
        deleted: 0,
        next: '',
      })
      expect(await storage.purge({ ...request, position: '', dryRun: false })).to.deep.equal({
        matched: 2,
        deleted: 2,
        next: '',
      })
      expect(await countsOf(storage)).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
    }),
  )

  it(
    'wakes those who wait for a record',
    onMock(async (storage) => {
      const id = await enqueueOne(storage)
      const waiting = storage.awaitFinished(id, 5_000)
      await storage.settle([success(await runById(storage, id))])
      expect(await waiting).to.equal('FINISHED')
      expect(await storage.awaitFinished('absent', 5_000)).to.equal('ABSENT')
    }),
  )

  it(
    'says by name what needs a server, and which backend needs none',
    onMock(async (storage) => {
      for (const call of [
        () => storage.take(aTake()),
        () => storage.recover(aRecover()),
        () => storage.reclaim(aReclaim()),
      ]) {
        const error = await call().catch((reason: unknown) => reason)
        expect(error).to.be.instanceOf(StorageClientError).with.property('message').that.contains('memory backend')
      }
    }),
  )
})
