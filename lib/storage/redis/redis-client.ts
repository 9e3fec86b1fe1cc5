/**
 * The driver, described by the members we use: ioredis 5 and 6, iovalkey (single servers and clusters) and ioredis-mock.
 * Makes our own connections, from settings or as duplicates of the caller's client; never sends a command on that one.
 */
import { lookup } from 'node:dns'
import { createRequire } from 'node:module'
import { StorageClientError } from '../../errors.ts'

/** What a caller may hand in as `client`. Known by its members, as two installed drivers have two classes. */
export interface RedisClientLike {
  duplicate(...args: never[]): unknown
  readonly status?: string
}

export interface RedisPipeline {
  evalsha(sha: string, keys: string, ...args: string[]): this
  hmget(key: string, ...fields: string[]): this
  hmgetBuffer(key: string, ...fields: string[]): this
  zcard(key: string): this
  zcount(key: string, min: string, max: string): this
  xlen(key: string): this
  xack(key: string, group: string, entryId: string): this
  client(command: string, ...args: string[]): this
  time(): this
  hgetall(key: string): this
  zrangebyscore(key: string, min: string, max: string, ...rest: string[]): this
  zrevrangebyscore(key: string, max: string, min: string, ...rest: string[]): this
  xinfo(command: string, key: string, ...rest: string[]): this
  xrange(key: string, start: string, end: string, ...rest: string[]): this
  zrange(key: string, start: string, stop: string, ...rest: string[]): this
  exec(): Promise<[Error | null, unknown][] | null>
}

/** The members of a driver's client that this package uses. */
export interface RedisConnection {
  readonly status: string
  readonly isCluster?: boolean
  /** Of a cluster: asks again which node has what. */
  refreshSlotsCache?(): void
  nodes?(role: 'all'): readonly { readonly options: Readonly<Record<string, unknown>> }[]
  /** Where a cluster's client began to look: `nodes` are found later. */
  readonly startupNodes?: readonly unknown[]
  readonly options: Readonly<Record<string, unknown>>
  evalsha(sha: string, keys: string, ...args: string[]): Promise<unknown>
  eval(text: string, keys: string, ...args: string[]): Promise<unknown>
  pipeline(): RedisPipeline
  multi(): RedisPipeline
  smembers(key: string): Promise<string[]>
  zrange(key: string, start: string, stop: string, ...rest: string[]): Promise<string[]>
  info(section?: string): Promise<string>
  time(): Promise<unknown>
  config(command: string, ...args: string[]): Promise<unknown>
  client(command: string, ...args: string[]): Promise<unknown>
  xreadgroup(...args: string[]): Promise<unknown>
  sendCommand?(...args: never[]): unknown
  subscribe(channel: string): Promise<unknown>
  ping(): Promise<unknown>
  on(event: string, listener: (...args: never[]) => void): unknown
  once(event: string, listener: (...args: never[]) => void): unknown
  off(event: string, listener: (...args: never[]) => void): unknown
  disconnect(reconnect?: boolean): void
  duplicate(...args: unknown[]): RedisConnection
}

/** Where the server is, when no client was handed in. */
export interface RedisSettings {
  readonly redisUrl?: string | undefined
  readonly redisHost?: string | undefined
  readonly redisPort?: number | undefined
  readonly redisDb?: number | undefined
  readonly redisUsername?: string | undefined
  readonly redisPassword?: string | undefined
  readonly redisSsl?: boolean | undefined
}

/**
 * What a connection is for.
 * `producer` fails within a second while the server is away. `worker` does so too, but never sends a command twice by
 * itself: a repeated take would take further entries. `reader` blocks, so its commands have no limit of time, and it retries for ever.
 */
export type ConnectionRole = 'producer' | 'worker' | 'reader' | 'subscriber'

type DriverOptions = Record<string, unknown>

/** Where a server (or a cluster, by its nodes) is, as plain data that can be handed to another thread. */
export interface ServerSettings {
  readonly options: Readonly<DriverOptions>
  readonly nodes?: readonly unknown[]
}

/** Options that say where a server is and who we are there; the rest is ours, or a function that no thread can be handed. */
const WHERE = [
  ...['host', 'port', 'path', 'family', 'db', 'username', 'password', 'tls', 'connectionName', 'keepAlive', 'natMap'],
  ...['sentinels', 'name', 'role', 'sentinelUsername', 'sentinelPassword', 'sentinelTLS', 'enableTLSForSentinelMode'],
] as const

/** The same of a cluster as a whole; a look-up of the caller's own is a function. */
const WHERE_OF_CLUSTER = ['natMap', 'useSRVRecords', 'slotsRefreshTimeout', 'dnsLookup'] as const

