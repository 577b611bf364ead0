// Generated from the Rust types by `cargo run --release -p headwise-engine --bin export_types`. Do not edit.

import type { PolicySpec } from './policy.js'

/** Every policy by the name that CLIs take, with its defaults and no budget. */
export const presets = {
  full: {"kind":"full"},
  streamingLLM: {"kind":"streamingLLM","sinks":4,"window":0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  pyramidKV: {"kind":"pyramidKV","beta":20,"window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaKV: {"kind":"adaKV","base":{"kind":"snapKV","window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  lookahead: {"kind":"lookahead","window":8,"span":24,"decay":0.9,"floor":0.0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  snapKV: {"kind":"snapKV","window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  knorm: {"kind":"knorm","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  keyDiff: {"kind":"keyDiff","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  tova: {"kind":"tova","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  lagKV: {"kind":"lagKV","first":4,"lag":128,"crossPartition":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  cur: {"kind":"cur","first":4,"leverage":"product","block":16,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  observedAttention: {"kind":"observedAttention","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  h2o: {"kind":"h2o","window":32,"group":"mean","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  expectedAttention: {"kind":"expectedAttention","first":4,"future":512,"covariance":true,"valueNorm":true,"epsilon":0.0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  leverage: {"kind":"leverage","sketch":0,"seed":0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  nonCausal: {"kind":"nonCausal","chunk":256,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  compactor: {"kind":"compactor","first":8,"last":4,"blending":0.5,"leverage":{"sketch":0,"seed":0},"attention":{"chunk":256},"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  defensive: {"kind":"defensive","window":32,"kernel":5,"mass":0.9,"norm":"l1","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  local: {"kind":"local","base":{"kind":"knorm"},"length":1024,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  weighted: {"kind":"weighted","base":{"kind":"snapKV","window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst"},"by":"output","norm":"l2","epsilon":0.0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  recency: {"kind":"recency","window":0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  random: {"kind":"random","seed":0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaPyramidKV: {"kind":"adaKV","base":{"kind":"pyramidKV","beta":20,"window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaSnapKV: {"kind":"adaKV","base":{"kind":"snapKV","window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaKnorm: {"kind":"adaKV","base":{"kind":"knorm","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaKeyDiff: {"kind":"adaKV","base":{"kind":"keyDiff","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaTova: {"kind":"adaKV","base":{"kind":"tova","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaLagKV: {"kind":"adaKV","base":{"kind":"lagKV","first":4,"lag":128,"crossPartition":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaCur: {"kind":"adaKV","base":{"kind":"cur","first":4,"leverage":"product","block":16,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaObservedAttention: {"kind":"adaKV","base":{"kind":"observedAttention","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaH2o: {"kind":"adaKV","base":{"kind":"h2o","window":32,"group":"mean","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaExpectedAttention: {"kind":"adaKV","base":{"kind":"expectedAttention","first":4,"future":512,"covariance":true,"valueNorm":true,"epsilon":0.0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaLeverage: {"kind":"adaKV","base":{"kind":"leverage","sketch":0,"seed":0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaNonCausal: {"kind":"adaKV","base":{"kind":"nonCausal","chunk":256,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaCompactor: {"kind":"adaKV","base":{"kind":"compactor","first":8,"last":4,"blending":0.5,"leverage":{"sketch":0,"seed":0},"attention":{"chunk":256},"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaDefensive: {"kind":"adaKV","base":{"kind":"defensive","window":32,"kernel":5,"mass":0.9,"norm":"l1","protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaLocal: {"kind":"adaKV","base":{"kind":"local","base":{"kind":"knorm"},"length":1024,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaWeighted: {"kind":"adaKV","base":{"kind":"weighted","base":{"kind":"snapKV","window":32,"rows":"mean","group":"mean","pool":{"kind":"max","kernel":7},"order":"groupFirst"},"by":"output","norm":"l2","epsilon":0.0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
  adaRandom: {"kind":"adaKV","base":{"kind":"random","seed":0,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},"floor":0.2,"normalize":false,"protect":{"sinks":0,"layers":0},"schedule":"afterPrefill"},
} as const satisfies Record<string, PolicySpec>

/** A name in {@link presets}. */
export type PresetName = keyof typeof presets
