import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { HeadwiseError } from '../errors.js'
import type { LocalReference } from './reference.js'
import type { ResolvedModel } from './types.js'

/** A `.gguf` file, a folder with a safetensors model, or a folder with one `.gguf` file. */
export async function resolveLocal(reference: LocalReference): Promise<ResolvedModel> {
  const given = path.resolve(reference.path)
  const info = await stat(given).catch(() => undefined)
  if (!info) throw notFound(given, 'no such file or folder')
  const found = (format: ResolvedModel['format'], at: string): ResolvedModel => {
    return { path: at, format, source: 'local', reference: reference.path, cached: true }
  }
  if (info.isFile()) {
    // What a file holds is for the loader to say; a renamed GGUF file is still one.
    return found('gguf', given)
  }
  const names = await readdir(given)
  if (names.includes('config.json')) return found('safetensors', given)
  const ggufs = names.filter((name) => /\.gguf$/i.test(name)).sort()
  const [only, ...others] = ggufs
  if (only === undefined) throw notFound(given, 'neither config.json nor a .gguf file in this folder')
  if (others.length > 0) {
    throw new HeadwiseError('AmbiguousReference', `${given}: say which of ${ggufs.join(', ')}`, {
      reference: reference.path,
      candidates: ggufs,
    })
  }
  return found('gguf', path.join(given, only))
}

function notFound(given: string, reason: string): HeadwiseError {
  return new HeadwiseError('ModelNotFound', `${given}: ${reason}`, { reference: given, missing: reason })
}
