/**
 * One connection of one role, opened at its first use and made anew when it stopped answering.
 * Turns a driver's errors into ours; what it does not know it passes on unchanged.
 */
import { systemClock } from '../../clock.ts'
import {
  StorageClosedError,
  StorageDamagedError,
  StorageFullError,
  StorageUnavailableError,
  TaskError,
} from '../../errors.ts'
import { redactUrl } from '../../logger.ts'
import type { Logger } from '../../logger.ts'
import type { ConnectionFactory, ConnectionRole, RedisConnection } from './redis-client.ts'

/** What a server or a driver says while it cannot serve us, and what to do about it. Anything else is rethrown as it is. */
const UNAVAILABLE: readonly (readonly [pattern: RegExp, cure: string])[] = [
  [/Command timed out/, 'the server is slow, frozen or cut off; the outcome of the call is unknown'],
  [
    /max retries per request|Connection is closed|Stream isn't writeable|ECONN|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT|EHOSTUNREACH/,
    'check that the server runs and can be reached',
  ],
  [
    /closed before it answered|Connection is in subscriber mode/,
    'the connection ended; the outcome of the call is unknown',
  ],
  [
    /NOAUTH|WRONGPASS|NOPERM|invalid password|without any password|user executing the script can|ACL failure/,
    "check the user's name, password and ACL",
  ],
  [/DB index is out of range|SELECT is not allowed/, 'give a database that the server has; a cluster has 0 alone'],
  [/READONLY|UNBLOCKED/, 'this server is a replica; the connection is made anew, or give the address of the master'],
  [/sentinel/i, 'no sentinel knows a master that answers; try again in a moment'],
  [/LOADING|MASTERDOWN|BUSY /, 'the server is starting or busy; try again in a moment'],
  [/MISCONF/, 'the server cannot write its snapshot to disk; free some space'],
  [/NOREPLICAS/, 'too few replicas are in reach for min-replicas-to-write'],
  [
    /CLUSTERDOWN|TRYAGAIN|MOVED|ASK |Too many Cluster redirections|ClusterAllFailedError|Failed to refresh slots|All nodes failed|None of startup nodes|non local key/,
    'the cluster is not whole, or moves a slot; try again in a moment (a single client cannot follow it: pass a Cluster)',
  ],
]

/** What a driver says when it gave up on a server that it could not even reach. */
const GAVE_UP = /max retries per request|Command timed out|Connection is closed/

/**
 * The error of a driver as one of ours, where we know what it means.
 *
 * @param outage why the connection is down, when it is: it says more than that the driver gave up.
 */
export function storageError(given: unknown, action: string, address: string, outage?: Error): unknown {
  if (!(given instanceof Error) || given instanceof TaskError) return given
  if (/\bOOM\b/.test(given.message)) return new StorageFullError(action, { cause: given })
  if (given.message.startsWith('WRONGTYPE')) return new StorageDamagedError(action, given.message, { cause: given })
  const error = outage && GAVE_UP.test(given.message) ? outage : given
  // An outage of a kind that nobody foresaw (TLS, say) is an outage all the same.
  const known = meaningOf(error) ?? meaningOf(given)
  if (!known) return given
  return new StorageUnavailableError(action, `${redactUrl(error.message)} from ${address}`, known[1], { cause: error })
}

/** Below a second, as a producer promises its error within one; the driver needs a moment of that itself. */
const COMMAND_TIMEOUT_MS = 900
/** What a worker waits at most: five megabytes at a tenth of a megabyte a second. */
const LONGEST_PATIENCE_MS = 60_000
/** How long it stays patient; small commands get through meanwhile, and prove nothing. */
const PATIENT_FOR_MS = 120_000
const TIMED_OUT = 'Command timed out'

function meaningOf(error: Error): (typeof UNAVAILABLE)[number] | undefined {
  const text = `${error.name}: ${error.message}`
  return UNAVAILABLE.find(([pattern]) => pattern.test(text))
}

/** A server that stays a replica is not connected to with every command that it refuses. */
const DEMOTED_PAUSE_MS = 500

function isDemoted(error: unknown): boolean {
  return error instanceof Error && /READONLY|UNBLOCKED/.test(error.message)
}

/** The driver's own SELECT was refused, whatever the reason. */
function isOfSelect(error: Error & { readonly command?: { readonly name?: string } }): boolean {
  return error.command?.name === 'select'
}

