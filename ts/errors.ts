/** Codes of errors that are born in Rust: the variants of `headwise_core::Error` (a test holds the two lists together). */
export const NATIVE_ERROR_CODES = [
  'InvalidArgument',
  'ShapeMismatch',
  'InvalidPolicy',
  'NotANumber',
  'BudgetBelowProtected',
  'ObservationMissing',
  'InvalidSelection',
  'KvBudgetExceeded',
  'OutOfMemory',
  'Io',
  'TruncatedFile',
  'MalformedFile',
  'UnsupportedArchitecture',
  'UnsupportedFeature',
  'MissingTensor',
  'Tokenizer',
  'ChatTemplate',
  'ContextExceeded',
  'Disposed',
  'SessionBusy',
  'Aborted',
  'Internal',
] as const

/** Codes of errors that only finding and fetching a model can raise. */
export const MODEL_ERROR_CODES = [
  /** A reference is not `hf:…`, `pypi:…`, an alias or a path. */
  'InvalidReference',
  /** The path, repository, revision, package or file does not exist. */
  'ModelNotFound',
  /** Several files fit; the message lists them. */
  'AmbiguousReference',
  /** The hub answered 401 or 403. */
  'Unauthorized',
  /** No answer: no network, no such host, no connection in time, or too many broken transfers. */
  'NetworkUnreachable',
  /** The server answered, but not as its protocol promises. */
  'UnexpectedResponse',
  /** The bytes are not the promised ones. */
  'ChecksumMismatch',
  /** Offline was asked for and the file is not in the cache. */
  'NotCached',
  /** The disk cannot take the file. */
  'NoSpace',
  /** No Python with pip was found. */
  'PipMissing',
  /** pip ran and failed. */
  'PipFailed',
] as const

export type NativeErrorCode = (typeof NATIVE_ERROR_CODES)[number]
export type ModelErrorCode = (typeof MODEL_ERROR_CODES)[number]
export type HeadwiseErrorCode = NativeErrorCode | ModelErrorCode

/** The offending values, by name: `{ budget: 3, protected: 8 }`. */
export type ErrorDetails = Readonly<Record<string, unknown>>

/** Every error that headwise raises: switch on `code`, show `message`, read the values in `details`. */
export class HeadwiseError extends Error {
  override readonly name = 'HeadwiseError'
  readonly code: HeadwiseErrorCode
  readonly details: ErrorDetails

  constructor(code: HeadwiseErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.details = details
  }
}

const nativeCodes: ReadonlySet<string> = new Set(NATIVE_ERROR_CODES)

function isNativeCode(code: unknown): code is NativeErrorCode {
  return typeof code === 'string' && nativeCodes.has(code)
}

/**
 * What the addon threw, as a HeadwiseError. The addon puts the JSON of `headwise_core::Error` into the message
 * (`{"code":"BudgetBelowProtected","budget":3,"protected":8,"message":"…"}`); napi itself throws plain messages
 * when an argument has the wrong JavaScript type.
 */
export function fromNative(error: unknown): HeadwiseError {
  if (error instanceof HeadwiseError) return error
  const text = error instanceof Error ? error.message : String(error)
  const parsed = parseObject(text)
  if (parsed && isNativeCode(parsed.code)) {
    const { code, message, ...details } = parsed
    return new HeadwiseError(code as NativeErrorCode, typeof message === 'string' ? message : text, details, {
      cause: error,
    })
  }
  const status = error instanceof Error && 'code' in error ? error.code : undefined
  if (typeof status === 'string' && status.endsWith('Expected')) {
    return new HeadwiseError('InvalidArgument', text, { reason: text }, { cause: error })
  }
  if (status === 'InvalidArg') return new HeadwiseError('InvalidArgument', text, { reason: text }, { cause: error })
  return new HeadwiseError('Internal', text, { reason: text }, { cause: error })
}

function parseObject(text: string): Record<string, unknown> | undefined {
  if (!text.startsWith('{')) return undefined
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}

/** The error of an aborted call; its cause is the signal's reason. */
export function aborted(signal?: AbortSignal): HeadwiseError {
  return new HeadwiseError('Aborted', 'aborted', {}, { cause: signal?.reason })
}

/** The system error code (`ENOENT`, `EEXIST`, …) of anything thrown. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
