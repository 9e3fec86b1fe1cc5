import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { eachProject, TIMEOUT_MS } from './project.ts'
import type { Command } from './project.ts'

const TASKS = `
import { appendFileSync, existsSync } from 'node:fs'
import { threadId } from 'node:worker_threads'
import { task } from 'express-tasks-redis'
const until = (file) => new Promise((resolve) => {
  const timer = setInterval(() => { if (existsSync(file)) { clearInterval(timer); resolve() } }, 5)
})
export const exits = task('exits', async (code) => { appendFileSync('marks', 'exits\\n'); process.exit(code) })
export const rejects = task('rejects', async () => { void Promise.reject(new Error('nobody listens')); await until('never') })
export const waits = task('waits', async (file) => { appendFileSync('marks', 'waits\\n'); await until(file); return threadId })
export const blocks = task('blocks', async () => { appendFileSync('marks', 'blocks\\n'); for (;;); })
export const spins = task({ name: 'spins', timeoutMs: 300 }, async () => { appendFileSync('marks', 'spins\\n'); for (;;); })
export const retried = task({ name: 'retried', timeoutMs: 300, retry: { maxAttempts: 2 } }, async () => { for (;;); })
export const quick = task('quick', async () => threadId)
`

describe('the worker threads of run-redis-tasks', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject({ claimTimeoutSeconds: 1 })
  beforeEach(() => {
    project().write('tasks.js', TASKS)
    project().write('marks', '')
  })

  const begun = (name: string): number =>
    project()
      .read('marks')
      .split('\n')
      .filter((line) => line === name).length
  const start = (...args: string[]): Command =>
    project().start('run-redis-tasks', ['tasks.js', '--continuous', '--claim-interval', '0.2', ...args])

  it('run tasks beside each other, each in its own event loop', async () => {
    const ids = [await project().enqueue('waits', ['go']), await project().enqueue('waits', ['go'])]
    const command = start('--workers', '2', '--concurrency', '1')
    await eventually(() => begun('waits') === 2, { timeoutMs: TIMEOUT_MS })
    project().write('go', '')
    for (const id of ids) await command.prints(new RegExp(`SUCCESSFUL waits ${id}`), 'stdout')
    const records = await Promise.all(ids.map((id) => project().record(id)))
    expect(new Set(records.map(({ returnValue }) => returnValue))).to.have.property('size', 2)
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(0)
  })

  it('end alone when a task calls process.exit: the others go on, and the task fails after its last chance', async () => {
    const poison = await project().enqueue('exits', [7])
    const command = start('--workers', '2', '--concurrency', '1')
    await command.prints(
      /ERROR a worker thread ended by itself; a new one starts in 250 ms code="WARN_TASKS_THREAD_ENDED"/,
    )
    expect(command.stderr).to.match(new RegExp(`exitCode=7 .*"id":"${poison}","name":"exits"`))
    const innocent = await project().enqueue('quick')
    await command.prints(new RegExp(`SUCCESSFUL quick ${innocent}`), 'stdout')
    await eventually(async () => (await project().record(poison)).status === 'FAILED', { timeoutMs: TIMEOUT_MS })
    // Three crashes are forgiven, the fourth is not.
    expect(begun('exits')).to.equal(4)
    expect((await project().record(poison)).errors.join()).to.include('ERR_TASKS_ABANDONED')
    const last = await project().enqueue('quick')
    await command.prints(new RegExp(`SUCCESSFUL quick ${last}`), 'stdout')
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(0)
  })

  it('start anew with a growing delay after an error that nothing caught', async () => {
    await project().enqueue('rejects')
    const command = start()
    await command.prints(/starts in 250 ms .*nobody listens/)
    await command.prints(/starts in 500 ms .*nobody listens/)
    command.kill('SIGTERM')
    await command.ended
  })

  it('are not started anew for ever when their modules cannot be imported any more', async () => {
    project().write(
      'breaks.js',
      `import { existsSync, writeFileSync } from 'node:fs'
      import { task } from 'express-tasks-redis'
      if (existsSync('broken')) throw new Error('broken meanwhile')
      export const breaks = task('breaks', async () => { writeFileSync('broken', ''); process.exit(1) })`,
    )
    await project().enqueue('breaks')
    const { code, stderr } = await project().run('run-redis-tasks', ['breaks.js', '--continuous'])
    expect(code).to.equal(2)
    expect(stderr).to.match(/^ERR_TASKS_IMPORT: expected breaks\.js .*broken meanwhile/m)
  })

  it('of a killed process leave their task to another process', async () => {
    const id = await project().enqueue('waits', ['go'])
    const first = start()
    await eventually(() => begun('waits') === 1, { timeoutMs: TIMEOUT_MS })
    first.kill('SIGKILL')
    expect(await first.ended).to.equal('SIGKILL')
    const second = start()
    await eventually(() => begun('waits') === 2, { timeoutMs: TIMEOUT_MS })
    project().write('go', '')
    await second.prints(new RegExp(`SUCCESSFUL waits ${id}`), 'stdout')
    expect(await project().record(id)).to.include({ status: 'SUCCESSFUL', attempts: 2, crashes: 1 })
    second.kill('SIGTERM')
    expect(await second.ended).to.equal(0)
  })
})

