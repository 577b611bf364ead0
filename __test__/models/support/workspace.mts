import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { HeadwiseError, type HeadwiseErrorCode } from '../../../ts/errors.js'
import type { ProgressEvent, ResolveOptions } from '../../../ts/models/types.js'

/** A temporary folder of one test. */
export async function folder(t: ExecutionContext): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'headwise-test-'))
  t.teardown(() => rm(made, { recursive: true, force: true }))
  return made
}

/** Options that keep everything in `home` and never wait long, and the events they collect. */
export function options(home: string, endpoint: string, env: NodeJS.ProcessEnv = {}) {
  const events: ProgressEvent[] = []
  const given: ResolveOptions = {
    env: {
      PATH: process.env.PATH,
      HF_HOME: home,
      HEADWISE_CACHE: path.join(home, 'own'),
      HF_ENDPOINT: endpoint,
      ...env,
    },
    network: { retryDelayMs: 5, answerTimeoutMs: 5_000, stallTimeoutMs: 500 },
    onProgress: (event) => events.push(event),
  }
  return { given, events }
}

/** The HeadwiseError that a promise must fail with. */
export async function failure(
  t: ExecutionContext,
  promise: Promise<unknown>,
  code: HeadwiseErrorCode,
): Promise<HeadwiseError> {
  const error = await t.throwsAsync(promise, { instanceOf: HeadwiseError })
  t.is(error?.code, code, error?.message)
  return error as HeadwiseError
}
