/**
 * The memory of the server is full: what needs memory is refused and typed, and the backlog is brought to its end while it stays
 * full (F21). With a policy that evicts: what expires goes first and no task with it, or tasks are gone and counted (F22).
 */
import { expect } from 'chai'
import express from 'express'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { randomUUID } from 'node:crypto'
import { RedisTaskBackend, StorageFullError, tasksRouter } from '../../lib/index.ts'
import { caught } from '../backends/backends-under-test.ts'
import { eventually } from '../support/eventually.ts'
import { FaultRun, sized } from './support/fault-run.ts'
import { nightlyRow, PATIENCE_MS, row } from './support/rows.ts'
import { reportOwn } from './support/verdict.ts'

const LIMIT = sized('6mb', '32mb')
const BATCH = 50
/** Half a kilobyte of arguments for each task. */
const PADDING = 'x'.repeat(500)

/** Enqueues until the server refuses. @returns the refusal. */
async function fill(run: FaultRun): Promise<unknown> {
  for (let batches = 0; batches < 10_000; batches += 1) {
    try {
      await run.enqueue(
        {},
        Array.from({ length: BATCH }, () => [1, PADDING]),
      )
    } catch (error) {
      // Refused as a whole: nothing of that batch is there.
      if (error instanceof StorageFullError) run.unsure.clear()
      return error
    }
  }
  throw new Error('expected the server to get full, got: 10,000 batches stored')
}

/** Keeps every byte taken that the tasks give back, until told to stop. @returns how often the server was found full. */
async function keepFull(run: FaultRun, until: AbortSignal): Promise<number> {
  let full = 0
  for (let count = 0; !until.aborted; count += 1) {
    const refused = await run.redis.set(`ballast:${count}`, PADDING).catch((error: unknown) => error)
    if (!(refused instanceof Error)) continue
    expect(refused.message).to.contain('OOM')
    full += 1
    const at = performance.now()
    await eventually(() => performance.now() > at + 5)
  }
  return full
}

