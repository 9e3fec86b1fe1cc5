import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { startRedisServer } from '../support/redis-server.ts'
import { eachProject, Project, TIMEOUT_MS } from './project.ts'
import type { Command } from './project.ts'

/** Each says in a file that it began, and how it ended; then the specs need not guess. */
const TASKS = `
import { execSync } from 'node:child_process'
import { appendFileSync, existsSync } from 'node:fs'
import { task } from 'express-tasks-redis'
const mark = (text) => appendFileSync('marks', text + '\\n')
const until = (file) => new Promise((resolve) => {
  const timer = setInterval(() => { if (existsSync(file)) { clearInterval(timer); resolve() } }, 5)
})
export const waits = task('waits', async (file) => { mark('began'); await until(file); mark('ended') })
export const listens = task({ name: 'listens', takesContext: true }, async ({ signal }) => {
  mark('began')
  await new Promise((resolve) => signal.addEventListener('abort', resolve))
  mark(signal.reason.code)
})
export const blocks = task('blocks', async () => { mark('began'); for (;;); })
export const sleeps = task('sleeps', async () => { mark('began'); execSync('sleep 3'); mark('ended') })
export const quick = task('quick', async () => {})
`

describe('run-redis-tasks and signals', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject()
  beforeEach(() => {
    project().write('tasks.js', TASKS)
    project().write('marks', '')
  })

  const began = (count = 1): Promise<unknown> =>
    eventually(() => project().read('marks').split('began').length > count, { timeoutMs: TIMEOUT_MS })

  const start = (...args: string[]): Command =>
    project().start('run-redis-tasks', ['tasks.js', '--continuous', ...args])

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`takes no more after the first ${signal}, waits for what runs, and ends with code 0`, async () => {
      const running = await project().enqueue('waits', ['go'])
      const command = start('--concurrency', '1')
      await began()
      const waiting = await project().enqueue('quick')
      command.kill(signal)
      await command.prints(/Draining: 1 task\(s\) still run, 25 s left \(again stops now\)/)
      expect(command.stderr).to.match(new RegExp(`^ {2}waits ${running} for [\\d.]+ m?s$`, 'm'))
      project().write('go', '')
      expect(await command.ended).to.equal(0)
      expect(await project().record(running)).to.include({ status: 'SUCCESSFUL', attempts: 1 })
      expect(await project().record(waiting)).to.include({ status: 'READY', attempts: 0 })
      expect(command.stdout).to.match(/^Processed 1 task\(s\)$/m)
    })
  }

  it('aborts and hands back what still runs at the deadline, with code 4', async () => {
    const heard = await project().enqueue('listens')
    const deaf = await project().enqueue('waits', ['never'])
    const command = start('--drain-timeout', '0.3', '--json')
    await began(2)
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(4)
    for (const id of [heard, deaf]) {
      expect(await project().record(id)).to.include({ status: 'READY', attempts: 0, crashes: 0 })
    }
    expect(project().read('marks')).to.include('ERR_TASKS_HANDED_BACK')
    expect(command.records.find(({ event }) => event === 'draining')).to.have.property('seconds_left', 0.3)
    expect(command.records.at(-1)).to.include({ event: 'summary', reason: 'stopped', handed_back: 2, exit_code: 4 })
  })

  it('counts down while it drains', async () => {
    await project().enqueue('waits', ['go'])
    const command = start('--drain-timeout', '1.5')
    await began()
    command.kill('SIGTERM')
    await command.prints(/^Draining: 1 task\(s\) still run, (1|0\.\d) s left/m)
    project().write('go', '')
    expect(await command.ended).to.equal(0)
  })

  it('lets another worker run at once what was handed back', async () => {
    const id = await project().enqueue('waits', ['go'])
    const command = start('--drain-timeout', '0')
    await began()
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(4)
    expect(command.stderr).to.match(/^Handed back 1 task\(s\)$/m)
    project().write('go', '')
    const { code } = await project().run('run-redis-tasks', ['tasks.js'])
    expect(code).to.equal(0)
    expect(await project().record(id)).to.include({ status: 'SUCCESSFUL', attempts: 1 })
  })

  it('stops at once at the second signal', async () => {
    const id = await project().enqueue('waits', ['never'])
    const command = start()
    await began()
    command.kill('SIGTERM')
    await command.prints(/Draining/)
    command.kill('SIGINT')
    expect(await command.ended).to.equal(4)
    expect(command.stderr).to.match(/^Stopping now: what runs is handed back$/m)
    expect(await project().record(id)).to.include({ status: 'READY', attempts: 0 })
  })

  it('ends a thread that a task blocks, and hands its task back from outside', async () => {
    const id = await project().enqueue('blocks')
    const command = start('--drain-timeout', '0.2')
    await began()
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(4)
    expect(await project().record(id)).to.include({ status: 'READY', attempts: 0, crashes: 0 })
  })

  it('hands back what a thread runs that nothing can interrupt, and ends when that does', async () => {
    const id = await project().enqueue('sleeps')
    const command = start('--drain-timeout', '0')
    await began()
    command.kill('SIGTERM')
    await command.prints(/^Handed back 1 task\(s\)$/m)
    expect(await project().record(id)).to.include({ status: 'READY', attempts: 0 })
    expect(await command.ended).to.equal(4)
    expect(project().read('marks')).to.not.include('ended')
  })

  it('tells every thread', async () => {
    for (let count = 0; count < 3; count += 1) await project().enqueue('listens')
    const command = start('--workers', '3', '--concurrency', '1', '--drain-timeout', '0.2')
    await began(3)
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(4)
    expect(command.stderr).to.match(/^Handed back 3 task\(s\)$/m)
  })

  it('can be stopped while a module is imported', async () => {
    project().write('slow.js', `console.log('importing'); setInterval(() => {}, 1000); await new Promise(() => {})`)
    const command = project().start('run-redis-tasks', ['slow.js'])
    await command.prints(/^importing$/m)
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(0)
  })
})

