/**
 * Cases that mostly wait for a lease or a server: all of them begin at once, and each is a case of its own that awaits its
 * part. A suite of its own, as they begin before its first case.
 */
export function together(cases: Readonly<Record<string, () => Promise<void>>>): void {
  const running = new Map<string, Promise<void>>()
  before(() => {
    for (const [title, run] of Object.entries(cases)) {
      const part = run()
      // It is awaited, and fails, in the case of its name.
      part.catch(() => {})
      running.set(title, part)
    }
  })
  for (const title of Object.keys(cases)) {
    it(title, async () => {
      await running.get(title)
    })
  }
}
