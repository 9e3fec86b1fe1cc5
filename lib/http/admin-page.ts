/** A page of the admin as an answer: the frame with one view in it. What is read carries a tag, unless it is an error. */
import type { Response } from 'express'
import type { FrameModel } from './admin-context.ts'
import { isUnchanged } from './etag.ts'
import { render } from './render.ts'

export function sendPage(res: Response, view: string, model: FrameModel, status = 200): void {
  const html = render('layout', { ...model, view })
  const isRead = res.req.method === 'GET' || res.req.method === 'HEAD'
  if (status === 200 && isRead && isUnchanged(res, timeless(html))) return
  res.status(status).type('html').send(html)
}

/** The same for pages that differ in nothing but the passing of time, which the script writes by itself. */
function timeless(html: string): string {
  return html
    .slice(0, html.indexOf('<footer'))
    .replace(/ data-now="\d+"/, '')
    .replace(/(<time[^>]*>)[^<]*/g, '$1')
}
