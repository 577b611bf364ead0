export { type ErrorDetails, HeadwiseError, type HeadwiseErrorCode } from './errors.js'
export {
  type ModelSource,
  type NetworkOptions,
  type ProgressEvent,
  type ProgressPhase,
  type ResolvedModel,
  type ResolveOptions,
  resolveModel,
} from './models/index.js'
