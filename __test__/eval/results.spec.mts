import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import type { Results } from '../../ts/eval/results.js'

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const ITEMS = 2

interface Row {
  policy: string
  keep: number
  mode: string
  task: string
  bits: string
}

test('a slice of docs/results.md comes out as it stands there', async (t) => {
  t.timeout(20 * 60_000)
  const committed: { rows: Row[] } = JSON.parse(readFileSync('docs/results.json', 'utf8'))
  const out = path.join(mkdtempSync(path.join(tmpdir(), 'headwise-results-')), 'slice.json')
  const flags = [
    '--task',
    'digits,serial',
    '--length',
    '1024',
    '--items',
    String(ITEMS),
    '--keep',
    '0.2',
    '--samples',
    '0',
  ]
  const policies = [...new Set(committed.rows.map(({ policy }) => policy))].join(',')
  const model = ['--policy', policies, '--model', process.env.HEADWISE_MODEL as string, '--seed', '1', '--out', out]
  await promisify(execFile)(process.execPath, [CLI, 'eval', ...flags, ...model])
  const { results }: Results = JSON.parse(readFileSync(out, 'utf8'))
  const name = ({ policy, keep, mode, task }: Omit<Row, 'bits' | 'keep'> & { keep: number | null }) =>
    `${task} ${mode} ${policy} ${keep}`
  const bits = new Map(committed.rows.map((row) => [name(row), row.bits.slice(0, ITEMS)]))
  const pairs = results.map((row) => {
    const found = row.items.map(({ correct }) => Number(correct)).join('')
    return { name: name(row), found, expected: bits.get(name(row)) }
  })
  t.true(pairs.length > 0 && pairs.every(({ expected }) => expected !== undefined))
  // Another instruction set adds in another order, which may turn a close call. Rows without a right answer say nothing.
  const telling = pairs.filter(({ found, expected }) => `${found}${expected}`.includes('1'))
  const differing = telling.filter(({ found, expected }) => found !== expected)
  t.true(telling.length > 20 && differing.length <= 0.1 * telling.length, JSON.stringify(differing))
})
