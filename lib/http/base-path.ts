/** The path that the router is mounted at, as links, redirects and headers may name it. */
import type { Request } from 'express'

/**
 * From this very request, empty at the root of a host. A part of it may come from the caller (`/:tenant/tasks`), and browsers
 * read `//host` and `/\host` as another host: it begins with one slash, and holds no backslash and nothing that a header may not.
 */
export function baseOf({ baseUrl }: Pick<Request, 'baseUrl'>): string {
  const path = baseUrl.replace(/[^!-[\]-~]/g, (sign) => (sign === '\\' ? '%5C' : encodeURI(sign)))
  return path === '' ? '' : `/${path.replace(/^\/+/, '')}`
}
