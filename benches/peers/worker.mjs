// One engine in a process of its own: two thread pools in one process would disturb each other even when one is idle.
import { engineFile } from './options.mjs'

const [name, options] = process.argv.slice(2)
let engine

async function open() {
  const { open } = await import(engineFile(name))
  engine = await open(JSON.parse(options))
  const { path, version, shape } = engine
  return { path, version, shape }
}

process.on('disconnect', () => process.exit())
process.on('message', async ({ method, args }) => {
  try {
    process.send({ result: await (method === 'open' ? open() : engine[method](...args)) })
  } catch (error) {
    process.send({ error: error.message })
  }
})
