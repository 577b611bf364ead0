/*
 * The hub client. @huggingface/hub (2.17.5) was tried first: it knows the cache layout, but a broken download starts
 * from zero, no checksum is looked at, nothing is retried, an expired CDN link ends it, and it weighs 12 MB with the
 * Xet chunker it brings. What a loader needs is the two requests below and a transfer that can be trusted.
 */
import { readFile, rename } from 'node:fs/promises'
import path from 'node:path'
import { HeadwiseError } from '../errors.js'
import { choose, SAFETENSORS_INDEX, SAFETENSORS_OPTIONAL, SAFETENSORS_REQUIRED, weightFiles } from './choose.js'
import { type Context, hubHome, Reporter } from './context.js'
import { type Digest, fileSize, isSafeRelative } from './files.js'
import { ask, networkError, send, statusError, unexpected } from './http.js'
import { COMMIT, HubRepoCache, type RepoType } from './hub-cache.js'
import { withLock } from './lock.js'
import { formatReference, type HubReference } from './reference.js'
import { transfer } from './transfer.js'
import type { ResolvedModel } from './types.js'

/** A listing of this size is a mistake or an attack. */
const MAX_LISTING_BYTES = 32 << 20

/** Finds a model of the hub in the cache, or fetches it. `sha256` pins the content of a single file. */
export async function resolveHub(context: Context, reference: HubReference, sha256?: string): Promise<ResolvedModel> {
  const repo = new HubRepo(context, 'models', reference, sha256)
  return repo.resolve(
    () => repo.fromCache(),
    () => repo.fromNetwork(),
  )
}

/** Finds one file of a data set of the hub in the cache, or fetches it; gives its path. */
export async function resolveHubData(context: Context, reference: HubReference, file: string): Promise<string> {
  const repo = new HubRepo(context, 'datasets', reference)
  return repo.resolve(
    () => repo.fileFromCache(file),
    () => repo.fileFromNetwork(file),
  )
}

/** The model if the cache has it; never asks the network. */
export async function hubFromCache(context: Context, reference: HubReference): Promise<ResolvedModel | undefined> {
  const repo = new HubRepo(context, 'models', reference)
  const cached = await repo.fromCache()
  if (cached) repo.announce('in the cache')
  return cached
}

class HubRepo {
  readonly #context: Context
  readonly #type: RepoType
  readonly #reference: HubReference
  readonly #text: string
  readonly #cache: HubRepoCache
  readonly #report: Reporter
  readonly #endpoint: string
  readonly #sha256: string | undefined
  #token: string | undefined
  #fetched = false

  constructor(context: Context, type: RepoType, reference: HubReference, sha256?: string) {
    this.#context = context
    this.#type = type
    this.#reference = reference
    this.#sha256 = sha256
    this.#text = formatReference(reference)
    this.#cache = new HubRepoCache(context, type, reference.repo)
    this.#report = new Reporter(context, 'hub', this.#text)
    this.#endpoint = endpoint(context)
  }

  /** From the cache where that is enough or all there is, else from the network. */
  async resolve<T>(fromCache: () => Promise<T | undefined>, fromNetwork: () => Promise<T>): Promise<T> {
    const { offline } = this.#context
    // A commit never changes: what is there of it needs no question.
    if (offline || COMMIT.test(this.#reference.revision)) {
      const cached = await fromCache()
      if (cached) {
        this.announce(offline ? 'offline' : 'pinned to a commit')
        return cached
      }
      if (offline) throw this.#notCached()
    }
    try {
      return await fromNetwork()
    } catch (error) {
      if (!(error instanceof HeadwiseError) || error.code !== 'NetworkUnreachable') throw error
      const cached = await fromCache()
      if (!cached) throw error
      this.announce(error.message)
      return cached
    }
  }

  announce(reason: string): void {
    this.#report.step('cached', { reason })
  }

  #notCached(): HeadwiseError {
    const { hubCache } = this.#context
    return new HeadwiseError('NotCached', `${this.#text}: not in ${hubCache}, and offline was asked for`, {
      reference: this.#text,
      cache: hubCache,
    })
  }

