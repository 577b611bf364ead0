import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Failure } from '../options.mjs'

const SCRIPT = fileURLToPath(new URL('selection.py', import.meta.url))

/** Starts selection.py; `call(path)` times one of its `paths` once. Milliseconds for all layers. */
export async function startTorch(python, shape) {
  const child = spawn(python, [SCRIPT, JSON.stringify(shape)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const problem = new Promise((_, reject) => {
    child.on('error', (error) => reject(new Failure(`--python ${python}: ${error.message}`)))
    child.on('exit', (code, signal) =>
      reject(new Failure(`${python} selection.py ended (${signal ?? `code ${code}`})`)),
    )
  })
  // Nobody listens between two calls; the next one hears of it.
  problem.catch(() => {})
  child.stdin.on('error', () => {})
  const answer = async () => {
    const { value, done } = await Promise.race([lines.next(), problem])
    return done ? problem : JSON.parse(value)
  }
  const { version, paths } = await answer()
  const call = (path) => {
    child.stdin.write(`${path}\n`)
    return answer()
  }
  return { version, paths, call, close: () => child.stdin.end() }
}
