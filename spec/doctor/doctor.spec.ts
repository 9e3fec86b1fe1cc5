/** The doctor as one calls it: what it refuses, its summary, its end; on every backend, beside live workers, and at size. */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import RedisMock from 'ioredis-mock'
import { randomUUID } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import {
  doctor,
  DummyTaskBackend,
  ImmediateTaskBackend,
  MemoryTaskBackend,
  RedisTaskBackend,
  StorageClientError,
  StorageUnavailableError,
  task,
  TaskOptionError,
  Worker,
} from '../../lib/index.ts'
import type { TaskBackend } from '../../lib/index.ts'
import { documentedDoctorRules, makeDocumentedUser } from '../support/acl-user.ts'
import { eventually } from '../support/eventually.ts'
import { sharedRedisServer, startRedisServer } from '../support/redis-server.ts'
import { aRecord, failure, someRecords, success } from '../support/storage-builders.ts'
import { broken, ERROR, Patient, told } from './support.ts'

/** What a call throws, at once or later. */
async function thrownBy(call: () => unknown): Promise<unknown> {
  try {
    await call()
  } catch (error) {
    return error
  }
  throw new Error('expected an error, got: none')
}

describe('doctor', () => {
  it('refuses options that it does not know, and says which it does', async () => {
    await using patient = await Patient.open(undefined, { empty: true })
    const error = await thrownBy(() => doctor(patient.backend, { repairs: true } as object))
    expect(error).to.be.instanceOf(TaskOptionError).with.property('message').that.contains('repair')
  })

  for (const [name, backend] of [
    ['immediate', () => new ImmediateTaskBackend()],
    ['dummy', () => new DummyTaskBackend()],
  ] as const) {
    it(`refuses the ${name} backend, which keeps nothing, and names those that do`, async () => {
      await using opened = backend()
      const error = await thrownBy(() => doctor(opened))
      expect(error)
        .to.be.instanceOf(TaskOptionError)
        .with.property('message')
        .that.matches(/redis.*memory/)
    })
  }

  it('refuses ioredis-mock, which cannot tell, and names what can', async () => {
    const client = new RedisMock()
    try {
      await using backend = new RedisTaskBackend({ client, keyPrefix: `spec-${randomUUID()}` })
      const error = await thrownBy(() => doctor(backend).summary())
      expect(error).to.be.instanceOf(StorageClientError).with.property('message').that.contains('memory backend')
    } finally {
      client.disconnect()
    }
  })

  it('sends nothing before it is iterated', async () => {
    await using backend = new RedisTaskBackend({ redisUrl: 'redis://127.0.0.1:1' })
    expect(doctor(backend)).to.have.property('summary')
  })

  it('says that the storage went away, in the loop and in the summary', async () => {
    await using backend = new RedisTaskBackend({ redisUrl: 'redis://127.0.0.1:1' })
    const examination = doctor(backend)
    const inLoop = await thrownBy(async () => {
      for await (const finding of examination) expect(finding).to.equal(undefined)
    })
    expect(inLoop).to.be.instanceOf(StorageUnavailableError)
    expect(await thrownBy(() => examination.summary())).to.equal(inLoop)
  })

  it('sums up: records, keys, violations by invariant, and the server', async () => {
    await using patient = await Patient.open()
    await patient.redis.hset(patient.record('running'), 'leaseToken', '')
    await patient.redis.hset(patient.record('failed'), 'colour', 'red')
    const entryId = await patient.redis.xadd(patient.stream(), '*', 'id', patient.ids.failed)
    await patient.redis.hset(patient.record('failed'), 'entryId', entryId ?? '')
    const summary = await doctor(patient.backend).summary()
    expect(summary).to.deep.include({
      ...{ backendName: 'default', complete: true, records: 8, entries: 6, delayed: 1, leases: 2 },
      ...{ found: 4, repaired: 0, repairable: 2, left: 4 },
      byInvariant: {
        I2: { found: 1, repaired: 0 },
        I5: { found: 1, repaired: 0 },
        I6: { found: 1, repaired: 0 },
        I15: { found: 1, repaired: 0 },
      },
    })
    expect(summary.server)
      .to.have.property('kind')
      .that.matches(/redis|valkey/)
    expect(summary.keys).to.be.greaterThan(summary.records)
    expect(summary.tookMs).to.be.at.least(0)
    const after = await doctor(patient.backend, { repair: true }).summary()
    expect(after).to.include({ found: 3, repaired: 2, repairable: 0, left: 1 })
  })

  it('tells how far it is, up to the end', async () => {
    await using patient = await Patient.open()
    const told: { done: number; total: number }[] = []
    await doctor(patient.backend, { onProgress: (progress) => told.push(progress) }).summary()
    expect(told).to.not.have.lengthOf(0)
    for (const { done, total } of told) expect(done).to.be.at.most(total)
    expect(told.at(-1)?.done).to.equal(told.at(-1)?.total)
  })

  it('ends at a signal, and says that it did not see everything', async () => {
    await using patient = await Patient.open()
    const abort = new AbortController()
    abort.abort()
    const { summary } = await patient.examine({ signal: abort.signal })
    expect(summary).to.include({ complete: false, records: 0 })
  })

  it('says so too when nobody listens any more', async () => {
    await using patient = await Patient.open()
    await patient.redis.del(patient.cell('READY'))
    const examination = doctor(patient.backend)
    for await (const finding of examination) {
      expect(finding.invariant).to.equal('I3')
      break
    }
    expect(await examination.summary()).to.include({ complete: false, found: 1 })
  })

  it('leaves other backends and other applications on the server alone', async () => {
    await using patient = await Patient.open()
    await using other = await Patient.open()
    await other.redis.del(other.cell('READY'))
    await patient.redis.set(`{${patient.keyPrefix}2:default}:task:x`, 'x')
    await patient.redis.set(`{other.${patient.keyPrefix}:default}:task:x`, 'x')
    await patient.redis.set(`{${patient.keyPrefix}:default:3}:task:x`, 'x')
    expect(told((await patient.examine()).findings)).to.deep.equal([])
  })

  it('parses no payload in a script, and shows none: a secret in one is in no finding', async () => {
    await using patient = await Patient.open()
    await patient.redis.hset(patient.record('ready'), 'args', '["hunter2"')
    await patient.redis.hset(patient.record('failed'), 'errors', 'hunter2', 'returnValue', 'hunter2')
    const { findings, summary } = await patient.examine()
    expect(broken(findings)).to.deep.equal(['I2', 'I10'])
    expect(JSON.stringify([findings, summary])).to.not.include('hunter2')
  })

  it('passes over a due record that waits because its stream cannot be written', async () => {
    await using patient = await Patient.open(undefined, { empty: true })
    await patient.enqueue()
    await patient.redis.del(patient.stream('high'))
    await patient.redis.set(patient.stream('high'), 'x')
    await patient.enqueue({ priority: 1 })
    expect(broken((await patient.examine()).findings)).to.deep.equal(['I1'])
    await patient.redis.del(patient.stream('high'))
    expect(told((await patient.examine()).findings)).to.deep.equal([])
  })

  it('counts nothing as overdue where no worker is there for it', async () => {
    await using patient = await Patient.open(undefined, { empty: true })
    const at = Date.now() - 3_600_000
    const id = await patient.enqueue({ runAfter: Date.now() + 60_000 })
    await patient.redis.hset(patient.keys.record(id), 'runAfter', at)
    await patient.redis.zadd(patient.keys.delayed('mail'), at, id)
    for (const [fields, expected] of [
      [undefined, []],
      [{ queues: 'reports other' }, []],
      [{ state: 'draining' }, []],
      [{ startedAt: String(Date.now()) }, []],
      [{ queues: 'reports mail' }, ['I14']],
      [{}, ['I14']],
    ] as const) {
      if (fields) await patient.heartbeat(fields)
      expect(broken((await patient.examine()).findings), JSON.stringify(fields)).to.deep.equal(expected)
    }
  })

  it('mends a task that nobody would ever have run: it runs once', async () => {
    await using patient = await Patient.open(undefined, { empty: true })
    const name = `spec-${randomUUID()}`
    const ids = [await patient.enqueue({ name }), await patient.enqueue({ name }), await patient.enqueue({ name })]
    const [lost = '', acknowledged = ''] = ids
    // One entry is gone, one was handed to somebody and acknowledged
    await patient.redis.xreadgroup(
      'GROUP',
      'express_tasks_workers',
      'dead',
      'COUNT',
      2,
      'STREAMS',
      patient.stream(),
      '>',
    )
    const entryOf = async (id: string): Promise<string> =>
      (await patient.redis.hget(patient.keys.record(id), 'entryId')) ?? ''
    await patient.redis.xdel(patient.stream(), await entryOf(lost))
    await patient.redis.xack(patient.stream(), 'express_tasks_workers', await entryOf(acknowledged))
    expect((await patient.examine({ repair: true })).summary).to.include({ left: 0 })
    let runs = 0
    task({ name, queueName: 'mail' }, () => void (runs += 1))
    const worker = new Worker(patient.backend, { continuous: false })
    await worker.run()
    expect(runs).to.equal(3)
    expect(await patient.backend.records.filter({ name }).countBy('status')).to.include({ SUCCESSFUL: 3 })
    expect(told((await patient.examine()).findings)).to.deep.equal([])
  })
})

