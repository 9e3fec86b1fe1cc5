/** What a benchmark asks of each contender: a producer, and a worker that does nothing with what it is handed. */

/** About 120 bytes of JSON. */
export interface Payload {
  readonly text: string
  readonly index: number
  /** `process.hrtime` in microseconds: one clock for all processes of a machine. */
  readonly sentUs: number
}

export const payload = (index: number): Payload => ({ text: 'x'.repeat(60), index, sentUs: nowUs() })

export const nowUs = (): number => Number(process.hrtime.bigint() / 1_000n)

export interface Producer {
  enqueue(payload: Payload): Promise<unknown>
  /** In as few round trips as it can. */
  enqueueBatch(payloads: readonly Payload[]): Promise<unknown>
  close(): Promise<unknown>
}

export interface ConsumerOptions {
  readonly concurrency: number
  /** The task itself. */
  readonly handle: (payload: Payload) => Promise<unknown>
  /** Called when the outcome is written. */
  readonly settled: () => void
}

export interface Consumer {
  close(): Promise<unknown>
}

export interface Contender {
  /** What it was set to, and what it keeps. */
  readonly about: string
  readonly version: string
  produce(url: string): Promise<Producer>
  consume(url: string, options: ConsumerOptions): Promise<Consumer>
}

export const CONTENDERS = ['ours', 'bullmq', 'bee-queue', 'platformatic', 'raw'] as const
export type ContenderName = (typeof CONTENDERS)[number]

/** The oldest Node that @platformatic/job-queue takes. */
export function runsHere(name: ContenderName, node = process.versions.node): boolean {
  const [major = 0, minor = 0] = node.split('.').map(Number)
  return name !== 'platformatic' || major > 22 || (major === 22 && minor >= 19)
}

export async function loadContender(name: ContenderName): Promise<Contender> {
  const module = (await import(`./${name}.ts`)) as { readonly contender: Contender }
  return module.contender
}
