import { aborted, fromNative } from './errors.js'
import type {
  CompressReport,
  GenerateOptions as EngineGenerateOptions,
  LikelihoodOptions as EngineLikelihoodOptions,
  PrefillOptions as EnginePrefillOptions,
  LikelihoodReport,
  PrefillReport,
  SessionStats,
  Step,
} from './generated/engine.js'
import type { PolicySpec } from './generated/policy.js'
import {
  call,
  cancellable,
  type Input,
  NativeCancel,
  type NativeSession,
  type NativeSteps,
  toNative,
} from './native.js'

/** Options of {@link Session.prefill}. */
export interface PrefillOptions extends EnginePrefillOptions {
  /** Aborts the prefill; the session is then as it was before the call. */
  signal?: AbortSignal | undefined
}

/** Options of {@link Session.compress}. */
export interface CompressOptions {
  /** Aborts the compression; nothing was evicted then. */
  signal?: AbortSignal | undefined
}

/** Options of {@link Session.logLikelihood}. */
export interface LikelihoodOptions extends EngineLikelihoodOptions {
  /** Aborts the call; the session is then as it was before. */
  signal?: AbortSignal | undefined
}

/** Options of {@link Session.generate}. */
export interface GenerateOptions extends EngineGenerateOptions {
  /** Text (or token ids) to read first. Without it, generation goes on where the session stands. */
  prompt?: Input | undefined
  /** Aborts the generation. */
  signal?: AbortSignal | undefined
}

/** Which tokens each head of a session still holds. */
export class KeptPositions {
  readonly layers: number
  readonly kvHeads: number
  readonly #indptr: Uint32Array
  readonly #positions: Uint32Array

  constructor(kvHeads: number, indptr: Uint32Array, positions: Uint32Array) {
    this.kvHeads = kvHeads
    this.layers = (indptr.length - 1) / kvHeads
    this.#indptr = indptr
    this.#positions = positions
  }

  /** Ascending positions that a head holds; a view, not a copy. */
  head(layer: number, head: number): Uint32Array {
    const valid = (index: number, limit: number) => Number.isInteger(index) && index >= 0 && index < limit
    if (!valid(layer, this.layers) || !valid(head, this.kvHeads)) {
      throw new RangeError(`no head ${head} in layer ${layer}: ${this.layers} layers of ${this.kvHeads} KV heads`)
    }
    const row = layer * this.kvHeads + head
    return this.#positions.subarray(this.#indptr[row], this.#indptr[row + 1])
  }

  /** Slots held, `[layer][KV head]`. */
  lengths(): number[][] {
    return Array.from({ length: this.layers }, (_, layer) =>
      Array.from({ length: this.kvHeads }, (_, head) => this.head(layer, head).length),
    )
  }
}

/**
 * A decoding session: one sequence and its KV cache. One call runs at a time; a second one fails with `SessionBusy`.
 * Dispose it (`await using`, or {@link Session.dispose}) to free its cache at once.
 */
export class Session implements AsyncDisposable {
  readonly #native: NativeSession
  readonly #kvHeads: number

  /** @internal Use `model.createSession()` or `session.fork()`. */
  constructor(native: NativeSession, kvHeads: number) {
    this.#native = native
    this.#kvHeads = kvHeads
  }

  /**
   * Reads text into the cache and then, as the policy's schedule (or `options.compress`) says, compresses it.
   * A prefill that fails or is aborted leaves the session as it was. If only the compression fails, the text stays
   * (but not where it is compressed layer by layer while it is read: there it is all or nothing).
   */
  async prefill(input: Input, options: PrefillOptions = {}): Promise<PrefillReport> {
    const { signal, ...rest } = options
    return cancellable(signal, async (cancel) =>
      JSON.parse(await this.#native.prefill(toNative(input), JSON.stringify(rest), cancel)),
    )
  }

  /**
   * Reads text as a prefill does, without compressing, and says how likely each of its tokens was behind all that came before. The loss of a
   * text behind a compressed cache is minus the mean of these logarithms.
   */
  async logLikelihood(input: Input, options: LikelihoodOptions = {}): Promise<LikelihoodReport> {
    const { signal, ...rest } = options
    return cancellable(signal, async (cancel) =>
      JSON.parse(await this.#native.logLikelihood(toNative(input), JSON.stringify(rest), cancel)),
    )
  }

  /**
   * Generates text, piece by piece; the last piece carries `finishReason`. The prompt of an empty session is compressed as
   * a prefill would be; a prompt that follows a prefill is a question about what is there and is not.
   * Leaving the loop early ends the generation there: the session has seen what you have seen, and goes on from it.
   */
  async *generate(options: GenerateOptions = {}): AsyncGenerator<Step, void, undefined> {
    const { signal, prompt, ...rest } = options
    if (signal?.aborted) throw aborted(signal)
    const cancel = new NativeCancel()
    let steps: NativeSteps | undefined
    let delivered = 0
    let running = true
    const onAbort = () => {
      cancel.cancel()
      void steps?.stop(delivered)
    }
    signal?.addEventListener('abort', onAbort)
    try {
      const input = prompt === undefined ? null : toNative(prompt)
      steps = await this.#native.generate(input, JSON.stringify(rest), cancel)
      // Each piece is asked for while its predecessor is with the consumer; one that nobody comes to see is taken back.
      let next = steps.next()
      while (running) {
        const text = await next
        if (signal?.aborted) throw aborted(signal)
        if (text === null) return
        const step: Step = JSON.parse(text)
        running = step.finishReason === null
        if (running) {
          next = steps.next()
          next.catch(() => {})
        }
        delivered += 1
        yield step
      }
    } catch (error) {
      const known = fromNative(error)
      throw known.code === 'Aborted' ? aborted(signal) : known
    } finally {
      signal?.removeEventListener('abort', onAbort)
      if (running) await steps?.stop(delivered)
    }
  }

  /** Generates to the end and returns the whole text. */
  async complete(options: GenerateOptions = {}): Promise<string> {
    let text = ''
    for await (const step of this.generate(options)) text += step.text
    return text
  }

  /**
   * Evicts now what the policy (the session's own, unless another is given) does not keep, and frees its memory. If it fails or is aborted,
   * nothing was evicted. Policies that read a probe for it (`kvzip`, `citrus`) take their time, between the steps of other sessions.
   */
  async compress(policy?: PolicySpec, options: CompressOptions = {}): Promise<CompressReport> {
    return cancellable(options.signal, async (cancel) =>
      JSON.parse(await this.#native.compress(policy && JSON.stringify(policy), cancel)),
    )
  }

  /** A second session with the same past. Both share the cache's memory until one of them changes it. */
  async fork(): Promise<Session> {
    return call(async () => new Session(await this.#native.fork(), this.#kvHeads))
  }

  /** Lengths per layer and head, bytes, timings. */
  async stats(): Promise<SessionStats> {
    return call(async () => JSON.parse(await this.#native.stats()))
  }

  /** Which tokens each head still holds. */
  async inspect(): Promise<KeptPositions> {
    const kept = await call(() => this.#native.kept())
    return new KeptPositions(this.#kvHeads, kept.indptr, kept.positions)
  }

  /** Frees the cache. A running call fails with `Disposed`; disposing twice is fine. */
  async dispose(): Promise<void> {
    await this.#native.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}