describe('doctor, beside live workers', function () {
  this.timeout(90_000)

  it('finds nothing while producers and two workers are busy, and repairs nothing', async () => {
    await using patient = await Patient.open(undefined, { empty: true })
    const name = `spec-${randomUUID()}`
    let failures = 0
    task({ name, queueName: 'mail', retry: { maxAttempts: 2, delayMs: 10 } }, (n: number) => {
      if (n % 10 !== 0) return n
      failures += 1
      throw new Error('no')
    })
    const workers = [1, 2].map(
      (n) =>
        new Worker(patient.backend, {
          workerId: `busy-${n}`,
          ...{ intervalSeconds: 0.05, claimIntervalSeconds: 0.2, concurrency: 20 },
        }),
    )
    const abort = new AbortController()
    let enqueued = 0
    const produce = async (priority: number): Promise<void> => {
      while (!abort.signal.aborted) {
        const waiting = patient.backend.records.filter({ name, status: 'READY' })
        await eventually(async () => abort.signal.aborted || (await waiting.count()) < 300, { timeoutMs: 60_000 })
        const records = someRecords(50, { name, priority }).map((record, index) => ({
          ...record,
          args: `[${index}]`,
          runAfter: index % 5 === 0 ? Date.now() + 50 : null,
        }))
        await patient.backend.storage.enqueue(records)
        enqueued += records.length
        const [first, second] = records
        await patient.backend.storage.save(first?.id ?? '', { priority: -priority })
        await patient.backend.storage.delete([second?.id ?? ''])
      }
    }
    const producers = [produce(1), produce(0)]
    let rounds = 0
    let looked = 0
    try {
      await Promise.all(workers.map((worker) => worker.start()))
      const until = performance.now() + 5_000
      while (performance.now() < until || rounds < 3) {
        // Half of them with leave to mend: nothing must need it. What is overdue depends on the machine, not on the storage.
        const { findings, summary } = await patient.examine({ repair: rounds % 2 === 1, intervalSeconds: 60 })
        expect(told(findings)).to.deep.equal([])
        expect(summary.complete).to.equal(true)
        rounds += 1
        looked += summary.records
      }
    } finally {
      abort.abort()
      await Promise.all(producers)
      await Promise.all(workers.map((worker) => worker.stop()))
    }
    console.log(
      `      ${rounds} rounds over ${looked} records in all, ${enqueued} enqueued, ${failures} attempts failed`,
    )
    expect(rounds).to.be.at.least(2)
    expect(failures).to.be.greaterThan(0)
    expect(told((await patient.examine()).findings)).to.deep.equal([])
  })
})

