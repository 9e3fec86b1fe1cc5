import { expect } from 'chai'
import { eachProject, Project, TIMEOUT_MS } from './project.ts'

const ECHO = { echo: 'async (value) => value' }
const SENDS = `import { task } from 'express-tasks-redis'
interface Mail { to: string }
export const send = task('send', async (mail: Mail): Promise<string> => mail.to)
`
const TYPESCRIPT = Boolean((process.features as { readonly typescript?: unknown }).typescript)

describe('the task modules of run-redis-tasks', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject()

  const loaded = async (...args: string[]): Promise<unknown> => {
    const { code, records, stderr } = await project().run('run-redis-tasks', [...args, '--json'])
    expect(code, stderr).to.equal(0)
    return records[0]?.['tasks']
  }

  const refused = async (...args: string[]): Promise<string> => {
    const { code, stderr, stdout } = await project().run('run-redis-tasks', args)
    expect({ code, stdout }, stderr).to.deep.equal({ code: 2, stdout: '' })
    return stderr
  }

  it('may be ES modules, CommonJS modules, and of any shape of export', async () => {
    project().writeTasks('a.js', { named: 'async () => {}' })
    project().write(
      'b.mjs',
      `import { task } from 'express-tasks-redis'\nexport default task('byDefault', async () => {})`,
    )
    project().write(
      'c.cjs',
      `const { task } = require('express-tasks-redis')\nmodule.exports = { common: task('common', () => {}) }`,
    )
    project().write('d.js', `import { task } from 'express-tasks-redis'\ntask('registered', async () => {})`)
    project().write('e.js', `import { named } from './a.js'\nexport const tasks = { again: named }`)
    expect(await loaded('a.js', 'b.mjs', './c.cjs', `${project().folder}/d.js`, 'e.js')).to.deep.equal([
      ...['named', 'byDefault', 'common', 'registered'],
    ])
  })

  it('may be given by globs', async () => {
    project().writeTasks('tasks/one.js', { one: 'async () => {}' })
    project().writeTasks('tasks/deep/two.mjs', { two: 'async () => {}' })
    project().write('tasks/readme.md', '')
    project().write('tasks/types.d.ts', 'export {}')
    project().write('tasks/node_modules/x/three.js', 'throw new Error("never")')
    expect(await loaded('tasks/**/*.{js,mjs,ts}')).to.have.members(['one', 'two'])
  })

  it('may be named by the config file, relative to it', async () => {
    project().writeTasks('settings/tasks/one.js', { one: 'async () => {}' })
    const config = project().read('tasks.config.js').replace(/\}$/, `,"modules":["tasks/*.js"]}`)
    project().write('settings/mine.mjs', config)
    expect(await loaded('--config', 'settings/mine.mjs')).to.deep.equal(['one'])
  })

  describe('in TypeScript', () => {
    it('are loaded, in an ES module project', async () => {
      project().link('tsx')
      project().write('send.ts', SENDS)
      const id = await project().enqueue('send', [{ to: 'a@example.org' }])
      expect(await loaded('send.ts', '--workers', '2')).to.deep.equal(['send'])
      expect((await project().record(id)).returnValue).to.equal('"a@example.org"')
    })

    it('are loaded, in a CommonJS project, with this very package', async function () {
      const common = await Project.create({ type: 'commonjs' })
      try {
        common.link('tsx')
        common.write('names.ts', 'export const name: string = "send"')
        common.write('send.ts', `import { name } from './names'\n${SENDS.replace("'send'", 'name')}`)
        const { code, records, stderr } = await common.run('run-redis-tasks', ['send.ts', '--json'])
        expect({ code, tasks: records[0]?.['tasks'] }, stderr).to.deep.equal({ code: 0, tasks: ['send'] })
      } finally {
        await common.remove()
      }
    })

    it('may be configured in TypeScript', async () => {
      project().link('tsx')
      project().write('send.ts', SENDS)
      const config = project().read('tasks.config.js').replace('export default', 'const config: object =')
      project().write('tasks.config.ts', `${config.replace(/\}$/, `,"modules":["send.ts"]}`)}\nexport default config`)
      expect(await loaded()).to.deep.equal(['send'])
    })

    it('need tsx before Node.js loads them by itself', async function () {
      if (TYPESCRIPT) this.skip()
      project().write('send.ts', SENDS)
      expect(await refused('send.ts')).to.match(
        /^ERR_TASKS_TS_LOADER: expected send\.ts to be a module that can be imported, got: TypeScript, .* \(npm install --save-dev tsx,/,
      )
    })

    it('show the place of a syntax error', async function () {
      if (TYPESCRIPT) this.skip()
      project().link('tsx')
      project().write('send.ts', 'const x: = 1')
      expect(await refused('send.ts')).to.match(/^ERR_TASKS_IMPORT: expected send\.ts .*\n.*\n.*send\.ts:1:\d+: ERROR/)
    })
  })

  describe('that are not right', () => {
    it('are refused when they define no task', async () => {
      project().write('empty.js', 'export const x = 1')
      expect(await refused('empty.js')).to.match(
        /^ERR_TASKS_IMPORT: expected empty\.js to .*, got: a module that defines no task/,
      )
    })

    it('are refused with their own error and its stack when they throw', async () => {
      project().write('lib/deep.js', '\nthrow new RangeError("out \\u001b[2Jof luck")')
      project().write('throws.js', 'import "./lib/deep.js"')
      const stderr = await refused('throws.js', '--workers', '4')
      expect(stderr).to.match(/^ERR_TASKS_IMPORT: expected throws\.js to .*, got: RangeError: out of luck \(/)
      expect(stderr).to.match(/^RangeError: out of luck\n {4}at .*lib\/deep\.js:2:7/m)
      expect(stderr.match(/^ERR_TASKS_IMPORT/gm), 'once, and not once a thread').to.have.lengthOf(1)
    })

    for (const [what, text, got] of [
      ['throw what is no error', 'throw null', 'a thrown null'],
      ['cannot be parsed', 'const x = ;', "SyntaxError: Unexpected token ';' ("],
      ['import what is not there', 'import "./gone.js"', "Error: Cannot find module '"],
      [
        'import what is not exported',
        'import { nope } from "node:fs"',
        "SyntaxError: The requested module 'node:fs' does not",
      ],
      ['call process.exit', 'process.exit(0)', 'the end of its thread, with code 0 ('],
      ['never end', 'await new Promise(() => {})', 'the end of its thread, with code '],
      [
        'leave a rejection behind',
        'Promise.reject(new Error("left")); await new Promise((resolve) => setTimeout(resolve, 60_000))',
        'Error: left',
      ],
      [
        'take a name twice',
        "import { task } from 'express-tasks-redis'; task('a', () => {}); task('a', () => {})",
        'TaskOptionError: expected',
      ],
    ] as const) {
      it(`are refused when they ${what}`, async () => {
        project().write('wrong.js', text)
        expect(await refused('wrong.js')).to.include(
          `ERR_TASKS_IMPORT: expected wrong.js to be a module that can be imported, got: ${got}`,
        )
      })
    }

    it('are refused when they use another copy of this package', async () => {
      const copy = `export const task = (name, func) => ({ name, func, enqueue() {} })`
      project().write('node_modules/other/index.js', copy)
      project().write(
        'node_modules/other/package.json',
        '{ "name": "other", "type": "module", "exports": "./index.js" }',
      )
      project().write('tasks.js', `import { task } from 'other'\nexport const send = task('send', async () => {})`)
      expect(await refused('tasks.js')).to.include('got: tasks of another copy of express-tasks-redis')
    })

    for (const [what, args, message] of [
      [
        'a file that is not there',
        ['tsks.js'],
        /expected tsks\.js to .*, got: no such file \(looked for \/.*\/tsks\.js; did you mean tasks\.js\?\)/,
      ],
      ['a folder', ['.'], /expected \. to .*, got: a folder \(name its modules: "\*\.js"\)/],
      [
        'a file that is no module',
        ['package.json'],
        /got: a file that ends in "\.json" \(modules end in \.js \.mjs \.cjs \.ts/,
      ],
      [
        'a glob that matches nothing',
        ['none/*.js'],
        /expected none\/\*\.js to .*, got: no file that matches \(looked for .* files like \/.*\/none\/\*\.js\)/,
      ],
      [
        'a config that is not there',
        ['tasks.js', '--config', 'tasks.conf.js'],
        /expected tasks\.conf\.js to .*, got: no such file \(looked for \/.*; did you mean tasks\.config\.js\?\)/,
      ],
    ] as const) {
      it(`are refused for ${what}`, async () => {
        project().writeTasks('tasks.js', ECHO)
        expect(await refused(...args)).to.match(message)
      })
    }
  })
})

