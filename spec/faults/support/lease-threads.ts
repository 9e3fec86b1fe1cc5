/** Every worker thread that this process starts while it is watched: how many, and how many still run. */
import type { Worker as Thread } from 'node:worker_threads'

export class LeaseThreads {
  readonly #alive = new Set<Thread>()
  #started = 0
  readonly #onThread = (thread: Thread): void => {
    this.#started += 1
    this.#alive.add(thread)
    thread.once('exit', () => this.#alive.delete(thread))
  }

  get started(): number {
    return this.#started
  }

  get running(): number {
    return this.#alive.size
  }

  watch(): void {
    this.#started = 0
    this.#alive.clear()
    process.on('worker', this.#onThread)
  }

  forget(): void {
    process.off('worker', this.#onThread)
  }

  async terminateAll(): Promise<void> {
    await Promise.all([...this.#alive].map((thread) => thread.terminate()))
  }
}
