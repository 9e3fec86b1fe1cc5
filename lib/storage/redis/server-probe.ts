/**
 * What a server is, and whether it is fit to keep tasks: asked when a worker, a command or a health check begins, never for a
 * task. One INFO tells version, role, eviction and AOF; CONFIG GET save is asked only where AOF is off, TIME only where INFO
 * does not tell the time. What would lose or stop tasks for sure is refused; what may lose them is a warning, with its cure.
 */
import { systemClock } from '../../clock.ts'
import type { Clock } from '../../clock.ts'
import { StorageUnfitError } from '../../errors.ts'
import type { ServerFacts, ServerWarning } from '../storage.ts'
import type { RedisConnection } from './redis-client.ts'

/** Streams and consumer groups came with it. Valkey began later, at 7.2. */
const OLDEST_REDIS = 5
/** `runAfter` is a time of the caller's clock, and due by the server's. */
const CLOCKS_APART_MS = 5_000

/** Every code that a probe may warn with. They never change between releases. */
const SERVER_WARNING_CODES = {
  allKeysEvicted: 'WARN_TASKS_SERVER_EVICTION',
  volatileEvicted: 'WARN_TASKS_SERVER_EVICTION_VOLATILE',
  notPersistent: 'WARN_TASKS_SERVER_PERSISTENCE',
  persistenceUnknown: 'WARN_TASKS_SERVER_PERSISTENCE_UNKNOWN',
  clocksApart: 'WARN_TASKS_SERVER_CLOCK',
  unknown: 'WARN_TASKS_SERVER_UNKNOWN',
} as const

type Info = (name: string) => string | undefined

function infoOf(text: string): Info {
  return (name) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(text)?.[1]
}

/** Product and version out of the text of INFO. */
function productOf(text: string): Pick<ServerFacts, 'kind' | 'version'> {
  const info = infoOf(text)
  const valkey = info('valkey_version')
  if (valkey !== undefined) return { kind: 'valkey', version: valkey }
  return { kind: 'redis', version: info('redis_version') ?? 'unknown' }
}

/**
 * Asks a server what it is.
 *
 * @throws StorageUnfitError it is a replica, a sentinel, or older than 5.0.
 */
export async function probeServer(
  client: RedisConnection,
  address: string,
  clock: Pick<Clock, 'now'> = systemClock,
): Promise<ServerFacts> {
  const sentAt = clock.now()
  const text = await unlessRefused(client.info(), '')
  const info = infoOf(text)
  const product = productOf(text)
  refuseUnfit(product, info, address)
  const warnings: ServerWarning[] = []
  if (text === '') {
    warnings.push({
      code: SERVER_WARNING_CODES.unknown,
      message:
        'the server does not let its INFO be read, so its role, eviction policy and persistence are not known (permit it: ACL SETUSER <user> +info)',
    })
  }
  warnings.push(...evictionWarnings(info))
  if (text !== '' && info('aof_enabled') !== '1') warnings.push(...(await persistenceWarnings(client, info)))
  warnings.push(...(await clockWarnings(client, info, clock, sentAt)))
  return { ...product, address, warnings }
}

function refuseUnfit({ kind, version }: Pick<ServerFacts, 'kind' | 'version'>, info: Info, address: string): void {
  if ((info('redis_mode') ?? info('server_mode')) === 'sentinel') {
    const cure = 'pass a client with `sentinels` and `name`, or give the address of the master'
    throw new StorageUnfitError('role', 'be a master', `a sentinel at ${address}`, cure)
  }
  if (info('role') === 'slave') {
    const cure = 'give the address of its master; a replica takes no writes'
    throw new StorageUnfitError('role', 'be a master', `a replica at ${address}`, cure)
  }
  if (kind === 'redis' && Number.parseInt(version, 10) < OLDEST_REDIS) {
    const cure = 'use Redis 5.0 or later, or Valkey'
    throw new StorageUnfitError(
      'version',
      `be Redis ${OLDEST_REDIS}.0 or later`,
      `Redis ${version} at ${address}`,
      cure,
    )
  }
}

function evictionWarnings(info: Info): ServerWarning[] {
  const policy = info('maxmemory_policy') ?? 'noeviction'
  if (policy === 'noeviction') return []
  const when = info('maxmemory') === '0' ? 'once a memory limit is set and reached' : 'when its memory is full'
  const cure = '(switch that off: CONFIG SET maxmemory-policy noeviction; and set a maxmemory that lasts)'
  if (policy.startsWith('volatile-')) {
    const loss =
      'keys that expire, of ours the counts by minute behind the charts; no record has a lifetime, so no task is lost'
    return [
      {
        code: SERVER_WARNING_CODES.volatileEvicted,
        message: `maxmemory-policy is ${policy}: ${when} the server deletes ${loss} ${cure}`,
      },
    ]
  }
  return [
    {
      code: SERVER_WARNING_CODES.allKeysEvicted,
      message: `maxmemory-policy is ${policy}: ${when} the server deletes records, streams and index, and unfinished tasks are lost without a word ${cure}`,
    },
  ]
}

async function persistenceWarnings(client: RedisConnection, info: Info): Promise<ServerWarning[]> {
  const cure = '(turn AOF on: CONFIG SET appendonly yes, and the same in its configuration file)'
  const reply = await unlessRefused<unknown>(client.config('GET', 'save'), undefined)
  // A flat list of two on every client; the second is empty where no snapshots are planned.
  const save = Array.isArray(reply) ? String(reply[1] ?? '') : undefined
  if (save === '') {
    const message = `neither AOF nor snapshots are on: a restart of the server loses every task ${cure}`
    return [{ code: SERVER_WARNING_CODES.notPersistent, message }]
  }
  if (save !== undefined || Number(info('rdb_saves')) > 0 || Number(info('rdb_last_bgsave_time_sec')) >= 0) return []
  // A managed server that keeps its CONFIG to itself.
  const message = `AOF is off, and whether snapshots are on cannot be read: a restart of the server may lose every task ${cure}`
  return [{ code: SERVER_WARNING_CODES.persistenceUnknown, message }]
}

async function clockWarnings(
  client: RedisConnection,
  info: Info,
  clock: Pick<Clock, 'now'>,
  askedAt: number,
): Promise<ServerWarning[]> {
  let sentAt = askedAt
  let serverMs = Number(info('server_time_usec')) / 1_000
  if (!(serverMs > 0)) {
    sentAt = clock.now()
    const [seconds = '0', micros = '0'] = (await client.time()) as string[]
    serverMs = Number(seconds) * 1_000 + Number(micros) / 1_000
  }
  const receivedAt = clock.now()
  // Read somewhere between the two: only what the way cannot explain counts.
  const apartMs = serverMs > receivedAt ? serverMs - receivedAt : sentAt - serverMs
  if (!(apartMs > CLOCKS_APART_MS)) return []
  const seconds = (apartMs / 1_000).toFixed(1)
  const side = serverMs > receivedAt ? 'ahead of' : 'behind'
  const message = `the server's clock is ${seconds} s ${side} this machine's: delayed tasks run by the server's clock (keep NTP on both)`
  return [{ code: SERVER_WARNING_CODES.clocksApart, message }]
}

/** A managed server, or an ACL, may refuse what only helps to warn: being reached is what counts here. */
async function unlessRefused<Reply>(asked: Promise<Reply>, otherwise: Reply): Promise<Reply> {
  try {
    return await asked
  } catch (error) {
    if (
      error instanceof Error &&
      /NOPERM|unknown command|not (?:allowed|supported|permitted)|disabled/i.test(error.message)
    )
      return otherwise
    throw error
  }
}