const ALWAYS: DriverOptions = {
  // The caller's settings that would change replies, keys or timing of ours.
  protocol: 2,
  replyMapping: undefined,
  keyPrefix: '',
  stringNumbers: false,
  enableAutoPipelining: false,
  lazyConnect: false,
  enableOfflineQueue: true,
  enableReadyCheck: true,
  reconnectOnError: null,
  connectTimeout: 10_000,
  // Ours (connection.ts).
  commandTimeout: undefined,
  retryStrategy: (times: number): number => Math.min(50 * 2 ** Math.min(times, 6), 2_000),
}

const BY_ROLE: Readonly<Record<ConnectionRole, DriverOptions>> = {
  producer: { maxRetriesPerRequest: 1, autoResendUnfulfilledCommands: true },
  worker: { maxRetriesPerRequest: 1, autoResendUnfulfilledCommands: false },
  reader: { maxRetriesPerRequest: null, autoResendUnfulfilledCommands: false },
  // No ready check: a SUBSCRIBE that comes before its INFO would have it refused, and the connection made anew.
  subscriber: { maxRetriesPerRequest: null, enableReadyCheck: false, autoResubscribe: true },
}

const NEEDED = ['evalsha', 'eval', 'pipeline', 'smembers', 'xreadgroup', 'on', 'disconnect', 'duplicate'] as const

/**
 * True for a client that cannot read streams in groups: ioredis-mock. It has a member for every command, those that it cannot
 * carry throw; but it has no connection to send anything through.
 */
function lacksGroups(connection: RedisConnection): boolean {
  return typeof connection.sendCommand !== 'function'
}

function asConnection(client: unknown): RedisConnection {
  const missing = NEEDED.filter((name) => typeof (client as Record<string, unknown> | null)?.[name] !== 'function')
  if (missing.length > 0) {
    throw new StorageClientError(
      'a client of ioredis or iovalkey',
      `an object without ${missing.join(', ')}`,
      'pass `new Redis(…)`, or leave `client` out and give redisUrl',
    )
  }
  // The two drivers' classes are not assignable to each other; the members were checked above.
  return client as RedisConnection
}

interface Driver {
  readonly Redis: new (options: DriverOptions) => unknown
  readonly Cluster: new (nodes: readonly unknown[], options: DriverOptions) => unknown
}

function loadDriver(): Driver {
  const require = createRequire(import.meta.url)
  for (const name of ['ioredis', 'iovalkey']) {
    try {
      return require(name) as Driver
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    }
  }
  throw new StorageClientError(
    'installed',
    'neither ioredis nor iovalkey',
    'npm install ioredis, or use the memory backend',
  )
}

/** Why a URL cannot be read, as the cure; undefined for one that can. */
export function faultOfUrl(text: string): string | undefined {
  let url: URL
  try {
    url = new URL(text)
    for (const part of [url.username, url.password, url.hostname]) decodeURIComponent(part)
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof URIError)) throw error
    return 'in a name or password write # / ? % @ : as %23 %2F %3F %25 %40 %3A; the port is a number up to 65535'
  }
  const db = url.pathname.replace(/^\//, '') || (url.searchParams.get('db') ?? '')
  if (url.protocol === 'unix:' || /^\d{0,5}$/.test(db)) return undefined
  return 'the path is the number of a database: redis://localhost:6379/0'
}

/** The settings as the driver's own options. An URL gives host, port, user, password and database; settings beside it win. */
export function driverOptions(settings: RedisSettings): ServerSettings {
  const options: DriverOptions = { host: '127.0.0.1', port: 6379, db: 0 }
  if (settings.redisUrl !== undefined) {
    const url = new URL(settings.redisUrl)
    if (url.protocol === 'unix:') {
      options['path'] = decodeURIComponent(url.pathname)
    } else {
      options['host'] = decodeURIComponent(url.hostname.replace(/^\[(.*)\]$/, '$1')) || '127.0.0.1'
      if (url.port) options['port'] = Number(url.port)
      const db = /^\/(\d+)$/.exec(url.pathname)?.[1] ?? url.searchParams.get('db')
      if (db !== null) options['db'] = Number(db)
    }
    if (url.username) options['username'] = decodeURIComponent(url.username)
    if (url.password) options['password'] = decodeURIComponent(url.password)
    if (url.protocol === 'rediss:' || url.protocol === 'valkeys:') options['tls'] = {}
  }
  if (settings.redisHost !== undefined) options['host'] = settings.redisHost
  if (settings.redisPort !== undefined) options['port'] = settings.redisPort
  if (settings.redisDb !== undefined) options['db'] = settings.redisDb
  if (settings.redisUsername !== undefined) options['username'] = settings.redisUsername
  if (settings.redisPassword !== undefined) options['password'] = settings.redisPassword
  if (settings.redisSsl !== undefined) options['tls'] = settings.redisSsl ? {} : undefined
  return { options }
}

/** Makes the connections of one backend. */
export class ConnectionFactory {
  readonly #client: RedisConnection | undefined
  readonly #settings: ServerSettings
  /** `host:port/db`, without credentials. */
  readonly address: string

