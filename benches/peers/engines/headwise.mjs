import { readFileSync } from 'node:fs'

/** headwise as built in this repository: portable binary, f16 cache unless told otherwise, nothing evicted unless asked. */
export async function open({ model: reference, threads, kvCodec = 'f16' }) {
  const { Model, policy } = await import('../../../dist/index.js')
  const about = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  const model = await Model.load(reference, { threads, kvCodec })
  let prompts = []

  async function forget() {
    for (const session of prompts) await session.dispose()
    prompts = []
  }

  /** A fork shares the prompt's cache; a compressed one copies what stays into blocks of its own. */
  async function fork(session, keep) {
    const copy = await session.fork()
    const report = keep && (await copy.compress(policy.adaSnapKV({ budget: { keep } })))
    return { session: copy, compressMs: report?.ms }
  }

  return {
    path: model.path,
    version: `headwise ${about.version}`,
    shape: model.info,

    tokenize: (text) => [...model.tokenize(text)],
    reserve: forget,

    /** Reads each prompt into a session of its own, one after the other. */
    async prefill(tokens) {
      await forget()
      const ms = []
      for (const prompt of tokens) {
        const session = await model.createSession({ policy: { kind: 'full' } })
        prompts.push(session)
        const start = performance.now()
        await session.prefill(prompt)
        ms.push(performance.now() - start)
      }
      return ms
    },

    /** Decodes behind the first `sessions` prompts at once, on forks, so that the prompts stay as they are. */
    async decode(steps, { sessions = prompts.length, keep } = {}) {
      const forks = []
      for (const prompt of prompts.slice(0, sessions)) forks.push(await fork(prompt, keep))
      const stamps = await Promise.all(
        forks.map(async ({ session }) => {
          const times = []
          for await (const _ of session.generate({ maxTokens: steps + 1, ignoreEos: true }))
            times.push(performance.now())
          return times
        }),
      )
      for (const { session } of forks) await session.dispose()
      return { stamps, compressMs: forks[0].compressMs }
    },

    /** Milliseconds of one compression of the first prompt's cache. */
    async compress(keep) {
      const { session, compressMs } = await fork(prompts[0], keep)
      await session.dispose()
      return compressMs
    },

    close: () => model.dispose(),
  }
}
