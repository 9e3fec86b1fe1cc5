/**
 * The first part of an inspection: every key name of the server, one SCAN after the other. Judges names, types and lifetimes;
 * hands the ids of records on. Keys of other owners are passed over unread.
 */
import type { Finding } from '../inspection.ts'
import { keyNameOf, typeOf } from './key-names.ts'
import type { KeyName } from './key-names.ts'
import type { InspectionWalk } from './inspection-walk.ts'

/** Names that one step looks at, ours or not. */
const STEP = '500'
/** What `stats` keys live, as count-in.lua gives it to them. */
const STATS_SECONDS = '90000'

/** @returns ids of records, in steps; yields what is wrong about the others. */
export async function* inspectKeys(walk: InspectionWalk): AsyncGenerator<Finding | readonly string[], void> {
  const { root } = walk.link.keys
  const stray = strayPattern(root)
  const pattern = `*${root.slice(1, -2).replaceAll(/[\\*?[\]]/g, '\\$&')}*`
  let cursor = '0'
  do {
    if (walk.isStopped) return
    const [next, rows] = (await walk.run('inspect-keys', [cursor, STEP, pattern])) as [string, readonly string[]]
    cursor = next
    const ids: string[] = []
    for (let index = 0; index < rows.length; index += 3) {
      const [key = '', type = '', ttl = ''] = rows.slice(index, index + 3)
      if (!key.startsWith(root)) {
        if (stray.test(key)) yield wrongKey(key, 'a key beside the root', `keys that begin with ${root}`)
        continue
      }
      const name = keyNameOf(key.slice(root.length))
      walk.keys += 1
      if (!name) {
        yield wrongKey(key, 'a key of no known kind', 'none')
        continue
      }
      if (name.wrongPart !== undefined) {
        yield wrongKey(key, `${name.wrongPart} "${name.parts[name.wrongPart]?.slice(0, 80)}"`, 'a permitted one')
        // Nothing else reads or mends such a key. A record is judged all the same: it may hold a task.
        if (name.kind !== 'record') continue
      }
      if (name.kind === 'record') {
        ids.push(name.parts['id'] ?? '')
        continue
      }
      if (type === 'none') continue
      if (type !== typeOf(name.kind)) {
        yield wrongKey(key, type, typeOf(name.kind))
        continue
      }
      walk.known.set(key, name)
      const lifetime = wrongLifetime(key, name, Number(ttl))
      if (!lifetime) continue
      const seconds = name.kind === 'stats' ? STATS_SECONDS : ''
      yield await walk.tell(lifetime, walk.repair('repair-lifetime', [key, seconds]))
    }
    yield ids
  } while (cursor !== '0')
}

function wrongKey(key: string, found: string, expected: string): Finding {
  return { invariant: 'I1', id: '', key, found, expected, repairable: false }
}

/** Keys that hold the name of this backend as a whole part, and are not below its root or that of one of its shards. */
function strayPattern(root: string): RegExp {
  const name = root.slice(1, -2).replaceAll(/[.]/g, '\\$&')
  return new RegExp(`^(?!\\{${name}:\\d+\\}:)(?:.*[^A-Za-z0-9_.-])?${name}[}:]`, 's')
}

function wrongLifetime(key: string, { kind }: KeyName, ttlMs: number): Finding | undefined {
  const finding = { invariant: 'I11', id: '', key, repairable: true } as const
  if (kind === 'stats') return ttlMs === -1 ? { ...finding, found: 'no TTL', expected: 'one' } : undefined
  return ttlMs >= 0 ? { ...finding, found: `expires in ${ttlMs} ms`, expected: 'no TTL' } : undefined
}
