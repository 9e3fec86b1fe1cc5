/** The worker verbs of memory storage: heartbeats by consumer. A consumer with deliveries is never forgotten. */
import type { ForgetWord, Heartbeat, SeenWorker } from '../storage.ts'
import type { Keyspace } from './keyspace.ts'

export class WorkerVerbs {
  readonly #keyspace: Keyspace
  readonly #seen = new Map<string, { readonly heartbeat: Heartbeat; readonly at: number }>()

  constructor(keyspace: Keyspace) {
    this.#keyspace = keyspace
  }

  heartbeat({ consumer, fields }: Heartbeat, now: number): void {
    this.#seen.set(consumer, { heartbeat: { consumer, fields: Object.freeze({ ...fields }) }, at: now })
  }

  list(now: number): readonly SeenWorker[] {
    return [...this.#seen.values()].map(({ heartbeat, at }) => ({ ...heartbeat, ageMs: Math.max(0, now - at) }))
  }

  forget(consumer: string): ForgetWord {
    if (this.#hasDeliveries(consumer)) return 'KEPT'
    this.#seen.delete(consumer)
    return 'FORGOTTEN'
  }

  sweep(maxIdleMs: number, now: number): number {
    const idle = [...this.#seen].filter(([, { at }]) => now - at >= maxIdleMs)
    return idle.filter(([consumer]) => this.forget(consumer) === 'FORGOTTEN').length
  }

  #hasDeliveries(consumer: string): boolean {
    for (const { streams } of this.#keyspace.queues.values()) {
      if (Object.values(streams).some((stream) => stream.pendingOf(consumer) > 0)) return true
    }
    return false
  }
}
