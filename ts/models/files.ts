import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, lstat, mkdir, readdir, rename, rm, stat, statfs, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { aborted, HeadwiseError, systemCode } from '../errors.js'

/** Whether a name that someone else wrote stays inside the folder it is joined to. */
export function isSafeRelative(name: string): boolean {
  if (name === '' || name.startsWith('/') || /[\\\0:]/.test(name)) return false
  return name.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}

/** Size of a regular file (links followed), or undefined when there is none. */
export async function fileSize(file: string): Promise<number | undefined> {
  const info = await stat(file).catch(() => undefined)
  return info?.isFile() ? info.size : undefined
}

/** All files below `root` as `/`-separated relative names, sorted; an absent folder has none. */
export async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])
  const files: string[] = []
  for (const entry of entries) {
    const full = path.join(entry.parentPath ?? entry.path, entry.name)
    if ((await fileSize(full)) !== undefined) files.push(path.relative(root, full).split(path.sep).join('/'))
  }
  return files.sort()
}

/** Writes a small file so that a reader sees the old text or the new one, never half of it. */
export async function writeAtomic(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true })
  const temporary = `${file}.${randomUUID()}`
  await writeFile(temporary, text)
  await rename(temporary, file)
}

/** Makes `link` show `target`; where links are not allowed (Windows without the right) it becomes a copy. */
export async function linkTo(target: string, link: string): Promise<void> {
  await mkdir(path.dirname(link), { recursive: true })
  const temporary = `${link}.${randomUUID()}`
  try {
    await symlink(path.relative(path.dirname(link), target), temporary)
  } catch (error) {
    if (!['EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'].includes(systemCode(error) ?? '')) throw error
    await copyFile(target, temporary)
  }
  await rename(temporary, link)
}

/** Whether something, even a broken link, has this name. */
export async function occupied(file: string): Promise<boolean> {
  return lstat(file).then(
    () => true,
    () => false,
  )
}

/** Fails before a transfer that the disk cannot take. */
export async function ensureSpace(folder: string, bytes: number): Promise<void> {
  const disk = await statfs(folder).catch(() => undefined)
  if (!disk) return
  const free = disk.bavail * disk.bsize
  if (bytes > free) {
    throw new HeadwiseError('NoSpace', `${folder}: ${bytes} bytes needed, ${free} free`, {
      folder,
      needed: bytes,
      free,
    })
  }
}

/** Removes a file or folder if it is there. */
export async function remove(file: string): Promise<void> {
  await rm(file, { recursive: true, force: true })
}

/** A digest that a file must have. */
export interface Digest {
  /** `git-blob` is git's object name: SHA-1 over `blob <size>\0` and the content. */
  algorithm: 'sha256' | 'git-blob'
  hex: string
}

/** Hashes a file and says whether it is the promised one. */
export async function matches(file: string, digest: Digest, signal?: AbortSignal): Promise<boolean> {
  const hash = createHash(digest.algorithm === 'sha256' ? 'sha256' : 'sha1')
  if (digest.algorithm === 'git-blob') hash.update(`blob ${await fileSize(file)}\0`)
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    if (signal?.aborted) throw aborted(signal)
    hash.update(chunk as Buffer)
  }
  return hash.digest('hex') === digest.hex.toLowerCase()
}
