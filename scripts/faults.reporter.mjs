/** Mocha's own `spec` reporter; beside it each case of the fault table is written as one line of JSON where FAULTS_REPORT says. */
import { appendFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import Mocha from 'mocha'

const { EVENT_RUN_END, EVENT_TEST_FAIL, EVENT_TEST_PASS, EVENT_TEST_PENDING } = Mocha.Runner.constants

export default class FaultsReporter extends Mocha.reporters.Spec {
  /**
   * @param {Mocha.Runner} runner
   * @param {Mocha.MochaOptions} options
   */
  constructor(runner, options) {
    super(runner, options)
    const startedAt = performance.now()
    const file = process.env['FAULTS_REPORT']
    /** @param {object} line */
    const write = (line) => {
      if (file) appendFileSync(file, `${JSON.stringify(line)}\n`)
    }
    runner.on(EVENT_TEST_PASS, ({ title }) => write({ case: title, state: 'passed' }))
    runner.on(EVENT_TEST_PENDING, ({ title }) => write({ case: title, state: 'skipped' }))
    runner.on(EVENT_TEST_FAIL, (/** @type {Mocha.Runnable} */ { title }, /** @type {Error} */ error) =>
      write({ case: title, state: 'failed', error: error.message }),
    )
    runner.once(EVENT_RUN_END, () => write({ seconds: Math.round((performance.now() - startedAt) / 100) / 10 }))
  }
}
