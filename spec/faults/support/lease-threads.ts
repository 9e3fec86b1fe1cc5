/** Every worker thread that this process starts while it is watched: how many, how many still run, what they are told and what they say. */
import type { Worker as Thread } from 'node:worker_threads'

export class LeaseThreads {
  readonly #alive = new Set<Thread>()
  #started = 0
  #told: object[] = []
  #heard: object[] = []
  readonly #onThread = (thread: Thread): void => {
    this.#started += 1
    this.#alive.add(thread)
    thread.on('message', (message: object) => void this.#heard.push(message))
    const post = thread.postMessage.bind(thread)
    thread.postMessage = (message: object) => {
      this.#told.push(message)
      post(message)
    }
    thread.once('exit', () => this.#alive.delete(thread))
  }

  get started(): number {
    return this.#started
  }

  /** Messages to any of them. */
  get told(): readonly object[] {
    return this.#told
  }

  /** Messages from any of them. */
  get heard(): readonly object[] {
    return this.#heard
  }

  get running(): number {
    return this.#alive.size
  }

  watch(): void {
    this.#started = 0
    this.#told = []
    this.#heard = []
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
