import { expect } from 'chai'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { Redis } from 'ioredis'
import { eventually } from './eventually.ts'
import { sharedRedisServer, startRedisServer, type RedisServer } from './redis-server.ts'

/** Asks once, over a connection of its own. */
async function send(server: RedisServer, command: string, ...args: string[]): Promise<unknown> {
  const client = new Redis(server.url, { retryStrategy: () => null })
  client.on('error', () => {}) // the command rejects with the same
  try {
    return await client.call(command, ...args)
  } finally {
    client.disconnect()
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false // ESRCH
  }
}

async function isListening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false // ECONNREFUSED
  } finally {
    socket.destroy()
  }
}

function caught(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  )
}

describe('startRedisServer', () => {
  let server: RedisServer | undefined

  afterEach(() => server?.stop())

  it('starts an empty server without persistence, and leaves nothing running after stop', async () => {
    server = await startRedisServer()
    const { pid } = server
    expect(server.url).to.equal(`redis://127.0.0.1:${server.port}`)
    expect(server.version).to.match(/^\d+\.\d+\.\d+$/)
    expect(await send(server, 'ping')).to.equal('PONG')
    expect(await send(server, 'dbsize')).to.equal(0)
    expect(await send(server, 'config', 'get', 'save')).to.deep.equal(['save', ''])
    expect(isAlive(pid)).to.equal(true)
    await server.stop()
    await server.stop()
    expect(isAlive(pid)).to.equal(false)
    expect(() => server?.pid).to.throw('stopped')
  })

  it('lets the settings of the caller win', async () => {
    server = await startRedisServer({ args: ['--maxmemory', '10mb'] })
    expect(await send(server, 'config', 'get', 'maxmemory')).to.deep.equal(['maxmemory', '10485760'])
  })

  it('knows that a server which wants a password is there', async () => {
    server = await startRedisServer({ args: ['--requirepass', 'secret'] })
    expect(await caught(send(server, 'dbsize')))
      .to.be.an('error')
      .with.property('message')
      .that.matches(/NOAUTH/)
  })

  it('comes back on its port after a kill, without what it held', async () => {
    server = await startRedisServer()
    const { pid, port } = server
    await send(server, 'set', 'a', '1')
    await server.kill('SIGKILL')
    expect(isAlive(pid)).to.equal(false)
    await server.restart()
    expect(server.port).to.equal(port)
    expect(server.pid).not.to.equal(pid)
    expect(await send(server, 'get', 'a')).to.equal(null)
  })

  it('keeps its folder over a restart, so that a server with persistence keeps its data', async () => {
    server = await startRedisServer({ args: ['--appendonly', 'yes'] })
    await send(server, 'set', 'a', '1')
    await server.restart()
    expect(await send(server, 'get', 'a')).to.equal('1')
  })

  it('stops a server that was halted by SIGSTOP', async () => {
    server = await startRedisServer()
    const { pid } = server
    await server.kill('SIGSTOP')
    await server.stop()
    expect(isAlive(pid)).to.equal(false)
  })

  it('stops at the end of its scope', async () => {
    let pid: number
    {
      await using scoped = await startRedisServer()
      pid = scoped.pid
    }
    expect(isAlive(pid)).to.equal(false)
  })

  it('says what the server printed when it does not start', async () => {
    const outcome = await caught(startRedisServer({ args: ['--no-such-setting', '1'] }))
    expect(outcome)
      .to.be.an('error')
      .with.property('message')
      .that.matches(/ended before it answered:[^]*no-such-setting/)
  })

  it('does not take a foreign listener on its port for itself', async () => {
    server = await startRedisServer()
    await server.kill('SIGKILL')
    const foreign = createServer((socket) => socket.destroy()).listen(server.port, server.host)
    await once(foreign, 'listening')
    const outcome = await caught(server.restart())
    foreign.close()
    expect(outcome)
      .to.be.an('error')
      .with.property('message')
      .that.matches(/address already in use/i)
  })

  it('refuses a program that is no server', async () => {
    const outcome = await caught(startRedisServer({ binary: process.execPath }))
    expect(outcome)
      .to.be.an('error')
      .with.property('message')
      .that.matches(/to print the version of a server, got: "v\d/)
  })

  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    it(`leaves nothing running in a process that ${signal} ends`, async () => {
      const module = JSON.stringify(new URL('redis-server.ts', import.meta.url).href)
      const script = `import { startRedisServer } from ${module}; console.log((await startRedisServer()).port)`
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const [printed] = (await once(child.stdout, 'data')) as [Buffer]
      const port = Number(printed.toString())
      expect(await isListening(port)).to.equal(true)
      child.kill(signal)
      await once(child, 'exit')
      // Not by its process id: in a container without an init an orphan stays in the table.
      await eventually(async () => !(await isListening(port)), { message: `nothing listens on port ${port}` })
    })
  }
})

describe('sharedRedisServer', () => {
  it('is one server for all', async () => {
    const [one, other] = await Promise.all([sharedRedisServer(), sharedRedisServer()])
    expect(one).to.equal(other)
    expect(await send(one, 'ping')).to.equal('PONG')
  })
})
