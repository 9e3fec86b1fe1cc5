/** The questions, and how one contender answers them in one round. */
import type { ContenderName } from '../contenders/contender.ts'
import { crowd, latencies, measure } from './processes.ts'
import type { ServerWatch } from './server-figures.ts'

/** `more`: a higher figure is better. `target`: of ours to BullMQ's, in one run. */
export interface Question {
  readonly text: string
  readonly unit: '/s' | 'µs' | 'B'
  readonly better: 'more' | 'less'
}

export const QUESTIONS = {
  enqueue: { text: 'enqueue one by one, 500 in flight', unit: '/s', better: 'more' },
  enqueueBatch: { text: 'enqueue in batches of 1000', unit: '/s', better: 'more' },
  process1: { text: 'process, concurrency 1', unit: '/s', better: 'more' },
  process10: { text: 'process, concurrency 10', unit: '/s', better: 'more' },
  process100: { text: 'process, concurrency 100', unit: '/s', better: 'more' },
  latency50: { text: 'enqueue to start, idle worker, median', unit: 'µs', better: 'less' },
  latency99: { text: 'enqueue to start, idle worker, p99', unit: 'µs', better: 'less' },
  crowd: { text: 'two producers and two workers at once', unit: '/s', better: 'more' },
  scripts: { text: "server's time in scripts a task, concurrency 100", unit: 'µs', better: 'less' },
  serverCpu: { text: "server's CPU a task, concurrency 100", unit: 'µs', better: 'less' },
  scripts10: { text: "server's time in scripts a task, one by one, concurrency 10", unit: 'µs', better: 'less' },
  producerCpu: { text: "producer's CPU a task, one by one", unit: 'µs', better: 'less' },
  workerCpu1: { text: "worker's CPU a task, concurrency 1", unit: 'µs', better: 'less' },
  workerCpu: { text: "worker's CPU a task, concurrency 100", unit: 'µs', better: 'less' },
  waitingBytes: { text: 'bytes in Redis of a waiting task', unit: 'B', better: 'less' },
  finishedBytes: { text: 'bytes in Redis of a finished task', unit: 'B', better: 'less' },
} as const satisfies Record<string, Question>

export type QuestionName = keyof typeof QUESTIONS
export type Answers = Partial<Record<QuestionName, number>>

interface Turn {
  readonly contender: ContenderName
  readonly url: string
  readonly watch: ServerWatch
  readonly count: number
}

/** Each group of questions is one sequence on an empty server. */
export const SCENARIOS = {
  async single({ contender, url, watch, count }: Turn): Promise<Answers> {
    const before = await watch.read()
    const enqueued = await measure({ contender, url, kind: 'enqueue', count, width: 500 })
    const waiting = await watch.read()
    const processed = await measure({ contender, url, kind: 'process', count, width: 10 })
    const after = await watch.read()
    return {
      enqueue: count / enqueued.seconds,
      producerCpu: enqueued.cpuUs / count,
      waitingBytes: (waiting.memoryBytes - before.memoryBytes) / count,
      process10: count / processed.seconds,
      scripts10: after.scriptsUs / count,
    }
  },

  async batch({ contender, url, watch, count }: Turn): Promise<Answers> {
    const before = await watch.read()
    const enqueued = await measure({ contender, url, kind: 'enqueueBatch', count, width: 1_000 })
    const processed = await measure({ contender, url, kind: 'process', count, width: 100 })
    const after = await watch.read()
    return {
      enqueueBatch: count / enqueued.seconds,
      process100: count / processed.seconds,
      workerCpu: processed.cpuUs / count,
      scripts: after.scriptsUs / count,
      serverCpu: (after.cpuUs - before.cpuUs) / count,
      finishedBytes: (after.memoryBytes - before.memoryBytes) / count,
    }
  },

  async alone({ contender, url, count }: Turn): Promise<Answers> {
    await measure({ contender, url, kind: 'enqueueBatch', count, width: 1_000 })
    const processed = await measure({ contender, url, kind: 'process', count, width: 1 })
    return { process1: count / processed.seconds, workerCpu1: processed.cpuUs / count }
  },

  async latency({ contender, url, count }: Turn): Promise<Answers> {
    if (contender === 'raw') return {}
    const values = (await latencies(contender, url, Math.min(count, 520))).sort((a, b) => a - b)
    const at = (share: number): number => values[Math.floor(values.length * share)] ?? NaN
    return { latency50: at(0.5), latency99: at(0.99) }
  },

  async crowd({ contender, url, count }: Turn): Promise<Answers> {
    return contender === 'raw' ? {} : { crowd: await crowd(contender, url, count, 2) }
  },
} as const

export type ScenarioName = keyof typeof SCENARIOS
export const SCENARIO_NAMES = Object.keys(SCENARIOS) as ScenarioName[]

/** One scenario of one contender on an emptied server. */
export async function play(name: ScenarioName, turn: Turn): Promise<Answers> {
  await turn.watch.clear()
  return await SCENARIOS[name](turn)
}
