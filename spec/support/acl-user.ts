/** The user that docs/redis-keys.md tells how to make: its rules are read from the page, so that what is proven is what is written. */
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'

const PAGE = new URL('../../docs/redis-keys.md', import.meta.url)

/** What follows the user's name in the line of the page, unquoted; for the backend of `keyPrefix`, which may be a glob. */
export function documentedRules(keyPrefix: string, password: string): string[] {
  const [, line = ''] = /^redis-cli ACL SETUSER app ((?:.*\\\n)*.*)$/m.exec(readFileSync(PAGE, 'utf8')) ?? []
  const words = line.replace(/\\\n/g, ' ').match(/'[^']*'|\S+/g) ?? []
  return words
    .map((word) => word.replace(/^'(.*)'$/, '$1'))
    .map((word) => (word === '>password' ? `>${password}` : word.replace('express_tasks', keyPrefix)))
}

/** What the page adds to these rules for the doctor. */
export function documentedDoctorRules(): string[] {
  const [line = ''] = /^- The \[doctor\].*$/m.exec(readFileSync(PAGE, 'utf8')) ?? []
  return line.match(/\+[a-z|]+/g) ?? []
}

/** The commands that the page permits, as rules name them: `hset`, `xgroup|create`. */
export function documentedCommands(): readonly string[] {
  return documentedRules('', '').flatMap((rule) => (rule.startsWith('+') ? [rule.slice(1)] : []))
}

/** Makes that user on a server, through a client that may. False where the server has no ACL. */
export async function makeDocumentedUser(
  client: Redis,
  { name, password, keyPrefix }: { readonly name: string; readonly password: string; readonly keyPrefix: string },
): Promise<boolean> {
  const rules = documentedRules(keyPrefix, password)
  const attempt = async (given: readonly string[]): Promise<boolean> => {
    try {
      await client.call('ACL', 'SETUSER', name, ...given)
      return true
    } catch (error) {
      if (error instanceof Error && /unknown command|Error in ACL SETUSER modifier '&/.test(error.message)) return false
      throw error
    }
  }
  // 6.0 knows no channels.
  return (await attempt(rules)) || (await attempt(rules.filter((rule) => !rule.startsWith('&'))))
}
