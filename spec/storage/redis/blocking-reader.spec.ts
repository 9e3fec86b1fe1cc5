/** A blocking read that the server never answers: which connections the watchdog gives up. */
import { expect } from 'chai'
import { EventEmitter } from 'node:events'
import { StorageUnavailableError } from '../../../lib/index.ts'
import { silentLogger } from '../../../lib/logger.ts'
import { BlockingReader } from '../../../lib/storage/redis/blocking-reader.ts'
import { Connection } from '../../../lib/storage/redis/connection.ts'
import type { ConnectionFactory, ConnectionRole } from '../../../lib/storage/redis/redis-client.ts'
import { caught } from '../../backends/backends-under-test.ts'

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
