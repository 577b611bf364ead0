import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { makeDocument } from '../../ts/demo/documents.js'
import { evaluate } from '../../ts/eval/evaluate.js'
import type { Item } from '../../ts/eval/item.js'
import { namedPolicy, settings } from '../../ts/eval/plan.js'
import { encode } from '../../ts/eval/prompt.js'
import { type Model, policy } from '../../ts/index.js'
import { fails, realModel } from '../support.mjs'

let model: Model
test.before(async () => {
  model = await realModel()
})
test.after.always(() => model?.dispose())

const BUDGET = { keep: 0.4 }
const PLAN = settings([namedPolicy('full', 1), namedPolicy('lookahead', 1)], [BUDGET], ['aware', 'agnostic'])
const OPTIONS = { maxTokens: 8, chat: false, parallel: 4, samples: 0, seed: 1, name: 'm', codec: 'f16', command: '' }

const evaluated = (items: Item[], chat = false) => {
  const journal = path.join(mkdtempSync(path.join(tmpdir(), 'headwise-')), 'journal')
  return evaluate(model, items, PLAN, journal, { ...OPTIONS, chat })
}

const { text, questions } = makeDocument(5, 250, ['phrase', 'phrase'], (s) => s.split(' ').length)
const [first, second] = questions.map(({ prompt, answer }) => ({ question: prompt, answers: [answer] }))
const turns = [first, second] as { question: string; answers: string[] }[]

test('the loss of a continuation is that of a session behind the same cut, in the agnostic mode alone', async (t) => {
  const item: Item = { id: 'a', task: 'loss', context: text, turns: [], continuation: ' The ferry left late again.' }
  const { results } = await evaluated([item])
  t.deepEqual(
    results.map(({ policy, mode }) => [policy, mode]),
    [
      ['full', 'agnostic'],
      ['lookahead', 'agnostic'],
    ],
  )
  for (const row of results) {
    await using session = await model.createSession()
    await session.prefill(text)
    if (row.policy !== 'full') await session.compress(policy.lookahead({ budget: BUDGET }))
    const { logProbs } = await session.logLikelihood(item.continuation as string)
    const loss = -logProbs.reduce<number>((sum, value) => sum + (value as number), 0) / logProbs.length
    t.true(Math.abs(row.score - loss) < 1e-9, `${row.policy}: ${row.score}, by hand ${loss}`)
    t.is(row.interval, null)
  }
  t.true((results[1]?.versusFull?.mean as number) !== 0)
})

test('later questions stand behind the right answers to earlier ones', async (t) => {
  const { results } = await evaluated([{ id: 'a', task: 'turns', context: text, turns }])
  for (const row of results) {
    t.deepEqual(
      row.items.map(({ id }) => id),
      ['a#1', 'a#2'],
    )
    await using session = await model.createSession()
    const aware = row.mode === 'aware'
    await session.prefill(text + (aware ? turns[0]?.question : ''))
    if (row.policy !== 'full') await session.compress(policy.lookahead({ budget: BUDGET }))
    if (!aware) await session.prefill(turns[0]?.question as string)
    await session.prefill(` ${turns[0]?.answers[0]}`)
    await session.prefill(turns[1]?.question as string)
    t.is(row.items[1]?.text, await session.complete({ maxTokens: 8 }), `${row.policy}, ${row.mode}`)
  }
})

test('a chat’s prompt is the template’s, cut where the context ends, and texts cannot forge its tokens', (t) => {
  const item: Item = { id: 'a', task: 'chat', context: `${text} <|im_end|>`, turns }
  const { context, joint, questions, answers } = encode(model, item, true)
  const plain = model.renderChat([{ role: 'user', content: text + turns[0]?.question }])
  const honest = encode(model, { ...item, context: text }, true)
  t.deepEqual(honest.joint, model.tokenize(plain, { parseSpecial: true }))
  t.is(model.detokenize(honest.context).trimEnd().endsWith(text.trimEnd()), true)
  const end = model.tokenize('<|im_end|>', { parseSpecial: true })[0]
  const ends = (tokens: Uint32Array) => tokens.filter((token) => token === end).length
  t.is(ends(joint), ends(honest.joint), 'the text’s own <|im_end|> is plain text')
  t.is(ends(context), ends(honest.context))
  t.is(questions.length, 2)
  t.is(answers.length, 1)
  // All pieces in a row are the chat that the template renders.
  const messages = [
    { role: 'user', content: text + turns[0]?.question },
    { role: 'assistant', content: turns[0]?.answers[0] as string },
    { role: 'user', content: turns[1]?.question as string },
  ]
  const whole = [...honest.joint, ...(honest.answers[0] ?? []), ...(honest.questions[1] ?? [])]
  t.is(model.detokenize(whole), model.detokenize(model.tokenize(model.renderChat(messages), { parseSpecial: true })))
})

test('a prompt beyond the model’s context is a result', async (t) => {
  const long = 'word '.repeat(model.info.contextLength + 10)
  const items = [
    { id: 'long', task: 'mixed', context: long, turns: [turns[0] as (typeof turns)[number]] },
    { id: 'short', task: 'mixed', context: text, turns: [turns[0] as (typeof turns)[number]] },
  ]
  const { results } = await evaluated(items)
  for (const row of results) {
    t.is(row.errors, 1)
    t.is(row.items[0]?.error, 'ContextExceeded')
    t.is(row.items[1]?.error, undefined)
  }
})

test('an empty context or question is fine, both are not', async (t) => {
  const item = (id: string, context: string, question: string) => ({
    ...{ id, task: 'odd', context, turns: [{ question, answers: ['Paris'] }] },
  })
  const items = [item('a', '', 'The capital of France is'), item('b', 'The capital of France is', '')]
  const journal = path.join(mkdtempSync(path.join(tmpdir(), 'headwise-')), 'journal')
  const { results } = await evaluate(model, items, PLAN.slice(0, 1), journal, { ...OPTIONS, samples: 2 })
  t.is(results[0]?.correct, 2)
  await fails(t, 'InvalidArgument', () => evaluated([item('c', '', '')]))
})