/** What is still in use: garbage that waits for its collection says nothing. */
function keptBytes(): number {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  collectGarbage()
  return process.memoryUsage().heapUsed
}

describe('doctor, at size', function () {
  this.timeout(180_000)

  it('walks 100,000 records in batches, with memory that does not grow with them', async () => {
    await using server = await startRedisServer()
    await using patient = await Patient.open(server.url, { empty: true })
    for (let left = 100_000; left > 0; left -= 1_000) await patient.backend.storage.enqueue(someRecords(1_000))
    const before = keptBytes()
    let most = 0
    let calls = 0
    const onProgress = (): void => {
      calls += 1
      if (calls % 100 === 0) most = Math.max(most, keptBytes())
    }
    const summary = await doctor(patient.backend, { onProgress }).summary()
    const slowest = (await patient.redis.call('SLOWLOG', 'GET', '1')) as [number, number, number][]
    console.log(
      `      ${summary.records} records in ${(summary.tookMs / 1_000).toFixed(1)} s, heap +${((most - before) / 1e6).toFixed(1)} MB at most, seen ${Math.floor(calls / 100)} times, slowest command of ${slowest[0]?.[2] ?? '< 10000'} µs`,
    )
    expect(summary).to.include({ records: 100_000, entries: 100_000, found: 0, complete: true })
    expect(calls).to.be.at.least(1_000)
    expect(most - before).to.be.at.most(10e6)
  })
})

