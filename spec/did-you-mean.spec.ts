/** Which word was probably meant, and that none is named where none is near. */
import { expect } from 'chai'
import fc from 'fast-check'
import { didYouMean, hinted } from '../lib/did-you-mean.ts'

const said = (word: string): string => `did you mean "${word}"?`

describe('didYouMean', () => {
  const words = ['queueName', 'priority', 'maxTasks', 'timeoutMs', 'status']

  it('finds what was probably meant', () => {
    const meant: Record<string, string> = {
      queue_name: 'queueName',
      QUEUENAME: 'queueName',
      queueNmae: 'queueName',
      queue: 'queueName',
      priorty: 'priority',
      piroirty: 'priority',
      max_task: 'maxTasks',
      timeout: 'timeoutMs',
      stauts: 'status',
    }
    for (const [word, candidate] of Object.entries(meant))
      expect(didYouMean(word, words), word).to.equal(said(candidate))
  })

  it('finds nothing where nothing is near', () => {
    for (const word of ['', 'a', 'zzz', 'constructor', '__proto__', 'x'.repeat(1_000_000)]) {
      expect(didYouMean(word, words), word.slice(0, 20)).to.equal(undefined)
    }
    expect(didYouMean('a', ['b'])).to.equal(undefined)
    expect(didYouMean('priority', [])).to.equal(undefined)
  })

  it('finds the nearest of several, and a word itself', () => {
    expect(didYouMean('sendMail', ['sendEmail', 'sendMail', 'sendMails'])).to.equal(said('sendMail'))
    fc.assert(
      fc.property(fc.array(fc.stringMatching(/^[a-z]{2,20}$/), { minLength: 1 }), fc.nat(), (candidates, i) => {
        const word = candidates[i % candidates.length] ?? ''
        expect(didYouMean(word, candidates)).to.equal(said(word))
      }),
    )
  })

  it('finds a word with one letter dropped, doubled, changed or swapped', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z]{5,20}$/),
        fc.nat(3),
        fc.constantFrom('drop', 'double', 'change', 'swap'),
        (word, i, how) => {
          const [before, a, b, after] = [word.slice(0, i), word.charAt(i), word.charAt(i + 1), word.slice(i + 2)]
          const wrong = { drop: b, double: a + a + b, change: `?${b}`, swap: b + a }[how]
          expect(didYouMean(before + wrong + after, ['unrelated-words-of-another-kind', word])).to.equal(said(word))
        },
      ),
    )
  })
})

describe('hinted', () => {
  it('says what was probably meant before the cure, and the cure alone where nothing is near', () => {
    expect(hinted('mial', ['mail', 'reports'], 'there are: mail, reports')).to.equal(
      'did you mean "mail"? there are: mail, reports',
    )
    expect(hinted('zzz', ['mail'], 'there are: mail')).to.equal('there are: mail')
  })
})
