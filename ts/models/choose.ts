import { HeadwiseError } from '../errors.js'

/** What of a repository makes a model. */
export type Choice = { format: 'gguf'; file: string } | { format: 'safetensors' }

/** What llama.cpp and the hub take when nothing is said. */
const DEFAULT_QUANT = 'Q4_K_M'

/**
 * Picks from the file names of a repository: an exact path, an exact base name, a quantization name, `safetensors`;
 * without a wish the safetensors model if there is one, else the only GGUF file, else the Q4_K_M one.
 */
export function choose(names: readonly string[], select: string | undefined, reference: string): Choice {
  const ggufs = names.filter((name) => /\.gguf$/i.test(name) && !/(^|[-._/])mmproj/i.test(name))
  const safetensors = names.includes('config.json') && names.some((name) => name.endsWith('.safetensors'))
  if (select === 'safetensors' || (select === undefined && safetensors)) {
    if (safetensors) return { format: 'safetensors' }
    throw notFound(reference, 'no config.json with .safetensors files', ggufs)
  }
  if (ggufs.length === 0) throw notFound(reference, 'no .gguf file', names)
  const found =
    select === undefined
      ? ggufs.length === 1
        ? ggufs
        : ggufs.filter((name) => hasQuant(name, DEFAULT_QUANT))
      : fitting(ggufs, select)
  const [file, ...others] = found
  if (file === undefined) {
    if (select === undefined) throw ambiguous(reference, ggufs)
    throw notFound(reference, `no file and no quantization is called ${select}`, ggufs)
  }
  if (others.length > 0) throw ambiguous(reference, found)
  if (/-\d{5}-of-\d{5}\.gguf$/i.test(file)) {
    throw new HeadwiseError(
      'UnsupportedFeature',
      `${reference}: ${file} is split; split GGUF files are not supported`,
      {
        feature: 'split GGUF',
        value: file,
      },
    )
  }
  return { format: 'gguf', file }
}

function fitting(ggufs: string[], select: string): string[] {
  if (ggufs.includes(select)) return [select]
  const wish = select.toLowerCase()
  const named = ggufs.filter((name) => name.toLowerCase() === wish || baseName(name).toLowerCase() === wish)
  return named.length > 0 ? named : ggufs.filter((name) => hasQuant(name, select))
}

/** The quantization name that ends a file name, as llama.cpp's tools write it. */
const QUANT = /(?:^|[-._])((?:I?Q\d|TQ\d|MXFP4|NVFP4|BF16|F16|F32)[A-Z0-9_]*)$/i

/** `model-Q4_K_M.gguf`, `model.q4_k_m.gguf`, `Q4_K_M-00001-of-00002.gguf`; `Q4_K` is not found in `Q4_K_M`. */
function hasQuant(name: string, quant: string): boolean {
  const stem = baseName(name)
    .replace(/\.gguf$/i, '')
    .replace(/-\d{5}-of-\d{5}$/, '')
  return QUANT.exec(stem)?.[1]?.toLowerCase() === quant.toLowerCase()
}

function baseName(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1)
}

/** The files that a safetensors model needs besides its weights; the optional ones are taken when they are there. */
export const SAFETENSORS_REQUIRED = ['config.json', 'tokenizer.json'] as const
export const SAFETENSORS_OPTIONAL = ['tokenizer_config.json', 'generation_config.json', 'chat_template.jinja'] as const
export const SAFETENSORS_INDEX = 'model.safetensors.index.json'

/** The weight files: those of the index, `model.safetensors`, or the only one there is. */
export function weightFiles(names: readonly string[], index: string | undefined, reference: string): string[] {
  if (index !== undefined) {
    const files = [...new Set(Object.values(weightMap(index)))]
    if (files.length === 0 || !files.every((file): file is string => typeof file === 'string')) {
      throw new HeadwiseError('MalformedFile', `${reference}: ${SAFETENSORS_INDEX} has no weight_map`, {
        path: SAFETENSORS_INDEX,
        reason: 'no weight_map',
      })
    }
    // Names in the index are somebody's text: only files that the repository lists are ever joined to a path.
    const missing = files.find((file) => !names.includes(file))
    if (missing !== undefined) throw notFound(reference, `the index names ${missing}`, names)
    return files.sort()
  }
  if (names.includes('model.safetensors')) return ['model.safetensors']
  const all = names.filter((name) => name.endsWith('.safetensors'))
  if (all.length === 1) return all
  throw ambiguous(reference, all)
}

function weightMap(index: string): object {
  try {
    const map = (JSON.parse(index) as { weight_map?: unknown } | null)?.weight_map
    return map && typeof map === 'object' ? map : {}
  } catch {
    return {}
  }
}

function notFound(reference: string, missing: string, available: readonly string[]): HeadwiseError {
  const shown = available.slice(0, 40)
  const list = shown.length > 0 ? ` (there is: ${shown.join(', ')})` : ''
  return new HeadwiseError('ModelNotFound', `${reference}: ${missing}${list}`, { reference, missing, available: shown })
}

function ambiguous(reference: string, candidates: readonly string[]): HeadwiseError {
  const shown = candidates.slice(0, 40)
  return new HeadwiseError('AmbiguousReference', `${reference}: say which of ${shown.join(', ')}`, {
    reference,
    candidates: shown,
  })
}
