import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { stderr, stdout } from 'node:process'
import { parseArgs } from 'node:util'
import type { Needle } from '../demo/documents.js'
import { demoReport } from '../demo/report.js'
import { DEMO_POLICIES, type DemoPolicy, type DemoRow, runDemo } from '../demo/run.js'
import { HeadwiseError } from '../errors.js'
import { Model } from '../model.js'
import { bytes, ProgressLine } from './progress.js'
import { textTable } from './text-table.js'

const HELP = `headwise demo: a real model answers questions over long documents while its KV cache is cut, head by head.

  --model REF       model to ask (default smollm2-135m)
  --policy A,B      of ${Object.keys(DEMO_POLICIES).join(', ')} (default: all)
  --keep A,B        shares of the cache that stay (default 0.2,0.1,0.05)
  --tokens N        tokens of a document, about (default 1000)
  --questions N     questions of each kind of needle (default 24)
  --needle KIND     phrase, serial or both (default both)
  --seed N          seed of the documents (default 1)
  --out FILE        HTML report (default reports/demo.html)
  --json            print one JSON object instead of the table
`

function list<T extends string>(name: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map((item) => {
    const found = known.find((candidate) => candidate === item.trim())
    if (!found) throw usage(name, item, `one of ${known.join(', ')}`)
    return found
  })
}

function whole(name: string, text: string, least: number): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least) throw usage(name, text, `a whole number of at least ${least}`)
  return value
}

function usage(name: string, value: string, expected: string): HeadwiseError {
  return new HeadwiseError('InvalidArgument', `--${name} ${value}: expected ${expected}`, { name, value, expected })
}

function options(args: string[]) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string', default: 'smollm2-135m' },
      policy: { type: 'string', default: Object.keys(DEMO_POLICIES).join(',') },
      keep: { type: 'string', default: '0.2,0.1,0.05' },
      tokens: { type: 'string', default: '1000' },
      questions: { type: 'string', default: '24' },
      needle: { type: 'string', default: 'both' },
      seed: { type: 'string', default: '1' },
      out: { type: 'string', default: 'reports/demo.html' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const keeps = values.keep.split(',').map((text) => {
    const keep = Number(text)
    if (!(keep > 0 && keep <= 1)) throw usage('keep', text, 'shares above 0 and at most 1')
    return keep
  })
  const needles =
    values.needle === 'both'
      ? (['phrase', 'serial'] as const)
      : list<Needle>('needle', values.needle, ['phrase', 'serial'])
  return {
    ...values,
    keeps,
    needles,
    policies: list('policy', values.policy, Object.keys(DEMO_POLICIES) as DemoPolicy[]),
    tokens: whole('tokens', values.tokens, 100),
    questions: whole('questions', values.questions, 1),
    seed: whole('seed', values.seed, 0),
  }
}

function table(rows: readonly DemoRow[]): string {
  const head = ['policy', 'keep', 'needle', 'right', 'KV cache', 'compress', 'decode', 'process']
  const body = rows.map((row) => [
    row.policy,
    row.policy === 'full' ? '' : String(row.keep),
    row.needle,
    row.error ? 'budget below window' : `${row.correct} of ${row.total}`,
    row.policy === 'full' ? bytes(row.kvBytesBefore) : `${bytes(row.kvBytesBefore)} → ${bytes(row.kvBytesAfter)}`,
    row.policy === 'full' ? '' : `${row.compressMs.toFixed(1)} ms`,
    `${row.decodeMsPerToken.toFixed(1)} ms/token`,
    bytes(row.processBytes),
  ])
  return textTable(head, body)
}

/** The demo of the README. */
export async function demo(args: string[]): Promise<void> {
  const chosen = options(args)
  if (chosen.help) {
    stdout.write(HELP)
    return
  }
  const progress = new ProgressLine()
  const start = performance.now()
  await using model = await Model.load(chosen.model, {
    onProgress: progress.model,
  })
  progress.clear()
  stderr.write(`model: ${chosen.model} from ${model.source}, ${model.info.threads} threads\n`)
  const result = await runDemo(model, {
    ...chosen,
    onProgress: (done, total, what) => progress.update(done, total, what),
  })
  progress.clear()
  const file = resolve(chosen.out)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, demoReport(result, chosen.model))
  const seconds = ((performance.now() - start) / 1e3).toFixed(0)
  if (chosen.json) {
    stdout.write(
      `${JSON.stringify({ model: chosen.model, promptTokens: result.promptTokens, rows: result.rows }, null, 1)}\n`,
    )
  } else {
    stdout.write(
      `documents of about ${result.promptTokens} tokens, each read once and forked for every question and policy\n\n`,
    )
    stdout.write(`${table(result.rows)}\n\n`)
  }
  stderr.write(`${seconds} s. Report: ${relative(process.cwd(), file)}\n`)
}
