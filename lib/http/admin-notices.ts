/** What a redirect brings: a code in the URL, its text here. A link from elsewhere can show none but these. */
import type { AdminContext, FrameModel } from './admin-context.ts'

const NOTICES = {
  deleted: { kind: 'good', text: 'The record was deleted.' },
  cancelled: {
    kind: 'good',
    text: 'The task was cancelled. If it ran, its worker is told, and what it still returns counts for nothing.',
  },
  retried: { kind: 'good', text: 'The record waits again; a worker takes it when its turn comes.' },
  succeeded: { kind: 'good', text: 'The task ran here and succeeded.' },
  failed: { kind: 'bad', text: 'The task ran here and failed. Its last attempt says why.' },
  later: { kind: 'info', text: 'The task ran here and waits for another attempt.' },
  state: { kind: 'info', text: 'Nothing was done: the record had gone into another state meanwhile.' },
  unknown: { kind: 'bad', text: 'Nothing was done: this process does not know a task of that name.' },
} as const satisfies Record<string, NonNullable<FrameModel['notice']>>

export type NoticeCode = keyof typeof NOTICES

export function noticeOf({ query }: Pick<AdminContext, 'query'>): FrameModel['notice'] {
  const code = query.get('notice') ?? ''
  return Object.hasOwn(NOTICES, code) ? NOTICES[code as NoticeCode] : null
}
