/** Records that people run, delete, retry, move and purge by hand while workers run, and die (F30, F32). */
import { expect } from 'chai'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { TaskNotFoundError, TaskStateError } from '../../lib/index.ts'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { together } from './support/together.ts'

const HOUR_MS = 3_600_000

describe('Faults: by hand', function () {
  this.timeout(sized(240_000, 1_800_000))

  together({
    'runs a record once that many execute at the same time, beside workers (F30)': manyExecute,
    'takes over what a web process was executing when it died, and not before (F30)': executorDies,
    'keeps its word to people who delete, retry, move and purge while workers die (F32)': peopleMeddle,
  })
})

async function manyExecute(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 20 })
  const webs = await Promise.all([run.spawn({ kind: 'router', heldMs: 30 }), run.spawn({ kind: 'router', heldMs: 30 })])
  await run.spawn({ heldMs: 30 })
  const count = sized(30, 2_000)
  const runById = new Set<string>()
  const answers: Record<string, number> = {}
  const executedTwice: string[] = []
  const failed = await run.enqueue({ name: 'flaky' }, lists(Math.floor(count / 3), 0))
  await run.drained()
  const execute = async (id: string, web: number): Promise<boolean> => {
    const response = await fetch(`http://127.0.0.1:${webs[web % webs.length]?.port}/tasks/execute/${id}/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ allow_retry: true }),
    })
    const { executed, task } = (await response.json()) as { executed?: boolean; task?: { status: string } }
    const answer = `${response.status} ${executed ?? ''} ${task?.status ?? ''}`.trim()
    answers[answer] = (answers[answer] ?? 0) + 1
    return executed === true
  }
  for (let index = 0; index < count; index += 1) {
    // READY and due, READY and put off, FAILED
    const [id = failed[Math.floor(index / 3)] ?? ''] =
      index % 3 === 2
        ? []
        : await run.enqueue({ name: 'held', runAfter: index % 3 === 1 ? Date.now() + HOUR_MS : null }, [[]])
    if (index % 3 !== 0) runById.add(id)
    const executed = await Promise.all(Array.from({ length: 20 }, (_, web) => execute(id, web)))
    if (executed.filter(Boolean).length > 1) executedTwice.push(id)
  }
  await run.drained()
  const verdict = await run.verdict()
  const runAgain = new Map(failed.map((id) => [id, 1]))
  const faults = { faultsInjected: count, faultsThatBit: count }
  verdict.assert('F30', { duplicates: failed.length, runAgain, runById }, { ...faults, answers })
  expect(executedTwice).to.deep.equal([])
  expect(verdict.duplicates, 'only those that had failed before').to.equal(failed.length)
  expect(Object.keys(answers).sort()).to.deep.equal(['200 false SUCCESSFUL', '200 true SUCCESSFUL', '409'])
}

async function executorDies(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 5 })
  const web = await run.spawn({ kind: 'router' })
  const [id = ''] = await run.enqueue({ name: 'first' }, [[60_000]])
  const url = `http://127.0.0.1:${web.port}/tasks/execute/${id}/`
  const answered = fetch(url, { method: 'POST' }).then(
    () => 'an answer',
    () => 'none',
  )
  await eventually(() => web.hasBegun, { timeoutMs: 60_000 })
  // Its entry was never delivered: a worker reads it, and has to leave it alone
  await run.spawn()
  const stream = run.keys.stream('default', 'normal')
  const pending = async (): Promise<number> => Number((await run.redis.xpending(stream, 'express_tasks_workers'))[0])
  await eventually(async () => (await pending()) === 1, { timeoutMs: 60_000 })
  const heldAt = Date.now()
  await eventually(() => Date.now() - heldAt > 6_000, { timeoutMs: 60_000 })
  expect(run.facts('begun')).to.have.lengthOf(1)
  expect(await pending()).to.equal(1)
  expect(await run.redis.xlen(stream)).to.equal(1)
  await run.kill(web)
  expect(await answered).to.equal('none')
  await run.drained()
  const verdict = await run.verdict()
  verdict.assert('F30', { duplicates: 1, runById: new Set([id]) }, { case: 'killed' })
  expect(verdict.begun).to.have.lengthOf(2)
}

async function peopleMeddle(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 1 })
  const workers = await Promise.all([run.spawn(), run.spawn()])
  const ids: string[] = []
  const deletedAt = new Map<string, number>()
  const retries: { id: string; at: number }[] = []
  const runAgain = new Map<string, number>()
  const refused: Record<string, number> = {}
  const done: Record<string, number> = {}
  let purged = 0

  const pick = (): string => ids[Math.floor(run.random() * ids.length)] ?? ''
  const acts: Readonly<Record<string, (id: string) => Promise<void>>> = {
    async delete(id) {
      // Now and then one that runs, which is refused: by chance alone none may be met.
      const isForRunning = run.random() < 0.3
      const [running] = isForRunning ? await run.backend.records.filter({ status: 'RUNNING' }).limit(1).ids() : []
      const chosen = running ?? id
      await (await run.backend.records.find(chosen)).delete()
      deletedAt.set(chosen, Date.now())
    },
    async retry() {
      const failed = await run.backend.records.filter({ status: 'FAILED' }).limit(50).ids()
      const id = failed[Math.floor(run.random() * failed.length)] ?? ''
      const at = Date.now()
      // Not `record.retry()`: it reads the record once more, and may find it purged, which says nothing of the retry.
      const [word] = await run.backend.storage.retry([id], randomUUID())
      if (word !== 'RETRIED') return
      retries.push({ id, at })
      runAgain.set(id, (runAgain.get(id) ?? 0) + 1)
    },
    async save(id) {
      const record = await run.backend.records.find(id)
      record.priority = Math.floor(run.random() * 201) - 100
      if (run.random() < 0.3) record.runAfter = new Date(Date.now() + 300)
      await record.save()
    },
    async purge() {
      // What ended just now goes, too: the narrowest place there is
      const cell = { queueName: 'default', name: run.random() < 0.5 ? 'work' : 'throw' }
      const status = cell.name === 'work' ? 'SUCCESSFUL' : 'FAILED'
      const request = { cell: { ...cell, status }, finishedForMs: 0, limit: 5, position: '', dryRun: false } as const
      purged += (await run.backend.storage.purge(request)).deleted
    },
  }
  const meddle = async (until: () => boolean): Promise<void> => {
    const names = Object.keys(acts)
    while (!until()) {
      const name = names[Math.floor(run.random() * names.length)] ?? ''
      await sleep(2)
      try {
        await acts[name]?.(pick())
        done[name] = (done[name] ?? 0) + 1
      } catch (error) {
        if (!(error instanceof TaskNotFoundError || error instanceof TaskStateError)) throw error
        const word = `${name} ${error.name}`
        refused[word] = (refused[word] ?? 0) + 1
      }
    }
  }

  const kills = sized(6, 60)
  let lastAt = Date.now()
  const fault = async (): Promise<void> => {
    while (run.kills.length < kills) {
      ids.push(...(await run.enqueue({}, lists(60, 20))), ...(await run.enqueue({ name: 'throw' }, lists(30, 0))))
      const index = run.kills.length % workers.length
      const victim = workers[index]
      if (!victim) continue
      await eventually(() => Date.now() - lastAt >= 300 && victim.hasBegun, { timeoutMs: 60_000 })
      lastAt = Date.now()
      await run.kill(victim)
      workers[index] = run.spawnNow()
    }
  }
  ids.push(...(await run.enqueue({}, lists(60, 20))))
  let over = false
  await Promise.all([fault().finally(() => (over = true)), ...[1, 2, 3].map(() => meddle(() => over))])
  await run.drained()
  await eventually(() => workers.every(({ isReady }) => isReady), { timeoutMs: 60_000 })
  const nobodyThereMs = Math.max(...run.workers.map(({ startMs }) => startMs))

  const begun = run.facts('begun')
  const settled = new Set(run.facts('settled').map(({ id }) => id))
  const left = new Set(await run.backend.records.filter({}).ids())
  const begunIds = new Set(begun.map(({ id }) => id))
  // Deleted ones, and those that ended and were purged, have nothing to show for it
  for (const id of ids) {
    if (deletedAt.has(id) || (!left.has(id) && (settled.has(id) || (purged > 0 && begunIds.has(id))))) {
      run.acknowledged.delete(id)
      run.unsure.add(id)
    }
  }
  const afterDelete = begun.filter(({ id, at }) => at > (deletedAt.get(id) ?? Infinity))
  const retriedInVain = retries.filter(
    (retry) => !deletedAt.has(retry.id) && !begun.some(({ id, at }) => id === retry.id && at >= retry.at),
  )
  const verdict = await run.verdict()
  const duplicates = kills * run.options.concurrency + retries.length
  verdict.assert(
    'F32',
    { duplicates, uncounted: true, runAgain, nobodyThereMs, runById: new Set(ids) },
    { done, refused, purged, begunAfterDelete: afterDelete.length, retriedInVain: retriedInVain.length },
  )
  expect(afterDelete).to.deep.equal([])
  expect(retriedInVain).to.deep.equal([])
  expect(Object.keys(done)).to.have.lengthOf(Object.keys(acts).length)
  expect(purged).to.be.above(0)
  // Some were RUNNING at that moment, and were left alone
  expect(refused['delete TaskStateError']).to.be.above(0)
}
