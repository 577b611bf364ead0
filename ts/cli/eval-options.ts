import type { ParseArgsConfig } from 'node:util'
import { HeadwiseError } from '../errors.js'
import { BASELINES, type Mode, type NamedPolicy, namedPolicy } from '../eval/plan.js'
import type { Budget } from '../generated/policy.js'
import { policies } from '../policy.js'
import { number } from './options.js'

/** Flags that say what is compared: policies, budgets, modes. */
export const SETTING_FLAGS = {
  policy: { type: 'string', multiple: true, default: [] as string[] },
  'no-baselines': { type: 'boolean', default: false },
  keep: { type: 'string' },
  'tokens-per-head': { type: 'string' },
  bytes: { type: 'string' },
  mode: { type: 'string', default: 'aware,agnostic' },
} satisfies ParseArgsConfig['options']

interface Flags {
  policy: string[]
  'no-baselines': boolean
  keep?: string | undefined
  'tokens-per-head'?: string | undefined
  bytes?: string | undefined
}

/** The chosen policies, the baselines in front. JSON is not cut at its commas. */
export function chosen(flags: Pick<Flags, 'policy' | 'no-baselines'>, seed: number): NamedPolicy[] {
  const texts = flags.policy.flatMap((text) => (text.includes('{') ? [text] : list(text)))
  const names = texts.length > 0 ? texts : policies
  const all = flags['no-baselines'] ? names : [...BASELINES, ...names]
  const found = [...new Set(all)].map((text) => namedPolicy(text, seed))
  const twice = found.find(({ name }, i) => found.findIndex((other) => other.name === name) < i)
  if (twice) {
    throw new HeadwiseError('InvalidPolicy', `--policy: two policies are named ${twice.name}`, { name: twice.name })
  }
  return found
}

/** The budgets of `--keep`, `--tokens-per-head` and `--bytes`. */
export function budgets(flags: Pick<Flags, 'keep' | 'tokens-per-head' | 'bytes'>): Budget[] {
  const numbers = (name: 'keep' | 'tokens-per-head' | 'bytes', test: (n: number) => boolean) =>
    (flags[name] === undefined ? [] : list(flags[name])).map((text) => number(name, text, test) as number)
  const found = [
    ...numbers('keep', (n) => n > 0 && n <= 1).map((keep) => ({ keep })),
    ...numbers('tokens-per-head', (n) => Number.isSafeInteger(n) && n > 0).map((tokensPerHead) => ({ tokensPerHead })),
    ...numbers('bytes', (n) => Number.isSafeInteger(n) && n > 0).map((bytes) => ({ bytes })),
  ]
  return found.length > 0 ? found : [{ keep: 0.5 }, { keep: 0.2 }, { keep: 0.1 }]
}

/** The modes of `--mode`. */
export function modes(text: string): Mode[] {
  return list(text).map((mode) => {
    if (mode !== 'aware' && mode !== 'agnostic') {
      throw new HeadwiseError('InvalidArgument', `--mode ${mode}: not aware or agnostic`, { name: 'mode', value: mode })
    }
    return mode
  })
}

/** The parts of a comma-separated flag. */
export function list(text: string): string[] {
  const parts = text.split(',').map((part) => part.trim())
  const found = parts.filter((part) => part !== '')
  if (found.length === 0)
    throw new HeadwiseError('InvalidArgument', 'an option is empty: expected a list', { value: text })
  return found
}
