/** Draws the rates as an SVG: one group of bars a question, each bar a contender, the spread as a line on it. */
import type { ContenderName } from '../contenders/contender.ts'
import type { Spread } from './report.ts'
import { QUESTIONS } from './scenarios.ts'
import type { QuestionName } from './scenarios.ts'

const COLOURS: Readonly<Record<ContenderName, string>> = {
  ours: '#2563eb',
  bullmq: '#dc2626',
  'bee-queue': '#d97706',
  platformatic: '#7c3aed',
  raw: '#9ca3af',
}
const [LABEL, BAR, WIDTH, NUMBER] = [290, 16, 460, 90]

export function chart(
  title: string,
  names: readonly ContenderName[],
  spreadOf: (question: QuestionName, name: ContenderName) => Spread | undefined,
): string {
  const questions = (Object.keys(QUESTIONS) as QuestionName[]).filter((name) => QUESTIONS[name].unit === '/s')
  const parts: string[] = []
  let y = 60
  for (const question of questions) {
    const found = names.flatMap((name) => {
      const spread = spreadOf(question, name)
      return spread ? [{ name, spread }] : []
    })
    const most = Math.max(...found.map(({ spread }) => spread.max))
    parts.push(`<text x="10" y="${y + 12}" class="q">${QUESTIONS[question].text}</text>`)
    for (const { name, spread } of found) {
      const x = (value: number): string => (LABEL + (value / most) * WIDTH).toFixed(1)
      const middle = y + BAR / 2
      parts.push(
        `<rect x="${LABEL}" y="${y + 2}" width="${((spread.median / most) * WIDTH).toFixed(1)}" height="${BAR - 4}" fill="${COLOURS[name]}"/>`,
        `<path d="M${x(spread.min)} ${middle}H${x(spread.max)}" stroke="currentColor"/>`,
        `<text x="${(Number(x(spread.max)) + 6).toFixed(1)}" y="${y + 12}">${name} ${Math.round(spread.median).toLocaleString('en')}/s</text>`,
      )
      y += BAR
    }
    y += 12
  }
  const style =
    'svg{color:#111;background:#fff}text{font:11px system-ui,sans-serif;fill:currentColor}.q{font-weight:600}.t{font-size:14px;font-weight:600}'
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${LABEL + WIDTH + NUMBER + 60}" height="${y}" role="img"><title>Tasks a second</title><style>${style}</style><text x="10" y="24" class="t">Tasks a second, longer is better</text><text x="10" y="42">${title}</text>
${parts.join('\n')}
</svg>
`
}
