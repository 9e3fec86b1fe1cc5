/** What is wrong, in plain words, each with its cure: records that nobody runs, and a server that may lose tasks. */
import { StorageUnfitError } from '../errors.ts'
import type { AdminContext } from './admin-context.ts'
import { count, counted } from './admin-format.ts'
import { bareView, queryText } from './admin-view.ts'
import { knows, serves } from './admin-workers.ts'
import type { WorkerFacts } from './admin-workers.ts'

export interface Warning {
  readonly title: string
  readonly text: string
  readonly href: string | null
  readonly cure: string
}

/** How many are READY, by queue and task. */
export interface Waiting {
  readonly ready: readonly { readonly queueName: string; readonly name: string; readonly count: number }[]
  readonly byStatus: { readonly READY: number }
}

const NOBODY = 'Nobody runs these.'

/** What the start-up checks say of the server, each with its cure in brackets; also that it cannot serve at all. */
export async function serverWarnings({ backend }: AdminContext): Promise<readonly Warning[]> {
  const warning = (message: string): Warning => {
    const [, text = message, cure = ''] = /^(.*) \(([^()]*)\)$/.exec(message) ?? []
    return { title: 'The server may lose tasks.', text: sentence(text), href: null, cure: sentence(cure) }
  }
  try {
    return (await backend.storage.connect()).warnings.map(({ message }) => warning(message))
  } catch (error) {
    if (!(error instanceof StorageUnfitError)) throw error
    // Its message names an address, which no page shows.
    const faults = {
      role: 'It is a replica or a sentinel, and takes no writes.',
      version: 'It is too old.',
      access: 'Its user is not permitted to do what tasks need.',
    }
    return [{ title: 'The server cannot serve.', text: faults[error.fault], href: null, cure: 'The log has more.' }]
  }
}

const sentence = (text: string): string => (text === '' ? '' : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`)

export function warningsOf(
  context: AdminContext,
  { ready, byStatus }: Waiting,
  workers: readonly WorkerFacts[],
): readonly Warning[] {
  const { base, view } = context
  const link = (queueName: string, name: string): string =>
    `${base}/tasks${queryText({ ...bareView(view), status: ['READY'], queue: [queueName], name: [name] })}`
  const live = workers.filter((worker) => worker.live)
  if (live.length === 0) {
    if (byStatus.READY === 0) return []
    return [
      {
        title: NOBODY,
        text: `${counted(byStatus.READY, 'record waits', 'records wait')}, and no worker was heard of in the last minute.`,
        href: null,
        cure: 'Start one: npx run-redis-tasks --continuous ./tasks.js',
      },
    ]
  }
  const title = NOBODY
  const missing = ready.flatMap(({ queueName, name, count: waiting }): Warning[] => {
    const here = live.filter((worker) => serves(worker, queueName))
    if (here.some((worker) => knows(worker, name))) return []
    const text = `${count(waiting)} ${waiting === 1 ? 'record' : 'records'} of “${name}” in queue “${queueName}”:`
    return here.length === 0
      ? [
          {
            title,
            text: `${text} no live worker serves this queue.`,
            href: link(queueName, name),
            cure: `Start one with --queue ${queueName}, or without --queue for all.`,
          },
        ]
      : [
          {
            title,
            text: `${text} no live worker knows this task.`,
            href: link(queueName, name),
            cure: 'Start a worker with the module that defines it.',
          },
        ]
  })
  return missing.slice(0, 10)
}
