/**
 * A backend with an hour of believable work in it, made in a moment: memory storage whose clock is set back and moved on.
 * For pictures and for specs of pages; the same on every run but for ids and times of day.
 */
import { randomUUID } from 'node:crypto'
import { StorageTaskBackend } from '../../../lib/backends/storage-task-backend.ts'
import { systemClock } from '../../../lib/clock.ts'
import type { Clock } from '../../../lib/clock.ts'
import { silentLogger } from '../../../lib/logger.ts'
import { MemoryStorage } from '../../../lib/storage/memory/memory-storage.ts'
import type { Delivery, Heartbeat, Settlement } from '../../../lib/storage/storage.ts'
import type { NewRecord } from '../../../lib/storage/stored-record.ts'

/** The system's clock, so many milliseconds late. */
class LateClock implements Clock {
  lateMs = 0
  readonly monotonicMs = (): number => systemClock.monotonicMs()
  readonly setTimeout: Clock['setTimeout'] = (fn, ms) => systemClock.setTimeout(fn, ms)
  readonly clearTimeout: Clock['clearTimeout'] = (timer) => systemClock.clearTimeout(timer)

  now(): number {
    return systemClock.now() - this.lateMs
  }
}

export class DemoBackend extends StorageTaskBackend {
  readonly clock: LateClock

  constructor(alias = 'default', clock = new LateClock()) {
    super({ alias, queues: [], logger: silentLogger }, new MemoryStorage({ clock }), {
      claimTimeoutSeconds: 300,
      maxCrashes: 3,
      unknownTaskTimeoutSeconds: 86_400,
      blockTimeoutMs: 5_000,
      completedTaskTtlSeconds: 604_800,
    })
    this.clock = clock
  }
}

/** Whole numbers of 0 to below `end`, the same on every run. */
function dice(): (end: number) => number {
  let state = 20_260_101
  return (end) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * end)
  }
}

const PEOPLE = ['ada', 'grace', 'edsger', 'barbara', 'linus', 'margaret', 'donald', 'frances']
const KINDS = [
  {
    name: 'sendEmail',
    queueName: 'mail',
    share: 55,
    runMs: 240,
    args: (n: number) => [
      `${PEOPLE[n % 8]}@example.com`,
      'Your order has shipped',
      { order: 48_000 + n, items: (n % 5) + 1 },
    ],
  },
  {
    name: 'images.resize',
    queueName: 'media',
    share: 25,
    runMs: 1_900,
    args: (n: number) => [{ key: `uploads/2026/${n}.jpg`, widths: [320, 640, 1280], format: 'webp' }],
  },
  {
    name: 'reports.build',
    queueName: 'reports',
    share: 6,
    runMs: 9_500,
    args: (n: number) => ['monthly', `2026-${String((n % 12) + 1).padStart(2, '0')}`],
  },
  {
    name: 'webhook.deliver',
    queueName: 'default',
    share: 14,
    runMs: 420,
    args: (n: number) => ['https://hooks.example.com/orders', { id: n, event: 'order.paid' }],
  },
] as const

const FAILURES: Readonly<Record<string, readonly [name: string, message: string]>> = {
  sendEmail: ['SmtpError', '451 4.7.1 Greylisted, try again in 300 seconds'],
  'images.resize': ['Error', 'Input buffer contains unsupported image format'],
  'reports.build': ['QueryTimeoutError', 'canceling statement due to statement timeout after 30000 ms'],
  'webhook.deliver': [
    'FetchError',
    'request to https://hooks.example.com/orders failed, reason: connect ECONNREFUSED 203.0.113.7:443',
  ],
}

const stackOf = (name: string, message: string, task: string): string =>
  [
    `${name}: ${message}`,
    `    at ${task} (/srv/shop/tasks/${task.split('.')[0] ?? task}.js:42:11)`,
    '    at async retryOnce (/srv/shop/lib/retry.js:17:5)',
    '    at Socket.onData (/srv/shop/node_modules/smtp-client/lib/connection.js:311:14)',
    '    at Socket.emit (node:events:524:28)',
    '    at TCP.onStreamRead (node:internal/stream_base_commons:191:23)',
  ].join('\n')

function outcomeOf({ lease, record }: Delivery, fails: boolean): Settlement {
  const [name, message] = FAILURES[record.name] ?? ['Error', 'it failed']
  const error = { name, message, stack: stackOf(name, message, record.name), attempt: record.attempts }
  return fails
    ? { lease, outcome: 'FAILED', payload: JSON.stringify(error), delayMs: 0 }
    : { lease, outcome: 'SUCCESSFUL', payload: JSON.stringify({ ok: true, id: record.id.slice(0, 8) }), delayMs: 0 }
}

