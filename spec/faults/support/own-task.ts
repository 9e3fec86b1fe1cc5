/** One task named `work` for a worker in this process, and no other: what was registered before comes back afterwards. */
import { task, taskRegistry } from '../../../lib/index.ts'
import type { TaskContext } from '../../../lib/index.ts'

export async function withOwnTask(func: (context: TaskContext) => unknown, body: () => Promise<void>): Promise<void> {
  const others = taskRegistry.names().map((name) => taskRegistry.get(name))
  for (const { name } of others) taskRegistry.delete(name)
  task({ name: 'work', takesContext: true }, func)
  try {
    await body()
  } finally {
    taskRegistry.delete('work')
    for (const other of others) taskRegistry.add(other)
  }
}
