/**
 * What servers and drivers say when something fails, in one place: turned into an error of ours where we know what it means, passed
 * on unchanged where not. They say it in words alone, so each is known by its text.
 */
import { StorageDamagedError, StorageFullError, StorageUnavailableError, TaskError } from '../../errors.ts'
import { redactUrl } from '../../logger.ts'

export const TIMED_OUT = 'Command timed out'

/** What a server or a driver says while it cannot serve us, and what to do about it. Anything else is rethrown as it is. */
const UNAVAILABLE: readonly (readonly [pattern: RegExp, cure: string])[] = [
  [new RegExp(TIMED_OUT), 'the server is slow, frozen or cut off; the outcome of the call is unknown'],
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
const GAVE_UP = new RegExp(`max retries per request|${TIMED_OUT}|Connection is closed`)

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

function meaningOf(error: Error): (typeof UNAVAILABLE)[number] | undefined {
  const text = `${error.name}: ${error.message}`
  return UNAVAILABLE.find(([pattern]) => pattern.test(text))
}

const says =
  (pattern: RegExp) =>
  (error: unknown): error is Error =>
    error instanceof Error && pattern.test(error.message)

export const isTimeout = says(new RegExp(TIMED_OUT))
export const isClosed = says(/Connection is closed/)
/** The server became a replica; a blocked read is told so by UNBLOCKED. */
export const isDemoted = says(/READONLY|UNBLOCKED/)
/** The script is not loaded. */
export const isNoScript = says(/NOSCRIPT/)
/** The stream, or its consumer group, is not there. */
export const isNoGroup = says(/NOGROUP/)
/** The key holds something else. */
export const isWrongType = says(/WRONGTYPE/)
/** What is asked for is not there, or not of that shape: nothing that could be read. */
export const isNothing = says(/WRONGTYPE|NOGROUP|no such key/i)
/** Before Redis 6.0 a script could not read a stream. */
export const refusesScriptedReads = says(/not allowed from script/)
/** Nothing was run; the node that has the key is another one, or the cluster is about to say which. */
export const isRedirect = says(/^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN) /)

/** The driver's own SELECT was refused, whatever the reason. */
export function isOfSelect(error: Error & { readonly command?: { readonly name?: string } }): boolean {
  return error.command?.name === 'select'
}
