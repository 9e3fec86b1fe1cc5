/**
 * The second part of an inspection: records, each judged by what one script read of it at one moment. Payloads are fetched beside
 * that, so many bytes at a time, and parsed here: they are never decoded in a script.
 */
import { isUtf8 } from 'node:buffer'
import { batchesOf } from '../../batches.ts'
import type { Finding } from '../inspection.ts'
import type { Invariant } from '../invariants.ts'
import { judgePayloads, judgeRecord } from '../judgement.ts'
import { INSPECTED_FIELDS, recordAnswerOf } from './inspection-answers.ts'
import type { RecordAnswer } from './inspection-answers.ts'
import type { InspectionWalk } from './inspection-walk.ts'
import { ARGS_FIELDS } from './args-pieces.ts'

/** Records that one script reads: about 2 ms of the server's time. */
const BATCH = 50
/** Payloads that are held at a time. One record may have more alone. */
const PAYLOAD_BYTES = 4_000_000
const NOTHING = Buffer.alloc(0)

export async function* inspectRecords(walk: InspectionWalk, ids: readonly string[]): AsyncGenerator<Finding, void> {
  for (const batch of batchesOf(ids, BATCH)) {
    if (walk.isStopped) return
    const fields = [String(INSPECTED_FIELDS.length), ...INSPECTED_FIELDS]
    const [now, ...rows] = (await walk.run('inspect-records', [...fields, ...batch])) as [string, ...string[][]]
    const answers = rows.map((row) => recordAnswerOf(walk.link.keys, Number(now), row))
    for (const answer of answers) yield* judge(walk, answer)
    yield* judgeAllPayloads(walk, answers)
    walk.passed(batch.length)
  }
}

async function* judge(walk: InspectionWalk, answer: RecordAnswer): AsyncGenerator<Finding, void> {
  if (answer.word === 'GONE') {
    // Deleted since its name was read; its name was counted.
    walk.keys -= 1
    return
  }
  const { id } = answer
  const key = walk.link.keys.record(id)
  const wrong = (invariant: Invariant, found: string, expected: string): Finding => {
    return { invariant, id, key, found, expected, repairable: false }
  }
  if (answer.word === 'WRONG') {
    yield wrong('I1', answer.type, 'hash')
    return
  }
  walk.records += 1
  if (walk.request.isOwn?.(id) === false) yield wrong('I1', 'a record of another shard', 'one that is looked for here')
  if (answer.otherFields !== '') yield wrong('I2', `other fields: ${answer.otherFields}`, 'the fields of a record')
  if (answer.word === 'DAMAGED') {
    yield wrong('I2', answer.damage, 'a record that can be read')
    return
  }
  const { retentionMs } = walk.request
  const findings = judgeRecord(answer.evidence, walk.request).filter(
    (finding) => finding.invariant !== 'I12' || isNews(walk, finding),
  )
  const mended = new Set<unknown>()
  if (walk.request.repair && findings.some(({ repairable }) => repairable)) {
    for (const word of await walk.run('repair-record', [id, String(retentionMs)])) mended.add(word)
  }
  for (const finding of findings) {
    yield await walk.tell(finding, () => Promise.resolve(mended.has(finding.invariant)))
  }
}

function isNews({ unlisted }: InspectionWalk, { key, found }: Finding): boolean {
  const before = unlisted.size
  return unlisted.add(`${key} ${found}`).size > before
}

async function* judgeAllPayloads(
  walk: InspectionWalk,
  answers: readonly RecordAnswer[],
): AsyncGenerator<Finding, void> {
  let ids: string[] = []
  let bytes = 0
  for (const answer of answers) {
    if (answer.word !== 'FOUND') continue
    if (ids.length > 0 && bytes + answer.payloadBytes > PAYLOAD_BYTES) {
      yield* await judgePayloadsOf(walk, ids)
      ids = []
      bytes = 0
    }
    ids.push(answer.id)
    bytes += answer.payloadBytes
  }
  if (ids.length > 0) yield* await judgePayloadsOf(walk, ids)
}

/** Status, attempts and payloads of each record come in one read: what is judged was so at one moment. */
async function judgePayloadsOf({ link }: InspectionWalk, ids: readonly string[]): Promise<Finding[]> {
  const replies = await link.pipeline('read payloads', (pipeline) => {
    for (const id of ids) {
      pipeline.hmgetBuffer(link.keys.record(id), 'status', 'attempts', 'fence', 'returnValue', 'errors', ...ARGS_FIELDS)
    }
  })
  return ids.flatMap((id, index) => {
    // Deleted since, or a key of another type.
    const values = replies[index] as (Buffer | null)[] | null
    if (!values || values[0] === null) return []
    const buffers = values.map((value) => value ?? NOTHING)
    const key = link.keys.record(id)
    const [status = '', attempts = '', fence = ''] = buffers.splice(0, 3).map(String)
    const [returnValue = NOTHING, errors = NOTHING] = buffers.splice(0, 2)
    const payloads = { args: Buffer.concat(buffers), returnValue, errors }
    const odd = Object.entries(payloads).flatMap(([field, bytes]) => (isUtf8(bytes) ? [] : [field]))
    if (odd.length > 0) {
      const found = `${odd.join(', ')} not UTF-8`
      return [{ invariant: 'I2', id, key, found, expected: 'UTF-8', repairable: false } satisfies Finding]
    }
    const texts = { args: String(payloads.args), returnValue: String(returnValue), errors: String(errors) }
    return judgePayloads({
      id,
      key,
      status,
      attempts: attempts === '' && fence !== '' ? 1 : Number(attempts),
      ...texts,
    })
  })
}
