/**
 * run-redis-tasks --doctor: the same examination as `doctor()`, told in words or as JSON lines. Imports no task and runs none; may
 * run beside workers. Ctrl-C ends it after the present batch, and what was seen until then is told.
 */
import { doctor } from '../doctor.ts'
import type { DoctorSummary, Finding } from '../doctor.ts'
import { TaskOptionError } from '../errors.ts'
import { INVARIANT_NAMES, INVARIANTS } from '../storage/invariants.ts'
import { EXIT } from './failure.ts'
import type { RunSettings } from './flags.ts'
import { openConfigured } from './open-backend.ts'
import { duration, short } from './output.ts'
import type { Output, Progress } from './output.ts'
import { onSignals } from './process.ts'

/** How many findings of each invariant are shown whole; the rest is counted. */
const EXAMPLES = 3
const LINE_LENGTH = 300

/** @throws TaskOptionError `--repair` alone. */
export function checkDoctorFlags({ doctor: isDoctor, repair }: Pick<RunSettings, 'doctor' | 'repair'>): void {
  if (repair && !isDoctor) {
    throw new TaskOptionError('--repair', 'given with --doctor', true, 'type --doctor --repair')
  }
}

/** @returns the exit code: 0 when no violation is left, 1 when one is, or when not everything was looked at. */
export async function examine(command: string, settings: RunSettings, output: Output): Promise<number> {
  const backend = await openConfigured(command, settings, output)
  const abort = new AbortController()
  output.onClosed(() => abort.abort())
  const release = onSignals(() => {
    abort.abort()
    // The second one does not wait for the present batch.
    release()
  })
  let progress: Progress | undefined
  const examples = new Map<string, Finding[]>()
  try {
    const { repair, claimIntervalSeconds, intervalSeconds } = settings
    const examination = doctor(backend, {
      ...{ repair, claimIntervalSeconds, intervalSeconds, signal: abort.signal },
      onProgress: ({ done, total }) => {
        progress ??= output.progress('Looked at', total)
        progress.update(done)
      },
    })
    for await (const finding of examination) {
      if (settings.json) output.result('finding', finding, '')
      const shown = examples.get(finding.invariant) ?? []
      if (shown.length < EXAMPLES) examples.set(finding.invariant, [...shown, finding])
    }
    progress?.stop()
    return tell(await examination.summary(), examples, settings, output)
  } finally {
    progress?.stop()
    release()
    await backend.close()
  }
}

function tell(
  summary: DoctorSummary,
  examples: ReadonlyMap<string, readonly Finding[]>,
  { json, quiet, repair }: RunSettings,
  output: Output,
): number {
  const { left, complete } = summary
  const exitCode = left === 0 && complete ? EXIT.ok : EXIT.unexpected
  if (!complete) output.note('warn', 'interrupted', {}, 'Interrupted: the rest was not looked at; run it again')
  const conclusion = conclusionOf(summary, repair)
  if (json) {
    output.record(exitCode === EXIT.ok ? 'info' : 'warn', 'summary', { ...summary, exitCode })
  } else if (quiet) {
    if (left > 0) output.note('warn', 'summary', {}, conclusion)
  } else {
    for (const line of [...linesOf(summary, examples), conclusion]) output.text(line)
  }
  return exitCode
}

function linesOf(summary: DoctorSummary, examples: ReadonlyMap<string, readonly Finding[]>): string[] {
  const { server, backendName, records, keys, entries, delayed, leases, tookMs, byInvariant } = summary
  const lines = [`Examined ${server.kind} ${server.version} at ${server.address}, backend "${backendName}"`]
  for (const name of INVARIANT_NAMES) {
    const counts = byInvariant[name]
    if (!counts) continue
    const mended = counts.repaired > 0 ? `, ${counts.repaired} mended` : ''
    lines.push(`${name.padEnd(4)} ${counts.found} found${mended}: ${INVARIANTS[name].holds}`)
    for (const { key, id, found, expected } of examples.get(name) ?? []) {
      lines.push(
        short(
          `       ${key}${id === '' || key.endsWith(id) ? '' : ` ${id}`}: ${found}; expected ${expected}`,
          LINE_LENGTH,
        ),
      )
    }
    const rest = counts.found - (examples.get(name)?.length ?? 0)
    if (rest > 0) lines.push(`       and ${rest} more (--json tells each)`)
  }
  const index = `${entries} entries, ${delayed} delayed, ${leases} leases`
  lines.push(`Looked at ${records} records, ${keys} keys, ${index} in ${duration(tookMs)}`)
  return lines
}

function conclusionOf({ found, repaired, repairable, left, complete }: DoctorSummary, repair: boolean): string {
  if (found === 0) return complete ? 'No violation' : 'No violation so far'
  const violations = `${found} violation${found === 1 ? '' : 's'}`
  const mended = repaired > 0 ? `, ${repaired} mended` : ''
  if (left === 0) return `${violations}${mended}: nothing is left to do`
  if (repairable > 0) return `${violations}: --doctor --repair mends ${repairable} of them`
  const next = repair ? 'what is left is only reported' : 'these are only reported'
  return `${violations}${mended}: ${next}; look at the keys above (docs/doctor.md says what each means)`
}
