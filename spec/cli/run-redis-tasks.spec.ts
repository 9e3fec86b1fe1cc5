import { expect } from 'chai'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { eventually } from '../support/eventually.ts'
import { eachProject, TIMEOUT_MS, VERSION } from './project.ts'

const TASKS = {
  echo: 'async (value) => value',
  fail: 'async (text) => { throw new TypeError(text) }',
  again: 'async () => { throw new RetryLater({ delayMs: 60_000 }) }',
  slow: 'async (ms) => { await new Promise((resolve) => setTimeout(resolve, ms)) }',
  shout: "async () => { console.log('from the task') }",
}

describe('run-redis-tasks', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject()
  beforeEach(() => {
    project().writeTasks('tasks.js', TASKS)
    const text = project().read('tasks.js').replace('{ task }', '{ task, RetryLater }')
    project().write('tasks.js', text)
  })

  describe('for a person', () => {
    it('runs what is due, prints a line a task on stdout, and ends with code 0', async () => {
      const first = await project().enqueue('echo', ['a'])
      const second = await project().enqueue('fail', ['no \u001b[31mluck\nat redis://me:hunter2@host'])
      const { code, stdout } = await project().run('run-redis-tasks', ['tasks.js'])
      expect(stdout).to.match(new RegExp(`^SUCCESSFUL echo ${first} \\d+ ms$`, 'm'))
      expect(stdout).to.match(
        new RegExp(`^FAILED fail ${second} \\d+ ms TypeError: no luck at redis://me:\\*\\*\\*@host$`, 'm'),
      )
      expect(stdout).to.match(/^No tasks available$/m)
      expect(stdout).to.match(/^Processed 2 task\(s\): 1 successful, 1 failed, 0 to run again\n$/m)
      expect(code, 'a failing task is not a failing worker').to.equal(0)
      expect(await project().record(first)).to.include({ status: 'SUCCESSFUL', returnValue: '"a"' })
      expect(await project().record(second)).to.include({ status: 'FAILED' })
    })

    it('says on stderr what it is, where it works and how to stop it', async () => {
      const { stdout, stderr, pid } = await project().run('run-redis-tasks', [
        'tasks.js',
        '--queue',
        'emails',
        '--concurrency',
        '3',
      ])
      const { host, pathname } = new URL(`${project().url}/0`)
      expect(stderr.split('\n').slice(0, 7)).to.deep.equal([
        `Starting Redis task worker ${VERSION} (Node.js ${process.version}, pid ${pid})`,
        `  Server: ${/Server: (\w+ [\d.]+)/.exec(stderr)?.[1]} at ${host}${pathname}, backend "default"`,
        `  Key prefix: ${project().keyPrefix}`,
        '  Queue: emails',
        '  Tasks: echo, fail, again, slow, shout',
        '  Workers: 1, each with 3 task(s) at a time',
        '  Ctrl-C drains 25 s, again stops now',
      ])
      expect(stdout).to.equal('No tasks available\nProcessed 0 task(s)\n')
    })

    it('says how many tasks are delayed, and until when', async () => {
      const runAfter = Date.now() + 3_600_000
      await project().enqueue('echo', [], { runAfter: runAfter + 1000 })
      await project().enqueue('echo', [], { runAfter })
      const { stdout } = await project().run('run-redis-tasks', ['tasks.js'])
      const [, dueAt] = /^No tasks available; 2 delayed, the next is due at (\S+)$/m.exec(stdout) ?? []
      expect(Date.parse(dueAt ?? '')).to.be.closeTo(runAfter, 2000)
    })

    it('tells a failed attempt that runs again from one that failed for good', async () => {
      const id = await project().enqueue('again')
      const { stdout } = await project().run('run-redis-tasks', ['tasks.js'])
      expect(stdout).to.match(
        new RegExp(`^READY again ${id} \\d+ ms RetryLater: .*\\(attempt 1 failed, it runs again\\)$`, 'm'),
      )
      expect(stdout).to.match(/1 delayed/)
    })

    it('keeps what the task itself prints off stdout', async () => {
      await project().enqueue('shout')
      const { stdout, stderr } = await project().run('run-redis-tasks', ['tasks.js'])
      expect(stderr).to.match(/^from the task$/m)
      expect(stdout).to.not.include('from the task')
    })

    it('prints warnings and errors only with --quiet', async () => {
      await project().enqueue('echo')
      const { code, stdout, stderr } = await project().run('run-redis-tasks', ['tasks.js', '--quiet'])
      expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: '', stderr: '' })
    })

    it('prints colours when they are asked for, and none into a pipe or with NO_COLOR', async () => {
      const print = async (variables: NodeJS.ProcessEnv): Promise<string> => {
        await project().enqueue('echo')
        return (await project().run('run-redis-tasks', ['tasks.js'], variables)).stdout
      }
      expect(await print({})).to.match(/^SUCCESSFUL /)
      expect(await print({ NO_COLOR: '1' })).to.match(/^SUCCESSFUL /)
      expect(await print({ FORCE_COLOR: '1' })).to.include('\u001b[32mSUCCESSFUL\u001b[39m echo')
    })

    it('ends quietly when nobody reads stdout any more', async () => {
      const command = project().start('run-redis-tasks', ['tasks.js', '--continuous'])
      await command.prints(/Ctrl-C/)
      command.closeStdout()
      const id = await project().enqueue('echo')
      expect(await command.ended).to.equal(0)
      expect((await project().record(id)).status).to.equal('SUCCESSFUL')
      expect(command.stderr).to.not.match(/EPIPE|Error/)
    })
  })

  describe('with --json', () => {
    it('prints one object a line: the banner first, a summary last, and nothing else', async () => {
      const id = await project().enqueue('echo', [1], { queueName: 'numbers' })
      await project().enqueue('fail', ['no'])
      await project().enqueue('shout')
      const { code, records, stderr } = await project().run('run-redis-tasks', ['tasks.js', '--json'])
      expect(code).to.equal(0)
      for (const record of records) {
        expect(record).to.include.keys('at', 'level', 'event')
        expect(new Date(record['at'] as string).toISOString()).to.equal(record['at'])
        expect(Object.keys(record).filter((key) => /[A-Z]/.test(key))).to.deep.equal([])
      }
      expect(records[0]).to.deep.include({
        event: 'banner',
        key_prefix: project().keyPrefix,
        queue_names: null,
        workers: 1,
      })
      expect(records[0]?.['tasks']).to.deep.equal(Object.keys(TASKS))
      expect(records.find((record) => record['id'] === id)).to.deep.include({
        ...{
          level: 'info',
          event: 'settled',
          name: 'echo',
          queue_name: 'numbers',
          status: 'SUCCESSFUL',
          attempt: 1,
          error: null,
        },
      })
      expect(records.find(({ status }) => status === 'FAILED')?.['error']).to.deep.equal({
        name: 'TypeError',
        message: 'no',
      })
      expect(records.at(-1)).to.deep.include({
        ...{
          level: 'info',
          event: 'summary',
          reason: 'idle',
          processed: 3,
          successful: 2,
          failed: 1,
          delayed: 0,
          exit_code: 0,
        },
      })
      expect(stderr.trim(), 'what the task prints').to.equal('from the task')
    })

    it('prints warnings and the summary only with --quiet', async () => {
      await project().enqueue('echo')
      const { records } = await project().run('run-redis-tasks', ['--json', '--quiet'])
      expect(records.map(({ event, code }) => code ?? event)).to.deep.equal([
        'WARN_TASKS_NO_TASK',
        'ERR_TASKS_NOT_REGISTERED',
        'summary',
      ])
    })
  })

  it('runs the tasks of the queues named, and no others', async () => {
    const mail = await project().enqueue('echo', [], { queueName: 'mail' })
    const other = await project().enqueue('echo', [], { queueName: 'other' })
    const reports = await project().enqueue('echo', [], { queueName: 'reports' })
    const { code, stderr } = await project().run('run-redis-tasks', ['--queue', 'mail', 'tasks.js', '--queue=reports'])
    expect(code).to.equal(0)
    expect(stderr).to.match(/^ {2}Queues: mail, reports$/m)
    expect((await project().record(mail)).status).to.equal('SUCCESSFUL')
    expect((await project().record(reports)).status).to.equal('SUCCESSFUL')
    expect((await project().record(other)).status).to.equal('READY')
  })

  it('runs tasks that become due, and queues that appear, with --continuous', async () => {
    const command = project().start('run-redis-tasks', ['tasks.js', '--continuous', '--interval', '0.1'])
    await command.prints(/Ctrl-C/)
    const ids = [
      await project().enqueue('echo', [], { queueName: 'new', runAfter: Date.now() + 300 }),
      await project().enqueue('echo', [], { queueName: 'newer' }),
    ]
    for (const id of ids) await command.prints(new RegExp(`SUCCESSFUL echo ${id}`), 'stdout')
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(0)
    expect(command.stdout).to.match(/^Processed 2 task\(s\)$/m)
  })

  for (const workers of [1, 3]) {
    it(`begins exactly --max-tasks tasks with ${workers} thread(s)`, async () => {
      const ids = await Promise.all(Array.from({ length: 12 }, () => project().enqueue('echo')))
      const args = ['tasks.js', '--max-tasks', '7', '--workers', String(workers)]
      const { code, stdout } = await project().run('run-redis-tasks', args)
      expect(code).to.equal(0)
      expect(stdout).to.match(/^Reached max tasks limit \(7\)$/m)
      expect(stdout).to.match(/^Processed 7 task\(s\)$/m)
      const records = await Promise.all(ids.map((id) => project().record(id)))
      expect(records.filter(({ attempts }) => attempts > 0)).to.have.lengthOf(7)
    })
  }

  it('spends what one thread does not need of --max-tasks on another', async () => {
    // Given shares of five and five, and a task that enqueues twelve more once the other thread has ended without a task
    project().write(
      'spread.js',
      `import { existsSync, writeFileSync } from 'node:fs'
      import { task } from 'express-tasks-redis'
      process.on('exit', () => writeFileSync('a-thread-has-ended', ''))
      export const leaf = task('leaf', async () => {})
      export const root = task('root', async () => {
        while (!existsSync('a-thread-has-ended')) await new Promise((resolve) => setTimeout(resolve, 10))
        await leaf.enqueueMany(Array.from({ length: 12 }, () => []))
      })`,
    )
    await project().enqueue('root')
    const args = ['spread.js', '--max-tasks', '10', '--workers', '2', '--concurrency', '1']
    const { stdout } = await project().run('run-redis-tasks', args)
    expect(stdout).to.match(/^Reached max tasks limit \(10\)$/m)
    expect(stdout).to.match(/^Processed 10 task\(s\)$/m)
  })

  it('reads what is no flag from the environment, and prefers the flag', async () => {
    const variables = {
      EXPRESS_TASKS_QUEUE: 'a, b',
      EXPRESS_TASKS_JSON: '1',
      EXPRESS_TASKS_CONCURRENCY: '3',
      EXPRESS_TASKS_WORKERS: '',
    }
    const { records } = await project().run('run-redis-tasks', ['tasks.js', '--concurrency', '5'], variables)
    expect(records[0]).to.deep.include({ queue_names: ['a', 'b'], concurrency: 5, workers: 1 })
  })

  it('runs the tasks of another backend with --backend', async () => {
    const { backend, keyPrefix, url } = project()
    const options = { redisUrl: url, keyPrefix }
    project().write(
      'tasks.config.js',
      `export default { other: { backend: 'redis', queues: [], options: ${JSON.stringify(options)} } }`,
    )
    const { code, stderr } = await project().run('run-redis-tasks', ['tasks.js', '--backend', 'other'])
    expect(code).to.equal(0)
    expect(stderr).to.include('backend "other"')
    const wrong = await project().run('run-redis-tasks', ['tasks.js', '--backend', 'othr'])
    expect(wrong.code).to.equal(2)
    expect(wrong.stderr).to.match(/ERR_TASKS_OPTION: .*"othr".*did you mean "other"\?/)
    expect(backend.alias).to.equal('default')
  })

  it('is seen among the workers, with what it does', async () => {
    const command = project().start('run-redis-tasks', [
      'tasks.js',
      '--continuous',
      '--workers',
      '2',
      '--concurrency',
      '4',
    ])
    await eventually(async () => (await project().backend.storage.workers()).length === 2, { timeoutMs: TIMEOUT_MS })
    const workers = await project().backend.storage.workers()
    for (const { fields } of workers) expect(fields).to.include({ pid: String(command.pid), concurrency: '4' })
    command.kill('SIGTERM')
    expect(await command.ended).to.equal(0)
    expect(await project().backend.storage.workers()).to.deep.equal([])
  })

  it('leaves nothing open that keeps it alive, whatever the modules keep open', async () => {
    project().write('open.js', `${project().read('tasks.js')}\nsetInterval(() => {}, 1000)`)
    const { code } = await project().run('run-redis-tasks', ['open.js'])
    expect(code).to.equal(0)
  })
})

