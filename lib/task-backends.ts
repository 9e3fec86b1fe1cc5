/**
 * taskBackends: alias -> backend, known by type only; one of the two process-wide states (the other is the task registry).
 * Makes no backend itself: configure-tasks.ts tells it what to do when `default` is asked for and none was configured.
 */
import { hinted } from './did-you-mean.ts'
import { TaskOptionError } from './errors.ts'
import type { TaskBackend } from './task-backend.ts'

const backends = new Map<string, TaskBackend>()
let makeDefault: (() => TaskBackend | undefined) | undefined

export const taskBackends = {
  /**
   * The backend of that alias.
   *
   * @throws TaskOptionError no backend has that alias; the message names those that there are.
   */
  get(alias = 'default'): TaskBackend {
    const backend = backends.get(alias) ?? (alias === 'default' ? makeDefault?.() : undefined)
    if (backend) return backend
    const known = [...backends.keys()]
    const cure =
      known.length === 0
        ? "call configureTasks({ default: { backend: 'redis' } }) first, or set REDIS_URL"
        : hinted(alias, known, `configured are: ${known.join(', ')}`)
    throw new TaskOptionError('backend', 'the alias of a configured backend', alias, cure)
  },

  has(alias: string): boolean {
    return backends.has(alias)
  },

  /** Every alias and its backend, in the order of configuration. */
  entries(): readonly (readonly [string, TaskBackend])[] {
    return [...backends]
  },
}

/** Replaces every alias by these. Whoever made the old backends closes them. */
export function replaceBackends(next: Iterable<readonly [string, TaskBackend]>): void {
  backends.clear()
  for (const [alias, backend] of next) backends.set(alias, backend)
}

/** A backend made by hand is found by its alias, unless another one has that, and becomes `default` when there is none yet. */
export function offerAsDefault(backend: TaskBackend): void {
  if (!backends.has(backend.alias)) backends.set(backend.alias, backend)
  if (!backends.has('default')) backends.set('default', backend)
}

/** A closed backend answers nothing any more; the next `get` may make another. */
export function withdrawBackend(backend: TaskBackend): void {
  for (const [alias, known] of backends) if (known === backend) backends.delete(alias)
}

/** What makes `default` at its first use when nothing was configured. */
export function onMissingDefault(make: () => TaskBackend | undefined): void {
  makeDefault = make
}
