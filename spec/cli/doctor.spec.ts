import { expect } from 'chai'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Keys, rootOf } from '../../lib/storage/redis/keys.ts'
import { eachProject, Project, ROOT, TIMEOUT_MS } from './project.ts'

describe('run-redis-tasks --doctor', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject()

  /** A hand in the project's keys. */
  async function reach(act: (redis: Redis, keys: Keys) => Promise<unknown>): Promise<void> {
    const redis = new Redis(project().url)
    try {
      await act(redis, new Keys(rootOf(project().keyPrefix, 'default')))
    } finally {
      redis.disconnect()
    }
  }

  /** Stores four records; the entries of all and the args of one are gone. */
  async function plant(): Promise<string[]> {
    const ids: string[] = []
    for (let count = 0; count < 4; count += 1) ids.push(await project().enqueue('echo'))
    await reach((redis, keys) => redis.xtrim(keys.stream('default', 'normal'), 'MAXLEN', 0))
    await reach((redis, keys) => redis.hset(keys.record(ids[0] ?? ''), 'args', '[hunter2'))
    return ids
  }

  it('says that all is well, with code 0, and imports no module', async () => {
    project().write('tasks.js', 'throw new Error("imported")')
    await project().enqueue('echo')
    const { code, stdout, stderr } = await project().run('run-redis-tasks', ['tasks.js', '--doctor'])
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout).to.match(/^Examined (redis|valkey) \S+ at 127\.0\.0\.1:\d+\/0, backend "default"\n/)
    expect(stdout).to.match(/^Looked at 1 records, \d+ keys, 1 entries, 0 delayed, 0 leases in .*\nNo violation\n$/m)
  })

  it('counts by invariant, shows the first of each, names the next step, and ends with code 1', async () => {
    const ids = await plant()
    const { code, stdout } = await project().run('run-redis-tasks', ['--doctor'])
    expect(code).to.equal(1)
    expect(stdout).to.match(/^I2 {3}1 found: every record can be read/m)
    expect(stdout).to.match(/^I4 {3}4 found: READY/m)
    expect(stdout).to.match(/^ {7}and 1 more /m)
    expect(stdout).to.match(
      new RegExp(`stream:default:normal (${ids.join('|')}): no entry \\d+-\\d+; expected an entry`),
    )
    expect(stdout).to.match(/violations: --doctor --repair mends 4 of them\n$/)
    expect(stdout).to.not.include('hunter2')
  })

  it('mends with --repair; what is left is only reported, and then nothing is', async () => {
    const [first = ''] = await plant()
    const { code, stdout } = await project().run('run-redis-tasks', ['--doctor', '--repair'])
    expect(code).to.equal(1)
    expect(stdout).to.match(/^I4 {3}4 found, 4 mended: /m)
    expect(stdout).to.match(/5 violations, 4 mended: what is left is only reported; look at the keys above/)
    await reach((redis, keys) => redis.hset(keys.record(first), 'args', '[1]'))
    const second = await project().run('run-redis-tasks', ['--doctor', '--repair'])
    expect(second.code).to.equal(0)
    project().writeTasks('tasks.js', { echo: 'async () => 1' })
    const run = await project().run('run-redis-tasks', ['tasks.js'])
    expect(run.stdout).to.include('Processed 4 task(s)')
  })

  it('tells each finding and a summary as JSON', async () => {
    const [first = ''] = await plant()
    const { code, records, stderr } = await project().run('run-redis-tasks', ['--doctor', '--json'])
    expect({ code, stderr }).to.deep.equal({ code: 1, stderr: '' })
    const findings = records.filter(({ event }) => event === 'finding')
    // I15 follows: there are fewer entries than unfinished records
    expect(findings.map(({ invariant }) => invariant)).to.have.members(['I2', 'I4', 'I4', 'I4', 'I4', 'I15'])
    expect(findings.find(({ invariant }) => invariant === 'I2')).to.include({
      ...{ id: first, found: 'args that are no JSON array', expected: 'a JSON array', repairable: false },
    })
    expect(records.at(-1)).to.deep.include({
      ...{ level: 'warn', event: 'summary', found: 6, repaired: 0, repairable: 4, left: 6, records: 4, exit_code: 1 },
      by_invariant: { I2: { found: 1, repaired: 0 }, I4: { found: 4, repaired: 0 }, I15: { found: 1, repaired: 0 } },
    })
  })

  it('tells with --quiet only what is left to do', async () => {
    const clean = await project().run('run-redis-tasks', ['--doctor', '--quiet'])
    expect([clean.code, clean.stdout, clean.stderr]).to.deep.equal([0, '', ''])
    await plant()
    const { code, stdout, stderr } = await project().run('run-redis-tasks', ['--doctor', '--quiet'])
    expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' })
    expect(stderr).to.match(/^6 violations: .*--repair mends 4 of them\n$/)
  })

  it('refuses --repair alone, with code 2 and what to type', async () => {
    const { code, stderr } = await project().run('run-redis-tasks', ['--repair'])
    expect(code).to.equal(2)
    expect(stderr).to.match(/^ERR_TASKS_OPTION: .*--repair.*\(type --doctor --repair\)/)
  })

  it('ends with code 3 when the server cannot be reached', async () => {
    const other = await Project.create({ config: false })
    try {
      const REDIS_URL = 'redis://:hunter2@127.0.0.1:1'
      const { code, stderr, stdout } = await other.run('run-redis-tasks', ['--doctor', '--json'], { REDIS_URL })
      expect(code).to.equal(3)
      expect(stderr).to.match(/^ERR_TASKS_STORAGE_UNAVAILABLE: /)
      expect(stderr + stdout).to.not.include('hunter2')
    } finally {
      await other.remove()
    }
  })

  it('draws a bar on a terminal', async function () {
    // Other systems have another `script`, or none.
    if (process.platform !== 'linux' || spawnSync('script', ['--version']).status !== 0) this.skip()
    await project().enqueue('echo')
    const line = `${join(ROOT, 'bin/run-redis-tasks')} --doctor`
    const { stdout } = spawnSync('script', ['-qec', line, '/dev/null'], {
      ...{ cwd: project().folder, encoding: 'utf8' },
      env: { ...project().environment(), TERM: 'xterm', COLUMNS: '120' },
    })
    expect(stdout).to.match(/Looked at .*3 of 3 \| \d+\/s \| /)
    expect(stdout).to.match(/No violation/)
  })
})
