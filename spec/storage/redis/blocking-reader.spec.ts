/** A blocking read that the server never answers: which connections are given up. One that is woken while writes are paused. */
import { expect } from 'chai'
import { EventEmitter } from 'node:events'
import { Redis } from 'ioredis'
import { findRedisServer } from '../../../scripts/ensure-redis.mjs'
import { StorageUnavailableError } from '../../../lib/index.ts'
import { silentLogger } from '../../../lib/logger.ts'
import { BlockingReader } from '../../../lib/storage/redis/blocking-reader.ts'
import { Connection } from '../../../lib/storage/redis/connection.ts'
import { ConnectionFactory, driverOptions } from '../../../lib/storage/redis/redis-client.ts'
import type { ConnectionRole } from '../../../lib/storage/redis/redis-client.ts'
import { caught } from '../../backends/backends-under-test.ts'
import { eventually } from '../../support/eventually.ts'
import { startRedisServer } from '../../support/redis-server.ts'

const never = (): Promise<never> => new Promise(() => undefined)

/** A client whose socket is dead without a sign. */
class DeadClient extends EventEmitter {
  readonly isCluster = false
  isOpen = true
  readonly xreadgroup = never
  readonly client = never

  disconnect(): void {
    this.isOpen = false
  }
}

function connections(): { reader: Connection; worker: Connection; opened: Record<string, DeadClient[]> } {
  const opened: Record<string, DeadClient[]> = {}
  const factory = {
    address: 'redis://dead:6379',
    open(role: ConnectionRole): DeadClient {
      const client = new DeadClient()
      opened[role] = [...(opened[role] ?? []), client]
      return client
    },
  } as unknown as ConnectionFactory
  const of = (role: ConnectionRole): Connection => new Connection(factory, role, silentLogger)
  return { reader: of('reader'), worker: of('worker'), opened }
}

describe('Blocking read without an answer', () => {
  const read = (reader: BlockingReader): Promise<unknown> =>
    caught(reader.read('group', 'consumer', ['stream'], 1, new AbortController().signal))

  it('is given up 2 s after BLOCK, with both connections, as the same silence took them', async () => {
    const { reader, worker, opened } = connections()
    const startedAt = performance.now()
    expect(await read(new BlockingReader(reader, worker))).to.be.instanceOf(StorageUnavailableError)
    expect(performance.now() - startedAt).to.be.at.least(2_000)
    expect(opened['reader']?.map(({ isOpen }) => isOpen)).to.deep.equal([false])
    expect(opened['worker']?.map(({ isOpen }) => isOpen)).to.deep.equal([false])
  })

  it('leaves the connection beside it alone when that was made anew while the read waited', async () => {
    const { reader, worker, opened } = connections()
    const reading = read(new BlockingReader(reader, worker))
    worker.replace()
    const renewed = worker.client
    expect(await reading).to.be.instanceOf(StorageUnavailableError)
    expect(opened['worker']?.map(({ isOpen }) => isOpen)).to.deep.equal([false, true])
    expect(worker.client).to.equal(renewed)
  })
})

const { product, version } = findRedisServer() ?? { product: 'redis', version: '0' }

// Before 6.2 a pause holds back whatever comes, a word to unblock a client too.
if (product === 'valkey' || Number.parseFloat(version) >= 6.2) {
  describe('Blocking read while writes are paused', () => {
    for (const [what, pauseMs, most] of [
      ['goes on to its end when the pause ends in time', 300, 2_000],
      ['is given up with its connection when the pause does not end', 60_000, 3_000],
    ] as const) {
      it(`is woken without harm to the server: it ${what}`, async () => {
        await using server = await startRedisServer()
        const theirs = new Redis(server.url, { maxRetriesPerRequest: 0 })
        theirs.on('error', () => {
          // Each command says so, too.
        })
        const factory = new ConnectionFactory(driverOptions({ redisUrl: server.url }))
        const [reader, worker] = (['reader', 'worker'] as const).map(
          (role) => new Connection(factory, role, silentLogger),
        )
        if (!reader || !worker) throw new Error('expected two connections')
        try {
          await theirs.xgroup('CREATE', 'stream', 'group', '0', 'MKSTREAM')
          await Promise.all([reader.client.client('ID'), worker.client.client('ID')])
          await theirs.call('CLIENT', 'PAUSE', String(pauseMs), 'WRITE')
          const abort = new AbortController()
          const { signal } = abort
          const reading = new BlockingReader(reader, worker).read('group', 'consumer', ['stream'], 60_000, signal)
          const ended = reading.catch((error: unknown) => error)
          // Held back: in the list of clients it stands as blocked.
          await eventually(async () => / cmd=xreadgroup /.test(String(await theirs.client('LIST'))))
          // Its id has come by now: it was asked for before.
          await theirs.ping()
          const startedAt = performance.now()
          abort.abort()
          const answer = await ended
          expect(performance.now() - startedAt).to.be.below(most)
          if (pauseMs < 1_000) expect(answer).to.deep.equal([])
          else expect(answer).to.be.instanceOf(Error)
          await theirs.call('CLIENT', 'UNPAUSE')
          expect(await theirs.ping()).to.equal('PONG')
        } finally {
          theirs.disconnect()
          reader.close()
          worker.close()
        }
      })
    }
  })
}
