/**
 * taskRegistry: name -> Task, process-wide. The only way from a stored name to code: a worker runs what is registered and
 * nothing else a name may point to. Imports nothing by name.
 */
import { hinted } from './did-you-mean.ts'
import { TaskNotRegisteredError, TaskOptionError } from './errors.ts'
import type { AnyTask } from './task.ts'

const tasks = new Map<string, AnyTask>()

export const taskRegistry = {
  /** @throws TaskOptionError the name is taken. */
  add(task: AnyTask): void {
    if (tasks.has(task.name)) {
      throw new TaskOptionError(
        'name',
        'free',
        task.name,
        'give this task another name; a module imported twice defines its tasks twice',
      )
    }
    tasks.set(task.name, task)
  },

  /** @throws TaskNotRegisteredError no task of this process has that name. */
  get(name: string): AnyTask {
    const task = tasks.get(name)
    if (task) return task
    throw new TaskNotRegisteredError(
      name,
      hinted(name, [...tasks.keys()], 'import its module before the worker starts'),
    )
  },

  find(name: string): AnyTask | undefined {
    return tasks.get(name)
  },

  names(): readonly string[] {
    return [...tasks.keys()]
  },

  /** Forgets a task, so that its name is free again: for tests that define tasks as they go. */
  delete(name: string): boolean {
    return tasks.delete(name)
  },
}
