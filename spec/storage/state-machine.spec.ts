/**
 * Random sequences of verbs, compared with the model after every step: answers, every record, every cell, every place.
 * The seed is printed; FC_SEED and FC_PATH run one sequence again, FC_RUNS more of them.
 */
import { expect } from 'chai'
import fc from 'fast-check'
import { MemoryStorage } from '../../lib/storage/memory/memory-storage.ts'
import type { Claim, Delivery, HandBackDelay, RecordChanges, Settlement } from '../../lib/storage/storage.ts'
import { isFinal, TASK_STATUSES, type FinalStatus } from '../../lib/task-status.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { cells, depthOf, idsOf, QUEUE, read, TASK } from '../support/storage-builders.ts'
import { SITUATIONS, StorageModel, type Situation } from '../support/storage-model.ts'

const IDS = ['id-0', 'id-1', 'id-2', 'id-3']
const WORKERS = ['w0', 'w1', 'w2']
const CRASH_LIMIT = 1
const CRASH_ERROR = '{"name":"TaskCrashedError"}'
const RUNS = Number(process.env['FC_RUNS'] ?? 300)

/** A storage, and what a world around it remembers: the calls made and the leases that were ever handed out. */
class World {
  readonly clock = new ManualClock()
  readonly storage = new MemoryStorage({ clock: this.clock })
  readonly leases: Delivery[] = []
  readonly #lastCalls = new Map<string, Claim>()
  #calls = 0

  /** A new call of a worker, or its last one sent again. */
  claim(worker: string, leaseMs: number, again: boolean): Claim {
    const last = this.#lastCalls.get(worker)
    if (again && last) return last
    this.#calls += 1
    const claim = { consumer: `${worker}.h`, workerId: worker, call: `${worker}_h.${this.#calls}`, leaseMs }
    this.#lastCalls.set(worker, claim)
    return claim
  }

  /**
   * From here on every call is a new one. A call is sent again while its answer is missing; not after what it began was
   * handed back or deleted, as the attempt's number is given out again then, and only another call makes another token.
   */
  endCalls(): void {
    this.#lastCalls.clear()
  }

  /** Any delivery there ever was, 0 the youngest: with luck a live one, else one that somebody still believes in. */
  lease(age: number): Delivery | undefined {
    return this.leases.at(-1 - (age % Math.max(1, this.leases.length)))
  }
}

type Verb =
  | 'enqueue' | 'save' | 'delete' | 'retry' | 'cancel' | 'purge' | 'promote' | 'take' | 'recover' | 'runById' | 'settle' | 'requeue'
  | 'renew' | 'reclaim' | 'advance' // prettier-ignore

/** How often a verb met a record in each situation. */
const met = new Map<Verb, Map<Situation, number>>()

function note(verb: Verb, situation: Situation): void {
  const row = met.get(verb) ?? new Map<Situation, number>()
  met.set(verb, row.set(situation, (row.get(situation) ?? 0) + 1))
}

abstract class Step implements fc.AsyncCommand<StorageModel, World> {
  readonly verb: Verb

  constructor(verb: Verb) {
    this.verb = verb
  }

  check(): boolean {
    return true
  }

  async run(model: StorageModel, world: World): Promise<void> {
    const now = world.clock.now()
    for (const id of this.targets(world)) note(this.verb, model.situation(id, now))
    await this.act(model, world, now)
    await compare(model, world)
  }

  /** The records that the step is about. */
  targets(_world: World): readonly string[] {
    return IDS
  }

  abstract toString(): string

  abstract act(model: StorageModel, world: World, now: number): Promise<void>
}

/** A step from its parts: what it is called, what it is about, and what it does. */
function step<Input>(
  verb: Verb,
  arbitrary: fc.Arbitrary<Input>,
  act: (input: Input, model: StorageModel, world: World, now: number) => Promise<void>,
  targets: (input: Input, world: World) => readonly string[] = () => IDS,
): fc.Arbitrary<Step> {
  return arbitrary.map(
    (input) =>
      new (class extends Step {
        act(model: StorageModel, world: World, now: number): Promise<void> {
          return act(input, model, world, now)
        }

        override targets(world: World): readonly string[] {
          return targets(input, world)
        }

        override toString(): string {
          return `${verb}(${JSON.stringify(input)})`
        }
      })(verb),
  )
}

