/** The headers of every answer: nothing of ours is framed, sniffed, cached or run from elsewhere. */
import { createHash } from 'node:crypto'

/** Where styles may come from: our own files, or one text that stands in the page. */
function contentPolicy(styles: string): string {
  return `default-src 'none'; img-src 'self'; style-src ${styles}; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`
}

/** Sent with every answer, whatever it is. */
export const HEADERS = {
  'Content-Security-Policy': contentPolicy("'self'"),
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  // Not no-referrer: browsers would send `Origin: null` with our own forms.
  'Referrer-Policy': 'same-origin',
  'Cache-Control': 'no-store',
} as const

/** The same for a page that holds these styles itself. */
export function headersWithStyles(styles: string): Readonly<Record<string, string>> {
  const hash = createHash('sha256').update(styles).digest('base64')
  return { ...HEADERS, 'Content-Security-Policy': contentPolicy(`'sha256-${hash}'`) }
}
