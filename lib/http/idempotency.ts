/**
 * The Idempotency-Key header (an IETF draft: draft-ietf-httpapi-idempotency-key-header): a key becomes the id of a record, so
 * that enqueue's own rule (an id that exists answers with its record) is the whole mechanism. Stores nothing of its own.
 */
import { createHash } from 'node:crypto'
import { HttpError } from './problem.ts'

const KEY = /^[\x21-\x7e]{1,255}$/

/** The id of a key, within one backend and task: a UUID of version 8 (RFC 9562 section 5.8), made of its hash. */
export function idOfKey(header: string, backendName: string, taskName: string): string {
  const key = /^"(.*)"$/.exec(header)?.[1] ?? header
  if (!KEY.test(key)) {
    const message = 'expected Idempotency-Key to be 1 to 255 printable characters without spaces, got: another text'
    throw new HttpError('ERR_TASKS_OPTION', message, '/Idempotency-Key')
  }
  const hash = createHash('sha256')
    .update(JSON.stringify([backendName, taskName, key]))
    .digest()
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x80
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
