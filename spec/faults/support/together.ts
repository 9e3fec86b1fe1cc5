/**
 * Cases that mostly wait for a lease or a server: all of them begin at once, and each is a case of its own that awaits its
 * part. A suite of its own, as they begin before its first case. Only those whose row is asked for.
 */
import { isWanted } from './rows.ts'

export function together(cases: Readonly<Record<string, () => Promise<void>>>): void {
  const wanted = Object.entries(cases).filter(([title]) => isWanted(title))
  const running = new Map<string, Promise<void>>()
  before(() => {
    for (const [title, run] of wanted) {
      const part = run()
      // It is awaited, and fails, in the case of its name.
      part.catch(() => {})
      running.set(title, part)
    }
  })
  for (const [title] of wanted) {
    it(title, async () => {
      await running.get(title)
    })
  }
}
