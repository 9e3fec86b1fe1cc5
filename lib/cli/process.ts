/** What both commands share with the process they run in: its signals, and which package this is. */
import { createRequire } from 'node:module'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const

/** Calls `act` for each SIGTERM and SIGINT until the answer is called. SIGUSR1 stays the inspector's. */
export function onSignals(act: () => void): () => void {
  for (const signal of SIGNALS) process.on(signal, act)
  return () => {
    for (const signal of SIGNALS) process.off(signal, act)
  }
}

/** The version of this package. */
export function packageVersion(): string {
  const manifest = createRequire(import.meta.url)('../../package.json') as { readonly version: string }
  return manifest.version
}
