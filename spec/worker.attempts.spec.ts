/** Worker: what becomes of an attempt: retries, limits of time, hostile code, and tasks that nobody here knows. */
import { expect } from 'chai'
import {
  DoNotRetry,
  executor,
  MemoryTaskBackend,
  RetryLater,
  task,
  TaskOptionError,
  taskRegistry,
  TaskTimeoutError,
} from '../lib/index.ts'
import type { RetryOptions } from '../lib/index.ts'
import { Gate, overEveryWorker, overRedisWorker, settledBy } from './faults/support/workers.ts'
import { eventually } from './support/eventually.ts'

interface StoredError {
  readonly name: string
  readonly message: string
  readonly attempt: number
  readonly at: number
  readonly code?: string
}

const parsed = (errors: readonly string[]): StoredError[] => errors.map((error) => JSON.parse(error) as StoredError)

overEveryWorker('Worker: retries', (bench) => {
  it('runs a task again until it succeeds, keeping the errors of the attempts before', async () => {
    const flaky = task(
      { name: 'flaky', takesContext: true, retry: { maxAttempts: 3, backoff: 'fixed', delayMs: 10 } },
      ({ attempt }) => {
        if (attempt < 3) throw new RangeError(`attempt ${attempt}`)
        return attempt
      },
    )
    await bench.start()
    const { id } = await flaky.enqueue()
    const record = await bench.reached(id, 'SUCCESSFUL')
    expect(record).to.include({ attempts: 3, returnValue: '3', crashes: 0 })
    expect(parsed(record.errors).map(({ name, message, attempt }) => [name, message, attempt])).to.deep.equal([
      ['RangeError', 'attempt 1', 1],
      ['RangeError', 'attempt 2', 2],
    ])
    expect(record.workerIds).to.have.lengthOf(3)
  })

  it('ends as FAILED after maxAttempts, with a delay that doubles', async () => {
    const retry = { maxAttempts: 4, backoff: 'exponential', delayMs: 50, jitter: 0 } as const
    const broken = task({ name: 'broken', retry }, () => {
      throw new Error('always')
    })
    await bench.start()
    const { id } = await broken.enqueue()
    const record = await bench.reached(id, 'FAILED')
    const times = parsed(record.errors).map(({ at }) => at)
    const delays = times.slice(1).map((at, index) => at - (times[index] ?? NaN))
    expect(record.attempts).to.equal(4)
    for (const [index, delay] of delays.entries()) expect(delay).to.be.at.least(50 * 2 ** index)
  })

  it('does what the task asks for: RetryLater whatever maxAttempts says, DoNotRetry for good', async () => {
    const later = task({ name: 'later', takesContext: true }, ({ attempt }) => {
      if (attempt < 3) throw new RetryLater({ delayMs: 100 })
      return attempt
    })
    const never = task({ name: 'never', retry: { maxAttempts: 5, delayMs: 0 } }, () => {
      throw new DoNotRetry('it will not get better')
    })
    await bench.start()
    const first = await later.enqueue()
    const second = await never.enqueue()
    const done = await bench.reached(first.id, 'SUCCESSFUL')
    expect(done.attempts).to.equal(3)
    const [one, two] = parsed(done.errors)
    expect((two?.at ?? NaN) - (one?.at ?? NaN)).to.be.at.least(100)
    const failed = await bench.reached(second.id, 'FAILED')
    expect(failed.attempts).to.equal(1)
    expect(parsed(failed.errors)[0]).to.include({ name: 'DoNotRetry', message: 'it will not get better' })
  })

  it('gives each attempt a higher fence', async () => {
    const fences: number[] = []
    const flaky = task({ name: 'flaky', takesContext: true, retry: { maxAttempts: 4, delayMs: 0 } }, ({ fence }) => {
      fences.push(fence)
      throw new Error('again')
    })
    await bench.start()
    await bench.reached((await flaky.enqueue()).id, 'FAILED')
    expect(fences).to.have.lengthOf(4)
    expect(fences).to.deep.equal([...new Set(fences)].sort((a, b) => a - b))
  })
})

overEveryWorker('Worker: limits of time', (bench) => {
  it('aborts the signal and fails the attempt at timeoutMs; a later end changes nothing', async () => {
    const gate = new Gate()
    let reason: unknown
    let ended = false
    const slow = task({ name: 'slow', takesContext: true, timeoutMs: 100 }, async ({ signal }) => {
      signal.addEventListener('abort', () => void (reason = signal.reason))
      await gate.pass()
      ended = true
      return 'too late'
    })
    const worker = await bench.start()
    const { id } = await slow.enqueue()
    const failed = await bench.reached(id, 'FAILED')
    expect(reason).to.be.instanceOf(TaskTimeoutError)
    expect(parsed(failed.errors)[0]).to.include({ name: 'TaskTimeoutError', code: 'ERR_TASKS_TIMEOUT' })
    gate.open()
    await eventually(() => ended)
    const after = task('after', () => null)
    await bench.reached((await after.enqueue()).id, 'SUCCESSFUL')
    expect(await bench.record(id)).to.deep.equal(failed)
    await eventually(() => worker.running === 0)
  })

  it('retries what timed out, as any other failure', async () => {
    const slow = task(
      { name: 'slow', takesContext: true, timeoutMs: 50, retry: { maxAttempts: 2, delayMs: 0 } },
      ({ attempt }) => (attempt === 1 ? new Promise<string>(() => {}) : 'in time'),
    )
    await bench.start()
    expect(await bench.reached((await slow.enqueue()).id, 'SUCCESSFUL')).to.include({ attempts: 2 })
  })
})