describe('Faults: a server whose memory is full', function () {
  this.timeout(sized(120_000, 600_000))

  row('refuses an enqueue and brings its whole backlog to an end while it stays full (F21)', async () => {
    await using run = await FaultRun.start({
      server: { args: ['--maxmemory', LIMIT, '--maxmemory-policy', 'noeviction'] },
      claimTimeoutSeconds: 10,
      concurrency: 50,
    })
    expect(await fill(run))
      .to.be.instanceOf(StorageFullError)
      .and.include({ code: 'ERR_TASKS_STORAGE_FULL' })
    const backlog = run.acknowledged.size
    expect(backlog).to.be.at.least(BATCH)
    const over = new AbortController()
    const kept = keepFull(run, over.signal)
    const started = performance.now()
    await Promise.all([run.spawn(), run.spawn()])
    let refusals = 0
    await eventually(
      async () => {
        expect(await caught(run.enqueue({}, [[1, PADDING]]))).to.be.instanceOf(StorageFullError)
        run.unsure.clear()
        refusals += 1
        const { READY = 0, RUNNING = 0 } = await run.counts()
        return READY + RUNNING === 0
      },
      { timeoutMs: Math.min(sized(90_000, 500_000), PATIENCE_MS), message: 'a full server does not drain' },
    )
    const tookMs = Math.round(performance.now() - started)
    over.abort()
    const foundFull = await kept
    const verdict = await run.verdict()
    verdict.assert('F21', { duplicates: 0 }, { limit: LIMIT, backlog, refusals, foundFull, tookMs })
    expect(verdict.begun).to.have.lengthOf(backlog)
    expect(refusals).to.be.above(0)
    expect(foundFull).to.be.above(0)
    expect((await run.counts())['SUCCESSFUL']).to.equal(backlog)
  })

  row(
    'evicts what expires, and no unfinished task with it; health warns, also where CONFIG is refused (F22)',
    async () => {
      await using run = await FaultRun.start({
        server: { args: ['--maxmemory', LIMIT, '--maxmemory-policy', 'volatile-lru'] },
        claimTimeoutSeconds: 10,
        concurrency: 50,
      })
      expect(await warningsOfHealth(run, run.server.url)).to.include('WARN_TASKS_SERVER_EVICTION_VOLATILE')
      const user = await run.redis
        .call('ACL', 'SETUSER', 'narrow', 'on', '>narrow', '+@all', '-config', '~*')
        .catch(() => null)
      if (user !== null) {
        await run.redis.call('ACL', 'SETUSER', 'narrow', '&*').catch(() => null)
        const url = run.server.url.replace('//', '//narrow:narrow@')
        expect(await warningsOfHealth(run, url)).to.include('WARN_TASKS_SERVER_EVICTION_VOLATILE')
      }
      // What others keep there for a while.
      for (let count = 0; count < 500; count += 1) await run.redis.set(`other:${count}`, PADDING, 'EX', 3_600)
      // Full only once nothing is left that expires.
      expect(await fill(run)).to.be.instanceOf(StorageFullError)
      const backlog = run.acknowledged.size
      expect(await goneOf(run), 'unfinished tasks evicted').to.deep.equal([])
      await Promise.all([run.spawn(), run.spawn()])
      await run.drained(sized(60_000, 500_000))
      const evicted = await evictedOf(run)
      const verdict = await run.verdict()
      // The counts by minute expire, so they may go.
      verdict.assert('F22', { duplicates: 0, uncounted: true }, { policy: 'volatile-lru', backlog, evicted })
      expect(evicted).to.be.at.least(500)
      expect((await run.counts())['SUCCESSFUL']).to.equal(backlog)
    },
  )

  nightlyRow('evicts anything: no worker ends by it, and every loss is seen (F22)', async () => {
    await using run = await FaultRun.start({
      server: { args: ['--maxmemory', LIMIT, '--maxmemory-policy', 'allkeys-lru'] },
      concurrency: 50,
    })
    expect(await warningsOfHealth(run, run.server.url)).to.include('WARN_TASKS_SERVER_EVICTION')
    const workers = await Promise.all([run.spawn(), run.spawn()])
    const until = performance.now() + 60_000
    while (performance.now() < until) {
      await run
        .enqueue(
          {},
          Array.from({ length: BATCH }, () => [1, PADDING]),
        )
        .catch(() => null)
    }
    expect(workers.map(({ unplannedEnd }) => unplannedEnd)).to.deep.equal([undefined, undefined])
    const begun = new Set(run.facts('begun').map(({ id }) => id))
    const gone = await goneOf(run)
    const lost = gone.filter((id) => !begun.has(id)).length
    const figures = { executed: begun.size, lost, recordsGone: gone.length, evicted: await evictedOf(run) }
    reportOwn(run, 'F22', { policy: 'allkeys-lru', ...figures })
    expect(lost).to.be.above(0)
  })
})

/** Acknowledged, and no longer there. */
async function goneOf(run: FaultRun): Promise<string[]> {
  const gone: string[] = []
  const ids = [...run.acknowledged]
  for (let at = 0; at < ids.length; at += 100) {
    const part = ids.slice(at, at + 100)
    const found = await run.backend.storage.find(part)
    gone.push(...part.filter((_, index) => found[index] === undefined))
  }
  return gone
}

async function evictedOf(run: FaultRun): Promise<number> {
  return Number(/^evicted_keys:(\d+)/m.exec(await run.redis.info('stats'))?.[1])
}

/** The codes of the warnings that GET /health/ answers with. */
async function warningsOfHealth(run: FaultRun, redisUrl: string): Promise<string[]> {
  const backend = new RedisTaskBackend({ redisUrl, alias: `a${randomUUID()}`, keyPrefix: run.keyPrefix })
  const server = express().use('/tasks', tasksRouter(backend)).listen(0, '127.0.0.1')
  try {
    await once(server, 'listening')
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/tasks/health/`)
    const { warnings } = (await response.json()) as { warnings: { code: string }[] }
    return warnings.map(({ code }) => code)
  } finally {
    server.closeAllConnections()
    server.close()
    await backend.close()
  }
}
