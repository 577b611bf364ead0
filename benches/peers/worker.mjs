// One engine in a process of its own: two thread pools in one process would disturb each other even when one is idle.
const [name, options] = process.argv.slice(2)
let engine

const methods = {
  async open() {
    const { open } = await import(`./engines/${name}.mjs`)
    engine = await open(JSON.parse(options))
    return { path: engine.path, version: engine.version }
  },
  tokenize: (text) => engine.tokenize(text),
  measure: (tokens, steps) => engine.measure(tokens, steps),
  close: () => engine.close(),
}

process.on('disconnect', () => process.exit())
process.on('message', async ({ method, args }) => {
  try {
    process.send({ result: await methods[method](...args) })
  } catch (error) {
    process.send({ error: error.message })
  }
})
