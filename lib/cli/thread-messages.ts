/** What the main thread and its worker threads say to each other: types only, all of it plain data. */
import type { LogLevel } from '../logger.ts'
import type { ServerFacts } from '../storage/storage.ts'
import type { SettledEvent } from '../worker-events.ts'
import type { Failure } from './failure.ts'
import type { Sources } from './source-files.ts'

/** Where a thread finds the user's code, and which backend it opens. */
export interface Place {
  readonly cwd: string
  readonly sources: Sources
  readonly backendName: string
  readonly logLevel: LogLevel | 'silent'
}

/** How a worker of a thread works; `maxTasks` is granted apart. */
export interface WorkSettings {
  readonly queues: readonly string[] | undefined
  readonly concurrency: number
  readonly continuous: boolean
  readonly intervalSeconds: number
  readonly claimIntervalSeconds: number
  readonly drainTimeoutSeconds: number
}

/** What a thread is started with. */
export type Orders =
  | {
      readonly role: 'work'
      readonly place: Place
      readonly settings: WorkSettings
      /** The tasks it may begin; null = as many as there are. */
      readonly granted: number | null
    }
  | {
      /** Settles and hands back what a thread had in hand that could not do so any more. */
      readonly role: 'hand-back'
      readonly place: Place
      readonly orphans: readonly Orphans[]
    }

/** The records that a worker which is gone was running. */
export interface Orphans {
  readonly workerId: string
  readonly ids: readonly string[]
  /** Those of them that ran past their own time limit. */
  readonly overdue: readonly string[]
}

export interface ReadyMessage {
  readonly type: 'ready'
  readonly workerId: string
  readonly server: ServerFacts
  readonly tasks: readonly string[]
  /** Undefined where the backend does not tell. */
  readonly keyPrefix: string | undefined
  readonly warnings: readonly Warning[]
}

export interface Warning {
  readonly code: string
  readonly message: string
}

export interface StartedMessage {
  readonly type: 'started'
  readonly id: string
  readonly name: string
  /** The limit of this attempt; null = none. */
  readonly timeoutMs: number | null
}

/** What a worker said of a settle; of the error no more than a line shows. */
export type SettledItem = Omit<SettledEvent, 'error'> & {
  readonly error: { readonly name: string; readonly message: string } | null
}

export interface DoneMessage {
  readonly type: 'done'
  /** `idle`: nothing was due; `limit`: nothing was granted any more; `stopped`: it was told to. */
  readonly reason: 'idle' | 'limit' | 'stopped'
  readonly handedBack: number
  /** Records that wait for their time, and when the next is due; null where nobody asked. */
  readonly delayed: { readonly count: number; readonly dueInMs: number | null } | null
}

export interface HandedBackMessage {
  readonly type: 'handed-back'
  readonly count: number
  /** The overdue ones, as they were settled. */
  readonly settled: readonly SettledItem[]
}

/** From a thread to the main thread. */
export type ThreadMessage =
  | { readonly type: 'importing'; readonly file: string }
  | ReadyMessage
  | { readonly type: 'failed'; readonly failure: Failure }
  | {
      readonly type: 'log'
      readonly level: LogLevel
      readonly facts: Record<string, unknown>
      readonly message: string
    }
  | StartedMessage
  /** `running`: how many are still in hand. */
  | { readonly type: 'settled'; readonly items: readonly SettledItem[]; readonly running: number }
  | { readonly type: 'storage'; readonly isUp: boolean; readonly reason: string }
  /** Everything granted was begun and has ended. */
  | { readonly type: 'more' }
  | DoneMessage
  /** It heard a ping: its event loop turns. */
  | { readonly type: 'pong' }
  | HandedBackMessage

/** From the main thread to a worker thread. */
export type MainMessage =
  | { readonly type: 'stop'; readonly drainTimeoutSeconds: number }
  /** 0: there is nothing left to grant. */
  | { readonly type: 'grant'; readonly maxTasks: number }
  | { readonly type: 'ping' }
