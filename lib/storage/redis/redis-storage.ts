/**
 * Storage on Redis or Valkey. Each change is one script; the verbs say it in their words and read their answers
 * (redis-records.ts, redis-deliveries.ts, redis-workers.ts). Opens its own connections, at first use; a client that was handed
 * in is only duplicated.
 */
import { GroupedStorage } from '../grouped-storage.ts'
import type { Examinable, Inspection } from '../inspection.ts'
import type { ServerFacts } from '../storage.ts'
import { probeAccess } from './access-probe.ts'
import type { ServerSettings } from './redis-client.ts'
import { RedisDeliveries } from './redis-deliveries.ts'
import { RedisInspection } from './redis-inspection.ts'
import { RedisLink } from './redis-link.ts'
import type { RedisStorageOptions } from './redis-link.ts'
import { RedisRecords } from './redis-records.ts'
import { RedisWorkers } from './redis-workers.ts'
import { probeServer } from './server-probe.ts'

export type { RedisStorageOptions } from './redis-link.ts'

export class RedisStorage extends GroupedStorage implements Examinable {
  readonly #link: RedisLink
  /** The user may do what the scripts do: asked until it was true once. */
  #permitted = false
  /** Codes of what was said to the log. */
  readonly #warned = new Set<string>()

  /** With a link, it is one shard of several over the same connections. */
  constructor(options: RedisStorageOptions | RedisLink) {
    const link = options instanceof RedisLink ? options : new RedisLink(options)
    super({ records: new RedisRecords(link), deliveries: new RedisDeliveries(link), workers: new RedisWorkers(link) })
    this.#link = link
  }

  /** The same server for another thread; undefined when that is not possible. */
  get server(): ServerSettings | undefined {
    return this.#link.factory.settings
  }

  async connect(): Promise<ServerFacts> {
    const { factory, producer, keys, logger } = this.#link
    const { address } = factory
    if (factory.mocked) return { kind: 'mock', version: '', address, warnings: [] }
    const facts = await producer.send('answer', async (client) => {
      const answer = await probeServer(client, address)
      if (!this.#permitted) await probeAccess(client, keys)
      this.#permitted = true
      return answer
    })
    for (const { code, message } of facts.warnings) {
      // Once a storage, however often somebody asks after its health.
      if (!this.#warned.has(code)) logger.warn({ code }, message)
      this.#warned.add(code)
    }
    return facts
  }

  inspections(): readonly Inspection[] {
    return [new RedisInspection(this.#link)]
  }

  close(): Promise<void> {
    this.#link.close()
    return Promise.resolve()
  }
}
