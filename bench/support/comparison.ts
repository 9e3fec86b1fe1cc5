/** Collects answers, prints medians, spread and ratios, and writes them: results.json, results.svg, and the tables in README.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { format } from 'prettier'
import type { Contender, ContenderName } from '../contenders/contender.ts'
import { chart } from './chart.ts'
import { spreadOf } from './report.ts'
import type { Spread } from './report.ts'
import { QUESTIONS } from './scenarios.ts'
import type { Answers, QuestionName } from './scenarios.ts'

interface PartResult {
  readonly title: string
  readonly tasks: number
  readonly server: string
  readonly answers: Partial<Record<ContenderName, Answers[]>>
}

export class Comparison {
  readonly machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB`
  readonly node: string
  readonly #contenders: Partial<Record<ContenderName, Pick<Contender, 'about' | 'version'>>> = {}
  readonly #parts: Record<string, PartResult> = {}
  /** What records.bench.ts printed. */
  records: string | undefined

  constructor(node: string) {
    this.node = node
  }

  introduce(name: ContenderName, { about, version }: Contender): void {
    this.#contenders[name] = { about, version }
  }

  begin(name: string, title: string, tasks: number, server: string): void {
    this.#parts[name] = { title, tasks, server, answers: {} }
    const at = `${tasks.toLocaleString('en')} tasks, ${title}`
    console.log(`\n${at}\nmachine   ${this.machine}\nsoftware  node ${this.node}, ${server}`)
  }

  add(part: string, contender: ContenderName, answers: Answers): void {
    const all = (this.#parts[part] as PartResult).answers
    const last = all[contender]?.at(-1)
    const known = last && Object.keys(answers).some((name) => name in last)
    if (last && !known) Object.assign(last, answers)
    else all[contender] = [...(all[contender] ?? []), { ...answers }]
  }

  print(part: string): void {
    for (const row of this.#rows(part)) console.log(row.join('  '))
  }

  /** In the form that the project's own check asks for. */
  async write(folder: URL): Promise<void> {
    const { machine, node, records } = this
    const result = { machine, node, contenders: this.#contenders, parts: this.#parts, records }
    const json = await format(JSON.stringify(result), { parser: 'json', printWidth: 120 })
    writeFileSync(new URL('results.json', folder), json)
    if (this.#parts['main']) {
      const names = this.#names('main')
      const title = `${this.#parts['main'].tasks.toLocaleString('en')} tasks, node ${node}, ${this.#parts['main'].server}`
      writeFileSync(
        new URL('results.svg', folder),
        chart(title, names, (question, name) => this.#spread('main', name, question)),
      )
    }
    const file = new URL('README.md', folder)
    let text = readFileSync(file, 'utf8')
    for (const part of Object.keys(this.#parts)) text = put(text, part, this.#table(part))
    if (records !== undefined) text = put(text, 'records', `\`\`\`\n${records.trim()}\n\`\`\``)
    writeFileSync(file, await format(text, { parser: 'markdown', printWidth: 120, singleQuote: true, semi: false }))
  }

  #names(part: string): ContenderName[] {
    return Object.keys(this.#parts[part]?.answers ?? {}) as ContenderName[]
  }

  #spread(part: string, contender: ContenderName, question: QuestionName): Spread | undefined {
    const rounds = this.#parts[part]?.answers[contender] ?? []
    const values = rounds.flatMap((answers) => answers[question] ?? [])
    return values.length === 0 ? undefined : spreadOf(values)
  }

  #questions(part: string): QuestionName[] {
    const names = Object.keys(QUESTIONS) as QuestionName[]
    return names.filter((question) => this.#names(part).some((name) => this.#spread(part, name, question)))
  }

  /** Ours to BullMQ's, round by round: both have met the same machine. */
  #ratio(part: string, question: QuestionName): Spread | undefined {
    const { ours = [], bullmq = [] } = this.#parts[part]?.answers ?? {}
    const ratios = ours.flatMap((answers, round) => {
      const [own, other] = [answers[question], bullmq[round]?.[question]]
      return own === undefined || other === undefined ? [] : [own / other]
    })
    return ratios.length === 0 ? undefined : spreadOf(ratios)
  }

  #rows(part: string): string[][] {
    const names = this.#names(part)
    const head = ['', ...names, 'ours : bullmq'].map((text, index) =>
      index === 0 ? text.padEnd(60) : text.padStart(24),
    )
    return [
      head,
      ...this.#questions(part).map((question) => [
        `${QUESTIONS[question].text} (${QUESTIONS[question].unit})`.padEnd(60),
        ...names.map((name) => full(this.#spread(part, name, question)).padStart(24)),
        this.#ratioText(part, question).padStart(24),
      ]),
    ]
  }

  #ratioText(part: string, question: QuestionName): string {
    const ratio = this.#ratio(part, question)
    return ratio ? `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}..${ratio.max.toFixed(2)})` : ''
  }

  #table(part: string): string {
    const { title, tasks, server, answers } = this.#parts[part] as PartResult
    const names = this.#names(part)
    const rounds = Math.max(...Object.values(answers).map((each) => each.length))
    const how = rounds === 1 ? 'One round.' : `Medians of ${rounds} rounds, the spread in brackets.`
    const label = (name: ContenderName): string => {
      const version = this.#contenders[name]?.version
      return version ? `${name} ${version}` : name
    }
    const lines = [
      `${tasks.toLocaleString('en')} tasks, ${title}. ${this.machine}; node ${this.node}; ${server}. ${how}`,
      '',
      `| | ${names.map(label).join(' | ')} | ours : bullmq |`,
      `|---|${names.map(() => '---:|').join('')}---:|`,
      ...this.#questions(part).map((question) => {
        const cells = names.map((name) => full(this.#spread(part, name, question)))
        const { text, unit } = QUESTIONS[question]
        return `| ${text}, ${unit} | ${cells.join(' | ')} | ${this.#ratioText(part, question)} |`
      }),
    ]
    return lines.join('\n')
  }
}

/** Between the marks of that name. */
function put(text: string, name: string, table: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [from, to] = [text.indexOf(open), text.indexOf(close)]
  if (from === -1 || to === -1) return text
  return `${text.slice(0, from)}${open}\n\n${table}\n\n${text.slice(to)}`
}

const rounded = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en') : value >= 10 ? value.toFixed(1) : value.toFixed(2)

function full(spread: Spread | undefined): string {
  if (!spread) return '–'
  const { median, min, max } = spread
  return min === max ? rounded(median) : `${rounded(median)} (${rounded(min)}..${rounded(max)})`
}
