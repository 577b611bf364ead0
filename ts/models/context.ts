import { homedir } from 'node:os'
import path from 'node:path'
import { aborted } from '../errors.js'
import type { ModelSource, NetworkOptions, ProgressEvent, ResolveOptions } from './types.js'

export const DEFAULT_NETWORK: NetworkOptions = {
  answerTimeoutMs: 10_000,
  answerRetries: 4,
  stallTimeoutMs: 30_000,
  transferRetries: 5,
  retryDelayMs: 500,
}

/** What every source needs to know: options with their defaults, environment, cache folders. */
export interface Context {
  env: NodeJS.ProcessEnv
  offline: boolean
  network: NetworkOptions
  /** Hub cache (the folder with `models--org--name`). */
  hubCache: string
  /** headwise's own cache of wheels' files. */
  pypiCache: string
  signal?: AbortSignal
  report(event: ProgressEvent): void
}

export function createContext(options: ResolveOptions): Context {
  const env = options.env ?? process.env
  return {
    env,
    offline: options.offline ?? isTrue(env.HF_HUB_OFFLINE),
    network: { ...DEFAULT_NETWORK, ...options.network },
    hubCache: options.cacheDir ? path.resolve(options.cacheDir, 'hub') : hubCache(env),
    pypiCache: options.cacheDir ? path.resolve(options.cacheDir, 'pypi') : path.join(ownCache(env), 'pypi'),
    ...(options.signal ? { signal: options.signal } : {}),
    report: (event) => options.onProgress?.(event),
  }
}

/** Throws when the caller has given up. */
export function checkSignal(context: Context): void {
  if (context.signal?.aborted) throw aborted(context.signal)
}

/** Progress of one reference, at most ten byte counts a second. */
export class Reporter {
  readonly #context: Context
  readonly #source: ModelSource
  readonly #reference: string
  #last = 0

  constructor(context: Context, source: ModelSource, reference: string) {
    this.#context = context
    this.#source = source
    this.#reference = reference
  }

  step(phase: ProgressEvent['phase'], more: Omit<ProgressEvent, 'phase' | 'source' | 'reference'> = {}): void {
    this.#context.report({ phase, source: this.#source, reference: this.#reference, ...more })
  }

  bytes(phase: 'download' | 'unpack', file: string, received: number, total: number | undefined): void {
    const now = performance.now()
    if (received !== total && now - this.#last < 100) return
    this.#last = now
    this.step(phase, { file, received, ...(total === undefined ? {} : { total }) })
  }
}

/** The hub's own home folder, as its clients agree on it. */
export function hubHome(env: NodeJS.ProcessEnv): string {
  return env.HF_HOME || path.join(env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'huggingface')
}

function hubCache(env: NodeJS.ProcessEnv): string {
  return path.resolve(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || path.join(hubHome(env), 'hub'))
}

function ownCache(env: NodeJS.ProcessEnv): string {
  if (env.HEADWISE_CACHE) return path.resolve(env.HEADWISE_CACHE)
  if (process.platform === 'win32' && env.LOCALAPPDATA) return path.join(env.LOCALAPPDATA, 'headwise')
  return path.join(env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'headwise')
}

function isTrue(value: string | undefined): boolean {
  return ['1', 'true', 'yes', 'on'].includes(value?.toLowerCase() ?? '')
}
