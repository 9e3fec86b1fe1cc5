/** The tag of an answer, and whether who asks has that answer already (RFC 9110, sections 8.8.3 and 13.1.2). */
import { createHash } from 'node:crypto'
import type { Response } from 'express'

/**
 * Sets the tag of `content`. True when the answer is the one that was sent before: then 304 was answered, and nothing is left to send.
 * Compared here: Express takes a Cache-Control of the request, which browsers send with that of a script, for a reason to send
 * everything.
 */
export function isUnchanged(res: Response, content: string): boolean {
  const tag = `"${createHash('sha256').update(content).digest('base64url').slice(0, 27)}"`
  res.set('ETag', tag)
  const known = (res.req.headers['if-none-match'] ?? '').split(',').map((each) => each.trim().replace(/^W\//, ''))
  if (!known.includes(tag) && !known.includes('*')) return false
  res.status(304).end()
  return true
}
