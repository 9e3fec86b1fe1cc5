import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'chai'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import request from 'supertest'
import type * as LoginModule from '../../examples/admin-behind-login/app.ts'
import type * as SchedulerModule from '../../examples/cloud-scheduler/app.ts'

// Enqueued through the example's own backend: beside other specs another may be `default` in the package that it uses.
type Login = typeof LoginModule
type Scheduler = typeof SchedulerModule

describe('examples/admin-behind-login', () => {
  let login: Login

  before(async () => {
    login = await import('../../examples/admin-behind-login/app.ts')
  })
  after(() => login.backend.close())

  async function signIn(name: string, password: string): Promise<ReturnType<typeof request.agent>> {
    const agent = request.agent(login.app)
    await agent.post('/login').type('form').send({ name, password }).expect(303)
    return agent
  }

  it('shows nothing to strangers', async () => {
    await request(login.app).get('/tasks/admin').expect(403)
    await request(login.app).post('/login').type('form').send({ name: 'vera', password: 'guess' }).expect(401)
    await request(login.app).post('/login').type('form').send({ name: '__proto__', password: '' }).expect(401)
  })

  it('lets a viewer look, without buttons', async () => {
    const { id } = await login.backend.enqueue(login.resize, ['cat.png'])
    const vera = await signIn('vera', 'look')
    const page = await vera.get(`/tasks/admin/tasks/${id}`).expect(200)
    expect(page.text)
      .to.include('cat.png')
      .and.not.match(/<button[^>]*>\s*(Run|Delete)/)
    await vera.post(`/tasks/execute/${id}/`).expect(403)
  })

  it('lets an operator act', async () => {
    const { id } = await login.backend.enqueue(login.resize, ['dog.png'])
    const otto = await signIn('otto', 'touch')
    const answer = await otto.post(`/tasks/execute/${id}/`).expect(200)
    expect(answer.body).to.deep.equal({ executed: true, task: { id, status: 'SUCCESSFUL' } })
  })
})

describe('examples/cloud-scheduler', () => {
  const email = 'scheduler@project.test'
  const secret = 'a-secret-of-the-spec'
  const audience = 'https://tasks.test'

  async function withIssuer(
    act: (issuer: string, sign: (claims: object) => Promise<string>) => Promise<void>,
  ): Promise<void> {
    const { publicKey, privateKey } = await generateKeyPair('RS256')
    const key = { ...(await exportJWK(publicKey)), kid: 'spec', alg: 'RS256' }
    const server = createServer((_req, res) => res.end(JSON.stringify({ keys: [key] }))).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const sign = (claims: object): Promise<string> =>
      new SignJWT({ email, email_verified: true, aud: audience, ...claims })
        .setProtectedHeader({ alg: 'RS256', kid: 'spec' })
        .setIssuer(issuer)
        .setIssuedAt()
        .setExpirationTime('1 minute')
        .sign(privateKey)
    try {
      await act(issuer, sign)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  }

  let scheduler: Scheduler

  before(async () => {
    scheduler = await import('../../examples/cloud-scheduler/app.ts')
  })
  after(() => scheduler.backend.close())

  it('runs due tasks for a caller with the right token, and for nobody else', async () => {
    await withIssuer(async (issuer, sign) => {
      const app = scheduler.createApp({ issuer, audience, jwksUrl: `${issuer}/keys`, email, secret })
      const run = (authorization?: string): request.Test =>
        authorization === undefined
          ? request(app).post('/tasks/run/')
          : request(app).post('/tasks/run/').set('Authorization', authorization)
      await scheduler.backend.enqueue(scheduler.report, ['January'])
      await run().expect(403)
      await run('Bearer nonsense').expect(403)
      await run(`Bearer ${await sign({ email: 'someone@else.test' })}`).expect(403)
      await run(`Bearer ${await sign({ aud: 'https://other.test' })}`).expect(403)
      const answer = await run(`Bearer ${await sign({})}`).expect(200)
      expect(answer.body).to.have.property('processed', 1)
      await scheduler.backend.enqueue(scheduler.report, ['March'])
      expect((await run(`Bearer ${secret}`).expect(200)).body).to.have.property('processed', 1)
      await request(app).get('/tasks/admin').set('Authorization', `Bearer ${secret}`).expect(403)
    })
  })
})
