import { mkdirSync, writeFileSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { stderr, stdout } from 'node:process'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { HeadwiseError } from '../errors.js'
import { DATASETS } from '../eval/datasets/index.js'
import { promptsFile } from '../eval/datasets/prompts.js'
import { checkItems, evaluate } from '../eval/evaluate.js'
import type { Item } from '../eval/item.js'
import { BASELINES, settings } from '../eval/plan.js'
import { reportPage } from '../eval/report/page.js'
import { resultTable } from '../eval/table.js'
import { TASKS } from '../eval/tasks/index.js'
import type { Model } from '../model.js'
import { resolveData } from '../models/data.js'
import { withLock } from '../models/lock.js'
import { policies } from '../policy.js'
import { evalCompare } from './eval-compare.js'
import { budgets, chosen, list, modes, SETTING_FLAGS } from './eval-options.js'
import { loadModel, MODEL_FLAGS, number } from './options.js'
import { ProgressLine } from './progress.js'

/** Names for the help, in lines of a terminal's width. */
function wrapped(names: readonly string[]): string {
  return names
    .join(', ')
    .replace(/(.{1,70})(?: |$)/g, '$1\n                         ')
    .trim()
}

const HELP = `headwise eval: how much a model still knows when its KV cache is cut, policy by policy.

What is asked (any number of these)
  --file FILE            prompts: one JSON object a line, {"id", "task", "context", "question", "answers": [..]}
  --task A,B             of ${wrapped(Object.keys(TASKS))}
    --length A,B         tokens of a prompt (default 1024)
    --items N            items of each task and length (default 20)
    --data FILE          what qa_1 (SQuAD), qa_2 (HotpotQA) and nll (a text) are made of
  --dataset NAME=FILE    published prompts: ${Object.keys(DATASETS).join(', ')}
    FILE may be hf:datasets/org/name:file, a file of a data set of the hub
  --limit N              at most the first N items of each of them

What is compared
  --policy A,B           names (${policies.slice(0, 4).join(', ')}, … all of them by default), or JSON without a budget, which may have a
                         name: 'short={"kind":"snapKV","window":8}'. May be given several times
  --no-baselines         without ${BASELINES.join(', ')}, which otherwise stand in every table
  --keep A,B             budgets: shares of the tokens that stay (default 0.5,0.2,0.1)
  --tokens-per-head A,B  budgets in tokens a head
  --bytes A,B            budgets in bytes of the whole cache
  --mode A,B             aware: the cache is cut behind the question; agnostic: before it (default both)

How
  --model REF            default smollm2-135m
  --chat                 prompts go through the model's chat template
  --max-tokens N         most tokens of an answer (default 12; tasks have their own)
  --seed N               seed of tasks and of the random policy (default 1)
  --parallel N           sessions that run at a time (default 8)
  --samples N            contexts of each task on which decoding is timed by itself (default 2)
  --threads N, --kv-codec C

What comes out
  --out FILE             results in JSON (default reports/eval.json); FILE.journal holds what is done, so that a run which
                         was stopped goes on where it was, and one with more policies only does what is new
  --fresh                forget what is done
  --report FILE          a page with curves and tables
  --json                 the results on standard output instead of a table

  headwise eval compare A.json B.json    what two result files agree on
`

const FLAGS = {
  ...MODEL_FLAGS,
  ...SETTING_FLAGS,
  model: { type: 'string', default: 'smollm2-135m' },
  file: { type: 'string', multiple: true, default: [] as string[] },
  task: { type: 'string', multiple: true, default: [] as string[] },
  length: { type: 'string', default: '1024' },
  items: { type: 'string', default: '20' },
  data: { type: 'string' },
  dataset: { type: 'string', multiple: true, default: [] as string[] },
  limit: { type: 'string' },
  chat: { type: 'boolean', default: false },
  'max-tokens': { type: 'string', default: '12' },
  seed: { type: 'string', default: '1' },
  parallel: { type: 'string', default: '8' },
  samples: { type: 'string', default: '2' },
  out: { type: 'string', default: 'reports/eval.json' },
  fresh: { type: 'boolean', default: false },
  report: { type: 'string' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} satisfies ParseArgsConfig['options']

type Flags = ReturnType<typeof parse>

function parse(args: string[]) {
  return parseArgs({ args, options: FLAGS }).values
}

/** `headwise eval`. */
export async function evaluation(args: string[]): Promise<void> {
  if (args[0] === 'compare') return evalCompare(args.slice(1))
  const flags = parse(args)
  if (flags.help) {
    stdout.write(HELP)
    return
  }
  const whole = (name: keyof Flags & string, least = 1) =>
    number(name, flags[name] as string, (n) => Number.isSafeInteger(n) && n >= least) as number
  const seed = whole('seed', 0)
  const plan = settings(chosen(flags, seed), budgets(flags), modes(flags.mode))
  const options = {
    maxTokens: whole('max-tokens'),
    chat: flags.chat,
    parallel: whole('parallel'),
    samples: whole('samples', 0),
    seed,
  }
  const limit = flags.limit === undefined ? Number.POSITIVE_INFINITY : whole('limit')
  const wanted = { items: whole('items'), limit, seed }
  const out = resolve(flags.out)
  mkdirSync(dirname(out), { recursive: true })
  const waits = () => stderr.write(`waiting for another run that writes ${flags.out}\n`)
  const results = await withLock(`${out}.lock`, undefined, waits, async () => {
    await using model = await loadModel(flags.model, flags)
    const items = await gather(model, flags, wanted)
    // What can be wrong is found before anything is forgotten.
    checkItems(items)
    await (await model.createSession({ observeFor: plan.flatMap(({ spec }) => spec ?? []) })).dispose()
    if (flags.fresh) await rm(`${out}.journal`, { force: true })
    const progress = new ProgressLine()
    const results = await evaluate(model, items, plan, `${out}.journal`, {
      ...options,
      name: flags.model,
      codec: flags['kv-codec'] ?? 'f16',
      command: `headwise eval ${args.join(' ')}`,
      onProgress: (done, total, what) => progress.update(done, total, what),
    })
    progress.clear()
    writeFileSync(`${out}.part`, `${JSON.stringify(results, null, 1)}\n`)
    await rename(`${out}.part`, out)
    return results
  })
  if (flags.report) {
    mkdirSync(dirname(resolve(flags.report)), { recursive: true })
    writeFileSync(flags.report, reportPage(results))
  }
  stdout.write(flags.json ? `${JSON.stringify(results, null, 1)}\n` : resultTable(results))
  stderr.write(`Results: ${flags.out}${flags.report ? `, report: ${flags.report}` : ''}\n`)
}

/** All items of the files, tasks and data sets. */
async function gather(
  model: Model,
  flags: Flags,
  wanted: { items: number; limit: number; seed: number },
): Promise<Item[]> {
  const { items, limit, seed } = wanted
  const count = (text: string) => model.tokenize(text).length
  const lengths = list(flags.length).map((text) => number('length', text, Number.isSafeInteger) as number)
  const published = flags.dataset.map((text) => {
    const [name = '', file] = text.split(/=(.*)/s)
    if (!file) throw new HeadwiseError('InvalidArgument', `--dataset ${text}: expected NAME=FILE`, { value: text })
    return { load: known('dataset', name, DATASETS), file }
  })
  const progress = new ProgressLine()
  const here = (file: string) => resolveData(file, { onProgress: progress.model }).finally(() => progress.clear())
  const sources = [
    ...(await Promise.all(flags.file.map(async (file) => promptsFile(await here(file))))),
    ...flags.task.flatMap(list).flatMap((name) => {
      const task = known('task', name, TASKS)
      const options = { items, seed, count, ...(flags.data !== undefined && { data: flags.data }) }
      // Each length is a task of its own in the results.
      return lengths.map((tokens) =>
        task.generate({ ...options, tokens }).map((item) => ({ ...item, task: `${item.task}-${tokens}` })),
      )
    }),
    ...(await Promise.all(published.map(async ({ load, file }) => load(await here(file))))),
  ]
  const all = sources.flatMap((source) => source.slice(0, limit))
  if (all.length === 0) {
    throw new HeadwiseError('InvalidArgument', 'nothing to ask: --file, --task or --dataset (--help tells more)', {})
  }
  return all
}

/** What a name of a flag stands for. */
function known<T>(flag: string, name: string, table: Readonly<Record<string, T>>): T {
  const found = Object.hasOwn(table, name) ? table[name] : undefined
  if (found === undefined) {
    const message = `--${flag} ${name}: not one of ${Object.keys(table).join(', ')}`
    throw new HeadwiseError('InvalidArgument', message, { name: flag, value: name })
  }
  return found
}
