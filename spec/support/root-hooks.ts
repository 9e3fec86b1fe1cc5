/**
 * What holds for the whole run: the shared server is stopped at its end, no spec leaves a server behind, and nothing keeps the process alive.
 * Mocha runs without `--exit`, so that a timer or a connection that somebody forgot is seen here.
 */
import type { RootHookObject } from 'mocha'
import { stopSharedRedisCluster } from './redis-cluster.ts'
import { stopAllRedisServers } from './redis-server.ts'

const GRACE_MS = 5000
const { setTimeout } = globalThis

export const mochaHooks: RootHookObject = {
  async afterAll() {
    await stopSharedRedisCluster()
    const forgotten = await stopAllRedisServers()
    failIfStillAlive()
    if (forgotten.length > 0)
      throw new Error(`expected every spec to stop its servers, got: ${forgotten.join(', ')} still running`)
  },
}

/** `unref()` is the point here: the timer fires only in a process that something else keeps alive. */
function failIfStillAlive(): void {
  setTimeout(() => {
    const open = process.getActiveResourcesInfo().filter((name) => name !== 'TTYWrap' && name !== 'PipeWrap')
    console.error(
      `expected the process to end within ${GRACE_MS} ms of its last spec, got: still open ${open.join(', ')}`,
    )
    // Mocha sets the exit code to its count of failures in a listener of its own; this one comes after.
    process.on('exit', () => (process.exitCode = 1))
    process.exit(1)
  }, GRACE_MS).unref()
}
