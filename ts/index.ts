/**
 * headwise: decoding sessions on a KV cache that is cut head by head, with the memory really given back.
 *
 * @packageDocumentation
 */
export { type ErrorDetails, HeadwiseError, type HeadwiseErrorCode } from './errors.js'
export type * from './generated/engine.js'
export type * from './generated/policy.js'
export { type ChatMessage, type LoadOptions, Model } from './model.js'
export {
  type ModelSource,
  type NetworkOptions,
  type ProgressEvent,
  type ProgressPhase,
  type ResolvedModel,
  type ResolveOptions,
  resolveModel,
} from './models/index.js'
export type { Input } from './native.js'
export { type PolicyBuilders, type PolicyOptions, type PresetName, policies, policy } from './policy.js'
export {
  type CompressOptions,
  type GenerateOptions,
  KeptPositions,
  type LikelihoodOptions,
  type PrefillOptions,
  Session,
} from './session.js'
