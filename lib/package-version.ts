/** The version of this package, for heartbeats and the commands. */
import { createRequire } from 'node:module'

/** Read from its manifest, one folder above this file as it is installed; kept by `require` afterwards. */
export function packageVersion(): string {
  const manifest = createRequire(import.meta.url)('../package.json') as { readonly version: string }
  return manifest.version
}
