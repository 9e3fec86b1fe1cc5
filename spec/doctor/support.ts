/**
 * What the specs of the doctor work with: a backend under a prefix of its own with a record in each state, raw access to its keys,
 * and runs that are told as lines.
 */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { doctor, RedisTaskBackend } from '../../lib/index.ts'
import type { Delivery, DoctorOptions, DoctorSummary, Finding } from '../../lib/index.ts'
import { Keys, rootOf } from '../../lib/storage/redis/keys.ts'
import type { NewRecord } from '../../lib/storage/stored-record.ts'
import { sharedRedisServer } from '../support/redis-server.ts'

export const GROUP = 'express_tasks_workers'
export const ERROR = '{"name":"Error","message":"no","stack":"","attempt":1}'
const HOUR_MS = 3_600_000

/** Every state that a record can be in, with its place. */
export type State = 'ready' | 'high' | 'delivered' | 'delayed' | 'running' | 'runningById' | 'successful' | 'failed'

/** A healthy backend, with somebody who may write behind its back. */
export class Patient implements AsyncDisposable {
  readonly keyPrefix = `spec-${randomUUID()}`
  readonly keys = new Keys(rootOf(this.keyPrefix, 'default'))
  readonly redis: Redis
  readonly backend: RedisTaskBackend
  readonly ids: Record<State, string> = {
    ...{ ready: '', high: '', delivered: '', delayed: '', running: '', runningById: '', successful: '', failed: '' },
  }

  private constructor(url: string) {
    this.redis = new Redis(url)
    const options = { redisUrl: url, keyPrefix: this.keyPrefix, claimTimeoutSeconds: 600, queues: [] }
    this.backend = new RedisTaskBackend(options)
  }

  /** With one record in each state, or none. */
  static async open(url?: string, { empty = false }: { readonly empty?: boolean } = {}): Promise<Patient> {
    const patient = new Patient(url ?? (await sharedRedisServer()).url)
    if (!empty) await patient.#populate()
    return patient
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.backend.close()
    this.redis.disconnect()
  }

  stream(band: 'high' | 'normal' | 'low' = 'normal'): string {
    return this.keys.stream('mail', band)
  }

  cell(status: 'READY' | 'RUNNING' | 'SUCCESSFUL' | 'FAILED', queueName = 'mail'): string {
    return this.keys.cell({ queueName, name: 'send', status })
  }

  record(state: State): string {
    return this.keys.record(this.ids[state])
  }

  async field(state: State, name: string): Promise<string> {
    return (await this.redis.hget(this.record(state), name)) ?? ''
  }

  async enqueue(fields: Partial<NewRecord> = {}): Promise<string> {
    const record = { name: 'send', queueName: 'mail', priority: 0, runAfter: null, args: '["a"]', ...fields }
    const id = fields.id ?? randomUUID()
    await this.backend.storage.enqueue([{ ...record, id }])
    return id
  }

  /** A worker that says it lives, and has done so for a day. */
  async heartbeat(fields: Readonly<Record<string, string>> = {}): Promise<string> {
    const { consumer, workerId } = this.backend.queue
    const startedAt = String(Date.now() - 24 * HOUR_MS)
    await this.backend.storage.heartbeat({ consumer, fields: { workerId, state: 'running', startedAt, ...fields } })
    return consumer
  }

  async examine(options: DoctorOptions = {}): Promise<{ findings: Finding[]; summary: DoctorSummary }> {
    const examination = doctor(this.backend, options)
    const findings: Finding[] = []
    for await (const finding of examination) findings.push(finding)
    return { findings, summary: await examination.summary() }
  }

  async #populate(): Promise<void> {
    const { queue } = this.backend
    const take = async (): Promise<Delivery> => {
      const [delivery] = (await queue.take(1, { queueNames: ['mail'] })).begun
      if (!delivery) throw new Error('expected a delivery, got: none')
      return delivery
    }
    for (const [state, outcome, payload] of [
      ['successful', 'SUCCESSFUL', '{"done":true}'],
      ['failed', 'FAILED', ERROR],
    ] as const) {
      this.ids[state] = await this.enqueue()
      const { lease } = await take()
      await queue.settle([{ lease, outcome, payload, delayMs: 0 }])
    }
    this.ids.running = await this.enqueue()
    await take()
    this.ids.runningById = await this.enqueue({ priority: -5 })
    await queue.runById(this.ids.runningById, false)
    this.ids.delivered = await this.enqueue()
    await this.redis.xreadgroup('GROUP', GROUP, 'dead.holder', 'COUNT', 1, 'STREAMS', this.stream(), '>')
    this.ids.ready = await this.enqueue()
    this.ids.high = await this.enqueue({ priority: 7 })
    this.ids.delayed = await this.enqueue({ runAfter: Date.now() + HOUR_MS })
    await this.heartbeat()
  }
}

/** `I4 <what was found>`, in order. */
export function told(findings: readonly Finding[]): string[] {
  return findings.map(({ invariant, found }) => `${invariant} ${found}`)
}

/** Each invariant that was found broken, once, in the order of their numbers. */
export function broken(findings: readonly Finding[]): string[] {
  const names = new Set(findings.map(({ invariant }) => invariant))
  return [...names].sort((one, other) => Number(one.slice(1)) - Number(other.slice(1)))
}
