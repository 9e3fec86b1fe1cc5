/**
 * Charts as SVG text, made on the server: sizes by attributes, colours by the classes of admin.css, no style and no script.
 * The only markup that templates print unescaped: every text that goes in is escaped here.
 */
import { escapeHtml } from './admin-escape.ts'
import { duration } from './admin-format.ts'

const round = (value: number): number => Math.round(value * 10) / 10

interface Frame {
  /** Unique on its page: names title and description. */
  readonly id: string
  readonly title: string
  readonly description: string
  readonly width: number
  readonly height: number
}

function svg({ id, title, description, width, height }: Frame, body: string): string {
  const name = escapeHtml(id)
  return (
    `<svg class="chart" role="img" aria-labelledby="${name}-title ${name}-desc" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}" preserveAspectRatio="xMidYMid meet">` +
    `<title id="${name}-title">${escapeHtml(title)}</title><desc id="${name}-desc">${escapeHtml(description)}</desc>` +
    `${body}</svg>`
  )
}

const rect = (cls: string, x: number, y: number, width: number, height: number, rest = ''): string =>
  `<rect class="${cls}" x="${round(x)}" y="${round(y)}" width="${round(Math.max(0, width))}" height="${round(Math.max(0, height))}"${rest}/>`

/** A shape with a text that is shown while the mouse rests on it; a reader of the page has it in the description and the table. */
const told = (shape: string, text: string): string =>
  shape.replace(/^<(\w+)([^>]*)\/>$/, (_, name: string, rest: string) => {
    return `<${name}${rest}><title>${escapeHtml(text)}</title></${name}>`
  })

const label = (x: number, y: number, text: string, anchor = 'start', cls = 'chart-label'): string =>
  `<text class="${cls}" x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escapeHtml(text)}</text>`

const line = (cls: string, x1: number, y1: number, x2: number, y2: number): string =>
  `<line class="${cls}" x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}"/>`

/** The smallest round number that is not below the value: a scale that does not jump with every record. */
function niceTop(value: number): number {
  if (value <= 4) return 4
  const power = 10 ** Math.floor(Math.log10(value))
  for (const step of [1, 2, 3, 4, 6, 8, 10]) if (value <= step * power) return step * power
  return 10 * power
}

export interface Minute {
  readonly label: string
  readonly successful: number
  readonly failed: number
}

/** Bars of what ended per minute, failures stacked on top; the last minute still runs and is drawn hollow. */
export function throughputChart(id: string, minutes: readonly Minute[]): string {
  const [width, height, left, top, bottom] = [640, 310, 44, 12, 28]
  const most = niceTop(Math.max(0, ...minutes.map(({ successful, failed }) => successful + failed)))
  const plot = height - top - bottom
  const step = (width - left - 6) / Math.max(1, minutes.length)
  const y = (value: number): number => top + plot * (1 - value / most)
  let body = ''
  for (const part of [0, 0.5, 1]) {
    body += line(part === 0 ? 'chart-axis' : 'chart-grid', left, y(most * part), width - 4, y(most * part))
    body += label(left - 6, y(most * part) + 4, compact(most * part), 'end')
  }
  minutes.forEach(({ label: at, successful, failed }, index) => {
    const x = left + index * step + step * 0.12
    const wide = step * 0.76
    const running = index === minutes.length - 1 ? ' running' : ''
    if (successful > 0) body += rect(`bar-good${running}`, x, y(successful), wide, y(0) - y(successful))
    if (failed > 0)
      body += rect(`bar-bad${running}`, x, y(successful + failed), wide, y(successful) - y(successful + failed))
    const last = minutes.length - 1
    if (index === 0) body += label(left, height - 6, `${at} UTC`)
    else if (index % 15 === 0 && last - index > 5) body += label(x + wide / 2, height - 6, at, 'middle')
    if (index === last) body += label(width - 4, height - 6, 'now', 'end')
    // The whole column answers to the mouse, also above a short bar.
    const words = `${at} UTC${running === '' ? '' : ', still running'}: ${successful} succeeded, ${failed} failed`
    body += told(rect('hit', left + index * step, top, step, plot), words)
  })
  const done = minutes.reduce((sum, { successful }) => sum + successful, 0)
  const failed = minutes.reduce((sum, minute) => sum + minute.failed, 0)
  const description = `${done} succeeded and ${failed} failed in the last ${minutes.length} minutes; at most ${most} a minute fit the scale. The running minute is drawn hollow.`
  return svg({ id, title: 'Ended per minute', description, width, height }, body)
}

/** A line of small bars, one a minute. */
export function sparkline(id: string, queueName: string, values: readonly number[]): string {
  const [width, height] = [120, 22]
  const most = Math.max(1, ...values)
  const step = width / Math.max(1, values.length)
  let body = line('chart-grid', 0, height - 0.5, width, height - 0.5)
  values.forEach((value, index) => {
    if (value === 0) return
    const tall = Math.max(1.5, (height - 2) * (value / most))
    const running = index === values.length - 1 ? ' running' : ''
    body += rect(`bar-good${running}`, index * step + 0.2, height - tall, step - 0.6, tall)
  })
  const total = values.reduce((sum, value) => sum + value, 0)
  const description = `${total} ended in the last ${values.length} minutes, at most ${Math.max(0, ...values)} in one minute.`
  return svg({ id, title: `Ended per minute in ${queueName}`, description, width, height }, body)
}

