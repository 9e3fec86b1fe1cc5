/** What both commands share of the process they run in: its signals, and its end. */
const SIGNALS = ['SIGTERM', 'SIGINT'] as const

/** Calls `act` for each SIGTERM and SIGINT until the answer is called. SIGUSR1 stays the inspector's. */
export function onSignals(act: () => void): () => void {
  for (const signal of SIGNALS) process.on(signal, act)
  return () => {
    for (const signal of SIGNALS) process.off(signal, act)
  }
}

/** What the user's code left open, or a native call of a thread that nothing can end, must not keep the command alive. */
const LINGER_MS = 500

/** Ends the process if it does not end by itself in a moment. */
export function endSoon(): void {
  // Unreferenced it fires only while something else keeps the process alive.
  setTimeout(() => process.exit(), LINGER_MS).unref()
}
