import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'

/** What the user can do something about: shown as one line, without a stack. */
export class Failure extends Error {}

/** Fewer tokens cut to a tenth would hardly hold the 32 that snapKV protects. */
export const LEAST_COMPRESSED = 512

const PARTS = ['single', 'batch', 'selection']

const OPTIONS = {
  model: { type: 'string', default: 'smollm2-135m' },
  engines: { type: 'string', default: 'headwise,llama' },
  only: { type: 'string', default: 'single,batch' },
  sizes: { type: 'string', default: '128,2048,7900' },
  'batch-tokens': { type: 'string', default: '2048' },
  repeats: { type: 'string', default: '5' },
  'long-repeats': { type: 'string', default: '3' },
  steps: { type: 'string', default: '48' },
  threads: { type: 'string', default: '2' },
  python: { type: 'string', default: 'python3' },
  json: { type: 'boolean', default: false },
  record: { type: 'string' },
}

/** The command line, checked. */
export function readOptions(args) {
  const { model, python, json, record, ...flags } = parse(args)
  const count = (name, text = flags[name], least = 1) => {
    const value = Number(text)
    if (Number.isInteger(value) && value >= least) return value
    throw new Failure(`--${name} ${flags[name]}: expected whole numbers from ${least}`)
  }
  const list = (name) => flags[name].split(',')

  const parts = list('only')
  const unknown = parts.find((part) => !PARTS.includes(part))
  if (unknown !== undefined) throw new Failure(`--only ${unknown}: there is no such part (${PARTS.join(', ')})`)
  const engines = list('engines')
  const missing = engines.find((name) => !/^\w+$/.test(name) || !existsSync(engineFile(name)))
  if (missing !== undefined) throw new Failure(`--engines ${missing}: there is no such engine`)
  if (parts.includes('selection') && !engines.includes('headwise')) {
    throw new Failure('--only selection: torch is measured beside headwise, which is not among the engines')
  }
  if (record !== undefined && !/^[\w.-]*\w$/.test(record)) {
    throw new Failure(`--record ${record}: expected a name of letters, digits, dots and dashes`)
  }
  const sizes = [...new Set(list('sizes').map((size) => count('sizes', size)))].sort((a, b) => a - b)
  if (parts.includes('selection') && sizes.at(-1) < LEAST_COMPRESSED) {
    throw new Failure(`--only selection: the longest of --sizes must have ${LEAST_COMPRESSED} tokens`)
  }
  return {
    model,
    engines,
    parts,
    sizes,
    batchTokens: count('batch-tokens', undefined, LEAST_COMPRESSED),
    repeats: count('repeats'),
    longRepeats: count('long-repeats'),
    steps: count('steps'),
    threads: count('threads'),
    python,
    json,
    record,
  }
}

function parse(args) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    const names = Object.keys(OPTIONS).map((name) => `--${name}`)
    throw new Failure(`${error.message.split(/\. |\n/)[0]} (there are ${names.join(', ')})`)
  }
}

export function engineFile(name) {
  return new URL(`engines/${name}.mjs`, import.meta.url)
}
