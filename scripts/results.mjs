// Regenerates docs/results.json and docs/results.md: the policies on the needle tasks. Usage: npm run results [-- --only POLICY,…], the rows of these alone.
// An interrupted run goes on where it was (reports/results-*.json.journal); a changed engine wants `npm run results -- --fresh`.

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { root, setup } from './setup.mjs'

const TASKS = ['digits', 'serial', 'phrase']
const KEEPS = [0.5, 0.2, 0.1]
// Beside full, random and streamingLLM, which stand in every table.
const FIRST = [
  'pyramidKV',
  'adaKV',
  'lookahead',
  'snapKV',
  'knorm',
  'keyDiff',
  'tova',
  'lagKV',
  'cur',
  'observedAttention',
  'h2o',
  'recency',
  'adaPyramidKV',
  'adaSnapKV',
  'adaKnorm',
  'adaKeyDiff',
  'adaTova',
  'adaLagKV',
  'adaCur',
  'adaObservedAttention',
  'adaH2o',
  'adaRandom',
]
// `kvzip` reads each text once more for every answer (docs/echo.md has its figures).
const LATER = [
  'echo',
  'laProx',
  'criticalAdaKV',
  'defensive',
  'layerDefensiveKV',
  'restKV',
  'cake',
  'lava',
  'dynamicKV',
  'chunkKV',
  'kvCrush',
  'kvCompress',
  'sageKV',
  'fastGen',
  'refreeKV',
  'certified',
  'mixKV',
  'ahaKV',
  'nacl',
  'finch',
  'capKV',
  'expectedAttention',
  'adaExpectedAttention',
  'leverage',
  'nonCausal',
  'compactor',
  'citrus',
  'caote',
]
/** What is asked: a policy takes about a minute for each 1,000 tokens. */
const RUNS = [
  { lengths: [1024, 2048], policies: [...FIRST, ...LATER] },
  { lengths: [4096], policies: FIRST },
]
const LENGTHS = RUNS.flatMap(({ lengths }) => lengths)

/** @param {{ lengths: number[], policies: string[] }} run */
const command = ({ lengths, policies }) => [
  'eval',
  ...['--task', TASKS.join(',')],
  ...['--length', lengths.join(',')],
  ...['--items', '12'],
  ...['--keep', KEEPS.join(',')],
  ...['--seed', '1'],
  ...['--samples', '0'],
  ...['--policy', policies.join(',')],
]

/**
 * @typedef {{ policy: string, keep: number, mode: string, task: string, bits: string, keptBytes: number, physicalBytes: number }} Row
 * @typedef {{ model: string, date: string, machine: string, commands: string[], rows: Row[] }} Summary
 */

/** @param {import('../dist/eval/results.js').Results[]} parts @returns {Summary} */
function summary(parts) {
  const bits = (/** @type {{ correct: boolean }[]} */ items) => items.map(({ correct }) => Number(correct)).join('')
  const rows = parts.flatMap(({ results }) =>
    results.map(({ policy, keep, mode, task, items, keptBytes, physicalBytes }) => ({
      ...{ policy, keep: keep ?? 1, mode, task, bits: bits(items), keptBytes, physicalBytes },
    })),
  )
  const date = [...new Set(parts.map(({ date }) => date))].join(' and ')
  const machine = [...new Set(parts.map(({ machine }) => machine))].join(' and ')
  const commands = RUNS.map((run) => `headwise ${command(run).join(' ')}`)
  return { model: 'SmolLM2-135M-Instruct (Q4_1)', date, machine, commands, rows }
}

