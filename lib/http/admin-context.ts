/**
 * What every admin page is given: the request's view, the backend it asks, the rights of who asks, the frame around the page.
 * Finds backends and asks for rights; shows and changes nothing.
 */
import type { Request } from 'express'
import type { Clock } from '../clock.ts'
import { TaskOptionError } from '../errors.ts'
import { taskBackends } from '../task-backends.ts'
import type { TaskBackend } from '../task-backend.ts'
import { checkAccess } from './access.ts'
import type { Action, Authorize } from './access.ts'
import { baseOf } from './base-path.ts'
import { time } from './admin-format.ts'
import type { ShownTime } from './admin-format.ts'
import { redactorOf } from './admin-redact.ts'
import type { Redact, Redactor } from './admin-redact.ts'
import { bareView, LIVE_SECONDS, queryOf, queryText, viewOf } from './admin-view.ts'
import type { AdminView } from './admin-view.ts'
import { assetFileName } from './render.ts'

export interface AdminSettings {
  readonly backend: TaskBackend
  readonly authorize: Authorize | undefined
  /** Names the environment in title and header. */
  readonly label: string
  readonly redact: Redact | undefined
  readonly bodyLimitBytes: number
  /** Process time: ages and the limit of a bulk action. */
  readonly clock: Clock
}

export const VERBS = ['run', 'retry', 'cancel', 'delete'] as const

export type Verb = (typeof VERBS)[number]

/** On its button. */
export const VERB_LABELS: Readonly<Record<Verb, string>> = {
  run: 'Run now',
  retry: 'Retry',
  cancel: 'Cancel',
  delete: 'Delete',
}

/** What `authorize` is asked: whoever may remove a waiting record may end one as well. */
export const actionOf = (verb: Verb): Action => (verb === 'cancel' ? 'delete' : verb)

export type Rights = Readonly<Record<Verb, boolean>>

export interface AdminContext {
  readonly req: Request
  readonly base: string
  readonly view: AdminView
  readonly query: URLSearchParams
  readonly backend: TaskBackend
  readonly rights: Rights
  readonly redactor: Redactor
  readonly nowMs: number
  readonly settings: AdminSettings
}

function storageBackends(own: TaskBackend): readonly TaskBackend[] {
  const stores = (backend: TaskBackend): boolean => {
    try {
      return Boolean(backend.storage)
    } catch {
      return false
    }
  }
  const others = taskBackends.entries().map(([, backend]) => backend)
  return [own, ...others.filter((backend) => backend.alias !== own.alias && stores(backend))]
}

function backendOf(own: TaskBackend, alias: string): TaskBackend {
  const backends = storageBackends(own)
  const found = alias === '' ? own : backends.find((backend) => backend.alias === alias)
  if (found) return found
  const known = backends.map((backend) => backend.alias).join(', ')
  throw new TaskOptionError('/backend', 'the alias of a backend with a storage', alias, `there are: ${known}`)
}

async function may(req: Request, verb: Verb, authorize: Authorize | undefined): Promise<boolean> {
  try {
    await checkAccess(req, actionOf(verb), authorize)
    return true
  } catch {
    return false
  }
}

/** @param more names of the query that the page reads itself. */
export async function contextOf(req: Request, settings: AdminSettings, more: readonly string[]): Promise<AdminContext> {
  const query = queryOf(req)
  const view = viewOf(query, more)
  const backend = backendOf(settings.backend, view.backend)
  const [run, retry, remove] = await Promise.all(
    (['run', 'retry', 'delete'] as const).map((verb) => may(req, verb, settings.authorize)),
  )
  return {
    req,
    base: baseOf(req),
    view,
    query,
    backend,
    rights: { run: run === true, retry: retry === true, cancel: remove === true, delete: remove === true },
    redactor: redactorOf(settings.redact, req),
    nowMs: settings.clock.now(),
    settings,
  }
}

export type Section = 'overview' | 'tasks' | 'workers' | ''

export interface FrameModel {
  readonly title: string
  readonly section: Section
  readonly label: string
  readonly base: string
  /** Where the page's own files are; or its styles themselves, for somebody who may not have the files. */
  readonly assets:
    { readonly sheets: readonly string[]; readonly script: string; readonly icon: string } | { readonly styles: string }
  readonly links: { readonly overview: string; readonly tasks: string; readonly workers: string }
  readonly backends: readonly { readonly alias: string; readonly href: string; readonly current: boolean }[]
  readonly live: {
    readonly now: string
    readonly choices: readonly number[]
    /** Asks again until the page is there, and stops then. */
    readonly untilBack: boolean
  } | null
  readonly now: ShownTime
  readonly nowMs: number
  readonly notice: { readonly kind: 'good' | 'bad' | 'info'; readonly text: string } | null
}

const EMPTY_VIEW = viewOf(new URLSearchParams())

/** The frame of a page that could not be made: it must not need what failed. */
export function bareFrame(req: Request, settings: AdminSettings, title: string): FrameModel {
  return frame(
    { base: baseOf(req), view: EMPTY_VIEW, settings, nowMs: settings.clock.now() },
    { title, section: '', live: false, notice: null },
  )
}

export interface FrameChoice {
  readonly title: string
  readonly section: Section
  /** Whether the page may follow what happens. */
  readonly live: boolean
  readonly notice: FrameModel['notice']
}

export function frame(
  context: Pick<AdminContext, 'base' | 'view' | 'settings' | 'nowMs'>,
  { title, section, live, notice }: FrameChoice,
): FrameModel {
  const { base, view, settings, nowMs } = context
  const bare = queryText(bareView(view))
  const links = { overview: `${base}${bare}`, tasks: `${base}/tasks${bare}`, workers: `${base}/workers${bare}` }
  const path = section === 'workers' ? '/workers' : section === 'tasks' ? '/tasks' : ''
  const own = settings.backend.alias
  const backends = storageBackends(settings.backend).map(({ alias }) => ({
    alias,
    href: `${base}${path}${queryText({ ...bareView(view), backend: alias === own ? '' : alias })}`,
    current: alias === (view.backend || own),
  }))
  return {
    title,
    section,
    label: settings.label,
    base,
    assets: {
      sheets: ['frame.css', 'admin.css'].map((name) => `${base}/assets/${assetFileName(name)}`),
      script: `${base}/assets/${assetFileName('admin.js')}`,
      icon: `${base}/assets/${assetFileName('icon.svg')}`,
    },
    links,
    backends,
    live: live ? { now: view.live, choices: LIVE_SECONDS, untilBack: false } : null,
    now: time(nowMs, nowMs),
    nowMs,
    notice,
  }
}
