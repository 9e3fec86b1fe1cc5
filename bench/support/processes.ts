/** Starts the processes of a measurement and hears what they measured. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { ContenderName } from '../contenders/contender.ts'
import type { Job, Measured, Message } from './child.ts'

/** The Node that runs the contenders: `BENCH_NODE`, else this one. */
export const NODE = process.env['BENCH_NODE'] ?? process.execPath
const TIMEOUT_MS = 180_000
const children = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

export function start(job: Job, hear: (message: Message) => void): { child: ChildProcess; ended: Promise<void> } {
  const child = fork(new URL('./child.ts', import.meta.url), [JSON.stringify(job)], {
    execPath: NODE,
    execArgv: ['--import', 'tsx', ...(process.env['BENCH_NODE_ARGS']?.split(' ') ?? [])],
    // Standard output is the report's.
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  children.add(child)
  child.on('message', (message) => hear(message as Message))
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS)
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      clearTimeout(timer)
      children.delete(child)
      if (code === 0) resolve()
      else reject(new Error(`expected ${job.contender} ${job.kind} to end well, got: ${signal ?? code}`))
    })
  })
  return { child, ended }
}

/** Runs one job to its end. */
export async function measure(job: Job): Promise<Measured> {
  let measured: Measured | undefined
  await start(job, (message) => {
    if ('measured' in message) measured = message.measured
  }).ended
  if (!measured) throw new Error(`expected ${job.contender} ${job.kind} to answer, got: nothing`)
  return measured
}

/** Microseconds from enqueue to start, one for each task sent to an idle worker. */
export async function latencies(contender: ContenderName, url: string, count: number): Promise<number[]> {
  const values: number[] = []
  const ready = gate()
  const producing: { current?: ReturnType<typeof start> } = {}
  const worker = start({ contender, url, kind: 'serve', count: 1, width: 10 }, (message) => {
    if ('ready' in message) ready.open()
    if (!('startedAfterUs' in message)) return
    values.push(message.startedAfterUs)
    producing.current?.child.send('started')
  })
  await Promise.race([ready.opened, worker.ended])
  const producer = start({ contender, url, kind: 'ping', count, width: 1 }, (message) => {
    if ('ready' in message) producer.child.send('go')
  })
  producing.current = producer
  await producer.ended
  worker.child.send('stop')
  await worker.ended
  // The first few find code that was never run.
  return values.slice(Math.min(20, Math.floor(count / 10)))
}

/** Tasks a second, end to end, while producers and workers are at it at the same time. */
export async function crowd(contender: ContenderName, url: string, count: number, each: number): Promise<number> {
  let settled = 0
  let firstUs = Infinity
  let lastUs = 0
  const all = gate()
  const gates: ReturnType<typeof gate>[] = []
  const workers = Array.from({ length: each }, () => {
    const ready = gate()
    gates.push(ready)
    return start({ contender, url, kind: 'serve', count: 0, width: 100 }, (message) => {
      if ('ready' in message) ready.open()
      if (!('settled' in message)) return
      settled += message.settled
      firstUs = Math.min(firstUs, message.firstUs)
      lastUs = Math.max(lastUs, message.lastUs)
      if (settled >= count) all.open()
    })
  })
  await Promise.all(gates.map(({ opened }) => opened))
  const producers = Array.from({ length: each }, () =>
    measure({ contender, url, kind: 'enqueue', count: Math.floor(count / each), width: 250 }),
  )
  await Promise.all([...producers, all.opened])
  for (const { child } of workers) child.send('stop')
  await Promise.all(workers.map(({ ended }) => ended))
  return count / ((lastUs - firstUs) / 1e6)
}

export function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => (open = resolve))
  return { opened, open }
}
