// What llama.cpp says about the text and the prompts of this folder: token ids, raw logits, greedy continuations.
// Usage: node llama.mjs MODEL.gguf OUT.json [--exact]   (needs `npm i node-llama-cpp@3.22.1` in a folder above)
import { readFileSync, writeFileSync } from 'node:fs'
import { GgmlType, getLlama, LlamaLogLevel } from 'node-llama-cpp'

const [modelPath, outPath, flag] = process.argv.slice(2)
// With --exact nothing is rounded below float32: a float32 cache, and not the flash attention kernel, which rounds inside.
const exact = flag === '--exact'
const cacheType = exact ? GgmlType.F32 : GgmlType.F16
const STEPS = 32
const here = (name) => new URL(name, import.meta.url)

const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error })
const model = await llama.loadModel({ modelPath, gpuLayers: 0 })
const context = await model.createContext({
  contextSize: 2048,
  batchSize: 512,
  threads: 2,
  flashAttention: exact ? false : 'auto',
  experimentalKvCacheKeyType: cacheType,
  experimentalKvCacheValueType: cacheType,
})
const sequence = context.getSequence()

/** Evaluates `tokens` behind what the sequence holds; for each, the top `top` [token, logit] pairs and log Σ exp(logit). */
async function evaluate(tokens, top, targets) {
  const items = tokens.map((token, i) => [
    token,
    {
      generateNext: {
        logits: { filter: { tokens: targets?.[i] === undefined ? [] : [targets[i]], includeTop: top } },
        totalLogitWeight: true,
      },
    },
  ])
  const outputs = await sequence.controlledEvaluate(items)
  return outputs.map(({ next }) => {
    const logits = [...next.logits].sort((a, b) => b[1] - a[1])
    return { logits, logSum: logits[0][1] + Math.log(next.totalLogitWeight) }
  })
}

/** −log p of every token but the first, given those before it. */
async function nll(tokens) {
  await sequence.clearHistory()
  const rows = await evaluate(tokens.slice(0, -1), 1, tokens.slice(1))
  return rows.map(({ logits, logSum }, i) => logSum - new Map(logits).get(tokens[i + 1]))
}

/** Greedy tokens after a prompt, with the two highest logits of each step. */
async function greedy(prompt) {
  await sequence.clearHistory()
  const tokens = []
  const steps = []
  let pending = prompt
  while (tokens.length < STEPS) {
    const { logits } = (await evaluate(pending, 2)).at(-1)
    steps.push(logits.slice(0, 2))
    tokens.push(logits[0][0])
    pending = [logits[0][0]]
  }
  return { tokens, margins: steps.map(([first, second]) => first[1] - second[1]), text_out: model.detokenize(tokens) }
}

const text = model.tokenize(readFileSync(here('nll.txt'), 'utf8'), false)
const prompts = []
for (const { name, text } of JSON.parse(readFileSync(here('prompts.json'), 'utf8'))) {
  const prompt = model.tokenize(text, false)
  prompts.push({ name, text, prompt, ...(await greedy(prompt)) })
}
const result = { release: llama.llamaCppRelease.release, nodeLlamaCpp: '3.22.1', text, nll: await nll(text), prompts }
writeFileSync(outPath, JSON.stringify(result))
await llama.dispose()
