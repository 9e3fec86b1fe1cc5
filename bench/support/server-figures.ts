/** What a server says of its own work and memory. */
import { Redis } from 'ioredis'

export interface ServerFigures {
  /** Time inside scripts: the commands that they call are part of it. */
  readonly scriptsUs: number
  /** CPU of the server process: sockets, parsing and all. */
  readonly cpuUs: number
  readonly memoryBytes: number
}

export class ServerWatch {
  readonly #redis: Redis

  constructor(url: string) {
    this.#redis = new Redis(url)
  }

  /** Empties the server. */
  async clear(): Promise<void> {
    await this.#redis.flushall()
    await this.#redis.config('RESETSTAT')
  }

  async read(): Promise<ServerFigures> {
    const [commands, cpu, memory] = await Promise.all([
      this.#redis.info('commandstats'),
      this.#redis.info('cpu'),
      this.#redis.info('memory'),
    ])
    let scriptsUs = 0
    for (const [, usec] of commands.matchAll(/^cmdstat_(?:evalsha|eval|fcall):calls=\d+,usec=(\d+)/gm)) {
      scriptsUs += Number(usec)
    }
    const number = (text: string, name: string): number =>
      Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(text)?.[1] ?? 0)
    return {
      scriptsUs,
      cpuUs: (number(cpu, 'used_cpu_user') + number(cpu, 'used_cpu_sys')) * 1e6,
      memoryBytes: number(memory, 'used_memory'),
    }
  }

  /** Milliseconds that the server has used, by command; for profiles. */
  async commands(): Promise<[name: string, calls: number, usec: number][]> {
    const text = await this.#redis.info('commandstats')
    return [...text.matchAll(/^cmdstat_([^:]+):calls=(\d+),usec=(\d+)/gm)].map(([, name = '', calls, usec]) => [
      name,
      Number(calls),
      Number(usec),
    ])
  }

  close(): void {
    this.#redis.disconnect()
  }
}
