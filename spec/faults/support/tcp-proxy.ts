/**
 * A TCP proxy in front of a server. `swallow()` makes the connections that there are half-open: nothing passes in either
 * direction, nobody is told, no FIN and no RST; new ones work. `cut()` ends all of them with a reset.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

interface Pair {
  readonly client: Socket
  readonly server: Socket
  swallowed: boolean
}

export class TcpProxy implements AsyncDisposable {
  readonly #listener: Server
  readonly #pairs = new Set<Pair>()
  #closed = false

  private constructor(listener: Server) {
    this.#listener = listener
  }

  static async start(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
    const listener = createServer()
    const proxy = new TcpProxy(listener)
    listener.on('connection', (client) => proxy.#join(client, connect(target.port, target.host)))
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    return proxy
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`
  }

  get connections(): number {
    return [...this.#pairs].filter(({ swallowed }) => !swallowed).length
  }

  /** @returns how many connections are dead from now on. */
  swallow(): number {
    const live = [...this.#pairs].filter(({ swallowed }) => !swallowed)
    for (const pair of live) pair.swallowed = true
    return live.length
  }

  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    const closed = once(this.#listener, 'close')
    this.#listener.close()
    for (const { client, server } of this.#pairs) {
      client.destroy()
      server.destroy()
    }
    await closed
  }

  #join(client: Socket, server: Socket): void {
    // Whoever lost its connection by the end comes back once more.
    if (this.#closed) {
      client.destroy()
      server.destroy()
      return
    }
    const pair: Pair = { client, server, swallowed: false }
    this.#pairs.add(pair)
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('data', (bytes) => {
        if (!pair.swallowed) to.write(bytes)
      })
      from.on('error', () => to.destroy())
      from.on('close', () => {
        // The other side of a half-open connection hears nothing of it.
        if (!pair.swallowed) to.destroy()
        if (client.destroyed && server.destroyed) this.#pairs.delete(pair)
      })
    }
  }
}
