import { expect } from 'chai'
import { helpOf, parseArguments } from '../../lib/cli/arguments.ts'
import type { Flag, FlagTable } from '../../lib/cli/flags.ts'
import { PURGE_COMMAND } from '../../lib/cli/purge-completed.ts'
import { RUN_COMMAND } from '../../lib/cli/run-redis-tasks.ts'
import { TaskOptionError } from '../../lib/errors.ts'
import { WORKER_OPTIONS } from '../../lib/worker-options.ts'
import { Project, TIMEOUT_MS, VERSION } from './project.ts'
import type { CommandName } from './project.ts'

describe('the usage of the commands', function () {
  this.timeout(TIMEOUT_MS)

  let project: Project

  before(async () => {
    project = await Project.create()
    const module = (name: string): string =>
      `import { task } from 'express-tasks-redis'\nexport const ${name} = task('${name}', async () => {})`
    project.link('tsx')
    project.write('tasks.js', module('one'))
    project.write('tasks/two.ts', module('two'))
  })

  after(() => project.remove())

  const WRONG: readonly (readonly [
    name: CommandName,
    args: readonly string[],
    message: RegExp,
    variables?: NodeJS.ProcessEnv,
  ])[] = [
    [
      'run-redis-tasks',
      ['--concurency', '5'],
      /expected --concurency to be an option of run-redis-tasks, got: an unknown one \(did you mean --concurrency\?\)/,
    ],
    ['run-redis-tasks', ['--maxTasks', '5'], /did you mean --max-tasks\?/],
    ['run-redis-tasks', ['--something', '5'], /got: an unknown one \(see run-redis-tasks --help\)/],
    ['run-redis-tasks', ['-c'], /expected -c to be an option/],
    ['run-redis-tasks', ['--docter'], /did you mean --doctor\?/],
    ['run-redis-tasks', ['--__proto__', 'x'], /expected --__proto__ to be an option/],
    ['run-redis-tasks', ['--constructor=x'], /expected --constructor=x to be an option/],
    ['run-redis-tasks', ['--no-json'], /expected --no-json to be an option/],
    ['run-redis-tasks', ['--no-concurrency'], /expected --no-concurrency to be an option/],
    ['run-redis-tasks', ['--json=maybe'], /expected --json to be given without a value, got: "maybe"/],
    [
      'run-redis-tasks',
      ['--concurrency', 'abc'],
      /expected --concurrency to be an integer from 1 to 1000, got: "abc" \(leave it out for 10\)/,
    ],
    ['run-redis-tasks', ['--concurrency', 'NaN'], /got: "NaN"/],
    ['run-redis-tasks', ['--concurrency'], /expected --concurrency to be .*, got: nothing \(put a value after it\)/],
    ['run-redis-tasks', ['--concurrency='], /got: nothing/],
    [
      'run-redis-tasks',
      ['--concurrency', '1', '--concurrency', '2'],
      /expected --concurrency to be given once, got: 2 times/,
    ],
    ['run-redis-tasks', ['--concurrency', '1.5'], /got: 1\.5/],
    ['run-redis-tasks', ['--workers', '0'], /expected --workers to be an integer from 1 to 256, got: 0/],
    ['run-redis-tasks', ['--workers', '-1'], /got: -1/],
    ['run-redis-tasks', ['--workers', '1e9'], /got: "1e9"/],
    ['run-redis-tasks', ['--workers', '0x10'], /got: "0x10"/],
    ['run-redis-tasks', ['--interval', '0'], /expected --interval to be a number from 0\.01 to 3600/],
    ['run-redis-tasks', ['--interval', 'Infinity'], /got: "Infinity"/],
    ['run-redis-tasks', ['--max-tasks', '-1'], /got: -1/],
    ['run-redis-tasks', ['--queue'], /expected --queue to be a name .*, got: nothing/],
    ['run-redis-tasks', ['--queue', '--json'], /expected --queue to be a name .*, got: nothing/],
    ['run-redis-tasks', ['--queue', 'a b'], /expected --queue to be a name .*, got: "a b"/],
    ['run-redis-tasks', ['--queue', 'a{b}*'], /got: "a\{b\}\*"/],
    ['run-redis-tasks', ['--queue', '\u001b[31mred'], /got: ".*red"/],
    [
      'run-redis-tasks',
      ['--log-level', 'loud'],
      /expected --log-level to be one of debug, info, warn, error, silent, got: "loud"/,
    ],
    ['run-redis-tasks', ['--config', ''], /expected --config to be a file, got: nothing/],
    [
      'run-redis-tasks',
      [],
      /expected the environment variable EXPRESS_TASKS_CONCURENCY to be a known one, .*did you mean EXPRESS_TASKS_CONCURRENCY\?/,
      { EXPRESS_TASKS_CONCURENCY: '1' },
    ],
    [
      'run-redis-tasks',
      [],
      /expected EXPRESS_TASKS_WORKERS to be an integer from 1 to 256, got: "many"/,
      { EXPRESS_TASKS_WORKERS: 'many' },
    ],
    [
      'run-redis-tasks',
      [],
      /expected EXPRESS_TASKS_JSON to be true or false, got: "yes"/,
      { EXPRESS_TASKS_JSON: 'yes' },
    ],
    ['purge-completed', ['7'], /expected purge-completed to be given options only, got: "7"/],
    ['purge-completed', ['--', '7'], /expected purge-completed to be given options only, got: "7"/],
    ['purge-completed', ['--day', '7'], /did you mean --days\?/],
    ['purge-completed', ['--days', '-1'], /expected --days to be an integer from 0 to 36500, got: -1/],
    ['purge-completed', ['--days', '1.5'], /got: 1\.5/],
    ['purge-completed', ['--days', 'abc'], /got: "abc"/],
    [
      'purge-completed',
      ['--status', 'failed'],
      /expected --status to be .*, got: "failed" \(did you mean "FAILED"\?\)/,
    ],
    ['purge-completed', ['--status', 'RUNNING'], /expected --status to be one of SUCCESSFUL, FAILED, got: "RUNNING"/],
    ['purge-completed', ['--status', 'SUCCESSFUL,'], /got: ""/],
    ['purge-completed', ['--batch-size', '0'], /expected --batch-size to be an integer from 1 to 100000, got: 0/],
    ['purge-completed', ['--dry-run=no'], /expected --dry-run to be given without a value/],
  ]

  for (const [name, args, message, variables = {}] of WRONG) {
    const given = [name, ...args, ...Object.entries(variables).map((pair) => pair.join('='))].join(' ')
    it(`refuses ${JSON.stringify(given)} with what was expected, what came and the cure`, () => {
      const command = name === 'run-redis-tasks' ? RUN_COMMAND : PURGE_COMMAND
      expect(() => parseArguments<FlagTable>(command, args, variables))
        .to.throw(TaskOptionError)
        .that.has.property('message')
        .that.matches(message)
    })
  }

  it('tells a program of it, too', async () => {
    const { code, stdout } = await project.run('purge-completed', ['--json', '--day', '7'])
    expect(code).to.equal(2)
    expect(JSON.parse(stdout)).to.include({ event: 'error', code: 'ERR_TASKS_OPTION', exit_code: 2 })
  })

  for (const [name, args, message, variables] of [
    WRONG[0],
    WRONG.find(([, args]) => args.join().includes('\u001b')),
    WRONG.find(([, , , variables]) => variables),
    WRONG.find(([name]) => name === 'purge-completed'),
    [
      'run-redis-tasks',
      ['tasks.js'],
      /expected REDIS_URL .*, got: "http:\/\/:\*\*\*@x"/,
      { REDIS_URL: 'http://:secret@x' },
    ],
  ] as typeof WRONG) {
    it(`ends with code 2 and one line on stderr: ${String(message)}`, async () => {
      const { code, stdout, stderr } = await project.run(name, args, variables)
      expect({ code, stdout }, stderr).to.deep.equal({ code: 2, stdout: '' })
      expect(stderr).to.match(message)
      // eslint-disable-next-line no-control-regex -- that none of them gets out is what it looks for
      expect(stderr).to.match(/^ERR_TASKS_OPTION: [^\u0000-\u001f]*\n$/)
    })
  }

  it('takes words after -- as modules', async () => {
    project.write('--odd.js', project.read('tasks.js'))
    const { code, stderr } = await project.run('run-redis-tasks', ['--quiet', '--', '--odd.js'])
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
  })

  for (const { name, flags, examples } of [RUN_COMMAND, PURGE_COMMAND]) {
    describe(`${name} --help`, () => {
      it('is printed on stdout and names every option, whatever else was typed', async () => {
        const { code, stdout, stderr } = await project.run(name as CommandName, ['--help', '--nonsense'])
        expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
        for (const { name: option } of Object.values<Flag>(flags))
          expect(stdout).to.match(new RegExp(`^ +--${option} `, 'm'))
        expect(stdout).to.match(/^Exit codes: 0 ok/m)
      })

      for (const [line] of examples) {
        it(`has an example that runs: ${line}`, async () => {
          const command = project.startShell(line.replace('$0', name))
          if (line.includes('--continuous')) {
            await command.prints(/Ctrl-C drains/)
            command.kill('SIGTERM')
          }
          expect(await command.ended, command.stderr).to.equal(0)
          expect(command.stderr).to.not.match(/ERROR|ERR_/)
        })
      }
    })

    it(`${name} --version prints the version`, async () => {
      const { code, stdout, stderr } = await project.run(name as CommandName, ['--version'])
      expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: `${VERSION}\n`, stderr: '' })
    })
  }

  it('has the bounds and defaults of the worker', async () => {
    const help = (await helpOf(RUN_COMMAND, 110)).replace(/\s+/g, ' ')
    const { concurrency, drainTimeoutSeconds } = WORKER_OPTIONS
    expect(help).to.include(
      `--concurrency ${concurrency.description}; ${concurrency.shape} (default ${concurrency.default})`,
    )
    expect(help).to.include(`${drainTimeoutSeconds.description}, in seconds; ${drainTimeoutSeconds.shape} (default 25)`)
  })
})
