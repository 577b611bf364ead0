// What scripts/isa.mjs runs in Node on an emulated CPU: the built package continues golden prompts as their oracle does.

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { Model, policy } from '../dist/index.js'
import { root } from './setup.mjs'

/** One tensor of 64-bit integers out of a safetensors file. @returns {number[]} */
function integers(/** @type {Buffer} */ file, /** @type {string} */ name) {
  const header = 8 + Number(file.readBigUInt64LE(0))
  const [start, end] = JSON.parse(file.toString('utf8', 8, header))[name].data_offsets
  return Array.from({ length: (end - start) / 8 }, (_, i) => Number(file.readBigInt64LE(header + start + 8 * i)))
}

for (const name of ['llama', 'qwen2', 'qwen3']) {
  const folder = path.join(root, 'crates/testkit/golden-models', name)
  const expected = readFileSync(path.join(folder, 'expected.safetensors'))
  const greedy = integers(expected, 'greedy')
  const prompt = Uint32Array.from(integers(expected, 'input_ids'))
  const model = await Model.load(folder, { kvCodec: 'f32' })
  const session = await model.createSession()
  const drawn = []
  for await (const step of session.generate({ prompt, ignoreEos: true, maxTokens: greedy.length }))
    drawn.push(step.token)
  if (greedy.length === 0 || drawn.join() !== greedy.join()) throw new Error(`${name}: ${drawn} instead of ${greedy}`)

  // What evicts has kernels of its own.
  const cut = await model.createSession({ policy: policy.adaSnapKV({ budget: { tokensPerHead: 40 }, window: 16 }) })
  const { memory } = await cut.prefill(prompt)
  const slots = 40 * model.info.layers * model.info.kvHeads
  if (memory.slots !== slots) throw new Error(`${name}: ${memory.slots} slots instead of ${slots}`)
  await model.dispose()
  process.stdout.write(`${name}: ${drawn.length} tokens as expected\n`)
}
