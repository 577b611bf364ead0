import { readFile } from 'node:fs/promises'
import { stderr, stdin, stdout } from 'node:process'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import type { CompressReport } from '../generated/engine.js'
import { one } from './arguments.js'
import { loadModel, MODEL_FLAGS, number, POLICY_FLAGS, policyFrom } from './options.js'
import { bytes } from './progress.js'

const HELP = `headwise run REF [PROMPT]: reads the prompt, compresses the cache, generates.

  --file FILE            a document that is read before the prompt ('-': standard input)
  --policy NAME          what to evict: a name or JSON (default: nothing)
  --keep F | --tokens-per-head N | --bytes N     its budget
  --agnostic             compress after the document, before the prompt is known
  --max-tokens N         default 256
  --temperature F        default 0 (greedy), with --top-k, --top-p, --min-p, --seed
  --stop TEXT            end before this text (repeatable)
  --threads N            kernel threads (default: physical cores)
  --kv-codec C           f16 (default), bf16, f32 or int8
  --stats                print figures to standard error
`

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...MODEL_FLAGS,
      ...POLICY_FLAGS,
      file: { type: 'string' },
      agnostic: { type: 'boolean', default: false },
      'max-tokens': { type: 'string' },
      temperature: { type: 'string' },
      'top-k': { type: 'string' },
      'top-p': { type: 'string' },
      'min-p': { type: 'string' },
      seed: { type: 'string' },
      stop: { type: 'string', multiple: true, default: [] },
      stats: { type: 'boolean', default: false },
      help: { type: 'boolean' },
    },
  })
  if (values.help) {
    stdout.write(HELP)
    return
  }
  const [reference, ...prompts] = positionals
  const file = values.file ?? (prompts.length === 0 ? '-' : undefined)
  const document = file === undefined ? '' : file === '-' ? await text(stdin) : await readFile(file, 'utf8')
  const prompt = prompts.length > 0 ? one(prompts, 'PROMPT') : ''
  const policy = policyFrom(values)
  const whole = (n: number) => Number.isInteger(n) && n >= 0
  const numbers = {
    temperature: number('temperature', values.temperature, (n) => n >= 0),
    topK: number('top-k', values['top-k'], whole),
    topP: number('top-p', values['top-p']),
    minP: number('min-p', values['min-p'], (n) => n >= 0),
    seed: number('seed', values.seed, whole),
  }
  const sampler = Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined))
  const maxTokens = number('max-tokens', values['max-tokens'], (n) => whole(n) && n > 0)

  await using model = await loadModel(one(reference === undefined ? [] : [reference], 'REF'), values)
  await using session = await model.createSession({ policy })
  let compression: CompressReport | null = null
  if (document) compression = (await session.prefill(document, { compress: values.agnostic || !prompt })).compression
  if (prompt)
    compression =
      (await session.prefill(prompt, { compress: !values.agnostic || !document })).compression ?? compression
  for await (const step of session.generate({ sampler, stop: values.stop, ...(maxTokens && { maxTokens }) })) {
    stdout.write(step.text)
  }
  stdout.write('\n')
  if (values.stats) {
    const stats = await session.stats()
    const per = (ms: number, tokens: number) => (tokens ? (ms / tokens).toFixed(1) : '-')
    if (compression) {
      const { before, after, ms } = compression
      stderr.write(
        `compressed ${bytes(before.physicalBytes)} to ${bytes(after.physicalBytes)} in ${ms.toFixed(1)} ms\n`,
      )
    }
    stderr.write(
      `prefill ${stats.prefillTokens} tokens, ${per(stats.prefillMs, stats.prefillTokens)} ms each; ` +
        `decode ${stats.decodeTokens} tokens, ${per(stats.decodeMs, stats.decodeTokens)} ms each; ` +
        `KV cache ${bytes(stats.memory.physicalBytes)}\n`,
    )
  }
}
