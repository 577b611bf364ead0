import { getLlama, LlamaLogLevel } from 'node-llama-cpp'

/** llama.cpp through node-llama-cpp, as it comes: prebuilt binary, CPU, f16 cache, its own choice about flash attention. */
export async function open({ model: modelPath, threads, contextSize }) {
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads })
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 })
  const context = await model.createContext({ contextSize, batchSize: 512, threads })
  const sequence = context.getSequence()
  const { repo, release } = llama.llamaCppRelease

  return {
    path: modelPath,
    version: `node-llama-cpp 3.22.1, ${repo} ${release}`,

    tokenize: (text) => model.tokenize(text, false),

    /** Reads the prompt up to its first answer token, then decodes greedily: milliseconds of either. */
    async measure(tokens, steps) {
      await sequence.clearHistory()
      const last = [tokens.at(-1), { generateNext: { token: true, options: { temperature: 0 } } }]
      const start = performance.now()
      const outputs = await sequence.controlledEvaluate([...tokens.slice(0, -1), last])
      const prefillMs = performance.now() - start

      const stamps = []
      const answer = sequence.evaluate([outputs.at(-1).next.token], { temperature: 0, yieldEogToken: true })
      for await (const _ of answer) if (stamps.push(performance.now()) > steps) break
      return { prefillMs, stamps }
    },

    close: () => llama.dispose(),
  }
}
