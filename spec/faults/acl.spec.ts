/**
 * A user that may do nothing but what docs/redis-keys.md permits: tasks run, nothing is refused. A password that is wrong, or
 * changes while sockets die: nothing ends that ran, nobody sees the password (F36). The contract runs as that user, too.
 */
import { expect } from 'chai'
import { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { RedisTaskBackend, TaskRecord } from '../../lib/index.ts'
import { PROBED_COMMANDS } from '../../lib/storage/redis/access-probe.ts'
import { purgeFinished } from '../../lib/maintenance.ts'
import { SCRIPT_NAMES, scriptOf } from '../../lib/storage/redis/scripts.ts'
import { Project } from '../cli/project.ts'
import { documentedCommands, documentedDoctorRules, makeDocumentedUser } from '../support/acl-user.ts'
import { eventually } from '../support/eventually.ts'
import { startRedisServer } from '../support/redis-server.ts'
import { FaultRun, lists, sized } from './support/fault-run.ts'
import { row } from './support/rows.ts'
import { reportAlone, reportOwn } from './support/verdict.ts'

const PASSWORD = 'p4ssw0rd-of-the-user'
const USER = 'app'

/** What a driver says to make a connection, whatever is done on it. Refused or not, it goes on. */
const HANDSHAKE = new Set(['auth', 'hello', 'client|setinfo', 'client|setname', 'select', 'info', 'ping', 'readonly'])
const CONTAINERS = new Set(['acl', 'client', 'cluster', 'config', 'xgroup', 'xinfo'])

const urlOf = (url: string, password = PASSWORD): string => url.replace('//', `//${USER}:${password}@`)

/** What a web process does: every verb that reads or changes records, and a wait that is woken. */
async function asWebProcess(backend: RedisTaskBackend, waited: string): Promise<void> {
  const { records, storage } = backend
  await (await backend.getResult(waited)).wait({ timeoutMs: 20_000 })
  expect(await records.filter({ status: 'SUCCESSFUL' }).count()).to.be.above(0)
  expect(await records.filter({}).orderBy('-enqueuedAt').limit(5)).to.have.lengthOf(5)
  const [one] = await records.filter({ status: 'SUCCESSFUL' }).limit(1)
  expect(one).to.be.instanceOf(TaskRecord)
  await one?.delete()
  const { queueNames } = await storage.catalog()
  await storage.depth(queueNames)
  await storage.longestWait(queueNames)
  await storage.workers()
  await storage.stats(5)
  await purgeFinished(storage, { finishedForMs: 3_600_000, dryRun: true })
}

/** As the rules of an ACL name them. */
function commandsOf(all: readonly { readonly text: string }[]): ReadonlySet<string> {
  const text = all.map((script) => script.text).join('\n')
  const calls = [...text.matchAll(/redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?/g)]
  return new Set(
    calls.map(([, name = '', sub = '']) =>
      (CONTAINERS.has(name.toLowerCase()) ? `${name}|${sub}` : name).toLowerCase(),
    ),
  )
}

describe('Faults: access', function () {
  this.timeout(sized(90_000, 300_000))

  it('asks for every command before it runs, and the page permits each of them', () => {
    // What the doctor alone does is permitted apart.
    const isDoctors = (name: string): boolean => /^(?:inspect|repair)-/.test(name)
    const called = commandsOf(SCRIPT_NAMES.map(scriptOf).filter(({ name }) => !isDoctors(name)))
    expect(called.size).to.be.above(20)
    expect([...called].filter((name) => !PROBED_COMMANDS.has(name))).to.deep.equal([])
    expect([...PROBED_COMMANDS].filter((name) => !documentedCommands().includes(name))).to.deep.equal([])
    // What is sent outside of scripts, too, but for what makes a connection or a call.
    const ofConnections = /^(?:eval|evalsha|multi|exec|info|select|ping|subscribe|client\|\w+)$/
    const unasked = documentedCommands().filter((name) => !PROBED_COMMANDS.has(name) && !ofConnections.test(name))
    expect(unasked).to.deep.equal([])
    const permitted = [...documentedCommands(), ...documentedDoctorRules().map((rule) => rule.slice(1))]
    const ofDoctor = commandsOf(SCRIPT_NAMES.map(scriptOf).filter(({ name }) => isDoctors(name)))
    const isPermitted = (name: string): boolean =>
      permitted.includes(name) || permitted.includes(name.split('|')[0] ?? '')
    expect([...ofDoctor].filter((name) => !isPermitted(name))).to.deep.equal([])
  })

  row('runs tasks and reads records as a user of least privilege, and nothing is refused (F36)', async function () {
    await using run = await FaultRun.start()
    const user = { name: USER, password: PASSWORD, keyPrefix: run.keyPrefix }
    if (!(await makeDocumentedUser(run.redis, user))) return this.skip()
    const backend = { ...run.backendOptions(), redisUrl: urlOf(run.server.url) }
    await Promise.all([run.spawn({ backend }), run.spawn({ backend })])
    const [waited = ''] = await run.enqueue({}, lists(100, 10))
    await run.enqueue({ runAfter: Date.now() + 300, priority: 5 }, lists(10, 10))
    const web = new RedisTaskBackend({ ...backend, queues: [] })
    try {
      await web.storage.connect()
      await asWebProcess(web, waited)
    } finally {
      await web.close()
    }
    await run.drained()
    // CONFIG is asked for and may be refused; what a driver says of itself too.
    const refused = ((await run.redis.call('ACL', 'LOG')) as unknown[]).map((entry) => {
      const words = entry as string[]
      return String(words[words.indexOf('object') + 1])
    })
    run.acknowledged.clear()
    for (const id of await run.backend.records.filter({}).ids()) run.acknowledged.add(id)
    const verdict = await run.verdict()
    // One record was deleted, and so its begin is one that nobody knows any more.
    expect(verdict.unexpected).to.have.lengthOf(1)
    for (const id of verdict.unexpected) run.unsure.add(id)
    // Before 7.0 the log names no subcommands.
    expect(refused.filter((name) => !HANDSHAKE.has(name) && !/^(?:config|client$)/.test(name))).to.deep.equal([])
    expect((await run.counts())['FAILED']).to.equal(0)
    const executed = verdict.begun.length
    reportOwn(run, 'F36', { user: 'least privilege', executed, refused: [...new Set(refused)] })
  })

  row('sends no command that the page does not name (F36)', async () => {
    await using run = await FaultRun.start()
    const client = new Redis(run.server.url)
    const watcher = await client.monitor()
    const seen = new Set<string>()
    watcher.on('monitor', (_time: string, [name = '', sub = '']: string[]) => {
      const command = name.toLowerCase()
      seen.add(CONTAINERS.has(command) ? `${command}|${sub.toLowerCase()}` : command)
    })
    try {
      const before = seen.size
      await run.spawn()
      const [waited = ''] = await run.enqueue({}, lists(50, 10))
      await run.enqueue({ runAfter: Date.now() + 200 }, lists(5, 10))
      await asWebProcess(run.backend, waited)
      await run.drained()
      expect(seen.size).to.be.above(before + 20)
    } finally {
      // Before the verdict, which is the doctor's.
      watcher.disconnect()
      client.disconnect()
    }
    await run.verdict()
    // Of the harness.
    const harness = ['scan', 'slowlog', 'config|get']
    const permitted = new Set([...documentedCommands(), ...HANDSHAKE, ...harness])
    expect([...seen].filter((name) => !permitted.has(name)).sort()).to.deep.equal([])
  })

  row('tells a wrong password at the start, with exit code 3, and shows it to nobody (F36)', async function () {
    await using server = await startRedisServer()
    const project = await Project.create({ server, config: false })
    const client = new Redis(server.url)
    try {
      if (!(await makeDocumentedUser(client, { name: USER, password: PASSWORD, keyPrefix: 'express_tasks' })))
        return this.skip()
      project.writeTasks('tasks.js', { echo: '() => null' })
      const wrong = `${PASSWORD}-not`
      const REDIS_URL = urlOf(server.url, wrong)
      const { code, stdout, stderr } = await project.run('run-redis-tasks', ['tasks.js'], { REDIS_URL })
      expect(code).to.equal(3)
      expect(stderr).to.match(/WRONGPASS.*check the user's name, password and ACL/)
      expect(stdout + stderr).to.not.contain(PASSWORD)
    } finally {
      client.disconnect()
      await project.remove()
    }
  })

  row(
    'goes on when the password changes and every socket is killed, and is back with the old one (F36)',
    async function () {
      await using server = await startRedisServer()
      const project = await Project.create({ server, config: false })
      const client = new Redis(server.url)
      const backend = new RedisTaskBackend({ redisUrl: server.url, queues: [] })
      try {
        if (!(await makeDocumentedUser(client, { name: USER, password: PASSWORD, keyPrefix: 'express_tasks' })))
          return this.skip()
        project.writeTasks('tasks.js', { echo: '() => null' })
        const command = project.start('run-redis-tasks', ['tasks.js', '--continuous'], { REDIS_URL: urlOf(server.url) })
        await command.prints(/Ctrl-C/)
        const done = async (): Promise<void> => {
          const id = randomUUID()
          const record = { id, name: 'echo', queueName: 'default', priority: 0, runAfter: null, args: '[]' }
          await backend.queue.push([record])
          await eventually(async () => (await backend.getResult(id)).status === 'SUCCESSFUL', { timeoutMs: 20_000 })
        }
        await done()
        const linesBefore = command.stderr.split('\n').length
        await client.call('ACL', 'SETUSER', USER, 'resetpass', '>another')
        const from = performance.now()
        await client.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        const awayMs = sized(2_500, 10_000)
        await eventually(() => performance.now() - from > awayMs, { timeoutMs: awayMs + 10_000 })
        expect(command.hasEnded).to.equal(false)
        await client.call('ACL', 'SETUSER', USER, 'resetpass', `>${PASSWORD}`)
        await done()
        const seconds = (performance.now() - from) / 1_000
        const lines = command.stderr.split('\n').length - linesBefore
        const figures = { awaySeconds: awayMs / 1_000, logLines: lines, linesPerSecond: lines / seconds }
        reportAlone(server, 'F36', { wallSeconds: seconds, acknowledged: 2, executed: 2, ...figures })
        expect(lines / seconds).to.be.at.most(2)
        command.kill('SIGTERM')
        expect(await command.ended).to.equal(0)
        expect(command.stdout + command.stderr)
          .to.match(/storage is away/)
          .and.not.contain(PASSWORD)
      } finally {
        client.disconnect()
        await backend.close()
        await project.remove()
      }
    },
  )
})
