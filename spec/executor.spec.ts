import { expect } from 'chai'
import { setImmediate as turn } from 'node:timers/promises'
import {
  configureTasks,
  DoNotRetry,
  executor,
  RetryLater,
  task,
  TaskNotFoundError,
  TaskNotRegisteredError,
  TaskOptionError,
  TaskRecord,
  taskRegistry,
  TaskStateError,
} from '../lib/index.ts'
import type { FinalStatus, Task, TaskContext, TaskResult } from '../lib/index.ts'
import {
  abandon,
  caught,
  DAY_MS,
  holdRunning,
  isolateProcessState,
  overEveryBackend,
} from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'
import { aTake } from './support/storage-builders.ts'

const NOWHERE = '0198c1f2-0000-7000-8000-000000000000'
const ids = (records: readonly { readonly id: string }[]): string[] => records.map(({ id }) => id)

overEveryBackend('executor', (subject) => {
  let echo: Task<[value: unknown], unknown>
  let fail: Task<[], never>
  /** The arguments that `echo` ran with, in order. */
  let ran: unknown[]

  beforeEach(() => {
    ran = []
    echo = task('echo', (value: unknown) => {
      ran.push(value)
      return value
    })
    fail = task('fail', (): never => {
      throw new Error('no')
    })
  })

  const later = (ms: number): Date => new Date(Date.now() + ms)
  const failed = async (): Promise<string> => {
    const { id } = await fail.enqueue()
    await executor.runTaskById(id)
    return id
  }

  describe('processOneTask', () => {
    it('answers null when nothing waits', async () => {
      expect(await executor.processOneTask()).to.equal(null)
      expect(await executor.processOneTask({ queueName: 'nowhere' })).to.equal(null)
    })

    it('runs the next task and answers its result', async () => {
      const [first] = await echo.enqueueMany([[1], [2]])
      const result = await executor.processOneTask()
      expect(result).to.include({ id: first?.id, status: 'SUCCESSFUL', returnValue: 1, attempts: 1 })
      expect(ran).to.deep.equal([1])
    })

    it('answers a failure, and does not throw', async () => {
      await fail.enqueue()
      const result = await executor.processOneTask()
      expect(result).to.include({ status: 'FAILED', attempts: 1 })
      expect(result?.errors[0]).to.include({ name: 'Error', message: 'no', attempt: 1 })
    })

    it('takes high before normal before low, whatever came first', async () => {
      for (const priority of [-100, -1, 0, 1, 100]) await echo.using({ priority }).enqueue(priority)
      expect(ids(await executor.processTasks())).to.have.lengthOf(5)
      // Within a band the order is that of arrival.
      expect(ran).to.deep.equal([1, 100, 0, -100, -1])
    })

    it('takes from the one queue that is named', async () => {
      await echo.using({ queueName: 'mail' }).enqueue('mail')
      const reports = await echo.using({ queueName: 'reports' }).enqueue('reports')
      expect((await executor.processOneTask({ queueName: 'reports' }))?.id).to.equal(reports.id)
      expect(await executor.processOneTask({ queueName: 'reports' })).to.equal(null)
      expect(ran).to.deep.equal(['reports'])
    })

    it('takes from every queue when none is named', async () => {
      const names = Array.from({ length: 45 }, (_, n) => `queue-${n}`)
      for (const queueName of names) await echo.using({ queueName }).enqueue(queueName)
      expect(await executor.processTasks()).to.have.lengthOf(45)
      expect(ran.toSorted()).to.deep.equal(names.toSorted())
    })

    it('shows the worker id that it is told in the record', async () => {
      await echo.enqueueMany([[1], [2], [3]])
      expect((await executor.processOneTask({ workerId: 'cron@host:1' }))?.workerIds).to.deep.equal(['cron@host:1'])
      const own = (await executor.processOneTask())?.workerIds
      expect(own).to.deep.equal((await executor.processOneTask())?.workerIds)
      expect(own?.[0]).to.contain(`-${process.pid}-`)
    })

    it('does not run a task before its time', async () => {
      await echo.using({ runAfter: later(3_600_000) }).enqueue('later')
      expect(await executor.processOneTask()).to.equal(null)
      expect(ran).to.deep.equal([])
    })

    it('runs a delayed task once its time has come, as nobody else would promote it', async () => {
      const runAfter = later(50)
      const { id } = await echo.using({ runAfter }).enqueue('due')
      expect(await executor.processOneTask()).to.equal(null)
      const result = await eventually(() => executor.processOneTask())
      expect(result.id).to.equal(id)
      expect(result.startedAt?.getTime()).to.be.at.least(runAfter.getTime())
    })

    it('looks after every queue, also when another one is asked for more often', async () => {
      await echo.using({ queueName: 'rare', runAfter: later(20) }).enqueue('due')
      await echo.using({ queueName: 'rare' }).enqueue('left')
      await abandon(subject.backend, 'rare')
      await eventually(async () => {
        expect(await executor.processOneTask({ queueName: 'often' })).to.equal(null)
        await executor.processOneTask({ queueName: 'rare' })
        return ran.length === 2
      })
      expect(ran.toSorted()).to.deep.equal(['due', 'left'])
    })

    it('gives each of those who ask at once what dead workers left, while there is some', async () => {
      await echo.enqueueMany([[1], [2], [3], [4]])
      await abandon(subject.backend, 'default', 4)
      const results = await Promise.all([1, 2, 3].map(() => executor.processOneTask()))
      expect(results.map((result) => result?.status)).to.deep.equal(['SUCCESSFUL', 'SUCCESSFUL', 'SUCCESSFUL'])
      expect(new Set(ran).size).to.equal(3)
      expect((await executor.processOneTask())?.attempts).to.equal(2)
    })

    it('runs what a dead worker left, before what waits', async () => {
      const [left] = await echo.enqueueMany([['left']])
      expect(await abandon(subject.backend, 'default')).to.deep.equal([left?.id])
      const waiting = await echo.using({ priority: 100 }).enqueue('waiting')
      const result = await executor.processOneTask()
      expect(result).to.include({ id: left?.id, status: 'SUCCESSFUL', attempts: 2 })
      expect((await executor.processOneTask())?.id).to.equal(waiting.id)
    })

    it('hands back a task that nobody here knows, and goes on', async () => {
      const unknown = task('unknown', () => null)
      const { id } = await unknown.using({ priority: 100 }).enqueue()
      const known = await echo.enqueue('known')
      taskRegistry.delete('unknown')
      expect((await executor.processOneTask())?.id).to.equal(known.id)
      const record = await TaskRecord.find(id)
      expect(record).to.include({ status: 'READY', attempts: 0 })
      expect(record.runAfter?.getTime()).to.be.above(record.enqueuedAt.getTime())
      expect(record.workerIds).to.deep.equal([])
      expect(subject.logged.map(({ facts }) => facts['code'])).to.include('ERR_TASKS_NOT_REGISTERED')
    })

    it('refuses options that it does not know', async () => {
      for (const [given, meant] of [
        ['queue', 'queueName'],
        ['backend', 'backendName'],
        ['worker_id', 'workerId'],
        ['maxTasks', undefined],
      ] as const) {
        const error = await caught(executor.processOneTask({ [given]: 'x' }))
        expect(error, given).to.be.instanceOf(TaskOptionError).with.property('field', `options.${given}`)
        if (meant !== undefined) expect((error as Error).message).to.contain(`did you mean "${meant}"?`)
      }
    })
  })

  describe('processTasks', () => {
    it('runs until nothing is due', async () => {
      await echo.enqueueMany([[1], [2], [3]])
      await echo.using({ runAfter: later(3_600_000) }).enqueue(4)
      const results = await executor.processTasks()
      expect(results.map(({ returnValue }) => returnValue)).to.deep.equal([1, 2, 3])
      expect(await executor.processTasks()).to.deep.equal([])
    })

    it('runs no more than it may, also when more waits', async () => {
      await echo.enqueueMany([[1], [2], [3]])
      expect(await executor.processTasks({ maxTasks: 2 })).to.have.lengthOf(2)
      expect(await executor.getTaskCounts()).to.include({ READY: 1, SUCCESSFUL: 2 })
    })

    it('takes 0 for no limit', async () => {
      await echo.enqueueMany([[1], [2], [3]])
      expect(await executor.processTasks({ maxTasks: 0 })).to.have.lengthOf(3)
    })

    it('runs what tasks enqueue while it runs', async () => {
      const chain: Task<[left: number], number> = task('chain', async (left: number) => {
        if (left > 0) await chain.enqueue(left - 1)
        return left
      })
      await chain.enqueue(3)
      expect((await executor.processTasks()).map(({ returnValue }) => returnValue)).to.deep.equal([3, 2, 1, 0])
    })

    it('starts nothing more once its signal aborts; what runs ends', async () => {
      const controller = new AbortController()
      const stopping = task('stopping', async (n: number) => {
        controller.abort()
        await turn()
        return n
      })
      await stopping.enqueueMany([[1], [2]])
      const results = await executor.processTasks({ signal: controller.signal })
      expect(results.map(({ returnValue }) => returnValue)).to.deep.equal([1])
      expect(await executor.processTasks({ signal: controller.signal })).to.deep.equal([])
      expect(await executor.getTaskCounts()).to.include({ READY: 1, RUNNING: 0 })
    })

    it('takes one task at a time: what it has not begun, another may', async () => {
      const seen: number[] = []
      const look = task('look', async () => void seen.push((await executor.getTaskCounts()).RUNNING))
      await look.enqueueMany([[], [], []])
      await executor.processTasks()
      expect(seen).to.deep.equal([1, 1, 1])
    })

    it('shares what waits with others that do the same', async () => {
      await echo.enqueueMany(Array.from({ length: 60 }, (_, n) => [n]))
      const results = (await Promise.all(Array.from({ length: 6 }, () => executor.processTasks()))).flat()
      expect(results).to.have.lengthOf(60)
      expect(new Set(ran).size).to.equal(60)
    })

    it('runs a task again that failed and may, when that is due', async () => {
      let runs = 0
      const flaky = task({ name: 'flaky', retry: { maxAttempts: 3, delayMs: 0 } }, () => {
        runs += 1
        if (runs < 3) throw new Error(`failure ${runs}`)
        return runs
      })
      const { id } = await flaky.enqueue()
      const first = await executor.processOneTask()
      expect(first).to.include({ id, status: 'READY', attempts: 1 })
      await eventually(async () => {
        await executor.processTasks()
        return (await flaky.getResult(id)).isFinished
      })
      expect(await flaky.getResult(id)).to.include({ status: 'SUCCESSFUL', attempts: 3, returnValue: 3 })
    })

    it('refuses what its options may not be', async () => {
      for (const options of [
        ...[{ maxTasks: -1 }, { maxTasks: 1.5 }, { maxTasks: '5' }, { signal: {} }, { queueName: 'a b' }],
        ...[{ workerId: 'a b' }, { workerId: '' }, { workerId: 'a\nb' }, { backendName: '' }, null, 5],
      ]) {
        expect(await caught(executor.processTasks(options as object))).to.be.instanceOf(TaskOptionError)
      }
    })
  })

  describe('runTaskById', () => {
    it('runs a record that waits, whatever its place in the queue', async () => {
      const [, , last] = await echo.enqueueMany([[1], [2], [3]])
      const result = await executor.runTaskById(last?.id ?? '')
      expect(result).to.include({ id: last?.id, status: 'SUCCESSFUL', returnValue: 3 })
      expect(ran).to.deep.equal([3])
      expect(await executor.processTasks()).to.have.lengthOf(2)
      expect(ran).to.deep.equal([3, 1, 2])
    })

    it('runs a delayed record now, and only once', async () => {
      const { id } = await echo.using({ runAfter: later(50) }).enqueue('now')
      expect(await executor.runTaskById(id)).to.include({ status: 'SUCCESSFUL' })
      expect(await executor.getQueueStats()).to.include({ delayedCount: 0, pendingCount: 0 })
      await eventually(() => Date.now() > later(0).getTime() - 1)
      expect(await executor.processOneTask()).to.equal(null)
      expect(ran).to.deep.equal(['now'])
    })

    it('runs a failed one only when that is allowed', async () => {
      const id = await failed()
      expect(await executor.runTaskById(id)).to.equal(null)
      expect((await TaskRecord.find(id)).attempts).to.equal(1)
      const again = await executor.runTaskById(id, { allowRetry: true })
      expect(again).to.include({ status: 'FAILED', attempts: 2 })
      expect(again?.errors.map(({ attempt }) => attempt)).to.deep.equal([1, 2])
    })

    it('answers null for one that runs, with or without allowRetry', async () => {
      const { id } = await echo.enqueue(1)
      await holdRunning(subject.backend, 'default')
      expect(await executor.runTaskById(id)).to.equal(null)
      expect(await executor.runTaskById(id, { allowRetry: true })).to.equal(null)
      expect(ran).to.deep.equal([])
    })

    it('answers null for one that was successful', async () => {
      const { id } = await echo.enqueue(1)
      await executor.runTaskById(id)
      expect(await executor.runTaskById(id)).to.equal(null)
      expect(await executor.runTaskById(id, { allowRetry: true })).to.equal(null)
      expect(ran).to.deep.equal([1])
    })

    it('says that there is none of an id that is nowhere, or no id', async () => {
      for (const id of [NOWHERE, '', 'x', '../x', '{a}', '*', 'a\r\nFLUSHALL', '\0', 'a'.repeat(1_000_000), 5, null]) {
        const error = await caught(executor.runTaskById(id as string))
        expect(error).to.be.instanceOf(TaskNotFoundError)
        expect((error as Error).message).to.have.length.below(500)
      }
    })

    it('takes an id in upper case', async () => {
      const { id } = await echo.enqueue(1)
      expect((await executor.runTaskById(id.toUpperCase()))?.id).to.equal(id)
    })

    it('names the task when nobody here knows it', async () => {
      const { id } = await echo.enqueue(1)
      taskRegistry.delete('echo')
      expect(await caught(executor.runTaskById(id))).to.be.instanceOf(TaskNotRegisteredError)
      expect(await TaskRecord.find(id)).to.include({ status: 'READY', attempts: 0 })
    })

    it('runs once when twenty ask at the same time', async () => {
      const { id } = await echo.enqueue('once')
      const answers = await Promise.all(Array.from({ length: 20 }, () => executor.runTaskById(id)))
      expect(answers.filter((result) => result !== null)).to.have.lengthOf(1)
      expect(ran).to.deep.equal(['once'])
      expect(await TaskRecord.find(id)).to.include({ status: 'SUCCESSFUL', attempts: 1 })
    })

    it('runs a failed one once when twenty ask at the same time', async () => {
      let runs = 0
      const broken = task('broken', () => {
        runs += 1
        if (runs === 1) throw new Error('first')
        return runs
      })
      const { id } = await broken.enqueue()
      await executor.runTaskById(id)
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => executor.runTaskById(id, { allowRetry: true })),
      )
      expect(answers.filter((result) => result !== null)).to.have.lengthOf(1)
      expect(runs).to.equal(2)
    })

    it('shows the worker id that it is told', async () => {
      const { id } = await echo.enqueue(1)
      expect((await executor.runTaskById(id, { workerId: 'admin' }))?.workerIds).to.deep.equal(['admin'])
    })

    it('refuses what its options may not be', async () => {
      const { id } = await echo.enqueue(1)
      for (const options of [
        { allowRetry: 'yes' },
        { allow_retry: true },
        { queueName: 'default' },
        { workerId: 'a b' },
      ]) {
        expect(await caught(executor.runTaskById(id, options as object))).to.be.instanceOf(TaskOptionError)
      }
      expect(ran).to.deep.equal([])
    })
  })

  describe('counts', () => {
    beforeEach(async () => {
      await echo.enqueueMany([[1], [2]])
      await echo.using({ queueName: 'mail' }).enqueue(3)
      await echo.using({ runAfter: later(3_600_000) }).enqueue(4)
      await echo.using({ queueName: 'mail', runAfter: later(3_600_000) }).enqueue(5)
      await echo.using({ queueName: 'held' }).enqueue(6)
      await holdRunning(subject.backend, 'held')
      await failed()
      await executor.runTaskById((await echo.enqueue(7)).id)
    })

    it('knows how many wait and are due, without those whose time has not come', async () => {
      expect(await executor.getPendingTaskCount()).to.equal(3)
      expect(await executor.getPendingTaskCount({ queueName: 'mail' })).to.equal(1)
      expect(await executor.getPendingTaskCount({ queueName: 'nowhere' })).to.equal(0)
    })

    it('knows how many there are in each state', async () => {
      expect(await executor.getTaskCounts()).to.deep.equal({ READY: 5, RUNNING: 1, SUCCESSFUL: 1, FAILED: 1 })
      expect(await executor.getTaskCounts({ queueName: 'mail' })).to.deep.equal({
        ...{ READY: 2, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 },
      })
      expect(await executor.getTaskCounts({ queueName: 'nowhere' })).to.deep.equal({
        ...{ READY: 0, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 },
      })
    })

    it('tells waiting from delayed ones', async () => {
      const all = { pendingCount: 3, runningCount: 1, successfulCount: 1, failedCount: 1, delayedCount: 2 }
      expect(await executor.getQueueStats()).to.deep.equal(all)
      expect(await executor.getQueueStats({ queueName: 'mail' })).to.deep.equal({
        ...{ pendingCount: 1, runningCount: 0, successfulCount: 0, failedCount: 0, delayedCount: 1 },
      })
    })

    it('count a delayed one as waiting once its time has come, as nobody else would promote it', async () => {
      await echo.using({ queueName: 'soon', runAfter: later(30) }).enqueue(1)
      await eventually(async () => (await executor.getPendingTaskCount({ queueName: 'soon' })) === 1)
      expect(await executor.getQueueStats({ queueName: 'soon' })).to.include({ pendingCount: 1, delayedCount: 0 })
    })

    it('refuses options that they do not know', async () => {
      for (const verb of ['getPendingTaskCount', 'getTaskCounts', 'getQueueStats'] as const) {
        expect(await caught(executor[verb]({ queue_name: 'mail' } as object))).to.be.instanceOf(TaskOptionError)
      }
    })
  })

  describe('purgeCompletedTasks', () => {
    const finishedAgo = async (days: number): Promise<readonly TaskResult[]> =>
      await subject.past(days * DAY_MS, async () => {
        const results = [await echo.enqueue(days), await fail.enqueue()]
        for (const { id } of results) await executor.runTaskById(id)
        return results
      })

    it('deletes what finished at least so many days ago, seven when not told', async () => {
      const old = await finishedAgo(8)
      const recent = await finishedAgo(6)
      await echo.enqueue('waiting')
      expect(await executor.purgeCompletedTasks()).to.equal(2)
      for (const { id } of old) expect(await caught(TaskRecord.find(id))).to.be.instanceOf(TaskNotFoundError)
      for (const { id } of recent) expect((await TaskRecord.find(id)).isFinished).to.equal(true)
      expect(await executor.purgeCompletedTasks({ days: 5 })).to.equal(2)
      expect(await executor.getTaskCounts()).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 0, FAILED: 0 })
    })

    it('deletes every finished record with 0 days, and none that waits or runs', async () => {
      await finishedAgo(0)
      await echo.using({ queueName: 'held' }).enqueue(1)
      await holdRunning(subject.backend, 'held')
      await echo.using({ runAfter: later(3_600_000) }).enqueue(1)
      await echo.enqueue(1)
      await eventually(async () => (await executor.purgeCompletedTasks({ days: 0, dryRun: true })) === 2)
      expect(await executor.purgeCompletedTasks({ days: 0 })).to.equal(2)
      expect(await executor.getTaskCounts()).to.deep.equal({ READY: 2, RUNNING: 1, SUCCESSFUL: 0, FAILED: 0 })
    })

    it('deletes only the states that it is told', async () => {
      await finishedAgo(8)
      expect(await executor.purgeCompletedTasks({ statuses: ['FAILED'] })).to.equal(1)
      expect(await executor.getTaskCounts()).to.include({ SUCCESSFUL: 1, FAILED: 0 })
      expect(await executor.purgeCompletedTasks({ statuses: ['SUCCESSFUL', 'FAILED'] })).to.equal(1)
    })

    it('counts with dryRun what it would delete, and deletes nothing', async () => {
      await finishedAgo(8)
      await finishedAgo(1)
      expect(await executor.purgeCompletedTasks({ dryRun: true })).to.equal(2)
      expect(await executor.purgeCompletedTasks({ dryRun: true, statuses: ['FAILED'], days: 0 })).to.equal(2)
      expect(await TaskRecord.filter().count()).to.equal(4)
    })

    it('deletes more than a batch, in every queue', async () => {
      await subject.past(8 * DAY_MS, async () => {
        const results = await echo.enqueueMany(Array.from({ length: 250 }, (_, n) => [n]))
        results.push(...(await echo.using({ queueName: 'mail' }).enqueueMany([[1], [2]])))
        await executor.processTasks()
        return results
      })
      await echo.enqueue('kept')
      expect(await executor.purgeCompletedTasks({ batchSize: 100, dryRun: true })).to.equal(252)
      expect(await executor.purgeCompletedTasks({ batchSize: 100 })).to.equal(252)
      expect(await TaskRecord.filter().count()).to.equal(1)
    })

    it('refuses what its options may not be, and deletes nothing', async () => {
      await finishedAgo(8)
      for (const options of [
        ...[{ days: -1 }, { days: 1.5 }, { days: '7' }, { days: NaN }, { days: 1e9 }, { statuses: ['READY'] }],
        ...[{ statuses: 'FAILED' }, { statuses: ['RUNNING', 'FAILED'] }, { batchSize: 0 }, { dryRun: 'true' }],
        ...[{ dry_run: true }, { status: ['FAILED'] }],
      ]) {
        const error = await caught(executor.purgeCompletedTasks(options as { days: number }))
        expect(error, JSON.stringify(options)).to.be.instanceOf(TaskOptionError)
      }
      expect(await TaskRecord.filter().count()).to.equal(2)
    })

    it('takes an empty list of states for none', async () => {
      await finishedAgo(8)
      const statuses: readonly FinalStatus[] = []
      expect(await executor.purgeCompletedTasks({ statuses })).to.equal(0)
      expect(await TaskRecord.filter().count()).to.equal(2)
    })
  })

  describe('claimStaleTasks', () => {
    it('answers 0 when there is nothing to take over', async () => {
      await echo.enqueue('waiting')
      expect(await executor.claimStaleTasks()).to.equal(0)
      expect(ran).to.deep.equal([])
    })

    it('takes over what dead workers left, and runs all of it', async () => {
      for (const [queueName, priority] of [
        ['default', 0],
        ['default', 5],
        ['mail', 0],
        ['mail', -5],
      ] as const) {
        await echo.using({ queueName, priority }).enqueueMany([[1], [2]])
        expect(await abandon(subject.backend, queueName, 2)).to.have.lengthOf(2)
      }
      await echo.enqueue('waiting')
      expect(await executor.claimStaleTasks()).to.equal(8)
      expect(ran).to.have.lengthOf(8).and.not.to.include('waiting')
      expect(await executor.getTaskCounts()).to.deep.equal({ READY: 1, RUNNING: 0, SUCCESSFUL: 8, FAILED: 0 })
      for await (const record of TaskRecord.filter({ status: 'SUCCESSFUL' })) {
        expect(record).to.include({ attempts: 2, crashes: 1 })
      }
      expect(await executor.claimStaleTasks()).to.equal(0)
    })

    it('takes over more than a hundred', async () => {
      await echo.enqueueMany(Array.from({ length: 230 }, (_, n) => [n]))
      for (const count of [100, 100, 30]) await abandon(subject.backend, 'default', count)
      expect(await executor.claimStaleTasks()).to.equal(230)
      expect(new Set(ran).size).to.equal(230)
    })

    it('never takes a live lease, whatever it is told', async () => {
      await echo.enqueue('held')
      const [id = ''] = await holdRunning(subject.backend, 'default')
      expect(await executor.claimStaleTasks({ claimTimeoutSeconds: 0 })).to.equal(0)
      expect(await TaskRecord.find(id)).to.include({ status: 'RUNNING', attempts: 1, crashes: 0 })
      expect(ran).to.deep.equal([])
    })

    it('runs what is of the queue that is named, and leaves the rest to those who serve it', async () => {
      for (const queueName of ['mail', 'reports']) {
        await echo.using({ queueName }).enqueue(queueName)
        await abandon(subject.backend, queueName)
      }
      expect(await executor.claimStaleTasks({ queueName: 'reports' })).to.equal(1)
      expect(ran).to.deep.equal(['reports'])
      for await (const record of TaskRecord.filter({ queueName: 'mail' })) {
        expect(record.attempts).to.equal(1)
        expect(record.status).to.be.oneOf(['READY', 'RUNNING'])
      }
      await eventually(async () => {
        await executor.claimStaleTasks({ queueName: 'mail' })
        await executor.processOneTask({ queueName: 'mail' })
        return ran.length === 2
      })
      expect(ran).to.deep.equal(['reports', 'mail'])
    })

    it('makes a record FAILED that crashed once too often, counts it, and does not run it', async () => {
      const { id } = await echo.enqueue('poison')
      await abandon(subject.backend, 'default')
      for (let crash = 0; crash < 3; crash += 1) {
        const reclaimed = async (): Promise<boolean> => {
          const stream = { queueName: 'default', band: 'normal' } as const
          const options = { cursor: '', crashLimit: 3, idleMs: 0, crashError: '{}', stream }
          const claim = aTake('dying', { leaseMs: 1 })
          const { storage } = subject.backend
          const [begun] = (await storage.reclaim({ ...claim, ...options })).begun
          if (!begun) return false
          // Without this it never ran, and its end would count for nothing.
          expect(await storage.renew(claim.consumer, 1, [begun.lease], { starts: true })).to.deep.equal(['RENEWED'])
          return true
        }
        await eventually(reclaimed)
      }
      const finished: string[] = []
      subject.backend.on('taskFinished', (result) => finished.push(`${result.id} ${result.status}`))
      expect(await eventually(() => executor.claimStaleTasks())).to.equal(1)
      const record = await TaskRecord.find(id)
      expect(record).to.include({ status: 'FAILED', attempts: 4, crashes: 4 })
      expect(record.errors).to.have.lengthOf(1)
      expect(record.errors[0]).to.include({ name: 'TaskAbandonedError', attempt: 4 })
      expect(ran).to.deep.equal([])
      await eventually(() => expect(finished).to.deep.equal([`${id} FAILED`]))
    })

    it('begins anew at each call, whatever another one left in the middle', async () => {
      for (const [index, queueName] of ['a', 'b', 'c'].entries()) {
        await echo.using({ queueName }).enqueueMany([[index], [index]])
        await abandon(subject.backend, queueName, 2)
      }
      // This one takes a single record over and leaves its pass there.
      await executor.processOneTask()
      expect(await executor.claimStaleTasks()).to.equal(5)
      expect(await executor.getTaskCounts()).to.include({ READY: 0, RUNNING: 0, SUCCESSFUL: 6 })
    })

    it('refuses what its options may not be', async () => {
      for (const options of [{ claimTimeoutSeconds: -1 }, { claimTimeoutSeconds: '5' }, { claimTimeout: 5 }]) {
        expect(await caught(executor.claimStaleTasks(options as object))).to.be.instanceOf(TaskOptionError)
      }
    })

    if (subject.name === 'redis') {
      it('takes over what was delivered and never begun, once it is idle for as long as it is told', async () => {
        const { id } = await echo.enqueue('delivered')
        const { client, keys } = subject.raw
        const stream = keys.stream('default', 'normal')
        await client.xreadgroup('GROUP', 'express_tasks_workers', 'gone', 'COUNT', 1, 'STREAMS', stream, '>')
        expect(await executor.claimStaleTasks()).to.equal(0)
        expect(await executor.claimStaleTasks({ claimTimeoutSeconds: 0 })).to.equal(1)
        expect(await TaskRecord.find(id)).to.include({ status: 'SUCCESSFUL', attempts: 1, crashes: 0 })
      })
    }
  })

  describe('getTasks', () => {
    it('lists the newest first, with the total', async () => {
      const all = ids(await echo.enqueueMany([[1], [2], [3]]))
        .toSorted()
        .reverse()
      const { tasks, total } = await executor.getTasks()
      expect(ids(tasks)).to.deep.equal(all)
      expect(tasks[0]).to.be.instanceOf(TaskRecord)
      expect(total).to.equal(3)
    })

    it('passes over as many as it is told, and answers no more than the limit', async () => {
      const all = ids(await echo.enqueueMany(Array.from({ length: 25 }, (_, n) => [n])))
        .toSorted()
        .reverse()
      for (const [offset, limit] of [
        [0, 10],
        [10, 10],
        [20, 10],
        [24, 1],
        [25, 5],
        [1_000, 1],
      ] as const) {
        const { tasks, total } = await executor.getTasks({ offset, limit })
        expect(ids(tasks)).to.deep.equal(all.slice(offset, offset + limit))
        expect(total).to.equal(25)
      }
    })

    it('passes over more than a page', async () => {
      const all = ids(await echo.enqueueMany(Array.from({ length: 1_204 }, (_, n) => [n])))
      const { tasks, total } = await executor.getTasks({ offset: 1_100, limit: 500 })
      expect(tasks).to.have.lengthOf(104)
      expect(total).to.equal(1_204)
      expect(new Set(all).size).to.equal(1_204)
    })

    it('lists one queue, one state, or both', async () => {
      const mail = await echo.using({ queueName: 'mail' }).enqueue(1)
      const done = await echo.using({ queueName: 'mail' }).enqueue(2)
      await echo.enqueue(3)
      await executor.runTaskById(done.id)
      expect((await executor.getTasks({ queueName: 'mail' })).total).to.equal(2)
      expect(ids((await executor.getTasks({ status: 'SUCCESSFUL' })).tasks)).to.deep.equal([done.id])
      expect(ids((await executor.getTasks({ queueName: 'mail', status: 'READY' })).tasks)).to.deep.equal([mail.id])
      expect(await executor.getTasks({ queueName: 'nowhere' })).to.deep.equal({ tasks: [], total: 0 })
    })

    it('refuses what its options may not be', async () => {
      for (const options of [
        ...[{ limit: 0 }, { limit: 1_001 }, { limit: '10' }, { offset: -1 }, { offset: 1.5 }, { offset: 1e9 }],
        ...[{ status: 'ready' }, { status: ['READY'] }, { queue: 'mail' }],
      ]) {
        const error = await caught(executor.getTasks(options as { limit: number }))
        expect(error, JSON.stringify(options)).to.be.instanceOf(TaskOptionError)
      }
    })
  })

  describe('records by id', () => {
    it('answers a record', async () => {
      const { id } = await echo.enqueue(1)
      expect(await executor.getTaskById(id))
        .to.be.instanceOf(TaskRecord)
        .with.property('id', id)
      expect(await caught(executor.getTaskById(NOWHERE))).to.be.instanceOf(TaskNotFoundError)
      expect(await caught(executor.getTaskById('x'))).to.be.instanceOf(TaskNotFoundError)
    })

    it('deletes a record, and says whether there was one', async () => {
      const { id } = await echo.enqueue(1)
      expect(await executor.deleteTask(id)).to.equal(true)
      expect(await executor.deleteTask(id)).to.equal(false)
      expect(await executor.deleteTask('x')).to.equal(false)
      expect(await executor.processOneTask()).to.equal(null)
    })

    it('does not delete one that runs', async () => {
      const { id } = await echo.enqueue(1)
      await holdRunning(subject.backend, 'default')
      expect(await caught(executor.deleteTask(id))).to.be.instanceOf(TaskStateError)
      expect((await TaskRecord.find(id)).status).to.equal('RUNNING')
    })

    it('deletes many: those that are there and do not run', async () => {
      const results = await echo.enqueueMany(Array.from({ length: 150 }, (_, n) => [n]))
      const held = await holdRunning(subject.backend, 'default', 2)
      const given = [...ids(results), NOWHERE, 'x', '', ids(results)[5] ?? '']
      expect(await executor.deleteTasks(given)).to.equal(148)
      expect(await TaskRecord.filter().ids()).to.have.members([...held])
      expect(await executor.deleteTasks([])).to.equal(0)
    })

    it('refuses what is no list of ids, and deletes nothing', async () => {
      const { id } = await echo.enqueue(1)
      for (const given of [id, null, undefined, [id, 5], { 0: id, length: 1 }, [null]]) {
        const error = await caught(executor.deleteTasks(given as string[]))
        expect(error).to.be.instanceOf(TaskOptionError).with.property('field', 'ids')
      }
      expect(await TaskRecord.filter().count()).to.equal(1)
    })

    it('resets a failed record for a retry, and no other', async () => {
      const id = await failed()
      expect(await executor.resetTaskForRetry(id)).to.equal(true)
      expect(await TaskRecord.find(id)).to.include({ status: 'READY', attempts: 1 })
      expect(await executor.resetTaskForRetry(id)).to.equal(false)
      const done = await echo.enqueue(1)
      await executor.runTaskById(done.id)
      expect(await executor.resetTaskForRetry(done.id)).to.equal(false)
      expect(await caught(executor.resetTaskForRetry(NOWHERE))).to.be.instanceOf(TaskNotFoundError)
    })

    it('resets once when many ask at the same time', async () => {
      const id = await failed()
      const answers = await Promise.all(Array.from({ length: 10 }, () => executor.resetTaskForRetry(id)))
      expect(answers.filter(Boolean)).to.have.lengthOf(1)
      expect(await executor.processTasks()).to.have.lengthOf(1)
    })
  })

  describe('tasks that misbehave', () => {
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    const bomb = (): never => {
      throw new Error('a bomb')
    }
    const hidden = (): Error => {
      // The stack first: while it is made, the message is read.
      const error = Object.defineProperty(new Error('hidden'), 'stack', { get: bomb })
      return Object.defineProperty(error, 'message', { get: bomb })
    }
    const THROWN: readonly (readonly [what: string, make: () => unknown, name: string, message: RegExp])[] = [
      ['an error', () => new TypeError('a reason'), 'TypeError', /^a reason$/],
      ['a frozen error', () => Object.freeze(new RangeError('frozen')), 'RangeError', /^frozen$/],
      ['a string', () => 'just text', 'NonError', /just text/],
      ['null', () => null, 'NonError', /null/],
      ['undefined', () => undefined, 'NonError', /undefined/],
      ['a number', () => 42, 'NonError', /42/],
      ['a symbol', () => Symbol('odd'), 'NonError', /Symbol\(odd\)/],
      ['a plain object', () => ({ code: 7 }), 'NonError', /code: 7/],
      ['an object without text', () => ({ toString: bomb, [Symbol.toPrimitive]: bomb }), 'NonError', /./],
      ['an error whose getters throw', hidden, 'Error', /./],
      ['a Proxy that throws', () => new Proxy({}, { get: bomb, getPrototypeOf: bomb, ownKeys: bomb }), 'NonError', /./],
      ['a Proxy of an error', () => new Proxy(new Error('x'), { get: bomb, getPrototypeOf: bomb }), '', /./],
      ['a cycle', () => cycle, 'NonError', /Circular/],
      ['an AggregateError', () => new AggregateError([new Error('one')], 'many'), 'AggregateError', /^many$/],
      ['an error with ten thousand causes', () => deepCause(10_000), 'Error', /^cause 10000$/],
      ['an error with 50 MB of message', () => new Error('x'.repeat(50_000_000)), 'Error', /^x{1000}/],
      ['an error with terminal codes and tags', () => new Error('\u001b[31m</script>'), 'Error', /<\/script>/],
    ]
    for (const [what, make, name, message] of THROWN) {
      for (const how of ['throws', 'rejects with'] as const) {
        it(`makes FAILED what ${how} ${what}, with the reason, and runs the next`, async () => {
          const odd = task('odd', (): unknown => {
            // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what is no error is the point
            if (how === 'rejects with') return Promise.reject(make())
            throw make()
          })
          await odd.enqueue()
          await echo.enqueue('next')
          const [result, next] = await executor.processTasks()
          expect(result).to.include({ status: 'FAILED', attempts: 1 })
          const [error] = result?.errors ?? []
          expect(result?.errors).to.have.lengthOf(1)
          if (name !== '') expect(error?.name).to.equal(name)
          expect(error?.message).to.match(message).and.to.have.length.at.most(2_048)
          expect(error?.attempt).to.equal(1)
          expect(next).to.include({ status: 'SUCCESSFUL', returnValue: 'next' })
        })
      }
    }

    it('makes FAILED what returns a thenable that rejects', async () => {
      const thenable = { then: (_: unknown, no: (reason: Error) => void): void => no(new RangeError('then')) }
      await task('odd', () => thenable as unknown as Promise<never>).enqueue()
      expect((await executor.processOneTask())?.errors[0]).to.include({ name: 'RangeError', message: 'then' })
    })

    const throwing = Object.defineProperty({}, 'when', { enumerable: true, get: bomb })
    const RETURNED: readonly (readonly [what: string, make: () => unknown, path: string])[] = [
      ['a BigInt', () => 5n, 'return'],
      ['undefined inside', () => ({ when: undefined }), 'return.when'],
      ['a cycle', () => cycle, 'return.self'],
      ['a Date', () => ({ a: [new Date()] }), 'return.a[0]'],
      ['a function', () => ({ run: bomb }), 'return.run'],
      ['NaN', () => [NaN], 'return[0]'],
      ['a Map', () => new Map(), 'return'],
      ['a getter that throws', () => throwing, 'return.when'],
      ['a Proxy that throws', () => new Proxy({}, { ownKeys: bomb }), 'return'],
      ['50 MB of text', () => 'x'.repeat(50_000_000), 'return'],
      ['50 MB in pieces', () => ({ a: Array.from({ length: 50 }, () => 'x'.repeat(1_000_000)) }), 'return'],
    ]
    for (const [what, make, path] of RETURNED) {
      it(`makes FAILED what returns ${what}, with the path, and runs the next`, async () => {
        await task('odd', make).enqueue()
        await echo.enqueue('next')
        const [result, next] = await executor.processTasks()
        expect(result?.status).to.equal('FAILED')
        expect(result?.errors[0]).to.include({ name: 'TaskArgumentError' })
        expect(result?.errors[0]?.message).to.match(new RegExp(`^expected ${path.replace(/[[\]]/g, '\\$&')} to be `))
        expect(next).to.include({ status: 'SUCCESSFUL' })
      })
    }

    it('takes no value at all for null', async () => {
      await task('nothing', () => undefined).enqueue()
      expect(await executor.processOneTask()).to.include({ status: 'SUCCESSFUL', returnValue: null })
    })

    it('makes FAILED what takes longer than its limit, tells it, and runs the next', async () => {
      const reasons: unknown[] = []
      const slow = task({ name: 'slow', takesContext: true, timeoutMs: 20 }, ({ signal }: TaskContext) => {
        signal.addEventListener('abort', () => reasons.push((signal.reason as Error).name))
        return new Promise<never>(() => {})
      })
      await slow.enqueue()
      await echo.enqueue('next')
      const [result, next] = await executor.processTasks()
      expect(result?.errors[0]).to.include({ name: 'TaskTimeoutError' })
      expect(result?.errors[0]?.message).to.contain('20 ms')
      expect(reasons).to.deep.equal(['TaskTimeoutError'])
      expect(next?.status).to.equal('SUCCESSFUL')
    })

    it('does as a task says that throws RetryLater or DoNotRetry', async () => {
      const asking = task(
        { name: 'asking', takesContext: true, retry: { maxAttempts: 5 } },
        ({ attempt }: TaskContext) => {
          if (attempt === 1) throw new RetryLater({ delayMs: 60_000, cause: new Error('busy') })
          throw new DoNotRetry('no use')
        },
      )
      const { id } = await asking.enqueue()
      const before = Date.now()
      expect(await executor.processOneTask()).to.include({ status: 'READY', attempts: 1 })
      const record = await TaskRecord.find(id)
      expect(record.runAfter?.getTime()).to.be.within(before + 59_900, Date.now() + 60_100)
      expect(await executor.runTaskById(id)).to.include({ status: 'FAILED', attempts: 2 })
      await record.refresh()
      expect(record.errors.map(({ name }) => name)).to.deep.equal(['RetryLater', 'DoNotRetry'])
    })

    it('runs a task that takes its own arguments apart, without harm to the record', async () => {
      const destroy = task('destroy', (given: { list: number[] }) => {
        given.list.length = 0
        delete (given as Partial<typeof given>).list
        return 'done'
      })
      const { id } = await destroy.enqueue({ list: [1, 2, 3] })
      await executor.runTaskById(id)
      expect((await TaskRecord.find(id)).args).to.deep.equal([{ list: [1, 2, 3] }])
    })

    it('keeps the code of an error beside it', async () => {
      const { id } = await task('coded', () => {
        throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
      }).enqueue()
      await executor.runTaskById(id)
      const [text = ''] = (await TaskRecord.find(id)).stored.errors
      expect(JSON.parse(text)).to.include({ code: 'ECONNREFUSED', name: 'Error', attempt: 1 })
    })

    if (subject.name === 'redis') {
      it('goes on when a record is damaged or gone while it runs', async () => {
        const { client, keys } = subject.raw
        const damage = task({ name: 'damage', takesContext: true }, async ({ taskResult }: TaskContext) => {
          await client.hset(keys.record(taskResult.id), 'priority', 'high')
        })
        const vanish = task({ name: 'vanish', takesContext: true }, async ({ taskResult }: TaskContext) => {
          await client.del(keys.record(taskResult.id))
        })
        await damage.enqueue()
        await vanish.enqueue()
        const next = await echo.enqueue('next')
        const results = await executor.processTasks()
        expect(results.at(-1)).to.include({ id: next.id, status: 'SUCCESSFUL' })
        expect(ran).to.deep.equal(['next'])
      })
    }
  })

  if (subject.name === 'redis') {
    it('leaves no consumers, entries and leases behind, however often it is called', async () => {
      const { client, keys } = subject.raw
      for (let call = 0; call < 12; call += 1) {
        const { id } = await echo.enqueue(call)
        if (call % 2 === 0) await executor.processOneTask({ workerId: `caller-${call}` })
        else await executor.runTaskById(id, { workerId: `caller-${call}` })
      }
      const stream = keys.stream('default', 'normal')
      const groups = (await client.xinfo('GROUPS', stream)) as unknown[][]
      const group = groups[0] ?? []
      expect(group[group.indexOf('consumers') + 1]).to.be.at.most(1)
      expect(group[group.indexOf('pending') + 1]).to.equal(0)
      expect(await client.xlen(stream)).to.equal(0)
      expect(await client.zcard(keys.leases)).to.equal(0)
    })
  }
})

