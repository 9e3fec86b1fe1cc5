/**
 * What the compiler knows of the public API: arguments and results follow the function. `npm run types` is the judge: a line
 * under `@ts-expect-error` that compiles fails it. The cases run, too, on a backend that only remembers.
 */
import { expect } from 'chai'
import {
  configureTasks,
  DummyTaskBackend,
  executor,
  ImmediateTaskBackend,
  MemoryTaskBackend,
  RedisTaskBackend,
  task,
  TaskBackend,
  TaskRecord,
} from '../../lib/index.ts'
import type {
  AnyTask,
  FinalStatus,
  QueueStats,
  RecordFilter,
  RecordPage,
  RecordQuery,
  Task,
  TaskAttemptError,
  TaskContext,
  TaskResult,
  TasksConfig,
  TaskStatus,
} from '../../lib/index.ts'
import { isolateProcessState } from '../backends/backends-under-test.ts'

/** True only where both are the very same type: neither `any` nor a wider one will do. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- two generic functions are alike only where their types are
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

interface TypeOf<Actual> {
  /** Compiles only with the very type of the value. */

  is<Expected>(...proof: Same<Actual, Expected> extends true ? [] : ['the type of the value differs']): void
}

function typeOf<Actual>(_value: Actual): TypeOf<Actual> {
  return { is: () => {} }
}

/** Code that is compiled and never run. */
function compiles(_code: (record: TaskRecord) => unknown): void {}

interface Mail {
  readonly to: string
  readonly cc?: readonly string[]
}

