import { NativeCancel, NativeModel, type NativeSession, type NativeSteps } from '../index.js'
import { aborted, fromNative, HeadwiseError } from './errors.js'

export { NativeCancel, NativeModel, type NativeSession, type NativeSteps }

/** Text for the model's tokenizer, or token ids. */
export type Input = string | Uint32Array | readonly number[]

/** What crosses to the addon. Negative, fractional or huge ids would silently turn into other tokens there. */
export function toNative(input: Input): string | Uint32Array {
  if (typeof input === 'string' || input instanceof Uint32Array) return input
  if (!Array.isArray(input)) throw invalidInput('input', String(input), 'text, a Uint32Array or an array of token ids')
  const bad = input.findIndex((id) => !Number.isInteger(id) || id < 0 || id > 0xffff_ffff)
  if (bad >= 0) throw invalidInput(`tokens[${bad}]`, String(input[bad]), 'a token id')
  return Uint32Array.from(input)
}

function invalidInput(name: string, value: string, expected: string): HeadwiseError {
  return new HeadwiseError('InvalidArgument', `${name} = ${value}: expected ${expected}`, { name, value, expected })
}

/** Runs a native call; what it throws becomes a HeadwiseError. */
export async function call<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body()
  } catch (error) {
    throw fromNative(error)
  }
}

/** The synchronous form of {@link call}. */
export function callSync<T>(body: () => T): T {
  try {
    return body()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Runs a native call that can be cancelled by an AbortSignal. */
export async function cancellable<T>(
  signal: AbortSignal | undefined,
  body: (cancel: NativeCancel) => Promise<T>,
): Promise<T> {
  if (signal?.aborted) throw aborted(signal)
  const cancel = new NativeCancel()
  const onAbort = () => cancel.cancel()
  signal?.addEventListener('abort', onAbort)
  try {
    return await body(cancel)
  } catch (error) {
    const known = fromNative(error)
    throw known.code === 'Aborted' ? aborted(signal) : known
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}
