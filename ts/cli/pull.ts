import { stderr, stdout } from 'node:process'
import { parseArgs } from 'node:util'
import { resolveModel } from '../models/index.js'
import { one } from './arguments.js'
import { ProgressLine } from './progress.js'

const HELP = `headwise pull REF: downloads a model (or finds it in the cache) and prints its path.
`

export async function pull(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: { help: { type: 'boolean' } }, allowPositionals: true })
  if (values.help) {
    stdout.write(HELP)
    return
  }
  const progress = new ProgressLine()
  const found = await resolveModel(one(positionals, 'REF'), { onProgress: progress.model }).finally(() =>
    progress.clear(),
  )
  stderr.write(`from ${found.source}\n`)
  stdout.write(`${found.path}\n`)
}
