/**
 * What the verbs of RedisStorage share: the connections of one backend, its keys and scripts, and how a call is sent and its
 * answer's footnotes are read. Means nothing itself: which script is run, and why, is the verbs' own business.
 */
import { StorageClientError } from '../../errors.ts'
import { silentLogger } from '../../logger.ts'
import type { Logger } from '../../logger.ts'
import { BANDS } from '../storage.ts'
import type { EntryReader } from './blocking-reader.ts'
import { CancelListener } from './cancel-listener.ts'
import { ChannelListener } from './channel-listener.ts'
import { Connection } from './connection.ts'
import { FinishListener } from './finish-listener.ts'
import { JointReader } from './joint-reader.ts'
import { ReaderPool } from './reader-pool.ts'
import { Keys, rootOf } from './keys.ts'
import { readAll } from './pipeline.ts'
import { ConnectionFactory } from './redis-client.ts'
import type { RedisClientLike, RedisPipeline, ServerSettings } from './redis-client.ts'
import { ScriptRunner } from './scripts.ts'
import type { ScriptCall, ScriptName } from './scripts.ts'

export interface RedisStorageOptions {
  /** A client of the caller's (it is duplicated, never used), or where the server is. */
  readonly server: { readonly client: RedisClientLike } | ServerSettings
  readonly keyPrefix: string
  readonly alias: string
  readonly consumerGroup: string
  readonly logger?: Logger
  /** False takes the path of servers before 6.0, which cannot read a stream inside a script. */
  readonly scriptedReads?: boolean
}

export class RedisLink {
  readonly keys: Keys
  /** The consumer group; empty for the mock, which has none. */
  readonly group: string
  readonly logger: Logger
  readonly factory: ConnectionFactory
  readonly scripts: ScriptRunner
  readonly scriptedReads: boolean
  readonly producer: Connection
  readonly worker: Connection
  readonly subscriber: Connection
  readonly blocking: EntryReader
  readonly finished: FinishListener
  readonly cancelled: CancelListener
  readonly #readers: ReaderPool
  readonly #news: ChannelListener
  /** The streams that were asked for last, and of which queues. */
  #streams: { readonly of: readonly string[]; readonly keys: readonly string[] } = { of: [], keys: [] }

  /** `shard`: its number, and the link of another shard, whose connections it uses. */
  constructor(
    options: RedisStorageOptions,
    shard?: { readonly index: number; readonly beside: RedisLink | undefined },
  ) {
    const beside = shard?.beside
    this.logger = options.logger ?? silentLogger
    this.scriptedReads = options.scriptedReads ?? true
    this.factory = beside?.factory ?? new ConnectionFactory(options.server)
    this.keys = new Keys(rootOf(options.keyPrefix, options.alias, shard?.index))
    // Scripts leave out what needs a group when it has no name.
    this.group = this.factory.mocked ? '' : options.consumerGroup
    this.scripts = new ScriptRunner(this.keys, this.group, this.factory.clustered ? this.keys.never : undefined)
    this.producer = beside?.producer ?? new Connection(this.factory, 'producer', this.logger)
    this.worker = beside?.worker ?? new Connection(this.factory, 'worker', this.logger)
    this.subscriber = beside?.subscriber ?? new Connection(this.factory, 'subscriber', this.logger)
    const canAsk = !this.factory.clustered && !this.factory.mocked
    this.#news = beside ? beside.#news : new ChannelListener(this.subscriber, canAsk)
    this.finished = new FinishListener(this.#news, this.keys.finished)
    this.cancelled = new CancelListener(this.#news, this.keys.cancelled, this.logger)
    // No command of a cluster reads streams of two slots, so there each shard waits on a connection of its own.
    const own = !beside || this.factory.clustered
    const open = (): Connection => new Connection(this.factory, 'reader', this.logger)
    this.#readers = own ? new ReaderPool(open, this.worker) : beside.#readers
    const isJoint = shard !== undefined && !this.factory.clustered
    this.blocking = isJoint ? (beside?.blocking ?? new JointReader(this.#readers)) : this.#readers
  }

  /** One link for each shard, over the same connections. */
  static shards(options: RedisStorageOptions, count: number): readonly RedisLink[] {
    const links: RedisLink[] = []
    for (let index = 0; index < count; index += 1) links.push(new RedisLink(options, { index, beside: links[0] }))
    return links
  }

  close(): void {
    for (const each of [this.#news, this.producer, this.worker, this.#readers, this.subscriber]) each.close()
  }

  /** Runs a script on the producers' connection, which fails within a second. */
  produce(name: ScriptName, args: readonly string[]): Promise<unknown> {
    return this.producer.send(`run ${name}`, (client) => this.scripts.run(client, { name, args }))
  }

  /** Runs a script on the workers' connection, which never sends a command twice by itself. */
  deliver(call: ScriptCall): Promise<unknown> {
    return this.worker.send(`run ${call.name}`, (client) => this.scripts.run(client, call))
  }

  /** Reads in one write; null for what is not there or not of that shape (pipeline.ts). */
  async pipeline(action: string, fill: (pipeline: RedisPipeline) => void): Promise<readonly unknown[]> {
    return await this.producer.send(action, (client) => readAll(client, fill))
  }

  /** @throws StorageClientError the client has no consumer groups. */
  needGroups(): void {
    if (this.group !== '') return
    throw new StorageClientError(
      'one with consumer groups',
      'ioredis-mock, which has none',
      "to run workers without a server use the memory backend: { backend: 'memory' }",
    )
  }

  /** High of every queue, then normal, then low. */
  streams(queueNames: readonly string[]): readonly string[] {
    // A worker asks for the same queues each time; spelling their keys anew took 3 µs a call (one queue, Node 20).
    const { of } = this.#streams
    if (queueNames.length !== of.length || queueNames.some((queueName, index) => queueName !== of[index])) {
      const keys = BANDS.flatMap((band) => queueNames.map((queueName) => this.keys.stream(queueName, band)))
      this.#streams = { of: [...queueNames], keys }
    }
    return this.#streams.keys
  }

  /** The words of an answer, one for each item; behind them may stand an index error. */
  words(count: number, reply: unknown): readonly string[] {
    const words = reply as string[]
    this.noteIndexError(words[count])
    return words.slice(0, count)
  }

  noteIndexError(text: string | undefined): void {
    if (text === undefined) return
    const facts = { code: 'ERR_TASKS_INDEX', reason: text, root: this.keys.root }
    this.logger.error(facts, 'an index key could not be written; the records are whole, the index needs mending')
  }
}