/** What the storage shows equals the model, and the invariants that verbs can tell hold: I3 to I6, I8, I10, I15. */
async function compare(model: StorageModel, { storage }: World): Promise<void> {
  for (const id of IDS) {
    const expected = model.records.get(id)
    const [found] = await storage.find([id])
    if (!expected) {
      expect(found, id).to.equal(undefined)
      continue
    }
    const record = await read(storage, id)
    expect(record).to.deep.equal(model.expected(expected, record))
    expect(record.entryId === '').to.equal(!model.entryOf(id))
    expect(record.leaseToken === '').to.equal(record.status !== 'RUNNING')
    expect(record.finishedAt !== null).to.equal(isFinal(record.status))
    expect(record.attempts).to.be.at.least(record.crashes)
    expect(record.returnValue !== null).to.equal(record.status === 'SUCCESSFUL')
    expect(Number.isSafeInteger(record.fence)).to.equal(true)
    const times = [record.enqueuedAt, record.startedAt, record.lastAttemptedAt, record.finishedAt].filter(
      (time) => time !== null,
    )
    expect(times).to.deep.equal(times.toSorted((a, b) => a - b))
  }
  for (const [index, status] of TASK_STATUSES.entries()) {
    const members = model.withStatus(status).map(({ id, enqueuedAt }) => ({ id, enqueuedAt }))
    members.sort((a, b) => a.enqueuedAt - b.enqueuedAt || (a.id < b.id ? -1 : 1))
    const cell = { queueName: QUEUE, name: TASK, status }
    expect(await storage.list({ cells: [cell], order: 'oldest', size: 99 })).to.deep.equal(members)
    expect((await storage.count(cells()))[index]).to.equal(members.length)
  }
  expect(await depthOf(storage)).to.deep.equal({ entries: model.entries.length, delayed: model.delayed().length })
  for (const worker of WORKERS) {
    const holds = model.entries.some(({ consumer }) => consumer === `${worker}.h`)
    expect(await storage.forget(`${worker}.h`)).to.equal(holds ? 'KEPT' : 'FORGOTTEN')
  }
}

const id = fc.constantFrom(...IDS)
const ids = fc.uniqueArray(id, { minLength: 1, maxLength: 3 })
const worker = fc.constantFrom(...WORKERS)
const leaseMs = fc.constantFrom(1, 50, 10_000)
const again = fc.nat(2).map((n) => n === 0)
const priority = fc.constantFrom(-100, 0, 0, 7, 100)
/** From now on; `null` is at once. */
const delay = fc.constantFrom(null, null, -50, 1, 200)
const which = fc.oneof(fc.nat(2), fc.nat(1000))
const runAfterOf = (delayMs: number | null, now: number): number | null => (delayMs === null ? null : now + delayMs)
const leaseTarget = ({ which }: { which: number }, world: World): readonly string[] => {
  const delivery = world.lease(which)
  return delivery ? [delivery.lease.id] : []
}

/** A step that should come more often than the others. */
const often = (arbitrary: fc.Arbitrary<Step>): fc.Arbitrary<Step>[] => [arbitrary, arbitrary, arbitrary]

