import { setTimeout as sleep } from 'node:timers/promises'
import { aborted, HeadwiseError } from '../errors.js'
import type { Context } from './context.js'

const MAX_REDIRECTS = 10
const MAX_PAUSE_MS = 10_000

/** A failure that may pass: no answer, a cut transfer, 408, 429, 5xx. */
export class Transient extends Error {
  readonly error: HeadwiseError
  /** Pause that the server asked for, in ms. */
  readonly afterMs: number | undefined

  constructor(error: HeadwiseError, afterMs?: number) {
    super(error.message)
    this.error = error
    this.afterMs = afterMs
  }
}

/** An abort signal that also fires after `ms` without `refresh()`. */
export class Deadline {
  readonly #controller = new AbortController()
  readonly #outer: AbortSignal | undefined
  readonly #forward = () => this.#controller.abort(this.#outer?.reason)
  #timer: NodeJS.Timeout | undefined

  constructor(ms: number, outer: AbortSignal | undefined) {
    this.#outer = outer
    if (outer?.aborted) this.#forward()
    else outer?.addEventListener('abort', this.#forward, { once: true })
    this.refresh(ms)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  refresh(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#controller.abort(new Error(`no answer for ${ms} ms`)), ms)
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#outer?.removeEventListener('abort', this.#forward)
  }
}

export interface Call {
  method: 'GET' | 'HEAD'
  headers?: Record<string, string>
  /** Bearer token; sent to `trusted` and to no other origin. */
  token?: string | undefined
  /** Origin that may see the token. */
  trusted: string
  /** `same-origin` stops at (and returns) the first redirect that leaves `trusted`. */
  follow: 'all' | 'same-origin'
}

/** One request with its redirects, as a list of answers of which the last one counts. Network failures are Transient. */
export async function send(context: Context, url: string, call: Call, deadline: Deadline): Promise<Response[]> {
  const answers: Response[] = []
  let target = new URL(url)
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const headers: Record<string, string> = {
      // Ranges and sizes mean nothing on a compressed stream.
      'accept-encoding': 'identity',
      'user-agent': 'headwise',
      ...call.headers,
    }
    if (call.token && target.origin === call.trusted) headers.authorization = `Bearer ${call.token}`
    let response: Response
    try {
      response = await fetch(target, { method: call.method, headers, redirect: 'manual', signal: deadline.signal })
    } catch (cause) {
      throw networkError(context, target, cause)
    }
    answers.push(response)
    const location = response.headers.get('location')
    if (response.status < 300 || response.status > 399 || !location) return answers
    const next = new URL(location, target)
    if (target.protocol === 'https:' && next.protocol !== 'https:') {
      throw unexpected(target, `redirects to ${next.protocol}`, response.status)
    }
    if (call.follow === 'same-origin' && next.origin !== call.trusted) return answers
    await response.body?.cancel()
    target = next
  }
  throw unexpected(target, `more than ${MAX_REDIRECTS} redirects`)
}

/** A failure of the network, as Aborted (the caller's wish) or Transient. */
export function networkError(context: Context, url: URL | string, cause: unknown): Error {
  if (context.signal?.aborted) return aborted(context.signal)
  if (cause instanceof HeadwiseError || cause instanceof Transient) return cause
  const host = new URL(url).host
  const reason = reasonOf(cause)
  return new Transient(
    new HeadwiseError('NetworkUnreachable', `${host} cannot be reached: ${reason}`, { host, reason }, { cause }),
  )
}

/** fetch says "fetch failed" and hides the reason one level down. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const inner = error.cause instanceof Error ? error.cause : undefined
  return inner?.message || (inner as { code?: string } | undefined)?.code || error.message
}

/** A server that does not keep to the protocol. */
export function unexpected(url: URL | string, reason: string, status?: number): HeadwiseError {
  const { origin, pathname } = new URL(url)
  const details = { url: origin + pathname, reason, ...(status === undefined ? {} : { status }) }
  return new HeadwiseError('UnexpectedResponse', `${details.url}: ${reason}`, details)
}

/** The error that a status stands for; 408, 429 and 5xx are Transient. */
export function statusError(response: Response, url: string, reference: string): Error {
  const status = response.status
  const said = response.headers.get('x-error-message') ?? undefined
  const details = { reference, status, ...(said ? { said } : {}) }
  if (status === 401 || status === 403) {
    const gated = status === 403 || response.headers.get('x-error-code') === 'GatedRepo'
    const advice = gated
      ? 'it is private or gated: accept its terms on the hub and set HF_TOKEN to a token that may read it'
      : 'it does not exist, or is private or gated: check the name, or set HF_TOKEN'
    return new HeadwiseError('Unauthorized', `${reference}: the hub answers ${status}; ${advice}`, details)
  }
  if (status === 404 || status === 410) {
    const what = { RevisionNotFound: 'revision', EntryNotFound: 'file', RepoNotFound: 'repository' }[
      response.headers.get('x-error-code') ?? ''
    ]
    return new HeadwiseError('ModelNotFound', `${reference}: ${what ?? 'no such model'} not found on the hub`, {
      ...details,
      ...(what ? { missing: what } : {}),
    })
  }
  const error = unexpected(url, `status ${status}`, status)
  if (status === 408 || status === 429 || status >= 500) return new Transient(error, retryAfter(response))
  return error
}

function retryAfter(response: Response): number | undefined {
  const value = response.headers.get('retry-after')
  if (!value) return undefined
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(0, Math.min(ms, 60_000)) : undefined
}

/** Waits before attempt `attempt` (0 = first retry), with jitter so that many clients do not return at once. */
export async function pause(context: Context, attempt: number, transient: Transient): Promise<void> {
  const backoff = Math.min(context.network.retryDelayMs * 2 ** attempt, MAX_PAUSE_MS)
  const ms = Math.max(transient.afterMs ?? 0, backoff * (0.5 + Math.random() / 2))
  await sleep(ms, undefined, context.signal ? { signal: context.signal } : {}).catch(() => {
    throw aborted(context.signal)
  })
}

/** Asks until there is an answer that is not Transient. */
export async function ask<T>(context: Context, question: (deadline: Deadline) => Promise<T>): Promise<T> {
  const { answerTimeoutMs, answerRetries } = context.network
  for (let attempt = 0; ; attempt++) {
    const deadline = new Deadline(answerTimeoutMs, context.signal)
    try {
      return await question(deadline)
    } catch (error) {
      if (!(error instanceof Transient)) throw error
      if (attempt >= answerRetries) throw error.error
      await pause(context, attempt, error)
    } finally {
      deadline.clear()
    }
  }
}