/** Every one of these is thrown; what a record shows of it. */
const THROWN: readonly (readonly [what: string, make: () => unknown, name: string])[] = [
  ['a string', () => 'text', 'NonError'],
  ['null', () => null, 'NonError'],
  ['undefined', () => undefined, 'NonError'],
  ['a symbol', () => Symbol('s'), 'NonError'],
  ['a BigInt', () => 10n, 'NonError'],
  ['a Proxy whose every trap throws', () => new Proxy({}, new Proxy({}, { get: () => thrower('trap') })), 'NonError'],
  [
    'an error whose getters throw',
    () =>
      Object.defineProperties(new Error('x'), {
        message: { get: thrower('message') },
        stack: { get: thrower('stack') },
      }),
    'Error',
  ],
  ['an error with a message of 10 MB', () => new Error('x'.repeat(10_000_000)), 'Error'],
  ['an error that causes itself', causesItself, 'Error'],
  ['an AbortError of its own', () => new DOMException('aborted', 'AbortError'), 'AbortError'],
]

const thrower = (text: string) => (): never => {
  throw new Error(`${text} bomb`)
}

function causesItself(): Error {
  const error = new Error('x')
  error.cause = error
  return error
}

const cycle: unknown[] = []
cycle.push(cycle)

const RETURNED: readonly (readonly [what: string, value: () => unknown])[] = [
  ['a BigInt', () => 10n],
  ['a function', () => () => 1],
  ['a circle', () => cycle],
  ['NaN', () => NaN],
  ['a Date', () => new Date()],
  ['6 MB of text', () => 'x'.repeat(6_000_000)],
  ['a thenable whose then throws', () => ({ then: thrower('then') })],
  [
    'a thenable that rejects with null',
    () => ({ then: (_: unknown, reject: (reason: unknown) => void) => reject(null) }),
  ],
  ['an object whose getter throws', () => Object.defineProperty({}, 'a', { enumerable: true, get: thrower('getter') })],
]

overEveryWorker('Worker: hostile tasks', (bench) => {
  for (const [what, make, name] of THROWN) {
    it(`fails an attempt that throws ${what}, and goes on`, async () => {
      const hostile = task({ name: 'hostile', retry: { maxAttempts: 2, delayMs: 0 } }, () => {
        throw make() as Error
      })
      const innocent = task('innocent', () => null)
      const worker = await bench.start()
      const record = await bench.reached((await hostile.enqueue()).id, 'FAILED')
      expect(record).to.include({ crashes: 0 })
      expect(parsed(record.errors)[0]?.name).to.equal(name)
      expect(Math.max(...record.errors.map((error) => error.length))).to.be.below(32_768)
      await bench.reached((await innocent.enqueue()).id, 'SUCCESSFUL')
      await eventually(() => worker.running === 0)
    })
  }

  for (const [what, value] of RETURNED) {
    it(`fails an attempt that returns ${what}, and goes on`, async () => {
      const hostile = task('hostile', value)
      const innocent = task('innocent', () => null)
      await bench.start()
      const record = await bench.reached((await hostile.enqueue()).id, 'FAILED')
      expect(record).to.include({ attempts: 1, crashes: 0, returnValue: null })
      await bench.reached((await innocent.enqueue()).id, 'SUCCESSFUL')
    })
  }

  it('runs others beside a task that never settles', async () => {
    const hung = task('hung', () => new Promise(() => {}))
    const innocent = task('innocent', () => null)
    const worker = await bench.start({ concurrency: 2 })
    const { id } = await hung.enqueue()
    await innocent.enqueueMany(Array.from({ length: 20 }, () => []))
    await eventually(async () => (await bench.counts())['SUCCESSFUL'] === 20)
    expect((await bench.record(id)).status).to.equal('RUNNING')
    expect(worker.running).to.equal(1)
  })
})

overRedisWorker('Worker: large results', (bench) => {
  it('settles many large results in calls that are answered in time', async () => {
    const large = task('large', () => 'x'.repeat(5_000_000))
    const results = await large.enqueueMany(Array.from({ length: 40 }, () => []))
    const worker = bench.make({ concurrency: 40, continuous: false })
    await worker.run()
    expect(worker.processed).to.equal(40)
    expect(await bench.counts()).to.include({ SUCCESSFUL: 40, READY: 0, RUNNING: 0 })
    // 200 MB, on a server that others use.
    await bench.backend.storage.delete(results.map(({ id }) => id))
  })
})