const steps: fc.Arbitrary<Step>[] = [
  ...often(
    step(
      'enqueue',
      fc.record({ ids, priority, delay }),
      async ({ ids, priority, delay }, model, { storage }, now) => {
        const runAfter = runAfterOf(delay, now)
        const records = ids.map((id) => ({ id, name: TASK, queueName: QUEUE, priority, runAfter, args: '[]' }))
        const expected = records.map((record) => model.enqueue(record, now))
        expect((await storage.enqueue(records)).map(({ word }) => word)).to.deep.equal(expected)
      },
      ({ ids }) => ids,
    ),
  ),
  step(
    'save',
    fc.record({ id, priority: fc.option(priority, { nil: undefined }), delay: fc.option(delay, { nil: undefined }) }),
    async ({ id, priority, delay }, model, { storage }, now) => {
      const changes: RecordChanges = {
        ...(priority === undefined ? {} : { priority }),
        ...(delay === undefined ? {} : { runAfter: runAfterOf(delay, now) }),
      }
      expect(await storage.save(id, changes)).to.equal(model.save(id, changes, now))
    },
    ({ id }) => [id],
  ),
  step(
    'delete',
    id,
    async (id, model, world) => {
      world.endCalls()
      expect(await world.storage.delete([id])).to.deep.equal([model.delete(id)])
    },
    (id) => [id],
  ),
  step(
    'retry',
    fc.record({ ids, request: fc.constantFrom('p.1', 'p.2', 'p.3') }),
    async ({ ids, request }, model, { storage }, now) => {
      expect(await storage.retry(ids, request)).to.deep.equal(ids.map((id) => model.retry(id, request, now)))
    },
    ({ ids }) => ids,
  ),
  step(
    'cancel',
    fc.record({ ids, request: fc.constantFrom('c.1', 'c.2', 'c.3') }),
    async ({ ids, request }, model, { storage }, now) => {
      const error = '{"name":"C"}'
      expect(await storage.cancel(ids, request, error)).to.deep.equal(
        ids.map((id) => model.cancel(id, request, error, now)),
      )
    },
    ({ ids }) => ids,
  ),
  step(
    'purge',
    fc.record({
      status: fc.constantFrom<FinalStatus>('SUCCESSFUL', 'FAILED'),
      finishedForMs: fc.constantFrom(0, 100),
      limit: fc.constantFrom(1, 2, 200),
      dryRun: fc.boolean(),
    }),
    async ({ status, finishedForMs, limit, dryRun }, model, world, now) => {
      world.endCalls()
      const cell = { queueName: QUEUE, name: TASK, status }
      const expected = model.purge(status, finishedForMs, dryRun, now)
      let matched = 0
      let position = ''
      let calls = 0
      do {
        expect((calls += 1), 'a walk that does not end').to.be.below(100)
        const answer = await world.storage.purge({ cell, finishedForMs, limit, dryRun, position })
        matched += answer.matched
        position = answer.next
      } while (position !== '')
      expect(matched).to.equal(expected)
    },
  ),
  step('promote', fc.constant(null), async (_input, model, { storage }, now) => {
    const { length: moved } = model.promote(now)
    const due = model.delayed().map(({ runAfter }) => (runAfter ?? 0) - now)
    const dueInMs = due.length > 0 ? Math.min(...due) : null
    expect(await storage.promote(QUEUE)).to.deep.equal({ moved, dueInMs })
  }),
  ...often(
    step('take', fc.record({ worker, leaseMs, again, count: fc.nat(3) }), async (input, model, world, now) => {
      const claim = world.claim(input.worker, input.leaseMs, input.again)
      const taken = await world.storage.take({ ...claim, queueNames: [QUEUE], count: input.count })
      world.leases.push(...taken.begun)
      expect({ begun: idsOf(taken), passed: taken.passed }).to.deep.equal(model.take(claim, input.count, now))
    }),
  ),
  step(
    'recover',
    fc.record({ worker, leaseMs, again, count: fc.nat(3), inHand: fc.uniqueArray(id, { maxLength: 2 }) }),
    async (input, model, world, now) => {
      const claim = world.claim(input.worker, input.leaseMs, false)
      const inHand = new Set(input.inHand)
      for (let sent = 0; sent < (input.again ? 2 : 1); sent++) {
        const taken = await world.storage.recover({ ...claim, queueNames: [QUEUE], count: input.count, inHand })
        world.leases.push(...taken.begun)
        const expected = model.recover(claim, input.count, inHand, now)
        expect({ begun: idsOf(taken), passed: taken.passed }).to.deep.equal(expected)
      }
      world.endCalls()
    },
  ),
  ...often(
    step(
      'runById',
      fc.record({ worker, leaseMs, again, id, allowRetry: fc.boolean() }),
      async (input, model, world, now) => {
        const claim = world.claim(input.worker, input.leaseMs, input.again)
        const answer = await world.storage.runById(claim, input.id, input.allowRetry)
        if (typeof answer !== 'string') world.leases.push(answer)
        const expected = model.runById(claim, input.id, input.allowRetry, now)
        expect(typeof answer === 'string' ? answer : 'BEGUN').to.equal(expected)
      },
      ({ id }) => [id],
    ),
  ),
  ...often(
    step(
      'settle',
      fc.record({
        which,
        outcome: fc.constantFrom<Settlement['outcome']>('SUCCESSFUL', 'FAILED', 'READY'),
        delayMs: fc.constantFrom(0, 150),
        twice: again,
      }),
      async ({ which, outcome, delayMs, twice }, model, world, now) => {
        const delivery = world.lease(which)
        if (!delivery) return
        const item = { lease: delivery.lease, outcome, payload: '{"name":"E"}', delayMs }
        const items = twice ? [item, item] : [item]
        expect(await world.storage.settle(items)).to.deep.equal(items.map((each) => model.settle(each, now)))
      },
      leaseTarget,
    ),
  ),
  step(
    'requeue',
    fc.record({
      which,
      delay: fc.constantFrom<HandBackDelay>('none', 'growing', { failAfterMs: 100, error: '{"name":"U"}' }),
    }),
    async ({ which, delay }, model, world, now) => {
      const delivery = world.lease(which)
      if (!delivery) return
      const { id, token } = delivery.lease
      world.endCalls()
      expect(await world.storage.requeue([delivery.lease], delay)).to.deep.equal([model.requeue(id, token, delay, now)])
    },
    leaseTarget,
  ),
  step(
    'renew',
    fc.record({ which, worker, leaseMs, starts: fc.boolean() }),
    async ({ which, worker, leaseMs, starts }, model, world, now) => {
      const delivery = world.lease(which)
      if (!delivery) return
      const expected = model.renew(`${worker}.h`, leaseMs, starts, delivery.lease, now)
      expect(await world.storage.renew(`${worker}.h`, leaseMs, [delivery.lease], { starts })).to.deep.equal([expected])
    },
    leaseTarget,
  ),
  ...often(
    step(
      'reclaim',
      fc.record({ worker, leaseMs, count: fc.nat(3), idleMs: fc.constantFrom(0, 500) }),
      async ({ worker, leaseMs, count, idleMs }, model, world, now) => {
        const claim = world.claim(worker, leaseMs, false)
        const stream = { queueName: QUEUE, band: 'normal' } as const
        const request = {
          ...claim,
          stream,
          cursor: '',
          count,
          crashLimit: CRASH_LIMIT,
          idleMs,
          crashError: CRASH_ERROR,
        }
        const answer = await world.storage.reclaim(request)
        world.leases.push(...answer.begun)
        const expected = model.reclaim(claim, count, CRASH_LIMIT, CRASH_ERROR, now)
        expect({ begun: idsOf(answer), crashed: answer.crashed }).to.deep.equal(expected)
        expect({ passed: answer.passed, next: answer.next }).to.deep.equal({ passed: 0, next: '' })
      },
    ),
  ),
  ...often(
    step('advance', fc.constantFrom(1, 1, 50, 100, 250, 20_000), async (ms, _model, { clock }) => {
      clock.advance(ms)
      return Promise.resolve()
    }),
  ),
]

