/** TaskContext: what a task with `takesContext` is told about the attempt that runs it. Facts only; it moves nothing. */
import type { TaskResult } from './task-result.ts'

export interface TaskContext {
  /** The record as it was when the attempt began. */
  readonly taskResult: TaskResult
  /** 1 for the first attempt. A reclaim counts, a hand-back at shutdown does not. */
  readonly attempt: number
  /** Aborts when the lease is lost, the time limit is over, or the worker stops; `reason` says which. */
  readonly signal: AbortSignal
  /**
   * A safe integer that grows with every attempt of this record: hand it to a store that refuses a lower one than it has
   * seen, and an overtaken attempt cannot overwrite a newer one. Keep the servers' clocks in step (README, Fence and ids).
   */
  readonly fence: number
}
