/** Brings what belongs to one record of memory storage in line with it. The record is the truth: its state stays as it is. */
import { isFinal } from '../../task-status.ts'
import type { Keyspace } from './keyspace.ts'
import type { MemoryRecord } from './memory-record.ts'

export function mendRecord(keyspace: Keyspace, record: MemoryRecord, now: number): void {
  // Leaves its cell and enters it, with the score that it should have; makes queue and cell where they are missing.
  keyspace.enter(record, record.status)
  if (isFinal(record.status)) mendFinished(keyspace, record)
  else if (record.status === 'RUNNING') mendRunning(keyspace, record, now)
  else mendReady(keyspace, record, now)
}

function hasEntry(keyspace: Keyspace, record: MemoryRecord): boolean {
  return keyspace.streamOf(record).entryOf(record.entryId)?.id === record.id
}

function mendReady(keyspace: Keyspace, record: MemoryRecord, now: number): void {
  record.leaseToken = ''
  const delayed = keyspace.queues.get(record.queueName)?.delayed
  if (hasEntry(keyspace, record)) {
    delayed?.remove(record.id)
  } else if (record.entryId !== '' || delayed?.score(record.id) === undefined) {
    delayed?.remove(record.id)
    keyspace.place(record, now)
  }
}

function mendRunning(keyspace: Keyspace, record: MemoryRecord, now: number): void {
  if (record.fence < 1) record.fence = now * 1000
  let deadline = record.leaseUntil ?? now
  if (record.leaseToken === '') {
    // Nobody holds such a token: the attempt is taken over as that of a dead worker.
    record.leaseToken = `${record.attempts}:doctor.${now}`
    deadline = now
  }
  keyspace.moveDeadline(record, deadline)
  if (!hasEntry(keyspace, record)) keyspace.push(record, now)
}

function mendFinished(keyspace: Keyspace, record: MemoryRecord): void {
  if (record.entryId === '') return
  if (hasEntry(keyspace, record)) keyspace.streamOf(record).remove(record.entryId)
  record.entryId = ''
}