describe('doctor, as a user with few rights', () => {
  it('needs the commands that docs/redis-keys.md names, and no others', async function () {
    await using server = await startRedisServer()
    const admin = new Redis(server.url)
    try {
      await using patient = await Patient.open(server.url)
      const user = { name: 'app', password: 'secret', keyPrefix: patient.keyPrefix }
      if (!(await makeDocumentedUser(admin, user))) this.skip()
      await patient.redis.del(patient.keys.leases, patient.stream(), patient.keys.cells, patient.cell('FAILED'))
      await patient.redis.expire(patient.stream('high'), 900)
      await patient.redis.hset(patient.record('failed'), 'colour', 'red')
      const entryId = await patient.redis.xadd(patient.stream(), '*', 'id', patient.ids.failed)
      await patient.redis.hset(patient.record('failed'), 'entryId', entryId ?? '')
      await patient.redis.zadd(patient.keys.workers, 5, 'half')
      await patient.redis.xadd(patient.stream('low'), '*', 'id', randomUUID())
      const redisUrl = server.url.replace('//', `//${user.name}:${user.password}@`)
      await using backend = new RedisTaskBackend({ redisUrl, keyPrefix: patient.keyPrefix, queues: [] })
      const refused = await thrownBy(() => doctor(backend, { repair: true }).summary())
      expect(refused).to.be.instanceOf(StorageUnavailableError)
      const [persist, ...reading] = documentedDoctorRules().sort((one) => (one === '+persist' ? -1 : 1))
      expect(persist).to.equal('+persist')
      await admin.call('ACL', 'SETUSER', user.name, ...reading)
      expect(await doctor(backend).summary()).to.include({ repaired: 0, complete: true })
      await admin.call('ACL', 'SETUSER', user.name, '+persist')
      expect(await doctor(backend, { repair: true }).summary()).to.deep.include({ left: 1, complete: true })
      expect(await doctor(backend).summary()).to.deep.include({ byInvariant: { I2: { found: 1, repaired: 0 } } })
    } finally {
      admin.disconnect()
    }
  })
})

describe('doctor, over several shards', () => {
  it('examines each, and finds a record that stands on the wrong one', async () => {
    const { url } = await sharedRedisServer()
    const keyPrefix = `spec-${randomUUID()}`
    await using backend = new RedisTaskBackend({ redisUrl: url, keyPrefix, shards: 3, queues: [] })
    await using patient = await Patient.open(undefined, { empty: true })
    await backend.storage.enqueue(someRecords(60))
    expect(await doctor(backend).summary()).to.include({ records: 60, entries: 60, found: 0 })
    const [key = ''] = await patient.redis.keys(`{${keyPrefix}:default:1}:task:*`)
    const elsewhere = key.replace(':1}', ':2}')
    await patient.redis.hset(elsewhere, await patient.redis.hgetall(key))
    const findings = []
    for await (const finding of doctor(backend, { repair: true })) findings.push(finding)
    expect(findings.map(({ invariant, key: found }) => `${invariant} ${found.slice(-8)}`)).to.include(
      `I1 ${elsewhere.slice(-8)}`,
    )
  })
})

const CANCELLED = '{"name":"TaskCancelledError","message":"cancelled"}'

/** Every move that leaves a record behind, by every way there is. */
async function liveThrough(backend: TaskBackend): Promise<void> {
  const { queue, storage } = backend
  const records = someRecords(12, { priority: 1 }).map((record, index) => ({ ...record, priority: (index % 3) - 1 }))
  const ids = records.map(({ id }) => id)
  await storage.enqueue(records)
  await storage.cancel(ids.slice(0, 1), 'cancel-1', CANCELLED)
  await storage.save(ids[1] ?? '', { priority: 50, runAfter: Date.now() + 60_000 })
  await storage.delete(ids.slice(2, 3))
  const { begun } = await queue.take(6, { queueNames: ['mail'] })
  const [ok, failed, later, back, cancelled] = begun
  if (!ok || !failed || !later || !back || !cancelled) throw new Error('expected six deliveries, got: fewer')
  await queue.settle([
    success(ok),
    failure(failed, ERROR),
    { ...failure(later, ERROR), outcome: 'READY', delayMs: 5_000 },
  ])
  await queue.requeue([back.lease])
  await storage.cancel([cancelled.record.id], 'cancel-2', CANCELLED)
  await storage.retry([failed.record.id], 'retry-1')
  await queue.runById(later.record.id, false)
}

describe('doctor, after every move of a record', () => {
  it('finds nothing on Redis', async () => {
    await using patient = await Patient.open(undefined, { empty: true })
    await liveThrough(patient.backend)
    const { findings, summary } = await patient.examine()
    expect(told(findings)).to.deep.equal([])
    expect(summary).to.include({ records: 11 })
  })

  it('finds nothing on memory', async () => {
    await using backend = new MemoryTaskBackend({ queues: [] })
    await liveThrough(backend)
    expect(await doctor(backend).summary()).to.deep.include({ records: 11, byInvariant: {} })
  })
})

describe('doctor, on memory', () => {
  it('finds nothing where work was done', async () => {
    await using backend = new MemoryTaskBackend({ queues: [] })
    const name = `spec-${randomUUID()}`
    task({ name }, (n: number) => {
      if (n === 1) throw new Error('no')
      return n
    })
    const runAfter = Date.now() + 60_000
    await backend.storage.enqueue(
      [0, 1, 2].map((n) => aRecord({ name, args: `[${n}]`, runAfter: n === 2 ? runAfter : null })),
    )
    await new Worker(backend, { continuous: false }).run()
    expect(await doctor(backend).summary()).to.include({ records: 3, delayed: 1, entries: 0, leases: 0, found: 0 })
  })
})
