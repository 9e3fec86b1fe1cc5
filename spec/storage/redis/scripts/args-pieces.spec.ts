/** Arguments in pieces on raw keys: no value of a usual record takes more than 64 bytes, and every reader has the text whole. */
import { expect } from 'chai'
import { cutArgs } from '../../../../lib/storage/redis/args-pieces.ts'
import {
  aClaim,
  argsWords,
  begunOf,
  enqueue,
  expectWhole,
  LEASE_MS,
  onBench,
  recordOf,
  START_MS,
  take,
  type ScriptBench,
} from './support.ts'

/** One, two, three and four bytes of UTF-8 a character. */
const CHARACTERS = ['x', 'é', '漢', '🙂']

/** JSON of exactly so many bytes, or a few less where a character does not fit. */
function argsOf(bytes: number, character: string): string {
  const room = bytes - 4
  const text = character.repeat(Math.floor(room / Buffer.byteLength(character)))
  return `["${text}${'y'.repeat(room - Buffer.byteLength(text))}"]`
}

/** The pieces as they are stored, first to last. */
async function piecesOf(bench: ScriptBench, id: string): Promise<string[]> {
  const record = await recordOf(bench, id)
  return ['args', 'args2', 'args3', 'args4'].flatMap((field) => record[field] ?? [])
}

async function encodingOf(bench: ScriptBench, id: string): Promise<unknown> {
  return await bench.redis.object('ENCODING', bench.keys.record(id))
}

describe('arguments in pieces', () => {
  it(
    'are cut between characters into up to four of 64 bytes at most, at every length, and joined by a take',
    onBench(async (bench) => {
      for (const character of CHARACTERS) {
        for (let bytes = 60; bytes <= 262; bytes += 1) {
          const id = `${character}${bytes}`
          const args = argsOf(bytes, character)
          expect(Buffer.byteLength(args)).to.equal(bytes)
          await enqueue(bench, { id, args })
          const pieces = await piecesOf(bench, id)
          expect(pieces.join(''), id).to.equal(args)
          if (bytes <= 64 || bytes > 244) expect(pieces, id).to.have.lengthOf(1)
          else for (const piece of pieces) expect(Buffer.byteLength(piece), id).to.be.within(1, 64)
          const [row] = await take(bench, 1)
          expect(begunOf(row), id).to.include({ id, args })
        }
      }
      await expectWhole(bench)
    }),
  )

  it(
    'keep a record of short arguments one compact list, waiting and running',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'short', args: argsOf(244, 'x') }, { id: 'long', args: argsOf(245, 'x') })
      const compact = await encodingOf(bench, 'short')
      expect(compact).to.be.oneOf(['listpack', 'ziplist'])
      expect(await encodingOf(bench, 'long')).to.equal('hashtable')
      await take(bench, 2)
      expect(await encodingOf(bench, 'short')).to.equal(compact)
    }),
  )

  it(
    'stand side by side in one run, each with as many pieces as it has',
    onBench(async (bench) => {
      const all = [20, 64, 65, 130, 244, 245].map((bytes) => ({ id: `of-${bytes}`, args: argsOf(bytes, 'x') }))
      const words = all.flatMap(({ id, args }) => [id, ...Object.assign(['', '', '', ''], cutArgs(args))])
      await bench.run('enqueue', ...['mail', 'send', '0', '', 4, all.length], ...words)
      for (const { id, args } of all) expect(await piecesOf(bench, id), id).to.deep.equal(cutArgs(args))
      expect((await take(bench, 9)).map((row) => begunOf(row).args)).to.deep.equal(all.map(({ args }) => args))
      await expectWhole(bench)
    }),
  )

  it(
    'are changed as one: no piece of the old ones stays',
    onBench(async (bench) => {
      const before = argsOf(230, 'é')
      for (const bytes of [20, 100, 150, 200, 300]) {
        const id = `to-${bytes}`
        await enqueue(bench, { id, args: before })
        const args = argsOf(bytes, 'x')
        await bench.run('save-record', id, ...argsWords(args))
        expect((await piecesOf(bench, id)).join(''), id).to.equal(args)
        await bench.run('save-record', id, ...argsWords(before))
        expect((await piecesOf(bench, id)).join(''), id).to.equal(before)
      }
      await expectWhole(bench)
    }),
  )

  it(
    'come whole with a run by id, a reclaim and a brief read',
    onBench(async (bench) => {
      const args = argsOf(240, '漢')
      await enqueue(bench, { id: 'a', args }, { id: 'b', args })
      const row = (await bench.run('run-by-id', ...aClaim(), 'a', '')) as string[]
      expect(begunOf(row)).to.include({ id: 'a', args })
      await take(bench, 2)
      await bench.elapse(LEASE_MS)
      const [, ...rows] = (await bench.run(
        'reclaim',
        ...aClaim('rescuer'),
        ...[2, 3, LEASE_MS, '{"name":"Error","message":"","stack":""}', bench.stream(), '-'],
      )) as [string, ...string[][]]
      expect(rows.map((each) => begunOf(each).args)).to.deep.equal([args, args])
      const brief = (bytes: number): Promise<unknown> => bench.run('brief', bytes, 1, 'status', 'a')
      expect(await brief(1_000)).to.deep.equal([[args, '', '0', 'RUNNING']])
      // 2 bytes, then 65 characters of three: the last one may have been cut
      expect(await brief(200)).to.deep.equal([[args.slice(0, 67), '', '43', 'RUNNING']])
      expect(bench.nowMs).to.equal(START_MS + LEASE_MS)
    }),
  )
})
