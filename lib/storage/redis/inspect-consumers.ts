/**
 * The fourth part of an inspection: the group of each stream, its consumers, and the two keys of each worker. Names of consumers
 * are few: as many as workers.
 */
import { batchesOf } from '../../batches.ts'
import type { Finding } from '../inspection.ts'
import type { InspectionWalk } from './inspection-walk.ts'

/** For so many claim intervals without a sign a consumer that has nothing may stay. */
const IDLE_INTERVALS = 10
const BATCH = 100

export async function* inspectConsumers(walk: InspectionWalk): AsyncGenerator<Finding, void> {
  for (const [key, { kind }] of walk.known) {
    if (walk.isStopped) return
    if (kind === 'stream') yield* inspectGroups(walk, key)
  }
  yield* inspectWorkers(walk)
}

async function* inspectGroups(walk: InspectionWalk, stream: string): AsyncGenerator<Finding, void> {
  const { link, request } = walk
  const rows = (await walk.run('inspect-consumers', [stream])) as string[][]
  const finding = { invariant: 'I13', id: '', key: stream } as const
  const groups = rows.flatMap(([word, name = '']) => (word === 'GROUP' ? [name] : []))
  for (const name of groups.filter((group) => group !== link.group)) {
    yield { ...finding, found: `group ${name.slice(0, 80)}`, expected: `${link.group} alone`, repairable: false }
  }
  // A queue that is listed may have a stream to come; one that is there has its group.
  if (rows.length > 0 && !groups.includes(link.group)) {
    const missing = { ...finding, found: 'no group', expected: link.group, repairable: true }
    yield await walk.tell(missing, walk.repair('repair-group', [stream]))
  }
  const maxIdleMs = request.claimIntervalMs * IDLE_INTERVALS
  for (const [word, name = '', pending, idle, heartbeat] of rows) {
    if (word !== 'CONSUMER' || pending !== '0' || heartbeat !== '' || request.consumers.has(name)) continue
    if (Number(idle) < maxIdleMs) continue
    const found = `consumer idle for ${Math.round(Number(idle) / 1_000)} s, with nothing of its own`
    const idler = { ...finding, id: name, found, expected: 'a heartbeat, or deliveries', repairable: true }
    yield await walk.tell(idler, walk.repair('repair-consumer', [stream, name, String(maxIdleMs)]))
  }
}

async function* inspectWorkers(walk: InspectionWalk): AsyncGenerator<Finding, void> {
  const { keys, producer } = walk.link
  const consumers = new Set<string>()
  for (const { kind, parts } of walk.known.values()) if (kind === 'worker') consumers.add(parts['consumer'] ?? '')
  if (walk.known.has(keys.workers)) {
    for (const name of await producer.send('list workers', (client) => client.zrange(keys.workers, '0', '-1'))) {
      consumers.add(name)
    }
  }
  const names = [...consumers]
  for (const batch of batchesOf(names, BATCH)) {
    if (walk.isStopped) return
    const answers = (await walk.run('inspect-workers', batch)) as string[]
    for (const [index, id] of batch.entries()) {
      const hasRow = answers[index * 2] !== ''
      // Said of the key itself (I1).
      if (answers[index * 2] === '!') continue
      const type = answers[index * 2 + 1]
      const finding = { invariant: 'I13', id, repairable: true } as const
      const repair = walk.repair('repair-worker', [id])
      if (hasRow && type === 'none') {
        const found = 'a heartbeat without its fields'
        yield await walk.tell({ ...finding, key: keys.workers, found, expected: 'both keys' }, repair)
      } else if (!hasRow && type === 'hash') {
        const found = 'fields without a heartbeat'
        yield await walk.tell({ ...finding, key: keys.worker(id), found, expected: 'both keys' }, repair)
      }
    }
  }
}