describe('run-redis-tasks with REDIS_URL alone', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject({ config: false })

  it('works on any queue of the default backend', async () => {
    const { url } = project()
    project().writeTasks('tasks.js', TASKS)
    // A database of its own: REDIS_URL names no key prefix.
    project().write(
      'add.js',
      `import { echo } from './tasks.js'
      import { taskBackends } from 'express-tasks-redis'
      await echo.using({ queueName: 'anything' }).enqueue('x')
      await taskBackends.get().close()`,
    )
    const variables = { REDIS_URL: `${url}/7` }
    project().write('tasks.js', project().read('tasks.js').replace('{ task }', '{ task, RetryLater }'))
    const added = project().startNode('add.js', variables)
    expect(await added.ended, added.stderr).to.equal(0)
    const { code, stdout, stderr } = await project().run('run-redis-tasks', ['tasks.js'], variables)
    expect({ code, last: stdout.split('\n').at(-2) }).to.deep.equal({ code: 0, last: 'Processed 1 task(s)' })
    expect(stderr).to.match(/\/7, backend "default"\n {2}Key prefix: express_tasks\n {2}Queues: all\n/)
  })

  it('warns when no task is loaded', async () => {
    const { code, stderr } = await project().run('run-redis-tasks', [], { REDIS_URL: `${project().url}/8` })
    expect(code).to.equal(0)
    expect(stderr).to.match(/WARN +no task is loaded.*WARN_TASKS_NO_TASK/)
  })
})