describe('a worker thread that a task blocks', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject({ retry: { delayMs: 600_000 } })
  beforeEach(() => {
    project().write('tasks.js', TASKS)
    project().write('marks', '')
  })

  it('is ended at the time limit of the task, which has failed by it; what it held runs at once', async () => {
    const blocking = await project().enqueue('spins')
    const neighbours = await Promise.all(Array.from({ length: 5 }, () => project().enqueue('quick')))
    const { code, stdout, stderr } = await project().run('run-redis-tasks', ['tasks.js'])
    expect(code, stderr).to.equal(0)
    expect(stderr).to.match(/ERROR a task blocked its thread past its time limit; a new one starts in 250 ms/)
    expect(stdout).to.match(
      new RegExp(`^FAILED spins ${blocking} 300 ms TaskTimeoutError: .* to end within 300 ms`, 'm'),
    )
    expect(stdout).to.match(/^Processed 6 task\(s\): 5 successful, 1 failed/m)
    expect(await project().record(blocking)).to.include({ status: 'FAILED', attempts: 1, crashes: 0 })
    for (const id of neighbours) {
      expect(await project().record(id)).to.include({ status: 'SUCCESSFUL', attempts: 1, crashes: 0 })
    }
  })

  it('leaves it to the policy of task and backend whether that runs again, and when', async () => {
    const id = await project().enqueue('retried')
    const { code, stdout } = await project().run('run-redis-tasks', ['tasks.js'])
    expect(code).to.equal(0)
    expect(stdout).to.match(new RegExp(`^READY retried ${id} .*TaskTimeoutError.*it runs again`, 'm'))
    const record = await project().record(id)
    expect(record).to.include({ status: 'READY', attempts: 1 })
    expect(record.runAfter).to.be.above(Date.now() + 300_000)
  })

  it('hands back what waits behind the task, too, when it is stopped', async () => {
    const ids = [await project().enqueue('blocks'), await project().enqueue('quick'), await project().enqueue('quick')]
    const command = project().start('run-redis-tasks', ['tasks.js', '--continuous', '--drain-timeout', '0'])
    await eventually(() => project().read('marks').includes('blocks'), { timeoutMs: TIMEOUT_MS })
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(4)
    for (const id of ids) expect(await project().record(id)).to.include({ status: 'READY', attempts: 0, crashes: 0 })
  })
})

describe('a worker thread that dies under --max-tasks', function () {
  this.timeout(TIMEOUT_MS)

  // With the long lease what it ran is not taken over meanwhile.
  const project = eachProject()

  it('leaves no more to the next than it had not begun', async () => {
    project().write('tasks.js', TASKS)
    await project().enqueue('exits', [0])
    const ids = await Promise.all(Array.from({ length: 5 }, () => project().enqueue('quick')))
    const args = ['tasks.js', '--max-tasks', '3', '--concurrency', '1', '--json']
    const { code, records } = await project().run('run-redis-tasks', args)
    expect(code).to.equal(0)
    expect(records.at(-1)).to.include({ event: 'summary', processed: 2 })
    const attempts = await Promise.all(ids.map(async (id) => (await project().record(id)).attempts))
    expect(attempts.filter((count) => count > 0)).to.have.lengthOf(2)
  })
})
