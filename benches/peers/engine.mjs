import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Failure } from './options.mjs'

const WORKER = fileURLToPath(new URL('worker.mjs', import.meta.url))

/** Starts an engine's process. Calls go to it one at a time; when it dies, the running call or the next one fails. */
export async function start(name, options) {
  const child = fork(WORKER, [name, JSON.stringify(options)])
  let waiting
  let dead
  const settle = (outcome, value) => {
    const call = waiting
    waiting = undefined
    call?.[outcome](value)
  }
  const ended = (reason) => {
    dead ??= new Failure(
      `${name} ended ${waiting ? `in ${waiting.method}` : 'while nothing was asked of it'} (${reason})`,
    )
    settle('reject', dead)
  }
  child.on('error', (error) => ended(error.message))
  child.on('exit', (code, signal) => ended(signal ?? `code ${code}`))
  child.on('message', ({ result, error }) => {
    if (error === undefined) settle('resolve', result)
    else settle('reject', new Failure(`${name}: ${error}`))
  })
  const call = (method, ...args) =>
    new Promise((resolve, reject) => {
      if (dead) return reject(dead)
      waiting = { method, resolve, reject }
      child.send({ method, args })
    })
  const close = async () => {
    await call('close')
    child.disconnect()
  }
  try {
    return { name, ...(await call('open')), call, close }
  } catch (error) {
    if (child.connected) child.disconnect()
    throw error
  }
}
