import { createHash } from 'node:crypto'
import { HeadwiseError } from '../errors.js'
import type { Budget, PolicySpec } from '../generated/policy.js'
import { policies, policy } from '../policy.js'

/**
 * When the cache is compressed. `aware`: context and first question are read, then the cache is compressed, so the policy knows what is asked.
 * `agnostic`: the context alone is read and compressed, then the question is read; so it is when a document is kept for questions to come.
 */
export type Mode = 'aware' | 'agnostic'

/** One column of an experiment: a policy at a budget in a mode. */
export interface Setting {
  /** The policy's name in tables. */
  policy: string
  budget: Budget | null
  mode: Mode
  /** What sessions are compressed with; null keeps everything. */
  spec: PolicySpec | null
}

/** A policy that still lacks its budget, by the name that it has in tables. */
export interface NamedPolicy {
  name: string
  at: (budget: Budget) => PolicySpec
}

/** What any other policy has to be compared with: everything, a random choice, and the start with the most recent. */
export const BASELINES = ['full', 'random', 'streamingLLM'] as const

/**
 * A policy by its preset's name, or in JSON without a budget (`{"kind":"snapKV","window":8}`), which may have a name of its own in front
 * (`short={"kind":…}`).
 */
export function namedPolicy(text: string, seed: number): NamedPolicy {
  const json = /^(?:([^={]+)=)?(\{.*\})$/s.exec(text)
  if (json) {
    const spec = parsed(json[2] as string)
    if ('budget' in spec) {
      throw new HeadwiseError('InvalidPolicy', `--policy ${text}: the budgets come from --keep`, { value: text })
    }
    const name = json[1] ?? (json[2] as string)
    if (name === 'full' || ('kind' in spec && spec.kind === 'full')) {
      throw new HeadwiseError('InvalidPolicy', `--policy ${text}: the whole cache is full, without JSON`, {
        value: text,
      })
    }
    return { name, at: (budget) => ({ ...spec, budget }) as PolicySpec }
  }
  const name = policies.find((known) => known === text)
  if (!name) {
    const message = `--policy ${text}: not one of ${policies.join(', ')}, nor JSON`
    throw new HeadwiseError('InvalidPolicy', message, { name: 'policy', value: text })
  }
  if (name === 'random') return { name, at: (budget) => policy.random({ budget, seed }) }
  return { name, at: (budget) => (policy[name] as (options: { budget: Budget }) => PolicySpec)({ budget }) }
}

function parsed(json: string): object {
  try {
    return JSON.parse(json)
  } catch (cause) {
    const reason = (cause as Error).message
    throw new HeadwiseError('InvalidPolicy', `--policy ${json}: not JSON: ${reason}`, { reason }, { cause })
  }
}

/** Every policy at every budget in every mode; the full cache has one budget, everything. */
export function settings(
  named: readonly NamedPolicy[],
  budgets: readonly Budget[],
  modes: readonly Mode[],
): readonly Setting[] {
  return modes.flatMap((mode) =>
    named.flatMap(({ name, at }): Setting[] =>
      name === 'full'
        ? [{ policy: name, budget: null, mode, spec: null }]
        : budgets.map((budget) => ({ policy: name, budget, mode, spec: at(budget) })),
    ),
  )
}

/** A short name of plain data: the same for the same data, whatever else changes. */
export function digest(...data: unknown[]): string {
  return createHash('sha256').update(JSON.stringify(data)).digest('hex').slice(0, 20)
}

/** A budget for people: `0.2`, `256 tokens`, `4000000 bytes`; `all` for none. */
export function budgetText(budget: Budget | null): string {
  if (budget === null) return 'all'
  if ('keep' in budget) return String(budget.keep)
  if ('tokensPerHead' in budget) return `${budget.tokensPerHead} tokens`
  if ('bytes' in budget) return `${budget.bytes} bytes`
  return `ratio ${budget.ratio}`
}