overEveryWorker('Worker: a task that is not known here', (bench) => {
  it('hands it back with a delay that grows, uncounted, until a worker knows it', async () => {
    const stranger = task('stranger', () => 'known at last')
    const neighbour = task('neighbour', () => null)
    taskRegistry.delete('stranger')
    const worker = await bench.start()
    const events = settledBy(worker)
    const { id } = await stranger.enqueue()
    const seen = new Map<number, number>()
    await eventually(async () => {
      const { handBacks, runAfter, status } = await bench.record(id)
      if (status === 'READY' && runAfter !== null) seen.set(handBacks, runAfter)
      return seen.size === 3
    })
    const [first = NaN, second = NaN, third = NaN] = [1, 2, 3].map((handBacks) => seen.get(handBacks))
    expect(second - first).to.be.at.least(500)
    expect(third - second).to.be.at.least(1_000)
    const record = await bench.record(id)
    expect(record).to.include({ attempts: 0, crashes: 0, startedAt: null, lastAttemptedAt: null })
    expect([record.workerIds, record.errors, events]).to.deep.equal([[], [], []])
    // Others are not held up by it.
    await bench.reached((await neighbour.enqueue()).id, 'SUCCESSFUL')
    taskRegistry.add(stranger)
    const done = await bench.reached(id, 'SUCCESSFUL')
    expect(done).to.include({ attempts: 1, returnValue: '"known at last"' })
  })

  it('is no task of maxTasks, and keeps a worker that is not continuous no longer than it takes to hand it back', async () => {
    const stranger = task('stranger', () => null)
    const known = task('known', () => null)
    taskRegistry.delete('stranger')
    await stranger.enqueueMany([[], [], []])
    await known.enqueueMany([[], []])
    await bench.make({ maxTasks: 2 }).run()
    expect(await bench.counts()).to.include({ READY: 3, SUCCESSFUL: 2 })
    await bench.make({ continuous: false }).run()
    expect(await bench.counts()).to.include({ READY: 3, SUCCESSFUL: 2 })
  })
})

overEveryWorker(
  'Worker: a task that nobody knows for too long',
  (bench) => {
    it('is FAILED with TaskNotRegisteredError, told to listeners, and a retry finds the task when it is there', async () => {
      const stranger = task('stranger', () => 'found')
      taskRegistry.delete('stranger')
      const finished: string[] = []
      bench.backend.on('taskFinished', ({ id, status }) => void finished.push(`${id} ${status}`))
      await bench.start()
      const { id } = await stranger.enqueue()
      const record = await bench.reached(id, 'FAILED')
      expect(record).to.include({ attempts: 0, crashes: 0 })
      expect(record.handBacks).to.be.at.least(2)
      expect(parsed(record.errors)[0]).to.include({ name: 'TaskNotRegisteredError', code: 'ERR_TASKS_NOT_REGISTERED' })
      await eventually(() => finished.length === 1)
      taskRegistry.add(stranger)
      await (await bench.backend.records.find(id)).retry()
      expect(await bench.reached(id, 'SUCCESSFUL')).to.include({ attempts: 1, handBacks: 0 })
    })

    it('is FAILED by the executor, too', async () => {
      const stranger = task('stranger', () => 'found')
      const { id } = await stranger.enqueue()
      taskRegistry.delete('stranger')
      const failed = await eventually(async () => {
        const [result] = await executor.processTasks()
        return result ?? false
      })
      expect(failed).to.include({ id, status: 'FAILED' })
    })
  },
  { unknownTaskTimeoutSeconds: 1 },
)

overEveryWorker(
  'Worker: retry options of a backend',
  (bench) => {
    it('hold for tasks that leave theirs out, option by option', async () => {
      const attemptsOf = async (retry?: RetryOptions): Promise<number> => {
        taskRegistry.delete('broken')
        const broken = task({ name: 'broken', ...(retry && { retry }) }, () => {
          throw new Error('always')
        })
        return (await bench.reached((await broken.enqueue()).id, 'FAILED')).attempts
      }
      await bench.start()
      expect(await attemptsOf()).to.equal(3)
      expect(await attemptsOf({ delayMs: 1 })).to.equal(3)
      expect(await attemptsOf({ maxAttempts: 2 })).to.equal(2)
      expect(await attemptsOf({ maxAttempts: 1 })).to.equal(1)
      expect(await attemptsOf({ retryIf: () => false })).to.equal(1)
    })

    it('are checked when the backend is made', () => {
      const wrong = { retry: { maxAtempts: 2 } as RetryOptions }
      expect(() => new MemoryTaskBackend(wrong)).to.throw(TaskOptionError, 'maxAttempts')
    })
  },
  { retry: { maxAttempts: 3, delayMs: 10, backoff: 'fixed' } },
)