/** @param {Summary} summary */
function page({ model, date, machine, commands, rows }) {
  const right = (/** @type {string | undefined} */ bits) => [...(bits ?? '')].filter((bit) => bit === '1').length
  const find = (/** @type {Omit<Row, 'bits' | 'keptBytes' | 'physicalBytes'>} */ wanted) =>
    rows.find((row) => Object.entries(wanted).every(([name, value]) => row[/** @type {'policy'} */ (name)] === value))
  const total = rows[0]?.bits.length ?? 0
  const sections = ['aware', 'agnostic'].flatMap((mode) =>
    LENGTHS.map((length) => {
      const own = rows.filter(({ task }) => task.endsWith(`-${length}`))
      const policies = [...new Set(own.map(({ policy }) => policy))]
      const head = ['policy', ...TASKS.flatMap((task) => KEEPS.map((keep) => `${task} ${keep}`))]
      const lines = policies.map((policy) => {
        const cells = TASKS.flatMap((task) =>
          KEEPS.map((keep) => find({ policy, keep: policy === 'full' ? 1 : keep, mode, task: `${task}-${length}` })),
        )
        return [policy, ...cells.map((row) => String(right(row?.bits)))]
      })
      const line = (/** @type {string[]} */ cells) => `| ${cells.join(' | ')} |`
      const rule = line(head.map((_, i) => (i === 0 ? '---' : '--:')))
      return `## ${mode === 'aware' ? 'Query-aware' : 'Query-agnostic'}, ${length} tokens\n\n${[line(head), rule, ...lines.map(line)].join('\n')}\n`
    }),
  )
  return `# Results

<!-- Written by npm run results. Do not edit. -->

Right answers of ${total} by policy, task and share of the cache that stays. ${model}, ${date}, ${machine}:

\`\`\`sh
${commands.join('\n')}
\`\`\`

Tasks: one fact of two in everyday prose is asked for, in the form in which it stands there; five digits, a serial number of twelve digits, or three words. *Query-aware*: the
cache is cut when context and question are in, so that the policy knows what is asked. *Query-agnostic*: it is cut before the question is known. All policies keep the same
number of slots and so the same bytes, but for what blocks round up and for \`fastGen\`, \`refreeKV\` and \`certified\`, which may keep fewer. \`full\` keeps everything at every share. \`kvzip\`, which reads every text twice, stands in [echo](echo.md); 4,096 tokens were read under some policies only. With ${total} items a difference of fewer than four or five is noise:
\`headwise eval\` prints intervals and writes a page with \`--report\`. A test runs a slice of this table again (\`__test__/eval/results.spec.mts\`); \`npm run results\` makes it anew.

${sections.join('\n')}`
}

/** Fresh rows in the places of those that they are the same cells as. @param {Summary} before @param {Summary} fresh @returns {Summary} */
function merged(before, fresh) {
  const cell = (/** @type {Row} */ { policy, keep, mode, task }) => [policy, keep, mode, task].join()
  const by = new Map(fresh.rows.map((row) => [cell(row), row]))
  const date = [...new Set([...before.date.split(' and '), ...fresh.date.split(' and ')])].join(' and ')
  return { ...before, date, rows: before.rows.map((row) => by.get(cell(row)) ?? row) }
}

function main() {
  setup()
  const [flag, names, ...rest] = process.argv.slice(2)
  const only = flag === '--only' ? names?.split(',') : undefined
  const others = only ? rest : process.argv.slice(2)
  const model = process.env.HEADWISE_MODEL ? ['--model', process.env.HEADWISE_MODEL] : []
  const parts = RUNS.flatMap((run) => {
    const policies = run.policies.filter((policy) => only?.includes(policy) ?? true)
    if (policies.length === 0) return []
    const out = path.join(root, `reports/results-${run.lengths.join('-')}${only ? '-only' : ''}.json`)
    const args = [
      path.join(root, 'dist/cli/main.js'),
      ...command({ ...run, policies }),
      ...(only ? ['--no-baselines'] : []),
      ...model,
      '--out',
      out,
      ...others,
    ]
    const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' })
    if (status !== 0) process.exit(status ?? 1)
    return [JSON.parse(readFileSync(out, 'utf8'))]
  })
  if (parts.length === 0) throw new Error(`${names} is none of the policies: ${[...FIRST, ...LATER].join(', ')}`)
  const file = path.join(root, 'docs/results.json')
  const short = only ? merged(JSON.parse(readFileSync(file, 'utf8')), summary(parts)) : summary(parts)
  const lines = short.rows.map((row) => `  ${JSON.stringify(row)}`).join(',\n')
  const json = JSON.stringify({ ...short, rows: [] }, null, 1).replace('"rows": []', `"rows": [\n${lines}\n ]`)
  writeFileSync(file, `${json}\n`)
  writeFileSync(path.join(root, 'docs/results.md'), page(short))
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) main()
