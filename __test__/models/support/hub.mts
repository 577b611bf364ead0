import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'

export const COMMIT = 'a'.repeat(40)

export interface HubFile {
  content: Buffer
  /** Large files are redirected to the CDN, small ones are answered by the hub itself. */
  lfs: boolean
}

/** How the CDN misbehaves. A fault is used up by the request that meets it, in order. */
export type Fault =
  | { kind: 'cut'; after: number }
  /** A proxy that lost the end, and says a length to match. */
  | { kind: 'short'; after: number }
  | { kind: 'status'; status: number; headers?: Record<string, string> }
  | { kind: 'silence'; after: number }

export interface Repo {
  files: Record<string, HubFile>
  commit?: string
  token?: string
  gated?: boolean
}

export interface Seen {
  server: 'hub' | 'cdn'
  method: string
  path: string
  range: string | undefined
  authorization: string | undefined
  /** When it came, in ms. */
  at: number
}

export const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')
export const gitBlob = (data: Buffer) => createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex')
export const lfs = (content: Buffer): HubFile => ({ content, lfs: true })
export const small = (content: string): HubFile => ({ content: Buffer.from(content), lfs: false })

/** Bytes that no run-length or offset mistake can reproduce by chance. */
export function noise(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out[i] = state >>> 24
  }
  return out
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Speaks the hub's protocol as its clients see it: a listing, `resolve` with redirects to a CDN, ranges, ETags. */
export class TestHub {
  readonly seen: Seen[] = []
  readonly faults: Fault[] = []
  readonly hubFaults: Fault[] = []
  ignoreRange = false
  corrupt = false
  /** Milliseconds between chunks of 64 KiB. */
  pace = 0
  readonly #repos: Record<string, Repo>
  readonly #hub: Server
  readonly #cdn: Server
  /** Where clients are sent; stays known after `stop()`. */
  endpoint = ''
  #cdnOrigin = ''

  private constructor(repos: Record<string, Repo>) {
    this.#repos = repos
    this.#hub = createServer((request, response) => void this.#answer('hub', request, response))
    this.#cdn = createServer((request, response) => void this.#answer('cdn', request, response))
  }

  static async start(t: ExecutionContext, repos: Record<string, Repo>): Promise<TestHub> {
    const hub = new TestHub(repos)
    hub.endpoint = await listen(hub.#hub)
    hub.#cdnOrigin = await listen(hub.#cdn)
    t.teardown(() => hub.stop())
    return hub
  }

  stop(): void {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections()
      server.close()
    }
  }

  /** Requests that moved content. */
  transfers(): Seen[] {
    return this.seen.filter((seen) => seen.server === 'cdn' && seen.method === 'GET')
  }

  async #answer(server: 'hub' | 'cdn', request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://test')
    const path = decodeURIComponent(url.pathname)
    const { range, authorization } = request.headers
    this.seen.push({ server, method: request.method ?? '', path, range, authorization, at: performance.now() })
    if (server === 'cdn') return this.#blob(path, request, response)
    const fault = this.hubFaults.shift()
    if (fault?.kind === 'status') return void response.writeHead(fault.status, fault.headers).end()
    if (fault) return
    const api = /^\/api\/models\/(?<name>.+)\/revision\/(?<revision>.+)$/.exec(path)?.groups
    const resolve = /^\/(?<name>(?:datasets\/)?[^/]+\/[^/]+)\/resolve\/(?<revision>[^/]+)\/(?<file>.+)$/.exec(
      path,
    )?.groups
    const { name, revision } = api ?? resolve ?? {}
    const repo = name === undefined ? undefined : this.#repos[name]
    if (!repo) return void response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end()
    if (repo.token !== undefined && authorization !== `Bearer ${repo.token}`) {
      const status = authorization ? 403 : 401
      const code = repo.gated ? 'GatedRepo' : 'RepoNotFound'
      return void response.writeHead(status, { 'x-error-code': code, 'x-error-message': 'no access' }).end()
    }
    const commit = repo.commit ?? COMMIT
    if (revision !== 'main' && revision !== commit) {
      return void response.writeHead(404, { 'x-error-code': 'RevisionNotFound' }).end()
    }
    if (api) {
      const siblings = Object.keys(repo.files).map((rfilename) => ({ rfilename }))
      return void response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ sha: commit, siblings }))
    }
    const file = repo.files[resolve?.file ?? '']
    if (!file) return void response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end()
    if (file.lfs) {
      const sum = sha256(file.content)
      const headers = {
        location: `${this.#cdnOrigin}/${sum}?signature=secret`,
        'x-repo-commit': commit,
        'x-linked-etag': `"${sum}"`,
        'x-linked-size': String(file.content.length),
        etag: '"of-the-redirect"',
      }
      return void response.writeHead(302, headers).end()
    }
    const headers = {
      'x-repo-commit': commit,
      etag: `"${gitBlob(file.content)}"`,
      'content-length': String(file.content.length),
    }
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : file.content)
  }

  async #blob(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = this.faults.shift()
    if (fault?.kind === 'status') return void response.writeHead(fault.status, fault.headers).end()
    const files = Object.values(this.#repos).flatMap((repo) => Object.values(repo.files))
    const file = files.find((candidate) => `/${sha256(candidate.content)}` === path)
    if (!file) return void response.writeHead(404).end()
    const content = Buffer.from(file.content)
    if (this.corrupt) content[content.length >> 1] = (content[content.length >> 1] ?? 0) ^ 1
    const asked = this.ignoreRange ? undefined : /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1]
    const start = Number(asked ?? 0)
    if (start >= content.length) {
      return void response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end()
    }
    const end = fault ? start + fault.after : content.length
    response.writeHead(asked === undefined ? 200 : 206, {
      etag: '"of-the-cdn"',
      'content-length': String((fault?.kind === 'short' ? end : content.length) - start),
      ...(asked === undefined ? {} : { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` }),
    })
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    for (let at = start; at < end && !gone.signal.aborted; at += 1 << 16) {
      const flowing = response.write(content.subarray(at, Math.min(at + (1 << 16), end)))
      if (!flowing) await once(response, 'drain', { signal: gone.signal }).catch(() => {})
      if (this.pace > 0) await sleep(this.pace)
    }
    if (fault?.kind === 'silence') return
    // The bytes before the cut must arrive, or there would be nothing to resume.
    if (fault?.kind === 'cut') setTimeout(() => response.destroy(), 100)
    else response.end()
  }
}
