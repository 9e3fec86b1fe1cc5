/**
 * What both commands do around their work: read the line, answer --help and --version, say why it failed, set the exit code, and
 * end.
 */
import { packageVersion } from '../package-version.ts'
import { helpOf, parseArguments } from './arguments.ts'
import type { Command } from './arguments.ts'
import { EXIT, failureOf } from './failure.ts'
import type { CommandFlags, Settings } from './flags.ts'
import { Output } from './output.ts'
import type { OutputOptions } from './output.ts'
import { endSoon } from './process.ts'

/** Runs a command; sets `process.exitCode` to what `work` answers. */
export async function runCommand<T extends CommandFlags>(
  command: Command<T>,
  argv: readonly string[],
  work: (settings: Settings<T>, modules: readonly string[], output: Output) => Promise<number>,
): Promise<void> {
  let output: Output | undefined
  try {
    const parsed = parseArguments(command, argv, process.env)
    if (parsed.wants === 'run') {
      // Those flags are in every table; of a table that is not yet known the compiler cannot tell.
      const settings = parsed.settings as Settings<T> & OutputOptions
      output = new Output(settings)
      process.exitCode = await work(settings, parsed.modules, output)
    } else {
      output = new Output({ json: false, quiet: false, logLevel: 'info' })
      output.text(parsed.wants === 'help' ? await helpOf(command, process.stdout.columns || 100) : packageVersion())
      process.exitCode = EXIT.ok
    }
  } catch (error) {
    const failure = failureOf(error)
    // A line that cannot be read says all the same whether a program reads the answer.
    output ??= new Output({ json: argv.includes('--json'), quiet: false, logLevel: 'info' })
    output.fail(failure)
    process.exitCode = failure.exitCode
  }
  endSoon()
}
