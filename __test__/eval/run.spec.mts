import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { makeDocument } from '../../ts/demo/documents.js'
import type { ResultRow, Results } from '../../ts/eval/results.js'
import { type Model, policy } from '../../ts/index.js'
import { realModel } from '../support.mjs'

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const folder = mkdtempSync(path.join(tmpdir(), 'headwise-eval-'))
const prompts = path.join(folder, 'prompts.jsonl')
const FLAGS = ['--policy', 'knorm,h2o', '--keep', '0.3', '--samples', '1']

let model: Model
test.before(async () => {
  model = await realModel()
  const lines = [1, 2, 3].flatMap((seed) => {
    const { text, questions } = makeDocument(seed, 250, ['phrase', 'phrase'], (s) => model.tokenize(s).length)
    const line = (question: { prompt: string; answer: string }, i: number) => ({
      id: `${seed}-${i}`,
      task: 'phrase',
      context: text,
      question: question.prompt,
      answers: [question.answer],
    })
    return questions.map(line)
  })
  writeFileSync(prompts, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
})
test.after.always(() => model?.dispose())

const evaluate = async (out: string, ...more: string[]): Promise<Results> => {
  const args = ['eval', '--model', process.env.HEADWISE_MODEL as string, '--file', prompts, '--out', out]
  await promisify(execFile)(process.execPath, [CLI, ...args, ...FLAGS, ...more])
  return JSON.parse(readFileSync(out, 'utf8'))
}

/** What does not depend on how long things took. */
const timeless = (results: ResultRow[]) =>
  results.map(({ prefillSeconds: _, compressSeconds: _c, decodeSeconds: _d, msPerToken: _m, ...row }) => row)

test('rows say what a session by itself says', async (t) => {
  const { results } = await evaluate(path.join(folder, 'rows.json'), '--policy', 'h2o')
  t.is(results.length, 2 * (1 + 4))
  for (const row of results) {
    t.is(row.total, 6)
    t.is(row.correct, row.items.filter(({ correct }) => correct).length)
    t.is(row.errors, 0)
    t.is(row.keep, row.policy === 'full' ? 1 : 0.3)
  }
  const items = readFileSync(prompts, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const of = (name: string, mode: string) =>
    results.find((row) => row.policy === name && row.mode === mode) as ResultRow
  const heads = model.info.layers * model.info.kvHeads
  for (const item of items.slice(0, 2)) {
    const text = (row: ResultRow) => row.items.find(({ id }) => id === item.id)?.text ?? ''
    await using aware = await model.createSession({ policy: policy.h2o({ budget: { keep: 0.3 } }) })
    await aware.prefill(item.context + item.question)
    t.is(text(of('h2o', 'aware')), await aware.complete({ maxTokens: 12 }))
    await using agnostic = await model.createSession({ policy: policy.knorm({ budget: { keep: 0.3 } }) })
    const { seen, memory } = await agnostic.prefill(item.context)
    t.is(memory.slots, Math.floor(0.3 * seen) * heads)
    t.is(await agnostic.complete({ prompt: item.question, maxTokens: 12 }), text(of('knorm', 'agnostic')))
  }
  const full = of('full', 'aware')
  t.true(full.correct >= 4, `the full cache knows ${full.correct} of 6`)
  t.true(of('random', 'agnostic').correct < full.correct, 'a random third does not know as much')
  t.true(of('knorm', 'aware').keptBytes < 0.31 * full.keptBytes)
})

test('a run that is killed again and again gives what an uninterrupted one gives', async (t) => {
  const whole = await evaluate(path.join(folder, 'whole.json'))
  const out = path.join(folder, 'cut.json')
  const args = [CLI, 'eval', '--model', process.env.HEADWISE_MODEL as string, '--file', prompts, '--out', out]
  let last = 0
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, [...args, ...FLAGS], { stdio: 'ignore' })
    const gone = new Promise((resolve) => child.on('exit', resolve))
    // Killed once it has written more than the round before.
    const lines = () => {
      try {
        return readFileSync(`${out}.journal`, 'utf8').split('\n').length
      } catch {
        return 0
      }
    }
    while (child.exitCode === null && lines() < last + 8) await new Promise((resolve) => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await gone
    last = lines()
  }
  t.true(last > 8, 'something was done')
  const cut = await evaluate(out)
  t.deepEqual(timeless(cut.results), timeless(whole.results))
  const keys = readFileSync(`${out}.journal`, 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line).key)
  t.is(new Set(keys).size, keys.length, 'nothing was done twice')
  t.is(keys.length, readFileSync(path.join(folder, 'whole.json.journal'), 'utf8').trim().split('\n').length - 1)
})

test('a second run only does what is new', async (t) => {
  const out = path.join(folder, 'more.json')
  const first = await evaluate(out, '--limit', '2')
  const before = readFileSync(`${out}.journal`, 'utf8')
  const again = await evaluate(out, '--limit', '2')
  t.is(readFileSync(`${out}.journal`, 'utf8'), before)
  t.deepEqual(again.results, first.results)
  const more = await evaluate(out, '--limit', '2', '--policy', 'tova')
  t.true(readFileSync(`${out}.journal`, 'utf8').startsWith(before))
  t.deepEqual(timeless(more.results.filter(({ policy }) => policy !== 'tova')), timeless(first.results))
})

test('a budget below what a policy protects is a row, not the end', async (t) => {
  const out = path.join(folder, 'below.json')
  const { results } = await evaluate(
    out,
    '--limit',
    '2',
    '--policy',
    'snapKV',
    '--tokens-per-head',
    '20',
    '--mode',
    'aware',
  )
  const row = results.find(({ policy, keep }) => policy === 'snapKV' && keep === null) as ResultRow
  t.is(row.errors, row.total)
  t.is(row.items[0]?.error, 'BudgetBelowProtected')
})

test('wrong arguments end with code 2 and name what is wrong', async (t) => {
  const run = async (...args: string[]) => {
    const error = await t.throwsAsync(promisify(execFile)(process.execPath, [CLI, 'eval', ...args]))
    return error as unknown as { code: number; stderr: string }
  }
  for (const [args, pattern] of [
    [['--policy', 'nope', '--file', prompts], /nope/],
    [['--mode', 'both', '--file', prompts], /both/],
    [['--keep', '1.5', '--file', prompts], /1\.5/],
    [['--items', '0', '--task', 'vt'], /items/],
  ] as const) {
    const { code, stderr } = await run(...args)
    t.is(code, 2, stderr)
    t.regex(stderr, pattern)
  }
})
