import test from 'ava'
import { type PolicySpec, policies, policy } from '../ts/index.js'
import { tiny, tokens } from './support.mjs'

test('builders make plain data', (t) => {
  t.deepEqual(policy.full(), { kind: 'full' })
  t.deepEqual(policy.snapKV({ window: 16, budget: { keep: 0.2 } }), {
    kind: 'snapKV',
    window: 16,
    budget: { keep: 0.2 },
  })
  t.deepEqual(policy.adaSnapKV({ window: 16, floor: 0.1, budget: { bytes: 1e6 } }), {
    kind: 'adaKV',
    floor: 0.1,
    base: { kind: 'snapKV', window: 16, budget: { bytes: 1e6 } },
  })
  const byHand: PolicySpec = { kind: 'adaKV', base: { kind: 'knorm' }, budget: { keep: 0.5 } }
  t.deepEqual(policy.adaKnorm({ budget: { keep: 0.5 } }), {
    kind: 'adaKV',
    base: { kind: 'knorm', budget: { keep: 0.5 } },
  })
  t.deepEqual(JSON.parse(JSON.stringify(byHand)), byHand)
})

test('every policy with a budget meets it exactly on a model', async (t) => {
  await using model = await tiny()
  // Some need what cannot be had later.
  const budget = { keep: 0.25 }
  const others = policies.filter((name) => name !== 'full')
  await using base = await model.createSession({ observeFor: others.map((name) => policy[name]({ budget })) })
  await base.prefill(tokens(300), { compress: false })
  const heads = model.info.layers * model.info.kvHeads
  for (const name of others) {
    await using session = await base.fork()
    if (name === 'refreeKV') {
      // Its budget comes out of the text, below the cap; two layers stay whole.
      const { after } = await session.compress(policy.refreeKV({ budget: { keep: 0.9 }, loss: 0.2 }))
      t.true(after.slots < 270 * heads && after.slots > 600 * model.info.kvHeads, String(after.slots))
    } else if (['citrus', 'fastGen', 'instruction', 'adaInstruction'].includes(name)) {
      // They read text or its tokens, and this model has no tokenizer (smollm2.spec asks them).
      await t.throwsAsync(session.compress(policy[name]({ budget })), { code: 'Tokenizer' }, name)
      t.is((await session.stats()).memory.slots, 300 * heads)
    } else {
      const { after } = await session.compress(policy[name]({ budget }))
      const exact = name !== 'certified'
      t.true(after.slots === 75 * heads || (!exact && after.slots < 75 * heads), `${name}: ${after.slots}`)
    }
  }
})

test('types: wrong names and kinds do not compile', (t) => {
  // Each line would fail the type check if its error went away (npm run typecheck).
  // @ts-expect-error no such option
  policy.snapKV({ widnow: 3 })
  // @ts-expect-error a budget is one of four objects
  policy.snapKV({ budget: 0.2 })
  // @ts-expect-error no such policy
  t.throws(() => policy.magicKV())
  // @ts-expect-error full takes no budget
  policy.full({ budget: { keep: 0.2 } })
  // @ts-expect-error no such kind
  const wrong: PolicySpec = { kind: 'magicKV' }
  t.is(wrong.kind, 'magicKV' as never)
})
