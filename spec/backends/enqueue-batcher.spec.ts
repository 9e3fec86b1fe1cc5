import { expect } from 'chai'
import { EnqueueBatcher, RECORDS_PER_CALL } from '../../lib/backends/enqueue-batcher.ts'
import { StorageUnavailableError } from '../../lib/errors.ts'
import type { NewRecord } from '../../lib/storage/stored-record.ts'

const record = (id: string, args = '[]'): NewRecord => ({
  ...{ id, name: 'echo', queueName: 'default', priority: 0, runAfter: null, args },
})

/** Remembers what each call was given; answers with the number of each record in its call. */
class RecordingStorage {
  readonly calls: string[][] = []
  fail: (ids: readonly string[]) => unknown = () => undefined

  async enqueue(records: readonly NewRecord[]): Promise<{ word: 'ENQUEUED'; enqueuedAt: number }[]> {
    const ids = records.map(({ id }) => id)
    this.calls.push(ids)
    const error = this.fail(ids)
    if (error) throw error as Error
    return records.map((_, index) => ({ word: 'ENQUEUED', enqueuedAt: index }))
  }
}

describe('EnqueueBatcher', () => {
  let storage: RecordingStorage
  let batcher: EnqueueBatcher

  beforeEach(() => {
    storage = new RecordingStorage()
    batcher = new EnqueueBatcher(storage)
  })

  it('sends what one tick brings in one call, in order, and gives each caller its own answers', async () => {
    const answers = await Promise.all([
      batcher.add([record('a')]),
      batcher.add([record('b'), record('c')]),
      Promise.resolve().then(() => batcher.add([record('d')])),
    ])
    expect(storage.calls).to.deep.equal([['a', 'b', 'c', 'd']])
    expect(
      answers.map((each) => each.map((answer) => ('enqueuedAt' in answer ? answer.enqueuedAt : -1))),
    ).to.deep.equal([[0], [1, 2], [3]])
  })

  it('sends more than one call carries in several, in order', async () => {
    const ids = Array.from({ length: RECORDS_PER_CALL * 2 + 1 }, (_, index) => String(index))
    await Promise.all(ids.map((id) => batcher.add([record(id)])))
    expect(storage.calls.map(({ length }) => length)).to.deep.equal([RECORDS_PER_CALL, RECORDS_PER_CALL, 1])
    expect(storage.calls.flat()).to.deep.equal(ids)
  })

  it('keeps very long arguments apart', async () => {
    const long = `["${'x'.repeat(600_000)}"]`
    await Promise.all(['a', 'b', 'c'].map((id) => batcher.add([record(id, long)])))
    expect(storage.calls).to.deep.equal([['a'], ['b'], ['c']])
  })

  it('tells each caller of an outage, and sends nothing again', async () => {
    storage.fail = () => new StorageUnavailableError('run enqueue', 'silence', 'wait')
    const outcomes = await Promise.allSettled(['a', 'b'].map((id) => batcher.add([record(id)])))
    expect(outcomes.map(({ status }) => status)).to.deep.equal(['rejected', 'rejected'])
    expect(storage.calls).to.have.lengthOf(1)
  })

  it('lets no record fail those that share its call', async () => {
    storage.fail = (ids) => (ids.includes('bad') ? new Error('this one') : undefined)
    const outcomes = await Promise.allSettled(['a', 'bad', 'c'].map((id) => batcher.add([record(id)])))
    expect(outcomes.map(({ status }) => status)).to.deep.equal(['fulfilled', 'rejected', 'fulfilled'])
    expect(storage.calls).to.deep.equal([['a', 'bad', 'c'], ['a'], ['bad'], ['c']])
  })
})
