/**
 * What the parts of an inspection share: the calls of scripts, the way back from a finding to its repair, the keys seen so far,
 * and how far it is.
 */
import type { Finding, InspectionRequest } from '../inspection.ts'
import type { KeyName } from './key-names.ts'
import type { RedisLink } from './redis-link.ts'
import type { ScriptName } from './scripts.ts'

/** The repair of a finding; answers whether it was made. */
export type Repair = () => Promise<boolean>

export class InspectionWalk {
  readonly link: RedisLink
  readonly request: InspectionRequest
  /** Keys of the right type that are no records, by name. */
  readonly known = new Map<string, KeyName>()
  /** Names that lists lack: told once, not once a record. */
  readonly unlisted = new Set<string>()
  records = 0
  keys = 0
  #done = 0
  #total = 0

  constructor(link: RedisLink, request: InspectionRequest) {
    this.link = link
    this.request = request
  }

  get isStopped(): boolean {
    return this.request.signal?.aborted ?? false
  }

  expect(total: number): void {
    this.#total = total
  }

  /** So many more rows were looked at. */
  passed(rows: number): void {
    this.#done += rows
    this.request.onProgress?.({ done: this.#done, total: Math.max(this.#total, this.#done) })
  }

  async run(name: ScriptName, args: readonly string[]): Promise<readonly unknown[]> {
    return (await this.link.produce(name, args)) as readonly unknown[]
  }

  /** Sends a repair that answers MENDED or FINE. */
  repair(name: ScriptName, args: readonly string[]): Repair {
    return async () => (await this.link.produce(name, args)) === 'MENDED'
  }

  /** The finding as it is told: mended before, where that was asked for and can be done. */
  async tell(finding: Finding, repair: Repair): Promise<Finding> {
    if (!this.request.repair || !finding.repairable) return finding
    return { ...finding, repaired: await repair() }
  }
}
