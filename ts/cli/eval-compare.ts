import { stdout } from 'node:process'
import { parseArgs } from 'node:util'
import { HeadwiseError } from '../errors.js'
import { compare, comparisonTable, readResults } from '../eval/compare.js'
import { compareKept, keptTable, readKept } from '../eval/kept.js'
import { number } from './options.js'

const HELP = `headwise eval compare A.json B.json: two result files of the same prompts, row by row.

  --kept A.jsonl --kept B.jsonl   instead: two files of kept slots (headwise inspect --kept --jsonl)
  --min-agreement F               fail (exit code 1) where a row agrees on a smaller share
  --json                          as one JSON object
`

/** `headwise eval compare`. */
export async function evalCompare(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      kept: { type: 'string', multiple: true, default: [] as string[] },
      'min-agreement': { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    stdout.write(HELP)
    return
  }
  const least = number('min-agreement', values['min-agreement'], (n) => n >= 0 && n <= 1) ?? 0
  const [first, second, ...more] = values.kept.length > 0 ? [...values.kept, ...positionals] : positionals
  if (first === undefined || second === undefined || more.length > 0) {
    throw new HeadwiseError('InvalidArgument', 'expected two files (--help tells more)', { files: positionals })
  }
  const kept = values.kept.length > 0
  const rows = kept ? compareKept(readKept(first), readKept(second)) : compare(readResults(first), readResults(second))
  if (rows.length === 0)
    throw new HeadwiseError('InvalidArgument', 'the files have no row in common', { first, second })
  if (values.json) stdout.write(`${JSON.stringify({ rows }, null, 1)}\n`)
  else stdout.write('correct' in (rows[0] as object) ? comparisonTable(rows as never) : keptTable(rows as never))
  if (rows.some((row) => row.agreement < least && !('losses' in row && row.losses))) process.exitCode = 1
}