describe('the config file of the commands', function () {
  this.timeout(TIMEOUT_MS)

  const project = eachProject({ config: false })
  beforeEach(() => project().writeTasks('tasks.js', ECHO))

  const settings = (fields: object = {}): string => {
    const { url, keyPrefix } = project()
    return JSON.stringify({
      default: { backend: 'redis', queues: [], options: { redisUrl: url, keyPrefix } },
      ...fields,
    })
  }
  const withoutUrl = { REDIS_URL: undefined }

  it('may call configureTasks itself', async () => {
    project().write(
      'tasks.config.mjs',
      `import { configureTasks } from 'express-tasks-redis'\nconfigureTasks(${settings()})`,
    )
    await project().enqueue('echo')
    const { code, stdout } = await project().run('run-redis-tasks', ['tasks.js'], withoutUrl)
    expect({ code, stdout }).to.have.property('code', 0)
    expect(stdout).to.include('Processed 1 task(s)')
  })

  it('may export what configureTasks answers', async () => {
    project().write(
      'tasks.config.js',
      `import { configureTasks } from 'express-tasks-redis'\nexport default configureTasks(${settings()})`,
    )
    const { code } = await project().run('run-redis-tasks', ['tasks.js'], withoutUrl)
    expect(code).to.equal(0)
  })

  it('may be missing where a module calls configureTasks', async () => {
    project().write(
      'all.js',
      `import { configureTasks } from 'express-tasks-redis'\nexport * from './tasks.js'\nconfigureTasks(${settings()})`,
    )
    await project().enqueue('echo')
    const { code, stdout } = await project().run('run-redis-tasks', ['all.js'], withoutUrl)
    expect(code).to.equal(0)
    expect(stdout).to.include('Processed 1 task(s)')
  })

  it('may be CommonJS', async () => {
    project().write('tasks.config.cjs', `module.exports = ${settings({ modules: ['tasks.js'] })}`)
    const { code } = await project().run('run-redis-tasks', [], withoutUrl)
    expect(code).to.equal(0)
  })

  it('gives way to REDIS_URL, which is said', async () => {
    project().write('tasks.config.js', `export default ${settings()}`)
    const { code, stderr } = await project().run('run-redis-tasks', ['tasks.js'], { REDIS_URL: `${project().url}/9` })
    expect(code).to.equal(0)
    expect(stderr).to.match(/Server: .*\/9, backend/)
    expect(stderr).to.match(
      /REDIS_URL of the environment names the server of backend \\?"default\\?".*WARN_TASKS_REDIS_URL/,
    )
    expect(stderr).to.include(`Key prefix: ${project().keyPrefix}`)
  })

  it('is enough for purge-completed, also where none of its modules is', async () => {
    project().write('tasks.config.js', `export default ${settings({ modules: ['nowhere/*.js'] })}`)
    const { code, stdout } = await project().run('purge-completed', ['--dry-run'], withoutUrl)
    expect(code).to.equal(0)
    expect(stdout).to.include('Would delete 0')
  })

  it('is what another backend than that of REDIS_URL wants', async () => {
    const { code, stderr } = await project().run('purge-completed', ['--backend', 'other'], {
      REDIS_URL: project().url,
    })
    expect(code).to.equal(2)
    expect(stderr).to.include('REDIS_URL makes "default" alone')
  })

  for (const [command, args] of [
    ['purge-completed', ['--dry-run']],
    ['run-redis-tasks', ['--doctor']],
    ['run-redis-tasks', ['tasks.js']],
  ] as const) {
    it(`gives way to REDIS_URL, which ${command} ${args.join(' ')} says also where that server cannot be reached`, async () => {
      project().write('tasks.config.js', `export default ${settings()}`)
      const { code, stderr } = await project().run(command, [...args], { REDIS_URL: 'redis://127.0.0.1:1' })
      expect(code).to.equal(3)
      expect(stderr).to.match(/REDIS_URL of the environment names the server of backend .*WARN_TASKS_REDIS_URL/)
    })
  }

  for (const [what, text, message] of [
    [
      'exports nothing',
      '',
      /expected the default export of tasks\.config\.js to be an object of settings, got: undefined/,
    ],
    [
      'exports a list',
      'export default []',
      /expected the default export of tasks\.config\.js to be an object of settings, got: \[\]/,
    ],
    [
      'has modules under another name',
      'export default { default: { backend: "redis" }, module: ["tasks.js"] }',
      /expected module of tasks\.config\.js to be a backend, got: \[.*\(did you mean "modules"\?\)/,
    ],
    [
      'names a backend that is none',
      'export default { default: { backend: "reddis" } }',
      /config\.default\.backend .*"reddis" \(did you mean "redis"\?/,
    ],
    [
      'has an unknown option',
      'export default { default: { backend: "redis", options: { redisUrI: "x" } } }',
      /redisUrI .*did you mean "redisUrl"\?/,
    ],
    [
      'names modules that are no list',
      'export default { modules: "tasks.js" }',
      /expected modules of tasks\.config\.js to be a list of paths/,
    ],
    ['has settings that are none', 'export default { default: null }', /expected config\.default\.?\S* to be/],
    [
      'stores nothing',
      'export default { default: { backend: "dummy" } }',
      /backend "default" to be one that stores records/,
    ],
    ['throws', 'throw new Error("no luck")', /ERR_TASKS_IMPORT: expected tasks\.config\.js to .*, got: Error: no luck/],
  ] as const) {
    it(`is refused when it ${what}`, async () => {
      project().write('tasks.config.js', text)
      const { code, stderr } = await project().run('run-redis-tasks', ['tasks.js'], withoutUrl)
      expect(code, stderr).to.equal(2)
      expect(stderr).to.match(message)
    })
  }

  it('is asked for where nothing says what to run, or where', async () => {
    const nothing = await project().run('run-redis-tasks', [], withoutUrl)
    expect(nothing.code).to.equal(2)
    expect(nothing.stderr).to.match(
      /told where the tasks are \(looked for tasks\.config\.\* in \/.*\), got: nothing \(for example: REDIS_URL=/,
    )
    const nowhere = await project().run('run-redis-tasks', ['tasks.js'], withoutUrl)
    expect(nowhere.code).to.equal(2)
    expect(nowhere.stderr).to.match(/ERR_TASKS_OPTION: .*configureTasks.*or set REDIS_URL/)
    const purge = await project().run('purge-completed', [], withoutUrl)
    expect(purge.code).to.equal(2)
    expect(purge.stderr).to.match(
      /told where Redis is .* \(set REDIS_URL, give --config, or write a tasks\.config\.js\)/,
    )
  })
})
