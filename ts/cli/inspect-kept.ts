import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { stderr, stdout } from 'node:process'
import { parseArgs } from 'node:util'
import { HeadwiseError } from '../errors.js'
import { promptsFile } from '../eval/datasets/prompts.js'
import type { Item } from '../eval/item.js'
import { type KeptPrompt, keptOf } from '../eval/kept.js'
import { settings } from '../eval/plan.js'
import { keptPage } from '../eval/report/kept-page.js'
import { budgets, chosen, modes, SETTING_FLAGS } from './eval-options.js'
import { loadModel, MODEL_FLAGS } from './options.js'

const HELP = `headwise inspect --kept [REF]: which tokens of a prompt each head keeps.

  --file FILE            prompts, one JSON object a line as for headwise eval; --id ID takes one of them (default: the first)
  --all                  all of them
  --text FILE            instead: a text
  --policy A,B --keep A,B --mode A,B     as for headwise eval; more than one can be compared on the page
  --chat                 through the model's chat template
  --out FILE             page (default reports/kept.html)
  --jsonl                no page: one JSON object a line on standard output for each prompt and setting,
                         {"policy", "keep", "mode", "task", "id", "kept": [layer][head][positions]}
  --threads N, --kv-codec C
`

/** `headwise inspect --kept`. */
export async function inspectKept(args: string[]): Promise<void> {
  const { values: flags, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...MODEL_FLAGS,
      ...SETTING_FLAGS,
      kept: { type: 'boolean' },
      file: { type: 'string' },
      id: { type: 'string' },
      all: { type: 'boolean', default: false },
      text: { type: 'string' },
      chat: { type: 'boolean', default: false },
      out: { type: 'string', default: 'reports/kept.html' },
      jsonl: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (flags.help) {
    stdout.write(HELP)
    return
  }
  const [reference = 'smollm2-135m', ...more] = positionals
  if (more.length > 0) throw new HeadwiseError('InvalidArgument', `unexpected: ${more.join(' ')}`, { name: 'REF' })
  const items = itemsOf(flags)
  const plan = settings(chosen({ ...flags, 'no-baselines': true }, 1), budgets(flags), modes(flags.mode))
  await using model = await loadModel(reference, flags)
  const prompts: KeptPrompt[] = []
  for (const item of items) {
    for await (const prompt of keptOf(model, item, plan, flags.chat)) {
      if (flags.jsonl) for (const line of prompt.lines) stdout.write(`${JSON.stringify(line)}\n`)
      else prompts.push(prompt)
    }
  }
  if (flags.jsonl) return
  mkdirSync(dirname(resolve(flags.out)), { recursive: true })
  writeFileSync(flags.out, keptPage(reference, prompts))
  stderr.write(`Page: ${flags.out}\n`)
}

function itemsOf(flags: { file?: string; id?: string; all: boolean; text?: string }): Item[] {
  if ((flags.file === undefined) === (flags.text === undefined)) {
    throw new HeadwiseError('InvalidArgument', 'expected one of --file and --text (--help tells more)', {})
  }
  if (flags.text !== undefined) {
    return [{ id: flags.text, task: 'text', context: readFileSync(flags.text, 'utf8'), turns: [] }]
  }
  const items = promptsFile(flags.file as string)
  const wanted = flags.all ? items : items.filter(({ id }, i) => (flags.id === undefined ? i === 0 : id === flags.id))
  if (wanted.length === 0) {
    throw new HeadwiseError('InvalidArgument', `no prompt ${flags.id ?? ''} in ${flags.file}`, { id: flags.id })
  }
  return wanted
}