describe('executor and its backends', () => {
  isolateProcessState()

  it('goes to the backend that is named', async () => {
    configureTasks({ default: { backend: 'memory' }, other: { backend: 'memory' } })
    const echo = task('echo', (n: number) => n)
    const { id } = await echo.using({ backend: 'other' }).enqueue(1)
    const backendName = 'other'
    expect(await executor.processOneTask()).to.equal(null)
    expect(await executor.getPendingTaskCount({ backendName })).to.equal(1)
    expect((await executor.getTasks({ backendName })).total).to.equal(1)
    expect((await executor.getTaskById(id, { backendName })).id).to.equal(id)
    expect((await executor.processOneTask({ backendName }))?.backendName).to.equal('other')
    expect(await executor.runTaskById(id, { backendName })).to.equal(null)
    expect(await caught(executor.runTaskById(id))).to.be.instanceOf(TaskNotFoundError)
    expect(await executor.deleteTask(id, { backendName })).to.equal(true)
  })

  it('refuses a backend that is not there, or that stores nothing', async () => {
    configureTasks({ default: { backend: 'dummy' }, other: { backend: 'immediate' } })
    for (const backendName of ['default', 'other', 'nowhere']) {
      const options = { backendName }
      for (const call of [
        ...[executor.processOneTask(options), executor.processTasks(options), executor.runTaskById(NOWHERE, options)],
        ...[executor.getPendingTaskCount(options), executor.purgeCompletedTasks(options), executor.getTasks(options)],
        ...[executor.claimStaleTasks(options), executor.getTaskById(NOWHERE, options), executor.getTaskCounts(options)],
        ...[
          executor.deleteTask(NOWHERE, options),
          executor.deleteTasks([NOWHERE], options),
          executor.getQueueStats(options),
        ],
        executor.resetTaskForRetry(NOWHERE, options),
      ]) {
        expect(await caught(call)).to.be.instanceOf(TaskOptionError)
      }
    }
  })
})

function deepCause(levels: number): Error {
  let error = new Error('cause 0')
  for (let level = 1; level <= levels; level += 1) error = new Error(`cause ${level}`, { cause: error })
  return error
}
