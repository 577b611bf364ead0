export {
  formatReference,
  type HubReference,
  type LocalReference,
  type PypiReference,
  parseReference,
  type Reference,
} from './reference.js'
export { resolveModel } from './resolve.js'
export type {
  ModelSource,
  NetworkOptions,
  ProgressEvent,
  ProgressPhase,
  ResolvedModel,
  ResolveOptions,
} from './types.js'
