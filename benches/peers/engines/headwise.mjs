/** headwise as built in this repository, nothing evicted. */
export async function open({ model: reference, threads }) {
  const { Model } = await import('../../../dist/index.js')
  const model = await Model.load(reference, { threads })

  return {
    path: model.path,
    version: 'headwise',

    tokenize: (text) => [...model.tokenize(text)],

    async measure(tokens, steps) {
      const session = await model.createSession({ policy: { kind: 'full' } })
      const start = performance.now()
      await session.prefill(tokens)
      const prefillMs = performance.now() - start

      const stamps = []
      for await (const step of session.generate({ maxTokens: steps + 1, ignoreEos: true })) {
        if (step.token !== null) stamps.push(performance.now())
      }
      await session.dispose()
      return { prefillMs, stamps }
    },

    close: () => model.dispose(),
  }
}
