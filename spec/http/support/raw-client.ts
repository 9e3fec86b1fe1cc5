/** Requests as they are: paths and headers go out as they were given, bytes on a socket too. Each has an end in time. */
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { connect } from 'node:net'

/** Longer than any answer takes on a loaded machine: a request that is not answered by then hangs. */
const TIMEOUT_MS = 30_000

export interface RawAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

export interface RawRequest {
  readonly headers?: OutgoingHttpHeaders
  readonly body?: string | Buffer | undefined
}

/** One connection, kept: requests go one after the other. */
export class RawClient implements Disposable {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  readonly #port: number

  constructor(url: string) {
    this.#port = Number(new URL(url).port)
  }

  async send(method: string, path: string, { headers = {}, body }: RawRequest = {}): Promise<RawAnswer> {
    return await new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
      const outgoing = request(
        {
          ...{ agent: this.#agent, host: '127.0.0.1', port: this.#port, method, path },
          ...{ headers: { ...length, ...headers }, signal: AbortSignal.timeout(TIMEOUT_MS) },
        },
        (incoming) => {
          const chunks: Buffer[] = []
          incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
          incoming.on('error', reject)
          incoming.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8')
            resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text })
          })
        },
      )
      outgoing.on('error', (cause) =>
        reject(new Error(`expected an answer to ${method} ${path.slice(0, 200)}`, { cause })),
      )
      outgoing.end(body)
    })
  }

  /** Bytes on a socket of their own, and all that comes back until the other side closes. */
  async exchange(...chunks: readonly (string | Buffer)[]): Promise<string> {
    const socket = connect(this.#port, '127.0.0.1')
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('expected the server to answer and close')))
    for (const chunk of chunks) socket.write(chunk)
    let text = ''
    for await (const chunk of socket) text += String(chunk)
    return text
  }

  /** The beginning of a request; then the caller is gone. Resolves when the other side has noticed. */
  async hangUp(start: string): Promise<void> {
    const socket = connect(this.#port, '127.0.0.1')
    await new Promise<void>((resolve) => socket.write(start, () => resolve()))
    socket.resetAndDestroy()
    await once(socket, 'close')
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }
}
