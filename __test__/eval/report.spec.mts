import { createRequire } from 'node:module'
import vm from 'node:vm'
import test from 'ava'
import type { KeptPrompt } from '../../ts/eval/kept.js'
import type { Results } from '../../ts/eval/results.js'

// The plotting library stands beside the compiled pages only.
const require = createRequire(import.meta.url)
const { reportPage }: { reportPage: (results: Results) => string } = require('../../dist/eval/report/page.js')
const {
  keptPage,
}: { keptPage: (model: string, prompts: KeptPrompt[]) => string } = require('../../dist/eval/report/kept-page.js')

const HOSTILE = '</script><!--<script>alert(1)</script> \u2028 & "'
const results: Results = {
  engine: 'headwise',
  model: HOSTILE,
  date: '2026-01-01',
  command: HOSTILE,
  machine: 'm',
  policies: { full: null },
  results: [
    {
      ...{
        policy: HOSTILE,
        keep: 0.2,
        budget: { keep: 0.2 },
        mode: 'aware',
        task: HOSTILE,
        correct: 1,
        total: 1,
        errors: 0,
      },
      ...{ score: 1, interval: [0.2, 1], versusFull: null, keptBytes: 1, physicalBytes: 2, prefillSeconds: 0 },
      ...{ compressSeconds: 0, decodeSeconds: 0, msPerToken: 1 },
      items: [{ id: HOSTILE, correct: true, score: 1, text: HOSTILE }],
    },
  ],
  kept: [{ policy: HOSTILE, budget: { keep: 0.2 }, mode: 'aware', task: HOSTILE, share: [[0.2, 0.1]] }],
}
const prompt: KeptPrompt = {
  item: { id: HOSTILE, task: 't', context: HOSTILE, turns: [] },
  mode: 'aware',
  tokens: [HOSTILE],
  lines: [{ policy: 'p', keep: 0.2, mode: 'aware', task: 't', id: HOSTILE, kept: [[[0]]] }],
}

for (const [name, page] of [
  ['report', () => reportPage(results)],
  ['kept', () => keptPage(HOSTILE, [prompt])],
] as const) {
  test(`${name}: texts stay data, and the page needs nothing else`, (t) => {
    const html = page()
    const scripts = [...html.matchAll(/<script([^>]*)>([\s\S]*?)<\/script>/g)]
    const [data, ...code] = scripts
    t.is(data?.[1], ' type="application/json" id="data"')
    const parsed = JSON.parse(data?.[2] ?? '')
    t.is(parsed.model, HOSTILE)
    t.true(code.length >= 1)
    for (const [, attributes, text] of code) {
      t.is(attributes, '')
      t.notThrows(() => new vm.Script(text as string))
    }
    t.is(html.split('<script').length - 1, scripts.length, 'no other element begins')
    const rest = html.replaceAll(/<script[\s\S]*?<\/script>/g, '')
    t.notRegex(rest, /src=|href=|url\(|@import/)
  })
}
