/** settle.lua on raw keys: every outcome with all it moves, and every reason why nothing may move. */
import { expect } from 'chai'
import {
  aClaim,
  beginOne,
  begunOf,
  changesOf,
  enqueue,
  ERROR,
  expectUnchanged,
  expectWhole,
  NOW,
  ODD_NUMBERS,
  onBench,
  recordOf,
  settle,
  spoil,
  START_MS,
  take,
} from './support.ts'
import type { Words } from './support.ts'

const LATER = String(START_MS + 300)
const STATS = `stats:${Math.floor(START_MS / 60_000)}`

describe('settle.lua', () => {
  it(
    'ends an attempt well: record, cells, lease, entry and counts',
    onBench(async (bench) => {
      const { leaseToken, entryId } = await beginOne(bench)
      await bench.elapse(300)
      const { answer, changes } = await changesOf(bench, () =>
        settle(bench, { id: 'a', leaseToken, payload: '{"ok":[]}' }),
      )
      expect(answer).to.deep.equal(['SETTLED'])
      expect(changes).to.deep.equal({
        'task:a status': 'RUNNING -> SUCCESSFUL',
        'task:a finishedAt': `-> ${LATER}`,
        'task:a returnValue': '-> {"ok":[]}',
        'cell:mail:send:RUNNING a': `${NOW} ->`,
        'cell:mail:send:SUCCESSFUL a': `-> ${NOW}`,
        'leases a': `${START_MS + 1_000} ->`,
        [`stream:mail:normal entry ${entryId}`]: `a ->`,
        [`stream:mail:normal pending ${entryId}`]: 'first.holder ->',
        [`${STATS} mail:SUCCESSFUL:9`]: '-> 1',
        [`${STATS} mail:wait:0`]: '-> 1',
      })
      await expectWhole(bench)
    }),
  )

  it(
    'ends an attempt badly: the error is kept with the time of the server before what the caller said',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await bench.elapse(300)
      expect(await settle(bench, { ...begun, outcome: 'FAILED', payload: '{"name":"E"}' })).to.deep.equal(['SETTLED'])
      expect(await recordOf(bench)).to.include({
        status: 'FAILED',
        errors: `{"at":${LATER},"name":"E"}`,
        finishedAt: LATER,
      })
      expect(await recordOf(bench)).not.to.have.property('returnValue')
      expect((await bench.keyspace()).hashes[STATS]).to.deep.equal({ 'mail:FAILED:9': '1', 'mail:wait:0': '1' })
      await expectWhole(bench)
    }),
  )

  it(
    'leaves no entry of its own behind, also where others go that nobody owns',
    onBench(async (bench) => {
      const ids = ['orphan', 'first', 'second', 'running', 'third']
      await enqueue(bench, ...ids.map((id) => ({ id })))
      await take(bench, 1, { claim: aClaim('dead') })
      const begun = (await take(bench, 4)).map(begunOf)
      await bench.redis.xgroup('DELCONSUMER', bench.stream(), bench.group, 'dead.holder')
      await settle(bench, ...begun.filter(({ id }) => id !== 'running'))
      const entries = async (): Promise<string[]> =>
        Object.values((await bench.keyspace()).streams['stream:mail:normal']?.entries ?? {})
      expect(await entries())
        .to.include('running')
        .and.not.include('third')
      await settle(bench, ...begun.filter(({ id }) => id === 'running'))
      expect(await entries()).to.not.include('running')
    }),
  )

  it(
    'puts an attempt off: another entry at the end, or a row in delayed; one line for each error',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await settle(bench, { ...first, outcome: 'READY', payload: '{"n":1}' })
      const second = begunOf((await take(bench, 1))[0])
      expect(second.entryId).not.to.equal(first.entryId)
      await settle(bench, { ...second, outcome: 'READY', payload: '{"n":2}', delayMs: 500 })
      expect(await recordOf(bench)).to.include({
        status: 'READY',
        entryId: '',
        runAfter: String(START_MS + 500),
        errors: `{"at":${NOW},"n":1}\n{"at":${NOW},"n":2}`,
        attempts: '2',
      })
      const { sortedSets, hashes } = await bench.keyspace()
      expect(sortedSets['delayed:mail']).to.deep.equal({ a: String(START_MS + 500) })
      // A record that runs again has no outcome to count
      expect(hashes[STATS]).to.equal(undefined)
      await expectWhole(bench)
    }),
  )

  it(
    'counts run time and wait in buckets of powers of two, and the wait of first attempts only',
    onBench(async (bench) => {
      await enqueue(bench, { id: 'a', runAfter: START_MS + 1_000 }, { id: 'b' })
      await bench.elapse(1_100)
      await bench.run('promote', 'mail')
      const [b, a] = (await take(bench, 2)).map(begunOf)
      if (!a || !b) throw new Error('expected two attempts')
      await settle(bench, { ...b, outcome: 'READY' })
      const again = begunOf((await take(bench, 1))[0])
      await bench.elapse(5)
      await settle(bench, a, again)
      // a waited 100 ms since it was due (below 2^7), and both ran 5 ms (below 2^3); b waited at its first attempt, which had no outcome
      const stats = (await bench.keyspace()).hashes[STATS]
      expect(stats).to.deep.equal({ 'mail:SUCCESSFUL:3': '2', 'mail:wait:7': '1' })
    }),
  )

  it(
    'gives counts a lifetime, and does not prolong it with each count',
    onBench(async (bench) => {
      const key = bench.keys.root + STATS
      await settle(bench, await beginOne(bench, { id: 'a' }))
      expect(await bench.redis.ttl(key)).to.be.within(89_990, 90_000)
      await bench.redis.expire(key, 50)
      await settle(bench, await beginOne(bench, { id: 'b' }))
      expect(await bench.redis.ttl(key)).to.be.at.most(50)
    }),
  )

  for (const outcome of ['SUCCESSFUL', 'FAILED', 'READY'] as const) {
    it(
      `answers SETTLED and changes nothing when ${outcome} is sent again`,
      onBench(async (bench) => {
        const begun = await beginOne(bench)
        await settle(bench, { ...begun, outcome, delayMs: 500 })
        await bench.elapse(10)
        await expectUnchanged(bench, () => settle(bench, { ...begun, outcome, delayMs: 500 }), ['SETTLED'])
      }),
    )
  }

  it(
    'answers SETTLED when sent again after the record began anew, and LOST once a later attempt moved it too',
    onBench(async (bench) => {
      const first = await beginOne(bench)
      await settle(bench, { ...first, outcome: 'READY' })
      const second = begunOf((await take(bench, 1, { claim: aClaim('second') }))[0])
      await expectUnchanged(bench, () => settle(bench, { ...first, outcome: 'READY' }), ['SETTLED'])
      await settle(bench, { ...second, outcome: 'FAILED' })
      await expectUnchanged(bench, () => settle(bench, { ...first, outcome: 'READY' }, second), ['LOST', 'SETTLED'])
      await bench.run('retry', 'request-1', 'a')
      const third = begunOf((await take(bench, 1))[0])
      await expectUnchanged(bench, () => settle(bench, first, { ...second, outcome: 'FAILED' }), ['LOST', 'SETTLED'])
      await settle(bench, { ...third, outcome: 'READY' })
      await expectUnchanged(bench, () => settle(bench, first, second), ['LOST', 'LOST'])
    }),
  )

  it(
    'keeps the first of two outcomes that are sent for one attempt at the same time',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      const answers = await Promise.all([settle(bench, begun), settle(bench, { ...begun, outcome: 'FAILED' })])
      expect(answers).to.deep.equal([['SETTLED'], ['SETTLED']])
      expect(await recordOf(bench))
        .to.include({ status: 'SUCCESSFUL' })
        .and.not.to.have.property('errors')
      await expectWhole(bench)
    }),
  )

  it(
    'answers LOST and writes nothing at all for a token that is not on the record',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await enqueue(bench, { id: 'waiting' })
      const strangers = [
        { id: 'a', leaseToken: '1:other.1' },
        { id: 'a', leaseToken: '' },
        { id: 'waiting', leaseToken: begun.leaseToken },
        { id: 'waiting', leaseToken: '' },
        { id: 'absent', leaseToken: begun.leaseToken },
        { id: 'absent', leaseToken: '' },
      ]
      const { answer, changes } = await changesOf(bench, () => settle(bench, ...strangers))
      expect(answer).to.deep.equal(strangers.map(() => 'LOST'))
      expect(changes).to.deep.equal({})
    }),
  )

  it(
    'judges each of a batch by itself: 98 settled, one stale, one that is no record, one twice',
    onBench(async (bench) => {
      const ids = Array.from({ length: 100 }, (_, index) => `r${index}`)
      await enqueue(bench, ...ids.map((id, index) => ({ id, priority: (index % 3) - 1, name: `n${index % 5}` })))
      const begun = (await take(bench, 100)).map(begunOf)
      await bench.redis.del(bench.keys.record('r50'))
      await spoil(bench, bench.keys.record('r50'))
      const items = begun.map((attempt, index) => ({
        ...attempt,
        leaseToken: attempt.id === 'r7' ? '1:stale.1' : attempt.leaseToken,
        outcome: (['SUCCESSFUL', 'FAILED', 'READY'] as const)[index % 3] ?? 'FAILED',
      }))
      const twice = items.find(({ id }) => id === 'r9')
      const answer = await settle(bench, ...items, ...(twice ? [twice] : []))
      expect(answer).to.deep.equal([
        ...items.map(({ id }) => (id === 'r7' ? 'LOST' : id === 'r50' ? 'BROKEN' : 'SETTLED')),
        'SETTLED',
      ])
      expect(await recordOf(bench, 'r7')).to.include({ status: 'RUNNING' })
      // All but the one that was spoilt on purpose, whose rows stay
      const { streams, sortedSets } = await bench.keyspace()
      const running = Object.keys(sortedSets).filter((key) => key.endsWith(':RUNNING'))
      expect(running.flatMap((key) => Object.keys(sortedSets[key] ?? {})).sort()).to.deep.equal(['r50', 'r7'])
      expect(Object.keys(sortedSets['leases'] ?? {}).sort()).to.deep.equal(['r50', 'r7'])
      const entries = Object.values(streams).flatMap((stream) => Object.values(stream.entries))
      expect(entries.filter((id) => id === 'r9')).to.have.lengthOf(
        items.find(({ id }) => id === 'r9')?.outcome === 'READY' ? 1 : 0,
      )
    }),
  )

  it(
    'answers BROKEN for a record whose queue or name is not known',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await expectUnchanged(bench, () => settle(bench, { ...begun, name: '' }), ['BROKEN'])
      await expectUnchanged(bench, () => settle(bench, { ...begun, queueName: '' }), ['BROKEN'])
    }),
  )

  it(
    'tells those who wait for a record, in one message, and nobody else',
    onBench(async (bench) => {
      const begun = [
        await beginOne(bench, { id: 'a' }),
        await beginOne(bench, { id: 'b' }),
        await beginOne(bench, { id: 'c' }),
      ]
      for (const id of ['a', 'c']) expect(await bench.run('watch', id)).to.equal('WATCHED')
      const listener = bench.redis.duplicate()
      try {
        const messages: string[] = []
        const heard = new Promise<void>((resolve) => {
          listener.on('message', (_channel: string, message: string) => {
            messages.push(message)
            if (message === 'end') resolve()
          })
        })
        await listener.subscribe(bench.keys.finished)
        await settle(bench, ...begun)
        await settle(bench, ...begun)
        await bench.redis.publish(bench.keys.finished, 'end')
        await heard
        expect(messages).to.deep.equal(['a c', 'end'])
      } finally {
        listener.disconnect()
      }
    }),
  )

  for (const index of ['cell:mail:send:RUNNING', 'cell:mail:send:SUCCESSFUL', 'leases', 'stream:mail:normal']) {
    it(
      `settles all the same when ${index} is of a wrong type, and answers with the error`,
      onBench(async (bench) => {
        const [a, b] = [
          await beginOne(bench, { id: 'a' }),
          await beginOne(bench, { id: 'b', name: 'other', priority: 1 }),
        ]
        await bench.redis.del(bench.keys.root + index)
        await spoil(bench, bench.keys.root + index)
        const answer = await settle(bench, a, b)
        expect(answer.slice(0, 2)).to.deep.equal(['SETTLED', 'SETTLED'])
        expect(answer[2]).to.contain('WRONGTYPE')
        for (const id of ['a', 'b']) expect(await recordOf(bench, id)).to.include({ status: 'SUCCESSFUL' })
        expect((await bench.keyspace()).sortedSets['cell:mail:other:SUCCESSFUL']).to.deep.equal({ b: NOW })
      }),
    )
  }

  it(
    'settles when the counts are of a wrong type',
    onBench(async (bench) => {
      const begun = await beginOne(bench)
      await spoil(bench, bench.keys.root + STATS)
      expect(await settle(bench, begun)).to.deep.equal(['SETTLED'])
      await expectWhole(bench)
    }),
  )

  it(
    'lets an attempt that is put off wait in delayed while its stream is of a wrong type',
    onBench(async (bench) => {
      const [a, b] = [await beginOne(bench, { id: 'a' }), await beginOne(bench, { id: 'b' })]
      await bench.redis.del(bench.stream())
      await spoil(bench, bench.stream())
      const answer = await settle(bench, { ...a, outcome: 'READY' }, b)
      expect(answer.slice(0, 2)).to.deep.equal(['SETTLED', 'SETTLED'])
      expect(answer[2]).to.contain('WRONGTYPE')
      expect(await recordOf(bench, 'a')).to.include({ status: 'READY', entryId: '', leaseToken: '' })
      expect((await bench.keyspace()).sortedSets['delayed:mail']).to.deep.equal({ a: String(START_MS + 60_000) })
    }),
  )

  for (const field of ['attempts', 'enqueuedAt', 'lastAttemptedAt', 'runAfter', 'leaseUntil', 'fence', 'entryId']) {
    it(
      `settles a batch although ${field} holds odd text`,
      onBench(async (bench) => {
        const ids = ODD_NUMBERS.map((_, index) => `odd${index}`)
        await enqueue(bench, ...ids.map((id) => ({ id })), { id: 'good' })
        const begun = (await take(bench, 99)).map(begunOf)
        for (const [index, id] of ids.entries())
          await bench.redis.hset(bench.keys.record(id), field, ODD_NUMBERS[index] ?? '')
        expect(await settle(bench, ...begun)).to.deep.equal(begun.map(() => 'SETTLED'))
        const { sortedSets, streams } = await bench.keyspace()
        expect(Object.keys(sortedSets['cell:mail:send:SUCCESSFUL'] ?? {})).to.have.members([...ids, 'good'])
        expect(sortedSets['leases']).to.equal(undefined)
        if (field !== 'entryId') expect(streams['stream:mail:normal']?.entries).to.deep.equal({})
        else expect(Object.values(streams['stream:mail:normal']?.entries ?? {})).to.not.include('good')
      }),
    )
  }

  it(
    'settles for a client without groups',
    onBench(
      async (bench) => {
        await enqueue(bench, { id: 'a' })
        const begun = begunOf((await bench.run('run-by-id', ...aClaim('web'), 'a', '')) as Words)
        expect(await settle(bench, { ...begun, outcome: 'FAILED', payload: ERROR })).to.deep.equal(['SETTLED'])
        expect(await settle(bench, { ...begun, outcome: 'FAILED', payload: ERROR })).to.deep.equal(['SETTLED'])
        expect(await recordOf(bench)).to.include({ status: 'FAILED' })
      },
      { group: '' },
    ),
  )
})
