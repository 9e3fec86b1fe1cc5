/**
 * Each kind of violation, by the invariant that it breaks first: how it is planted behind the storage's back, what else is broken by
 * it, and what a repair leaves, because it is only reported.
 */
import { randomUUID } from 'node:crypto'
import type { DoctorOptions } from '../../lib/index.ts'
import type { Invariant } from '../../lib/storage/invariants.ts'
import { ERROR, GROUP } from './support.ts'
import type { Patient, State } from './support.ts'

export interface Plant {
  readonly what: string
  readonly plant: (patient: Patient) => Promise<unknown>
  /** What is broken by it, in the order of their numbers. */
  readonly breaks: readonly Invariant[]
  /** What is still broken after a repair. */
  readonly leaves: readonly Invariant[]
  readonly options?: DoctorOptions
}

type Act = Plant['plant']

const HOUR_MS = 3_600_000
const now = (): number => Date.now()

/** Only reported: a repair leaves it as it is. */
function reported(what: string, breaks: readonly Invariant[], plant: Act): Plant {
  return { what, plant, breaks, leaves: breaks }
}

function mended(what: string, breaks: readonly Invariant[], plant: Act, options: DoctorOptions = {}): Plant {
  return { what, plant, breaks, leaves: [], options }
}

function set(state: State, ...fields: readonly (string | number)[]): Act {
  return (patient) => patient.redis.hset(patient.record(state), ...fields)
}

function unset(state: State, ...fields: readonly string[]): Act {
  return (patient) => patient.redis.hdel(patient.record(state), ...fields)
}

/** A string where another type belongs. */
function spoil(key: (patient: Patient) => string): Act {
  return async (patient) => {
    await patient.redis.del(key(patient))
    await patient.redis.set(key(patient), 'not what belongs here')
  }
}

async function addEntry({ redis }: Patient, stream: string, id: string): Promise<string> {
  return (await redis.xadd(stream, '*', 'id', id)) ?? ''
}

/** An entry that is on a pending list, for an id. */
async function addPending(patient: Patient, id: string): Promise<string> {
  const stream = patient.stream('high')
  const entryId = await addEntry(patient, stream, id)
  await patient.redis.xreadgroup('GROUP', GROUP, 'dead.holder', 'COUNT', 9, 'STREAMS', stream, '>')
  return entryId
}

const entryOf = (patient: Patient, state: State): Promise<string> => patient.field(state, 'entryId')

const dropEntry = (state: State): Act => {
  return async (patient) => await patient.redis.xdel(patient.stream(), await entryOf(patient, state))
}

const acknowledge = (state: State): Act => {
  return async (patient) => await patient.redis.xack(patient.stream(), GROUP, await entryOf(patient, state))
}

/** Puts all times of a finished record so far back that it should have been removed long ago. */
const old: Act = async (patient) => {
  const at = now() - 30 * 24 * HOUR_MS
  await patient.redis.hset(patient.record('successful'), {
    ...{ enqueuedAt: at, startedAt: at, lastAttemptedAt: at, finishedAt: at },
  })
  await patient.redis.zadd(patient.cell('SUCCESSFUL'), at, patient.ids.successful)
}

const stranger = (): string => randomUUID()

