/** brief.lua on raw keys: what a list shows of records, and nothing is written. */
import { expect } from 'chai'
import { changesOf, enqueue, ERROR, expectWhole, failOne, onBench, recordOf, spoil } from './support.ts'

const FIELDS = [2, 'name', 'status'] as const

describe('brief.lua', () => {
  it(
    'answers args, the last error, what is left out and the fields asked for, and writes nothing',
    onBench(async (bench) => {
      await failOne(bench, { id: 'failed' })
      await enqueue(bench, { id: 'ready', args: '["0123456789"]' })
      const { errors = '' } = await recordOf(bench, 'failed')
      const { answer, changes } = await changesOf(bench, () =>
        bench.run('brief', 9, ...FIELDS, 'ready', 'failed', 'gone'),
      )
      expect(answer).to.deep.equal([
        ['["0123456', '', '5', 'send', 'READY'],
        ['[]', errors, '0', 'send', 'FAILED'],
        ['', '', '0', '', ''],
      ])
      expect(errors).to.include(ERROR.slice(1))
      expect(changes).to.deep.equal({})
      await expectWhole(bench)
    }),
  )

  it(
    'takes linear time for texts without an end in sight',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'long', args: `["${'x'.repeat(1_000_000)}"]` })
      const line = `{"message":"${'y'.repeat(20_000)}"}`
      await bench.redis.hset(bench.keys.record('long'), 'errors', Array.from({ length: 100 }, () => line).join('\n'))
      const start = performance.now()
      const [row] = (await bench.run('brief', 100, ...FIELDS, 'long')) as string[][]
      expect(performance.now() - start).to.be.lessThan(1_000)
      expect(row?.[1]).to.equal(line)
      expect(row?.[2]).to.equal(String(1_000_004 - 100 + 99 * (line.length + 1)))
      // One line without an end is the usual case, and was once the slow one.
      await bench.redis.hset(bench.keys.record('long'), 'errors', 'z'.repeat(1_000_000))
      const again = performance.now()
      const [single] = (await bench.run('brief', 100, ...FIELDS, 'long')) as string[][]
      expect(performance.now() - again).to.be.lessThan(1_000)
      expect(single?.[1]).to.have.lengthOf(1_000_000)
    }),
  )

  it(
    'says BROKEN for what is no record, and reads a record without args or of odd bytes',
    onBench(async (bench) => {
      await spoil(bench, bench.keys.record('text'))
      await bench.redis.hset(bench.keys.record('odd'), 'args', Buffer.from([0xff, 0x80, 0x80, 0x80, 0x80, 0x80]))
      await bench.redis.hset(bench.keys.record('bare'), 'status', 'READY')
      const rows = (await bench.run('brief', 5, ...FIELDS, 'text', 'odd', 'bare')) as string[][]
      expect(rows[0]).to.deep.equal(['BROKEN'])
      expect(rows[1]?.slice(2)).to.deep.equal(['1', '', ''])
      expect(rows[2]).to.deep.equal(['', '', '0', '', 'READY'])
    }),
  )

  it(
    'reads for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        expect(await bench.run('brief', 9, ...FIELDS, 'a')).to.deep.equal([['[]', '', '0', 'send', 'READY']])
      },
      { group: '' },
    ),
  )
})