describe('run-redis-tasks and a server that goes away', function () {
  this.timeout(TIMEOUT_MS)

  it('says so once, goes on when it is back, and can be stopped meanwhile', async () => {
    await using server = await startRedisServer()
    const project = await Project.create({ server })
    try {
      project.write('tasks.js', TASKS)
      const command = project.start('run-redis-tasks', [
        'tasks.js',
        '--continuous',
        '--interval',
        '0.05',
        '--workers',
        '2',
      ])
      await command.prints(/Ctrl-C/)
      await eventually(async () => (await project.backend.storage.workers()).length === 2, { timeoutMs: TIMEOUT_MS })
      await server.kill('SIGKILL')
      await command.prints(/WARN +the storage is away/)
      await server.restart()
      await command.prints(/INFO +the storage is back/)
      const id = await eventually(() => project.enqueue('quick'), { timeoutMs: TIMEOUT_MS })
      await command.prints(new RegExp(`SUCCESSFUL quick ${id}`), 'stdout')
      await server.kill('SIGKILL')
      await eventually(() => command.stderr.match(/the storage is away/g)?.length === 2, { timeoutMs: TIMEOUT_MS })
      command.kill('SIGTERM')
      expect(await command.ended).to.equal(0)
      const log = command.stderr.split('\n').filter((line) => / (WARN|ERROR|INFO) /.test(line))
      // The first is of the start: this server keeps nothing over its end
      expect(log[0]).to.include('WARN_TASKS_SERVER_PERSISTENCE')
      expect(log).to.have.lengthOf(4)
    } finally {
      await project.remove()
    }
  })

  it('is left within the drain time, with code 4 when something ran', async () => {
    await using server = await startRedisServer()
    const project = await Project.create({ server })
    try {
      project.write('tasks.js', TASKS)
      project.write('marks', '')
      await project.enqueue('waits', ['never'])
      const command = project.start('run-redis-tasks', ['tasks.js', '--continuous', '--drain-timeout', '0.2'])
      await eventually(() => project.read('marks') !== '', { timeoutMs: TIMEOUT_MS })
      await server.kill('SIGKILL')
      command.kill('SIGTERM')
      expect(await command.ended).to.equal(4)
      expect(command.stderr).to.match(
        /^Handed back 0 task\(s\); 1 could not be, and will be taken over when their leases run out$/m,
      )
    } finally {
      await project.remove()
    }
  })
})