export class Connection {
  readonly #factory: ConnectionFactory
  readonly #role: ConnectionRole
  readonly #logger: Logger
  #client: RedisConnection | undefined
  #closed = false
  /** Until then a refusal by a replica replaces no client. */
  #demotedUntilMs = 0
  /** Why there is no connection, since it was lost. */
  #outage: Error | undefined
  /** What a command of a slow line is given, and until when the line counts as one. */
  #patienceMs = COMMAND_TIMEOUT_MS
  #patientUntilMs = 0
  /** How often a socket was closed. */
  #closes = 0

  constructor(factory: ConnectionFactory, role: ConnectionRole, logger: Logger) {
    this.#factory = factory
    this.#role = role
    this.#logger = logger
  }

  get client(): RedisConnection {
    if (this.#closed) throw new StorageClosedError('be open')
    return (this.#client ??= this.#open())
  }

  /**
   * Sends through this connection. A command that timed out ends the connection: the socket may be dead without a sign. So
   * does one that a replica refused. On a slow line large arguments and outcomes take their time, and a worker that gave up on them
   * would come again for ever: it waits twice as long after each.
   */
  async send<Reply>(action: string, commands: (client: RedisConnection) => Promise<Reply>): Promise<Reply> {
    const client = this.client
    const closes = this.#closes
    try {
      if (this.#role !== 'producer' && this.#role !== 'worker') return await commands(client)
      return await inTime(commands(client), this.#limitMs)
    } catch (error) {
      // Who has the slots of a node that is gone is known elsewhere.
      if (error instanceof Error && error.message.includes('Connection is closed')) client.refreshSlotsCache?.()
      if (error instanceof Error && error.message.includes(TIMED_OUT)) {
        // A line that was cut meanwhile, or is not even there, is no slow one.
        const isUp = client === this.#client && client.status === 'ready' && closes === this.#closes
        if (this.#role === 'worker' && isUp) this.#waitLonger()
        this.replace(client)
      }
      this.replaceDemoted(error, client)
      throw storageError(error, action, this.#factory.address, this.#outage)
    }
  }

  /** Drops the client, if it is still that one; the next use opens another. */
  replace(client: RedisConnection | undefined = this.#client): void {
    if (!client || client !== this.#client) return
    this.#client = undefined
    client.disconnect()
  }

  /**
   * Drops a client whose server became a replica: whoever is the master now is found by connecting anew, through sentinels or
   * a name.
   */
  replaceDemoted(error: unknown, client: RedisConnection): void {
    if (!isDemoted(error) || systemClock.monotonicMs() < this.#demotedUntilMs) return
    this.#demotedUntilMs = systemClock.monotonicMs() + DEMOTED_PAUSE_MS
    this.replace(client)
  }

  close(): void {
    this.#closed = true
    this.replace()
  }

  /** How long a command may take. */
  get #limitMs(): number {
    return systemClock.monotonicMs() < this.#patientUntilMs ? this.#patienceMs : COMMAND_TIMEOUT_MS
  }

  #waitLonger(): void {
    this.#patienceMs = Math.min(2 * this.#limitMs, LONGEST_PATIENCE_MS)
    this.#patientUntilMs = systemClock.monotonicMs() + PATIENT_FOR_MS
  }

  #open(): RedisConnection {
    const client = this.#factory.open(this.#role)
    client.on(client.isCluster ? '-node' : 'close', () => (this.#closes += 1))
    // Once a change of state, not once a retry: an outage of an hour is two lines.
    client.on('error', (error: Error) => {
      const known = this.#outage !== undefined
      this.#outage = error
      // The driver would go on, in database 0.
      if (isOfSelect(error)) this.replace(client)
      if (known || this.#closed) return
      const facts = { role: this.#role, address: this.#factory.address, reason: redactUrl(error.message) }
      this.#logger.warn(facts, 'the connection to the storage is lost; it is tried again until it is back')
    })
    client.on('ready', () => {
      if (!this.#outage || client !== this.#client) return
      this.#outage = undefined
      this.#logger.info({ role: this.#role, address: this.#factory.address }, 'the connection to the storage is back')
    })
    return client
  }
}

/** The driver's own limit cannot change, and on a cluster it does not count while a command waits for a node that is not there. */
export function inTime<Reply>(reply: Promise<Reply>, limitMs = COMMAND_TIMEOUT_MS): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(TIMED_OUT)), limitMs)
    const before =
      <Value>(settle: (value: Value) => void) =>
      (value: Value): void => {
        clearTimeout(timer)
        settle(value)
      }
    reply.then(before(resolve), before(reject))
  })
}
