import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { type ComparableRow, compare, comparisonTable, readResults } from '../../ts/eval/compare.js'
import { compareKept, type KeptLine, keptTable, readKept } from '../../ts/eval/kept.js'
import { HeadwiseError } from '../../ts/index.js'

const folder = mkdtempSync(path.join(tmpdir(), 'headwise-'))
const file = (name: string, text: string) => {
  writeFileSync(path.join(folder, name), text)
  return path.join(folder, name)
}
const row = (policy: string, right: string, texts = right): ComparableRow => ({
  policy,
  keep: 0.2,
  mode: 'aware',
  task: 't',
  items: [...right].map((bit, i) => ({ id: `i${i}`, correct: bit === '1', text: texts[i] as string })),
})

test('rows of the same setting are joined by their items, wherever these stand', (t) => {
  const second = row('a', '1010', 'xbcd')
  second.items.reverse()
  const rows = compare([row('a', '1100', 'abcd'), row('only here', '1')], [second, row('only there', '1')])
  t.is(rows.length, 1)
  const [joined] = rows
  t.like(joined, { policy: 'a', items: 4, correct: [2, 2], agreement: 0.5, sameText: 0.75 })
  t.is(joined?.difference.mean, 0)
  t.deepEqual(joined?.disagreements, [
    { id: 'i1', texts: ['b', 'b'] },
    { id: 'i2', texts: ['c', 'c'] },
  ])
  t.regex(comparisonTable(rows), /t aware a 0\.2 i1: "b" and "b"/)
  const [fewer] = compare([row('a', '111')], [row('a', '11')])
  t.is(fewer?.items, 2, 'items that one of them lacks do not count')
})

test('kept slots are compared head by head', (t) => {
  const line = (id: string, kept: number[][][]): KeptLine => ({
    policy: 'p',
    keep: 0.5,
    mode: 'aware',
    task: 't',
    id,
    kept,
  })
  const [joined] = compareKept(
    [line('same', [[[1, 2]], [[3]]]), line('other', [[[1, 2, 3]], [[4]]]), line('missing', [[[1]]])],
    [line('same', [[[1, 2]], [[3]]]), line('other', [[[1, 2]], [[5]]])],
  )
  // Of `other`, four slots at most, both keep two; one more in layer 0, one each in layer 1.
  t.like(joined, { prompts: 2, same: 1, agreement: (1 + 2 / 4) / 2 })
  t.deepEqual(joined?.differences, [{ task: 't', id: 'other', layers: [1, 2] }])
  t.regex(keptTable(joined ? [joined] : []), /75\.00 % of the slots in common, 1 of 2/)
})

test('files that are something else are refused by name', (t) => {
  const refused = (read: () => unknown, pattern: RegExp) => {
    const error = t.throws(read, { instanceOf: HeadwiseError, message: pattern })
    t.is(error?.code, 'InvalidArgument')
  }
  refused(() => readResults(file('a.json', '{')), /a\.json/)
  refused(() => readResults(file('b.json', 'null')), /b\.json: no "results"/)
  refused(() => readResults(file('c.json', '{"results":[{"policy":"p"}]}')), /c\.json: results\[0\]/)
  refused(() => readKept(file('d.jsonl', '{"policy":1}\n')), /d\.jsonl:1/)
  refused(() => readKept(file('e.jsonl', '\n[[["x"]]]\n')), /e\.jsonl:2/)
  const good = file('f.json', JSON.stringify({ results: [row('a', '1')] }))
  t.is(readResults(good).length, 1)
})
