/**
 * Whether the user that we are may do what is done here: each command is tried once, in one script, so that it changes nothing.
 * A script does not roll back: a command that is refused half-way would leave half a move behind. So it is asked before. What is
 * read outside of scripts is asked with them: a page that fails later is found later.
 */
import { StorageUnfitError } from '../../errors.ts'
import type { Keys } from './keys.ts'
import type { RedisConnection } from './redis-client.ts'

/** `*` stands for a key that never is, `#` for the channel. With these arguments none of them changes anything. */
const HARMLESS: readonly string[] = [
  'TIME',
  'EXISTS *',
  'HGET * f',
  'HMGET * f',
  'HGETALL *',
  'HSTRLEN * f',
  'HDEL * f',
  'HSET * f v f',
  'HINCRBY * f x',
  'EXPIRE * 1',
  'SMEMBERS *',
  'ZADD * XX 0 m',
  'ZCARD *',
  'ZCOUNT * 0 0',
  'ZRANGE * 0 0',
  'ZRANGEBYSCORE * 0 0',
  'ZREVRANGEBYSCORE * 0 0',
  'ZSCORE * m',
  'ZREM * m',
  'XADD * x f v',
  'XLEN *',
  'XRANGE * - + COUNT 1',
  'XPENDING * g',
  'XREADGROUP GROUP g c COUNT 1 STREAMS * >',
  'XCLAIM * g c 0 0-1',
  'XACK * g 0-1',
  'XDEL * 0-1',
  'XTRIM * MINID 0-1',
  'XGROUP CREATE * g 0',
  'XGROUP DELCONSUMER * g c',
  'XINFO GROUPS *',
  'XINFO CONSUMERS * g',
  'PUBLISH # ',
  'DEL *',
]

/** Has no form that does nothing, so it is undone; only when all others may be done. */
const UNDONE: readonly string[] = ['SADD * m', 'DEL *']

/** As the rules of an ACL name them. */
export const PROBED_COMMANDS: ReadonlySet<string> = new Set([...HARMLESS, ...UNDONE].map(commandOf))

/**
 * ARGV: how many calls come first, then for each its length and its words. Answers the place (from 1) and the error of each
 * that is refused. Beyond those that come first nothing is called once one was refused.
 */
const SCRIPT = `
local refused, at, call = {}, 2, 0
while at <= #ARGV do
  if call >= tonumber(ARGV[1]) and #refused > 0 then break end
  call = call + 1
  local count = tonumber(ARGV[at])
  local reply = redis.pcall(unpack(ARGV, at + 1, at + count))
  local text = type(reply) == 'table' and type(reply.err) == 'string' and reply.err or ''
  if string.find(text, 'NOPERM', 1, true) or string.find(text, 'ACL failure', 1, true)
    or string.find(text, 'user executing the script can', 1, true) then
    refused[#refused + 1] = tostring(call)
    refused[#refused + 1] = text
  end
  at = at + count + 1
end
return refused`

/**
 * Tries every command that is sent for keys of this backend, but for the doctor's own.
 *
 * @throws StorageUnfitError the user's ACL refuses some; names them.
 */
export async function probeAccess(client: RedisConnection, keys: Keys): Promise<void> {
  // No record has an empty id.
  const nowhere = keys.record('')
  const words = (call: string): string[] =>
    call.split(' ').map((word) => (word === '*' ? nowhere : word === '#' ? keys.finished : word))
  const calls = [...HARMLESS, ...UNDONE]
  const args = calls.flatMap((call) => [String(words(call).length), ...words(call)])
  let reply: string[]
  try {
    reply = (await client.eval(SCRIPT, '1', keys.leases, String(HARMLESS.length), ...args)) as string[]
  } catch (error) {
    if (!(error instanceof Error) || !error.message.includes('NOPERM')) throw error
    reply = ['0', error.message]
  }
  const commands = new Set<string>()
  let [keysRefused, channelRefused] = [false, false]
  for (let index = 0; index < reply.length; index += 2) {
    const [place, text = ''] = [Number(reply[index]), reply[index + 1]]
    if (/\bkeys?\b/.test(text)) keysRefused = true
    else if (/channel/.test(text)) channelRefused = true
    // EVAL itself is what no place stands for.
    else commands.add(commandOf(calls[place - 1] ?? 'EVAL'))
  }
  const missing = [
    ...[...commands].map((name) => `+${name}`),
    ...(keysRefused ? [`~${keys.root}*`] : []),
    ...(channelRefused ? [`&${keys.root}*`] : []),
  ]
  if (missing.length === 0) return
  const rules = missing.join(' ')
  throw new StorageUnfitError(
    'access',
    'permit what tasks need',
    `a user without ${rules}`,
    `ACL SETUSER <user> ${rules}; docs/redis-keys.md has a whole line`,
  )
}

function commandOf(call: string): string {
  const [name = '', sub = ''] = call.toLowerCase().split(' ')
  return name === 'xgroup' || name === 'xinfo' ? `${name}|${sub}` : name
}
