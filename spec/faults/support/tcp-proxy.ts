/**
 * A TCP proxy in front of a server. `swallow()` makes the connections that there are half-open: nothing passes in either
 * direction, nobody is told, no FIN and no RST; new ones work. `cut()` ends all of them with a reset, `cutNext()` one of them
 * in the middle of a call. `hold()` keeps everything back until `release()`, as a network does that is away for a while.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

interface Pair {
  readonly client: Socket
  readonly server: Socket
  swallowed: boolean
  /** What passes next leaves no earlier than this. */
  nextAt: number
  /** The next reply is cut after so many bytes. */
  cutReplyAfter: number | undefined
}

/** Where a call is cut: in its request or its reply, after so many bytes; the whole of it, when it is shorter. */
export interface Cut {
  readonly side: 'request' | 'reply'
  readonly after: number
  /** Bytes that only the request of this call holds. */
  readonly marker: string
}

/** How slowly everything passes, each way. */
export interface Pace {
  readonly delayMs?: number
  readonly bytesPerSecond?: number
  readonly byteAPacket?: boolean
  /** Each reply is cut in the middle with this probability. */
  readonly cutShare?: number
}

export class TcpProxy implements AsyncDisposable {
  readonly #listener: Server
  readonly #pairs = new Set<Pair>()
  readonly #random: () => number
  #closed = false
  #cut: Cut | undefined
  #held: (() => void)[] | undefined
  #pace: Pace = {}
  /** Calls that were cut. */
  cuts = 0
  /** Length of the last request that held the marker of `cutNext`, and of its reply. */
  readonly lengths = { request: 0, reply: 0 }

  private constructor(listener: Server, random: () => number) {
    this.#listener = listener
    this.#random = random
  }

  static async start(
    target: { readonly host: string; readonly port: number },
    random: () => number = Math.random,
  ): Promise<TcpProxy> {
    const listener = createServer()
    const proxy = new TcpProxy(listener, random)
    listener.on('connection', (client) => proxy.#join(client, connect(target.port, target.host)))
    listener.listen(0, proxy.host)
    await once(listener, 'listening')
    return proxy
  }

  readonly host = '127.0.0.1'

  get port(): number {
    return (this.#listener.address() as AddressInfo).port
  }

  get url(): string {
    return `redis://${this.host}:${this.port}`
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
    for (const pair of this.#pairs) reset(pair)
  }

  /** Cuts the next call whose request holds the marker. */
  cutNext(cut: Cut): void {
    this.#cut = cut
  }

  setPace(pace: Pace): void {
    this.#pace = pace
  }

  hold(): void {
    this.#held ??= []
  }

  /** What was held goes on, in order. */
  release(): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const pass of held) pass()
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
    const pair: Pair = { client, server, swallowed: false, nextAt: 0, cutReplyAfter: undefined }
    this.#pairs.add(pair)
    for (const socket of [client, server]) socket.setNoDelay(true)
    client.on('data', (bytes: Buffer) => this.#request(pair, bytes))
    server.on('data', (bytes: Buffer) => this.#reply(pair, bytes))
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('error', () => to.destroy())
      from.on('close', () => {
        // The other side of a half-open connection hears nothing of it.
        if (!pair.swallowed) to.destroy()
        if (client.destroyed && server.destroyed) this.#pairs.delete(pair)
      })
    }
  }

  #request(pair: Pair, bytes: Buffer): void {
    const cut = this.#cut
    if (!cut || !bytes.includes(cut.marker)) {
      this.#pass(pair, pair.server, bytes)
      return
    }
    this.#cut = undefined
    this.lengths.request = bytes.length
    if (cut.side === 'request') {
      this.cuts += 1
      // Its end comes behind the bytes: what the server was sent it has read by then.
      pair.server.end(bytes.subarray(0, cut.after))
      pair.client.resetAndDestroy()
    } else {
      pair.cutReplyAfter = cut.after
      this.#pass(pair, pair.server, bytes)
    }
  }

  #reply(pair: Pair, bytes: Buffer): void {
    const after = pair.cutReplyAfter ?? (this.#random() < (this.#pace.cutShare ?? 0) ? bytes.length >> 1 : undefined)
    if (after === undefined) {
      this.#pass(pair, pair.client, bytes)
      return
    }
    this.cuts += 1
    this.lengths.reply = bytes.length
    pair.server.destroy()
    pair.client.end(bytes.subarray(0, after))
  }

  #pass(pair: Pair, to: Socket, bytes: Buffer): void {
    if (pair.swallowed) return
    if (this.#held) {
      this.#held.push(() => this.#pass(pair, to, bytes))
      return
    }
    const { delayMs = 0, bytesPerSecond = Infinity, byteAPacket = false } = this.#pace
    const write = (): void => {
      if (to.destroyed) return
      if (byteAPacket) for (let index = 0; index < bytes.length; index += 1) to.write(bytes.subarray(index, index + 1))
      else to.write(bytes)
    }
    if (delayMs === 0 && bytesPerSecond === Infinity) {
      write()
      return
    }
    const now = performance.now()
    pair.nextAt = Math.max(pair.nextAt, now + delayMs) + (bytes.length / bytesPerSecond) * 1_000
    setTimeout(write, pair.nextAt - now)
  }
}

function reset({ client, server }: Pair): void {
  client.resetAndDestroy()
  server.resetAndDestroy()
}
