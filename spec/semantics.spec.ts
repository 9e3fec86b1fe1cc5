/**
 * What the system that this one follows promises to its users, in its own order: enqueue, results, execution, priority and
 * time, the verbs of a person, and the verbs of an operator. Each case is one sentence of that promise, over every backend.
 */
import { expect } from 'chai'
import { executor, task, TaskNotFoundError, TaskRecord, TaskStateError, Worker } from '../lib/index.ts'
import type { Task, TaskContext } from '../lib/index.ts'
import { abandon, caught, DAY_MS, overEveryBackend } from './backends/backends-under-test.ts'
import { eventually } from './support/eventually.ts'

overEveryBackend('The semantics of the original', (subject) => {
  let add: Task<[a: number, b: number], number>
  let divide: Task<[a: number, b: number], number>
  let order: string[]
  let note: Task<[what: string], void>

  beforeEach(() => {
    order = []
    add = task('add', (a: number, b: number) => a + b)
    divide = task('divide', (a: number, b: number) => {
      if (b === 0) throw new RangeError('division by zero')
      return a / b
    })
    note = task('note', async (what: string) => void order.push(what))
  })

  describe('enqueue', () => {
    it('stores a READY record with its arguments and answers its result', async () => {
      const result = await add.enqueue(2, 3)
      expect(result).to.include({ status: 'READY', isFinished: false, attempts: 0, startedAt: null, finishedAt: null })
      expect(result.args).to.deep.equal([2, 3])
      const record = await TaskRecord.find(result.id)
      expect(record).to.include({ name: 'add', status: 'READY', queueName: 'default', priority: 0 })
      expect(record.args).to.deep.equal([2, 3])
    })

    it('gives each its own id', async () => {
      const results = await Promise.all(Array.from({ length: 50 }, () => add.enqueue(1, 1)))
      expect(new Set(results.map(({ id }) => id)).size).to.equal(50)
    })

    it('takes queue and priority from the task, and from using over it', async () => {
      const urgent = task({ name: 'urgent', queueName: 'mail', priority: 5 }, () => null)
      expect(await urgent.enqueue()).to.include({ queueName: 'mail', priority: 5 })
      expect(await urgent.using({ priority: 99, queueName: 'now' }).enqueue()).to.include({
        queueName: 'now',
        priority: 99,
      })
    })

    it('works for a function without arguments, and for one with many', async () => {
      const nothing = task('nothing', () => 'nothing')
      const many = task('many', (...all: number[]) => all.length)
      await nothing.enqueue()
      await many.enqueue(...Array.from({ length: 100 }, (_, n) => n))
      expect((await executor.processTasks()).map(({ returnValue }) => returnValue)).to.deep.equal(['nothing', 100])
    })
  })

  describe('getResult', () => {
    it('finds by its id what was enqueued, in whatever state it is now', async () => {
      const { id } = await add.enqueue(1, 2)
      expect((await add.getResult(id)).status).to.equal('READY')
      await executor.processOneTask()
      expect(await add.getResult(id)).to.include({ status: 'SUCCESSFUL', returnValue: 3 })
      expect(await subject.backend.getResult(id)).to.include({ id, status: 'SUCCESSFUL' })
    })

    it('says that there is none', async () => {
      expect(await caught(add.getResult('0198c1f2-0000-7000-8000-000000000000'))).to.be.instanceOf(TaskNotFoundError)
    })
  })

  describe('a run', () => {
    it('that returns makes the record SUCCESSFUL, with value, times and worker id', async () => {
      const { id } = await divide.enqueue(6, 3)
      const result = await executor.processOneTask({ workerId: 'worker-1' })
      expect(result).to.include({ id, status: 'SUCCESSFUL', returnValue: 2, attempts: 1, isFinished: true })
      expect(result?.workerIds).to.deep.equal(['worker-1'])
      expect(result?.errors).to.deep.equal([])
      const { enqueuedAt, startedAt, finishedAt } = await TaskRecord.find(id)
      expect(startedAt?.getTime()).to.be.at.least(enqueuedAt.getTime())
      expect(finishedAt?.getTime()).to.be.at.least(startedAt?.getTime() ?? Infinity)
    })

    it('that throws makes the record FAILED, with one error by its class', async () => {
      const { id } = await divide.enqueue(1, 0)
      const result = await executor.processOneTask({ workerId: 'worker-1' })
      expect(result).to.include({ id, status: 'FAILED', attempts: 1, isFinished: true })
      expect(result?.errors).to.have.lengthOf(1)
      expect(result?.errors[0]).to.include({ name: 'RangeError', message: 'division by zero', attempt: 1 })
      expect(result?.errors[0]?.stack).to.contain('semantics.spec.ts')
      expect(result?.workerIds).to.deep.equal(['worker-1'])
      expect(result?.finishedAt).to.be.instanceOf(Date)
    })

    it('of a task that takes a context is told the attempt and the record', async () => {
      const look = task({ name: 'look', takesContext: true }, (context: TaskContext, what: string) => ({
        what,
        id: context.taskResult.id,
        status: context.taskResult.status,
        attempt: context.attempt,
        aborted: context.signal.aborted,
        fence: context.fence,
      }))
      const { id } = await look.enqueue('x')
      const result = await executor.processOneTask()
      const { fence } = await TaskRecord.find(id)
      expect(result?.returnValue).to.deep.equal({ what: 'x', id, status: 'RUNNING', attempt: 1, aborted: false, fence })
    })

    it('happens once for each enqueue', async () => {
      await Promise.all(['a', 'b', 'c'].map((what) => note.enqueue(what)))
      await executor.processTasks()
      await executor.processTasks()
      expect(order.toSorted()).to.deep.equal(['a', 'b', 'c'])
    })

    it('may be one of a worker as well', async () => {
      const { id } = await add.enqueue(1, 2)
      await using worker = new Worker(subject.backend, { continuous: false, workerId: 'worker-1' })
      await worker.run()
      expect(await add.getResult(id)).to.include({ status: 'SUCCESSFUL', returnValue: 3 })
      expect((await add.getResult(id)).workerIds).to.deep.equal(['worker-1'])
    })
  })

  describe('priority and time', () => {
    it('run high before normal before low', async () => {
      for (const [what, priority] of [
        ['low', -10],
        ['normal', 0],
        ['high', 10],
      ] as const) {
        await note.using({ priority }).enqueue(what)
      }
      await executor.processTasks()
      expect(order).to.deep.equal(['high', 'normal', 'low'])
    })

    it('run in the order of arrival otherwise', async () => {
      for (const what of ['first', 'second', 'third']) await note.enqueue(what)
      await executor.processTasks()
      expect(order).to.deep.equal(['first', 'second', 'third'])
    })

    it('do not run a delayed task before its time, and do run it then', async () => {
      const runAfter = new Date(Date.now() + 100)
      const delayed = await note.using({ runAfter }).enqueue('later')
      await note.enqueue('now')
      expect(delayed.runAfter).to.deep.equal(runAfter)
      await executor.processTasks()
      expect(order).to.deep.equal(['now'])
      await eventually(() => executor.processOneTask())
      expect(order).to.deep.equal(['now', 'later'])
      expect((await note.getResult(delayed.id)).startedAt?.getTime()).to.be.at.least(runAfter.getTime())
    })

    it('take a time that is over for now', async () => {
      await note.using({ runAfter: new Date(Date.now() - 60_000) }).enqueue('past')
      expect((await executor.processOneTask())?.status).to.equal('SUCCESSFUL')
    })

    it('keep the queues apart', async () => {
      await note.using({ queueName: 'mail' }).enqueue('mail')
      expect(await executor.processTasks({ queueName: 'reports' })).to.deep.equal([])
      expect(await executor.processTasks({ queueName: 'mail' })).to.have.lengthOf(1)
    })
  })

  describe('a person', () => {
    it('runs a record by its id', async () => {
      const { id } = await add.enqueue(20, 22)
      expect(await executor.runTaskById(id)).to.include({ id, status: 'SUCCESSFUL', returnValue: 42 })
      expect(await executor.runTaskById(id)).to.equal(null)
    })

    it('runs a failed one by its id only when that is allowed', async () => {
      const { id } = await divide.enqueue(1, 0)
      await executor.processOneTask()
      expect(await executor.runTaskById(id)).to.equal(null)
      expect(await executor.runTaskById(id, { allowRetry: true })).to.include({ status: 'FAILED', attempts: 2 })
    })

    it('resets a failed one, and a worker runs it again with all its history', async () => {
      let broken = true
      const flaky = task('flaky', () => {
        if (broken) throw new Error('not yet')
        return 'done'
      })
      const { id } = await flaky.enqueue()
      await executor.processOneTask()
      expect(await executor.resetTaskForRetry(id)).to.equal(true)
      expect(await TaskRecord.find(id)).to.include({ status: 'READY', finishedAt: null })
      broken = false
      const again = await executor.processOneTask()
      expect(again).to.include({ id, status: 'SUCCESSFUL', returnValue: 'done', attempts: 2 })
      expect(again?.errors).to.have.lengthOf(1)
      expect(again?.workerIds).to.have.lengthOf(2)
    })

    it('deletes a record, and nothing runs', async () => {
      const { id } = await note.enqueue('deleted')
      expect(await executor.deleteTask(id)).to.equal(true)
      expect(await executor.processTasks()).to.deep.equal([])
      expect(await caught(executor.getTaskById(id))).to.be.instanceOf(TaskNotFoundError)
      expect(order).to.deep.equal([])
    })

    it('cannot delete what runs', async () => {
      const self = task({ name: 'self', takesContext: true }, async ({ taskResult }: TaskContext) => {
        const error = await caught(executor.deleteTask(taskResult.id))
        return error instanceof TaskStateError ? error.status : 'deleted'
      })
      await self.enqueue()
      expect((await executor.processOneTask())?.returnValue).to.equal('RUNNING')
    })
  })

  describe('an operator', () => {
    it('sees how many there are in each state', async () => {
      await add.enqueueMany([
        [1, 1],
        [2, 2],
        [3, 3],
      ])
      await divide.using({ priority: 10 }).enqueue(1, 0)
      await add.using({ runAfter: new Date(Date.now() + DAY_MS) }).enqueue(4, 4)
      await executor.processTasks({ maxTasks: 2 })
      expect(await executor.getTaskCounts()).to.deep.equal({ READY: 3, RUNNING: 0, SUCCESSFUL: 1, FAILED: 1 })
      expect(await executor.getPendingTaskCount()).to.equal(2)
      expect(await TaskRecord.filter({ status: 'FAILED' }).count()).to.equal(1)
      expect(await TaskRecord.countBy('name')).to.deep.equal({ add: 4, divide: 1 })
    })

    it('lists, newest first, what a filter leaves', async () => {
      const mail = await note.using({ queueName: 'mail' }).enqueue('mail')
      await note.enqueue('other')
      const { tasks, total } = await executor.getTasks({ queueName: 'mail' })
      expect(tasks.map(({ id }) => id)).to.deep.equal([mail.id])
      expect(total).to.equal(1)
    })

    it('purges what finished long ago, and nothing else', async () => {
      const [old] = await subject.past(8 * DAY_MS, async () => {
        const result = await add.enqueue(1, 2)
        await executor.processOneTask()
        return [result]
      })
      const fresh = await add.enqueue(3, 4)
      await executor.processOneTask()
      const waiting = await add.enqueue(5, 6)
      expect(await executor.purgeCompletedTasks({ days: 7, dryRun: true })).to.equal(1)
      expect(await executor.purgeCompletedTasks({ days: 7 })).to.equal(1)
      expect(await TaskRecord.filter().ids()).to.have.members([fresh.id, waiting.id])
      expect(await caught(TaskRecord.find(old?.id ?? ''))).to.be.instanceOf(TaskNotFoundError)
    })

    it('gets back what a dead worker held, and it runs', async () => {
      const { id } = await add.enqueue(1, 2)
      expect(await abandon(subject.backend, 'default')).to.deep.equal([id])
      expect((await TaskRecord.find(id)).status).to.equal('RUNNING')
      expect(await executor.claimStaleTasks()).to.equal(1)
      expect(await TaskRecord.find(id)).to.include({ status: 'SUCCESSFUL', attempts: 2, crashes: 1 })
    })

    it('loses no delayed task, however long it waits', async () => {
      const { id } = await subject
        .past(30 * DAY_MS, async () => {
          return [await add.using({ runAfter: new Date(Date.now() + 365 * DAY_MS) }).enqueue(1, 2)]
        })
        .then(([result]) => result ?? { id: '' })
      expect(await executor.purgeCompletedTasks({ days: 0 })).to.equal(0)
      expect(await TaskRecord.find(id)).to.include({ status: 'READY' })
    })
  })
})