/** The steps that are about chosen records, each of which must have met every situation. */
const AIMED: readonly Verb[] = ['enqueue', 'save', 'delete', 'retry', 'cancel', 'runById', 'settle', 'requeue', 'renew']

describe('random sequences of verbs', () => {
  /** A world with something in it, so that short sequences, too, get somewhere: one record of each kind of outcome to come. */
  async function started(): Promise<{ model: StorageModel; real: World }> {
    const [model, real] = [new StorageModel(), new World()]
    const now = real.clock.now()
    const [a, b, c] = IDS.map((id, index) => {
      const runAfter = index === 2 ? now + 100 : null
      return { id, name: TASK, queueName: QUEUE, priority: 0, runAfter, args: '[]' }
    })
    if (!a || !b || !c) throw new Error('expected three ids')
    for (const record of [a, b, c]) model.enqueue(record, now)
    await real.storage.enqueue([a, b, c])
    const claim = real.claim('w0', 100, false)
    model.take(claim, 1, now)
    real.leases.push(...(await real.storage.take({ ...claim, queueNames: [QUEUE], count: 1 })).begun)
    return { model, real }
  }

  it(`memory storage follows the model (${RUNS} runs)`, async function () {
    this.timeout(600_000)
    const seed = Number(process.env['FC_SEED'] ?? Date.now() & 0x7fffffff)
    const path = process.env['FC_PATH']
    console.log(`      seed ${seed}`)
    const sequence = fc.commands(steps, { maxCommands: 40, size: 'max' })
    await fc.assert(
      fc.asyncProperty(sequence, async (commands) => fc.asyncModelRun(started, commands)),
      { numRuns: RUNS, seed, ...(path === undefined ? {} : { path }) },
    )
  })

  it('met every situation with every verb that is about a record', () => {
    const table = AIMED.map((verb) => [verb, ...SITUATIONS.map((situation) => met.get(verb)?.get(situation) ?? 0)])
    console.log(
      [['', ...SITUATIONS], ...table]
        .map((row) => `      ${row.map((cell) => String(cell).padEnd(11)).join('')}`)
        .join('\n'),
    )
    for (const [verb, ...counts] of table) expect(counts, String(verb)).to.not.include(0)
  })
})
