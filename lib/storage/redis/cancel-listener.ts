/**
 * Tells those who run attempts of the ones that a person cancelled. A message may be lost, so the renewal of a lease says the
 * same; after each gap everybody looks.
 */
import type { Logger } from '../../logger.ts'
import type { CancelWatcher } from '../storage.ts'
import type { ChannelListener } from './channel-listener.ts'

export class CancelListener {
  readonly #news: ChannelListener
  readonly #channel: string
  readonly #logger: Logger
  readonly #watchers = new Set<CancelWatcher>()
  #stop: (() => void) | undefined
  /** That nothing can be heard was said. */
  #isDeaf = false

  constructor(news: ChannelListener, channel: string, logger: Logger) {
    this.#news = news
    this.#channel = channel
    this.#logger = logger
  }

  /** Tells `watcher` from soon on, until the answer is called. The subscription is made behind its back, and kept. */
  watch(watcher: CancelWatcher): () => void {
    this.#watchers.add(watcher)
    this.#stop ??= this.#listen()
    return () => {
      this.#watchers.delete(watcher)
      if (this.#watchers.size > 0) return
      this.#stop?.()
      this.#stop = undefined
    }
  }

  #listen(): () => void {
    const missed = (): void => {
      this.#isDeaf = false
      for (const watcher of this.#watchers) watcher.missed()
    }
    const failed = (error: unknown): void => {
      if (this.#isDeaf || this.#watchers.size === 0) return
      this.#isDeaf = true
      // Leases are renewed all the same.
      this.#logger.warn({ error }, 'cancelled attempts are noticed at the renewal of their lease only')
    }
    const stop = this.#news.listen(this.#channel, {
      heard: (message) => this.#hear(message.split(' ')),
      missed,
      failed,
    })
    this.#news.subscribed(this.#channel).then((isNew) => isNew && missed(), failed)
    return stop
  }

  #hear(words: readonly string[]): void {
    for (let index = 0; index < words.length; index += 2) {
      const attempt = { id: words[index] ?? '', token: words[index + 1] ?? '' }
      for (const watcher of this.#watchers) watcher.cancelled(attempt)
    }
  }
}
