/**
 * The server becomes a replica under those who use it, and a master again: they go on by themselves. What is a replica at the
 * start is refused, with its role (F18).
 */
import { expect } from 'chai'
import { StorageUnavailableError, StorageUnfitError, Worker } from '../../lib/index.ts'
import { caught } from '../backends/backends-under-test.ts'
import { Project } from '../cli/project.ts'
import { eventually } from '../support/eventually.ts'
import { startRedisServer } from '../support/redis-server.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { isWanted, row } from './support/rows.ts'
import { together } from './support/together.ts'

/** Nobody answers there: the data stay as they are, and nothing may be written. */
const DEMOTED = ['127.0.0.1', '1'] as const
const REPLICA_MS = sized(2_000, 3_000)
/** No sweep comes to the help of a reader that waits no more. */
const NEVER = 3_600

describe('Faults: a server that becomes a replica', function () {
  this.timeout(sized(90_000, 300_000))

  const cases = {
    'loses its role under a blocked reader and a busy worker: both go on within ten seconds of its return, without an enqueue (F18)':
      demoted,
  }
  together(Object.fromEntries(Object.entries(cases).filter(([title]) => isWanted(title))))

  row('is refused at the start, by its role: a worker, and the command with exit code 3 (F18)', async () => {
    await using server = await startRedisServer({ args: ['--replicaof', ...DEMOTED] })
    const project = await Project.create({ server })
    try {
      const worker = new Worker(project.backend)
      const error = await caught(worker.start())
      expect(error).to.be.instanceOf(StorageUnfitError).and.include({ fault: 'role', code: 'ERR_TASKS_STORAGE_UNFIT' })
      await worker.stop()
      project.writeTasks('tasks.js', { echo: '() => null' })
      const { code, stderr } = await project.run('run-redis-tasks', ['tasks.js', '--continuous'])
      expect(code).to.equal(3)
      expect(stderr).to.match(/ERR_TASKS_STORAGE_UNFIT/)
      expect(stderr).to.match(/to be a master, got: a replica at 127\.0\.0\.1:\d+/)
      expect(stderr).to.match(/give the address of its master/)
    } finally {
      await project.remove()
    }
  })
})

async function demoted(): Promise<void> {
  await using run = await FaultRun.start({ claimTimeoutSeconds: 10, claimIntervalSeconds: NEVER })
  const [idle, busy] = await Promise.all([
    run.spawn({ worker: { queues: ['later'] } }),
    run.spawn({ worker: { queues: ['default'] } }),
  ])
  await run.enqueue({}, lists(300, 30))
  // Due when the server has been back for a moment: nobody enqueues then.
  await run.enqueue({ queueName: 'later', runAfter: Date.now() + REPLICA_MS + 4_000 }, [[1], [1]])
  await eventually(() => busy.facts.filter(({ fact }) => fact === 'begun').length > 30, { timeoutMs: 20_000 })
  await run.redis.call('REPLICAOF', ...DEMOTED)
  const downAt = Date.now()
  const begun = run.facts('begun').length
  while (Date.now() - downAt < REPLICA_MS) {
    expect(await caught(run.enqueue({}, [[1]]))).to.be.instanceOf(StorageUnavailableError)
  }
  // What was refused was not written.
  run.unsure.clear()
  await run.redis.call('REPLICAOF', 'NO', 'ONE')
  const upAt = Date.now()
  await eventually(() => run.facts('begun').some(({ at }) => at >= upAt), {
    ...{ timeoutMs: 20_000, message: 'nobody reads again' },
  })
  const again = Math.min(...run.facts('begun').flatMap(({ at }) => (at >= upAt ? [at - upAt] : [])))
  await run.drained()
  // What comes at once is read by a worker that waits for it.
  await run.enqueue({ queueName: 'later' }, [[1]])
  await run.drained()
  const readAgain = Math.min(...idle.facts.flatMap(({ fact, at }) => (fact === 'begun' ? [at - upAt] : [])))
  const verdict = await run.verdict()
  verdict.assert(
    'F18',
    { duplicates: 2 * run.options.concurrency },
    { begunBefore: begun, readingAgainMs: again, idleReadingAgainMs: readAgain },
  )
  expect(again).to.be.at.most(10_000 * run.calibration)
  expect(readAgain).to.be.at.most(10_000 * run.calibration)
  expect((await run.counts())['FAILED']).to.equal(0)
}
