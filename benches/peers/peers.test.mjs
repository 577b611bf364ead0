// node --test: needs neither the engines nor a model.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { start } from './engine.mjs'
import { readOptions } from './options.mjs'
import { medians, ratios } from './ratios.mjs'
import { table } from './report.mjs'

const SIZES = [128, 2048, 7900]
const SCRIPT = fileURLToPath(new URL('peers.mjs', import.meta.url))

/** Three rounds around a value. */
const around = (value) => [value * 2, value, value / 2]

test('the ratios are the fourteen of the default run, and above 1 where headwise is faster', () => {
  const figures = (slower) => {
    const entries = SIZES.flatMap((size) => [
      [`prefill_${size}`, around(1000 / slower)],
      [`decode_${size}`, around(10 * slower)],
    ])
    return Object.fromEntries([...entries, ['batch8', around(400 / slower)]])
  }
  const ours = { decode_7900_ada10: [12.5], decode_7900_ada20: [20], batch1: [100], batch8_ada10: [800] }
  const int8 = { decode_128: [9], decode_7900_ada10: [10], decode_7900_ada20: [12] }
  const middle = medians({ headwise: { ...figures(1), ...ours }, llama: figures(4), headwise_int8: int8 })
  assert.deepEqual(ratios(middle, SIZES), {
    prefill_128: 4,
    prefill_2048: 4,
    prefill_7900: 4,
    decode_128: 4,
    decode_2048: 4,
    decode_7900: 4,
    decode_7900_ada10_vs_peer_full: 3.2,
    decode_7900_ada10_vs_own_128: 0.8,
    decode_7900_ada20_vs_own_128: 0.5,
    decode_7900_ada10_int8_vs_own_128_int8: 0.9,
    decode_7900_ada20_int8_vs_own_128_int8: 0.75,
    batch8_vs_1: 4,
    batch8_vs_peer_batch8: 4,
    batch8_ada10_vs_peer_batch8: 8,
  })
})

test('what was not measured has no ratio', () => {
  const middle = medians({ headwise: { decode_128: [5], batch8: [400], batch1: [200] } })
  assert.deepEqual(ratios(middle, [128]), { batch8_vs_1: 2 })
})

test('selection is compared with torch and kvpress', () => {
  const middle = medians({
    headwise: { selection_128: [10] },
    torch: { selection_128: [30] },
    kvpress: { selection_128: [5] },
  })
  assert.deepEqual(ratios(middle, [128]), { selection_128_vs_torch: 3, selection_128_vs_kvpress: 0.5 })
})

test('the table has one line a figure and one a ratio', () => {
  const middle = medians({ headwise: { decode_128: [5], compress_512_ada10: [7] }, llama: { decode_128: [20] } })
  const text = table(middle, ratios(middle, [128]), readOptions([]))
  assert.match(text, /^decode_128 +ms\/tok +5\.0 +20\.0$/m)
  assert.match(text, /^compress_512_ada10 +ms +7\.0 *$/m)
  assert.match(text, /^decode_128 +4\.00$/m)
})

const wrong = [
  ['--foo', /^Unknown option '--foo' \(there are --model, .*\)$/],
  ['--engines nothing', /^--engines nothing: there is no such engine$/],
  ['--engines ../peers', /^--engines \.\.\/peers: there is no such engine$/],
  ['--only all', /^--only all: there is no such part \(single, batch, selection\)$/],
  ['--sizes 128,x', /^--sizes 128,x: expected whole numbers from 1$/],
  ['--repeats 0', /^--repeats 0: expected whole numbers from 1$/],
  ['--batch-tokens 64', /^--batch-tokens 64: expected whole numbers from 512$/],
  ['--only selection --engines llama', /^--only selection: torch is measured beside headwise/],
  ['--only selection --sizes 128', /^--only selection: the longest of --sizes must have 512 tokens$/],
  ['--record ../x', /^--record \.\.\/x: expected a name/],
]
for (const [args, message] of wrong) {
  test(`${args} is refused in one line`, () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, ...args.split(' ')], { encoding: 'utf8' })
    assert.equal(status, 1)
    assert.equal(stdout, '')
    assert.match(stderr.trimEnd(), message)
    assert.ok(!stderr.trimEnd().includes('\n'), stderr)
  })
}

test('an engine that cannot open its model is reported by name', async () => {
  await assert.rejects(start('missing', {}), { message: /^missing: Cannot find module/ })
})