describe('public types', () => {
  isolateProcessState()

  let backend: DummyTaskBackend

  beforeEach(() => {
    backend = new DummyTaskBackend({ queues: [] })
  })

  describe('task', () => {
    it('takes arguments and result from the function', () => {
      const add = task('add', (a: number, b: number) => a + b)
      typeOf(add).is<Task<[a: number, b: number], number>>()
      const named = task(function named(mail: Mail, times?: number): string {
        return `${mail.to} ${times ?? 1}`
      })
      typeOf(named).is<Task<[mail: Mail, times?: number | undefined], string>>()
      const nothing = task('nothing', () => {})
      typeOf(nothing).is<Task<[], void>>()
      const many = task('many', (...all: string[]) => all.length)
      typeOf(many).is<Task<string[], number>>()
    })

    it('takes the result of an async function without its promise', () => {
      const fetching = task('fetching', async (url: string) => ({ url, size: 5 }))
      typeOf(fetching).is<Task<[url: string], { url: string; size: number }>>()
      const thenable = task('thenable', (): PromiseLike<boolean> => Promise.resolve(true))
      typeOf(thenable).is<Task<[], boolean>>()
      const either = task('either', (now: boolean): number | Promise<number> => (now ? 1 : Promise.resolve(2)))
      typeOf(either).is<Task<[now: boolean], number>>()
    })

    it('takes options in place of a name', () => {
      const build = task(
        { name: 'build', priority: 5, retry: { maxAttempts: 2 } },
        async (month: string) => month.length,
      )
      typeOf(build).is<Task<[month: string], number>>()
      const plain = task({ name: 'plain', takesContext: false }, (n: number) => n)
      typeOf(plain).is<Task<[n: number], number>>()
      compiles(() => {
        // @ts-expect-error: no such option
        task({ name: 'x', queue: 'mail' }, () => null)
        // @ts-expect-error: a priority is a number
        task({ name: 'x', priority: '5' }, () => null)
        // @ts-expect-error: a time belongs to using()
        task({ name: 'x', runAfter: new Date() }, () => null)
        // @ts-expect-error: no function
        task('x')
        // @ts-expect-error: the function comes last
        task(() => null, 'x')
        // @ts-expect-error: no such option of retry
        task({ name: 'x', retry: { attempts: 2 } }, () => null)
      })
    })

    it('leaves the context out of the arguments', () => {
      const build = task({ name: 'build', takesContext: true }, async (context, month: string) => {
        typeOf(context).is<TaskContext>()
        return [month, context.attempt] as const
      })
      typeOf(build).is<Task<[month: string], readonly [string, number]>>()
      const alone = task({ name: 'alone', takesContext: true }, (context) => context.fence)
      typeOf(alone).is<Task<[], number>>()
      compiles(() => {
        // @ts-expect-error: the context is supplied, not given
        void build.enqueue({} as TaskContext, 'May')
        // @ts-expect-error: without takesContext the first parameter is an argument
        typeOf(task({ name: 'x' }, (context: TaskContext) => context.attempt)).is<Task<[], number>>()
      })
    })

    it('is a task whatever its types', () => {
      const tasks: AnyTask[] = [task('a', (n: number) => n), task('b', async () => 'text')]
      expect(tasks.map(({ name }) => name)).to.deep.equal(['a', 'b'])
    })

    it('cannot be changed', () => {
      const add = task('add', (a: number, b: number) => a + b)
      compiles(() => {
        // @ts-expect-error: read-only
        add.priority = 5
        // @ts-expect-error: read-only
        add.name = 'x'
      })
      expect(Object.isFrozen(add)).to.equal(true)
    })
  })

  describe('enqueue', () => {
    it('takes the arguments of the function, and no others', async () => {
      const send = task('send', (mail: Mail, times?: number) => `${mail.to} ${times ?? 1}`)
      await send.enqueue({ to: 'me' })
      await send.enqueue({ to: 'me', cc: ['you'] }, 2)
      compiles(() => [
        // @ts-expect-error: the first is missing
        send.enqueue(),
        // @ts-expect-error: the first is no mail
        send.enqueue('me'),
        // @ts-expect-error: a mail has no such field
        send.enqueue({ to: 'me', from: 'you' }),
        // @ts-expect-error: the second is no number
        send.enqueue({ to: 'me' }, '2'),
        // @ts-expect-error: there is no third
        send.enqueue({ to: 'me' }, 2, 3),
      ])
      expect(backend.results).to.have.lengthOf(2)
    })

    it('answers a result of the types of the task', async () => {
      const add = task('add', (a: number, b: number) => a + b)
      const result = await add.enqueue(1, 2)
      typeOf(result).is<TaskResult<number, [a: number, b: number]>>()
      typeOf(result.args).is<[a: number, b: number]>()
      typeOf(result.status).is<TaskStatus>()
      typeOf(result.runAfter).is<Date | null>()
      typeOf(result.enqueuedAt).is<Date>()
      typeOf(result.errors).is<readonly TaskAttemptError[]>()
      typeOf(result.workerIds).is<readonly string[]>()
      compiles(() => {
        typeOf(result.returnValue).is<number>()
        // @ts-expect-error: a snapshot
        result.status = 'FAILED'
        // @ts-expect-error: a snapshot
        result.args = [1, 2]
        // @ts-expect-error: a snapshot
        const list: string[] = result.workerIds
        return list
      })
      expect(result.args).to.deep.equal([1, 2])
    })

    it('takes lists of arguments for many', async () => {
      const add = task('add', (a: number, b: number) => a + b)
      const results = await add.enqueueMany([
        [1, 2],
        [3, 4],
      ])
      typeOf(results).is<TaskResult<number, [a: number, b: number]>[]>()
      const given: readonly [number, number][] = [[5, 6]]
      await add.enqueueMany(given)
      compiles(() => [
        // @ts-expect-error: one number is missing
        add.enqueueMany([[1]]),
        // @ts-expect-error: no number
        add.enqueueMany([[1, '2']]),
        // @ts-expect-error: a list of lists
        add.enqueueMany([1, 2]),
      ])
      expect(backend.results).to.have.lengthOf(3)
    })

    it('knows the value of a result that is read again, refreshed or waited for', async () => {
      const add = task('add', async (a: number, b: number) => a + b)
      const { id } = await add.enqueue(1, 2)
      const result = await add.getResult(id)
      typeOf(result).is<TaskResult<number, [a: number, b: number]>>()
      compiles(async () => {
        const value: number = (await add.getResult(id)).returnValue
        const refreshed = await result.refresh()
        const waited = await result.wait({ timeoutMs: 5 })
        typeOf(refreshed.returnValue).is<number>()
        typeOf(waited.returnValue).is<number>()
        // @ts-expect-error: a number is no text
        const text: string = (await add.getResult(id)).returnValue
        // @ts-expect-error: no such option
        await result.wait({ timeout: 5 })
        return [value, text]
      })
      const unknown = await backend.getResult(id)
      typeOf(unknown).is<TaskResult>()
      compiles(() => {
        typeOf(unknown.returnValue).is<unknown>()
      })
    })
  })

  describe('call', () => {
    it('takes the arguments and answers the value of the function', async () => {
      const add = task('add', (a: number, b: number) => a + b)
      const sum = await add.call(1, 2)
      typeOf(sum).is<number>()
      const look = task({ name: 'look', takesContext: true }, async (context, what: string) => ({
        what,
        n: context.attempt,
      }))
      const looked = await look.call('x')
      typeOf(looked).is<{ what: string; n: number }>()
      compiles(() => [
        // @ts-expect-error: no number
        add.call('1', 2),
        // @ts-expect-error: one is missing
        add.call(1),
        // @ts-expect-error: the context is supplied
        look.call({} as TaskContext, 'x'),
      ])
      expect([sum, looked]).to.deep.equal([3, { what: 'x', n: 1 }])
    })
  })

  describe('using', () => {
    it('keeps the types of the task', async () => {
      const add = task('add', (a: number, b: number) => a + b)
      const urgent = add.using({ priority: 50, queueName: 'mail', runAfter: new Date(), backend: null })
      typeOf(urgent).is<typeof add>()
      await urgent.enqueue(1, 2)
      compiles(() => [
        // @ts-expect-error: no number
        urgent.enqueue('1', 2),
        // @ts-expect-error: a time is a Date
        add.using({ runAfter: 1_700_000_000 }),
        // @ts-expect-error: the name stays
        add.using({ name: 'other' }),
        // @ts-expect-error: no such option
        add.using({ queue: 'mail' }),
      ])
      expect(backend.results).to.have.lengthOf(1)
    })
  })

  describe('configureTasks', () => {
    it('answers each backend as the class that its settings name', () => {
      class OwnBackend extends DummyTaskBackend {
        readonly own = true
      }
      const tasks = configureTasks({
        default: { backend: 'redis', queues: [], options: { redisUrl: 'redis://localhost:6379/0' } },
        embedded: { backend: 'memory', queues: ['mail'] },
        now: { backend: 'immediate' },
        noted: { backend: 'dummy' },
        own: { backend: OwnBackend },
      })
      typeOf(tasks.default).is<RedisTaskBackend>()
      typeOf(tasks.embedded).is<MemoryTaskBackend>()
      typeOf(tasks.now).is<ImmediateTaskBackend>()
      typeOf(tasks.noted).is<DummyTaskBackend>()
      typeOf(tasks.own).is<OwnBackend>()
      compiles(() => [
        // @ts-expect-error: no such kind
        configureTasks({ default: { backend: 'reddis' } }),
        // @ts-expect-error: no such option
        configureTasks({ default: { backend: 'redis', options: { redisURL: 'x' } } }),
        // @ts-expect-error: an alias is a key of its own
        configureTasks({ default: { backend: 'redis', options: { alias: 'x' } } }),
        // @ts-expect-error: no backend
        configureTasks({ default: { backend: Date } }),
      ])
      compiles(() => {
        // @ts-expect-error: read-only
        tasks.default = new RedisTaskBackend()
        // @ts-expect-error: no such alias
        const other: unknown = tasks.other
        return other
      })
      expect(tasks.own.own).to.equal(true)
    })

    it('answers a backend of some kind where the settings are not known at compile time', () => {
      const config: TasksConfig = { default: { backend: 'memory' } }
      const tasks = configureTasks(config)
      const made = tasks['default']
      expect(made).to.be.instanceOf(TaskBackend)
      compiles(() => {
        const backends: TaskBackend[] = made ? [made] : []
        return backends
      })
    })
  })

  describe('TaskRecord', () => {
    it('takes the keys of a filter, and no others', () => {
      const filter: RecordFilter = {
        ...{ status: 'FAILED', queueName: ['mail', 'reports'], name: 'send', priority: [0, 5] },
        ...{ enqueuedAfter: new Date(), enqueuedBefore: new Date(), finishedAfter: undefined, search: 'text' },
      }
      typeOf<keyof RecordFilter>('status').is<
        | ('status' | 'queueName' | 'name' | 'priority' | 'search')
        | ('enqueuedAfter' | 'enqueuedBefore' | 'finishedAfter' | 'finishedBefore')
      >()
      compiles(() => {
        const query = TaskRecord.filter(filter).orderBy('-enqueuedAt').limit(5)
        typeOf(query).is<RecordQuery<TaskRecord>>()
        return [
          // @ts-expect-error: no such key
          TaskRecord.filter({ state: 'FAILED' }),
          // @ts-expect-error: no such state
          TaskRecord.filter({ status: 'DONE' }),
          // @ts-expect-error: no such state among many
          TaskRecord.filter({ status: ['FAILED', 'DONE'] }),
          // @ts-expect-error: a time is a Date
          TaskRecord.filter({ enqueuedBefore: '2030-01-01' }),
          // @ts-expect-error: a priority is a number
          TaskRecord.filter({ priority: '5' }),
          // @ts-expect-error: ordered by the time of enqueue alone
          TaskRecord.filter().orderBy('name'),
          // @ts-expect-error: no such field to count by
          TaskRecord.countBy('priority'),
        ]
      })
    })

    it('answers records from every way to ask', () => {
      compiles(async () => {
        const query = TaskRecord.filter()
        const list = await query
        typeOf(list).is<TaskRecord[]>()
        const first = await query.first()
        typeOf(first).is<TaskRecord | null>()
        const page = await query.page({ size: 5, after: null })
        typeOf(page).is<RecordPage<TaskRecord>>()
        typeOf(page.total).is<number | null>()
        typeOf(page.next).is<string | null>()
        const ids = await query.ids()
        typeOf(ids).is<string[]>()
        const counts = [await query.count(), await query.delete(), await query.retry()] as const
        typeOf(counts).is<readonly [number, number, number]>()
        for await (const record of query) typeOf(record).is<TaskRecord>()
        const found = await TaskRecord.using('other').find('id')
        typeOf(found).is<TaskRecord>()
        const byName = await TaskRecord.countBy('name')
        typeOf(byName).is<Record<string, number>>()
      })
    })

    it('may be changed where it can be saved, and nowhere else', () => {
      compiles((record) => {
        record.priority = 5
        record.runAfter = null
        record.runAfter = new Date()
        record.args = ['x']
        // @ts-expect-error: a state has verbs
        record.status = 'READY'
        // @ts-expect-error: a queue is fixed
        record.queueName = 'mail'
        // @ts-expect-error: a time is a Date
        record.runAfter = 5
        // @ts-expect-error: an array
        record.args = 'x'
        return record.save()
      })
    })
  })

  describe('executor', () => {
    it('answers what its verbs promise', () => {
      compiles(async () => {
        const one = await executor.processOneTask({ queueName: 'mail', backendName: 'default', workerId: 'me' })
        typeOf(one).is<TaskResult | null>()
        const many = await executor.processTasks({ maxTasks: 5, signal: new AbortController().signal })
        typeOf(many).is<TaskResult[]>()
        const byId = await executor.runTaskById('id', { allowRetry: true })
        typeOf(byId).is<TaskResult | null>()
        const statuses: FinalStatus[] = ['FAILED']
        const numbers = [
          await executor.getPendingTaskCount({ queueName: 'mail' }),
          await executor.purgeCompletedTasks({ days: 7, statuses, batchSize: 100, dryRun: true }),
          await executor.claimStaleTasks({ claimTimeoutSeconds: 5 }),
          await executor.deleteTasks(['id']),
        ]
        typeOf(numbers).is<number[]>()
        const list = await executor.getTasks({ queueName: 'mail', status: 'FAILED', offset: 0, limit: 5 })
        typeOf(list).is<{ tasks: TaskRecord[]; total: number }>()
        const facts = [await executor.deleteTask('id'), await executor.resetTaskForRetry('id')]
        typeOf(facts).is<boolean[]>()
        const stats = await executor.getQueueStats()
        typeOf(stats).is<QueueStats>()
        const counts = await executor.getTaskCounts()
        typeOf(counts).is<Record<TaskStatus, number>>()
        return [
          // @ts-expect-error: no such option
          executor.processOneTask({ queue: 'mail' }),
          // @ts-expect-error: not a final state
          executor.purgeCompletedTasks({ statuses: ['READY'] }),
          // @ts-expect-error: options are an object
          executor.runTaskById('id', true),
        ]
      })
    })
  })

  describe('a backend', () => {
    it('knows its events and their results', () => {
      backend.on('taskFinished', (result) => {
        typeOf(result).is<TaskResult>()
      })
      compiles(() => {
        // @ts-expect-error: no such event
        backend.on('finished', () => {})
        // @ts-expect-error: a listener gets one result
        backend.on('taskStarted', (result: string) => result)
      })
      expect(backend.hasListeners('taskFinished')).to.equal(true)
    })

    it('takes its own options, and no others', () => {
      compiles(() => [
        new RedisTaskBackend({ redisUrl: 'redis://x', claimTimeoutSeconds: 5, redisPassword: undefined }),
        // @ts-expect-error: seconds are a number
        new RedisTaskBackend({ claimTimeoutSeconds: '5m' }),
        // @ts-expect-error: no such option
        new RedisTaskBackend({ url: 'redis://x' }),
        // @ts-expect-error: a server has no place in memory
        new MemoryTaskBackend({ redisUrl: 'redis://x' }),
        // @ts-expect-error: without a storage there is no lease
        new ImmediateTaskBackend({ claimTimeoutSeconds: 5 }),
      ])
    })
  })
})
