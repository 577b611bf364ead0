import { stdout } from 'node:process'
import { parseArgs } from 'node:util'
import { one } from './arguments.js'
import { inspectKept } from './inspect-kept.js'
import { loadModel, MODEL_FLAGS } from './options.js'
import { bytes } from './progress.js'

const HELP = `headwise inspect REF: what a model is, and what its KV cache costs.

  --json                 as one JSON object
  --kv-codec C           f16 (default), bf16, f32 or int8

headwise inspect --kept --help: which tokens of a prompt each head keeps.
`

export async function inspect(args: string[]): Promise<void> {
  if (args.includes('--kept')) return inspectKept(args)
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { ...MODEL_FLAGS, json: { type: 'boolean', default: false }, help: { type: 'boolean' } },
  })
  if (values.help) {
    stdout.write(HELP)
    return
  }
  await using model = await loadModel(one(positionals, 'REF'), values)
  const { info } = model
  const tokenBytes = info.slotBytes * info.layers * info.kvHeads
  if (values.json) {
    stdout.write(
      `${JSON.stringify({ path: model.path, source: model.source, ...info, kvBytesPerToken: tokenBytes })}\n`,
    )
    return
  }
  const rows: [string, string | number][] = [
    ['file', model.path],
    ['from', model.source],
    ['architecture', info.architecture],
    ['parameters', `${(info.parameters / 1e6).toFixed(1)} million`],
    ['layers', info.layers],
    ['heads', `${info.queryHeads} query, ${info.kvHeads} KV, ${info.headDim} wide`],
    ['vocabulary', info.vocabSize],
    ['context', `${info.contextLength} tokens`],
    ['chat template', info.hasChatTemplate ? 'yes' : 'no'],
    ['KV cache', `${bytes(tokenBytes)} a token, ${bytes(tokenBytes * info.contextLength)} for the whole context`],
  ]
  for (const [name, value] of rows) stdout.write(`${name.padEnd(14)}${value}\n`)
}
