/**
 * One attempt, as steps over one small object: resolve the arguments, call the function, weigh how it ended.
 * Never rejects and writes nothing: it answers with what has to be written. Whatever user code throws or returns stays in here.
 */
import type { Clock } from './clock.ts'
import { TaskCancelledError, TaskHandedBackError, TaskLeaseLostError, TaskTimeoutError } from './errors.ts'
import { decode, encodeError, encodeReturnValue } from './json.ts'
import { retryDelayMs } from './retry-policy.ts'
import type { Delivery, Lease, Settlement, StoredRecord } from './storage/storage.ts'
import type { TaskBackend } from './task-backend.ts'
import type { TaskContext } from './task-context.ts'
import type { AnyTask } from './task.ts'

/** What has to be written: an outcome, nothing but the hand-back, or nothing at all. */
export type Ending = { readonly settle: Settlement } | { readonly requeue: Lease } | { readonly cancelled: true }

/** Why an attempt is no longer its worker's. */
export type LossReason = TaskLeaseLostError | TaskCancelledError

/** The wall around a promise that may never settle: the function's end no longer counts once this rejects. */
interface Wall {
  readonly broken: Promise<never>
  readonly remove: () => void
}

export class Attempt {
  readonly delivery: Delivery
  readonly task: AnyTask
  readonly #backend: TaskBackend
  readonly #clock: Clock
  readonly #abort = new AbortController()
  #break: ((reason: unknown) => void) | undefined

  constructor(backend: TaskBackend, delivery: Delivery, task: AnyTask, clock: Clock) {
    this.#backend = backend
    this.delivery = delivery
    this.task = task
    this.#clock = clock
  }

  get record(): StoredRecord {
    return this.delivery.record
  }

  /**
   * The lease is gone: tell the function. If it returns all the same it is settled, and the answer says LOST. Where a person
   * cancelled it, the record has its end already, and the function is not waited for.
   */
  lose(reason: LossReason): void {
    this.#abort.abort(reason)
    if (reason instanceof TaskCancelledError) this.#break?.(reason)
  }

  /** The worker stops: tell the function, and do not wait for it. */
  handBack(): void {
    const reason = new TaskHandedBackError(this.record.id)
    this.#abort.abort(reason)
    this.#break?.(reason)
  }

  async run(): Promise<Ending> {
    const wall = this.#raiseWall()
    try {
      const value = await Promise.race([this.#call(), wall.broken])
      if (this.#isCancelled) return { cancelled: true }
      return this.#settle('SUCCESSFUL', encodeReturnValue(value))
    } catch (error) {
      return this.#failed(error)
    } finally {
      wall.remove()
    }
  }

  async #call(): Promise<unknown> {
    const args = decode(this.record.args, 'args') as unknown[]
    this.task.checkArgs(args)
    const func = this.task.func as (...all: readonly unknown[]) => unknown
    return await func(...(this.task.takesContext ? [this.#context(), ...args] : args))
  }

  #context(): TaskContext {
    return {
      taskResult: this.#backend.result(this.record),
      attempt: this.record.attempts,
      signal: this.#abort.signal,
      fence: this.record.fence,
    }
  }

  #raiseWall(): Wall {
    const { timeoutMs } = this.task
    let timer: ReturnType<Clock['setTimeout']> | undefined
    const broken = new Promise<never>((_, reject) => {
      this.#break = reject
      if (timeoutMs === undefined) return
      timer = this.#clock.setTimeout(() => {
        const reason = new TaskTimeoutError(
          `an attempt of ${this.task.name}`,
          timeoutMs,
          'raise timeoutMs or do less in one task',
        )
        this.#abort.abort(reason)
        reject(reason)
      }, timeoutMs)
    })
    // Nobody may be racing any more when it breaks.
    broken.catch(() => undefined)
    return {
      broken,
      remove: () => {
        this.#break = undefined
        if (timer !== undefined) this.#clock.clearTimeout(timer)
      },
    }
  }

  get #isCancelled(): boolean {
    return this.#abort.signal.reason instanceof TaskCancelledError
  }

  #failed(error: unknown): Ending {
    if (this.#isCancelled) return { cancelled: true }
    const reason: unknown = this.#abort.signal.reason
    if (reason instanceof TaskHandedBackError || reason instanceof TaskLeaseLostError) {
      return { requeue: this.delivery.lease }
    }
    const payload = encodeError(error, { attempt: this.record.attempts })
    // Failures, not attempts: a lease that ran out is no failure of the task.
    const delayMs = retryDelayMs(this.task.retry, this.record.errors.length + 1, error)
    return delayMs === null ? this.#settle('FAILED', payload) : this.#settle('READY', payload, delayMs)
  }

  #settle(outcome: Settlement['outcome'], payload: string, delayMs = 0): Ending {
    return { settle: { lease: this.delivery.lease, outcome, payload, delayMs } }
  }
}