  async fromCache(): Promise<ResolvedModel | undefined> {
    const commit = await this.#cache.commitOf(this.#reference.revision)
    if (!commit) return undefined
    const names = await this.#cache.names(commit)
    try {
      const choice = choose(names, this.#reference.select, this.#text)
      if (choice.format === 'gguf') return this.#model('gguf', commit, this.#cache.file(commit, choice.file))
      const index = names.includes(SAFETENSORS_INDEX)
        ? await readFile(this.#cache.file(commit, SAFETENSORS_INDEX), 'utf8')
        : undefined
      weightFiles(names, index, this.#text)
      if (!SAFETENSORS_REQUIRED.every((name) => names.includes(name))) return undefined
      return this.#model('safetensors', commit, this.#cache.snapshot(commit))
    } catch (error) {
      // Half a snapshot is no model: what is missing is fetched, or reported as not cached.
      if (error instanceof HeadwiseError) return undefined
      throw error
    }
  }

  async fileFromCache(name: string): Promise<string | undefined> {
    const commit = await this.#cache.commitOf(this.#reference.revision)
    return commit && (await this.#cache.has(commit, name)) ? this.#cache.file(commit, name) : undefined
  }

  async fileFromNetwork(name: string): Promise<string> {
    this.#report.step('resolve')
    this.#token = await readToken(this.#context)
    const commit = await this.#ensure(this.#reference.revision, name)
    await this.#cache.remember(this.#reference.revision, commit)
    return this.#cache.file(commit, name)
  }

  async fromNetwork(): Promise<ResolvedModel> {
    this.#report.step('resolve')
    this.#token = await readToken(this.#context)
    const { revision, select } = this.#reference
    // An exact file name needs no listing, so one request tells everything.
    if (select !== undefined && /\.gguf$/i.test(select)) {
      choose([select], select, this.#text)
      const commit = await this.#ensure(revision, select)
      return this.#done('gguf', commit, this.#cache.file(commit, select))
    }
    const { commit, names } = await this.#list()
    const choice = choose(names, select, this.#text)
    if (choice.format === 'gguf') {
      await this.#ensure(commit, choice.file)
      return this.#done('gguf', commit, this.#cache.file(commit, choice.file))
    }
    for (const name of SAFETENSORS_REQUIRED) await this.#ensure(commit, name)
    for (const name of SAFETENSORS_OPTIONAL) if (names.includes(name)) await this.#ensure(commit, name)
    let index: string | undefined
    if (names.includes(SAFETENSORS_INDEX)) {
      await this.#ensure(commit, SAFETENSORS_INDEX)
      index = await readFile(this.#cache.file(commit, SAFETENSORS_INDEX), 'utf8')
    }
    for (const name of weightFiles(names, index, this.#text)) await this.#ensure(commit, name)
    return this.#done('safetensors', commit, this.#cache.snapshot(commit))
  }

  #model(format: ResolvedModel['format'], commit: string, modelPath: string): ResolvedModel {
    return { path: modelPath, format, source: 'hub', reference: this.#text, revision: commit, cached: !this.#fetched }
  }

  /** A revision is remembered last, so that offline use never meets a commit whose files are still on the way. */
  async #done(format: ResolvedModel['format'], commit: string, modelPath: string): Promise<ResolvedModel> {
    await this.#cache.remember(this.#reference.revision, commit)
    const model = this.#model(format, commit, modelPath)
    if (model.cached) this.#report.step('cached', { reason: 'unchanged on the hub' })
    return model
  }

  /** The commit of the revision and all file names of it. */
  async #list(): Promise<{ commit: string; names: string[] }> {
    const { repo, revision } = this.#reference
    const url = `${this.#endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}`
    return ask(this.#context, async (deadline) => {
      const call = { method: 'GET', token: this.#token, trusted: new URL(url).origin, follow: 'all' } as const
      const response = (await send(this.#context, url, call, deadline)).at(-1) as Response
      if (!response.ok) {
        await response.body?.cancel()
        throw statusError(response, url, this.#text)
      }
      let text = ''
      try {
        const decoder = new TextDecoder()
        for await (const chunk of response.body ?? []) {
          text += decoder.decode(chunk, { stream: true })
          if (text.length > MAX_LISTING_BYTES) throw unexpected(url, 'the listing is too long')
        }
      } catch (error) {
        throw networkError(this.#context, url, error)
      }
      return readListing(text, url)
    })
  }

  /** Makes the snapshot of `revision` show `name`, and says which commit that is. */
  async #ensure(revision: string, name: string): Promise<string> {
    if (COMMIT.test(revision) && (await this.#cache.has(revision, name))) return revision
    const repo = `${this.#type === 'datasets' ? 'datasets/' : ''}${this.#reference.repo}`
    const url = `${this.#endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/${encodePath(name)}`
    const facts = await this.#facts(url)
    if (this.#sha256 !== undefined && facts.etag !== this.#sha256) {
      throw new HeadwiseError('ChecksumMismatch', `${this.#text}: the hub has other content than the pinned one`, {
        reference: this.#text,
        file: name,
        expected: this.#sha256,
        got: facts.etag,
      })
    }
    const blob = this.#cache.blob(facts.etag)
    const digest = digestOf(facts.etag)
    // A name of our own beside the other clients' `<etag>.incomplete`: they do not know our lock, nor we theirs.
    const partial = `${blob}.headwise.incomplete`
    if ((await fileSize(blob)) === undefined) {
      const onWait = () => this.#report.step('wait', { file: name })
      await withLock(`${blob}.headwise.lock`, this.#context.signal, onWait, async () => {
        if ((await fileSize(blob)) !== undefined) return
        this.#fetched = true
        const call = { method: 'GET', token: this.#token, trusted: new URL(url).origin, follow: 'all' } as const
        const job = { url, call, reference: this.#text, file: name, target: partial, size: facts.size, digest }
        await transfer(this.#context, job, this.#report)
        await rename(partial, blob)
      })
    }
    await this.#cache.link(facts.commit, name, blob)
    return facts.commit
  }

  /** Commit, ETag and size of a file, without its content. */
  async #facts(url: string): Promise<{ commit: string; etag: string; size: number | undefined }> {
    const trusted = new URL(url).origin
    return ask(this.#context, async (deadline) => {
      const call = { method: 'HEAD', token: this.#token, trusted, follow: 'same-origin' } as const
      const answers = await send(this.#context, url, call, deadline)
      const last = answers.at(-1) as Response
      if (last.status >= 400) throw statusError(last, url, this.#text)
      // Large files answer with a redirect to a CDN, whose own ETag and length say nothing: X-Linked-* come first.
      const header = (name: string) =>
        answers
          .map((answer) => answer.headers.get(name))
          .reverse()
          .find((value) => value !== null)
      const commit = header('x-repo-commit')
      const etag = (header('x-linked-etag') ?? header('etag'))?.replace(/^W\//, '').replaceAll('"', '')
      if (!commit || !COMMIT.test(commit) || !etag) {
        throw unexpected(url, 'no X-Repo-Commit or no ETag: this is not a hub', last.status)
      }
      const length = header('x-linked-size') ?? (last.ok ? last.headers.get('content-length') : undefined)
      return { commit, etag, size: length && /^\d+$/.test(length) ? Number(length) : undefined }
    })
  }
}

/** LFS files have their SHA-256 as ETag, small ones git's object name; a mirror may have something else. */
function digestOf(etag: string): Digest | undefined {
  if (/^[0-9a-f]{64}$/i.test(etag)) return { algorithm: 'sha256', hex: etag }
  if (/^[0-9a-f]{40}$/i.test(etag)) return { algorithm: 'git-blob', hex: etag }
  return undefined
}

function readListing(text: string, url: string): { commit: string; names: string[] } {
  let listing: { sha?: unknown; siblings?: unknown }
  try {
    listing = JSON.parse(text)
  } catch {
    throw unexpected(url, 'the listing is not JSON')
  }
  const { sha, siblings } = listing ?? {}
  if (typeof sha !== 'string' || !COMMIT.test(sha) || !Array.isArray(siblings)) {
    throw unexpected(url, 'the listing has no commit or no files')
  }
  const names = siblings.map((sibling: { rfilename?: unknown } | null) => sibling?.rfilename)
  return {
    commit: sha,
    names: names.filter((name): name is string => typeof name === 'string' && isSafeRelative(name)),
  }
}

function encodePath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/')
}

function endpoint(context: Context): string {
  const text = (context.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '')
  if (!URL.canParse(text) || !/^https?:/.test(text)) {
    throw new HeadwiseError('InvalidArgument', `HF_ENDPOINT = ${text}: expected an http(s) URL`, {
      name: 'HF_ENDPOINT',
      value: text,
      expected: 'an http(s) URL',
    })
  }
  return text
}

/** `HF_TOKEN`, else the file where the hub's own command keeps it. */
async function readToken(context: Context): Promise<string | undefined> {
  const { env } = context
  const inline = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN)?.trim()
  if (inline) return inline
  const file = env.HF_TOKEN_PATH || path.join(hubHome(env), 'token')
  return (await readFile(file, 'utf8').catch(() => '')).trim() || undefined
}
