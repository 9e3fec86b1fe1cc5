/** One connection of one role, opened at its first use and made anew when it stopped answering. */
import { systemClock } from '../../clock.ts'
import { StorageClosedError } from '../../errors.ts'
import { redactUrl } from '../../logger.ts'
import type { Logger } from '../../logger.ts'
import { isClosed, isDemoted, isOfSelect, isTimeout, storageError, TIMED_OUT } from './driver-errors.ts'
import type { ConnectionFactory, ConnectionRole, RedisConnection } from './redis-client.ts'

/** Below a second, as a producer promises its error within one; the driver needs a moment of that itself. */
const COMMAND_TIMEOUT_MS = 900
/** What a worker waits at most: five megabytes at a tenth of a megabyte a second. */
const LONGEST_PATIENCE_MS = 60_000
/** How long it stays patient; small commands get through meanwhile, and prove nothing. */
const PATIENT_FOR_MS = 120_000

/** A server that stays a replica is not connected to with every command that it refuses. */
const DEMOTED_PAUSE_MS = 500

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
      if (isClosed(error)) client.refreshSlotsCache?.()
      if (isTimeout(error)) {
        // A line that was cut meanwhile, or is not even there, is no slow one.
        const isUp = client === this.#client && client.status === 'ready' && closes === this.#closes
        if (this.#role === 'worker' && isUp) this.#waitLonger()
        this.replace(client)
      }
      this.replaceDemoted(error, client)
      throw storageError(error, action, this.#factory.addressInWords, this.#outage)
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
      const facts = { role: this.#role, address: this.#factory.addressInWords, reason: redactUrl(error.message) }
      this.#logger.warn(facts, 'the connection to the storage is lost; it is tried again until it is back')
    })
    client.on('ready', () => {
      if (!this.#outage || client !== this.#client) return
      this.#outage = undefined
      this.#logger.info(
        { role: this.#role, address: this.#factory.addressInWords },
        'the connection to the storage is back',
      )
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
