/**
 * Mocha's own `spec` reporter, and after it one plain line that a machine can read: `N passed, N failed`.
 * Only what ran is counted; a pending spec is in neither number.
 */
import Mocha from 'mocha'

export default class CountingReporter extends Mocha.reporters.Spec {
  /**
   * @param {Mocha.Runner} runner
   * @param {Mocha.MochaOptions} options
   */
  constructor(runner, options) {
    super(runner, options)
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      console.log(`${this.stats.passes} passed, ${this.stats.failures} failed`)
    })
  }
}
