/**
 * What a worker says of itself with each heartbeat. A storage keeps it as flat text: here it is written, and read back with
 * suspicion, as anybody may have written there. What is malformed counts as not said.
 */
import { LAST_TIME_MS } from './clock.ts'
import type { Heartbeat, SeenWorker } from './storage/storage.ts'

/** So many tasks are named at most; a worker that names that many may know more. */
export const NAMED_TASKS = 1_000

/** A time during which an event loop did not turn. */
export interface Block {
  readonly ms: number
  /** `<name>/<id>` of what was in hand, last begun first; ten at most. */
  readonly tasks: readonly string[]
}

/** `endedAt`: epoch milliseconds. */
export type PastBlock = Block & { readonly endedAt: number }

export interface WorkerReport {
  readonly workerId: string
  readonly host: string
  readonly pid: string
  readonly node: string
  /** Of this package. */
  readonly version: string
  /** Epoch milliseconds; null where none was said. */
  readonly startedAt: number | null
  /** `running`, `draining` or `stopped`. */
  readonly state: string
  readonly concurrency: number
  readonly running: number
  readonly settled: number
  readonly lost: number
  /** Empty: all of them. */
  readonly queues: readonly string[]
  /** The names that its process has defined, NAMED_TASKS of them at most. */
  readonly tasks: readonly string[]
  readonly memoryBytes: number
  /** What holds its loop now. */
  readonly block?: Block | undefined
  /** The longest of the last ten minutes. */
  readonly longestBlock?: PastBlock | undefined
}

type Fields = Heartbeat['fields']

export function fieldsOf({ startedAt, queues, tasks, block, longestBlock, ...others }: WorkerReport): Fields {
  const { workerId, host, pid, node, version, state } = others
  return {
    ...{ workerId, host, pid, node, version, state },
    startedAt: String(startedAt ?? ''),
    concurrency: String(others.concurrency),
    running: String(others.running),
    settled: String(others.settled),
    lost: String(others.lost),
    queues: queues.join(' '),
    tasks: tasks.join(' '),
    memoryBytes: String(others.memoryBytes),
    ...(longestBlock && {
      longestBlockMs: String(longestBlock.ms),
      longestBlockTasks: longestBlock.tasks.join(' '),
      longestBlockAt: String(longestBlock.endedAt),
    }),
    ...(block && { blockedMs: String(block.ms), blockedTasks: block.tasks.join(' ') }),
  }
}

export function reportOf({ consumer, fields }: SeenWorker): WorkerReport {
  const startedAt = whole(fields['startedAt'])
  return {
    workerId: fields['workerId'] ?? consumer,
    host: fields['host'] ?? '',
    pid: fields['pid'] ?? '',
    node: fields['node'] ?? '',
    version: fields['version'] ?? '',
    startedAt: startedAt > 0 && startedAt <= LAST_TIME_MS ? startedAt : null,
    state: fields['state'] ?? '',
    concurrency: whole(fields['concurrency']),
    running: whole(fields['running']),
    settled: whole(fields['settled']),
    lost: whole(fields['lost']),
    queues: words(fields['queues']),
    tasks: words(fields['tasks']),
    memoryBytes: whole(fields['memoryBytes']),
    block: blockOf(fields['blockedMs'], fields['blockedTasks']),
    longestBlock: pastBlockOf(fields),
  }
}

function blockOf(ms: string | undefined, tasks: string | undefined): Block | undefined {
  return ms === undefined ? undefined : { ms: whole(ms), tasks: words(tasks) }
}

function pastBlockOf(fields: Fields): PastBlock | undefined {
  const block = blockOf(fields['longestBlockMs'], fields['longestBlockTasks'])
  return block && { ...block, endedAt: whole(fields['longestBlockAt']) }
}

function whole(text: string | undefined): number {
  const value = /^\d+$/.test(text ?? '') ? Number(text) : 0
  return Number.isSafeInteger(value) ? value : 0
}

function words(text: string | undefined): readonly string[] {
  return (text ?? '').split(' ').filter(Boolean)
}
