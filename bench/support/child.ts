/**
 * One measurement of one contender, in a process of its own: `child.ts '<job as JSON>'`. Tells its parent the result over IPC.
 * Jobs: enqueue one by one, enqueue in batches, process what waits, serve (until told to stop, telling each start or count).
 */
import { loadContender, nowUs, payload } from '../contenders/contender.ts'
import type { ContenderName, Payload } from '../contenders/contender.ts'

export interface Job {
  readonly contender: ContenderName
  readonly url: string
  readonly kind: 'enqueue' | 'enqueueBatch' | 'process' | 'ping' | 'serve'
  readonly count: number
  /** Of a worker; or calls in flight, or the size of a batch. */
  readonly width: number
}

/** `seconds` from the first task to the last; `cpuUs` of this whole process, its threads included, meanwhile. */
export interface Measured {
  readonly seconds: number
  readonly cpuUs: number
}

export type Message =
  | { readonly ready: true }
  | { readonly measured: Measured }
  /** Microseconds from just before enqueue to the call of the function. */
  | { readonly startedAfterUs: number }
  /** Since the last such message; `firstUs` is when the first of all was enqueued, `lastUs` when the last was settled. */
  | { readonly settled: number; readonly firstUs: number; readonly lastUs: number }

const job = JSON.parse(process.argv[2] ?? '{}') as Job
const contender = await loadContender(job.contender)
const say = (message: Message): void => void process.send?.(message)
const told = (word: string): Promise<void> =>
  new Promise((resolve) => {
    process.on('message', (message) => message === word && resolve())
  })

/** `width` callers, each of which waits for its answer before it goes on. */
async function enqueue(): Promise<Measured> {
  const producer = await contender.produce(job.url)
  const start = begin()
  let next = 0
  const caller = async (): Promise<void> => {
    while (next < job.count) await producer.enqueue(payload(next++))
  }
  await Promise.all(Array.from({ length: job.width }, caller))
  const measured = start()
  await producer.close()
  return measured
}

async function enqueueBatch(): Promise<Measured> {
  const producer = await contender.produce(job.url)
  const start = begin()
  for (let from = 0; from < job.count; from += job.width) {
    const length = Math.min(job.width, job.count - from)
    await producer.enqueueBatch(Array.from({ length }, (_, index) => payload(from + index)))
  }
  const measured = start()
  await producer.close()
  return measured
}

/** From the first call of the function until `count` are settled; what comes before is the start of a process. */
async function processAll(): Promise<Measured> {
  let start: (() => Measured) | undefined
  let settled = 0
  const { promise, resolve } = withResolvers<Measured>()
  const handle = (): Promise<void> => {
    start ??= begin()
    return Promise.resolve()
  }
  const consumer = await contender.consume(job.url, {
    concurrency: job.width,
    handle,
    settled: () => {
      settled += 1
      if (settled === job.count && start) resolve(start())
    },
  })
  const measured = await promise
  await consumer.close()
  return measured
}

/** One task at a time to a worker that is idle; the parent passes on when each began. */
async function ping(): Promise<Measured> {
  const producer = await contender.produce(job.url)
  const start = begin()
  for (let index = 0; index < job.count; index += 1) {
    const done = told('started')
    await producer.enqueue(payload(index))
    await done
    process.removeAllListeners('message')
    // Long enough for the worker to settle it and to wait again.
    await new Promise((resolve) => setTimeout(resolve, 3 + Math.random() * 3))
  }
  const measured = start()
  await producer.close()
  return measured
}

async function serve(): Promise<void> {
  let settled = 0
  let timer: NodeJS.Timeout | undefined
  const flush = (): void => {
    timer = undefined
    if (settled > 0) say({ settled, firstUs, lastUs })
    settled = 0
  }
  let firstUs = Infinity
  let lastUs = 0
  const handle = ({ sentUs }: Payload): Promise<void> => {
    if (sentUs < firstUs) firstUs = sentUs
    if (job.count === 1) say({ startedAfterUs: nowUs() - sentUs })
    return Promise.resolve()
  }
  const consumer = await contender.consume(job.url, {
    concurrency: job.width,
    handle,
    settled: () => {
      settled += 1
      lastUs = nowUs()
      timer ??= setTimeout(flush, 5)
    },
  })
  say({ ready: true })
  await told('stop')
  await consumer.close()
}

function begin(): () => Measured {
  const [fromUs, cpu] = [nowUs(), process.cpuUsage()]
  return () => {
    const used = process.cpuUsage(cpu)
    return { seconds: (nowUs() - fromUs) / 1e6, cpuUs: used.user + used.system }
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((yes) => (resolve = yes))
  return { promise, resolve }
}

switch (job.kind) {
  case 'serve':
    await serve()
    break
  case 'enqueue':
    say({ measured: await enqueue() })
    break
  case 'enqueueBatch':
    say({ measured: await enqueueBatch() })
    break
  case 'process':
    say({ measured: await processAll() })
    break
  case 'ping':
    say({ ready: true })
    await told('go')
    say({ measured: await ping() })
    break
}
// Connections that a contender keeps, and its blocking reads, are not waited for.
process.disconnect()
process.exit(0)
