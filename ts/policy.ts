import type { AdaKVPolicy, PolicySpec } from './generated/policy.js'
import { type PresetName, presets } from './generated/presets.js'

export type { PolicySpec, PresetName }

type Kind = PolicySpec['kind']
type OptionsOf<K> = K extends Kind ? Omit<Extract<PolicySpec, { kind: K }>, 'kind'> : never
type AdaOptions = Omit<AdaKVPolicy, 'base'>

/**
 * What a builder takes: the options of the policy; for `adaX` those of Ada-KV and of its base x in one object.
 */
export type PolicyOptions<N extends PresetName> = (typeof presets)[N] extends { kind: 'adaKV'; base: { kind: infer B } }
  ? N extends 'adaKV'
    ? OptionsOf<'adaKV'>
    : OptionsOf<B> & AdaOptions
  : OptionsOf<N>

/** One builder a policy. They only put the options into plain data; every default lives in Rust. */
export type PolicyBuilders = {
  [N in PresetName]: (options?: PolicyOptions<N>) => PolicySpec
}

/** Options that adaKV itself takes, beside those that every policy takes. */
const ownOptions = new Set(Object.keys(presets.adaKV).filter((key) => key !== 'kind' && key !== 'base'))

function builder(name: PresetName): (options?: object) => PolicySpec {
  const preset: { kind: string; base?: { kind: string } } = presets[name]
  const { kind, base } = preset
  if (base === undefined || name === kind) return (options) => ({ kind, ...options }) as PolicySpec
  return (options = {}) => {
    const entries = Object.entries(options)
    const own = Object.fromEntries(entries.filter(([key]) => ownOptions.has(key)))
    const rest = Object.fromEntries(entries.filter(([key]) => !ownOptions.has(key)))
    return { kind, ...own, base: { kind: base.kind, ...rest } } as PolicySpec
  }
}

/** Names of all policies. */
export const policies = Object.keys(presets) as PresetName[]

/**
 * Builds policies: `policy.adaSnapKV({ budget: { keep: 0.2 } })`. A policy is plain JSON, the same in TypeScript, Rust and on the
 * command line; write it by hand or store it as you like.
 */
export const policy = Object.fromEntries(policies.map((name) => [name, builder(name)])) as PolicyBuilders
