import test from 'ava'
import { namedPolicy, settings } from '../../ts/eval/plan.js'
import { sharedPrefix } from '../../ts/eval/prompt.js'
import { HeadwiseError, policy } from '../../ts/index.js'

test('a policy is named or written in JSON, with a name of its own in front', (t) => {
  const budget = { keep: 0.2 }
  t.deepEqual(namedPolicy('adaSnapKV', 1).at(budget), policy.adaSnapKV({ budget }))
  t.deepEqual(namedPolicy('random', 7).at(budget), policy.random({ budget, seed: 7 }))
  const short = namedPolicy('short={"kind":"snapKV","window":8}', 1)
  t.is(short.name, 'short')
  t.deepEqual(short.at(budget), policy.snapKV({ window: 8, budget }))
  t.is(namedPolicy('{"kind":"knorm"}', 1).name, '{"kind":"knorm"}')
  for (const bad of ['snapkv', '{"kind"', '{"kind":"snapKV","budget":{"keep":0.1}}']) {
    t.is(t.throws(() => namedPolicy(bad, 1), { instanceOf: HeadwiseError })?.code, 'InvalidPolicy', bad)
  }
})

test('every policy stands at every budget in every mode, the full cache once a mode', (t) => {
  const plan = settings(
    ['full', 'knorm'].map((name) => namedPolicy(name, 1)),
    [{ keep: 0.5 }, { bytes: 1000 }],
    ['aware', 'agnostic'],
  )
  t.deepEqual(
    plan.map(({ policy, budget, mode }) => [policy, budget, mode]),
    (['aware', 'agnostic'] as const).flatMap((mode) => [
      ['full', null, mode],
      ['knorm', { keep: 0.5 }, mode],
      ['knorm', { bytes: 1000 }, mode],
    ]),
  )
})

test('the shared prefix ends where the first text differs', (t) => {
  const of = (...texts: number[][]) => sharedPrefix(texts.map((text) => Uint32Array.from(text)))
  t.is(of([1, 2, 3], [1, 2, 4], [1, 2, 3, 5]), 2)
  t.is(of([1, 2], [1, 2, 3]), 2)
  t.is(of([1], [2]), 0)
  t.is(of([5, 6]), 2)
})
