/**
 * Requests at random over every route of API and admin: 2,000 of them, and 100,000 where FAULTS_SIZE is `nightly`. None may be
 * answered 5xx, leave a key of a strange name, break an invariant, hold up the event loop or fill the memory.
 */
import { expect } from 'chai'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { doctor } from '../../lib/index.ts'
import { randomOf, SEED, sized } from '../faults/support/rows.ts'
import { MOUNT, startBadInputHost, STORES, strangeKeys } from './support/bad-input-host.ts'
import { RequestGenerator } from './support/generated-request.ts'
import { defineTasks, forgetTasks } from './support/hosts.ts'
import { RawClient } from './support/raw-client.ts'

const REQUESTS = sized(2_000, 100_000)
const CLIENTS = 4
/** Before it the process still grows by what each page loads once. */
const WARM = 0.2
/** Of the process that both asks and answers: 50 MB in 10,000 requests. */
const MOST_BYTES_A_REQUEST = 5_000
/** A look takes a few milliseconds; a machine that is busy with other things takes the rest. */
const LONGEST_BLOCK_MS = 1_000

describe('Generated requests', function () {
  this.timeout(sized(60_000, 1_200_000))

  it('are each answered below 500, and leave nothing behind that should not be there', async () => {
    defineTasks()
    const store = await STORES[0].open()
    const host = await startBadInputHost(store)
    const clients = Array.from({ length: CLIENTS }, () => new RawClient(host.url))
    const generator = new RequestGenerator(randomOf('generated requests'), MOUNT, Object.values(host.ids))
    const statuses: Record<number, number> = {}
    const delay = monitorEventLoopDelay({ resolution: 10 })
    delay.enable()
    let sent = 0
    let warmBytes = NaN
    const ask = async (client: RawClient): Promise<void> => {
      while (sent < REQUESTS) {
        sent += 1
        if (sent === Math.floor(REQUESTS * WARM)) warmBytes = process.memoryUsage.rss()
        const request = generator.next()
        const where = `seed ${SEED}: ${request.method} ${request.path.slice(0, 300)} ${JSON.stringify(request.headers).slice(0, 300)} ${String(request.body ?? '').slice(0, 300)}`
        const { status, text } = await client.send(request.method, request.path, request)
        statuses[status] = (statuses[status] ?? 0) + 1
        expect(status, `${where}\n${text.slice(0, 500)}`).to.be.within(200, 499)
        const id = status === 202 ? /"id":"([0-9a-f-]{36})"/.exec(text)?.[1] : undefined
        if (id !== undefined) generator.learn(id)
      }
    }
    try {
      await Promise.all(clients.map(ask))
      delay.disable()
      const grown = process.memoryUsage.rss() - warmBytes
      const examination = doctor(store.backend)
      const findings: string[] = []
      for await (const { invariant, key, found } of examination) findings.push(`${invariant} ${key} ${found}`)
      const summary = await examination.summary()
      console.log(
        `      seed ${SEED}: ${sent} requests, ${JSON.stringify(statuses)}, event loop held ${Math.round(delay.max / 1e6)} ms at most, rss +${Math.round(grown / 1e6)} MB, ${summary.records} records`,
      )
      expect(findings).to.deep.equal([])
      expect(await strangeKeys(store)).to.deep.equal([])
      expect(({} as Record<string, unknown>)['polluted']).to.equal(undefined)
      expect(delay.max / 1e6).to.be.below(LONGEST_BLOCK_MS)
      // With fewer requests it is noise.
      if (REQUESTS >= 10_000) expect(grown / (REQUESTS * (1 - WARM))).to.be.below(MOST_BYTES_A_REQUEST)
      expect(Object.keys(statuses)).to.include.members(['200', '202', '303', '400', '403', '404', '405'])
    } finally {
      for (const client of clients) client[Symbol.dispose]()
      await host.close()
      forgetTasks()
    }
  })
})
