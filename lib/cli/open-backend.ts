/** Opens the backend that a command is told to work on, by config file or REDIS_URL; imports no task. */
import { TaskOptionError, verbatim } from '../errors.ts'
import { loggerOf } from '../logger.ts'
import type { TaskBackend } from '../task-backend.ts'
import type { Output } from './output.ts'
import { environmentWarnings, load, openBackend } from './settings.ts'
import { findSources } from './source-files.ts'

/**
 * @throws TaskOptionError neither a config file nor REDIS_URL is there, or no backend of that name.
 * @throws TaskImportError the config file cannot be imported.
 */
export async function openConfigured(
  command: string,
  { config, backendName }: { readonly config?: string | undefined; readonly backendName: string },
  output: Output,
): Promise<TaskBackend> {
  const cwd = process.cwd()
  const sources = findSources(cwd, config, [])
  if (sources.configFile === undefined && !process.env['REDIS_URL']) {
    const cure = `set REDIS_URL, give --config, or write a tasks.config.js`
    throw new TaskOptionError(
      command,
      `told where Redis is (looked for tasks.config.* in ${cwd})`,
      verbatim('nothing'),
      cure,
    )
  }
  // Outages are told by the error that ends the command.
  const logger = loggerOf((level, facts, message) => output.log('role' in facts ? 'debug' : level, facts, message))
  const loaded = await load(sources, { cwd, logger, configOnly: true })
  for (const { code, message } of environmentWarnings(loaded)) logger.warn({ code }, message)
  return openBackend(backendName, logger, loaded)
}
