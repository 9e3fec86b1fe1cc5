// No test here needs a server. Run: npx mocha examples/testing-your-tasks/app.spec.ts
import { expect } from 'chai'
import { configureTasks, executor, taskBackends, TaskRecord } from 'express-tasks-redis'
import RedisMock from 'ioredis-mock'
import request from 'supertest'
import { app, outbox, sendWelcome } from './app.ts'

describe('the welcome mail', () => {
  // Every test configures the backend it needs; configureTasks replaces the one before.
  afterEach(async () => {
    await taskBackends.get().close()
    outbox.length = 0
  })

  it('dummy: a route enqueues, and nothing runs', async () => {
    const tasks = configureTasks({ default: { backend: 'dummy' } })
    await request(app).post('/signup').send({ email: 'ada@example.com' }).expect(202)
    expect(tasks.default.results.map(({ name, args }) => [name, args])).to.deep.equal([
      ['mail.welcome', ['ada@example.com']],
    ])
    expect(outbox).to.deep.equal([])
  })

  it('immediate: a route enqueues, and the task has run when it answers', async () => {
    configureTasks({ default: { backend: 'immediate' } })
    await request(app).post('/signup').send({ email: 'ada@example.com' }).expect(202)
    expect(outbox).to.deep.equal(['ada@example.com'])
  })

  it('immediate: a task that fails makes a FAILED result, never a rejected enqueue', async () => {
    configureTasks({ default: { backend: 'immediate' } })
    const result = await sendWelcome.enqueue('nobody')
    expect(result.status).to.equal('FAILED')
    expect(result.errors[0]?.message).to.equal('no such address: nobody')
  })

  it('memory: the whole queue without a server, retries included', async () => {
    configureTasks({ default: { backend: 'memory' } })
    const result = await sendWelcome.enqueue('nobody')
    await executor.processTasks()
    await result.refresh()
    expect(result.status).to.equal('FAILED')
    expect(result.attempts).to.equal(3)
  })

  it('redis on ioredis-mock: records are stored, found and counted; it cannot run workers', async () => {
    configureTasks({ default: { backend: 'redis', options: { client: new RedisMock() } } })
    const { id } = await sendWelcome.enqueue('ada@example.com')
    expect((await TaskRecord.find(id)).args).to.deep.equal(['ada@example.com'])
    expect(await TaskRecord.filter({ status: 'READY', name: 'mail.welcome' }).count()).to.equal(1)
  })

  it('call() runs the function alone, without any backend', async () => {
    configureTasks({ default: { backend: 'dummy' } })
    expect(await sendWelcome.call('ada@example.com')).to.equal('welcome, ada@example.com')
  })
})
