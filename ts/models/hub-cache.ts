import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Context } from './context.js'
import { fileSize, isSafeRelative, linkTo, listFiles, occupied, remove, writeAtomic } from './files.js'

export const COMMIT = /^[0-9a-f]{40}$/

/** What a repository of the hub holds. */
export type RepoType = 'models' | 'datasets'

/**
 * One repository in the hub's cache, in the layout that all its clients share:
 * `models--org--name/{blobs/<etag>, refs/<revision>, snapshots/<commit>/<file> → blob}`; `datasets--…` for data sets.
 */
export class HubRepoCache {
  readonly root: string

  constructor(context: Context, type: RepoType, repo: string) {
    this.root = path.join(context.hubCache, `${type}--${repo.replaceAll('/', '--')}`)
  }

  /** The commit that a revision stood for when it was last looked up. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision
    const text = await readFile(path.join(this.root, 'refs', ...revision.split('/')), 'utf8').catch(() => '')
    return COMMIT.test(text.trim()) ? text.trim() : undefined
  }

  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return
    await writeAtomic(path.join(this.root, 'refs', ...revision.split('/')), commit)
  }

  snapshot(commit: string): string {
    return path.join(this.root, 'snapshots', commit)
  }

  /** Path of a file of a snapshot. */
  file(commit: string, name: string): string {
    return path.join(this.snapshot(commit), ...name.split('/'))
  }

  async has(commit: string, name: string): Promise<boolean> {
    return (await fileSize(this.file(commit, name))) !== undefined
  }

  async names(commit: string): Promise<string[]> {
    return listFiles(this.snapshot(commit))
  }

  /** Path of the content with this ETag; ETags that are no plain name (some mirrors' are not) are hashed into one. */
  blob(etag: string): string {
    const plain = /^[A-Za-z0-9_-]+$/.test(etag) && isSafeRelative(etag)
    return path.join(this.root, 'blobs', plain ? etag : createHash('sha256').update(etag).digest('hex'))
  }

  /** Shows a blob as a file of a snapshot. */
  async link(commit: string, name: string, blob: string): Promise<void> {
    const link = this.file(commit, name)
    if ((await fileSize(link)) !== undefined) return
    if (await occupied(link)) await remove(link)
    await linkTo(blob, link)
  }
}
