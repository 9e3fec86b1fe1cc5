/** What a server says of itself in INFO, as far as we use it. Reads text; sends nothing. */
import type { ServerFacts } from '../storage.ts'

export function parseServerFacts(info: string, address: string): ServerFacts {
  const read = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
  const valkey = read('valkey_version')
  if (valkey !== undefined) return { kind: 'valkey', version: valkey, address }
  return { kind: 'redis', version: read('redis_version') ?? 'unknown', address }
}
