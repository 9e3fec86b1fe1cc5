/**
 * The third part of an inspection: every index backwards. Each row of a cell, of the delayed ones and of the leases, each entry
 * and each pending row is read in one step with the record that it names, and judged by that.
 */
import type { Finding } from '../inspection.ts'
import { judgeCellRow, judgeDelayedRow, judgeEntry, judgeLeaseRow } from '../judgement.ts'
import type { IndexRow } from '../judgement.ts'
import { BANDS } from '../storage.ts'
import { TASK_STATUSES } from '../../task-status.ts'
import { entryRowOf, indexRowOf } from './inspection-answers.ts'
import type { InspectionWalk } from './inspection-walk.ts'
import { keyNameOf } from './key-names.ts'

export async function* inspectIndexes(walk: InspectionWalk): AsyncGenerator<Finding, void> {
  await addListed(walk)
  for (const [key, { kind, parts }] of walk.known) {
    const { queueName = '', name = '', status = '' } = parts
    if (kind === 'cell') {
      const judge = (row: IndexRow): Finding[] => judgeCellRow(row, { queueName, name, status })
      yield* inspectSet(walk, key, ['cell', queueName, name, status], judge)
    } else if (kind === 'delayed') {
      const judge = (row: IndexRow): Finding[] => judgeDelayedRow(row, queueName, walk.request)
      yield* inspectSet(walk, key, ['delayed', queueName, '', ''], judge)
    } else if (kind === 'leases') {
      yield* inspectSet(walk, key, ['lease', '', '', ''], (row) => judgeLeaseRow(row, walk.request))
    } else if (kind === 'stream') {
      yield* inspectEntries(walk, key)
      yield* inspectPending(walk, key)
    }
  }
}

/** Keys that came since the names were read, or came and went: those of every queue and task that is listed. */
async function addListed({ link, known }: InspectionWalk): Promise<void> {
  const { keys } = link
  const listed = async (key: string): Promise<string[]> => {
    if (!known.has(key)) return []
    return await link.producer.send('list its queues', (client) => client.smembers(key))
  }
  const names = (await listed(keys.queues)).flatMap((queueName) => [
    keys.delayed(queueName),
    ...BANDS.map((band) => keys.stream(queueName, band)),
  ])
  for (const pair of await listed(keys.cells)) {
    const [queueName = '', name = ''] = pair.split(':')
    names.push(...TASK_STATUSES.map((status) => keys.cell({ queueName, name, status })))
  }
  for (const key of [...names, keys.leases]) {
    const name = keyNameOf(key.slice(keys.root.length))
    if (name?.wrongPart === undefined && name && !known.has(key)) known.set(key, name)
  }
}

async function* inspectSet(
  walk: InspectionWalk,
  key: string,
  place: readonly string[],
  judge: (row: IndexRow) => Finding[],
): AsyncGenerator<Finding, void> {
  let cursor = '0'
  do {
    if (walk.isStopped) return
    const answer = await walk.run('inspect-index', [key, cursor])
    const [next, now, rows] = answer as [string, string, readonly (readonly string[])[]]
    cursor = next
    for (const row of rows.map((texts) => indexRowOf(key, Number(now), texts))) {
      for (const finding of judge(row)) {
        yield await walk.tell(finding, walk.repair('repair-row', [row.id, ...place]))
      }
    }
    walk.passed(rows.length)
  } while (cursor !== '0')
}

async function* inspectEntries(walk: InspectionWalk, stream: string): AsyncGenerator<Finding, void> {
  let next = '-'
  while (next !== '' && !walk.isStopped) {
    const [after, ...rows] = (await walk.run('inspect-entries', [stream, next])) as [string, ...string[][]]
    next = after
    for (const row of rows.map((texts) => entryRowOf(stream, texts))) {
      for (const finding of judgeEntry(row)) {
        yield await walk.tell(finding, walk.repair('repair-entry', [stream, row.entryId]))
      }
    }
    walk.passed(rows.length)
  }
}

async function* inspectPending(walk: InspectionWalk, stream: string): AsyncGenerator<Finding, void> {
  let next = '-'
  while (next !== '' && !walk.isStopped) {
    const [after, , ...rows] = (await walk.run('inspect-pending', [stream, next])) as string[]
    next = after ?? ''
    for (let index = 0; index < rows.length; index += 2) {
      const [entryId = '', consumer = ''] = rows.slice(index, index + 2)
      const found = `a pending row of ${consumer} without entry ${entryId}`
      const finding = {
        invariant: 'I8',
        id: entryId,
        key: stream,
        found,
        expected: 'no row',
        repairable: true,
      } as const
      yield await walk.tell(finding, walk.repair('repair-entry', [stream, entryId]))
    }
  }
}
