/** purge.lua on raw keys: old finished records of one cell go, from the oldest on; nothing else does. */
import { expect } from 'chai'
import {
  beginOne,
  changesOf,
  enqueue,
  expectUnchanged,
  expectWhole,
  failOne,
  ODD_NUMBERS,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { ScriptBench } from './support.ts'

type Answer = readonly [matched: number, deleted: number, score: string, passed: number, indexError?: string]

interface PurgeOptions {
  readonly status?: string
  readonly finishedForMs?: number
  readonly limit?: number
  readonly dryRun?: boolean
  readonly position?: readonly [score: string, passed: string | number]
}

async function purge(bench: ScriptBench, options: PurgeOptions = {}): Promise<Answer> {
  const { status = 'SUCCESSFUL', finishedForMs = 0, limit = 200, dryRun = false, position = ['-inf', 0] } = options
  return (await bench.run(
    'purge',
    'mail',
    'send',
    status,
    finishedForMs,
    limit,
    dryRun ? '1' : '',
    ...position,
  )) as Answer
}

/** Walks a cell to its end; what each call said. */
async function purgeAll(bench: ScriptBench, options: PurgeOptions): Promise<Answer[]> {
  const answers: Answer[] = []
  let position: readonly [string, number] = ['-inf', 0]
  do {
    const answer = await purge(bench, { ...options, position })
    answers.push(answer)
    position = [answer[2], answer[3]]
  } while (position[0] !== '')
  return answers
}

async function finishOne(bench: ScriptBench, id: string): Promise<void> {
  await settle(bench, await beginOne(bench, { id }))
}

async function idsLeft(bench: ScriptBench, status = 'SUCCESSFUL'): Promise<string[]> {
  return Object.keys((await bench.keyspace()).sortedSets[`cell:mail:send:${status}`] ?? {})
}

describe('purge.lua', () => {
  it(
    'deletes a finished record and its row, once it is old enough',
    onBench(async (bench) => {
      await finishOne(bench, 'a')
      await bench.elapse(1_000)
      await expectUnchanged(bench, () => purge(bench, { finishedForMs: 1_001 }), [0, 0, '', 0])
      const { answer, changes } = await changesOf(bench, () => purge(bench, { finishedForMs: 1_000 }))
      expect(answer).to.deep.equal([1, 1, '', 0])
      expect(changes).to.include({ 'task:a status': 'SUCCESSFUL ->', 'cell:mail:send:SUCCESSFUL a': `${START_MS} ->` })
      expect(await recordOf(bench)).to.deep.equal({})
      expect(await purge(bench, { finishedForMs: 1_000 })).to.deep.equal([0, 0, '', 0])
      await expectWhole(bench)
    }),
  )

  it(
    'walks a cell page by page and leaves what finished late, however many share one time',
    onBench(async (bench) => {
      const ids = Array.from({ length: 25 }, (_, index) => `r${String(index).padStart(2, '0')}`)
      const late = ids.filter((_, index) => index % 4 === 0)
      for (const id of ids) await finishOne(bench, id)
      for (const id of late) await bench.redis.hset(bench.keys.record(id), 'finishedAt', String(START_MS + 10_000))
      await bench.elapse(5_000)
      const dry = await purgeAll(bench, { limit: 4, dryRun: true })
      expect(dry.reduce((sum, [matched]) => sum + matched, 0)).to.equal(ids.length - late.length)
      expect(dry.reduce((sum, [, deleted]) => sum + deleted, 0)).to.equal(0)
      const answers = await purgeAll(bench, { limit: 4 })
      expect(answers.reduce((sum, [, deleted]) => sum + deleted, 0)).to.equal(ids.length - late.length)
      expect(await idsLeft(bench)).to.deep.equal(late)
      await expectWhole(bench)
    }),
  )

  it(
    'goes on from its position over different times',
    onBench(async (bench) => {
      for (let index = 0; index < 9; index += 1) {
        await finishOne(bench, `r${index}`)
        if (index % 2 === 0) await bench.elapse(10)
      }
      const answers = await purgeAll(bench, { limit: 2 })
      expect(answers.map(([, deleted]) => deleted)).to.deep.equal([2, 2, 2, 2, 1])
      await expectWhole(bench)
    }),
  )

  it(
    'changes nothing in a dry run, and finds the same',
    onBench(async (bench) => {
      await finishOne(bench, 'a')
      await expectUnchanged(bench, () => purge(bench, { dryRun: true }), [1, 0, '', 0])
    }),
  )

  it(
    'judges each record again: one that was retried meanwhile stays',
    onBench(async (bench) => {
      await failOne(bench)
      await bench.run('retry', 'request-1', 'a')
      // Given an index row that lags behind
      await bench.redis.zadd(`${bench.keys.root}cell:mail:send:FAILED`, START_MS, 'a')
      expect(await purge(bench, { status: 'FAILED' })).to.deep.equal([0, 0, '', 0])
      expect(await recordOf(bench)).to.include({ status: 'READY' })
    }),
  )

  it(
    'removes rows of records that are gone, and leaves what cannot be read',
    onBench(async (bench) => {
      const cell = `${bench.keys.root}cell:mail:send:SUCCESSFUL`
      await finishOne(bench, 'good')
      await bench.redis.zadd(cell, 1, 'gone', 2, 'text', 3, 'empty')
      await spoil(bench, bench.keys.record('text'))
      await bench.redis.hset(bench.keys.record('empty'), 'stray', 'field')
      expect(await purge(bench)).to.deep.equal([1, 1, '', 0])
      expect(await idsLeft(bench)).to.deep.equal(['text', 'empty'])
    }),
  )

  it(
    'keeps a record whose end has no readable time',
    onBench(async (bench) => {
      for (const [index, odd] of ['', 'x', 'nan'].entries()) {
        await finishOne(bench, `odd${index}`)
        await bench.redis.hset(bench.keys.record(`odd${index}`), 'finishedAt', odd)
      }
      expect(ODD_NUMBERS).to.include.members(['', 'x', 'nan'])
      await bench.elapse(1_000)
      expect(await purge(bench)).to.deep.equal([0, 0, '', 0])
    }),
  )

  it(
    'deletes each record once, however many purge at the same time',
    onBench(async (bench) => {
      for (let index = 0; index < 40; index += 1) await finishOne(bench, `r${index}`)
      const answers = await Promise.all(Array.from({ length: 8 }, () => purge(bench, { limit: 10 })))
      expect(answers.reduce((sum, [, deleted]) => sum + deleted, 0)).to.equal(40)
      expect(await take(bench, 9)).to.deep.equal([])
      await expectWhole(bench)
    }),
  )

  it(
    'answers with the error of a cell of a wrong type, and changes nothing',
    onBench(async (bench) => {
      await spoil(bench, `${bench.keys.root}cell:mail:send:SUCCESSFUL`)
      const { answer, changes } = await changesOf(bench, () => purge(bench))
      expect(answer.slice(0, 4)).to.deep.equal([0, 0, '', 0])
      expect(answer[4]).to.contain('WRONGTYPE')
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'purges for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, {})
        const row = (await bench.run('run-by-id', 'c', 'h.1', 1000, 'web', 'a', '')) as readonly string[]
        await settle(bench, { id: 'a', leaseToken: row[3] ?? '' })
        expect(await purge(bench)).to.deep.equal([1, 1, '', 0])
      },
      { group: '' },
    ),
  )
})