/** An hour of work, what waits now, and the workers that are at it. */
export async function demoBackend(alias = 'default', { scale = 1 }: { scale?: number } = {}): Promise<DemoBackend> {
  const backend = new DemoBackend(alias)
  const { storage, clock } = backend
  const roll = dice()
  let made = 0
  const record = (fields: Partial<NewRecord> = {}): NewRecord => {
    made += 1
    let pick = roll(100)
    const kind = KINDS.find(({ share }) => (pick -= share) < 0) ?? KINDS[0]
    const { name, queueName } = kind
    const priority = roll(12) === 0 ? 50 : 0
    return {
      id: randomUUID(),
      name,
      queueName,
      priority,
      runAfter: null,
      args: JSON.stringify(kind.args(made)),
      ...fields,
    }
  }
  let call = 0
  const claim = (worker: string): { consumer: string; workerId: string; call: string; leaseMs: number } => {
    call += 1
    return {
      consumer: `${worker}.h`,
      workerId: worker,
      call: `${worker.replace(/\W/g, '_')}.${call}`,
      leaseMs: 300_000,
    }
  }
  const queueNames = ['default', 'mail', 'media', 'reports']
  const hour = 62 * 60_000
  clock.lateMs = hour
  const steps = 62 * 4
  for (let step = 0; step < steps; step++) {
    const busy = 6 + Math.round(5 * Math.sin(step / 28)) + roll(5)
    await storage.enqueue(Array.from({ length: Math.max(1, Math.round((busy * scale) / 2)) }, () => record()))
    clock.lateMs -= 60 + roll(900)
    const taken = await storage.take({ ...claim(`web-${(step % 2) + 1}:4121`), queueNames, count: 1_000 })
    for (const delivery of taken.begun) {
      const { runMs } = KINDS.find(({ name }) => name === delivery.record.name) ?? KINDS[0]
      const fails = roll(100) < (delivery.record.name === 'webhook.deliver' ? 9 : 3)
      clock.lateMs -= Math.min(400, Math.round((runMs * (40 + roll(160))) / 100 / 8))
      await storage.settle([outcomeOf(delivery, fails)])
    }
    clock.lateMs = Math.min(clock.lateMs, hour - (step + 1) * 15_000)
  }
  // One record that failed, was put back, failed again, with a large argument.
  const [retried] = [
    record({
      name: 'webhook.deliver',
      queueName: 'default',
      args: JSON.stringify([
        'https://hooks.example.com/orders',
        {
          id: 9_007_199_254,
          lines: Array.from({ length: 60 }, (_, line) => ({
            sku: `SKU-${1_000 + line}`,
            quantity: (line % 4) + 1,
            price: 12.5 + line,
          })),
        },
      ]),
    }),
  ]
  clock.lateMs = 40_000
  await storage.enqueue([retried])
  for (const late of [31_000, 12_000]) {
    clock.lateMs = late
    const { begun } = await storage.take({ ...claim('web-2:4121'), queueNames: ['default'], count: 1_000 })
    clock.lateMs = late - 4_000
    await storage.settle(begun.map((delivery) => outcomeOf(delivery, delivery.record.id === retried.id)))
    if (late === 31_000) await storage.retry([retried.id], randomUUID())
  }
  clock.lateMs = 9_000
  await storage.enqueue(Array.from({ length: 38 }, () => record()))
  clock.lateMs = 4_000
  await storage.take({ ...claim('web-1:4121'), queueNames: ['media', 'reports', 'mail'], count: 7 })
  await storage.enqueue(Array.from({ length: 9 }, (_, n) => record({ runAfter: clock.now() + (n + 1) * 600_000 })))
  clock.lateMs = 0
  const tasks = KINDS.map(({ name }) => name).join(' ')
  for (const [index, host] of ['web-1', 'web-2'].entries()) {
    const fields: Heartbeat['fields'] = {
      workerId: `${host}:4121`,
      host: `${host}.example.internal`,
      pid: '4121',
      node: process.version,
      version: '0.1.0',
      startedAt: String(clock.now() - (index + 1) * 7_700_000),
      state: 'running',
      concurrency: '10',
      running: index === 0 ? '7' : '0',
      settled: String(48_211 - index * 1_930),
      lost: '0',
      queues: '',
      tasks,
      memoryBytes: String(96_000_000 + index * 7_000_000),
    }
    await storage.heartbeat({ consumer: `${host}:4121.h`, fields })
  }
  return backend
}