  constructor(server: { readonly client: RedisClientLike } | ServerSettings) {
    this.#client = 'client' in server ? asConnection(server.client) : undefined
    this.#settings = 'client' in server ? settingsOf(asConnection(server.client)) : server
    this.address = addressOf(this.#settings)
  }

  /** The address for a message: a server that does not speak TLS there never answers, and a timeout alone would not tell why. */
  get addressInWords(): string {
    const { options } = this.#settings
    const ofNodes = options['redisOptions'] as DriverOptions | undefined
    return options['tls'] || ofNodes?.['tls'] ? `${this.address} over TLS` : this.address
  }

  /** True when keys live on several nodes, by their slots. */
  get clustered(): boolean {
    return this.#client ? this.#client.isCluster === true : this.#settings.nodes !== undefined
  }

  /** True when the caller's client is ioredis-mock: no consumer groups, no second connection needed. */
  get mocked(): boolean {
    return this.#client !== undefined && lacksGroups(this.#client)
  }

  /** The same server for another thread; undefined when the caller's client holds what cannot be handed over. */
  get settings(): ServerSettings | undefined {
    if (this.mocked) return undefined
    try {
      return structuredClone(this.#settings)
    } catch (error) {
      if (error instanceof DOMException && error.name === 'DataCloneError') return undefined
      throw error
    }
  }

  open(role: ConnectionRole): RedisConnection {
    const overrides = { ...ALWAYS, ...BY_ROLE[role] }
    const client = this.#client
    if (client)
      return client.isCluster
        ? client.duplicate([], clusterOptions(client.options, overrides))
        : client.duplicate(overrides)
    const { options, nodes } = this.#settings
    const { Redis, Cluster } = loadDriver()
    if (nodes) return asConnection(new Cluster(nodes, clusterOptions(options, overrides)))
    return asConnection(new Redis({ ...options, ...overrides }))
  }
}

/**
 * The cluster's own options. A command that failed with its connection is not sent again (a repeated take would take further
 * entries): the caller decides, and `Connection` asks for the slots anew. No ready check: a cluster of which a part is down
 * serves the rest, and a command waits for nothing but its own answer. Nodes are connected when a command goes to them.
 */
function clusterOptions(options: Readonly<DriverOptions>, overrides: DriverOptions): DriverOptions {
  const { redisOptions: nodeOptions, ...others } = options
  return {
    ...others,
    keyPrefix: '',
    lazyConnect: false,
    enableAutoPipelining: false,
    enableOfflineQueue: true,
    enableReadyCheck: false,
    scaleReads: 'master',
    maxRedirections: 16,
    retryDelayOnMoved: 0,
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 100,
    retryDelayOnTryAgain: 50,
    clusterRetryStrategy: (times: number): number => Math.min(50 * 2 ** Math.min(times, 6), 2_000),
    shardedSubscribers: false,
    clusterNodeRetryStrategy: null,
    redisOptions: { ...(nodeOptions as DriverOptions | undefined), ...overrides, lazyConnect: true },
  }
}

function settingsOf(client: RedisConnection): ServerSettings {
  const pick = (options: Readonly<DriverOptions>, names: readonly string[]): DriverOptions =>
    Object.fromEntries(
      names.flatMap((name) => (options[name] === undefined || options[name] === null ? [] : [[name, options[name]]])),
    )
  if (!client.isCluster) return { options: pick(client.options, WHERE) }
  const { dnsLookup, ...others } = client.options
  const redisOptions = pick((client.options['redisOptions'] as DriverOptions | undefined) ?? {}, WHERE)
  const options = pick({ ...others, ...(dnsLookup !== lookup && { dnsLookup }) }, WHERE_OF_CLUSTER)
  const found = (client.nodes?.('all') ?? []).map(({ options: { host, port } }) => ({ host, port }))
  // One that was made a moment ago has found none yet.
  return { options: { ...options, redisOptions }, nodes: found.length > 0 ? found : [...(client.startupNodes ?? [])] }
}

function addressOf({ options, nodes }: ServerSettings): string {
  const text = (value: unknown, otherwise: string): string =>
    typeof value === 'string' || typeof value === 'number' ? String(value) : otherwise
  const at = (where: Readonly<DriverOptions>): string =>
    `${text(where['host'], 'localhost')}:${text(where['port'], '6379')}`
  const sentinels = options['sentinels'] as readonly DriverOptions[] | null | undefined
  if (sentinels) {
    const names = sentinels.map(({ host, port }) => `${text(host, 'localhost')}:${text(port, '26379')}`)
    return `${text(options['name'], 'a master')} by sentinels ${names.join(',')}/${text(options['db'], '0')}`
  }
  if (nodes)
    return nodes.map((node) => (typeof node === 'object' ? at(node as DriverOptions) : text(node, ''))).join(',')
  if (typeof options['path'] === 'string') return options['path']
  return `${at(options)}/${text(options['db'], '0')}`
}