export const PLANTS: Readonly<Record<Invariant, readonly Plant[]>> = {
  I1: [
    reported('a record that is a string', ['I1'], ({ redis, keys }) => redis.set(keys.record(stranger()), 'x')),
    {
      ...reported(
        'a stream that is a string',
        ['I1', 'I4', 'I15'],
        spoil((patient) => patient.stream()),
      ),
      leaves: ['I1', 'I15'],
    },
    ...(['delayed', 'cell', 'cells', 'queues', 'leases'] as const).map((kind) =>
      reported(
        `${kind} that is a string`,
        ['I1', 'I15'],
        spoil((patient) => {
          if (kind === 'delayed') return patient.keys.delayed('mail')
          return kind === 'cell' ? patient.cell('READY') : patient.keys[kind]
        }),
      ),
    ),
    reported(
      'workers that is a string',
      ['I1'],
      spoil(({ keys }) => keys.workers),
    ),
    reported(
      'the fields of a worker that are a string',
      ['I1'],
      spoil(({ keys, backend }) => keys.worker(backend.queue.consumer)),
    ),
    reported('counts that are a string', ['I1'], ({ redis, keys }) => redis.set(keys.stats(1), 'x', 'EX', 100)),
    reported('a key of no known kind', ['I1'], ({ redis, keys }) => redis.set(`${keys.root}nonsense`, 'x')),
    reported('a stream of no band', ['I1'], async (patient) => {
      await addEntry(patient, `${patient.keys.root}stream:mail:urgent`, patient.ids.ready)
    }),
    reported('counts of no minute', ['I1'], async ({ redis, keys }) => {
      await redis.hset(`${keys.root}stats:now`, 'mail:SUCCESSFUL:1', '1')
      await redis.expire(`${keys.root}stats:now`, 1_000)
    }),
    reported('a record whose id is no UUID', ['I1'], (patient) => patient.enqueue({ id: 'one' })),
    reported('a key beside the root, of a client with a prefix', ['I1'], ({ redis, keys }) =>
      redis.set(`app:${keys.record(stranger())}`, 'x'),
    ),
    reported('a key beside the root, without its colon', ['I1'], ({ redis, keys }) =>
      redis.set(keys.root.slice(0, -1), 'x'),
    ),
  ],
  I2: [
    ...['name', 'queueName', 'status', 'args', 'enqueuedAt'].map((field) =>
      reported(`a record without its ${field}`, ['I2'], unset('ready', field)),
    ),
    reported('an unknown status', ['I2'], set('ready', 'status', 'WAITING')),
    reported('arguments with a piece too many', ['I2'], set('ready', 'args2', ']')),
    reported('a priority out of range', ['I2'], set('ready', 'priority', 101)),
    reported('a number that is none', ['I2'], set('ready', 'enqueuedAt', 'yesterday')),
    reported('a number as scripts do not read it', ['I2'], set('running', 'attempts', '0x1')),
    reported('a fence that is no safe integer', ['I2'], set('running', 'fence', '9007199254740993')),
    reported('args that are no JSON', ['I2'], set('ready', 'args', '[1,')),
    reported('args that are no list', ['I2'], set('ready', 'args', '{"to":1}')),
    reported('a returnValue that is no JSON', ['I2'], set('successful', 'returnValue', 'done')),
    reported('an error that is no JSON', ['I2'], set('failed', 'errors', `oops\n${ERROR}`)),
    reported('a field that no record has', ['I2'], set('ready', 'colour', 'red')),
    reported('args that are not UTF-8', ['I2'], ({ redis, ...patient }) => {
      return redis.call('HSET', patient.keys.record(patient.ids.ready), 'args', Buffer.from('["\xff"]', 'latin1'))
    }),
    reported('worker ids that are not UTF-8', ['I2'], ({ redis, ...patient }) => {
      return redis.call('HSET', patient.keys.record(patient.ids.failed), 'workerIds', Buffer.from('\xff', 'latin1'))
    }),
  ],
  I3: [
    mended('no row in its cell', ['I3', 'I15'], async (patient) => {
      // Another row in its place, so that only the row is missing and not their number.
      await patient.redis.zrem(patient.cell('READY'), patient.ids.ready)
    }),
    mended('a row with another score', ['I3'], (patient) =>
      patient.redis.zadd(patient.cell('FAILED'), 1, patient.ids.failed),
    ),
    mended('a row in the cell of another status as well', ['I3', 'I15'], (patient) =>
      patient.redis.zadd(patient.cell('RUNNING'), now(), patient.ids.successful),
    ),
    mended('a row in the cell of another queue as well', ['I3', 'I15'], async (patient) => {
      await patient.enqueue({ queueName: 'reports' })
      await patient.redis.zadd(patient.cell('FAILED', 'reports'), now(), patient.ids.failed)
    }),
    mended('a row without a record', ['I3', 'I15'], (patient) =>
      patient.redis.zadd(patient.cell('SUCCESSFUL'), 5, stranger()),
    ),
  ],
  I4: [
    mended('READY with a token', ['I4'], set('ready', 'leaseToken', '1:somebody.1')),
    mended('READY whose entry is gone', ['I4', 'I15'], dropEntry('ready')),
    mended('READY, handed out, acknowledged and never begun', ['I4'], acknowledge('delivered')),
    mended('READY without its entry’s id', ['I4', 'I7'], set('ready', 'entryId', '')),
    mended('READY with an entry and a row in delayed', ['I4', 'I15'], (patient) =>
      patient.redis.zadd(patient.keys.delayed('mail'), now() + HOUR_MS, patient.ids.ready),
    ),
    mended('READY of another band than its stream', ['I4'], set('ready', 'priority', 50)),
    mended('READY whose stream is gone', ['I4', 'I5', 'I15'], (patient) => patient.redis.del(patient.stream())),
    mended('delayed without its row', ['I4', 'I15'], (patient) =>
      patient.redis.zrem(patient.keys.delayed('mail'), patient.ids.delayed),
    ),
    mended('delayed with the id of an entry that is not there', ['I4'], set('delayed', 'entryId', '1-1')),
  ],
  I5: [
    mended('RUNNING without a token', ['I5'], set('running', 'leaseToken', '')),
    mended('RUNNING without a fence', ['I5', 'I10'], unset('running', 'fence')),
    mended('RUNNING without a deadline', ['I5'], unset('running', 'leaseUntil')),
    mended('RUNNING without a row in leases', ['I5', 'I15'], (patient) =>
      patient.redis.zrem(patient.keys.leases, patient.ids.running),
    ),
    mended('RUNNING of another band than its stream', ['I5'], set('running', 'priority', 50)),
    mended('RUNNING whose entry is gone', ['I5', 'I8', 'I15'], dropEntry('running')),
    mended('RUNNING whose entry was acknowledged', ['I5'], acknowledge('running')),
    mended('no leases at all', ['I5', 'I15'], (patient) => patient.redis.del(patient.keys.leases)),
  ],
  I6: [
    mended('finished with an entry', ['I6', 'I15'], async (patient) => {
      const entryId = await addEntry(patient, patient.stream(), patient.ids.successful)
      await set('successful', 'entryId', entryId)(patient)
    }),
    reported('finished at no time', ['I6'], unset('failed', 'finishedAt')),
  ],
  I7: [
    mended('an entry without a record', ['I7', 'I15'], (patient) => addEntry(patient, patient.stream(), stranger())),
    mended('an entry without an id', ['I7', 'I15'], ({ redis, ...patient }) => {
      return redis.xadd(patient.keys.stream('mail', 'low'), '*', 'colour', 'red')
    }),
    mended('two entries for one record', ['I7', 'I15'], (patient) =>
      addEntry(patient, patient.stream(), patient.ids.ready),
    ),
    mended('an entry in the stream of another band', ['I7', 'I15'], async (patient) => {
      await patient.redis.xadd(patient.stream('low'), '99999999999999-0', 'id', patient.ids.ready)
    }),
    mended('an entry of a record that is delayed', ['I7', 'I15'], (patient) =>
      addEntry(patient, patient.stream(), patient.ids.delayed),
    ),
    mended('an entry of a record that finished', ['I7', 'I15'], (patient) =>
      addEntry(patient, patient.stream(), patient.ids.failed),
    ),
  ],
  I8: [
    mended('a pending row whose entry is gone', ['I8'], async (patient) => {
      await patient.redis.xdel(patient.stream('high'), await addPending(patient, stranger()))
    }),
    mended('a pending row of a record that finished', ['I8', 'I15'], (patient) =>
      addPending(patient, patient.ids.successful),
    ),
  ],
  I9: [
    mended('a row in delayed without a record', ['I9', 'I15'], (patient) =>
      patient.redis.zadd(patient.keys.delayed('mail'), 5, stranger()),
    ),
    mended('a row in delayed of a record that runs', ['I9', 'I15'], (patient) =>
      patient.redis.zadd(patient.keys.delayed('mail'), 5, patient.ids.running),
    ),
    mended('a row in delayed of another queue', ['I9', 'I15'], async (patient) => {
      await patient.enqueue({ queueName: 'reports' })
      await patient.redis.zadd(patient.keys.delayed('reports'), 5, patient.ids.ready)
    }),
    mended('a row in delayed with another score', ['I9'], (patient) =>
      patient.redis.zadd(patient.keys.delayed('mail'), now() + 2 * HOUR_MS, patient.ids.delayed),
    ),
    mended('a lease without a record', ['I9', 'I15'], (patient) =>
      patient.redis.zadd(patient.keys.leases, now() + HOUR_MS, stranger()),
    ),
    mended('a lease of a record that is READY', ['I9', 'I15'], (patient) =>
      patient.redis.zadd(patient.keys.leases, now() + HOUR_MS, patient.ids.ready),
    ),
    mended('a lease of a record that finished', ['I9', 'I15'], (patient) =>
      patient.redis.zadd(patient.keys.leases, now() + HOUR_MS, patient.ids.failed),
    ),
    mended('a lease with another score', ['I9'], (patient) =>
      patient.redis.zadd(patient.keys.leases, now() + 2 * HOUR_MS, patient.ids.running),
    ),
  ],
  I10: [
    reported('more attempts than worker ids', ['I10'], set('running', 'attempts', 2)),
    reported('more crashes than attempts', ['I10'], set('running', 'crashes', 2)),
    reported('begun before it was enqueued', ['I10'], set('running', 'startedAt', 5)),
    reported('finished before it began', ['I10'], async (patient) => {
      await set('successful', 'startedAt', now() + HOUR_MS, 'lastAttemptedAt', now() + 2 * HOUR_MS)(patient)
    }),
    reported('FAILED with a returnValue', ['I10'], set('failed', 'returnValue', '1')),
    reported('FAILED without an error', ['I10'], unset('failed', 'errors')),
    reported('FAILED with the error of another attempt', ['I10'], set('failed', 'errors', ERROR.replace(':1}', ':9}'))),
  ],
  I11: [
    mended('an unfinished record that expires', ['I11'], ({ redis, ...patient }) =>
      redis.expire(patient.keys.record(patient.ids.ready), 900),
    ),
    mended('a finished record that expires before its retention ends', ['I11'], ({ redis, ...patient }) =>
      redis.expire(patient.keys.record(patient.ids.failed), 900),
    ),
    ...(['leases', 'queues', 'cells', 'workers'] as const).map((kind) =>
      mended(`${kind} that expires`, ['I11'], ({ redis, keys }) => redis.expire(keys[kind], 900)),
    ),
    mended('a stream that expires', ['I11'], (patient) => patient.redis.expire(patient.stream(), 900)),
    mended('a cell that expires', ['I11'], (patient) => patient.redis.expire(patient.cell('READY'), 900)),
    mended('delayed that expires', ['I11'], ({ redis, keys }) => redis.expire(keys.delayed('mail'), 900)),
    mended('counts that never expire', ['I11'], ({ redis, keys }) => redis.hset(keys.stats(1), 'mail:wait:1', '1')),
  ],
  I12: [
    mended('a queue that is not listed', ['I12', 'I15'], ({ redis, keys }) => redis.srem(keys.queues, 'mail')),
    mended('a task name that is not listed', ['I12', 'I15'], ({ redis, keys }) => redis.srem(keys.cells, 'mail:send')),
  ],
  I13: [
    mended('a stream without its group', ['I13'], (patient) =>
      patient.redis.xgroup('DESTROY', patient.stream('high'), GROUP),
    ),
    reported('a stream with a group that is not ours', ['I13'], (patient) =>
      patient.redis.xgroup('CREATE', patient.stream(), 'others', '$'),
    ),
    mended(
      'a consumer that has nothing, says nothing and was idle for long',
      ['I13'],
      async (patient) => {
        // It read an entry, which another one took over.
        const stream = patient.stream('high')
        await patient.redis.xreadgroup('GROUP', GROUP, 'gone.holder', 'COUNT', 1, 'STREAMS', stream, '>')
        await patient.redis.xclaim(stream, GROUP, 'dead.holder', 0, await entryOf(patient, 'high'), 'JUSTID')
      },
      // 10 intervals: 100 ms.
      { claimIntervalSeconds: 0.01 },
    ),
    mended('a heartbeat without its fields', ['I13'], ({ redis, keys }) =>
      redis.zadd(keys.workers, now(), 'gone.holder'),
    ),
    mended('the fields of a worker without its heartbeat', ['I13'], ({ redis, keys }) =>
      redis.hset(keys.worker('gone.holder'), 'workerId', 'gone'),
    ),
  ],
  I14: [
    reported('a lease that ran out long ago', ['I14'], async (patient) => {
      const at = now() - HOUR_MS
      await set('running', 'leaseUntil', at)(patient)
      await patient.redis.zadd(patient.keys.leases, at, patient.ids.running)
    }),
    reported('a record that was due long ago', ['I14'], async (patient) => {
      const at = now() - HOUR_MS
      await set('delayed', 'runAfter', at)(patient)
      await patient.redis.zadd(patient.keys.delayed('mail'), at, patient.ids.delayed)
    }),
    reported('a record that outlived its retention', ['I14'], old),
  ],
  I15: [
    reported('a cell of more rows than records', ['I1', 'I15'], async (patient) => {
      // The row of a record that cannot be read is left alone.
      const id = stranger()
      await patient.redis.set(patient.keys.record(id), 'x')
      await patient.redis.zadd(patient.keys.delayed('mail'), now() + HOUR_MS, id)
    }),
  ],
}
