/** How attempts ended, in the words that settle-items.lua takes and answers. */
import type { Settlement, SettledRecord, SettleWord } from '../storage.ts'
import { numberOf, timeOf } from './record-fields.ts'
import type { FieldName } from './record-fields.ts'

/** What a settle needs to know: the fence says when a first attempt began. */
export const SETTLED_FIELDS = [
  ...(['queueName', 'name', 'priority', 'runAfter', 'lastAttemptedAt', 'fence'] as const),
] satisfies FieldName[]

/** The answer of HMGET with SETTLED_FIELDS; empty where it is none, malformed numbers as if they were not there. */
export function settledRecordOf(reply: unknown): SettledRecord {
  const values: unknown[] = Array.isArray(reply) ? reply : []
  const [queueName = '', name = '', priority, runAfter, lastAttemptedAt, fence] = values.map((value) =>
    typeof value === 'string' ? value : '',
  )
  return {
    queueName,
    name,
    priority: numberOf(priority, 0),
    runAfter: timeOf(runAfter),
    lastAttemptedAt: timeOf(lastAttemptedAt) ?? Math.floor(numberOf(fence, 0) / 1_000),
  }
}

const NO_RECORD = settledRecordOf(undefined)

/** What most tasks return. */
const NOTHING = 'null'

/** Outcomes as settle-items.lua takes them: what neighbours have in common is said once. */
export function settleArgs(items: readonly Settlement[], records: readonly SettledRecord[]): string[] {
  const words: string[] = []
  let run: { readonly item: Settlement; readonly record: SettledRecord; readonly countAt: number } | undefined
  let count = 0
  items.forEach((item, index) => {
    const record = records[index] ?? NO_RECORD
    const { lease, outcome, payload, delayMs } = item
    if (!run || !endAlike(run.item, item) || !areAlike(run.record, record)) {
      const { queueName, name, priority, runAfter, lastAttemptedAt } = record
      words.push(lease.token, outcome, String(delayMs), queueName, name, String(priority), String(runAfter ?? ''))
      words.push(String(lastAttemptedAt ?? 0), payload === NOTHING ? NOTHING : '')
      run = { item, record, countAt: words.push('') - 1 }
      count = 0
    }
    count += 1
    words[run.countAt] = String(count)
    words.push(lease.id)
    if (payload !== NOTHING) words.push(payload)
  })
  return words
}

function endAlike(a: Settlement, b: Settlement): boolean {
  const returnAlike = (a.payload === NOTHING) === (b.payload === NOTHING)
  return a.lease.token === b.lease.token && a.outcome === b.outcome && returnAlike && a.delayMs === b.delayMs
}

function areAlike(a: SettledRecord, b: SettledRecord): boolean {
  const isOneTask = a.queueName === b.queueName && a.name === b.name && a.priority === b.priority
  return isOneTask && a.runAfter === b.runAfter && a.lastAttemptedAt === b.lastAttemptedAt
}

/** An answer names only what was refused, by its position from 1 on. */
export function settleAnswerOf(reply: unknown, count: number): { words: SettleWord[]; indexError: string | undefined } {
  const [indexError, ...refused] = reply as [string, ...(number | SettleWord)[]]
  const words = new Array<SettleWord>(count).fill('SETTLED')
  for (let at = 0; at < refused.length; at += 2) words[Number(refused[at]) - 1] = refused[at + 1] as SettleWord
  return { words, indexError: indexError === '' ? undefined : indexError }
}
