import { expect } from 'chai'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { TaskStatus } from '../../lib/task-status.ts'
import { eachProject, Project, ROOT, TIMEOUT_MS } from './project.ts'

describe('purge-completed', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject()

  /** Stores records and settles them, as a worker does. */
  async function finish(count: number, outcome: 'SUCCESSFUL' | 'FAILED'): Promise<void> {
    const { queue } = project().backend
    for (let left = count; left > 0; left -= 100) {
      for (let stored = 0; stored < Math.min(left, 100); stored += 1) await project().enqueue('echo')
      const { begun } = await queue.take(100, { queueNames: ['default'] })
      const payload = outcome === 'SUCCESSFUL' ? 'null' : '{"name":"Error","message":"no"}'
      await queue.settle(begun.map(({ lease }) => ({ lease, outcome, payload, delayMs: 0 })))
    }
  }

  const counts = async (of: Project = project()): Promise<Partial<Record<TaskStatus, number>>> =>
    await of.backend.records.filter({}).countBy('status')

  beforeEach(async () => {
    await finish(3, 'SUCCESSFUL')
    await finish(2, 'FAILED')
    await project().enqueue('echo')
  })

  it('deletes what finished long enough ago, and says how much', async () => {
    const { code, stdout, stderr } = await project().run('purge-completed', ['--days', '0'])
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout).to.equal(
      'Tasks that finished at least 0 day(s) ago\nStatuses: SUCCESSFUL, FAILED\nDeleted 5 task(s)\n',
    )
    expect(await counts()).to.include({ READY: 1, SUCCESSFUL: 0, FAILED: 0 })
  })

  it('leaves younger ones alone', async () => {
    const { stdout } = await project().run('purge-completed')
    expect(stdout).to.match(/at least 7 day\(s\) ago\n(.*\n)*Deleted 0 task\(s\)\n$/)
    expect(await counts()).to.include({ SUCCESSFUL: 3, FAILED: 2 })
  })

  it('counts the same set with --dry-run, and deletes nothing', async () => {
    const { code, stdout } = await project().run('purge-completed', ['--days', '0', '--dry-run'])
    expect(code).to.equal(0)
    expect(stdout).to.match(/^DRY RUN: /)
    expect(stdout).to.match(/^Would delete 5 task\(s\)$/m)
    expect(await counts()).to.include({ SUCCESSFUL: 3, FAILED: 2 })
  })

  for (const [what, args] of [
    ['repeated', ['--status', 'FAILED', '--status', 'FAILED']],
    ['as a list', ['--status=FAILED,FAILED']],
  ] as const) {
    it(`takes the statuses that --status names, ${what}`, async () => {
      const { stdout } = await project().run('purge-completed', ['--days', '0', ...args])
      expect(stdout).to.match(/^Statuses: FAILED\nDeleted 2 task\(s\)$/m)
      expect(await counts()).to.include({ SUCCESSFUL: 3, FAILED: 0 })
    })
  }

  it('ends --json with one line of numbers', async () => {
    const dry = await project().run('purge-completed', ['--days', '0', '--json', '--dry-run'])
    expect(dry.records.at(-1)).to.deep.equal({ matched: 5, deleted: 0, dry_run: true })
    const { code, records, stderr } = await project().run('purge-completed', [
      '--days',
      '0',
      '--json',
      '--batch-size',
      '1',
    ])
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
    expect(records[0]).to.deep.include({ event: 'purge', days: 0, statuses: ['SUCCESSFUL', 'FAILED'], dry_run: false })
    expect(records.at(-1)).to.deep.equal({ matched: 5, deleted: 5, dry_run: false })
  })

  it('prints nothing with --quiet', async () => {
    const { code, stdout, stderr } = await project().run('purge-completed', ['--days', '0', '--quiet'])
    expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: '', stderr: '' })
    expect(await counts()).to.include({ SUCCESSFUL: 0 })
  })

  it('reads its settings from the environment too', async () => {
    const { stdout } = await project().run('purge-completed', [], {
      EXPRESS_TASKS_DAYS: '0',
      EXPRESS_TASKS_STATUS: 'SUCCESSFUL, FAILED',
      EXPRESS_TASKS_WORKERS: '4',
    })
    expect(stdout).to.match(/^Deleted 5 task\(s\)$/m)
  })

  it('tells what was done when it is interrupted, and can be run again', async () => {
    await finish(60, 'SUCCESSFUL')
    const finished = async (): Promise<number> => {
      const { SUCCESSFUL = 0, FAILED = 0 } = await counts()
      return SUCCESSFUL + FAILED
    }
    const before = await finished()
    const command = project().start('purge-completed', ['--days', '0', '--batch-size', '1', '--json'])
    await command.prints(/"event":"purge"/, 'stdout')
    command.kill('SIGINT')
    expect(await command.ended).to.equal(0)
    const left = await finished()
    expect(command.records.at(-1)).to.deep.equal({ matched: before - left, deleted: before - left, dry_run: false })
    if (left > 0)
      expect(command.records.at(-2)).to.include({ level: 'warn', event: 'interrupted', deleted: before - left })
    const { records } = await project().run('purge-completed', ['--days', '0', '--json'])
    expect(records.at(-1)).to.include({ deleted: left })
    expect(await finished()).to.equal(0)
  })

  it('draws a bar on a terminal', function () {
    // Other systems have another `script`, or none.
    if (process.platform !== 'linux' || spawnSync('script', ['--version']).status !== 0) this.skip()
    const line = `${join(ROOT, 'bin/purge-completed')} --days 0`
    const { stdout } = spawnSync('script', ['-qec', line, '/dev/null'], {
      ...{
        cwd: project().folder,
        encoding: 'utf8',
        env: { ...project().environment(), TERM: 'xterm', COLUMNS: '120' },
      },
    })
    expect(stdout).to.match(/Deleted .*5 of 5 \| \d+\/s \| /)
    expect(stdout).to.match(/Deleted 5 task\(s\)/)
  })

  it('ends with code 3 and the address, without the password, when the server cannot be reached', async () => {
    const other = await Project.create({ config: false })
    try {
      const { code, stderr, stdout } = await other.run('purge-completed', ['--json'], {
        REDIS_URL: 'redis://:hunter2@127.0.0.1:1',
      })
      expect(code).to.equal(3)
      expect(stderr).to.match(/^ERR_TASKS_STORAGE_UNAVAILABLE: .*127\.0\.0\.1:1\/0/)
      expect(stderr + stdout).to.not.include('hunter2')
    } finally {
      await other.remove()
    }
  })

  it('ends although its config file keeps the process alive', async () => {
    project().write('tasks.config.js', `setInterval(() => {}, 1000)\n${project().read('tasks.config.js')}`)
    const { code } = await project().run('purge-completed')
    expect(code).to.equal(0)
  })
})
