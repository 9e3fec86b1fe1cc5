/**
 * The invariants of a keyspace, in words: what holds after every step, whatever was killed between two, and what a repair does
 * where one is broken. The doctor names them, the pages list them; the judging is in judgement.ts.
 */

export interface InvariantText {
  readonly holds: string
  /** Empty: reported, and left as it is. */
  readonly repair: string
}

export const INVARIANTS = {
  I1: {
    holds:
      'every key below the root is of a known kind, of its type, and its name is built of permitted parts; no key of ours lies beside the root',
    repair: '',
  },
  I2: { holds: 'every record can be read: its fields are there and in range, its payloads are JSON', repair: '' },
  I3: { holds: 'a record is in exactly one cell: that of its queue, name and status', repair: 'moved to its cell' },
  I4: {
    holds: 'READY: no lease, and one place: a row in `delayed`, or an entry that is still to be begun',
    repair: 'a new entry, or a row in `delayed`',
  },
  I5: {
    holds: 'RUNNING: a token, a fence, a row in `leases`, and one entry',
    repair: 'a row in `leases`, an entry; without a token the lease is over at once, and the attempt is taken over',
  },
  I6: {
    holds: 'SUCCESSFUL, FAILED: when it finished, no token, no entry',
    repair: 'token and entry removed; a missing time is reported',
  },
  I7: {
    holds: 'every entry belongs to a record that names it, in the stream of its queue and priority',
    repair: 'deleted',
  },
  I8: {
    holds: 'every pending row has its entry, and none belongs to a finished record',
    repair: 'acknowledged',
  },
  I9: {
    holds: 'every row of `delayed` and `leases` has its record, in the right state, with the right score',
    repair: 'removed, or its score corrected',
  },
  I10: {
    holds: 'the numbers of a record agree: attempts, crashes, fence, times, errors, return value',
    repair: '',
  },
  I11: {
    holds: 'nothing expires but counts by minute, and finished records not before their retention ends',
    repair: 'PERSIST; EXPIRE for counts',
  },
  I12: { holds: '`queues` and `cells` list every queue and task name that a record has', repair: 'added' },
  I13: {
    holds:
      'every stream has its group, every consumer something of its own or a sign of life, every worker both its keys',
    repair: 'the group is made from the start; idle consumers and half workers are removed',
  },
  I14: {
    holds:
      'where a worker lives, nothing is overdue: no lease, no delayed record, no finished record past its retention',
    repair: '',
  },
  I15: { holds: 'sizes agree: of cells, entries, `delayed` and `leases`', repair: '' },
} as const satisfies Record<string, InvariantText>

export type Invariant = keyof typeof INVARIANTS

export const INVARIANT_NAMES = Object.keys(INVARIANTS) as readonly Invariant[]
