/** A disk that is full under a server that appends to its log (F24). */
import { expect } from 'chai'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StorageUnavailableError } from '../../lib/index.ts'
import { findRedisServer } from '../../scripts/ensure-redis.mjs'
import { eventually } from '../support/eventually.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { nightlyRow, skipRow } from './support/rows.ts'

/** A program that starts the server in a mount namespace of its own, on a disk of 8 MB whose root others reach by /proc. */
function onSmallDisk(folder: string): string {
  const file = join(folder, 'redis-server')
  const disk = join(folder, 'disk')
  const binary = findRedisServer()?.path ?? 'redis-server'
  const lines = [
    '#!/bin/sh',
    `[ "$1" = --version ] && exec ${binary} --version`,
    `mkdir -p ${disk}`,
    `exec unshare -Urm sh -c 'mount -t tmpfs -o size=8m tmpfs ${disk} && exec ${binary} "$@" --dir ${disk}' sh "$@"`,
  ]
  writeFileSync(file, lines.join('\n'), { mode: 0o755 })
  return file
}

function mayMount(): string | undefined {
  try {
    const command = 'mkdir -p "$1" && mount -t tmpfs -o size=1m tmpfs "$1"'
    execFileSync('unshare', ['-Urm', 'sh', '-c', command, 'sh', join(tmpdir(), 'express-tasks-mount')], {
      stdio: 'pipe',
    })
    return undefined
  } catch (error) {
    return `no disk of its own can be mounted here (unshare -Urm): ${String(error).split('\n')[0]}`
  }
}

describe('Faults: a full disk', function () {
  this.timeout(sized(240_000, 600_000))

  nightlyRow('goes on once there is room again, and loses nothing that was acknowledged (F24)', async function () {
    const reason = mayMount()
    if (reason !== undefined) return skipRow(this, 'F24', reason)
    const folder = mkdtempSync(join(tmpdir(), 'express-tasks-disk-'))
    try {
      // With `always` the server ends itself when it cannot write
      const args = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--auto-aof-rewrite-percentage', '0']
      await using run = await FaultRun.start({ server: { binary: onSmallDisk(folder), args } })
      const workers = await Promise.all([run.spawn(), run.spawn()])
      const disk = `/proc/${run.server.pid}/root${join(folder, 'disk')}`
      expect(existsSync(disk)).to.equal(true)
      await run.enqueue({}, lists(500, 50))
      await eventually(() => run.facts('begun').length > 100, { timeoutMs: 60_000 })
      // Filled to the last block, by somebody else
      try {
        writeFileSync(join(disk, 'other'), Buffer.alloc(16_000_000))
      } catch (error) {
        expect(error).to.have.property('code', 'ENOSPC')
      }
      let refused = 0
      const fullAt = Date.now()
      while (Date.now() - fullAt < 20_000) {
        try {
          await run.enqueue({}, [[1]])
        } catch (error) {
          expect(error).to.be.instanceOf(StorageUnavailableError)
          refused += 1
        }
      }
      expect(workers.map(({ hasEnded }) => hasEnded)).to.deep.equal([false, false])
      rmSync(join(disk, 'other'))
      await run.drained()
      const verdict = await run.verdict()
      const duplicates = 2 * run.options.concurrency
      verdict.assert('F24', { duplicates }, { faultsInjected: 1, faultsThatBit: refused > 0 ? 1 : 0, refused })
      expect(refused).to.be.above(0)
      expect(readFileSync('/proc/self/mounts', 'utf8')).to.not.include(folder)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
