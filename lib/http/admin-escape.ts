/**
 * Text as HTML, SVG or a double-quoted attribute. Beside the five signs of markup it writes out what no browser shows and what
 * a terminal or an editor may obey: control characters, and marks that turn the direction of text.
 */

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
  // No browser shows them, and an editor or a terminal may obey them.
  '\u202a': '\\u202a',
  '\u202b': '\\u202b',
  '\u202d': '\\u202d',
  '\u202e': '\\u202e',
  '\u2066': '\\u2066',
  '\u2067': '\\u2067',
  '\u2068': '\\u2068',
}

/** Text of HTML or of a double-quoted attribute. Nothing at all is empty; control characters that HTML forbids are shown. */
export function escapeHtml(value: string | number | null | undefined): string {
  if (value === undefined || value === null) return ''
  return (
    String(value)
      .replace(/[&<>"'\u202a\u202b\u202d\u202e\u2066-\u2068]/g, (sign) => ESCAPES[sign] ?? '')
      // eslint-disable-next-line no-control-regex -- they are what is looked for
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, (sign) => {
        return `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`
      })
  )
}