describe('run-redis-tasks without a server', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject({ config: false })

  it('ends with code 3, names the address and never the password', async () => {
    project().writeTasks('tasks.js', { echo: TASKS.echo })
    const { code, stdout, stderr } = await project().run('run-redis-tasks', ['tasks.js', '--json'], {
      REDIS_URL: 'redis://user:hunter2@127.0.0.1:1/3',
    })
    expect(code).to.equal(3)
    expect(stderr).to.match(/^ERR_TASKS_STORAGE_UNAVAILABLE: expected the storage to answer, got: .*127\.0\.0\.1:1\/3/)
    expect(stderr + stdout).to.not.include('hunter2')
    expect(JSON.parse(stdout.split('\n')[0] ?? '')).to.include({
      event: 'error',
      code: 'ERR_TASKS_STORAGE_UNAVAILABLE',
    })
  })

  it('ends with code 3 also when what answers there never says a word', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    try {
      project().writeTasks('tasks.js', { echo: TASKS.echo })
      const { port } = silent.address() as AddressInfo
      const { code, stderr } = await project().run('run-redis-tasks', ['tasks.js'], {
        REDIS_URL: `redis://127.0.0.1:${port}`,
      })
      expect(code).to.equal(3)
      expect(stderr).to.include(`127.0.0.1:${port}/0`)
    } finally {
      silent.close()
    }
  })
})
