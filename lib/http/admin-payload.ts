/** The whole of one payload: as a page, laid out as text, or as a file, exactly as it is stored. */
import type { Response } from 'express'
import type { StoredRecord } from '../storage/stored-record.ts'
import { frame } from './admin-context.ts'
import type { AdminContext, FrameModel } from './admin-context.ts'
import { bytes, readableJson } from './admin-format.ts'
import { sendPage } from './admin-page.ts'
import { queryText } from './admin-view.ts'

export interface PayloadModel extends FrameModel {
  readonly id: string
  readonly name: string
  readonly heading: string
  readonly size: string
  readonly text: string
  readonly back: string
  readonly downloadHref: string
}

export function payloadPage(
  context: AdminContext,
  res: Response,
  record: StoredRecord,
  field: 'args' | 'result',
  { json, title }: { readonly json: string; readonly title: string },
): void {
  if (context.query.get('download') === '1') {
    // The id is a UUID and the field one of two words: nothing else stands in a header.
    res
      .set('Content-Disposition', `attachment; filename="${field}-${record.id}.json"`)
      .type('application/json')
      .send(json)
    return
  }
  const path = `${context.base}/tasks/${encodeURIComponent(record.id)}`
  const model: PayloadModel = {
    ...frame(context, { title: `${title} of ${record.name}`, section: 'tasks', live: false, notice: null }),
    id: record.id,
    name: record.name,
    heading: title,
    size: bytes(Buffer.byteLength(json)),
    text: readableJson(json).text,
    back: `${path}${queryText(context.view)}`,
    downloadHref: `${path}/${field}${queryText(context.view, { download: '1' })}`,
  }
  sendPage(res, 'payload', model)
}
