/**
 * What the random walk must catch: scripts with one rule taken out. A mutant is a replacement in the text of one file, which
 * must stand there exactly once; where it does not, the mutant is stale and the spec says so.
 */
import { readFileSync } from 'node:fs'
import { SCRIPT_NAMES, scriptOf } from '../../../lib/storage/redis/scripts.ts'
import { withSpecClock } from './scripts/support.ts'
import type { ScriptTexts } from './scripts/support.ts'

const FOLDER = new URL('../../../lib/storage/redis/scripts/', import.meta.url)

export interface Mutant {
  /** The rule that is missing. */
  readonly name: string
  readonly file: string
  readonly text: string
  readonly instead: string
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'no entry check: any entry of a record begins it',
    file: 'functions/begin-entries.lua',
    text: 'elseif v[2] ~= entryId then',
    instead: "elseif type(v[2]) ~= 'string' then",
  },
  {
    name: 'no token compare in settle',
    file: 'functions/settle-items.lua',
    text: "elseif isOwn and v[1] == 'RUNNING' then",
    instead: "elseif v[1] == 'RUNNING' then",
  },
  {
    name: 'a settle of what has its end',
    file: 'functions/settle-items.lua',
    text: "elseif isOwn and v[1] == 'RUNNING' then",
    instead: 'elseif isOwn then',
  },
  {
    name: 'no look at the token of what has its end in settle',
    file: 'functions/settle-items.lua',
    text: "(v[1] == 'SUCCESSFUL' or v[1] == 'FAILED') then",
    instead: 'false then',
  },
  {
    name: 'a retry that forgets who ended it',
    file: 'retry.lua',
    text: "if record.leaseToken ~= '' then",
    instead: 'if false then',
  },
  {
    name: 'a renewal of what has its end',
    file: 'renew.lua',
    text: "v[5] == 'RUNNING' and ",
    instead: '',
  },
  {
    name: 'a trim past what is pending',
    file: 'functions/remove-entries.lua',
    text: "redis.pcall('XPENDING', stream, group, '-', '+', '1')",
    instead: "{ { redis.call('XINFO', 'STREAM', stream)[8] } }",
  },
  {
    name: 'no token compare in renew',
    file: 'renew.lua',
    text: "elseif v[1] == token and token ~= '' and",
    instead: "elseif type(v[1]) == 'string' and v[1] ~= '' and",
  },
  {
    name: 'no token compare in requeue',
    file: 'requeue.lua',
    text: "record.status == 'RUNNING' and record.leaseToken == token",
    instead: "record.status == 'RUNNING'",
  },
  {
    name: 'no lastMove in settle',
    file: 'functions/settle-items.lua',
    text: "'settle ' .. token then",
    instead: "'never ' .. token then",
  },
  {
    name: 'no lastMove in requeue',
    file: 'requeue.lua',
    text: "record.lastMove == 'requeue ' .. token",
    instead: 'false',
  },
  {
    name: 'no requestId in retry',
    file: 'retry.lua',
    text: 'record.requestId == requestId or ',
    instead: '',
  },
  {
    name: 'no cancelId in cancel',
    file: 'cancel.lua',
    text: 'record.cancelId == requestId',
    instead: 'false',
  },
  {
    name: 'a cancel that leaves the token',
    file: 'functions/fail-record.lua',
    text: "'entryId', 'leaseToken', ",
    instead: "'entryId', ",
  },
  {
    name: 'a cancel of what has its end',
    file: 'cancel.lua',
    text: "record.status == 'READY' or record.status == 'RUNNING' then",
    instead: "record.status ~= '' then",
  },
  {
    name: 'a cancel that does not say whose token it took',
    file: 'cancel.lua',
    text: "extra[3], extra[4] = 'lastMove', 'cancel ' .. record.leaseToken",
    instead: '',
  },
  {
    name: 'a cancel that leaves the lease',
    file: 'functions/fail-record.lua',
    text: "writeIndex({ 'ZREM', leases, record.id })",
    instead: '',
  },
  {
    name: 'a cancel that leaves entry and delayed row',
    file: 'functions/fail-record.lua',
    text: 'unplace(record)',
    instead: '',
  },
  {
    name: 'a cancel that leaves the row of the state before',
    file: 'functions/fail-record.lua',
    text: "writeIndex({ 'ZREM', cellKey(record.queueName, record.name, record.status), record.id })",
    instead: '',
  },
  {
    name: 'a cancel without a row among the failed',
    file: 'functions/fail-record.lua',
    text: "writeIndex({ 'ZADD', cellKey(record.queueName, record.name, 'FAILED'), record.enqueuedAt, record.id })",
    instead: '',
  },
  {
    name: 'a cancel without its time',
    file: 'functions/fail-record.lua',
    text: "'finishedAt', nowText,",
    instead: '',
  },
  {
    name: 'a cancel that forgets the errors before',
    file: 'functions/fail-record.lua',
    text: "record.errors == '' and line or (record.errors .. '\\n' .. line)",
    instead: 'line',
  },
  {
    name: 'a cancelled attempt that is not counted',
    file: 'functions/fail-record.lua',
    text: "if record.status == 'RUNNING' then",
    instead: 'if false then',
  },
  {
    name: 'a waiting record that counts as an attempt once cancelled',
    file: 'functions/fail-record.lua',
    text: "if record.status == 'RUNNING' then",
    instead: 'if true then',
  },
  {
    name: 'no requestId in run-by-id',
    file: 'run-by-id.lua',
    text: 'record.requestId == call or ',
    instead: '',
  },
  {
    name: 'no leaseUntil check on the idle side',
    file: 'reclaim.lua',
    text: '\n        if record.leaseUntil > nowMs then',
    instead: '\n        if false then',
  },
  {
    name: 'fence without previous + 1',
    file: 'functions/begin-entries.lua',
    text: "local fence = format('%.0f', math.max(lastFence + 1, nowUs))\n        row = nil",
    instead: "local fence = format('%.0f', nowUs)\n        row = nil",
  },
  {
    name: 'save of a RUNNING record',
    file: 'save-record.lua',
    text: "if record.status == 'RUNNING' then return { 'RUNNING' } end",
    instead: '',
  },
  {
    name: 'delete of a RUNNING record',
    file: 'delete-record.lua',
    text: "elseif record.status == 'RUNNING' then",
    instead: 'elseif false then',
  },
  {
    name: 'no ZREM of delayed',
    file: 'functions/unplace.lua',
    text: "writeIndex({ 'ZREM', delayedKey(record.queueName), record.id })",
    instead: '',
  },
  {
    name: 'no ZREM of delayed in promotion',
    file: 'promote.lua',
    text: 'leave[#leave + 1] = id\n    records',
    instead: 'records',
  },
  {
    name: 'own rights for any take',
    file: 'functions/take-entries.lua',
    text: 'leaseMs, workerId, false)',
    instead: 'leaseMs, workerId, true)',
  },
  {
    name: 'own rights over tokens of any holder',
    file: 'functions/begin-entries.lua',
    text: "(own and holder and holder == string.match(call, '^(.*)%.%d+$'))",
    instead: 'own',
  },
  {
    name: 'no XDEL after XACK in settle',
    file: 'functions/remove-entries.lua',
    text: "noteError(redis.pcall('XDEL', stream, unpack(entryIds)))",
    instead: '',
  },
  {
    name: 'no XACK before XDEL in settle',
    file: 'functions/remove-entries.lua',
    text: "noteError(redis.pcall('XACK', stream, group, unpack(entryIds)))",
    instead: '',
  },
  {
    name: 'a crash that is not counted',
    file: 'reclaim.lua',
    text: 'if not waited and crashes > crashLimit then return giveUp(record, crashes) end',
    instead: 'if not waited and crashes > crashLimit then crashes = 1000 end',
  },
  {
    name: 'a consumer deleted with its pending rows',
    file: 'forget-worker.lua',
    text: "if #pending > 0 then return 'KEPT' end",
    instead: '',
  },
]

/** The scripts with one rule taken out. @throws {Error} the text does not stand there exactly once. */
export function mutated(mutant: Mutant): ScriptTexts {
  const original = readFileSync(new URL(mutant.file, FOLDER), 'utf8').trimEnd()
  const found = original.split(mutant.text).length - 1
  if (found !== 1) {
    throw new Error(
      `expected ${mutant.file} to hold ${JSON.stringify(mutant.text)} once, got: ${found} times (mend the mutant)`,
    )
  }
  const changed = original.replace(mutant.text, () => mutant.instead)
  return new Map(
    SCRIPT_NAMES.map((name) => [name, withSpecClock(scriptOf(name).text.replace(original, () => changed))] as const),
  )
}
