import { getLlama, LlamaLogLevel } from 'node-llama-cpp'

const GREEDY = { temperature: 0 }

/** llama.cpp through node-llama-cpp, as it comes: prebuilt binary, CPU, f16 cache, its own choice about flash attention. */
export async function open({ model: modelPath, threads }) {
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads })
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 })
  const { repo, release } = llama.llamaCppRelease
  let context
  let prompts = []

  return {
    path: modelPath,
    version: `node-llama-cpp 3.22.1, ${repo} ${release}`,

    tokenize: (text) => model.tokenize(text, false),

    /** A context for so many sequences of at most so many tokens each. */
    async reserve(sequences, tokens) {
      await context?.dispose()
      const contextSize = Math.ceil(tokens / 256) * 256
      context = await model.createContext({ sequences, contextSize, batchSize: 512, threads })
      prompts = Array.from({ length: sequences }, () => ({ sequence: context.getSequence() }))
    },

    /** Reads each prompt into its sequence, one after the other, up to its first answer token. */
    async prefill(tokens) {
      const ms = []
      for (const [index, { sequence }] of prompts.entries()) {
        await sequence.clearHistory()
        const last = [tokens[index].at(-1), { generateNext: { token: true, options: GREEDY } }]
        const start = performance.now()
        const outputs = await sequence.controlledEvaluate([...tokens[index].slice(0, -1), last])
        ms.push(performance.now() - start)
        prompts[index] = { sequence, end: tokens[index].length, answer: outputs.at(-1).next.token }
      }
      return ms
    },

    /**
     * Decodes behind all prompts at once and then forgets the answers. The sequences are asked together, token by token: left
     * alone, they fall out of step, and llama.cpp gets batches of seven and one instead of eight.
     */
    async decode(steps) {
      const answers = prompts.map(({ sequence, answer }) =>
        sequence.evaluate([answer], { ...GREEDY, yieldEogToken: true }),
      )
      const stamps = answers.map(() => [])
      const next = async (answer, index) => {
        const { done } = await answer.next()
        if (!done) stamps[index].push(performance.now())
      }
      for (let step = 0; step <= steps; step++) await Promise.all(answers.map(next))
      for (const answer of answers) await answer.return()
      for (const { sequence, end } of prompts) {
        await sequence.eraseContextTokenRanges([{ start: end, end: sequence.nextTokenIndex }])
      }
      return { stamps }
    },

    close: () => llama.dispose(),
  }
}
