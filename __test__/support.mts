import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { HeadwiseError, type HeadwiseErrorCode, Model } from '../ts/index.js'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Three layers of random weights, 320 tokens, no tokenizer: sessions take token ids and generate tokens without text. */
export const TINY = path.join(root, 'crates/testkit/golden-models/llama')

export const tiny = (options = {}): Promise<Model> => Model.load(TINY, { threads: 2, ...options })

/** SmolLM2-135M-Instruct; `npm test` says where it is. */
export function realModel(): Promise<Model> {
  const file = process.env.HEADWISE_MODEL
  if (!file) throw new Error('HEADWISE_MODEL is not set: run the tests with npm test')
  return Model.load(file, { threads: 2 })
}

/** Token ids that differ from one another in a fixed, scattered way. */
export const tokens = (count: number, seed = 1): number[] =>
  Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729 + ((i * i) % 97)) % 320)

/** The error that a call fails with must be a HeadwiseError with this code. */
export async function fails(
  t: ExecutionContext,
  code: HeadwiseErrorCode,
  body: () => Promise<unknown>,
): Promise<HeadwiseError> {
  const error = await t.throwsAsync(body, { instanceOf: HeadwiseError })
  t.is(error.code, code, error.message)
  return error
}
