/**
 * Wakes those who wait for a record to end, without polling. A message only says *look again*; what became of the record is
 * always read from the record.
 */
import type { ChannelListener } from './channel-listener.ts'

type Look = () => void

export class FinishListener {
  readonly #news: ChannelListener
  readonly #channel: string
  readonly #waiting = new Map<string, Set<Look>>()
  #stop: (() => void) | undefined

  constructor(news: ChannelListener, channel: string) {
    this.#news = news
    this.#channel = channel
  }

  /** Calls `look` whenever the record may have ended, from soon on, until the answer is called. */
  listen(id: string, look: Look): () => void {
    const waiting = this.#waiting.get(id) ?? new Set<Look>()
    this.#waiting.set(id, waiting.add(look))
    this.#stop ??= this.#news.listen(this.#channel, {
      heard: (message) => {
        for (const each of message.split(' ')) this.#wake(each)
      },
      missed: () => {
        for (const each of this.#waiting.keys()) this.#wake(each)
      },
      // Who waits has a time limit, and is told by `subscribed` when the first try was refused.
      failed: () => undefined,
    })
    return () => {
      waiting.delete(look)
      if (waiting.size === 0 && this.#waiting.get(id) === waiting) this.#waiting.delete(id)
      if (this.#waiting.size > 0) return
      this.#stop?.()
      this.#stop = undefined
    }
  }

  /** Resolves once messages arrive; rejects when this try to subscribe was refused. */
  async subscribed(): Promise<void> {
    await this.#news.subscribed(this.#channel)
  }

  #wake(id: string): void {
    for (const look of this.#waiting.get(id) ?? []) look()
  }
}
