import { HeadwiseError } from '../errors.js'
import type { LoadOptions } from '../model.js'
import { Model } from '../model.js'
import { type PolicySpec, policies, policy } from '../policy.js'
import { ProgressLine } from './progress.js'

/** Flags that every command which runs a model takes. */
export const MODEL_FLAGS = {
  threads: { type: 'string' },
  'kv-codec': { type: 'string' },
} as const

/** Flags that choose a policy. */
export const POLICY_FLAGS = {
  policy: { type: 'string' },
  keep: { type: 'string' },
  'tokens-per-head': { type: 'string' },
  bytes: { type: 'string' },
} as const

type Flags<T> = { [K in keyof T]?: string | undefined }

/** A positive number from a flag, or undefined. */
export function number(name: string, text: string | undefined, test = (n: number) => n > 0): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value) || !test(value)) {
    throw new HeadwiseError('InvalidArgument', `--${name} ${text}: not a valid number`, { name, value: text })
  }
  return value
}

/** The policy of `--policy` (a name, or JSON) and one of `--keep`, `--tokens-per-head`, `--bytes`. */
export function policyFrom(flags: Flags<typeof POLICY_FLAGS>): PolicySpec {
  if (flags.policy === undefined) {
    if (flags.keep ?? flags['tokens-per-head'] ?? flags.bytes) {
      throw new HeadwiseError('InvalidArgument', `a budget needs --policy: ${policies.join(', ')}`, { name: 'policy' })
    }
    return policy.full()
  }
  const budgets = [
    { keep: number('keep', flags.keep) },
    { tokensPerHead: number('tokens-per-head', flags['tokens-per-head']) },
    { bytes: number('bytes', flags.bytes) },
  ].filter((budget) => Object.values(budget)[0] !== undefined)
  const without = (what: string) => {
    if (budgets.length === 0) return
    throw new HeadwiseError('InvalidArgument', `${what} takes no --keep, --tokens-per-head or --bytes`, {
      name: 'budget',
    })
  }
  if (flags.policy.startsWith('{')) {
    without('a policy in JSON has its own budget and')
    try {
      return JSON.parse(flags.policy)
    } catch (cause) {
      const reason = (cause as Error).message
      throw new HeadwiseError('InvalidPolicy', `--policy: not JSON: ${reason}`, { reason }, { cause })
    }
  }
  const name = policies.find((known) => known === flags.policy)
  if (!name) {
    const message = `--policy ${flags.policy}: not one of ${policies.join(', ')}, nor JSON`
    throw new HeadwiseError('InvalidPolicy', message, { name: 'policy', value: flags.policy })
  }
  if (name === 'full') {
    without('--policy full')
    return policy.full()
  }
  if (budgets.length !== 1) {
    const message = `--policy ${name} needs one of --keep, --tokens-per-head, --bytes`
    throw new HeadwiseError('InvalidArgument', message, { name: 'budget' })
  }
  return policy[name]({ budget: budgets[0] as { keep: number } })
}

/** Loads a model with a progress line on the terminal. */
export async function loadModel(reference: string, flags: Flags<typeof MODEL_FLAGS> = {}): Promise<Model> {
  const progress = new ProgressLine()
  const threads = number('threads', flags.threads, (n) => Number.isInteger(n) && n > 0)
  const codec = flags['kv-codec'] as LoadOptions['kvCodec']
  try {
    return await Model.load(reference, {
      ...(threads && { threads }),
      ...(codec && { kvCodec: codec }),
      onProgress: progress.model,
    })
  } finally {
    progress.clear()
  }
}
