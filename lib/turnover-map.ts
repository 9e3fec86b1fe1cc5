/**
 * A map whose entries come and go all the time. A Map in V8 copies its table into a new one each time it is full of deleted rows, and
 * links the old table to the new. Once one table has grown old its garbage keeps the next alive, and all that is in it, until the
 * whole heap is collected: each record that a busy worker took was moved to the old generation, a tenth of the worker's CPU (Node
 * 20). This one begins another Map now and then, which breaks the chain.
 */
const FEWEST = 128

export class TurnoverMap<Key, Value> {
  #map = new Map<Key, Value>()
  /** What may be added before the next Map. */
  #left = FEWEST

  get size(): number {
    return this.#map.size
  }

  get(key: Key): Value | undefined {
    return this.#map.get(key)
  }

  set(key: Key, value: Value): void {
    if (this.#left === 0) {
      this.#map = new Map(this.#map)
      this.#left = Math.max(FEWEST, this.#map.size)
    }
    this.#left -= 1
    this.#map.set(key, value)
  }

  delete(key: Key): void {
    this.#map.delete(key)
  }

  clear(): void {
    this.#map.clear()
  }

  /** Those that are there now: what is added or deleted meanwhile changes nothing of it. */
  keys(): Key[] {
    return [...this.#map.keys()]
  }

  values(): Value[] {
    return [...this.#map.values()]
  }
}
