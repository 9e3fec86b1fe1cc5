/**
 * The four states of a record and the moves between them, in one table.
 * Decides nothing about Redis: each move is one script that checks the state it starts from (docs/states.md).
 */

export const TASK_STATUSES = ['READY', 'RUNNING', 'SUCCESSFUL', 'FAILED'] as const

export type TaskStatus = (typeof TASK_STATUSES)[number]

/** The states that nothing but a person leaves: a record there has an outcome and no entry in a stream. */
export const FINAL_STATUSES = ['SUCCESSFUL', 'FAILED'] as const satisfies readonly TaskStatus[]

export type FinalStatus = (typeof FINAL_STATUSES)[number]

/** Every permitted move, by the script that makes it. A spec compares this table with the scripts and with docs/states.md. */
export const MOVES = {
  enqueue: [['', 'READY']],
  take: [['READY', 'RUNNING']],
  begin: [
    ['READY', 'RUNNING'],
    ['RUNNING', 'RUNNING'],
  ],
  'run-by-id': [
    ['READY', 'RUNNING'],
    ['FAILED', 'RUNNING'],
  ],
  renew: [['RUNNING', 'RUNNING']],
  settle: [
    ['RUNNING', 'SUCCESSFUL'],
    ['RUNNING', 'FAILED'],
    ['RUNNING', 'READY'],
  ],
  requeue: [
    ['RUNNING', 'READY'],
    ['READY', 'READY'],
    ['RUNNING', 'FAILED'],
  ],
  reclaim: [
    ['READY', 'RUNNING'],
    ['RUNNING', 'RUNNING'],
    ['RUNNING', 'FAILED'],
  ],
  promote: [['READY', 'READY']],
  retry: [['FAILED', 'READY']],
  cancel: [
    ['READY', 'FAILED'],
    ['RUNNING', 'FAILED'],
  ],
} as const satisfies Record<string, readonly (readonly [TaskStatus | '', TaskStatus])[]>

/** True for a state that has an outcome. */
export function isFinal(status: TaskStatus): status is FinalStatus {
  return status === 'SUCCESSFUL' || status === 'FAILED'
}

/** True for one of the four words, whatever came from Redis, HTTP or a command line. */
export function isTaskStatus(value: unknown): value is TaskStatus {
  return (TASK_STATUSES as readonly unknown[]).includes(value)
}
