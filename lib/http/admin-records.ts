/**
 * Records as lists read them: no more of a payload than is shown. Only where the `redact` hook must see a value is a record
 * that was cut read whole, one at a time, so that a page of large records never stands in memory together.
 */
import type { RecordFilter } from '../record-filter.ts'
import { RecordQuery } from '../record-query.ts'
import { isDamaged } from '../storage/stored-record.ts'
import type { Brief, StoredRecord } from '../storage/stored-record.ts'
import type { AdminContext } from './admin-context.ts'

/** Enough for the 120 characters of a row, whatever script they are in, with line breaks to lose. */
export const SHOWN: Brief = { argsBytes: 1_024 }

export function briefQuery(
  { backend }: Pick<AdminContext, 'backend'>,
  filter: RecordFilter,
): RecordQuery<StoredRecord> {
  const { storage, logger, alias } = backend
  return new RecordQuery(
    {
      storage,
      brief: SHOWN,
      toItem: (record) => record,
      onDamaged: ({ id, damage }) => logger.error({ id, backend: alias, damage }, 'a stored record cannot be read'),
    },
    filter,
  )
}

/** The record as far as its row needs it; null when it has gone meanwhile. */
export async function seenWhole(
  { backend, redactor }: Pick<AdminContext, 'backend' | 'redactor'>,
  record: StoredRecord,
): Promise<StoredRecord | null> {
  if (!redactor.active || !record.omittedBytes) return record
  const [whole] = await backend.storage.find([record.id])
  return whole && !isDamaged(whole) ? whole : null
}
