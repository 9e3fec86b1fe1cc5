/**
 * Who may do what: `authorize` or, without it, loopback only; bearer tokens; the same-origin rule for changing requests.
 * Looks at the socket and at headers, never at a body or at `req.ip` (which a host's `trust proxy` setting can bend).
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Request } from 'express'
import { TaskError, TaskOptionError, verbatim } from '../errors.ts'
import { checkOptions, listOf, oneOf } from '../options.ts'

export const ACTIONS = ['view', 'run', 'execute', 'retry', 'delete', 'purge', 'enqueue'] as const

export type Action = (typeof ACTIONS)[number]

/** Asked on every route. Only `true` admits; anything else, a throw or a rejection refuses. */
export type Authorize = (req: Request, action: Action) => boolean | Promise<boolean>

/** A request that may not pass: answered with 403 and the cure. */
export class AccessDeniedError extends TaskError {
  constructor(subject: string, shape: string, got: string, cure: string, code = 'ERR_TASKS_FORBIDDEN') {
    super(code, `expected ${subject} to be ${shape}, got: ${got} (${cure})`)
  }
}

/** @throws AccessDeniedError the request may not do this. */
export async function checkAccess(req: Request, action: Action, authorize: Authorize | undefined): Promise<void> {
  if (!authorize) return checkLoopback(req)
  let answer: unknown
  try {
    answer = await authorize(req, action)
  } catch {
    // A check that failed has not said yes. Its error may hold a secret, so it is not passed on.
    answer = 'an error'
  }
  if (answer === true) return
  throw new AccessDeniedError(
    `the right to ${action}`,
    'granted by authorize',
    'refused',
    'sign in with an account that may',
  )
}

const FORWARDED = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip', 'via'] as const
const LOOPBACK_ADDRESS = /^(::1|(::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3})$/
const LOOPBACK_HOST = /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?$/i

/** Open without `authorize`: a request of this very machine, straight to it, outside production. */
export function isLoopback(
  req: Pick<IncomingMessage, 'socket' | 'headers'> & Partial<Pick<IncomingMessage, 'headersDistinct'>>,
  env = process.env['NODE_ENV'],
): boolean {
  if (env === 'production') return false
  if (!LOOPBACK_ADDRESS.test(req.socket.remoteAddress ?? '')) return false
  if (FORWARDED.some((name) => req.headers[name] !== undefined)) return false
  // Of two Host headers Node keeps the first, and something on the way may have gone by the other.
  if ((req.headersDistinct?.['host'] ?? []).length > 1) return false
  return LOOPBACK_HOST.test(req.headers.host ?? '')
}

function checkLoopback(req: Request): void {
  if (isLoopback(req)) return
  throw new AccessDeniedError(
    'the request',
    'from this machine, or let in by authorize',
    'one from elsewhere, through a proxy, or in production',
    'pass tasksRouter(backend, { authorize: (req, action) => … })',
  )
}

/**
 * Refuses what a page of another site made a browser send. `Sec-Fetch-Site`, where present, must be `same-origin`; else
 * `Origin`, where present, must name this host; with neither the caller is no browser. Schemes are not compared: TLS often
 * ends at a proxy. Two values of a header arrive joined by ", " and equal nothing.
 *
 * @throws AccessDeniedError it comes from another origin.
 */
export function checkSameOrigin(req: Pick<IncomingMessage, 'headers'>): void {
  const site = req.headers['sec-fetch-site']
  if (site !== undefined) {
    if (site === 'same-origin') return
    throw crossSite(`Sec-Fetch-Site ${JSON.stringify(site)}`)
  }
  const { origin, host } = req.headers
  if (origin === undefined) return
  if (hostOf(origin) !== undefined && hostOf(origin) === hostOf(`http://${host ?? ''}`)) return
  throw crossSite('another Origin')
}

function crossSite(got: string): AccessDeniedError {
  const cure = 'send changing requests from the pages of this host, or from a program that is no browser'
  return new AccessDeniedError('the request', 'from this origin', got, cure, 'ERR_TASKS_CROSS_SITE')
}

/** Host and port, default ports dropped; undefined for what is no http(s) origin. */
function hostOf(origin: string): string | undefined {
  if (!/^https?:\/\/[^/?#@\s,]+$/i.test(origin)) return undefined
  try {
    const { host, port } = new URL(origin)
    // The scheme may differ behind a proxy, so both default ports count as none.
    return port === '80' || port === '443' ? host.slice(0, -port.length - 1) : host
  } catch {
    return undefined
  }
}

const BEARER_OPTIONS = Object.freeze({
  actions: listOf(oneOf(ACTIONS, { description: 'an action' }), {
    default: ACTIONS,
    description: 'what the token may do',
  }),
})

/** What travels in a header whole, and is not guessed. */
const SECRET = /^[\x21-\x2b\x2d-\x7e]{16,4096}$/

/**
 * An `authorize` that admits whoever sends `Authorization: Bearer <secret>`. Compares in constant time.
 *
 * @param secrets one, or several while they are rotated.
 * @param options.actions what the token may do; everything when left out.
 * @throws TaskOptionError a secret is shorter than 16 characters, or holds a space or a comma; there is no such option or action.
 */
export function bearerToken(
  secrets: string | readonly string[],
  options: { actions?: readonly Action[] } = {},
): Authorize {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  const given: readonly unknown[] = typeof secrets === 'string' ? [secrets] : Array.isArray(secrets) ? secrets : []
  const list = given.filter((secret) => typeof secret === 'string' && SECRET.test(secret)) as string[]
  const { actions } = checkOptions('options', BEARER_OPTIONS, options)
  if (list.length === 0 || list.length < given.length) {
    const cure = 'make one with: node -p "crypto.randomBytes(32).toString(\'base64url\')"'
    const shape = 'a text of at least 16 characters without spaces or commas'
    throw new TaskOptionError('secret', shape, verbatim('a value that is not shown'), cure)
  }
  const known = list.map(digest)
  return (req, action) => {
    if (!actions.includes(action)) return false
    const [, token] = /^Bearer ([^\s,]{1,4096})$/i.exec(req.headers.authorization ?? '') ?? []
    const sent = digest(token ?? '')
    // Every secret is compared, so that the time does not tell which one it was.
    let matches = 0
    for (const secret of known) matches += timingSafeEqual(secret, sent) ? 1 : 0
    return token !== undefined && matches > 0
  }
}