export interface QueueBar {
  readonly name: string
  readonly waiting: number
  readonly delayed: number
  readonly running: number
}

/** One bar a queue: what waits, what is delayed, what runs. */
export function queuesChart(id: string, queues: readonly QueueBar[]): string {
  const [width, row, left] = [380, 26, 104]
  const height = Math.max(1, queues.length) * row + 6
  const most = niceTop(Math.max(0, ...queues.map(({ waiting, delayed, running }) => waiting + delayed + running)))
  const scale = (width - left - 48) / most
  let body = line('chart-axis', left, 2, left, height - 4)
  queues.forEach(({ name, waiting, delayed, running }, index) => {
    const y = index * row + 6
    body += label(left - 8, y + 12, name.length > 15 ? `${name.slice(0, 14)}…` : name, 'end')
    let x = left
    for (const [cls, value] of [
      ['bar-running', running],
      ['bar-waiting', waiting],
      ['bar-delayed', delayed],
    ] as const) {
      if (value > 0) {
        const kind = cls.replace('bar-', '')
        body += told(rect(cls, x, y, Math.max(1.5, value * scale), 16), `${name}: ${value} ${kind}`)
      }
      x += value > 0 ? Math.max(1.5, value * scale) : 0
    }
    body += label(x + 6, y + 12, compact(waiting + delayed + running))
  })
  const texts = queues.map(
    ({ name, waiting, delayed, running }) => `${name}: ${waiting} waiting, ${delayed} delayed, ${running} running`,
  )
  return svg({ id, title: 'Waiting and running by queue', description: `${texts.join('; ')}.`, width, height }, body)
}

export interface Percentiles {
  readonly name: string
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

const TICKS: readonly (readonly [ms: number, text: string])[] = [
  [1, '1 ms'],
  [10, '10 ms'],
  [100, '100 ms'],
  [1_000, '1 s'],
  [10_000, '10 s'],
  [60_000, '1 min'],
  [600_000, '10 min'],
  [3_600_000, '1 h'],
]

/** p50, p95 and p99 on a logarithmic line, one line a measure. */
export function percentilesChart(id: string, rows: readonly Percentiles[]): string {
  const [width, row, left, right] = [380, 36, 46, 20]
  const height = rows.length * row + 26
  const top = Math.max(1_000, ...rows.map(({ p99 }) => p99)) * 1.3
  const x = (ms: number): number => left + ((width - left - right) * Math.log10(Math.max(1, ms))) / Math.log10(top)
  let body = ''
  let lastX = -Infinity
  for (const [ms, text] of TICKS) {
    // Labels that would run into each other are left out.
    if (ms > top || x(ms) - lastX < 48) continue
    lastX = x(ms)
    body += line('chart-grid', x(ms), 4, x(ms), height - 22)
    body += label(x(ms), height - 6, text, 'middle')
  }
  rows.forEach(({ name, p50, p95, p99 }, index) => {
    const y = index * row + 24
    body += label(0, y + 4, name, 'start', 'chart-name')
    body += rect('range', x(p50), y - 4, x(p99) - x(p50), 8, ' rx="4"')
    const below = (share: string, ms: number): string => `${name}: ${share} below ${duration(ms)}`
    body += told(`<circle class="mark-p50" cx="${round(x(p50))}" cy="${y}" r="6"/>`, below('half', p50))
    body += told(`<path class="mark-p95" d="M${round(x(p95))} ${y - 7}l7 7l-7 7l-7 -7z"/>`, below('95 %', p95))
    body += told(rect('mark-p99', x(p99) - 2.5, y - 9, 5, 18), below('99 %', p99))
  })
  const description = rows
    .map(({ name, p50, p95, p99 }) => `${name}: half below ${p50} ms, 95 % below ${p95} ms, 99 % below ${p99} ms`)
    .join('; ')
  return svg({ id, title: 'Wait and run times of the last hour', description: `${description}.`, width, height }, body)
}

export interface Span {
  readonly kind: 'due' | 'delayed' | 'waiting' | 'running' | 'good' | 'bad'
  readonly from: number
  readonly to: number
  readonly text: string
}

/** Waiting and running of one record, from its enqueue to its end or to now. Without words: it is stretched to its place. */
export function timelineChart(id: string, spans: readonly Span[], from: number, to: number): string {
  const [width, height] = [1_000, 40]
  const x = (at: number): number => (width * (at - from)) / Math.max(1, to - from)
  let body = rect('span-none', 0, 10, width, 20)
  for (const span of spans) {
    const wide = Math.max(4, x(span.to) - x(span.from))
    const left = Math.min(x(span.from), width - wide)
    const tall = ['waiting', 'delayed', 'due'].includes(span.kind) ? 12 : 28
    body += told(rect(`span-${span.kind}`, left, (height - tall) / 2, wide, tall), span.text)
  }
  const description = `${spans.map(({ text }) => text).join('; ')}.`
  return svg({ id, title: 'Timeline of this record', description, width, height }, body)
    .replace('class="chart"', 'class="chart timeline"')
    .replace('xMidYMid meet', 'none')
}

/** `1.2k`: for axes, where the exact number stands in the table beside. */
export function compact(value: number): string {
  if (value >= 1_000_000) return `${round(value / 1_000_000)}M`
  if (value >= 10_000) return `${Math.round(value / 1_000)}k`
  if (value >= 1_000) return `${round(value / 1_000)}k`
  return String(Math.round(value * 10) / 10)
}
