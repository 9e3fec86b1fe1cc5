/** Reads a key's name back into its kind and its parts, as keys.ts puts them together; what does not match is no key of ours. */
import { NAME_PATTERN } from '../../options.ts'
import { isRecordId } from '../../record-id.ts'
import { isTaskStatus } from '../../task-status.ts'
import { BANDS } from '../storage.ts'
import { KEY_KINDS } from './keys.ts'

export type KindName = keyof typeof KEY_KINDS

/** What each part of a name may be. */
const PARTS: Readonly<Record<string, (text: string) => boolean>> = {
  id: isRecordId,
  queueName: (text) => NAME_PATTERN.test(text),
  name: (text) => NAME_PATTERN.test(text),
  band: (text) => (BANDS as readonly string[]).includes(text),
  status: isTaskStatus,
  minute: (text) => /^\d{1,12}$/.test(text),
  consumer: (text) => /^[A-Za-z0-9_:.@-]{1,256}$/.test(text),
}

interface Kind {
  readonly kind: KindName
  readonly pattern: RegExp
  readonly names: readonly string[]
}

const KINDS: readonly Kind[] = Object.entries(KEY_KINDS)
  .filter(([, { type }]) => type !== 'channel')
  .map(([kind, { pattern }]) => ({
    kind: kind as KindName,
    names: [...pattern.matchAll(/<(\w+)>/g)].map(([, name = '']) => name),
    // A consumer's id may hold colons; it is the last part of its key.
    pattern: new RegExp(`^${pattern.replaceAll('<consumer>', '(.*)').replaceAll(/<\w+>/g, '([^:]*)')}$`, 's'),
  }))

export interface KeyName {
  readonly kind: KindName
  readonly parts: Readonly<Record<string, string>>
  /** The first part that is not what it may be. */
  readonly wrongPart: string | undefined
}

/** A key's name, without the root. Undefined: no kind of ours is named like that. */
export function keyNameOf(name: string): KeyName | undefined {
  for (const { kind, pattern, names } of KINDS) {
    const match = pattern.exec(name)
    if (!match) continue
    const parts = Object.fromEntries(names.map((part, index) => [part, match[index + 1] ?? '']))
    return { kind, parts, wrongPart: names.find((part) => !PARTS[part]?.(parts[part] ?? '')) }
  }
  return undefined
}

/** The type of a kind, as the command TYPE says it. */
export function typeOf(kind: KindName): string {
  const { type } = KEY_KINDS[kind]
  return type === 'sorted set' ? 'zset' : type
}
